//! What would break data or leak it: wrong keys, wrong places, wrong files.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_sealed_value_opens_in_its_place_only() {
    let keys = Keyring::generate_in_memory();
    let sealed = keys.seal(b"state/1", b"plain");
    assert_eq!(keys.open(b"state/1", &sealed).unwrap(), b"plain");
    assert_eq!(keys.open(b"state/2", &sealed), Err(KeysError::Authentication));
    assert_eq!(Keyring::generate_in_memory().open(b"state/1", &sealed), Err(KeysError::Authentication));
}

#[test]
fn the_same_value_is_never_sealed_to_the_same_bytes() {
    let keys = Keyring::generate_in_memory();
    assert_ne!(keys.seal(b"c", b"plain"), keys.seal(b"c", b"plain"));
}

#[test]
fn every_changed_bit_of_a_sealed_value_is_refused() {
    let keys = Keyring::generate_in_memory();
    let sealed = keys.seal(b"c", b"a value of some length");
    for bit in 0..sealed.len() * 8 {
        let mut bytes = sealed.bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(keys.open(b"c", &Sealed::from_stored(bytes.into())).is_err(), "bit {bit}");
    }
}

#[test]
fn a_short_or_foreign_value_is_refused_by_format_and_version() {
    let keys = Keyring::generate_in_memory();
    let sealed = keys.seal(b"c", b"");
    for length in 0..sealed.len() {
        let cut = Sealed::from_stored(sealed.bytes().slice(..length));
        assert_eq!(keys.open(b"c", &cut), Err(KeysError::Format));
    }
    let mut later = sealed.bytes().to_vec();
    later[4] = 9;
    assert_eq!(keys.open(b"c", &Sealed::from_stored(later.into())), Err(KeysError::UnknownVersion(9)));
}

#[test]
fn rotation_seals_anew_and_still_opens_what_was_sealed_before() {
    let folder = folder();
    let path = folder.path().join("keys.toml");
    let keys = Keyring::create(&path).unwrap();
    let old = keys.seal(b"c", b"old");
    let blinded = keys.blind("ssin", b"85061511796");
    assert_eq!(keys.rotate().unwrap(), 2);
    let new = keys.seal(b"c", b"new");
    assert_eq!(new.bytes()[1..5], [0, 0, 0, 2]);

    let loaded = Keyring::load(&path).unwrap();
    assert_eq!(loaded.current_version(), 2);
    assert_eq!(loaded.open(b"c", &old).unwrap(), b"old");
    assert_eq!(loaded.open(b"c", &new).unwrap(), b"new");
    assert_eq!(loaded.blind("ssin", b"85061511796"), blinded, "blinding must outlive rotation, or state is lost");
}

#[test]
fn blinding_keeps_domain_and_identifier_apart() {
    let keys = Keyring::generate_in_memory();
    assert_eq!(keys.blind("ab", b"c"), keys.blind("ab", b"c"));
    assert_ne!(keys.blind("ab", b"c"), keys.blind("a", b"bc"));
    assert_ne!(keys.blind("ab", b"c"), Keyring::generate_in_memory().blind("ab", b"c"));
}

#[test]
fn a_project_root_is_durable_stable_and_gone_when_dropped() {
    let folder = folder();
    let path = folder.path().join("keys.toml");
    let keys = Keyring::create(&path).unwrap();
    assert!(keys.project_root("lab \"registry\" é").is_none());
    let root = keys.ensure_project_root("lab \"registry\" é").unwrap();
    assert_eq!(keys.ensure_project_root("lab \"registry\" é").unwrap().expose(), root.expose());
    assert_ne!(keys.ensure_project_root("other").unwrap().expose(), root.expose());

    let loaded = Keyring::load(&path).unwrap();
    assert_eq!(loaded.project_root("lab \"registry\" é").unwrap().expose(), root.expose());
    assert!(loaded.drop_project_root("lab \"registry\" é").unwrap());
    assert!(!loaded.drop_project_root("lab \"registry\" é").unwrap());
    let again = Keyring::load(&path).unwrap();
    assert!(again.project_root("lab \"registry\" é").is_none());
    assert!(again.project_root("other").is_some());
}

