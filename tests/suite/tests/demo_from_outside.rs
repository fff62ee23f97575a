//! The demo, run as a user runs it, on generated and on real input; its results checked with tools that we did not write.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![allow(clippy::disallowed_methods, clippy::cast_possible_truncation)] // threads of a test may sleep; its numbers are small

use serde_json::Value;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use zegel_suite::{reference, root, zegel};

/// Runs `zegel demo` and gives its report; fails with its output when it does not end well.
fn demo(data: &Path, arguments: &[String]) -> Value {
    let output =
        Command::new(zegel()).args(["demo", "--window", "2", "--data"]).arg(data).args(arguments).output().unwrap();
    assert!(output.status.success(), "the demo failed: {}", said(&output));
    serde_json::from_slice(&fs::read(data.join("out/report.json")).expect("a report")).expect("the report is JSON")
}

fn said(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn number(report: &Value, field: &str) -> u64 {
    report[field].as_u64().unwrap_or_else(|| panic!("report.json has no number {field}: {report}"))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn the_demo_ends_well_and_every_bag_verifies_with_tools_that_are_not_ours() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("demo");
    let report = demo(&data, &[]);
    for field in [
        "submitted",
        "delivered",
        "refused",
        "receipts_positive",
        "receipts_negative",
        "rows_in",
        "rows_out",
        "bags",
        "entries",
        "tokens_verified",
        "notifications",
    ] {
        assert!(number(&report, field) > 0, "{field} is 0: {report}");
    }
    assert_eq!((number(&report, "lost"), number(&report, "duplicated")), (0, 0), "{report}");
    assert_eq!(number(&report, "entries"), 1_000, "1,000 prescriptions are stamped");
    assert_eq!(number(&report, "tokens_verified"), number(&report, "bags"), "a token was not verified");
    let bags: Vec<PathBuf> =
        files(&data.join("out/bags")).into_iter().filter(|file| file.extension().is_some_and(|e| e == "xml")).collect();
    assert_eq!(bags.len() as u64, number(&report, "bags"));
    for bag in &bags {
        assert!(openssl_verifies(&data, bag, &bag.with_extension("tsr")), "openssl refuses {}", bag.display());
        let mut altered = fs::read(bag).unwrap();
        let middle = altered.len() / 2;
        altered[middle] ^= 1;
        let copy = folder.path().join("altered.xml");
        fs::write(&copy, altered).unwrap();
        assert!(
            !openssl_verifies(&data, &copy, &bag.with_extension("tsr")),
            "openssl accepts a changed byte in {}",
            bag.display()
        );
    }
    rfc3161_client_verifies(&data, &bags);
    assert!(
        fs::read_to_string(data.join("out/receipts.ndjson")).unwrap().lines().count() as u64
            >= number(&report, "receipts_positive")
    );
}

fn openssl_verifies(data: &Path, bag: &Path, token: &Path) -> bool {
    let output = Command::new("openssl")
        .args(["ts", "-verify", "-data"])
        .arg(bag)
        .arg("-in")
        .arg(token)
        .arg("-CAfile")
        .arg(data.join("out/tsa/ca.pem"))
        .output()
        .unwrap();
    output.status.success() && said(&output).contains("Verification: OK")
}

/// PyPI's rfc3161-client, over every bag; it must refuse another message.
fn rfc3161_client_verifies(data: &Path, bags: &[PathBuf]) {
    const SCRIPT: &str = r#"
import hashlib, sys
from cryptography import x509
from rfc3161_client import VerifierBuilder, decode_timestamp_response
ca = x509.load_pem_x509_certificate(open(sys.argv[1], "rb").read())
verifier = VerifierBuilder().add_root_certificate(ca).build()
for bag in sys.argv[2:]:
    data = open(bag, "rb").read()
    response = decode_timestamp_response(open(bag[:-4] + ".tsr", "rb").read())
    assert verifier.verify_message(response, data), bag
    try:
        verifier.verify_message(response, data + b" ")
    except Exception:
        continue
    sys.exit("a changed message was accepted: " + bag)
print(len(sys.argv) - 2, "tokens accepted")
"#;
    let available =
        Command::new("python3").args(["-c", "import rfc3161_client"]).output().is_ok_and(|o| o.status.success());
    if !available {
        println!("SKIPPED: rfc3161-client is not installed");
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "rfc3161-client must be there");
        return;
    }
    let output =
        Command::new("python3").args(["-c", SCRIPT]).arg(data.join("out/tsa/ca.pem")).args(bags).output().unwrap();
    assert!(output.status.success(), "rfc3161-client refuses: {}", said(&output));
}

/// Runs the demo over a reference batch with one of our project documents, and compares what came out.
fn run_real(batches: &[(String, PathBuf)]) -> (tempfile::TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = Vec::new();
    for (project, batch) in batches {
        arguments.extend(["--project".to_owned(), root().join("tests/projects").join(project).display().to_string()]);
        arguments.extend(["--batch".to_owned(), batch.display().to_string()]);
    }
    let report = demo(&folder.path().join("demo"), &arguments);
    assert_eq!((number(&report, "lost"), number(&report, "duplicated")), (0, 0), "{report}");
    (folder, report)
}

#[test]
fn twenty_thousand_belgian_patients_reach_the_registry_without_their_numbers() {
    let Some(batch) = reference("data/belgium/patients-be-faker.csv") else { return };
    let (folder, report) = run_real(&[("patients-be.toml".to_owned(), batch.clone())]);
    assert!(number(&report, "rows_in") >= 20_000, "{report}");
    let numbers: HashSet<String> = fs::read_to_string(&batch)
        .unwrap()
        .lines()
        .skip(1)
        .map(|line| line.split(',').next().unwrap().to_owned())
        .collect();
    let received = files(&folder.path().join("demo/out/recipient"));
    let rows: usize = received
        .iter()
        .map(|file| {
            let text = fs::read_to_string(file).unwrap();
            let leaked = text
                .split(|c: char| !c.is_ascii_digit())
                .filter(|run| run.len() == 11 && numbers.contains(*run))
                .count();
            assert_eq!(leaked, 0, "{} holds a patient's number", file.display());
            text.lines().count().saturating_sub(1)
        })
        .sum();
    assert!(rows >= 20_000, "the registry received {rows} rows");
}

#[test]
fn every_synthea_table_and_fhir_resource_with_a_patient_key_goes_through() {
    let (Some(csv), Some(fhir)) = (reference("data/synthea-csv-ohdsi"), reference("data/fhir-ndjson-10")) else {
        return;
    };
    let mut batches = Vec::new();
    for project in files(&root().join("tests/projects")) {
        let name = project.file_stem().unwrap().to_string_lossy().into_owned();
        // One document for resources of any type; the crate of the TTP tests it.
        if name == "fhir-all" {
            continue;
        }
        let batch = if let Some(table) = name.strip_prefix("synthea-") {
            csv.join(format!("{}.csv", table.replace('-', "_")))
        } else if let Some(resource) = name.strip_prefix("fhir-") {
            let wanted = format!("{resource}.000.ndjson");
            let same = |path: &PathBuf| {
                path.file_name().is_some_and(|name| name.to_string_lossy().eq_ignore_ascii_case(&wanted))
            };
            files(&fhir).into_iter().find(same).unwrap_or_default()
        } else {
            continue;
        };
        assert!(batch.exists(), "{name}: there is no such input");
        batches.push((format!("{name}.toml"), batch));
    }
    assert!(batches.len() >= 20, "project documents are missing: {}", batches.len());
    let (_folder, report) = run_real(&batches);
    assert!(number(&report, "rows_out") > 10_000, "{report}");
}
