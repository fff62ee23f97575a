//! Small cells: nobody is shown in a class of fewer than k patients, in no batch and in no difference of batches. Checked
//! against pycanon, the independent measure of k-anonymity and l-diversity.

use crate::real::top;
use crate::{HEAD, project, refused, run, sender};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::process::Command;
use zegel_core::Keys;
use zegel_crypto::Keyring;
use zegel_ttp::small_cells::{CellsReport, Ledger, Pair};
use zegel_ttp::{CompiledProject, ProjectDocument, ScratchDir, Summary};

const FIELDS: &str = r#"
patient = ["id"]
[[fields]]
path = "id"
action = "pseudonym"
domain = "id"
[[fields]]
path = "born"
kind = "date"
action = "generalise"
to = "10 years"
[[fields]]
path = "sex"
kind = "sex"
action = "keep"
[[fields]]
path = "icd"
action = "keep"
"#;

fn cells(rule: &str) -> CompiledProject {
    project(&format!("small_cells = {{ {rule} }}\n{FIELDS}"))
}

fn k5() -> CompiledProject {
    cells("quasi = [\"born\", \"sex\"]")
}

#[derive(Default)]
struct Memory(HashSet<Pair>);

impl Ledger for Memory {
    fn has(&mut self, pair: &Pair) -> std::io::Result<bool> {
        Ok(self.0.contains(pair))
    }

    fn add(&mut self, pair: Pair) -> std::io::Result<()> {
        self.0.insert(pair);
        Ok(())
    }
}

/// (patient, year, sex, diagnosis) as a batch.
fn batch(rows: &[(u32, u32, &str, &str)]) -> String {
    rows.iter().fold("id,born,sex,icd\n".to_owned(), |text, (id, year, sex, icd)| {
        text + &format!("p{id},{year}-01-01,{sex},{icd}\n")
    })
}

fn counted(project: &CompiledProject, batch: &str, ledger: &mut dyn Ledger) -> Option<(Summary, Vec<Vec<String>>)> {
    let folder = tempfile::tempdir().unwrap();
    let keys = Keyring::generate_in_memory();
    let mut random = |bytes: &mut [u8]| keys.random(bytes);
    let mut out = Vec::new();
    let scratch = ScratchDir { folder: folder.path(), keys: &keys };
    let run = zegel_ttp::transform_counted(
        project,
        &sender(),
        &mut batch.as_bytes(),
        &mut out,
        Some(scratch),
        &mut random,
        ledger,
    );
    let summary = match run {
        Ok(summary) => summary,
        Err(zegel_ttp::TransformError::Refused(reason)) if reason.code == "ZGL-TTP-CELLS" => return None,
        Err(error) => panic!("{error:?}"),
    };
    let rows = csv::Reader::from_reader(&out[..])
        .records()
        .map(|row| row.unwrap().iter().map(str::to_owned).collect())
        .collect();
    Some((summary, rows))
}

#[test]
fn rows_of_a_class_with_too_few_patients_are_held_back_and_told() {
    let many: Vec<_> = (0..5).map(|id| (id, 1985, "M", "E11")).collect();
    let few = [(10, 1991, "F", "I10"), (11, 1992, "F", "I10"), (11, 1993, "F", "E11")];
    let (summary, out) = run(&k5(), batch(&[&many[..], &few[..]].concat()).as_bytes()).unwrap();
    assert_eq!((summary.rows_in, summary.rows_out), (8, 5));
    assert!(!out.contains(",F,"));
    let expected = CellsReport { k: 5, classes: 2, classes_held: 1, patients_new: 5, patients_held: 2, rows_held: 3 };
    assert_eq!(summary.cells, Some(expected));
    assert_eq!(refused(&k5(), batch(&few).as_bytes()).code, "ZGL-TTP-CELLS");
}

#[test]
fn many_rows_of_one_patient_are_one_patient() {
    let rows: Vec<_> = (0..50).map(|n| (1, 1985, "M", if n % 2 == 0 { "E11" } else { "I10" })).collect();
    assert_eq!(refused(&k5(), batch(&rows).as_bytes()).code, "ZGL-TTP-CELLS");
}

#[test]
fn a_class_grows_by_nobody_or_by_k_over_all_batches() {
    let mut ledger = Memory::default();
    let first: Vec<_> = (0..5).map(|id| (id, 1985, "M", "E11")).collect();
    assert_eq!(counted(&k5(), &batch(&first), &mut ledger).unwrap().0.rows_out, 5);
    // One more would stand out in the difference; those who were shown may be shown again.
    let second: Vec<_> = (2..6).map(|id| (id, 1986, "M", "I10")).collect();
    let (summary, rows) = counted(&k5(), &batch(&second), &mut ledger).unwrap();
    assert_eq!((summary.rows_out, summary.cells.unwrap().patients_held), (3, 1));
    assert_eq!(rows.len(), 3);
    // The one comes with four others.
    let third: Vec<_> = (5..10).map(|id| (id, 1987, "M", "I10")).collect();
    assert_eq!(counted(&k5(), &batch(&third), &mut ledger).unwrap().0.rows_out, 5);
}

#[test]
fn those_who_are_new_must_differ_in_what_is_sensitive() {
    let l2 = cells("quasi = [\"born\", \"sex\"], k = 3, sensitive = \"icd\", l = 2");
    let same: Vec<_> = (0..4).map(|id| (id, 1985, "M", "E11")).collect();
    assert_eq!(refused(&l2, batch(&same).as_bytes()).code, "ZGL-TTP-CELLS");
    let (summary, _) = run(&l2, batch(&[&same[..], &[(9, 1985, "M", "I10")]].concat()).as_bytes()).unwrap();
    assert_eq!(summary.rows_out, 5);
}

