//! Signatures against openssl as signer and as verifier, and every change to a signature or its content.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use std::process::{Command, Output};
use std::sync::LazyLock;

const DOCUMENT: &[u8] = b"name = \"lab-registry\"\r\nversion = 1\n";
/// Tools judge certificates today.
static NOW: LazyLock<Millis> = LazyLock::new(|| zegel_core::Clock::now(&zegel_core::clock::SystemClock));
const DAY_MS: i64 = 86_400_000;

fn openssl(arguments: &[&str]) -> Option<Output> {
    let output = Command::new("openssl").args(arguments).output();
    let required = std::env::var_os("ZEGEL_ORACLES").is_some();
    assert!(output.is_ok() || !required, "ZEGEL_ORACLES is set and openssl is absent");
    output.ok()
}

#[test]
fn openssl_accepts_a_signature_of_ours_and_refuses_another_document() {
    let identity = Identity::create("Hospital é", *NOW).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [document, signature, certificate, key] =
        ["d.toml", "d.p7s", "c.pem", "c.key"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    fs::write(&document, DOCUMENT).unwrap();
    fs::write(&signature, identity.sign(DOCUMENT, *NOW).unwrap()).unwrap();
    identity.write(Path::new(&key), Path::new(&certificate)).unwrap();
    let verify = [
        "cms",
        "-verify",
        "-binary",
        "-inform",
        "DER",
        "-in",
        &signature,
        "-content",
        &document,
        "-CAfile",
        &certificate,
    ];
    let verify = [&verify[..], &["-purpose", "any", "-out", "/dev/null"]].concat();
    let Some(output) = openssl(&verify) else {
        println!("SKIPPED: openssl is absent");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(&document, b"name = \"lab-registry\"\r\nversion = 2\n").unwrap();
    assert!(!openssl(&verify).unwrap().status.success(), "another document is accepted");
    // The key that was written signs with openssl too, and we read that.
    let again = folder.path().join("again.p7s").to_str().unwrap().to_owned();
    let sign = ["cms", "-sign", "-binary", "-md", "sha256", "-signer", &certificate, "-inkey", &key, "-in", &document];
    let output = openssl(&[&sign[..], &["-outform", "DER", "-out", &again]].concat()).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = super::verify(&fs::read(&document).unwrap(), &fs::read(&again).unwrap()).unwrap();
    assert_eq!(found.signer, identity.certificate().unwrap());
}

#[test]
fn an_rsa_signature_that_openssl_made_is_accepted_and_its_key_can_be_used_here() {
    let folder = tempfile::tempdir().unwrap();
    let [document, signature, certificate, key] =
        ["d.toml", "d.p7s", "c.pem", "c.key"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    let make = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", "2", "-subj", "/CN=party"];
    let Some(output) = openssl(&[&make[..], &["-keyout", &key, "-out", &certificate]].concat()) else {
        println!("SKIPPED: openssl is absent");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(&document, DOCUMENT).unwrap();
    let sign = ["cms", "-sign", "-binary", "-md", "sha256", "-signer", &certificate, "-inkey", &key, "-in", &document];
    let output = openssl(&[&sign[..], &["-outform", "DER", "-out", &signature]].concat()).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = super::verify(DOCUMENT, &fs::read(&signature).unwrap()).unwrap();
    assert_eq!(found.signer.fingerprint, fingerprint(&fs::read_to_string(&certificate).unwrap()).unwrap());
    let identity = Identity::load(Path::new(&key), Path::new(&certificate)).unwrap();
    // Openssl's certificate begins now, which is after the first use of NOW.
    let own = identity.sign(DOCUMENT, found.signed_at).unwrap();
    assert_eq!(super::verify(DOCUMENT, &own).unwrap().signer, found.signer);
    fs::write(&signature, own).unwrap();
    let verify = [
        "cms",
        "-verify",
        "-binary",
        "-inform",
        "DER",
        "-in",
        &signature,
        "-content",
        &document,
        "-CAfile",
        &certificate,
    ];
    let output = openssl(&[&verify[..], &["-purpose", "any", "-out", "/dev/null"]].concat()).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // A signature with the content inside is not a detached one.
    let inside = [&sign[..], &["-nodetach", "-outform", "DER", "-out", &signature]].concat();
    assert!(openssl(&inside).unwrap().status.success());
    let error = super::verify(DOCUMENT, &fs::read(&signature).unwrap()).unwrap_err();
    assert!(error.to_string().contains("not detached"), "{error}");
}

#[test]
fn no_changed_byte_of_a_signature_is_accepted_as_the_same_signer_and_time() {
    let identity = Identity::create("party", *NOW).unwrap();
    let signature = identity.sign(DOCUMENT, *NOW).unwrap();
    let expected = super::verify(DOCUMENT, &signature).unwrap();
    assert_eq!(expected.signed_at.0, NOW.0.div_euclid(1_000) * 1_000);
    for at in 0..signature.len() {
        let mut changed = signature.clone();
        changed[at] ^= 0x04;
        if let Ok(found) = super::verify(DOCUMENT, &changed) {
            // The certificate's own signature may change, and then its fingerprint does.
            assert_ne!(found, expected, "byte {at} of {} changed unnoticed", signature.len());
        }
    }
    for end in [0, 1, signature.len() / 2, signature.len() - 1] {
        assert!(super::verify(DOCUMENT, &signature[..end]).is_err(), "cut at {end}");
    }
    let mut longer = signature.clone();
    longer.push(0);
    assert!(super::verify(DOCUMENT, &longer).is_err());
    assert!(super::verify(&DOCUMENT[1..], &signature).is_err());
}

#[test]
fn a_certificate_counts_only_while_it_is_valid() {
    let identity = Identity::create("party", *NOW).unwrap();
    for wrong in [NOW.plus(-DAY_MS), NOW.plus(6 * 366 * DAY_MS)] {
        assert!(matches!(identity.sign(DOCUMENT, wrong), Err(SignedError::Refused(_))));
        // Even one whose clock was set so: the claim itself is judged.
        let forced = cms_form::build(&identity, DOCUMENT, wrong).unwrap();
        assert!(super::verify(DOCUMENT, &forced).is_err());
    }
}

#[test]
fn a_key_of_another_certificate_or_one_that_others_may_read_is_refused() {
    let [one, other] = ["one", "other"].map(|name| Identity::create(name, *NOW).unwrap());
    let mixed = Identity::from_pem(&one.key_pem().unwrap(), &other.certificate_pem().unwrap());
    assert!(matches!(mixed, Err(SignedError::Identity(_))));
    let folder = tempfile::tempdir().unwrap();
    let [key, certificate] = ["k.pem", "c.pem"].map(|name| folder.path().join(name));
    one.write(&key, &certificate).unwrap();
    assert!(Identity::load(&key, &certificate).is_ok());
    assert!(one.write(&key, &certificate).is_err(), "a key is overwritten");
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert!(matches!(Identity::load(&key, &certificate), Err(SignedError::Permissions { .. })));
    assert_eq!(format!("{one:?}"), "Identity(key: ***)");
}

#[test]
fn a_file_of_certificates_gives_each_of_them_and_refuses_a_cut_one() {
    let all = ["one", "two"].map(|name| Identity::create(name, *NOW).unwrap());
    let text = all.iter().map(|identity| identity.certificate_pem().unwrap()).collect::<Vec<_>>().join("# two\n");
    let found = certificates(&text).unwrap();
    assert_eq!(found, all.iter().map(|identity| identity.certificate().unwrap()).collect::<Vec<_>>());
    assert!(certificates("").is_err());
    assert!(certificates(&text[..text.len() - 40]).is_err());
}
