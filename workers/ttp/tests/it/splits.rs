//! Split batches: identifiers become tokens, what is sealed for the recipient passes as it is, and what could name the sender does not.

use crate::world::{OTHER, World, enriched, restored};
use crate::{HEAD, SENDER};
use schemas::Millis;
use schemas::messages::{Content, Deliver, Part};
use std::fmt::Write;
use std::io::Read;
use zegel_core::Objects;
use zegel_crypto::envelope;
use zegel_crypto::signed::Identity;
use zegel_ttp::ProjectDocument;
use zegel_ttp::split::{SEALED_MAX, SEALED_NAME, container};

const FIELDS: &str = "[[fields]]\npath = \"row\"\nkind = \"row-number\"\naction = \"keep\"\nrequired = true\n\
    [[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\n";
const NUMBERS: [&str; 2] = ["00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"];
const MEDICAL: &str =
    "row,diagnosis\n00112233445566778899aabbccddeeff,canary-one\nffeeddccbbaa99887766554433221100,canary-two\n";

fn identity(name: &str) -> Identity {
    Identity::create(name, Millis(1_795_305_600_000)).unwrap()
}

fn terms(recipient: &Identity) -> String {
    let pem = recipient.certificate_pem().unwrap();
    format!("split = {{ row = \"row\", columns = [\"diagnosis\"], sealed_for = \"\"\"\n{pem}\"\"\" }}\n")
}

fn identifiers() -> String {
    format!("row,niss\n{},85061511796\n{},85061511895\n", NUMBERS[0], NUMBERS[1])
}

fn sealed(recipient: &Identity) -> Vec<u8> {
    envelope::seal(&recipient.certificate_pem().unwrap(), MEDICAL.as_bytes()).unwrap()
}

fn batch(sealed: &[u8]) -> Vec<u8> {
    container(("identifiers.csv", identifiers().as_bytes()), sealed).unwrap()
}

fn content(world: &World, part: &Part) -> Vec<u8> {
    let Content::Object(object) = &part.content else { panic!("an object") };
    let mut bytes = Vec::new();
    world.objects.open(object).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_recipient_gets_tokens_and_the_sealed_part_and_the_ttp_never_has_it_in_clear() {
    let recipient = identity("recipient");
    let mut world = World::with_fields(&terms(&recipient), FIELDS);
    let sealed = sealed(&recipient);
    let effects = world.give_bytes(SENDER, &batch(&sealed), None);
    let deliver: Deliver = effects.produced[0].envelope.payload().unwrap();
    let names: Vec<&str> = deliver.parts.iter().map(|part| part.file_name.as_str()).collect();
    assert_eq!(names, ["batch.csv", SEALED_NAME]);
    let tokens = String::from_utf8(content(&world, &deliver.parts[0])).unwrap();
    assert!(NUMBERS.iter().all(|number| tokens.contains(&format!("{number},P1.1-"))), "{tokens}");
    assert!(!tokens.contains("85061511"));
    let passed = content(&world, &deliver.parts[1]);
    assert_eq!(passed, sealed, "it passes as it is");
    assert_eq!(
        (deliver.parts[1].size, deliver.parts[1].digest),
        (sealed.len() as u64, zegel_crypto::hash::sha256(&sealed))
    );
    assert_eq!(&envelope::open(&recipient, &passed).unwrap()[..], MEDICAL.as_bytes());
    // Everything that the TTP wrote, as it had it: objects, state, messages. The first object is what came in.
    let mut had: Vec<u8> = deliver.parts.iter().flat_map(|part| content(&world, part)).collect();
    had.extend(effects.changes.iter().filter_map(|change| change.value.clone()).flatten());
    had.extend(effects.produced.iter().flat_map(|produced| produced.envelope.encode().unwrap()));
    assert!(!had.windows(6).any(|window| window == b"canary"), "the medical part is in clear");
}

#[test]
fn a_sealed_part_that_could_name_its_sender_or_is_for_anybody_else_refuses_the_whole() {
    let (recipient, other) = (identity("recipient"), identity("hospital"));
    let mut world = World::with_fields(&terms(&recipient), FIELDS);
    let good = sealed(&recipient);
    let signed = other.sign(MEDICAL.as_bytes(), Millis(1_795_305_600_000)).unwrap();
    let mut inside = good.clone();
    let data = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
    let place = inside.windows(data.len()).rposition(|window| window == data).unwrap();
    inside[place + 10] = 2;
    for (sealed, why) in [
        (&signed, "not CMS EnvelopedData"),
        (&inside, "not plain data"),
        (&sealed(&other), "one recipient alone"),
        (&MEDICAL.as_bytes().to_vec(), "not CMS EnvelopedData"),
        (&good[..good.len() - 1].to_vec(), "not CMS EnvelopedData"),
    ] {
        let effects = world.give_bytes(SENDER, &batch(sealed), None);
        assert_eq!(world.codes(&effects), ["ZGL-TTP-SEALED"], "{why}");
        assert_eq!(effects.produced.len(), 1, "{why}: something was forwarded");
        assert!(String::from_utf8_lossy(&effects.produced[0].envelope.encode().unwrap()).contains(why), "{why}");
    }
    if let Some(for_two) = sealed_for_two(&recipient, &other) {
        let effects = world.give_bytes(SENDER, &batch(&for_two), None);
        assert_eq!(world.codes(&effects), ["ZGL-TTP-SEALED"], "two may open it");
    }
    let effects = world.give_bytes(SENDER, &batch(&good), None);
    assert_eq!(world.codes(&effects), Vec::<String>::new());
}

/// As OpenSSL seals for two; none where it is absent.
fn sealed_for_two(one: &Identity, other: &Identity) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).unwrap();
    write("one.pem", one.certificate_pem().unwrap().as_bytes());
    write("other.pem", other.certificate_pem().unwrap().as_bytes());
    write("text", MEDICAL.as_bytes());
    let arguments = "cms -encrypt -aes256 -binary -in text -outform DER -out sealed one.pem other.pem";
    let run = std::process::Command::new("openssl").current_dir(folder.path()).args(arguments.split(' ')).output();
    let Ok(output) = run else {
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "openssl is needed");
        eprintln!("SKIPPED: openssl is absent");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(std::fs::read(folder.path().join("sealed")).unwrap())
}

