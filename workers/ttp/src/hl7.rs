//! HL7 v2 messages in ER7, the form with pipes and hats. A row is a message: from its MSH to the next.
//!
//! A path is `PID.5.1`: segment, field, component, and where there is one subcomponent. A field listed without a component
//! is the whole field for `keep` and `drop`; for every other action it must have one component. `PID.3[5=NN].1` is the
//! first component of those repetitions whose fifth is `NN`; `OBX[3=4548-4].5` looks at the first component of a field.
//!
//! What comes in: segments that end with `\r`, `\n` or both, MLLP's frame bytes, any separators. What goes out: `\r`, the
//! separators `|^~\&`, UTF-8, and text in hexadecimal (`\X…\`) as text. FHS, BHS, BTS and FTS segments say who sent the file and are left out; MSH-3 and MSH-4 say
//! who sent the message and cannot be kept.
//!
//! Bound: a message over 1 MiB is a bad row. Failure: what does not begin with MSH, FHS or BHS is refused.

use crate::paths::{ROOT, StateId};
use crate::project::ActionName;
use crate::refusal::{TransformError, refusal};
use crate::row_number::{Carrier, SEGMENT};
use crate::run::{OnUnlisted, Run};
use crate::transform::ROW_MAX;
use std::io::{self, BufRead};

const BAD: &str = "ZGL-ROW-HL7";
const UNLISTED: &str = "ZGL-TTP-UNLISTED";
/// Segments around a file or batch of messages.
const WRAPPERS: [&str; 4] = ["FHS", "BHS", "BTS", "FTS"];
/// MSH-18 of what goes out.
const CHARSET: &str = "UNICODE UTF-8";
/// Stands for the escape character of a sequence that is no separator, such as `\.br\`: a code that no text may have.
const FORMATTING: char = '\u{FDD0}';

/// Puts every message through.
pub(crate) fn run(run: &mut Run<'_>, input: &mut dyn BufRead) -> Result<(), TransformError> {
    run.carrier = Carrier::Segment;
    let (mut message, mut segment) = (Message::default(), Vec::new());
    let mut is_first = true;
    while next_segment(input, &mut segment)? {
        let head = segment.get(..3).unwrap_or_default();
        if std::mem::take(&mut is_first) && head != b"MSH" && head != b"FHS" && head != b"BHS" {
            return Err(refusal("ZGL-TTP-FORMAT", "the batch is not HL7 v2 in ER7: it does not begin with MSH").into());
        }
        if head == b"MSH" {
            message.end(run)?;
            message.is_begun = true;
        }
        if !WRAPPERS.iter().any(|wrapper| wrapper.as_bytes() == head) {
            message.take(&segment);
        }
    }
    message.end(run)
}

