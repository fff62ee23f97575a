//! Everything over SoftHSMv2, a PKCS#11 module that is not ours. It reads its configuration from the environment, so each test runs
//! once more in a process of its own, with a token that was made for it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use schemas::{Millis, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use zegel_core::Keys;
use zegel_crypto::tsa::{self, Algorithm, Authority, Place};
use zegel_crypto::{Keyring, KeyringError, Module, ModuleError, Openers, Passphrase, SealUnder};
use zegel_pkcs11::{Token, Uri};
use zeroize::Zeroizing;

const PIN: &str = "87654321";
const NOW: Millis = Millis(1_800_000_000_000);

/// Runs `body` in a child process with a fresh token; says so loudly where there is no SoftHSM.
fn over_softhsm(test: &str, body: fn(&Path)) {
    if let Some(folder) = std::env::var_os("ZEGEL_TEST_SOFTHSM") {
        return body(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let (tokens, settings) = (folder.path().join("tokens"), folder.path().join("softhsm2.conf"));
    fs::create_dir(&tokens).unwrap();
    fs::write(&settings, format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display())).unwrap();
    let arguments = ["--init-token", "--free", "--label", "Zegel test", "--so-pin", "12345678", "--pin", PIN];
    let Ok(made) = Command::new("softhsm2-util").args(arguments).env("SOFTHSM2_CONF", &settings).output() else {
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "ZEGEL_ORACLES is set and softhsm2-util is absent");
        println!("SKIPPED: softhsm2-util is absent");
        return;
    };
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("SOFTHSM2_CONF", &settings)
        .env("ZEGEL_TEST_SOFTHSM", folder.path())
        .output()
        .unwrap();
    let told = [child.stdout, child.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(child.status.success() && told.contains("1 passed"), "{told}");
}

fn library() -> PathBuf {
    let places = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"];
    places.into_iter().map(PathBuf::from).find(|path| path.exists()).expect("the library of SoftHSM")
}

fn open_with(token: &str, pin: &str) -> Result<Arc<dyn Module>, ModuleError> {
    let uri: Uri = format!("pkcs11:token={token}?module-path={}", library().display()).parse().unwrap();
    Token::open(&uri, &Zeroizing::new(pin.to_owned()))
}

fn open() -> Arc<dyn Module> {
    open_with("Zegel%20test", PIN).unwrap()
}

#[test]
fn an_authority_whose_keys_are_in_a_module_stamps_and_no_key_is_in_its_folder() {
    over_softhsm("an_authority_whose_keys_are_in_a_module_stamps_and_no_key_is_in_its_folder", |folder| {
        for algorithm in Algorithm::ALL {
            let path = folder.join(algorithm.to_string());
            let place = Place::new(&path, Some(open()));
            let authority = Authority::create_with(place.clone(), "Zegel test", NOW, algorithm).unwrap();
            assert!(authority.guards_ca_key().unwrap());
            for name in ["ca.key", "tsa.key"] {
                let text = fs::read_to_string(path.join(name)).unwrap();
                assert!(text.starts_with("pkcs11:token=Zegel%20test;object=zegel%20time-stamp"), "{text}");
            }
            let loaded = Authority::load(place.clone(), NOW).unwrap();
            let imprint = Sha256([7; 32]);
            let response = loaded.stamp(&imprint, Some(1), NOW.plus(1_000)).unwrap();
            let anchor = tsa::TrustAnchor::from_pem(loaded.ca_pem()).unwrap();
            tsa::verify(&response, &imprint, &anchor).unwrap();

            Authority::check(place).unwrap();
            let error = Authority::load(&path, NOW).unwrap_err().to_string();
            assert!(error.contains("keys.module"), "{error}");
        }
    });
}

#[test]
fn keys_of_the_token_are_sensitive_and_cannot_be_extracted() {
    over_softhsm("keys_of_the_token_are_sensitive_and_cannot_be_extracted", |_| {
        let module = open();
        module.generate("a signing key", Algorithm::P256).unwrap();
        module.generate("another signing key", Algorithm::P384).unwrap();
        module.generate_wrapping("a wrapping key").unwrap();
        let arguments =
            ["--module", library().to_str().unwrap(), "--login", "--pin", PIN, "--list-objects"].map(str::to_owned);
        let listed = Command::new("pkcs11-tool").args(arguments).output().expect("pkcs11-tool, of the package opensc");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let guarded = "sensitive, always sensitive, never extractable, local";
        assert_eq!(listed.matches(guarded).count(), 3, "{listed}");
        assert_eq!(listed.matches("Private Key Object").count() + listed.matches("Secret Key Object").count(), 3);
    });
}

#[test]
fn units_move_into_the_module_and_a_replaced_key_is_destroyed_in_it() {
    over_softhsm("units_move_into_the_module_and_a_replaced_key_is_destroyed_in_it", |folder| {
        let path = folder.join("tsa");
        Authority::create_with(&path, "Zegel test", NOW, Algorithm::P256).unwrap();
        let module = open();
        let place = Place::new(&path, Some(module.clone()));
        let authority = Authority::load(place, NOW).unwrap();
        assert!(authority.maintain(NOW, Algorithm::P256).unwrap().renewed, "the key stays in its file");
        assert!(!path.join("tsa.key").exists(), "the file's key is still there");
        let uri = fs::read_to_string(path.join("units/2/tsa.key")).unwrap();
        module.signing_key(uri.trim()).unwrap();
        assert!(!authority.maintain(NOW, Algorithm::P256).unwrap().renewed, "it is renewed for ever");
        assert!(authority.maintain(NOW, Algorithm::P384).unwrap().renewed);
        assert_eq!(module.signing_key(uri.trim()).unwrap_err(), ModuleError::Key { kind: "private", found: 0 });
        module.destroy(uri.trim()).expect("what a crash left half done is done again");
        assert!(!path.join("units/2/tsa.key").exists());
        assert!(!authority.guards_ca_key().unwrap());
    });
}

#[test]
fn a_key_that_is_not_the_certificates_own_is_refused() {
    over_softhsm("a_key_that_is_not_the_certificates_own_is_refused", |folder| {
        let path = folder.join("tsa");
        let place = Place::new(&path, Some(open()));
        Authority::create_with(place.clone(), "Zegel test", NOW, Algorithm::P256).unwrap();
        let other = fs::read_to_string(path.join("ca.key")).unwrap();
        fs::write(path.join("tsa.key"), &other).unwrap();
        let error = Authority::load(place.clone(), NOW).unwrap_err().to_string();
        assert!(error.contains("do not belong together"), "{error}");
        fs::write(path.join("tsa.key"), other.replace("Zegel%20test", "Another")).unwrap();
        let error = Authority::load(place, NOW).unwrap_err().to_string();
        assert!(error.contains("another token"), "{error}");
    });
}

#[test]
fn a_key_file_under_a_module_opens_with_it_alone_and_every_changed_character_is_noticed() {
    over_softhsm("a_key_file_under_a_module_opens_with_it_alone_and_every_changed_character_is_noticed", |folder| {
        let path = folder.join("keys.toml");
        let module = open();
        let with = |module: &Arc<dyn Module>| Openers { passphrase: None, module: Some(module.clone()) };
        let keys = Keyring::create_sealed(&path, &SealUnder::Module(module.clone())).unwrap();
        let value = keys.seal(b"c", b"plain");
        keys.ensure_project_root("lab").unwrap();
        assert!(
            keys.sealed_under()
                .unwrap()
                .to_string()
                .starts_with("pkcs11:token=Zegel%20test;object=zegel%20key%20file;")
        );
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("lab") && !text.contains("master"), "{text}");
        let again = Keyring::load_with(&path, with(&open())).unwrap();
        assert_eq!(again.open(b"c", &value).unwrap(), b"plain");
        assert!(matches!(Keyring::load(&path), Err(KeyringError::Sealed { .. })));
        for name in
            ["wrapped = \"", "nonce = \"", "keys = \"", "key = \"pkcs11:token=Zegel%20test;object=zegel%20key%20fil"]
        {
            let at = text.find(name).unwrap() + name.len() + 1;
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            fs::write(&path, changed).unwrap();
            assert!(Keyring::load_with(&path, with(&module)).is_err(), "{name}");
        }
        fs::write(&path, &text).unwrap();
        // From the module to a passphrase and back.
        let passphrase = Passphrase::new("correct horse battery").unwrap();
        again.seal_file(&SealUnder::Passphrase(passphrase.clone())).unwrap();
        let keys = Keyring::load_with(&path, passphrase.into()).unwrap();
        keys.seal_file(&SealUnder::Module(module.clone())).unwrap();
        assert!(Keyring::load_with(&path, with(&module)).unwrap().project_root("lab").is_some());
    });
}