#[test]
fn a_key_file_is_private_and_never_overwritten() {
    let folder = folder();
    let path = folder.path().join("keys.toml");
    let keys = Keyring::create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&path).unwrap();
    assert!(matches!(Keyring::create(&path), Err(KeyringError::Exists(_))));
    assert_eq!(fs::read(&path).unwrap(), before);
    keys.rotate().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary stays behind");
}

#[test]
fn a_key_file_that_others_may_read_is_refused_with_the_remedy() {
    let folder = folder();
    let path = folder.path().join("keys.toml");
    Keyring::create(&path).unwrap();
    for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
        set_mode(&path, mode);
        let text = Keyring::load(&path).unwrap_err().to_string();
        assert!(text.contains(&format!("chmod 600 {}", path.display())), "{text}");
    }
    set_mode(&path, 0o600);
    Keyring::load(&path).unwrap();
}

#[test]
fn a_bad_key_file_is_refused_without_showing_its_content() {
    let folder = folder();
    let path = folder.path().join("keys.toml");
    Keyring::create(&path).unwrap();
    let good = fs::read_to_string(&path).unwrap();
    let secret = good.split('"').nth(1).unwrap().to_owned();
    for bad in [
        String::new(),
        good.replace("format = 1", "format = 2"),
        good.replace("version = 1", "version = 0"),
        good.replace("[[master]]", "[[other]]"),
        good.replace(&secret, &secret[..40]),
        good.replace(&secret, "not base64!"),
        good.replace(&format!("\"{secret}\""), &secret),
        format!("{good}\n[[master]]\nversion = 1\nkey = \"{secret}\"\n"),
        format!("surprise = 1\n{good}"),
    ] {
        fs::write(&path, &bad).unwrap();
        let error = Keyring::load(&path).unwrap_err();
        assert!(matches!(error, KeyringError::Format { .. }), "{error} for {bad}");
        assert!(!format!("{error} {error:?}").contains(&secret[..8]));
    }
}

#[test]
fn a_missing_key_file_is_an_error_that_names_it() {
    let path = folder().path().join("keys.toml");
    assert!(Keyring::load(&path).unwrap_err().to_string().contains("keys.toml"));
}

#[test]
fn a_change_that_cannot_be_written_does_not_happen() {
    let folder = folder();
    let path = folder.path().join("gone").join("keys.toml");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let keys = Keyring::create(&path).unwrap();
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    assert!(keys.rotate().is_err());
    assert_eq!(keys.current_version(), 1);
    assert!(keys.ensure_project_root("p").is_err());
    assert!(keys.project_root("p").is_none());
}

#[test]
fn a_keyring_never_prints_its_keys() {
    assert_eq!(format!("{:#?}", Keyring::generate_in_memory()), "Keyring(***)");
}

#[test]
fn version_1_of_the_wire_format_stays_readable() {
    let toml = format!(
        "format = 1\nblinding = \"{key}\"\n[[master]]\nversion = 7\nkey = \"{key}\"\n",
        key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
    );
    let keys = Keyring::with(Contents::from_toml(&toml).unwrap(), None);
    assert_eq!(keys.blind("ssin", b"85061511796").to_string(), GOLDEN_BLIND);
    let sealed = Sealed::from_stored(hex::decode(GOLDEN_SEALED).unwrap().into());
    assert_eq!(keys.open(b"golden", &sealed).unwrap(), b"sealed in 2026");
}

// Made with Python's hmac and pyca/cryptography's AESGCM, not with this crate.
const GOLDEN_BLIND: &str = "3c730c0e567af7c3c17b2e353725edbc";
const GOLDEN_SEALED: &str =
    "0100000007000102030405060708090a0b0c0d0e0f83929ccf8c7c92537acd52022d9e9bbe7e44d355894a6d3452af0b76309d";