/// Reads up to the end of a segment; false at the end of the batch. A segment that is too long is read on, not kept.
fn next_segment(input: &mut dyn BufRead, segment: &mut Vec<u8>) -> io::Result<bool> {
    segment.clear();
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(!segment.is_empty());
        }
        let end = buffer.iter().position(|byte| matches!(byte, b'\r' | b'\n' | 0x1C));
        let part = &buffer[..end.unwrap_or(buffer.len())];
        if segment.len() <= ROW_MAX {
            let part = if segment.is_empty() { part.strip_prefix(b"\x0B").unwrap_or(part) } else { part };
            segment.extend_from_slice(part);
        }
        let used = part.len() + usize::from(end.is_some());
        let count = end.map_or(buffer.len(), |_| used);
        input.consume(count);
        if end.is_some() && !segment.is_empty() {
            return Ok(true);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Separators {
    field: char,
    component: char,
    repetition: char,
    escape: char,
    sub: char,
}

impl Separators {
    fn of(msh: &str) -> Option<Separators> {
        let mut letters = msh.strip_prefix("MSH")?.chars();
        let field = letters.next()?;
        let mut codes = letters.take_while(|letter| *letter != field);
        let found = Separators {
            field,
            component: codes.next()?,
            repetition: codes.next().unwrap_or('~'),
            escape: codes.next().unwrap_or('\\'),
            sub: codes.next().unwrap_or('&'),
        };
        let all = [found.field, found.component, found.repetition, found.escape, found.sub];
        let is_sign = |letter: &char| letter.is_ascii_punctuation();
        let is_distinct = (1..all.len()).all(|at| !all[..at].contains(&all[at]));
        (all.iter().all(is_sign) && is_distinct).then_some(found)
    }

    /// The text that a value's escapes stand for; sequences that are no separator stay.
    fn decode(&self, value: &str) -> String {
        let mut text = String::with_capacity(value.len());
        let mut rest = value;
        while let Some((before, after)) = rest.split_once(self.escape) {
            text.push_str(before);
            let Some((code, behind)) = after.split_once(self.escape) else {
                text.push(self.escape);
                rest = after;
                continue;
            };
            match code {
                "F" => text.push(self.field),
                "S" => text.push(self.component),
                "T" => text.push(self.sub),
                "R" => text.push(self.repetition),
                "E" => text.push(self.escape),
                code => match hexadecimal(code) {
                    Some(written) => text.push_str(&written),
                    None => text.extend([FORMATTING].into_iter().chain(code.chars()).chain([FORMATTING])),
                },
            }
            rest = behind;
        }
        text.push_str(rest);
        text
    }
}

/// What `X…` between escapes stands for: a number or a name in hexadecimal is one too. UTF-8, else ISO 8859-1; control codes alone stay a
/// sequence of formatting, and so does what is no hexadecimal.
fn hexadecimal(code: &str) -> Option<String> {
    let digits = code.strip_prefix('X').filter(|digits| digits.is_ascii() && digits.len() % 2 == 0)?;
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
    let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect::<Option<_>>()?;
    if bytes.iter().all(u8::is_ascii_control) {
        return None;
    }
    let latin = |error: std::string::FromUtf8Error| error.as_bytes().iter().copied().map(char::from).collect();
    Some(String::from_utf8(bytes).unwrap_or_else(latin).replace(FORMATTING, ""))
}

/// Writes text with the canonical separators escaped; sequences of formatting pass.
fn encode(text: &str, out: &mut String) {
    for letter in text.chars() {
        match letter {
            '|' => out.push_str("\\F\\"),
            '^' => out.push_str("\\S\\"),
            '&' => out.push_str("\\T\\"),
            '~' => out.push_str("\\R\\"),
            '\\' => out.push_str("\\E\\"),
            '\r' | '\n' => out.push_str("\\.br\\"),
            FORMATTING => out.push('\\'),
            letter => out.push(letter),
        }
    }
}

/// A message while its segments come.
#[derive(Default)]
struct Message {
    is_begun: bool,
    is_long: bool,
    is_utf8: bool,
    segments: Vec<String>,
    size: usize,
}

impl Message {
    fn take(&mut self, segment: &[u8]) {
        self.size += segment.len();
        if self.size > ROW_MAX {
            self.is_long = true;
            return;
        }
        match std::str::from_utf8(segment) {
            Ok(text) if !text.contains(FORMATTING) => self.segments.push(text.to_owned()),
            _ => self.is_utf8 = false,
        }
    }

    /// Takes the segments of row numbers out.
    fn take_numbers(&mut self, separator: char) -> Vec<String> {
        let number = |segment: &String| {
            let rest = segment.strip_prefix(SEGMENT)?.strip_prefix(separator)?;
            Some(rest.trim_end_matches(separator).to_owned())
        };
        let numbers = self.segments.iter().filter_map(number).collect();
        self.segments.retain(|segment| number(segment).is_none());
        numbers
    }

    /// Puts the message through and makes room for the next.
    fn end(&mut self, run: &mut Run<'_>) -> Result<(), TransformError> {
        let mut message = std::mem::replace(self, Message { is_utf8: true, ..Message::default() });
        if !message.is_begun {
            return Ok(());
        }
        run.begin_row();
        let separators = message.segments.first().and_then(|msh| Separators::of(msh));
        if let Some(separators) = separators.filter(|_| run.is_return()) {
            run.found_numbers(message.take_numbers(separators.field));
        }
        let out = match separators {
            _ if message.is_long => Err("ZGL-ROW-LENGTH"),
            _ if !message.is_utf8 => Err("ZGL-ROW-UTF8"),
            None => Err(BAD),
            Some(separators) => {
                if run.wants_notes() {
                    let mut walk = Walk { run: &mut *run, separators, is_note: true };
                    message.segments.iter().for_each(|segment| _ = walk.segment(segment));
                }
                let mut walk = Walk { run: &mut *run, separators, is_note: false };
                Ok(message.segments.iter().map(|segment| walk.segment(segment)).collect::<String>())
            }
        };
        match out {
            Ok(out) => {
                run.report_missing();
                run.end_row(out.as_bytes())
            }
            Err(code) => {
                run.report.bad("", code);
                run.end_row(&[])
            }
        }
    }
}

/// Where in the project's patterns a part stands.
#[derive(Clone, Copy)]
struct Place {
    at: Option<StateId>,
    drop: Option<usize>,
    parent: StateId,
}

struct Walk<'w, 'r> {
    run: &'w mut Run<'r>,
    separators: Separators,
    /// Only look for what the message says of its patient.
    is_note: bool,
}

impl Walk<'_, '_> {
    /// What becomes of a segment, with its end; empty when nothing does.
    fn segment(&mut self, text: &str) -> String {
        let is_msh = text.starts_with("MSH");
        let mut fields: Vec<&str> = text.split(self.separators.field).collect();
        if is_msh {
            // The first separator is itself the first field.
            fields.insert(1, "");
        }
        let name = fields[0];
        let first = |key: &str| {
            let field = key.parse::<usize>().ok().filter(|field| *field > 0).and_then(|field| fields.get(field))?;
            field.split([self.separators.repetition, self.separators.component]).next()
        };
        let top = Place { at: Some(ROOT), drop: None, parent: ROOT };
        let place = below(self.run, top, name, first);
        if place.at.is_none() {
            self.unlisted(place);
            return if self.run.unlisted(place.drop) == OnUnlisted::Pass { format!("{text}\r") } else { String::new() };
        }
        let mut written: Vec<String> = Vec::with_capacity(fields.len());
        for (number, field) in fields.iter().enumerate().skip(1) {
            written.push(match (is_msh, number) {
                (true, 1) => String::new(),
                (true, 2) => "^~\\&".to_owned(),
                (true, 18) if !field.is_empty() => CHARSET.to_owned(),
                _ => self.field(field, number, place),
            });
        }
        while written.last().is_some_and(String::is_empty) {
            written.pop();
        }
        if is_msh {
            written.remove(0);
        } else if written.is_empty() {
            return String::new();
        }
        format!("{name}|{}\r", written.join("|"))
    }

    fn field(&mut self, text: &str, number: usize, segment: Place) -> String {
        if text.is_empty() {
            return String::new();
        }
        let mut written = Vec::new();
        for repetition in text.split(self.separators.repetition) {
            let component = |key: &str| {
                let number = key.parse::<usize>().ok()?.checked_sub(1)?;
                repetition.split(self.separators.component).nth(number)
            };
            let place = below(self.run, segment, &number.to_string(), component);
            let mut out = String::new();
            self.part(repetition, place, &[self.separators.component, self.separators.sub], &['^', '&'], &mut out);
            written.push(out);
        }
        while written.last().is_some_and(String::is_empty) {
            written.pop();
        }
        written.join("~")
    }

    /// Appends what becomes of a part that is divided by the first of `separators`, and its parts by the next.
    fn part(&mut self, text: &str, place: Place, separators: &[char], canonical: &[char], out: &mut String) {
        if text.is_empty() {
            return;
        }
        let Some(at) = place.at else {
            self.unlisted(place);
            if self.run.unlisted(place.drop) == OnUnlisted::Pass {
                out.push_str(text);
            }
            return;
        };
        let is_divided = text.contains(separators);
        let is_dropped = !self.run.is_delivered(place.drop);
        match (self.run.matcher.field(at), separators.first()) {
            (Some(field), _) if self.is_note && (is_divided || is_dropped) => {
                self.run.note(field, &self.separators.decode(&text.replace(separators, " ")));
            }
            _ if is_dropped && self.run.is_return() => self.unlisted(place),
            _ if is_dropped => {}
            (Some(field), _) if !is_divided => self.value(field, text, out),
            (Some(field), _) if matches!(self.run.action(field), ActionName::Keep) || self.run.is_back() => {
                self.copy(text, separators, canonical, out);
            }
            (Some(_), _) => self.run.report.bad(&self.run.matcher.text(at), BAD),
            (None, Some(separator)) => {
                let mut written = Vec::new();
                for (index, part) in text.split(*separator).enumerate() {
                    let place = below(self.run, place, &(index + 1).to_string(), |_| None);
                    let mut one = String::new();
                    self.part(part, place, &separators[1..], &canonical[1..], &mut one);
                    written.push(one);
                }
                while written.last().is_some_and(String::is_empty) {
                    written.pop();
                }
                out.push_str(&written.join(&canonical[0].to_string()));
            }
            (None, None) => {
                self.unlisted(place);
                if self.run.unlisted(place.drop) == OnUnlisted::Pass {
                    out.push_str(text);
                }
            }
        }
    }

    fn value(&mut self, field: usize, text: &str, out: &mut String) {
        // Two quotes say that what the receiver has is to be deleted.
        if text == "\"\"" {
            if self.run.action(field) != ActionName::Drop {
                out.push_str(text);
            }
            return;
        }
        let value = self.separators.decode(text);
        if self.is_note {
            self.run.note(field, &value);
            return;
        }
        let mut written = Vec::new();
        if self.run.put_or_report(field, &value, &mut written) {
            encode(&String::from_utf8_lossy(&written), out);
        }
    }

    /// The same with the canonical separators.
    fn copy(&self, text: &str, separators: &[char], canonical: &[char], out: &mut String) {
        let Some(separator) = separators.first() else {
            encode(&self.separators.decode(text), out);
            return;
        };
        for (index, part) in text.split(*separator).enumerate() {
            if index > 0 {
                out.push(canonical[0]);
            }
            self.copy(part, &separators[1..], &canonical[1..], out);
        }
    }

    fn unlisted(&mut self, place: Place) {
        if !self.is_note && self.run.unlisted(place.drop) == OnUnlisted::Refuse {
            let parent = self.run.matcher.text(place.parent);
            let path = if parent.is_empty() { "?".to_owned() } else { format!("{parent}.?") };
            self.run.report.bad(&path, UNLISTED);
        }
    }
}

/// The place below one; `value` decides conditions.
fn below<'v>(run: &mut Run<'_>, place: Place, name: &str, value: impl Fn(&str) -> Option<&'v str>) -> Place {
    let at = place.at.and_then(|at| run.matcher.step(at, name)).and_then(|at| run.matcher.resolve(at, value));
    Place {
        at,
        drop: at.map_or(place.drop, |at| run.matcher.dropped_by(at, place.drop)),
        parent: place.at.unwrap_or(place.parent),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    const CANONICAL: Separators = Separators { field: '|', component: '^', repetition: '~', escape: '\\', sub: '&' };

    #[test]
    fn separators_are_the_messages_own() {
        assert_eq!(Separators::of("MSH|^~\\&|X"), Some(CANONICAL));
        let other = Separators::of("MSH#*~%$#X").unwrap();
        assert_eq!((other.field, other.component, other.escape, other.sub), ('#', '*', '%', '$'));
        assert_eq!(Separators::of("MSH||^~|"), None);
        assert_eq!(Separators::of("MSHABCDE"), None);
        let mut written = String::new();
        encode(&other.decode("a%F%b%.br%c%E%H%E%"), &mut written);
        assert_eq!(written, "a#b\\.br\\c%H%");
        let hexadecimal = "\\X4A616E\\ \\XE9\\ \\XC3A9\\\\X0D0A\\\\X0\\\\X\\\\X-1\\\\X7C\\";
        let mut written = String::new();
        encode(&CANONICAL.decode(hexadecimal), &mut written);
        assert_eq!(written, "Jan é é\\X0D0A\\\\X0\\\\X\\\\X-1\\\\F\\");
    }

    proptest! {
        #[test]
        fn what_is_escaped_is_read_back(text in "[a-c|^~&\\\\]{0,20}") {
            let mut written = String::new();
            encode(&text, &mut written);
            prop_assert!(!written.contains(['|', '^', '~', '&']));
            prop_assert_eq!(CANONICAL.decode(&written), text);
        }
    }
}
