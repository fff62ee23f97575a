//! Real inputs that are trees: KMEHR, FHIR, C-CDA, SMOA; and the Belgian places.
//!
//! Checked: what goes in comes out; no identifier or name of a patient is left; KMEHR stays valid; references that held go on
//! holding; what comes back is what was sent. The inputs stay outside the repository; where they are absent, the tests say
//! so and end. Independent tools (xmllint, the Python package fhir.resources) are needed with `ZEGEL_ORACLES=1`.

use crate::real::{document, inputs, top};
use crate::{back, output, project, refused, run};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use zegel_ttp::CompiledProject;

fn compiled(name: &str) -> CompiledProject {
    CompiledProject::new(document(name), &[7; 32]).unwrap()
}

fn files(folders: &[&str], endings: &[&str]) -> Option<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in folders {
        let entries = fs::read_dir(inputs(folder)?).unwrap().map(|entry| entry.unwrap().path());
        found.extend(entries.filter(|path| endings.iter().any(|ending| path.to_string_lossy().ends_with(ending))));
    }
    found.sort();
    Some(found)
}

/// Values of the elements with this path's end, read without a parser of ours.
fn texts(xml: &str, element: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for part in xml.split(&format!("<{element}")).skip(1) {
        let Some((tag, rest)) = part.split_once('>') else { continue };
        let text = rest.split('<').next().unwrap_or_default().trim();
        let is_element = tag.is_empty() || tag.starts_with([' ', '\n']);
        if is_element && !tag.ends_with('/') && !text.is_empty() {
            found.insert(text.to_owned());
        }
    }
    found
}

/// The part of a KMEHR message that tells who its patients are.
fn patients(xml: &str) -> String {
    xml.split("<patient>").skip(1).filter_map(|part| part.split("</patient>").next()).collect()
}

fn is_required() -> bool {
    std::env::var("ZEGEL_ORACLES").is_ok_and(|value| value == "1")
}

/// Which files xmllint finds valid; none when it or the schema is absent.
fn valid(files: &[PathBuf]) -> Option<BTreeSet<String>> {
    let schema = top().join("../shared/reference/ehealth/kmehr-1.43/ehealth-kmehr/XSD/kmehr_elements-1_43.xsd");
    if !schema.is_file() {
        eprintln!("SKIPPED: the schema of KMEHR 1.43 is absent");
        return None;
    }
    let run = Command::new("xmllint").args(["--noout", "--nonet", "--schema"]).arg(&schema).args(files).output();
    let Ok(output) = run else {
        assert!(!is_required(), "xmllint is needed");
        eprintln!("SKIPPED: no xmllint");
        return None;
    };
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    Some(told.lines().filter_map(|line| line.strip_suffix(" validates")).map(str::to_owned).collect())
}