proptest! {
    #[test]
    fn whatever_is_sealed_opens_to_itself(plain in proptest::collection::vec(any::<u8>(), 0..2000), place in ".{0,40}") {
        let keys = Keyring::generate_in_memory();
        let sealed = keys.seal(place.as_bytes(), &plain);
        prop_assert_eq!(sealed.len(), plain.len() + HEADER + TAG);
        prop_assert_eq!(keys.open(place.as_bytes(), &sealed).unwrap(), plain);
    }

    #[test]
    fn arbitrary_bytes_never_open(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Keyring::generate_in_memory().open(b"c", &Sealed::from_stored(bytes.into())).is_err());
    }
}

#[test]
fn two_processes_with_one_key_file_lose_none_of_each_others_roots() {
    let folder = folder();
    let path = folder.path().join("keys.toml");
    let one = Keyring::create(&path).unwrap();
    let other = Keyring::load(&path).unwrap();
    let first = one.ensure_project_root("first").unwrap();
    let second = other.ensure_project_root("second").unwrap();
    assert_eq!(other.ensure_project_root("first").unwrap().commitment(), first.commitment());
    assert!(one.project_root("second").is_none());
    one.refresh().unwrap();
    assert_eq!(one.project_root("second").unwrap().commitment(), second.commitment());
    assert!(other.drop_project_root("first").unwrap());
    one.refresh().unwrap();
    assert!(one.project_root("first").is_none(), "a destroyed root lives on in another process");
    assert_ne!(first.commitment(), second.commitment());
}

#[test]
fn a_key_file_under_a_passphrase_shows_nothing_opens_with_it_alone_and_keeps_every_key() {
    let folder = folder();
    let path = folder.path().join("keys.toml");
    let open_copy = folder.path().join("copy");
    let [first, second] = ["the first passphrase", "the second passphrase"].map(|text| Passphrase::new(text).unwrap());
    let under = |passphrase: &Passphrase| SealUnder::Passphrase(passphrase.clone());
    let keys = Keyring::create(&path).unwrap();
    let value = keys.seal(b"c", b"plain");
    let root = keys.ensure_project_root("lab").unwrap().commitment();
    assert!(keys.sealed_under().is_none() && fs::read_to_string(&path).unwrap().contains("lab"));
    fs::copy(&path, &open_copy).unwrap();
    // A file of before opens with a passphrase too, and is converted in place.
    let keys = Keyring::load_with(&path, first.clone().into()).unwrap();
    assert!(keys.sealed_under().is_none());
    keys.seal_file_at(&under(&first), sealed::tests::CHEAP).unwrap();
    assert!(keys.sealed_under() == Some(Guard::Passphrase) && !fs::read_to_string(&path).unwrap().contains("lab"));
    assert!(matches!(Keyring::load(&path), Err(KeyringError::Sealed { .. })));
    assert!(matches!(Keyring::load_with(&path, second.clone().into()), Err(KeyringError::Passphrase(_))));
    let other = Keyring::load_with(&path, first.clone().into()).unwrap();
    assert_eq!(other.open(b"c", &value).unwrap(), b"plain");
    // What changes later is sealed too, and each process sees it.
    other.ensure_project_root("study").unwrap();
    keys.refresh().unwrap();
    assert_eq!(keys.project_root("lab").unwrap().commitment(), root);
    assert!(keys.project_root("study").is_some());
    keys.seal_file_at(&under(&second), sealed::tests::CHEAP).unwrap();
    assert!(matches!(Keyring::load_with(&path, first.into()), Err(KeyringError::Passphrase(_))));
    assert!(matches!(other.refresh(), Err(KeyringError::Passphrase(_))), "the old passphrase opens the file");
    assert!(other.project_root("lab").is_some(), "a failed refresh forgets keys");
    assert!(other.ensure_project_root("third").is_err(), "it wrote over a file that it cannot read");
    let keys = Keyring::load_with(&path, second.into()).unwrap();
    assert!(keys.project_root("study").is_some());
    fs::copy(&open_copy, &path).unwrap();
    assert!(matches!(keys.refresh(), Err(KeyringError::Format { .. })), "an open copy is taken for the sealed file");
    assert!(keys.ensure_project_root("later").is_err(), "a new root is written into an open file");
    assert!(!fs::read_to_string(&path).unwrap().contains("later") && keys.project_root("study").is_some());
}
