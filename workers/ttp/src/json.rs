//! What becomes of a JSON object.
//!
//! A path names members joined by dots; arrays on the way count for nothing, so a path holds for each element. What is
//! compared with the project are the paths of single values: `subject.reference` listed does not list
//! `subject.display`. Only `drop` holds for everything below its path too. A value that becomes a token is told by its
//! text (`"12"` and `12` are the same), and comes out as a string. `null` counts as empty. Kept numbers stay digit for
//! digit; kept strings are written in JSON's shortest form. Members come out sorted, without white space.
//! In FHIR a path begins with the type of the resource, wherever in the document the resource stands.
//!
//! A row with the same member twice is bad: readers would not agree on which one counts. On the way back, what the project
//! does not list passes as it is.

use crate::fhir_types::is_type as is_type_name;
use crate::paths::{ROOT, StateId};
use crate::refusal::TransformError;
use crate::run::{OnUnlisted, Run};
use crate::values::{Work, json_string};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Deepest nesting; FHIR stays under 20.
const DEPTH_MAX: usize = 64;
const NOT_JSON: &str = "ZGL-ROW-JSON";
const NOT_FHIR: &str = "ZGL-ROW-FHIR";
const UNLISTED: &str = "ZGL-TTP-UNLISTED";
const TYPE: &str = "resourceType";

/// Where in the project's patterns a value stands.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// None: outside of all patterns.
    at: Option<StateId>,
    /// The field, of a path above or this one, that says `drop`.
    drop: Option<usize>,
    /// The listed path above, for reports.
    parent: StateId,
}

impl Place {
    pub(crate) const TOP: Place = Place { at: Some(ROOT), drop: None, parent: ROOT };
}

/// Walks through the objects of one row.
pub(crate) struct Json<'j, 'r> {
    pub(crate) run: &'j mut Run<'r>,
    pub(crate) is_fhir: bool,
}

