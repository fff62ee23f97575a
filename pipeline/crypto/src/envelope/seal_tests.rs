//! OpenSSL opens what is sealed here, and seals what is opened here.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use schemas::Millis;
use std::path::Path;
use std::process::Command;

/// Longer than a block, and no multiple of one.
const TEXT: &[u8] = b"row,diagnosis\n00112233445566778899aabbccddeeff,canary\n";

fn openssl(folder: &Path, arguments: &str) -> bool {
    let run = Command::new("openssl").current_dir(folder).args(arguments.split(' ')).output();
    let Ok(output) = run else {
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "openssl is needed");
        eprintln!("SKIPPED: openssl is absent");
        return false;
    };
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    true
}

#[test]
fn openssl_opens_what_is_sealed_and_seals_what_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let read = |name: &str| std::fs::read(at.join(name)).unwrap();
    std::fs::write(at.join("text"), TEXT).unwrap();
    for (algorithm, options) in [
        ("rsa:2048", "-keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha256"),
        ("ec -pkeyopt ec_paramgen_curve:P-256", "-keyopt ecdh_kdf_md:sha256"),
    ] {
        if !openssl(at, &format!("req -x509 -newkey {algorithm} -nodes -keyout key -out pem -days 2 -subj /CN=r")) {
            return;
        }
        let [key, pem] = ["key", "pem"].map(|name| String::from_utf8(read(name)).unwrap());
        let identity = Identity::from_pem(&key, &pem).unwrap();
        let sealed = seal(&pem, TEXT).unwrap();
        assert_eq!(SealedFor::from_pem(&pem).unwrap().check(&sealed), Ok(()), "{algorithm}: the platform lets it pass");
        assert!(!sealed.windows(6).any(|window| window == b"canary"));
        std::fs::write(at.join("sealed"), &sealed).unwrap();
        openssl(at, "cms -decrypt -binary -inform DER -in sealed -recip pem -inkey key -out opened");
        assert_eq!(read("opened"), TEXT, "{algorithm}");
        openssl(at, &format!("cms -encrypt -aes256 -binary -in text -outform DER -out theirs -recip pem {options}"));
        assert_eq!(&open(&identity, &read("theirs")).unwrap()[..], TEXT, "{algorithm}");
    }
}

#[test]
fn only_its_recipient_opens_it_and_no_changed_byte_makes_it_panic() {
    let identity = |name: &str| Identity::create(name, Millis(1_795_305_600_000)).unwrap();
    let (recipient, other) = (identity("recipient"), identity("other"));
    let pem = recipient.certificate_pem().unwrap();
    let sealed = seal(&pem, TEXT).unwrap();
    assert_eq!(&open(&recipient, &sealed).unwrap()[..], TEXT);
    assert_eq!(open(&other, &sealed), Err(EnvelopeError::Recipient));
    assert_ne!(sealed, seal(&pem, TEXT).unwrap(), "equal content shows");
    for place in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[place] ^= 0x20;
        // CBC is not authenticated: content may change, but no key opens that was not agreed on, and nothing panics.
        let _ = open(&recipient, &changed);
    }
    assert_eq!(seal("no certificate", TEXT), Err(EnvelopeError::Certificate));
}
