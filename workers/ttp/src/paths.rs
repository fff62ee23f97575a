//! Patterns of paths in tree-shaped batches, matched one step at a time.
//!
//! A pattern is names joined by dots. `*` stands for one name, `**` for any number of names, none included. A name or `*`
//! may carry a condition, `identifier[system=urn:x]`: in JSON the object must have that single-valued member, in XML the
//! element that attribute, in HL7 v2 the segment's field that component. Where several patterns match, the one that is
//! listed first counts, also against a `drop` above it.
//!
//! The patterns of a project are one automaton whose states are found while batches are read and remembered
//! ([`Matcher`]); a step costs one look-up. Bound (I7): a matcher that has met [`STEPS_MAX`] different steps forgets them
//! and goes on, because names come from the batch.

use crate::fields::ActionName;
use std::collections::HashMap;

/// Steps that are remembered: FHIR and KMEHR have a few thousand, a batch of random names has no end.
const STEPS_MAX: usize = 1 << 16;

/// One name of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    name: Name,
    condition: Option<(String, String)>,
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Is(String),
    Any,
    AnyDepth,
}

/// The patterns of a project, in the fields' order.
#[derive(Debug, Default)]
pub(crate) struct Patterns {
    all: Vec<Pattern>,
    is_literal: bool,
}

#[derive(Debug)]
struct Pattern {
    segments: Vec<Segment>,
    is_drop: bool,
}

/// Splits a pattern at the dots that stand outside of conditions; none when it is not well formed.
pub(crate) fn split(pattern: &str) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut is_inside) = (Vec::new(), 0, false);
    for (place, byte) in pattern.bytes().enumerate() {
        match byte {
            b'[' if is_inside => return None,
            b'[' => is_inside = true,
            b']' => is_inside = false,
            b'.' if !is_inside => {
                parts.push(&pattern[start..place]);
                start = place + 1;
            }
            _ => {}
        }
    }
    parts.push(&pattern[start..]);
    (!is_inside && parts.iter().all(|part| segment(part).is_some())).then_some(parts)
}

fn segment(text: &str) -> Option<Segment> {
    let (name, condition) = match text.split_once('[') {
        None => (text, None),
        Some((name, rest)) => {
            let (key, value) = rest.strip_suffix(']')?.split_once('=')?;
            (name, Some((key.to_owned(), value.to_owned())))
        }
    };
    let name = match name {
        "" => return None,
        "*" => Name::Any,
        "**" if condition.is_some() => return None,
        "**" => Name::AnyDepth,
        name => Name::Is(name.to_owned()),
    };
    Some(Segment { name, condition, text: text.to_owned() })
}

impl Patterns {
    /// `is_literal`: every dot parts two plain names (documents without a format, whose columns may be called anything).
    pub(crate) fn new<'f>(fields: impl Iterator<Item = (&'f str, ActionName)>, is_literal: bool) -> Patterns {
        let plain = |part: &str| Segment { name: Name::Is(part.to_owned()), condition: None, text: part.to_owned() };
        let pattern = |(path, action): (&str, ActionName)| Pattern {
            segments: match split(path).filter(|_| !is_literal) {
                Some(parts) => parts.into_iter().filter_map(segment).collect(),
                None => path.split('.').map(plain).collect(),
            },
            is_drop: action == ActionName::Drop,
        };
        Patterns { all: fields.map(pattern).collect(), is_literal }
    }
}

/// A place in the automaton. The first is the root.
pub(crate) type StateId = u32;
/// Where matching begins.
pub(crate) const ROOT: StateId = 0;

/// One pattern that is still alive: how many of its segments were taken, and whether the last one's condition is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Item {
    pattern: u32,
    taken: u16,
    is_open: bool,
}

#[derive(Debug)]
struct State {
    items: Box<[Item]>,
    /// The field that is listed with exactly this path.
    field: Option<usize>,
    has_conditions: bool,
    /// Where names lead that were met here.
    steps: HashMap<Box<str>, Option<StateId>>,
}

/// The automaton at work on one batch.
#[derive(Debug)]
pub(crate) struct Matcher<'p> {
    patterns: &'p Patterns,
    states: Vec<State>,
    index: HashMap<Box<[Item]>, StateId>,
    remembered: usize,
}

