//! Papers that are changed, left out, swapped, signed by others or by nobody: each makes the project unusable.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::project::book::{Lawful, Listed, ProjectBook};
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use zegel_crypto::signed::Identity;

/// 2026-11-22.
const NOW: Millis = Millis(1_795_305_600_000);
const DAY_MS: i64 = 86_400_000;
const ROOT: [u8; 32] = [7; 32];

struct People {
    hospital: Identity,
    registry: Identity,
    officer: Identity,
    stranger: Identity,
}

static PEOPLE: LazyLock<People> = LazyLock::new(|| {
    let [hospital, registry, officer, stranger] =
        ["hospital", "registry", "officer", "stranger"].map(|name| Identity::create(name, NOW).unwrap());
    People { hospital, registry, officer, stranger }
});

fn officers() -> Vec<SignerCertificate> {
    vec![PEOPLE.officer.certificate().unwrap()]
}

fn document(version: u32) -> String {
    let print = |identity: &Identity| identity.certificate().unwrap().fingerprint;
    format!(
        "name = \"lab\"\nversion = {version}\nsenders = [\"NIHII-HOSPITAL:71000436\"]\nrecipient = \"CBE:0123456749\"\n\
         valid = {{ from = \"2026-01-01\", until = \"2030-12-31\" }}\n[certificates]\n\
         \"NIHII-HOSPITAL:71000436\" = \"{}\"\n\"CBE:0123456749\" = \"{}\"\n\
         [[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\n",
        print(&PEOPLE.hospital),
        print(&PEOPLE.registry)
    )
}

/// The dossier with one more decision, signed by the officer.
fn decide(dossier: &mut Dossier, deed: Deed, effective: &str) {
    let agreement = dossier.verify("lab", &officers()).unwrap();
    let text = agreement.next("lab", deed, effective.parse().unwrap()).to_toml().unwrap().into_bytes();
    let signature = PEOPLE.officer.sign(&text, NOW).unwrap();
    dossier.entries.push(SignedEntry { text, signature });
}

fn activate(dossier: &mut Dossier, text: &str, effective: &str) {
    let document = ProjectDocument::parse(text).unwrap();
    let bytes = text.as_bytes().to_vec();
    let sign = |identity: &Identity| Some(identity.sign(&bytes, NOW).unwrap());
    let signatures = vec![sign(&PEOPLE.hospital), sign(&PEOPLE.registry)];
    let digest = sha256(&bytes);
    dossier.documents.insert(document.version, SignedDocument { document: bytes, signatures });
    let signatures = dossier.signatures_of(document.version, &document).unwrap();
    let (version, root) = (document.version, sha256(&ROOT));
    decide(dossier, Deed::Activate { version, document: digest, root, trial: false, signatures }, effective);
}

fn whole() -> Dossier {
    let mut dossier = Dossier::default();
    activate(&mut dossier, &document(1), "2026-11-01");
    decide(&mut dossier, Deed::Rotate { epoch: 2 }, "2026-11-10");
    activate(&mut dossier, &document(2), "2026-11-20");
    dossier
}

