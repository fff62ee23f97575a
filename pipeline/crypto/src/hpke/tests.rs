//! Published vectors, and keys of OpenSSL.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use aws_lc_rs::aead::AES_128_GCM;
use std::process::Command;

fn bytes<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).unwrap().try_into().unwrap()
}

/// RFC 9180, appendix A.1.1. It has no vector of X25519 with AES-256-GCM, so the AEAD's id, key and tag are those of AES-128-GCM here.
#[test]
fn the_vector_of_rfc_9180_is_met() {
    let recipient =
        OpenKey::derived(&bytes("6db9df30aa07dd42ee5e8181afdb977e538f5e1fec8a06223f33f7013e525037")).unwrap();
    assert_eq!(recipient.bytes[..], bytes::<32>("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8"));
    assert_eq!(recipient.public.0, bytes::<32>("3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d"));
    let material = bytes("7268600d403fce431561aef583ee1613527cff655c1343f29812e66706df3234");
    let (info, aad, plain) = (b"Ode on a Grecian Urn", b"Count-0", b"Beauty is truth, truth beauty");
    let sealed = recipient.public.seal_with(&AES_128_GCM, [0, 1], &material, (info, aad), plain).unwrap();
    let expected = "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431\
                    f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a";
    assert_eq!(hex::encode(sealed), expected);
}

#[test]
fn only_the_private_key_opens_what_was_sealed_as_it_was_sealed() {
    let (key, other) = (OpenKey::generate(), OpenKey::generate());
    let sealed = key.public().seal(&[7; 32], b"info", b"aad", b"85061511796").unwrap();
    assert_eq!(sealed.len(), 11 + OVERHEAD);
    assert_eq!(&key.open(b"info", b"aad", &sealed).unwrap()[..], b"85061511796");
    assert_eq!(other.open(b"info", b"aad", &sealed), Err(HpkeError::Open));
    assert_eq!(key.open(b"info", b"aab", &sealed), Err(HpkeError::Open));
    assert_eq!(key.open(b"inf", b"aad", &sealed), Err(HpkeError::Open));
    for place in [0, 31, 32, 42, sealed.len() - 1] {
        let mut changed = sealed.clone();
        changed[place] ^= 1;
        assert_eq!(key.open(b"info", b"aad", &changed), Err(HpkeError::Open), "{place}");
    }
    for cut in [0, 31, 47] {
        assert_eq!(key.open(b"info", b"aad", &sealed[..cut]), Err(HpkeError::Open));
    }
    assert_eq!(SealKey([0; 32]).seal(&[7; 32], b"", b"", b"x"), Err(HpkeError::Key), "a key without a secret");
}

#[test]
fn keys_are_read_as_openssl_writes_them_and_written_as_openssl_reads_them() {
    let key = OpenKey::generate();
    assert_eq!(OpenKey::from_pem(&key.to_pem()).unwrap().public(), key.public());
    assert_eq!(SealKey::from_pem(&key.public().to_pem()), Ok(*key.public()));
    for wrong in ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", &key.to_pem()] {
        assert_eq!(SealKey::from_pem(wrong), Err(HpkeError::Key));
    }
    assert!(key.public().is_sound() && !SealKey([0; KEY]).is_sound(), "a key for which every secret is zero passes");
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new("openssl").current_dir(folder.path()).args(arguments).output().ok()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8(output.stdout).unwrap())
    };
    std::fs::write(folder.path().join("key"), &*key.to_pem()).unwrap();
    let Some(public) = run(&["pkey", "-in", "key", "-pubout"]) else {
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "openssl is needed");
        eprintln!("SKIPPED: openssl is absent");
        return;
    };
    assert_eq!(public, key.public().to_pem());
    let made = run(&["genpkey", "-algorithm", "X25519"]).unwrap();
    assert!(OpenKey::from_pem(&made).is_ok());
}
