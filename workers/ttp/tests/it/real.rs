//! Real inputs: Belgian patients, the Synthea exports and a FHIR bulk export, each through its project document.
//!
//! Checked for each: every row comes out; no value of six and more characters from a column that becomes a token or is
//! left out stands anywhere in the output; a patient has one token, and two patients have two. The inputs stay outside
//! the repository; where they are absent, the tests say so and end.

use crate::{run, sender};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use zegel_ttp::project::{ActionName, FieldDocument};
use zegel_ttp::{CompiledProject, ProjectDocument};

/// One root for all: projects of one family would share theirs.
const ROOT: [u8; 32] = [7; 32];
const SHORTEST: usize = 6;

pub(crate) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder of inputs, or a loud notice that it is absent.
pub(crate) fn inputs(folder: &str) -> Option<PathBuf> {
    let path = top().join("../shared/reference/data").join(folder);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("SKIPPED: the inputs {folder} are absent");
    None
}

pub(crate) fn document(name: &str) -> ProjectDocument {
    let path = top().join("tests/projects").join(format!("{name}.toml"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let document = ProjectDocument::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(document.name, name);
    assert_eq!(document.senders, [sender()]);
    document
}

/// What went in and came out of one file: the columns' values, row by row, sorted out of the batch by its own reader.
struct Batch {
    input: Vec<BTreeMap<String, Vec<String>>>,
    output: Vec<BTreeMap<String, Vec<String>>>,
    text: String,
    fields: Vec<FieldDocument>,
}

fn through(name: &str, file: &Path) -> Batch {
    let document = document(name);
    let fields = document.fields.clone();
    let project = CompiledProject::new(document, &ROOT).unwrap();
    let bytes = fs::read(file).unwrap();
    let (summary, text) = run(&project, &bytes).unwrap_or_else(|error| panic!("{name}: {error:?}"));
    let read = if file.extension().is_some_and(|end| end == "csv") { csv_rows } else { json_rows };
    let (input, output) = (read(std::str::from_utf8(&bytes).unwrap()), read(&text));
    assert_eq!(summary.rows_in, input.len() as u64, "{name}: rows in");
    assert_eq!(summary.rows_out, output.len() as u64, "{name}: rows out");
    assert_eq!((summary.rows_in, summary.bad_rows), (summary.rows_out, 0), "{name}");
    Batch { input, output, text, fields }
}

fn csv_rows(text: &str) -> Vec<BTreeMap<String, Vec<String>>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let row = |record: csv::StringRecord| {
        header.iter().zip(record.iter()).map(|(name, value)| (name.to_owned(), vec![value.to_owned()])).collect()
    };
    reader.records().map(|record| row(record.unwrap())).collect()
}

fn json_rows(text: &str) -> Vec<BTreeMap<String, Vec<String>>> {
    fn collect(path: &str, value: &serde_json::Value, row: &mut BTreeMap<String, Vec<String>>) {
        match value {
            serde_json::Value::Object(members) => members.iter().for_each(|(name, value)| {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(&path, value, row);
            }),
            serde_json::Value::Array(elements) => elements.iter().for_each(|value| collect(path, value, row)),
            serde_json::Value::String(text) => row.entry(path.to_owned()).or_default().push(text.clone()),
            other => row.entry(path.to_owned()).or_default().push(other.to_string()),
        }
    }
    text.lines()
        .map(|line| {
            let mut row = BTreeMap::new();
            collect("", &serde_json::from_str(line).unwrap(), &mut row);
            row
        })
        .collect()
}

impl Batch {
    /// Values that must not come out: of the fields with these actions, and of everything below a dropped path.
    fn secrets(&self) -> BTreeSet<&str> {
        let hidden = |path: &str| {
            self.fields.iter().any(|field| match field.action {
                ActionName::Drop => path == field.path || path.starts_with(&format!("{}.", field.path)),
                action if action.is_token() => path == field.path,
                _ => false,
            })
        };
        let hidden_values = |row| -> Vec<&str> {
            let row: &BTreeMap<String, Vec<String>> = row;
            row.iter().filter(|(path, _)| hidden(path)).flat_map(|(_, values)| values.iter().map(|v| &**v)).collect()
        };
        self.input.iter().flat_map(hidden_values).filter(|value| value.len() >= SHORTEST).collect()
    }

    fn assert_no_secret_came_out(&self, name: &str) {
        let mut by_head: HashMap<&[u8], Vec<&[u8]>> = HashMap::new();
        // Three bytes decide most places without hashing: the outputs are millions of places.
        let mut begins = vec![false; 1 << 24];
        let first = |bytes: &[u8]| usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
        for secret in self.secrets() {
            begins[first(secret.as_bytes())] = true;
            by_head.entry(&secret.as_bytes()[..SHORTEST]).or_default().push(secret.as_bytes());
        }
        let bytes = self.text.as_bytes();
        for (place, window) in bytes.windows(SHORTEST).enumerate() {
            if !begins[first(window)] {
                continue;
            }
            for secret in by_head.get(window).into_iter().flatten() {
                assert!(!bytes[place..].starts_with(secret), "{name}: a hidden value stands at byte {place}");
            }
        }
    }

    /// The same value, the same token; another value, another token. Rows are shuffled, so what is compared is how many
    /// rows each value has and how many each token has.
    fn assert_tokens_follow_values(&self, name: &str) {
        for field in &self.fields {
            if !matches!(field.action, ActionName::Pseudonym | ActionName::OneWay) {
                continue;
            }
            let counts = |rows: &[BTreeMap<String, Vec<String>>]| {
                let mut counts: BTreeMap<String, usize> = BTreeMap::new();
                let values = rows.iter().filter_map(|row| row.get(&field.path)).flatten();
                values
                    .filter(|value| !value.is_empty())
                    .for_each(|value| *counts.entry(value.clone()).or_default() += 1);
                counts
            };
            let (values, tokens) = (counts(&self.input), counts(&self.output));
            let sorted = |counts: &BTreeMap<String, usize>| {
                let mut numbers: Vec<_> = counts.values().copied().collect();
                numbers.sort_unstable();
                numbers
            };
            assert_eq!(sorted(&values), sorted(&tokens), "{name}: {}", field.path);
            let kind = if field.action == ActionName::Pseudonym { "P1." } else { "H1." };
            let prefix = format!("{}{kind}", field.prefix.as_deref().unwrap_or_default());
            assert!(tokens.keys().all(|token| token.starts_with(&prefix)), "{name}: {}", field.path);
        }
    }

    fn check(self, name: &str) -> Batch {
        assert!(!self.secrets().is_empty(), "{name}: there is something to hide");
        self.assert_no_secret_came_out(name);
        self.assert_tokens_follow_values(name);
        self
    }

    fn tokens(&self, path: &str) -> BTreeSet<String> {
        self.output.iter().filter_map(|row| row.get(path)).flatten().cloned().collect()
    }
}

#[test]
fn twenty_thousand_belgian_rows_go_through() {
    let Some(folder) = inputs("belgium") else { return };
    let batch = through("patients-be", &folder.join("patients-be-faker.csv")).check("patients-be");
    assert_eq!(batch.output.len(), 20_000);
    assert!(batch.output.iter().all(|row| row["birth_date"][0].len() == 4 && row["postal_code"][0].len() == 2));
}

#[test]
fn every_synthea_file_with_a_patient_goes_through_and_links_with_the_patients() {
    let Some(folder) = inputs("synthea-csv-ohdsi") else { return };
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "csv") && has_patient(file));
    files.sort();
    assert_eq!(files.len(), 14);
    let mut patients = BTreeSet::new();
    let mut references = BTreeMap::new();
    for file in &files {
        let stem = file.file_stem().unwrap().to_str().unwrap();
        let name = format!("synthea-{}", stem.replace('_', "-"));
        let batch = through(&name, file).check(&name);
        match stem {
            "patients" => patients = batch.tokens("Id"),
            "claims" => _ = references.insert(name, batch.tokens("PATIENTID")),
            _ => _ = references.insert(name, batch.tokens("PATIENT")),
        }
    }
    for (name, tokens) in references {
        assert!(!tokens.is_empty() && tokens.is_subset(&patients), "{name}: its patients link with patients.csv");
    }
}

