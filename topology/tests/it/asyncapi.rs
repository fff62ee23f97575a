//! The AsyncAPI document: checked in, complete, without loose references, and valid by the specification's own schema.

use crate::same;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use zegel_topology::{CHANNELS, render};

fn document() -> Value {
    serde_json::from_str(&render::asyncapi()).unwrap()
}

#[test]
fn the_document_checked_in_is_the_one_of_the_table() {
    same("asyncapi.json", &render::asyncapi());
}

#[test]
fn the_document_has_every_channel_message_and_stage() {
    let document = document();
    assert_eq!(document["asyncapi"], "3.0.0");
    assert_eq!(document["channels"].as_object().unwrap().len(), CHANNELS.len());
    for channel in CHANNELS {
        let described = &document["channels"][channel.name];
        assert_eq!(described["address"], channel.name);
        for kind in channel.types {
            assert_eq!(document["components"]["messages"][kind]["name"], *kind);
            assert!(described["messages"].get(kind).is_some());
        }
        for group in channel.groups {
            let operation = &document["operations"][format!("{}-receives-{}", group.name, channel.name)];
            assert_eq!(operation["action"], "receive");
        }
    }
}

/// Every `$ref` in the document.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|member| references(member, found));
        }
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 100, "{}", found.len());
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("a reference into the document");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

/// Validates the document on standard input against the AsyncAPI 3.0 schema named by the argument, then makes sure that
/// two spoilt copies of it are refused.
const VALIDATE: &str = "
import copy, json, sys
from jsonschema import Draft7Validator
document, validator = json.load(open(sys.argv[2])), Draft7Validator(json.load(open(sys.argv[1])))
errors = sorted(validator.iter_errors(document), key=str)
for error in errors[:5]:
    print(list(error.absolute_path), error.message[:300])
no_action, no_info = copy.deepcopy(document), copy.deepcopy(document)
next(iter(no_action['operations'].values())).pop('action')
no_info.pop('info')
assert not validator.is_valid(no_action) and not validator.is_valid(no_info), 'the schema accepts anything'
print(len(errors), 'errors')
";

/// The published JSON Schema of AsyncAPI (npm package `@asyncapi/specs`) in the oracles' folder.
fn published_schema(oracles: &Path) -> PathBuf {
    oracles.join("node_modules/@asyncapi/specs/schemas/3.0.0-without-$id.json")
}

#[test]
fn the_published_schema_of_asyncapi_accepts_the_document() {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::path("../target"), PathBuf::from);
    let oracles = [target.join("oracles"), crate::path("../target/oracles")];
    let Some(oracles) = oracles.into_iter().find(|oracles| published_schema(oracles).exists()) else {
        // The schema comes by npm, which a small machine need not have; where it has it, `make test` installs it.
        println!("SKIPPED: npm package @asyncapi/specs is not in target/oracles/node_modules");
        return;
    };
    let output = Command::new(oracles.join("bin/python"))
        .args(["-c", VALIDATE])
        .args([published_schema(&oracles), crate::path("asyncapi.json")])
        .output()
        .expect("the oracles' python starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.trim() == "0 errors", "{text}");
}
