//! What is stored and sent keeps its form: golden files of every payload type, and the JSON Schemas that describe them.

use crate::checked_in::{self, pretty};
use crate::{examples, oracle};
use std::collections::BTreeSet;
use std::fmt::Debug;
use zegel_schemas::{Payload, documents, messages};

/// Holds that the golden file of `P` is what the examples are written as, and is read as the examples.
fn hold<P: Payload + PartialEq + Debug>(examples: Vec<P>, seen: &mut BTreeSet<&'static str>) {
    let file = format!("golden/{}.json", P::TYPE);
    checked_in::same(&file, &pretty(&examples));
    let read: Vec<P> = serde_json::from_str(&std::fs::read_to_string(checked_in::path(&file)).unwrap()).unwrap();
    assert_eq!(read, examples, "{file} is read as something else");
    assert!(seen.insert(P::TYPE));
}

#[test]
fn every_payload_is_written_and_read_as_its_golden_file() {
    let mut seen = BTreeSet::new();
    hold(examples::submissions(), &mut seen);
    hold(examples::open_boxes(), &mut seen);
    hold(examples::deliveries(), &mut seen);
    hold(examples::commands(), &mut seen);
    hold(examples::expiries(), &mut seen);
    hold(examples::inbounds(), &mut seen);
    hold(examples::quarantine(), &mut seen);
    hold(examples::wakes(), &mut seen);
    hold(examples::opened(), &mut seen);
    hold(examples::answers(), &mut seen);
    hold(examples::seen(), &mut seen);
    hold(examples::deadlines(), &mut seen);
    hold(examples::alerts(), &mut seen);
    hold(examples::enrolments(), &mut seen);
    hold(examples::entries(), &mut seen);
    hold(examples::windows(), &mut seen);
    hold(examples::bags(), &mut seen);
    hold(examples::own_bags(), &mut seen);
    hold(examples::archive_tokens(), &mut seen);
    hold(examples::logged(), &mut seen);
    hold(examples::checkpoints_due(), &mut seen);
    hold(examples::checkpoint_stamps(), &mut seen);
    hold(examples::cosigned(), &mut seen);
    hold(examples::inscriptions(), &mut seen);
    hold(examples::mutations(), &mut seen);
    hold(examples::notifications(), &mut seen);
    hold(examples::feed_acks(), &mut seen);
    hold(examples::seals(), &mut seen);
    let types: BTreeSet<_> = messages::all_schemas().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(seen, types, "a payload type without a golden file");
}

#[test]
fn what_travels_between_stages_is_under_300_bytes() {
    fn largest<P: Payload>(examples: &[P]) -> usize {
        examples.iter().map(|example| serde_json::to_vec(example).unwrap().len()).max().unwrap()
    }
    // Without reasons, titles and metadata, which are the sender's own text.
    assert!(largest(&examples::answers()[..2]) < 300);
    assert!(largest(&examples::opened()) < 300);
    assert!(largest(&examples::seen()) < 300);
    assert!(largest(&examples::bags()) < 300);
    assert!(largest(&examples::entries()) < 300);
    assert!(largest(&examples::logged()) < 300);
}

#[test]
fn the_json_schemas_are_the_ones_checked_in() {
    let documents = documents::all();
    for (name, document) in &documents {
        checked_in::same(&format!("json/{name}"), &pretty(document));
    }
    checked_in::exactly("json", documents.into_iter().map(|(name, _)| name));
}

/// Validates every example, and every example with one required member left out, against the checked-in schema. Input
/// lines: schema file, file with an array of examples. Output: how many were accepted and how many spoilt ones refused.
const JSONSCHEMA: &str = "
import json, sys
from jsonschema import Draft202012Validator
accepted = refused = 0
for line in sys.stdin:
    schema, examples = (json.load(open(path)) for path in line.rstrip('\\n').split('\\t'))
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    for example in examples:
        validator.validate(example)
        accepted += 1
        for member in schema.get('required', []):
            spoilt = {name: value for name, value in example.items() if name != member}
            assert not validator.is_valid(spoilt), (schema['$id'], member)
            refused += 1
print(accepted, refused)
";

#[test]
fn python_jsonschema_accepts_every_golden_payload_and_refuses_spoilt_ones() {
    let line = |kind: &str| {
        let (schema, golden) = (format!("json/{kind}.schema.json"), format!("golden/{kind}.json"));
        format!("{}\t{}\n", checked_in::path(&schema).display(), checked_in::path(&golden).display())
    };
    let mut input: String = messages::all_schemas().iter().map(|(kind, _)| line(kind)).collect();
    input.push_str(&line("envelope"));
    let Some(output) = oracle::python("jsonschema", JSONSCHEMA, &input) else { return };
    let counts: Vec<u32> = output.split_whitespace().map(|count| count.parse().unwrap()).collect();
    assert!(counts[0] > 30 && counts[1] > 100, "too little was checked: {output}");
}