#[test]
fn a_row_without_its_patient_is_bad() {
    let reason = refused(&k5(), b"id,born,sex,icd\n,1985-01-01,M,E11\n");
    assert_eq!(reason.rows[0].code, "ZGL-ROW-PATIENT");
}

#[test]
fn contradictions_are_refused_with_their_rule() {
    for (lines, expected) in [
        ("small_cells = { quasi = [] }\npatient = [\"f\"]", "needs quasi-identifiers"),
        ("small_cells = { quasi = [\"f\"] }", "needs `patient`"),
        ("small_cells = { quasi = [\"g\"] }\npatient = [\"f\"]", "names paths of fields"),
        ("small_cells = { quasi = [\"f\"], k = 1 }\npatient = [\"f\"]", "k is 2"),
        ("small_cells = { quasi = [\"f\"], l = 2 }\npatient = [\"f\"]", "goes with sensitive"),
        ("small_cells = { quasi = [\"f\"] }\npatient = [\"f\"]\nrows = \"keep\"", "shuffled rows"),
        ("patient = [\"g\"]", "paths of fields"),
    ] {
        let text = format!("{HEAD}{lines}\n[[fields]]\npath = \"f\"\naction = \"keep\"");
        let error = ProjectDocument::parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{lines}: {error}");
    }
}

#[test]
fn a_batch_larger_than_the_memory_is_decided_alike() {
    // 12,000 rows of a kilobyte go through the scratch buckets; one class of four patients is among them.
    let wide = project(&format!(
        "small_cells = {{ quasi = [\"born\", \"sex\"] }}\n{FIELDS}[[fields]]\npath = \"w\"\naction = \"keep\""
    ));
    let mut text = "id,born,sex,icd,w\n".to_owned();
    for n in 0..12_000u32 {
        let sex = if n % 3_000 == 7 { "X" } else { "M" };
        text.push_str(&format!("p{n},{}-01-01,{sex},E11,{n:0>1000}\n", 1900 + n % 100));
    }
    let (summary, _) = run(&wide, text.as_bytes()).unwrap();
    assert_eq!((summary.rows_in, summary.rows_out), (12_000, 12_000 - 4));
}

proptest! {
    #[test]
    fn no_release_and_no_difference_of_releases_shows_fewer_than_k(
        batches in proptest::collection::vec(proptest::collection::vec((0u32..60, 0u32..3, 0usize..2), 1..60), 1..5), k in 2usize..7
    ) {
        let project = cells(&format!("quasi = [\"born\", \"sex\"], k = {k}"));
        let mut ledger = Memory::default();
        let mut shown: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
        for rows in &batches {
            let rows: Vec<_> = rows.iter().map(|(id, decade, sex)| (*id, 1950 + decade * 10, ["M", "F"][*sex], "E11")).collect();
            let Some((_, released)) = counted(&project, &batch(&rows), &mut ledger) else { continue };
            let mut new: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
            for row in released {
                let class = (row[1].clone(), row[2].clone());
                if !shown.get(&class).is_some_and(|known| known.contains(&row[0])) {
                    new.entry(class).or_default().insert(row[0].clone());
                }
            }
            for (class, patients) in new {
                prop_assert!(patients.len() >= k, "{} new of {:?}", patients.len(), class);
                shown.entry(class).or_default().extend(patients);
            }
        }
    }
}

const ORACLE: &str = r#"
import sys, pandas
from pycanon import anonymity
data = pandas.read_csv(sys.argv[1])
print(anonymity.k_anonymity(data, ["born", "sex"]), anonymity.l_diversity(data, ["born", "sex"], ["icd"]))
"#;

#[test]
fn pycanon_finds_the_k_and_l_that_the_project_asks_for() {
    let l2 = cells("quasi = [\"born\", \"sex\"], k = 5, sensitive = \"icd\", l = 3");
    // One row a patient, as pycanon counts rows; classes of 1 to 12.
    let rows: Vec<_> = (0..400u32)
        .map(|id| {
            (
                id,
                1900 + id * id % 97,
                ["M", "F"][(id % 2) as usize],
                ["E11", "I10", "F32", "J45"][(id * 7 % 13 % 4) as usize],
            )
        })
        .collect();
    let measure = |text: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let python = top().join("target/oracles/bin/python");
        let python = if python.exists() { python } else { "python3".into() };
        let output = Command::new(python).args(["-c", ORACLE]).arg(file.path()).output().ok()?;
        let text = String::from_utf8(output.stdout).unwrap();
        let (k, l) = text.trim().split_once(' ')?;
        Some((k.parse::<u32>().unwrap(), l.parse::<u32>().unwrap()))
    };
    let mut all = rows.clone();
    all.extend([(900, 1905, "M", "E11"), (901, 2011, "F", "I10"), (902, 2012, "F", "I10")]);
    let (_, out) = run(&l2, batch(&all).as_bytes()).unwrap();
    let open = project(FIELDS);
    let (_, before) = run(&open, batch(&all).as_bytes()).unwrap();
    let (Some(before), Some(after)) = (measure(&before), measure(&out)) else {
        assert!(std::env::var("ZEGEL_ORACLES").is_err(), "python with the package pycanon is needed");
        eprintln!("SKIPPED: no python with the package pycanon");
        return;
    };
    assert!(before.0 < 5 && after.0 >= 5 && after.1 >= 3, "k and l before {before:?}, after {after:?}");
}
