//! The demo as a user runs it: what it leaves, what it says, and what it refuses to touch.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::Value;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn zegel(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zegel")).args(arguments).output().unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn the_demo_leaves_what_it_promises_and_its_report_agrees_with_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("demo");
    let output = zegel(&["demo", "--json", "--window", "2", "--seed", "7", "--data", data.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_str(&said).expect("one JSON object on standard output");
    let written: Value = serde_json::from_slice(&fs::read(data.join("out/report.json")).unwrap()).unwrap();
    assert_eq!(report, written);
    let number = |field: &str| report[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {report}"));
    assert_eq!(number("submitted"), number("delivered") + number("refused"));
    assert_eq!((number("receipts_positive"), number("receipts_negative")), (number("delivered"), number("refused")));
    assert_eq!((number("lost"), number("duplicated"), number("entries")), (0, 0, 1_000));
    assert!(number("refused") == 1 && number("rows_in") > 1_000 && number("rows_in") == number("rows_out"));
    assert!(["I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8"].iter().all(|name| report["invariants"][name] == true));

    let delivered = files(&data.join("out/recipient"));
    let rows: usize =
        delivered.iter().map(|file| fs::read_to_string(file).unwrap().trim_end().lines().count() - 1).sum();
    assert_eq!(rows as u64, number("rows_out"));
    let bags = files(&data.join("out/bags"));
    let of_kind = |kind: &str| bags.iter().filter(|bag| bag.extension().is_some_and(|ending| ending == kind)).count();
    assert_eq!((of_kind("xml") as u64, of_kind("tsr") as u64), (number("bags"), number("tokens_verified")));
    assert_eq!(of_kind("xml") + of_kind("tsr"), bags.len(), "only bags lie among the bags");
    assert!(data.join("out/tsa/ca.pem").exists() && data.join("out/bags/NIHII-HOSPITAL-71000436/1.xml").exists());
    let receipts = fs::read_to_string(data.join("out/receipts.ndjson")).unwrap();
    let receipts: Vec<Value> = receipts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let finals: HashSet<&str> =
        receipts.iter().filter(|receipt| receipt["final"] == true).map(|r| r["submission"].as_str().unwrap()).collect();
    assert_eq!(finals.len() as u64, number("submitted"));
    let refusal = receipts.iter().find(|receipt| receipt["type"] == "ERROR").unwrap();
    assert_eq!(refusal["rows"].as_array().map(Vec::len), Some(3), "{refusal}");

    // It is not begun anew by accident.
    let again = zegel(&["demo", "--data", data.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(3));
    assert!(data.join("out/report.json").exists());
    let check = zegel(&["check", "--json", "--data", data.to_str().unwrap()]);
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}

#[test]
fn projects_without_batches_and_strange_windows_are_wrong_usage_and_touch_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("demo");
    for arguments in [&["--project", "Cargo.toml"][..], &["--window", "0"], &["--window", "3601"]] {
        let output = zegel(&[&["demo", "--data", data.to_str().unwrap()], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    assert!(!data.exists());
}
