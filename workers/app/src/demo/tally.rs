//! Compares what recipients got with what senders sent, without knowing how pseudonyms are made.
//!
//! Rows are shuffled and values replaced, so what must be equal is counted: rows; how often each value of a `keep` column
//! occurs; and, for tokens, how often each distinct one occurs (equal identifiers give equal tokens, different ones
//! different tokens, so the counts of both sides are the same numbers). Columns of one domain are counted together: they
//! link. Values are kept as 64-bit hashes, so memory depends on the number of different values, at 16 bytes each.

use crate::failed::{Failed, at};
use schemas::ids::normalise;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use zegel_ttp::project::{ActionName, FieldDocument, ProjectDocument, ScopeName, ValueKind};

/// Most identifiers that are kept to be searched for in files afterwards.
const IDENTIFIERS_MAX: usize = 100_000;
/// An identifier worth searching has so many digits: names and dates would be found where they may be.
const DIGITS_MIN: usize = 4;
/// Shorter values say nothing: a year stands everywhere.
const TELLING: usize = 8;

/// What one side of a project's exchange holds.
#[derive(Debug, Default)]
pub struct Tally {
    /// Data rows.
    pub rows: u64,
    /// For each group of token fields that link: how often each distinct value occurs.
    tokens: BTreeMap<String, HashMap<u64, u64>>,
    /// For each `keep` field: the sum of the hashes of its values, which does not depend on their order.
    kept: BTreeMap<String, u64>,
    /// Values that must not come out of fields that hide something.
    hidden: BTreeMap<String, HashSet<u64>>,
    /// Values of hiding fields that look like identifiers, for the search in files.
    pub identifiers: HashSet<String>,
    /// Values of kept fields that look like identifiers: they may be anywhere.
    public: HashSet<u64>,
    /// Values that came out in clear.
    pub leaked: u64,
}

/// Which side is counted.
#[derive(Clone, Copy)]
pub enum Side<'a> {
    /// What a sender sent.
    Sent {
        /// Its address.
        sender: &'a str,
    },
    /// What the recipient got, against what was sent.
    Delivered {
        /// What was sent.
        sent: &'a Tally,
    },
}

