//! NDJSON batches: one JSON object a line.
//!
//! A path names members joined by dots; arrays on the way count for nothing, so a path holds for each element. What is
//! compared with the project are the paths of single values: `subject.reference` listed does not list
//! `subject.display`. Only `drop` holds for everything below its path too. A value that becomes a token is told by its
//! text (`"12"` and `12` are the same), and comes out as a string. `null` counts as empty. Kept numbers stay digit for
//! digit; kept strings are written in JSON's shortest form.
//!
//! A row with the same member twice is bad: readers would not agree on which one counts.

use crate::compiled::Node;
use crate::project::{ActionName, FieldDocument, Unlisted};
use crate::refusal::{Report, TransformError};
use crate::transform::{ROW_MAX, Run};
use crate::values::{Cell, REQUIRED, Work, json_string};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::io::BufRead;

/// Deepest nesting; FHIR stays under 20.
const DEPTH_MAX: usize = 64;
const NOT_JSON: &str = "ZGL-ROW-JSON";
const UNLISTED: &str = "ZGL-TTP-UNLISTED";

/// Puts every row of an NDJSON batch through.
pub(crate) fn run(run: &mut Run<'_>, input: &mut dyn BufRead) -> Result<(), TransformError> {
    let (mut line, mut out) = (Vec::new(), Vec::new());
    let mut seen = vec![false; run.cells.len()];
    while let Some(is_whole) = next_line(input, &mut line)? {
        if is_whole && line.trim_ascii().is_empty() {
            continue;
        }
        run.report.rows_in += 1;
        out.clear();
        match std::str::from_utf8(&line) {
            _ if !is_whole => run.report.bad("", "ZGL-ROW-LENGTH"),
            Err(_) => run.report.bad("", "ZGL-ROW-UTF8"),
            Ok(text) => write_row(run, text, &mut seen, &mut out)?,
        }
        run.end_row(&out)?;
    }
    Ok(())
}

/// Reads one line; none at the end. False when the line is over [`ROW_MAX`]: the rest of it is skipped.
fn next_line(input: &mut dyn BufRead, line: &mut Vec<u8>) -> Result<Option<bool>, TransformError> {
    line.clear();
    let mut length = 0usize;
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok((length > 0).then_some(length <= ROW_MAX));
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        if length + part.len() <= ROW_MAX {
            line.extend_from_slice(part);
        }
        length += part.len();
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            return Ok(Some(length <= ROW_MAX));
        }
    }
}

fn write_row(run: &mut Run<'_>, text: &str, seen: &mut [bool], out: &mut Vec<u8>) -> Result<(), TransformError> {
    seen.fill(false);
    let project = run.project;
    let mut row = Row {
        fields: &project.fields,
        unlisted: project.unlisted,
        cells: &mut run.cells,
        report: &mut run.report,
        seen,
        token: Vec::new(),
    };
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) if raw.get().starts_with('{') => {
            let top = Place { node: Some(&project.tree), is_dropped: false, parent: "" };
            if !row.value(raw.get(), top, 0, out)? {
                out.extend_from_slice(b"{}");
            }
            out.push(b'\n');
            row.report_missing();
        }
        _ => row.report.bad("", NOT_JSON),
    }
    Ok(())
}

/// Where in the project's tree a value stands.
#[derive(Clone, Copy)]
struct Place<'p> {
    /// None: outside the tree.
    node: Option<&'p Node>,
    /// A path above, or this one, says `drop`.
    is_dropped: bool,
    /// The listed path above, for reports.
    parent: &'p str,
}

struct Row<'r> {
    fields: &'r [FieldDocument],
    unlisted: Unlisted,
    cells: &'r mut [Cell],
    report: &'r mut Report,
    seen: &'r mut [bool],
    token: Vec<u8>,
}