#[test]
fn every_kmehr_message_goes_through_stays_valid_and_comes_back() {
    let folders = ["kmehr-recipe-fhc", "kmehr-smals", "sumehr-ttc2023"];
    let Some(mut all) = files(&folders, &[".xml", ".kmehr"]) else { return };
    let samples = top().join("../shared/reference/samples");
    for folder in ["kmehr-ebirth", "kmehr-medication-scheme", "kmehr-recipe-prescription", "kmehr-sumehr"] {
        let entries = fs::read_dir(samples.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        all.extend(entries.filter(|path| path.is_file()));
    }
    all.retain(|file| fs::read_to_string(file).unwrap().contains("kmehrmessage"));
    assert!(all.len() >= 40, "{}", all.len());
    let scratch = tempfile::tempdir().unwrap();
    let (mut sent, mut delivered) = (Vec::new(), Vec::new());
    for (number, file) in all.iter().enumerate() {
        let input = fs::read_to_string(file).unwrap();
        let (summary, out) =
            run(&compiled("kmehr"), input.as_bytes()).unwrap_or_else(|error| panic!("{}: {error:?}", file.display()));
        assert_eq!(summary.rows_in, input.matches("<folder>").count() as u64, "{}", file.display());
        assert_eq!(summary.rows_in, summary.rows_out);
        for secret in ["id", "familyname", "firstname", "telecomnumber", "street"]
            .iter()
            .flat_map(|name| texts(&patients(&input), name))
        {
            let is_there = out.split(|c: char| !c.is_alphanumeric()).any(|word| word == secret);
            assert!(secret.len() < 4 || !is_there, "{}: {secret} is left", file.display());
        }
        let restored =
            back(&compiled("kmehr"), out.as_bytes()).unwrap_or_else(|error| panic!("{}: {error:?}", file.display()));
        for name in ["id", "date"] {
            assert_eq!(texts(&patients(&restored), name), texts(&patients(&input), name), "{}", file.display());
        }
        let path = scratch.path().join(format!("{number}.xml"));
        fs::write(&path, out).unwrap();
        sent.push(file.clone());
        delivered.push(path);
    }
    let (Some(before), Some(after)) = (valid(&sent), valid(&delivered)) else { return };
    assert!(before.len() >= 35, "{}", before.len());
    for (sent, delivered) in sent.iter().zip(&delivered) {
        let was = before.contains(&sent.display().to_string());
        assert!(!was || after.contains(&delivered.display().to_string()), "{} is valid no more", sent.display());
    }
}

#[test]
fn other_xml_goes_through_its_projects_without_who_is_concerned() {
    let Some(mut smoa) = files(&["kmehr-smals"], &[".xml"]) else { return };
    smoa.retain(|file| fs::read_to_string(file).unwrap().contains("single-message"));
    for file in &smoa {
        let out = output(&compiled("xml-smoa"), &fs::read_to_string(file).unwrap());
        for secret in ["12345678901", "John", "Doe", "Donald", "Duck", "Langestraat", "80000551"] {
            assert!(!out.contains(secret), "{}: {secret}", file.display());
        }
        let restored = back(&compiled("xml-smoa"), out.as_bytes()).unwrap();
        assert!(restored.contains("12345678901"), "{}", file.display());
    }
    let Some(ccda) = files(&["ccda-hl7"], &[".xml", ".XML"]) else { return };
    for file in &ccda {
        let input = fs::read_to_string(file).unwrap();
        let out = output(&compiled("xml-ccda"), &input);
        for secret in ["given", "family", "streetAddressLine"].iter().flat_map(|name| texts(&input, name)) {
            let is_there = out.split(|c: char| !c.is_alphanumeric()).any(|word| word == secret);
            assert!(secret.len() < 6 || !is_there, "{}: {secret}", file.display());
        }
        assert!(out.contains("P1.1-") && out.contains("codeSystem="), "{}", file.display());
    }
    let Some(fhir) = files(&["sumehr-ttc2023"], &[".fhir"]) else { return };
    for file in &fhir {
        let (summary, out) = run(&compiled("xml-fhir"), &fs::read(file).unwrap()).unwrap();
        assert!(
            summary.rows_out > 1 && !out.contains("JANSSENS") && !out.contains("49112002395"),
            "{}",
            file.display()
        );
    }
    assert_eq!((smoa.len(), ccda.len(), fhir.len()), (4, 4, 2));
}

/// Resources of a batch in JSON, however it holds them.
fn resources(text: &str) -> Vec<Value> {
    let values: Vec<Value> = serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>().unwrap();
    let entries = |value: &Value| value["entry"].as_array().cloned().filter(|_| value["resourceType"] == "Bundle");
    values
        .into_iter()
        .flat_map(|value| match entries(&value) {
            Some(entries) => {
                entries.into_iter().map(|e| if e["resource"].is_null() { e } else { e["resource"].clone() }).collect()
            }
            None => vec![value],
        })
        .collect()
}

/// Everything that can be referred to, and every reference.
fn links(resources: &[Value]) -> (BTreeSet<String>, Vec<String>) {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(name, value)| match value {
                Value::String(text) if name == "reference" => found.push(text.clone()),
                value => references(value, found),
            }),
            Value::Array(elements) => elements.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let (mut targets, mut found) = (BTreeSet::new(), Vec::new());
    for resource in resources {
        let kind = resource["resourceType"].as_str().unwrap_or_default();
        if let Some(id) = resource["id"].as_str() {
            targets.insert(format!("{kind}/{id}"));
        }
        for identifier in resource["identifier"].as_array().into_iter().flatten() {
            let part = |name: &str| identifier[name].as_str().unwrap_or_default().to_owned();
            targets.insert(format!("{kind}?identifier={}|{}", part("system"), part("value")));
        }
        for contained in resource["contained"].as_array().into_iter().flatten() {
            targets.insert(format!("#{}", contained["id"].as_str().unwrap_or_default()));
        }
        references(resource, &mut found);
    }
    (targets, found)
}