impl Tally {
    /// Counts a batch, CSV or NDJSON, row by row.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn count(&mut self, project: &ProjectDocument, file: &Path, side: Side<'_>) -> Result<(), Failed> {
        let mut input = BufReader::new(File::open(file).map_err(at(file))?);
        skip_byte_order_mark(&mut input).map_err(at(file))?;
        let first = input.fill_buf().map_err(at(file))?.iter().find(|byte| !byte.is_ascii_whitespace()).copied();
        match first {
            None => Ok(()),
            Some(b'{') => self.ndjson(project, input, side).map_err(at(file)),
            Some(_) => {
                self.csv(project, input, side).map_err(|error| Failed::Failure(format!("{}: {error}", file.display())))
            }
        }
    }

    /// What differs from what was sent, by rule and field; empty: nothing.
    pub fn differences(&self, sent: &Tally) -> Vec<String> {
        let mut found = Vec::new();
        if self.rows != sent.rows {
            found.push(format!("{} rows of {}", self.rows, sent.rows));
        }
        for (group, values) in &sent.tokens {
            let got = self.tokens.get(group).map(frequencies).unwrap_or_default();
            if got != frequencies(values) {
                found.push(format!("tokens of {group} do not match their identifiers"));
            }
        }
        for (path, sum) in &sent.kept {
            if self.kept.get(path) != Some(sum) {
                found.push(format!("kept values of {path} differ"));
            }
        }
        if self.leaked > 0 {
            found.push(format!("{} values came out in clear", self.leaked));
        }
        found
    }

    /// Whether a value stands in a field that is kept, so that it may be anywhere.
    pub fn shows(&self, value: &str) -> bool {
        self.public.contains(&hash(&value))
    }

    fn csv(&mut self, project: &ProjectDocument, mut input: impl BufRead, side: Side<'_>) -> Result<(), csv::Error> {
        let mut line = Vec::new();
        input.read_until(b'\n', &mut line)?;
        let known =
            |delimiter: u8| columns(&line, delimiter).iter().filter(|name| field(project, name).is_some()).count();
        let delimiter = if known(b';') > known(b',') { b';' } else { b',' };
        let names = columns(&line, delimiter);
        let fields: Vec<Option<&FieldDocument>> = names.iter().map(|name| field(project, name)).collect();
        let mut reader =
            csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(input);
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record)? {
            self.rows += 1;
            for (value, field) in record.iter().zip(&fields) {
                if let Some(field) = field {
                    self.value(field, value, side);
                }
            }
        }
        Ok(())
    }

    fn ndjson(&mut self, project: &ProjectDocument, input: impl BufRead, side: Side<'_>) -> std::io::Result<()> {
        for line in input.lines() {
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            self.rows += 1;
            // A line that is no JSON is a bad row for the TTP, which says so.
            let Ok(row) = serde_json::from_str::<Value>(&line) else { continue };
            for field in &project.fields {
                let parts: Vec<&str> = field.path.split('.').collect();
                // Numbers may be written in another way, so only hidden fields are compared.
                if field.action != ActionName::Keep {
                    visit(&row, &parts, &mut |value| self.value(field, value, side));
                }
            }
        }
        Ok(())
    }

    fn value(&mut self, field: &FieldDocument, value: &str, side: Side<'_>) {
        if value.is_empty() {
            return;
        }
        match (field.action, side) {
            (ActionName::Keep, _) => {
                let sum = self.kept.entry(field.path.clone()).or_default();
                *sum = sum.wrapping_add(hash(&value));
                if matches!(side, Side::Sent { .. }) && looks_like_identifier(value) {
                    self.public.insert(hash(&value));
                }
            }
            (action, Side::Sent { sender }) => {
                self.hidden.entry(field.path.clone()).or_default().insert(hash(&value));
                if matches!(action, ActionName::Pseudonym | ActionName::OneWay) {
                    self.token(field, &bare(field, value), Some(sender));
                }
                if action != ActionName::Generalise
                    && looks_like_identifier(value)
                    && self.identifiers.len() < IDENTIFIERS_MAX
                {
                    self.identifiers.insert(value.to_owned());
                }
            }
            (action, Side::Delivered { sent }) => {
                let known = sent.hidden.get(&field.path).is_some_and(|values| values.contains(&hash(&value)));
                self.leaked += u64::from(known && value.len() >= TELLING);
                if matches!(action, ActionName::Pseudonym | ActionName::OneWay) {
                    self.token(field, value, None);
                }
            }
        }
    }

    /// Counts a value of a token field in its group. On the sender's side a locally issued number is the sender's own.
    fn token(&mut self, field: &FieldDocument, value: &str, sender: Option<&str>) {
        let domain = field.domain.as_deref().unwrap_or(field.kind.name());
        let local = field.scope == Some(ScopeName::Sender);
        let kind = if field.action == ActionName::OneWay { "one-way" } else { "pseudonym" };
        let group = format!("{kind} {domain}{}", if local { " of each sender" } else { "" });
        let value = value.strip_prefix(field.prefix.as_deref().unwrap_or_default()).unwrap_or(value);
        let whose = if local { sender } else { None };
        *self.tokens.entry(group).or_default().entry(hash(&(value, whose))).or_default() += 1;
    }
}

/// The columns of a delivered CSV, to see which project it is of.
pub fn delivered_header(project: &ProjectDocument) -> Vec<&str> {
    let delivered = project.fields.iter().filter(|field| field.action != ActionName::Drop);
    delivered.map(FieldDocument::output_name).collect()
}

/// A person's number is the same with and without its punctuation.
fn bare<'a>(field: &FieldDocument, value: &'a str) -> std::borrow::Cow<'a, str> {
    match field.kind {
        ValueKind::Ssin => normalise(value),
        _ => value.into(),
    }
}

fn looks_like_identifier(value: &str) -> bool {
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let date = value.len() >= 10
        && value.as_bytes()[4] == b'-'
        && value.as_bytes()[7] == b'-'
        && digits >= 8
        && value[..value.len().min(10)].bytes().filter(u8::is_ascii_digit).count() == 8;
    value.len() >= super::needles::SHORTEST
        && digits >= DIGITS_MIN
        && !date
        && value.parse::<f64>().map_or(true, |_| digits >= 11)
}

fn field<'a>(project: &'a ProjectDocument, name: &str) -> Option<&'a FieldDocument> {
    project.fields.iter().find(|field| field.path == name)
}