fn fault(dossier: &Dossier) -> String {
    dossier.verify("lab", &officers()).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn papers_that_all_signed_hold_and_give_a_version_and_an_epoch_for_each_day() {
    let agreement = whole().verify("lab", &officers()).unwrap();
    let book = ProjectBook::default();
    let lawful = Lawful::new(&agreement, Some(&ROOT), None, &[]).unwrap();
    book.replace(HashMap::from([("lab".to_owned(), Listed::Lawful(Arc::new(lawful)))]));
    let sender = "NIHII-HOSPITAL:71000436".parse().unwrap();
    let token = |now: Millis| {
        let project = book.at("lab", now).map_err(|reason| reason.code)?;
        let mut out = Vec::new();
        let mut random = |bytes: &mut [u8]| bytes.fill(0);
        let mut batch = &b"niss\n85061511796\n"[..];
        crate::transform(&project, &sender, &mut batch, &mut out, None, &mut random)
            .map_err(|_| "transform".to_owned())?;
        Ok(String::from_utf8(out).unwrap())
    };
    let on = |day: i64| Millis(NOW.0 + (day - 22) * DAY_MS);
    assert_eq!(token(Millis(NOW.0 - 60 * DAY_MS)), Err("ZGL-TTP-EARLY".to_owned()));
    assert!(token(on(5)).unwrap().contains("P1.1-"));
    assert!(token(on(12)).unwrap().contains("P1.2-"));
    assert_eq!(token(on(21)), token(on(12)), "an amendment changed the tokens");
    assert_eq!(token(on(22)).map(|_| ()), Ok(()));
    assert_eq!(book.at("other", NOW).unwrap_err().code, "ZGL-TTP-PROJECT");
}

#[test]
fn a_document_without_every_signature_never_takes_effect() {
    let text = document(1);
    let parsed = ProjectDocument::parse(&text).unwrap();
    let bytes = text.as_bytes().to_vec();
    let hospital = PEOPLE.hospital.sign(&bytes, NOW).unwrap();
    let stranger = PEOPLE.stranger.sign(&bytes, NOW).unwrap();
    for (second, expected) in [
        (None, "has not signed"),
        (Some(stranger), "another certificate"),
        (Some(hospital.clone()), "another certificate"),
        (Some(PEOPLE.registry.sign(b"another text", NOW).unwrap()), "another document"),
        (Some(vec![1, 2, 3]), "expected form"),
    ] {
        let mut dossier = Dossier::default();
        let signatures = vec![Some(hospital.clone()), second];
        dossier.documents.insert(1, SignedDocument { document: bytes.clone(), signatures });
        let refused = dossier.signatures_of(1, &parsed).unwrap_err();
        assert!(refused.to_string().contains(expected), "{expected}: {refused}");
        // An officer who countersigns all the same is not enough.
        let forged = vec![PartySignature { certificate: Sha256([0; 32]), signature: Sha256([0; 32]) }; 2];
        let deed = Deed::Activate {
            version: 1,
            document: sha256(&bytes),
            root: sha256(&ROOT),
            trial: false,
            signatures: forged,
        };
        let entry = Entry {
            form: 1,
            project: "lab".to_owned(),
            sequence: 1,
            previous: None,
            effective: "2026-11-01".parse().unwrap(),
            deed,
        };
        let text = entry.to_toml().unwrap().into_bytes();
        let signature = PEOPLE.officer.sign(&text, NOW).unwrap();
        dossier.entries.push(SignedEntry { text, signature });
        assert!(fault(&dossier).contains(expected), "{expected}");
    }
}

#[test]
fn a_document_that_names_no_certificates_takes_effect_for_a_trial_only() {
    let text = document(1);
    let start = text.find("[certificates]").unwrap();
    let bare = format!("{}{}", &text[..start], &text[text.find("[[fields]]").unwrap()..]);
    let parsed = ProjectDocument::parse(&bare).unwrap();
    for (trial, holds) in [(false, false), (true, true)] {
        let mut dossier = Dossier::default();
        let bytes = bare.as_bytes().to_vec();
        let signatures = [&PEOPLE.stranger, &PEOPLE.stranger].map(|who| Some(who.sign(&bytes, NOW).unwrap())).to_vec();
        let digest = sha256(&bytes);
        dossier.documents.insert(1, SignedDocument { document: bytes, signatures });
        let signatures = dossier.signatures_of(1, &parsed).unwrap();
        let deed = Deed::Activate { version: 1, document: digest, root: sha256(&ROOT), trial, signatures };
        decide(&mut dossier, deed, "2026-11-01");
        assert_eq!(dossier.verify("lab", &officers()).is_ok_and(|found| found.trial), holds);
    }
}

#[test]
fn only_an_officer_of_this_installation_decides() {
    let dossier = whole();
    let strangers = vec![PEOPLE.stranger.certificate().unwrap()];
    let error = dossier.verify("lab", &strangers).unwrap_err().to_string();
    assert!(error.contains("not signed by an officer"), "{error}");
    assert!(dossier.verify("lab", &[]).is_err());
    assert!(dossier.verify("other", &officers()).unwrap_err().to_string().contains("another project"));
}

#[test]
fn an_expired_certificate_cannot_countersign_nor_be_countersigned() {
    let mut dossier = Dossier::default();
    let text = document(1);
    let parsed = ProjectDocument::parse(&text).unwrap();
    let bytes = text.as_bytes().to_vec();
    let signatures = [&PEOPLE.hospital, &PEOPLE.registry].map(|who| Some(who.sign(&bytes, NOW).unwrap())).to_vec();
    dossier.documents.insert(1, SignedDocument { document: bytes.clone(), signatures });
    let signatures = dossier.signatures_of(1, &parsed).unwrap();
    let later = Identity::create("officer", NOW.plus(6 * 366 * DAY_MS)).unwrap();
    let deed = Deed::Activate { version: 1, document: sha256(&bytes), root: sha256(&ROOT), trial: false, signatures };
    let empty = Dossier::default().verify("lab", &officers()).unwrap();
    let text = empty.next("lab", deed, "2026-11-01".parse().unwrap()).to_toml().unwrap().into_bytes();
    let signature = later.sign(&text, NOW.plus(6 * 366 * DAY_MS)).unwrap();
    dossier.entries.push(SignedEntry { text, signature });
    let error = dossier.verify("lab", &[later.certificate().unwrap()]).unwrap_err().to_string();
    assert!(error.contains("not valid when the officer signed"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// One byte anywhere in any paper.
    #[test]
    fn no_changed_byte_of_any_paper_passes(which in 0usize..10, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        static WHOLE: LazyLock<Dossier> = LazyLock::new(whole);
        let mut dossier = WHOLE.clone();
        let first = dossier.documents.get_mut(&1).unwrap();
        let paper = match which {
            0 => &mut first.document,
            1 => first.signatures[0].as_mut().unwrap(),
            2 => first.signatures[1].as_mut().unwrap(),
            3 => &mut dossier.documents.get_mut(&2).unwrap().document,
            n if n < 7 => &mut dossier.entries[n - 4].text,
            n => &mut dossier.entries[n - 7].signature,
        };
        let at = at.index(paper.len());
        paper[at] ^= 1 << bit;
        let found = dossier.verify("lab", &officers());
        prop_assert!(found.is_err(), "byte {} of paper {} changed unnoticed", at, which);
    }
}

#[test]
fn an_entry_that_is_left_out_swapped_or_repeated_breaks_the_register() {
    for change in [
        |entries: &mut Vec<SignedEntry>| drop(entries.remove(0)),
        |entries: &mut Vec<SignedEntry>| drop(entries.remove(1)),
        |entries: &mut Vec<SignedEntry>| entries.swap(0, 1),
        |entries: &mut Vec<SignedEntry>| entries.push(entries[2].clone()),
    ] {
        let mut dossier = whole();
        change(&mut dossier.entries);
        assert!(dossier.verify("lab", &officers()).is_err());
    }
    // The last one can be left out by whoever holds the folder: that is an earlier state, and shows as one.
    let mut dossier = whole();
    dossier.entries.pop();
    assert_eq!(dossier.verify("lab", &officers()).unwrap().decisions.len(), 2);
}

#[test]
fn an_amendment_that_would_change_tokens_or_the_recipient_is_refused() {
    for (from, to, expected) in [
        ("CBE:0123456749", "CBE:0206653946", "another recipient"),
        ("name = \"lab\"", "name = \"lab\"\nfamily = \"f\"", "tokens would change"),
        ("version = 2", "version = 3", "one more"),
    ] {
        let old = ProjectDocument::parse(&document(1)).unwrap();
        let new = ProjectDocument::parse(&document(2).replace(from, to)).unwrap();
        assert!(check_amendment(&old, &new).unwrap_err().contains(expected), "{expected}");
    }
}
