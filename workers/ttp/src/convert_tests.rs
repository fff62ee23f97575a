//! Data sets of every format, delivered before a rotation, against the same batches delivered after it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::{CompiledProject, transform};
use std::io::BufReader;

const ROOT: [u8; 32] = [7; 32];
const SENDERS: [&str; 2] = ["NIHII-HOSPITAL:71000436", "NIHII-HOSPITAL:71000931"];

fn document(format: &str, fields: &str) -> ProjectDocument {
    let text = format!(
        "name = \"p\"\nsenders = [\"{}\", \"{}\"]\nrecipient = \"CBE:0123456749\"\nrows = \"keep\"\n\
         valid = {{ from = \"2026-01-01\", until = \"2030-12-31\" }}\n{format}\n{fields}",
        SENDERS[0], SENDERS[1]
    );
    ProjectDocument::parse(&text).unwrap_or_else(|error| panic!("{error}"))
}

fn field(path: &str, rest: &str) -> String {
    format!("[[fields]]\npath = \"{path}\"\n{rest}\n")
}

fn deliver(document: &ProjectDocument, epoch: u32, sender: usize, batch: &str) -> String {
    let project = CompiledProject::with_epoch(document.clone(), &ROOT, epoch).unwrap();
    let mut out = Vec::new();
    let sender = SENDERS[sender].parse().unwrap();
    let mut random = crate::random::tests::source(u64::from(epoch));
    transform(&project, &sender, &mut batch.as_bytes(), &mut out, None, &mut random).unwrap();
    String::from_utf8(out).unwrap()
}

fn convert(document: &ProjectDocument, epoch: u32, text: &str, block: usize) -> (String, Counts) {
    let mut converter = Converter::new([document], &ROOT, epoch).unwrap();
    let mut out = Vec::new();
    let mut random = crate::random::tests::source(9);
    let mut input = BufReader::with_capacity(block, text.as_bytes());
    let counts = converter.run(&mut input, &mut out, &mut random).unwrap();
    (String::from_utf8(out).unwrap(), counts)
}

const CSV: &str = "niss,no,note\n85061511796,A17,first\n85061511895,,\"a, b\"\n";

fn table() -> ProjectDocument {
    let fields = [
        field("niss", "kind = \"ssin\"\naction = \"pseudonym\""),
        field("no", "action = \"pseudonym\"\ndomain = \"no\"\nscope = \"sender\""),
        field("note", "action = \"keep\""),
    ];
    document("", &fields.concat())
}

#[test]
fn what_was_delivered_before_a_rotation_becomes_what_is_delivered_after_it_however_it_is_cut() {
    for sender in [0, 1] {
        let (old, new) = (deliver(&table(), 1, sender, CSV), deliver(&table(), 3, sender, CSV));
        assert_ne!(old, new);
        for block in [1, 7, 64, 4_096] {
            let (converted, counts) = convert(&table(), 3, &old, block);
            assert_eq!(converted, new, "blocks of {block}");
            assert_eq!((counts.reversible, counts.converted(), counts.damaged), (3, 3, 0));
        }
    }
    let second = deliver(&table(), 2, 0, CSV);
    assert_eq!(convert(&table(), 3, &second, 64).0, deliver(&table(), 3, 0, CSV), "an earlier generation is forgotten");
}

#[test]
fn trees_with_ids_references_and_texts_of_their_own_are_converted_as_well() {
    let batch = r#"{"resourceType":"Observation","id":"o1","subject":{"reference":"Patient/p1"},"status":"final"}"#;
    let fields = [
        field("*.id", "kind = \"fhir-id\"\naction = \"pseudonym\"\nscope = \"sender\""),
        field("**.reference", "kind = \"fhir-reference\"\naction = \"pseudonym\"\nscope = \"sender\""),
        field("*.status", "action = \"keep\""),
    ];
    let fhir = document("format = \"fhir\"", &fields.concat());
    let (converted, counts) = convert(&fhir, 2, &deliver(&fhir, 1, 0, batch), 100);
    assert_eq!((converted, counts.ids), (deliver(&fhir, 2, 0, batch), 2));
    let message = "MSH|^~\\&|a|b|c|d|20260101||ADT^A01|1|P|2.5\rPID|1||85061511796^^^NN\r";
    let fields = [
        field("PID.3.1", "kind = \"ssin\"\naction = \"pseudonym\""),
        field("MSH.9", "action = \"keep\""),
        field("MSH.12", "action = \"keep\""),
    ];
    let hl7 = document("format = \"hl7v2\"\nunlisted = \"drop\"", &fields.concat());
    let (converted, counts) = convert(&hl7, 2, &deliver(&hl7, 1, 0, message), 50);
    assert_eq!((converted, counts.reversible), (deliver(&hl7, 2, 0, message), 1));
}

#[test]
fn random_tokens_still_do_not_link_and_one_way_foreign_and_damaged_ones_are_told_apart() {
    let fields = [
        field("a", "action = \"random\""),
        field("b", "action = \"one-way\"\ndomain = \"d\""),
        field("c", "action = \"pseudonym\"\ndomain = \"d\""),
    ];
    let mixed = document("", &fields.concat());
    let old = deliver(&mixed, 1, 0, "a,b,c\nx,x,x\n");
    let (converted, counts) = convert(&mixed, 2, &old, 64);
    assert_eq!((counts.random, counts.one_way, counts.reversible), (1, 1, 1));
    let (again, _) = convert(&mixed, 2, &converted, 64);
    assert_eq!(again, converted, "tokens of the present generation are changed");
    let tokens: Vec<&str> = old.lines().nth(1).unwrap().split(',').collect();
    let damaged = format!("see {}x, P1.1-00000000.AAAA. P1.x P1. {} end.", tokens[2], &tokens[0][..30]);
    let (text, counts) = convert(&mixed, 2, &damaged, 16);
    assert_eq!((text.as_str(), counts.damaged, counts.foreign), (damaged.as_str(), 2, 1));
}

#[test]
fn what_cannot_be_found_or_has_no_earlier_keys_is_said() {
    let fields = field(
        "niss",
        "kind = \"ssin\"\naction = \"pseudonym\"\nformat = \"ssin\"\nname = \"niss_replaced\"\nmay_be_real = true",
    );
    let unmarked = document("", &fields);
    assert_eq!(Converter::new([&unmarked], &ROOT, 2).err(), Some(ConvertError::Unmarked("niss".to_owned())));
    assert_eq!(Converter::new([&table()], &ROOT, 1).err(), Some(ConvertError::NoEarlier));
}

#[test]
fn whatever_is_no_token_passes_byte_for_byte() {
    let mut random = crate::random::tests::source(3);
    let mut bytes = vec![0; 50_000];
    random(&mut bytes);
    bytes.extend_from_slice(&[b'P'; 20_000]);
    let mut out = Vec::new();
    let mut converter = Converter::new([&table()], &ROOT, 2).unwrap();
    let counts = converter.run(&mut BufReader::with_capacity(1_000, &bytes[..]), &mut out, &mut random).unwrap();
    assert!(out == bytes && counts == Counts::default());
}