#[test]
fn a_wrong_pin_or_token_is_said_at_once_and_the_pin_is_not_in_it() {
    over_softhsm("a_wrong_pin_or_token_is_said_at_once_and_the_pin_is_not_in_it", |_| {
        let error = open_with("Zegel%20test", "secret-and-wrong").unwrap_err().to_string();
        assert!(error.contains("PinIncorrect") && !error.contains("secret-and"), "{error}");
        let error = open_with("Missing", PIN).unwrap_err().to_string();
        assert!(error.contains("no token of that name"), "{error}");
        let uri: Uri = "pkcs11:token=a?module-path=/missing/library.so".parse().unwrap();
        let error = Token::open(&uri, &Zeroizing::new(PIN.to_owned())).unwrap_err().to_string();
        assert!(error.contains("/missing/library.so"), "{error}");
    });
}

#[test]
fn many_threads_sign_at_once_and_a_token_that_was_away_is_logged_into_again() {
    over_softhsm("many_threads_sign_at_once_and_a_token_that_was_away_is_logged_into_again", |folder| {
        let place = Place::new(&folder.join("tsa"), Some(open()));
        let authority = Authority::create_with(place, "Zegel test", NOW, Algorithm::P256).unwrap();
        let anchor = tsa::TrustAnchor::from_pem(authority.ca_pem()).unwrap();
        let stamp = |number: u8| {
            let imprint = Sha256([number; 32]);
            let response = authority.stamp(&imprint, None, NOW.plus(1_000)).unwrap();
            tsa::verify(&response, &imprint, &anchor).unwrap();
        };
        std::thread::scope(|scope| {
            for thread in 0..8 {
                scope.spawn(move || (0..10).for_each(|turn| stamp(thread * 10 + turn)));
            }
        });
        // The login ends under all sessions, as when a network module starts again.
        let library = cryptoki::context::Pkcs11::new(library()).unwrap();
        let slots = library.get_slots_with_initialized_token().unwrap();
        let session = library.open_ro_session(slots[0]).unwrap();
        session.logout().unwrap();
        stamp(200);
    });
}