#[test]
fn what_is_no_container_of_two_parts_or_has_a_bad_row_is_refused() {
    let recipient = identity("recipient");
    let mut world = World::with_fields(&terms(&recipient), FIELDS);
    let good = batch(&sealed(&recipient));
    let bad_row = container(("i", identifiers().replace("796", "797").as_bytes()), &sealed(&recipient)).unwrap();
    let unnumbered = container(("i", identifiers().replace(NUMBERS[0], "1").as_bytes()), &sealed(&recipient)).unwrap();
    let renamed = {
        let mut renamed = good.clone();
        let place = renamed.windows(7).position(|window| window == b"medical").unwrap();
        renamed[place] = b'M';
        renamed
    };
    let huge = container(("i", identifiers().as_bytes()), &vec![0; usize::try_from(SEALED_MAX).unwrap() + 1]).unwrap();
    let more = [&good[..], b"more"].concat();
    for (batch, code) in [
        (identifiers().as_bytes(), "ZGL-TTP-FORMAT"),
        (&good[..good.len() / 2], "ZGL-TTP-FORMAT"),
        (&good[..511], "ZGL-TTP-FORMAT"),
        (&more, "ZGL-TTP-FORMAT"),
        (&renamed, "ZGL-TTP-FORMAT"),
        (&huge, "ZGL-TTP-SIZE"),
        (&bad_row, "ZGL-TTP-ROWS ZGL-ROW-SSIN"),
        (&unnumbered, "ZGL-TTP-ROWS ZGL-ROW-NUMBER"),
    ] {
        let effects = world.give_bytes(SENDER, batch, None);
        assert_eq!(world.codes(&effects), [code]);
        assert_eq!(effects.produced.len(), 1, "{code}: something was forwarded");
    }
}

#[test]
fn split_batches_wait_for_other_senders_and_their_identifiers_come_back() {
    let recipient = identity("recipient");
    let mut terms = terms(&recipient);
    let _ = write!(
        terms,
        "direction = \"with-return\"\nreturns = {{ fields = [\"score\"] }}\nrelease = {{ min_senders = 2 }}\n"
    );
    let mut world = World::with_fields(&terms, FIELDS);
    assert!(world.give_bytes(SENDER, &batch(&sealed(&recipient)), None).produced.is_empty());
    let effects = world.give_bytes(OTHER, &batch(&sealed(&recipient)), None);
    let delivered = world.delivered(&effects);
    assert_eq!(delivered.len(), 2);
    assert!(delivered.iter().all(|one| one.deliver.parts.len() == 2));
    let back = world.back(delivered[0].handle, &enriched(&delivered[0].text));
    let (_, mut rows) = restored(&back);
    rows.sort();
    assert!(rows[0].starts_with(&format!("{},85061511796,", NUMBERS[0])), "{rows:?}");
}

#[test]
fn contradictions_are_refused_with_their_rule() {
    let good = format!("{HEAD}{}{FIELDS}", terms(&identity("recipient")));
    ProjectDocument::parse(&good).unwrap();
    for (from, to, expected) in [
        ("row = \"row\"", "row = \"niss\"", "split.row is"),
        ("required = true", "", "split.row is"),
        ("[\"diagnosis\"]", "[]", "split.columns are"),
        ("[\"diagnosis\"]", "[\"niss\"]", "not sealed too"),
        ("split = {", "bad_rows = \"refuse-row\"\nsplit = {", "cannot be left out"),
        ("BEGIN CERTIFICATE", "BEGIN OTHER", "not a certificate"),
        ("sealed_for", "sealed_to", "sealed_to"),
    ] {
        let error = ProjectDocument::parse(&good.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let error = ProjectDocument::parse(&format!("{HEAD}{FIELDS}")).unwrap_err().to_string();
    assert!(error.contains("row-number goes with split"), "{error}");
}