/// How many references of each type hold, and how many do not.
fn held(resources: &[Value]) -> BTreeMap<(String, bool), usize> {
    let (targets, references) = links(resources);
    let mut counts = BTreeMap::new();
    for reference in &references {
        let kind = reference.split(['/', '?', ':']).next().unwrap_or_default();
        let kind = if kind.starts_with(|c: char| c.is_ascii_uppercase()) { kind } else { "" };
        *counts.entry((kind.to_owned(), targets.contains(reference))).or_default() += 1;
    }
    counts
}

#[test]
fn every_fhir_resource_goes_through_its_links_hold_and_it_comes_back() {
    let folders = [
        "fhir-be-examples/be-fhir",
        "fhir-be-examples/medication",
        "fhir-be-examples/vaccination",
        "fhir-be-examples/lab",
    ];
    let Some(mut all) = files(&folders, &[".json"]) else { return };
    all.extend(
        fs::read_dir(top().join("../shared/reference/samples/fhir")).unwrap().map(|entry| entry.unwrap().path()),
    );
    assert!(all.len() > 50, "{}", all.len());
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for file in &all {
        let input = fs::read_to_string(file).unwrap();
        let (summary, out) = run(&compiled("fhir-all"), input.as_bytes())
            .unwrap_or_else(|error| panic!("{}: {error:?}", file.display()));
        assert_eq!(summary.rows_in, summary.rows_out, "{}", file.display());
        let restored =
            back(&compiled("fhir-all"), out.as_bytes()).unwrap_or_else(|error| panic!("{}: {error:?}", file.display()));
        let (sent, came) = (resources(&input), resources(&restored));
        let ids = |all: &[Value]| links(all).1.into_iter().collect::<BTreeSet<_>>();
        assert_eq!(ids(&came), ids(&sent), "{}", file.display());
        before.extend(sent);
        after.extend(resources(&out));
    }
    assert_eq!(held(&before), held(&after));
    parse_with_oracle(&before, &after);
}

#[test]
fn a_bulk_export_goes_through_as_one_batch_and_every_link_holds() {
    let Some(all) = files(&["fhir-ndjson-10"], &[".ndjson"]) else { return };
    let log = all.iter().find(|file| file.ends_with("log.ndjson")).unwrap();
    assert_eq!(refused(&compiled("fhir-all"), &fs::read(log).unwrap()).code, "ZGL-TTP-FORMAT", "a log is no FHIR");
    let mut batch = String::new();
    for file in all.iter().filter(|file| *file != log) {
        let text = fs::read_to_string(file).unwrap();
        // Every patient and everything that others refer to, and a part of the many: a debug build is slow.
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let most = if name.starts_with("Document") || name.starts_with("Procedure") || name.starts_with("Medication") {
            150
        } else {
            usize::MAX
        };
        text.lines().take(most).for_each(|line| batch.extend([line, "\n"]));
    }
    let (summary, out) = run(&compiled("fhir-all"), batch.as_bytes()).unwrap();
    assert_eq!((summary.rows_in, summary.bad_rows), (summary.rows_out, 0));
    let (before, after) = (resources(&batch), resources(&out));
    let counts = held(&before);
    assert_eq!(counts, held(&after));
    assert!(
        counts[&("Patient".to_owned(), true)] > 1_000 && counts[&("Practitioner".to_owned(), true)] > 100,
        "{counts:?}"
    );
    for patient in before.iter().filter(|resource| resource["resourceType"] == "Patient") {
        for secret in [&patient["id"], &patient["name"][0]["family"], &patient["telecom"][0]["value"]] {
            assert!(!out.contains(secret.as_str().unwrap()), "{secret}");
        }
    }
}

const ORACLE: &str = r#"
import json, sys, warnings
warnings.simplefilter("ignore")
from fhir.resources.R4B import get_fhir_model_class
def parses(resource):
    try:
        get_fhir_model_class(resource["resourceType"]).model_validate(resource)
        return True
    except Exception as error:
        return False
before, after = json.load(open(sys.argv[1])), json.load(open(sys.argv[2]))
for kind in sorted({r["resourceType"] for r in before}):
    good = [sum(parses(r) for r in all if r["resourceType"] == kind) for all in (before, after)]
    print(kind, *good)
"#;