impl<'p> Matcher<'p> {
    pub(crate) fn new(patterns: &'p Patterns) -> Matcher<'p> {
        let mut matcher = Matcher { patterns, states: Vec::new(), index: HashMap::new(), remembered: 0 };
        let mut items = Vec::new();
        for pattern in 0..patterns.all.len() {
            matcher.close(u32::try_from(pattern).unwrap_or(u32::MAX), 0, false, &mut items);
        }
        matcher.intern(items);
        matcher
    }

    /// The place behind `name`; none when no pattern goes on there.
    pub(crate) fn step(&mut self, from: StateId, name: &str) -> Option<StateId> {
        if let Some(found) = self.states[from as usize].steps.get(name) {
            return *found;
        }
        let mut items = Vec::new();
        for item in self.states[from as usize].items.iter().filter(|item| !item.is_open) {
            let Some(segment) = self.patterns.all[item.pattern as usize].segments.get(usize::from(item.taken)) else {
                continue;
            };
            match &segment.name {
                Name::AnyDepth => self.close(item.pattern, item.taken, false, &mut items),
                Name::Is(expected) if expected != name => {}
                Name::Is(_) | Name::Any => {
                    self.close(item.pattern, item.taken + 1, segment.condition.is_some(), &mut items);
                }
            }
        }
        let to = (!items.is_empty()).then(|| self.intern(items));
        if self.remembered >= STEPS_MAX {
            self.states.iter_mut().for_each(|state| state.steps.clear());
            self.remembered = 0;
        }
        self.states[from as usize].steps.insert(Box::from(name), to);
        self.remembered += 1;
        to
    }

    /// The place once the conditions of what stands there are known; `value` gives what a key is.
    pub(crate) fn resolve<'v>(&mut self, at: StateId, value: impl Fn(&str) -> Option<&'v str>) -> Option<StateId> {
        if !self.states[at as usize].has_conditions {
            return Some(at);
        }
        let mut items = Vec::new();
        for item in &self.states[at as usize].items {
            if !item.is_open {
                items.push(*item);
                continue;
            }
            let segment = &self.patterns.all[item.pattern as usize].segments[usize::from(item.taken) - 1];
            if segment.condition.as_ref().is_some_and(|(key, expected)| value(key) == Some(expected)) {
                self.close(item.pattern, item.taken, false, &mut items);
            }
        }
        (!items.is_empty()).then(|| self.intern(items))
    }

    /// The field that is listed with this path.
    pub(crate) fn field(&self, at: StateId) -> Option<usize> {
        self.states[at as usize].field
    }

    /// Which field drops what stands here, given which one drops what is above. In a dropped part only a field that is
    /// listed before the one that drops counts; where paths are plain, every field that names the path itself does.
    pub(crate) fn dropped_by(&self, at: StateId, above: Option<usize>) -> Option<usize> {
        let Some(field) = self.field(at) else { return above };
        match above {
            Some(drop) if !self.patterns.is_literal && drop < field => above,
            _ => self.patterns.all[field].is_drop.then_some(field),
        }
    }

    /// The path here in the project's own words, for reports: names of the batch may be a patient's.
    pub(crate) fn text(&self, at: StateId) -> String {
        let Some(item) = self.states[at as usize].items.first() else { return String::new() };
        let segments = &self.patterns.all[item.pattern as usize].segments[..usize::from(item.taken)];
        segments.iter().map(|segment| segment.text.as_str()).collect::<Vec<_>>().join(".")
    }

    /// Adds an item, and the ones that are reached without a name: `**` stands for no name too.
    fn close(&self, pattern: u32, taken: u16, is_open: bool, items: &mut Vec<Item>) {
        let item = Item { pattern, taken, is_open };
        if items.contains(&item) {
            return;
        }
        items.push(item);
        let segment = self.patterns.all[pattern as usize].segments.get(usize::from(taken));
        if !is_open && segment.is_some_and(|segment| segment.name == Name::AnyDepth) {
            self.close(pattern, taken + 1, false, items);
        }
    }