fn columns(line: &[u8], delimiter: u8) -> Vec<String> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).delimiter(delimiter).from_reader(line);
    let mut record = csv::StringRecord::new();
    match reader.read_record(&mut record) {
        Ok(true) => record.iter().map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn visit(value: &Value, path: &[&str], each: &mut impl FnMut(&str)) {
    match (value, path) {
        (Value::Array(items), _) => items.iter().for_each(|item| visit(item, path, each)),
        (Value::Object(members), [first, rest @ ..]) => {
            if let Some(inner) = members.get(*first) {
                visit(inner, rest, each);
            }
        }
        (Value::String(text), []) => each(text),
        (Value::Number(number), []) => each(&number.to_string()),
        _ => {}
    }
}

/// How often values occur, as sorted numbers.
fn frequencies(values: &HashMap<u64, u64>) -> Vec<u64> {
    let mut counts: Vec<u64> = values.values().copied().collect();
    counts.sort_unstable();
    counts
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn skip_byte_order_mark(input: &mut BufReader<File>) -> std::io::Result<()> {
    if input.fill_buf()?.starts_with(b"\xEF\xBB\xBF") {
        input.read_exact(&mut [0; 3])?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PROJECT: &str = r#"
        name = "p"
        senders = ["NIHII-HOSPITAL:71000436"]
        recipient = "CBE:0123456749"
        valid = { from = "2026-01-01", until = "2030-12-31" }
        [[fields]]
        path = "niss"
        kind = "ssin"
        action = "pseudonym"
        [[fields]]
        path = "mother"
        kind = "ssin"
        action = "pseudonym"
        [[fields]]
        path = "name"
        action = "drop"
        [[fields]]
        path = "value"
        action = "keep"
    "#;
    const SENT: &str = "niss,mother,name,value\n85061511796,,Jan Peeters,1\n85.06.15-117.96,85061511697,Jan,2\n";

    fn count(content: &str, side: Side<'_>) -> Tally {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        std::fs::write(&file, content).unwrap();
        let mut tally = Tally::default();
        tally.count(&ProjectDocument::parse(PROJECT).unwrap(), &file, side).unwrap();
        tally
    }

    fn differences(delivered: &str) -> Vec<String> {
        let sent = count(SENT, Side::Sent { sender: "a" });
        count(delivered, Side::Delivered { sent: &sent }).differences(&sent)
    }

    #[test]
    fn a_faithful_delivery_has_no_differences_in_any_order() {
        assert_eq!(differences("niss,mother,value\nT1,T2,2\nT1,,1\n"), Vec::<String>::new());
    }

    #[test]
    fn a_lost_row_a_split_patient_a_changed_value_and_a_leak_are_each_told() {
        assert!(differences("niss,mother,value\nT1,T2,2\n")[0].contains("1 rows of 2"));
        assert!(differences("niss,mother,value\nT1,T2,2\nT3,,1\n")[0].contains("tokens of pseudonym ssin"));
        assert!(differences("niss,mother,value\nT1,T2,2\nT1,,7\n")[0].contains("kept values of value"));
        let leak = differences("niss,mother,value\nT1,85061511697,2\nT1,,1\n");
        assert_eq!(leak, ["1 values came out in clear"]);
    }

    #[test]
    fn numbers_issued_by_each_sender_are_counted_apart() {
        let text = PROJECT.replace(
            "path = \"niss\"\n        kind = \"ssin\"",
            "path = \"niss\"\n        domain = \"d\"\n        scope = \"sender\"",
        );
        let project = ProjectDocument::parse(&text).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        std::fs::write(&file, "niss\nP1\n").unwrap();
        let mut tally = Tally::default();
        tally.count(&project, &file, Side::Sent { sender: "a" }).unwrap();
        tally.count(&project, &file, Side::Sent { sender: "b" }).unwrap();
        assert_eq!(tally.tokens.values().map(HashMap::len).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn only_what_looks_like_an_identifier_is_searched_for_in_files() {
        for yes in ["85061511796", "f0f3bc8d-ef38-49ce-a2bd-dfdda982b271", "canary-928347"] {
            assert!(looks_like_identifier(yes), "{yes}");
        }
        for no in ["Peeters", "2026-01-01", "2026-01-01T10:00:00Z", "129.16", "Grand-Rue de la Station"] {
            assert!(!looks_like_identifier(no), "{no}");
        }
    }

    #[test]
    fn ndjson_is_counted_through_arrays() {
        let project = PROJECT.replace("path = \"niss\"", "path = \"ids.value\"");
        let project = ProjectDocument::parse(&project).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        std::fs::write(&file, "{\"ids\":[{\"value\":\"85061511796\"},{\"value\":\"85061511697\"}]}\n\n").unwrap();
        let mut tally = Tally::default();
        tally.count(&project, &file, Side::Sent { sender: "a" }).unwrap();
        assert_eq!((tally.rows, tally.identifiers.len()), (1, 2));
    }
}