fn has_patient(file: &Path) -> bool {
    let stem = file.file_stem().unwrap();
    let header = fs::read_to_string(file).unwrap().lines().next().unwrap_or_default().to_owned();
    stem == "patients" || header.split(',').any(|name| name.starts_with("PATIENT"))
}

#[test]
fn every_fhir_file_with_a_patient_goes_through_and_links_with_the_patients() {
    let Some(folder) = inputs("fhir-ndjson-10") else { return };
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| fs::read_to_string(file).unwrap().contains("\"Patient/") || is_patients(file));
    files.sort();
    assert_eq!(files.len(), 9);
    let mut patients = BTreeSet::new();
    let mut references = BTreeMap::new();
    for file in &files {
        let resource = file.file_name().unwrap().to_str().unwrap().split('.').next().unwrap().to_lowercase();
        let name = format!("fhir-{resource}");
        let batch = through(&name, file).check(&name);
        if is_patients(file) {
            patients = batch.tokens("id").into_iter().map(|token| format!("Patient/{token}")).collect();
        } else {
            let both = ["subject.reference", "patient.reference"].map(|path| batch.tokens(path));
            references.insert(name, both.concat_sets());
        }
    }
    for (name, tokens) in references {
        assert!(!tokens.is_empty() && tokens.is_subset(&patients), "{name}: its patients link with Patient");
    }
}

fn is_patients(file: &Path) -> bool {
    file.file_name().unwrap().to_str().unwrap().starts_with("Patient.")
}

trait ConcatSets {
    fn concat_sets(self) -> BTreeSet<String>;
}

impl ConcatSets for [BTreeSet<String>; 2] {
    fn concat_sets(self) -> BTreeSet<String> {
        self.into_iter().flatten().collect()
    }
}
