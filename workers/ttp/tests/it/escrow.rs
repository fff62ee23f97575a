//! Escrowed fields: tokens that link for everybody, and come back where the decode role's key is, and nowhere else.

use crate::world::{BATCH, TERMS, World, enriched, restored};
use crate::{HEAD, output, project, refused, sender};
use std::sync::Arc;
use zegel_crypto::hpke::OpenKey;
use zegel_crypto::pseudonym::{EncodeKeys, Needed, PseudonymRoot};
use zegel_ttp::{CompiledProject, ProjectDocument, TransformError, one_way_keys, restore};

const FIELDS: &str = "[[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"escrow\"\n[[fields]]\npath = \"name\"\naction = \"drop\"\n\
    [[fields]]\npath = \"value\"\naction = \"keep\"\n";

fn terms(role: &OpenKey) -> String {
    format!("{TERMS}\n{}", key_line(role))
}

fn key_line(role: &OpenKey) -> String {
    format!("decode_key = \"\"\"\n{}\"\"\"\n", role.public().to_pem())
}

#[test]
fn a_return_is_decoded_where_the_decode_roles_key_is_and_refused_whole_where_it_is_not() {
    let role = Arc::new(OpenKey::generate());
    let mut world = World::with_keys(&terms(&role), FIELDS, [7; 32], &[Arc::new(OpenKey::generate()), role.clone()]);
    let one = world.exchange(BATCH);
    assert!(one.text.contains("\nE1.1-") && !one.text.contains("85061511"), "{}", one.text);
    let effects = world.back(one.handle, &enriched(&one.text));
    assert_eq!(world.codes(&effects), Vec::<String>::new());
    let (_, mut rows) = restored(&effects);
    rows.sort();
    let heads: Vec<&str> = rows.iter().map(|row| row.rsplit_once(',').unwrap().0).collect();
    assert_eq!(heads, ["85061511796,7", "85061511895,8", "85061511994,9", "niss,value"]);

    let mut without = World::with_keys(&terms(&role), FIELDS, [7; 32], &[Arc::new(OpenKey::generate())]);
    let two = without.exchange(BATCH);
    let token =
        |text: &str| text.lines().skip(1).map(|row| row.split(',').next().unwrap().to_owned()).collect::<Vec<_>>();
    let (mut here, mut there) = (token(&one.text), token(&two.text));
    here.sort();
    there.sort();
    assert_eq!(here, there, "tokens depend on who may open them");
    assert_eq!(without.refused(two.handle, &enriched(&two.text)), "ZGL-RETURN-KEY");
}

#[test]
fn an_encode_only_process_makes_the_same_tokens_and_cannot_bring_one_back() {
    let role = Arc::new(OpenKey::generate());
    let text = format!("{HEAD}rows = \"keep\"\n{}{FIELDS}", key_line(&role));
    let document = || ProjectDocument::parse(&text).unwrap();
    let (parsed, who) = (document(), sender().to_string());
    let needed: Vec<Needed<'_>> = one_way_keys(&parsed, &who).unwrap().into_iter().map(|(_, needed)| needed).collect();
    let file = PseudonymRoot::new(&[7; 32]).encode_keys("CBE:0123456749", 1, needed).to_toml();
    let keys = || EncodeKeys::from_toml(&file).unwrap();
    let encoder = CompiledProject::encode_only(document(), keys(), &sender()).unwrap();
    let delivered = output(&encoder, BATCH);
    assert_eq!(delivered, output(&project(&format!("rows = \"keep\"\n{}{FIELDS}", key_line(&role))), BATCH));
    assert!(!encoder.can_decode() && !delivered.contains("85061511"));
    let back = |project: &CompiledProject| {
        let (mut out, mut random) = (Vec::new(), |bytes: &mut [u8]| bytes.fill(0));
        let mut every = |_: u64, _: &str, _: &str| true;
        let done = restore(project, &sender(), &mut delivered.as_bytes(), &mut out, &mut random, &mut every);
        done.map(|_| String::from_utf8(out).unwrap())
    };
    let Err(TransformError::Refused(reason)) = back(&encoder) else { panic!("an encoder decoded") };
    assert_eq!((reason.rows.len(), reason.rows[0].code.as_str()), (3, "ZGL-ROW-TOKEN"));
    // A key of somebody else does not make it a decoder either, and the role's key alone is enough.
    let other = CompiledProject::encode_only(document(), keys(), &sender()).unwrap();
    assert!(back(&other.opened_by(&[Arc::new(OpenKey::generate())])).is_err());
    assert!(CompiledProject::decode_only(document(), Arc::new(OpenKey::generate())).is_err());
    let alone = CompiledProject::decode_only(document(), role).unwrap();
    assert_eq!(back(&alone).unwrap(), "niss,value\n85061511796,7\n85061511895,8\n85061511994,9\n");
    let without = root_without_escrow();
    assert!(
        CompiledProject::encode_only(document(), without, &sender()).is_err(),
        "a key is missing and nobody says so"
    );
}

fn root_without_escrow() -> EncodeKeys {
    let needed = Needed { domain: "ssin", sender: None, is_escrow: false };
    PseudonymRoot::new(&[7; 32]).encode_keys("CBE:0123456749", 1, [needed])
}

#[test]
fn contradictions_are_refused_with_their_rule() {
    let role = OpenKey::generate();
    let good = format!("{HEAD}{}{FIELDS}", key_line(&role));
    ProjectDocument::parse(&good).unwrap();
    for (from, to, expected) in [
        ("decode_key = ", "deliberation = ", "escrow needs it"),
        ("BEGIN PUBLIC", "BEGIN OTHER", "no X25519 key"),
        ("\"escrow\"", "\"one-way\"", "decode_key goes with escrow"),
        ("kind = \"ssin\"", "", "needs a domain"),
        ("kind = \"ssin\"", "kind = \"postcode\"", "too few different values"),
        ("kind = \"ssin\"", "kind = \"fhir-id\"", "does not fit an id"),
    ] {
        let error = ProjectDocument::parse(&good.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn a_wrong_number_is_a_bad_row_and_never_sealed() {
    let role = OpenKey::generate();
    let reason = refused(&project(&format!("{}{FIELDS}", key_line(&role))), b"niss,name,value\n85061511797,x,1\n");
    assert_eq!(reason.rows[0].code, "ZGL-ROW-SSIN");
}