/// What parsed before, parses after.
fn parse_with_oracle(before: &[Value], after: &[Value]) {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["before.json", "after.json"].map(|name| folder.path().join(name));
    fs::write(&paths[0], serde_json::to_vec(before).unwrap()).unwrap();
    fs::write(&paths[1], serde_json::to_vec(after).unwrap()).unwrap();
    let python = top().join("target/oracles/bin/python");
    let run = Command::new(if python.exists() { &python } else { Path::new("python3") })
        .args(["-c", ORACLE])
        .args(&paths)
        .output();
    match run {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8(output.stdout).unwrap();
            let mut total = 0;
            for line in text.lines() {
                let [kind, before, after] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
                assert!(after.parse::<usize>().unwrap() >= before.parse::<usize>().unwrap(), "{kind}: {line}");
                total += before.parse::<usize>().unwrap();
            }
            assert!(total > 50, "{text}");
        }
        run => {
            assert!(!is_required(), "python with the package fhir.resources is needed: {run:?}");
            eprintln!("SKIPPED: no python with the package fhir.resources");
        }
    }
}

#[test]
fn the_province_of_every_postcode_is_that_of_its_municipality() {
    let Some(folder) = inputs("belgium") else { return };
    let codes: Value = serde_json::from_slice(&fs::read(folder.join("postal-codes.json")).unwrap()).unwrap();
    let rows: Vec<_> = codes
        .as_array()
        .unwrap()
        .iter()
        .map(|c| format!("{},{}\n", c["postalCode"].as_str().unwrap(), c["municipality"].as_str().unwrap()))
        .collect();
    assert!(rows.len() > 1_000);
    let project = project(
        "rows = \"keep\"\n[[fields]]\npath = \"postcode\"\nkind = \"postcode\"\naction = \"generalise\"\nto = \"province\"\n\
         [[fields]]\npath = \"nis\"\nkind = \"nis\"\naction = \"generalise\"\nto = \"province\"",
    );
    let out = output(&project, &format!("postcode,nis\n{}", rows.concat()));
    let differs = |(row, _): &(&str, &String)| row.split_once(',').is_none_or(|(postcode, nis)| postcode != nis);
    assert_eq!(out.lines().skip(1).zip(&rows).filter(differs).collect::<Vec<_>>(), []);
}

#[test]
fn reference_tables_come_out_whole_and_in_utf_8() {
    let folder = top().join("../shared/reference/samples/csv-reference-tables");
    if !folder.is_dir() {
        eprintln!("SKIPPED: the reference tables are absent");
        return;
    }
    for (name, file, expected) in [
        ("galenic-forms", "GALENIC_FORMS_v20130826.csv", "G\u{e9}lules"),
        ("cd-unit", "cd-unit_v20140616.csv", "PERCENT VOL./VOL."),
    ] {
        let bytes = fs::read(folder.join(file)).unwrap();
        let (summary, out) = run(&compiled(name), &bytes).unwrap();
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count();
        assert_eq!(summary.rows_out, lines as u64 - 1, "{name}");
        assert!(out.contains(expected), "{name}");
    }
}

#[test]
fn tables_in_json_arrays_come_out_row_by_row() {
    let Some(folder) = inputs("belgium") else { return };
    for (name, file, expected) in [
        ("be-postal-codes", "postal-codes.json", "\"municipality\":\"21000\""),
        ("be-municipalities", "municipalities.json", "Li\u{e8}ge"),
        ("be-provinces", "provinces.json", "Provincie Antwerpen"),
    ] {
        let input = fs::read_to_string(folder.join(file)).unwrap();
        let rows = serde_json::from_str::<Vec<Value>>(&input).unwrap().len() as u64;
        let (summary, out) = run(&compiled(name), input.as_bytes()).unwrap();
        assert_eq!((summary.rows_in, summary.rows_out, out.lines().count() as u64), (rows, rows, rows), "{name}");
        assert!(out.contains(expected), "{name}: {}", out.lines().next().unwrap());
    }
}

#[test]
fn tables_without_patients_go_through_too() {
    let Some(folder) = inputs("synthea-csv-ohdsi") else { return };
    for name in ["organizations", "payers", "providers"] {
        let input = fs::read_to_string(folder.join(format!("{name}.csv"))).unwrap();
        let (summary, _) = run(&compiled(&format!("synthea-{name}")), input.as_bytes()).unwrap();
        assert_eq!(summary.rows_out, summary.rows_in, "{name}");
    }
}