impl<'r> Json<'_, 'r> {
    /// Appends what becomes of a row's object; false when nothing does.
    pub(crate) fn row(&mut self, text: &str, out: &mut Vec<u8>) -> Result<bool, TransformError> {
        let Some(raw) = serde_json::from_str::<&RawValue>(text).ok().filter(|raw| raw.get().starts_with('{')) else {
            self.run.report.bad("", NOT_JSON);
            return Ok(false);
        };
        if self.run.wants_notes() {
            self.note(raw.get(), Place::TOP, 0);
        }
        let any = self.value(raw.get(), Place::TOP, 0, out)?;
        // A row of FHIR is a resource of one type, and a path names another.
        if !self.is_fhir {
            self.run.report_missing();
        }
        Ok(any)
    }

    /// Appends what becomes of a value; false when nothing does.
    pub(crate) fn value(
        &mut self,
        raw: &str,
        place: Place,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool, TransformError> {
        let Some(at) = place.at else { return self.outside(raw, place, out) };
        let is_container = raw.starts_with(['{', '[']);
        if depth > DEPTH_MAX {
            self.run.report.bad("", NOT_JSON);
            Ok(false)
        } else if is_container && raw[1..raw.len() - 1].trim_ascii().is_empty() {
            if place.drop.is_none() {
                out.extend_from_slice(if raw.starts_with('{') { b"{}" } else { b"[]" });
            }
            Ok(place.drop.is_none())
        } else if raw.starts_with('{') {
            self.object(raw, at, place, depth, out)
        } else if is_container {
            self.array(raw, place, depth, out)
        } else {
            self.single(raw, at, place, out)
        }
    }

    /// A value that no pattern reaches.
    fn outside(&mut self, raw: &str, place: Place, out: &mut Vec<u8>) -> Result<bool, TransformError> {
        match self.run.unlisted(place.drop) {
            OnUnlisted::Pass => {
                out.extend_from_slice(raw.as_bytes());
                return Ok(true);
            }
            OnUnlisted::Refuse => self.report_unlisted(place.parent),
            OnUnlisted::Drop => {}
        }
        Ok(false)
    }

    fn object(
        &mut self,
        raw: &str,
        at: StateId,
        place: Place,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool, TransformError> {
        let Ok(Members(mut members)) = serde_json::from_str::<Members<'_>>(raw) else {
            self.run.report.bad("", NOT_JSON);
            return Ok(false);
        };
        members.sort_by(|(a, _), (b, _)| a.cmp(b));
        if members.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            self.run.report.bad("", NOT_JSON);
            return Ok(false);
        }
        let Some(place) = self.enter(&members, at, place, depth) else { return self.outside(raw, place, out) };
        let start = out.len();
        out.push(b'{');
        for (name, member) in &members {
            let mark = out.len();
            if mark > start + 1 {
                out.push(b',');
            }
            let below = self.below(place, name);
            json_string(self.written_name(below, name), out)?;
            out.push(b':');
            let is_type = self.is_fhir && name == TYPE && place.drop.is_none();
            if is_type && is_type_name(member.get()) {
                out.extend_from_slice(member.get().as_bytes());
            } else if is_type {
                self.run.report.bad("", NOT_FHIR);
                out.truncate(mark);
            } else if !self.value(member.get(), below, depth + 1, out)? {
                out.truncate(mark);
            }
        }
        // A type alone says nothing.
        if self.is_fhir && depth > 0 && members.len() > 1 && is_type_alone(&out[start..]) {
            out.truncate(start);
            return Ok(false);
        }
        Ok(close(start, b'}', out))
    }

    /// The place of an object once its members are known: a resource begins anew, conditions are decided.
    fn enter(
        &mut self,
        members: &[(Cow<'_, str>, &RawValue)],
        at: StateId,
        place: Place,
        depth: usize,
    ) -> Option<Place> {
        let find = |key: &str| {
            let found = members.binary_search_by(|(name, _)| name.as_ref().cmp(key)).ok()?;
            plain_text(members[found].1.get())
        };
        let mut from = at;
        if self.is_fhir && place.drop.is_none() {
            match find(TYPE) {
                Some(kind) => from = self.run.matcher.step(ROOT, kind)?,
                None if depth == 0 => self.run.report.bad("", NOT_FHIR),
                None => {}
            }
        }
        let at = self.run.matcher.resolve(from, find)?;
        Some(Place { at: Some(at), drop: self.run.matcher.dropped_by(at, place.drop), ..place })
    }

    fn array(&mut self, raw: &str, place: Place, depth: usize, out: &mut Vec<u8>) -> Result<bool, TransformError> {
        let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(raw) else {
            self.run.report.bad("", NOT_JSON);
            return Ok(false);
        };
        let start = out.len();
        out.push(b'[');
        for element in elements {
            let mark = out.len();
            if mark > start + 1 {
                out.push(b',');
            }
            if !self.value(element.get(), place, depth + 1, out)? {
                out.truncate(mark);
            }
        }
        Ok(close(start, b']', out))
    }

    /// A string, number, boolean or null.
    fn single(&mut self, raw: &str, at: StateId, place: Place, out: &mut Vec<u8>) -> Result<bool, TransformError> {
        let field = self.run.matcher.field(at).filter(|_| self.run.is_delivered(place.drop));
        let Some(field) = field else {
            match self.run.unlisted(place.drop) {
                OnUnlisted::Pass => {
                    out.extend_from_slice(raw.as_bytes());
                    return Ok(true);
                }
                OnUnlisted::Refuse => {
                    let path = self.run.matcher.text(at);
                    self.run.report.bad(&path, UNLISTED);
                }
                OnUnlisted::Drop => {}
            }
            return Ok(false);
        };
        let Some(text) = text_of(raw) else {
            self.run.report.bad(&self.run.project.field(field).path, NOT_JSON);
            return Ok(false);
        };
        let mut written = std::mem::take(&mut self.run.scratch);
        written.clear();
        let is_good = self.run.put_or_report(field, &text, &mut written);
        if is_good {
            // What is as it was stays of its type: a number, not the text of one.
            let is_same = raw == "null" || matches!(self.run.work(field), Work::Keep) || written == text.as_bytes();
            if is_same && !raw.starts_with('"') {
                out.extend_from_slice(raw.as_bytes());
            } else {
                json_string(std::str::from_utf8(&written).map_err(std::io::Error::other)?, out)?;
            }
        }
        self.run.scratch = written;
        Ok(is_good)
    }

    pub(crate) fn below(&mut self, place: Place, name: &str) -> Place {
        let at = place.at.and_then(|at| self.run.matcher.step(at, name));
        Place {
            at,
            drop: at.map_or(place.drop, |at| self.run.matcher.dropped_by(at, place.drop)),
            parent: place.at.unwrap_or(place.parent),
        }
    }

    /// The name of a member in what is written: a field may have another one there.
    fn written_name<'n>(&self, below: Place, name: &'n str) -> &'n str
    where
        'r: 'n,
    {
        let Some(field) = below.at.and_then(|at| self.run.matcher.field(at)) else { return name };
        let project = self.run.project;
        let field = project.field(field);
        if field.name.is_none() {
            return name;
        }
        let path = if self.run.is_back() { &field.path } else { field.output_name() };
        path.rsplit('.').next().unwrap_or(name)
    }

    /// The name of an unlisted member is the sender's, so only its place is told.
    fn report_unlisted(&mut self, parent: StateId) {
        let parent = self.run.matcher.text(parent);
        let place = if parent.is_empty() { "?".to_owned() } else { format!("{parent}.?") };
        self.run.report.bad(&place, UNLISTED);
    }

    /// Looks for what the row says of its patient; what is wrong is told when it is written.
    pub(crate) fn note(&mut self, raw: &str, place: Place, depth: usize) {
        let Some(at) = place.at.filter(|_| depth <= DEPTH_MAX) else { return };
        if raw.starts_with('{') {
            let Ok(Members(mut members)) = serde_json::from_str::<Members<'_>>(raw) else { return };
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            let Some(place) = self.enter(&members, at, place, 1) else { return };
            for (name, member) in &members {
                let below = self.below(place, name);
                self.note(member.get(), below, depth + 1);
            }
        } else if raw.starts_with('[') {
            let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(raw) else { return };
            elements.iter().for_each(|element| self.note(element.get(), place, depth + 1));
        } else if let (Some(field), Some(text)) = (self.run.matcher.field(at), text_of(raw)) {
            self.run.note(field, &text);
        }
    }
}

/// `{"resourceType":"Patient"` and nothing more.
fn is_type_alone(written: &[u8]) -> bool {
    written.starts_with(b"{\"resourceType\":") && !written.contains(&b',')
}

/// A string without escapes, for conditions and types.
fn plain_text(raw: &str) -> Option<&str> {
    raw.strip_prefix('"')?.strip_suffix('"').filter(|text| !text.contains('\\'))
}

/// The text of a single value; `null` is empty.
fn text_of(raw: &str) -> Option<Cow<'_, str>> {
    match raw {
        "null" => Some(Cow::Borrowed("")),
        _ if raw.starts_with('"') => serde_json::from_str::<Text<'_>>(raw).ok().map(|Text(text)| text),
        _ => Some(Cow::Borrowed(raw)),
    }
}

/// Closes what was opened at `start`, or takes it back when nothing is in it.
fn close(start: usize, bracket: u8, out: &mut Vec<u8>) -> bool {
    if out.len() == start + 1 {
        out.truncate(start);
        return false;
    }
    out.push(bracket);
    true
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The members of an object as they stand, repeated ones included.
pub(crate) struct Members<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    members.push((name, value));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Collect).map(Members)
    }
}