    fn intern(&mut self, mut items: Vec<Item>) -> StateId {
        items.sort_unstable();
        items.dedup();
        let items = items.into_boxed_slice();
        if let Some(state) = self.index.get(&items) {
            return *state;
        }
        let is_end = |item: &&Item| {
            !item.is_open && usize::from(item.taken) == self.patterns.all[item.pattern as usize].segments.len()
        };
        let field = items.iter().find(is_end).map(|item| item.pattern as usize);
        let has_conditions = items.iter().any(|item| item.is_open);
        let id = StateId::try_from(self.states.len()).unwrap_or(ROOT);
        self.states.push(State { items: items.clone(), field, has_conditions, steps: HashMap::new() });
        self.index.insert(items, id);
        id
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn patterns(paths: &[&str]) -> Patterns {
        let pattern = |path: &&str| Pattern {
            segments: split(path).unwrap().into_iter().filter_map(segment).collect(),
            is_drop: false,
        };
        Patterns { all: paths.iter().map(pattern).collect(), is_literal: false }
    }

    /// The number of the pattern that a path of `name` or `name{key=value}` steps ends at.
    fn found(paths: &[&str], path: &str) -> Option<usize> {
        let patterns = patterns(paths);
        let mut matcher = Matcher::new(&patterns);
        let mut at = ROOT;
        for part in path.split('/') {
            let (name, known) = part.split_once('{').unwrap_or((part, ""));
            let known = known.trim_end_matches('}').split_once('=');
            at = matcher.step(at, name)?;
            at = matcher.resolve(at, |key| known.filter(|(k, _)| *k == key).map(|(_, value)| value))?;
        }
        matcher.field(at)
    }

    #[test]
    fn patterns_match_as_they_are_described() {
        for (pattern, path, matches) in [
            ("a.b", "a/b", true),
            ("a.b", "a", false),
            ("a.b", "a/b/c", false),
            ("a.*", "a/x", true),
            ("a.*", "a/x/y", false),
            ("**.b", "b", true),
            ("**.b", "a/a/b", true),
            ("**.b", "a/b/a", false),
            ("a.**", "a", true),
            ("a.**", "a/b/c", true),
            ("a.**.b", "a/b", true),
            ("a.**.b", "a/b/b", true),
            ("a[s=1].b", "a{s=1}/b", true),
            ("a[s=1].b", "a{s=2}/b", false),
            ("a[s=1].b", "a/b", false),
            ("a[s=1]", "a{s=1}", true),
            ("*[u=urn:x.y].b", "q{u=urn:x.y}/b", true),
        ] {
            assert_eq!(found(&[pattern], path).is_some(), matches, "{pattern} on {path}");
        }
    }

    #[test]
    fn the_first_that_is_listed_counts() {
        assert_eq!(found(&["a.id[S=X]", "**.id", "**"], "a/id{S=X}"), Some(0));
        assert_eq!(found(&["a.id[S=X]", "**.id", "**"], "a/id{S=Y}"), Some(1));
        assert_eq!(found(&["a.id[S=X]", "**.id", "**"], "a/b"), Some(2));
        assert_eq!(found(&["**", "a.id[S=X]"], "a/id{S=X}"), Some(0));
    }

    #[test]
    fn a_drop_holds_below_it_for_all_that_is_listed_after_it() {
        let dropped = |is_literal| {
            let mut patterns = patterns(&["a.b.c", "a.b", "a.b.d"]);
            patterns.all[1].is_drop = true;
            patterns.is_literal = is_literal;
            let mut matcher = Matcher::new(&patterns);
            let b = ["a", "b"].iter().fold(ROOT, |at, name| matcher.step(at, name).unwrap());
            let above = matcher.dropped_by(b, None);
            ["c", "d"].map(|name| matcher.step(b, name).and_then(|at| matcher.dropped_by(at, above)))
        };
        assert_eq!(dropped(false), [None, Some(1)]);
        assert_eq!(dropped(true), [None, None]);
    }

    #[test]
    fn names_without_end_do_not_fill_the_memory() {
        let patterns = patterns(&["**.x", "a.b"]);
        let mut matcher = Matcher::new(&patterns);
        for name in 0..STEPS_MAX + 10 {
            matcher.step(ROOT, &name.to_string());
        }
        assert!(matcher.remembered <= STEPS_MAX && matcher.states.len() < 5);
        assert!(matcher.states[0].steps.len() <= STEPS_MAX);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["", "a..b", "a.[x=1]", "a[x", "a[x].b", "**[a=b]", "a[[x=1]]"] {
            assert!(split(bad).is_none(), "{bad}");
        }
        assert_eq!(split("a[s=http://x.y].b"), Some(vec!["a[s=http://x.y]", "b"]));
    }
}