impl Row<'_> {
    /// Appends what becomes of a value; false when nothing does.
    fn value(&mut self, raw: &str, place: Place<'_>, depth: usize, out: &mut Vec<u8>) -> Result<bool, TransformError> {
        let Some(node) = place.node else {
            if !place.is_dropped && self.unlisted == Unlisted::Refuse {
                self.report_unlisted(place.parent);
            }
            return Ok(false);
        };
        let is_container = raw.starts_with(['{', '[']);
        if depth > DEPTH_MAX {
            self.report.bad("", NOT_JSON);
            Ok(false)
        } else if is_container && raw[1..raw.len() - 1].trim_ascii().is_empty() {
            if !place.is_dropped {
                out.extend_from_slice(if raw.starts_with('{') { b"{}" } else { b"[]" });
            }
            Ok(!place.is_dropped)
        } else if raw.starts_with('{') {
            self.object(raw, place, depth, out)
        } else if is_container {
            self.array(raw, place, depth, out)
        } else {
            self.single(raw, node, place, out)
        }
    }

    fn object(&mut self, raw: &str, place: Place<'_>, depth: usize, out: &mut Vec<u8>) -> Result<bool, TransformError> {
        let Ok(Members(mut members)) = serde_json::from_str::<Members<'_>>(raw) else {
            self.report.bad("", NOT_JSON);
            return Ok(false);
        };
        members.sort_by(|(a, _), (b, _)| a.cmp(b));
        if members.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            self.report.bad("", NOT_JSON);
            return Ok(false);
        }
        let start = out.len();
        out.push(b'{');
        for (name, member) in members {
            let mark = out.len();
            if mark > start + 1 {
                out.push(b',');
            }
            json_string(&name, out)?;
            out.push(b':');
            if !self.value(member.get(), self.below(place, &name), depth + 1, out)? {
                out.truncate(mark);
            }
        }
        Ok(close(start, b'}', out))
    }

    fn array(&mut self, raw: &str, place: Place<'_>, depth: usize, out: &mut Vec<u8>) -> Result<bool, TransformError> {
        let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(raw) else {
            self.report.bad("", NOT_JSON);
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
    fn single(&mut self, raw: &str, node: &Node, place: Place<'_>, out: &mut Vec<u8>) -> Result<bool, TransformError> {
        let Some(index) = node.field else {
            if !place.is_dropped && self.unlisted == Unlisted::Refuse {
                self.report.bad(&node.path, UNLISTED);
            }
            return Ok(false);
        };
        let is_string = raw.starts_with('"');
        let text: Cow<'_, str> = match raw {
            "null" => Cow::Borrowed(""),
            _ if is_string => match serde_json::from_str::<Text<'_>>(raw) {
                Ok(Text(text)) => text,
                Err(_) => {
                    self.report.bad(&node.path, NOT_JSON);
                    return Ok(false);
                }
            },
            _ => Cow::Borrowed(raw),
        };
        self.seen[index] = true;
        self.token.clear();
        if let Err(code) = self.cells[index].write(&text, &mut self.token) {
            self.report.bad(&node.path, code);
            return Ok(false);
        }
        match &self.cells[index].work {
            Work::Drop => return Ok(false),
            _ if raw == "null" => out.extend_from_slice(b"null"),
            Work::Keep if !is_string => out.extend_from_slice(raw.as_bytes()),
            _ => {
                let written = std::str::from_utf8(&self.token).map_err(std::io::Error::other)?;
                json_string(written, out)?;
            }
        }
        Ok(true)
    }

    fn below<'p>(&self, place: Place<'p>, name: &str) -> Place<'p> {
        let node = place.node.and_then(|node| node.children.get(name));
        let field = node.and_then(|node| node.field).map(|index| self.fields[index].action);
        let is_dropped = match field {
            Some(action) => action == ActionName::Drop,
            None => place.is_dropped,
        };
        Place { node, is_dropped, parent: place.node.map_or(place.parent, |node| &node.path) }
    }

    /// The name of an unlisted member is the sender's, so only its place is told.
    fn report_unlisted(&mut self, parent: &str) {
        let place = if parent.is_empty() { "?".to_owned() } else { format!("{parent}.?") };
        self.report.bad(&place, UNLISTED);
    }

    fn report_missing(&mut self) {
        for (field, seen) in self.fields.iter().zip(self.seen.iter()) {
            if field.required && !seen {
                self.report.bad(&field.path, REQUIRED);
            }
        }
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
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

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
