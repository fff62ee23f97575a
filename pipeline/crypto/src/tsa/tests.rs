//! Tokens against tools that are not ours, every changed bit, foreign authorities, clocks that go back, bad folders.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_possible_truncation)]

mod life;
mod node;
mod real;
mod requests;

use super::encode::{Info, element};
use super::signing::SigningKey;
use super::token::Template;
use super::*;
use crate::hash::sha256;
use const_oid::AssociatedOid;
use const_oid::db::rfc5912::{ID_KP_SERVER_AUTH as SERVER_AUTH, ID_KP_TIME_STAMPING as TIME_STAMPING};
use der::asn1::{BitString, ObjectIdentifier, OctetString};
use schemas::Millis;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;
use tempfile::TempDir;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{ExtendedKeyUsage, KeyUsage, KeyUsages};

const DATA: &[u8] = b"<TimeStampBag/>";
/// The policy of the tools is to judge certificates today, so tests stamp today.
static NOW: LazyLock<Millis> = LazyLock::new(|| zegel_core::Clock::now(&zegel_core::clock::SystemClock));
/// One authority for all tests that only stamp: making the keys is the slow part.
static SHARED: LazyLock<(TempDir, Authority)> = LazyLock::new(fresh);

fn fresh() -> (TempDir, Authority) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::create(&folder.path().join("tsa"), "Zegel test & \"co\", é", *NOW).unwrap();
    (folder, authority)
}

/// A folder of its own with the shared authority's keys, so that no other test moves its time.
fn copied() -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("tsa");
    fs::create_dir(&place).unwrap();
    for name in ["ca.pem", "ca.key", "ca.crl", "tsa.pem", "tsa.key"] {
        fs::copy(SHARED.0.path().join("tsa").join(name), place.join(name)).unwrap();
    }
    (folder, place)
}

fn key(path: &Path) -> SigningKey {
    SigningKey::from_pem(&fs::read_to_string(path).unwrap()).unwrap()
}

fn anchor() -> TrustAnchor {
    TrustAnchor::from_pem(SHARED.1.ca_pem()).unwrap()
}

fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    let output = Command::new(program).args(arguments).output();
    let required = std::env::var_os("ZEGEL_ORACLES").is_some();
    assert!(output.is_ok() || !required, "ZEGEL_ORACLES is set and {program} is absent");
    output.ok()
}

/// Writes data and response into a folder of their own; gives the paths of data, response and CA.
fn written(folder: &TempDir, data: &[u8], response: &[u8]) -> [String; 3] {
    let paths = ["bag.xml", "bag.tsr", "ca.pem"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    for (path, bytes) in paths.iter().zip([data, response, SHARED.1.ca_pem().as_bytes()]) {
        fs::write(path, bytes).unwrap();
    }
    paths
}

#[test]
fn openssl_accepts_a_token_and_refuses_changed_data() {
    let at = Millis(NOW.0 / 1000 * 1000 + 1120);
    let response = SHARED.1.stamp(&sha256(DATA), None, at).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [data, tsr, ca] = written(&folder, DATA, &response);
    let verify = ["ts", "-verify", "-data", &data, "-in", &tsr, "-CAfile", &ca];
    let Some(output) = run("openssl", &verify) else {
        println!("SKIPPED: openssl is absent");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Verification: OK"));

    fs::write(&data, b"<TimeStampBag />").unwrap();
    let changed = run("openssl", &verify).unwrap();
    assert!(!changed.status.success());
    assert!(String::from_utf8_lossy(&changed.stderr).contains("message imprint mismatch"));

    let text = run("openssl", &["ts", "-reply", "-in", &tsr, "-text"]).unwrap();
    assert!(String::from_utf8_lossy(&text.stdout).contains(".12 "), "genTime has milliseconds");

    let token = folder.path().join("token.der");
    fs::write(&token, token_of(&response).unwrap()).unwrap();
    fs::write(&data, DATA).unwrap();
    let token = token.to_str().unwrap();
    let alone = run("openssl", &["ts", "-verify", "-data", &data, "-in", token, "-token_in", "-CAfile", &ca]).unwrap();
    assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stderr));
}

#[test]
fn openssl_finds_the_unit_fit_for_time_stamps_and_nothing_else() {
    let folder = SHARED.0.path().join("tsa");
    let [ca, tsu] = ["ca.pem", "tsa.pem"].map(|name| folder.join(name).to_str().unwrap().to_owned());
    let verify = |purpose| run("openssl", &["verify", "-x509_strict", "-purpose", purpose, "-CAfile", &ca, &tsu]);
    let Some(output) = verify("timestampsign") else {
        println!("SKIPPED: openssl is absent");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for other in ["sslserver", "sslclient", "smimesign"] {
        assert!(!verify(other).unwrap().status.success(), "{other}");
    }
}

#[test]
fn rfc3161_client_accepts_a_token_and_refuses_changed_data() {
    const CHECK: &str = "
import sys
try:
    import rfc3161_client as client
    from cryptography import x509
except ImportError:
    sys.exit(77)
data, tsr, ca = (open(path, 'rb').read() for path in sys.argv[1:4])
response = client.decode_timestamp_response(tsr)
root = x509.load_pem_x509_certificate(ca)
verifier = client.VerifierBuilder().add_root_certificate(root).nonce(2**64 - 2).build()
assert verifier.verify_message(response, data)
try:
    verifier.verify_message(response, data + b' ')
except client.VerificationError:
    sys.exit(0)
sys.exit('changed data was accepted')
";
    let response = SHARED.1.stamp(&sha256(DATA), Some(u64::MAX - 1), *NOW).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [data, tsr, ca] = written(&folder, DATA, &response);
    let output = run("python3", &["-c", CHECK, &data, &tsr, &ca]);
    let absent = output.as_ref().is_none_or(|output| output.status.code() == Some(77));
    if absent {
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "ZEGEL_ORACLES is set and rfc3161-client is absent");
        println!("SKIPPED: rfc3161-client is absent");
        return;
    }
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn rfc3161ng_accepts_a_token_and_refuses_changed_data() {
    const CHECK: &str = "
import sys
try:
    import rfc3161ng
except ImportError:
    sys.exit(77)
data, tsr, unit = (open(path, 'rb').read() for path in sys.argv[1:4])
token = rfc3161ng.decode_timestamp_response(tsr).time_stamp_token
assert rfc3161ng.check_timestamp(token, certificate=unit, data=data, hashname='sha256')
try:
    rfc3161ng.check_timestamp(token, certificate=unit, data=data + b' ', hashname='sha256')
except ValueError:
    sys.exit(0)
sys.exit('changed data was accepted')
";
    let response = SHARED.1.stamp(&sha256(DATA), Some(5), *NOW).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [data, tsr, _] = written(&folder, DATA, &response);
    let unit = SHARED.0.path().join("tsa/tsa.pem");
    let output = run("python3", &["-c", CHECK, &data, &tsr, unit.to_str().unwrap()]);
    let Some(output) = output.filter(|output| output.status.code() != Some(77)) else {
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "ZEGEL_ORACLES is set and rfc3161ng is absent");
        println!("SKIPPED: rfc3161ng is absent");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn our_own_verification_reads_what_was_stamped() {
    let response = SHARED.1.stamp(&sha256(DATA), Some(0x8000_0000_0000_0001), *NOW).unwrap();
    let info = verify(&response, &sha256(DATA), &anchor()).unwrap();
    assert!(info.gen_time >= *NOW && info.gen_time <= NOW.plus(10_000));
    assert_eq!(info.policy, TEST_POLICY);
    assert_eq!(info.nonce.as_deref(), Some(&[0x80, 0, 0, 0, 0, 0, 0, 1][..]));
    assert_eq!(info.serial.len(), 16);
    assert_eq!(
        verify(&SHARED.1.stamp(&sha256(DATA), None, *NOW).unwrap(), &sha256(DATA), &anchor()).unwrap().nonce,
        None
    );
    let other = verify(&response, &sha256(b"other"), &anchor());
    assert!(matches!(other, Err(TsaError::Refused("token is for other data"))));
}

#[test]
fn a_token_of_another_authority_is_refused_even_under_the_same_name() {
    let (_folder, other) = fresh();
    let response = other.stamp(&sha256(DATA), None, *NOW).unwrap();
    assert!(matches!(verify(&response, &sha256(DATA), &anchor()), Err(TsaError::Refused(_))));
    verify(&response, &sha256(DATA), &TrustAnchor::from_pem(other.ca_pem()).unwrap()).unwrap();
    let forged = forge(&other.unit().key, &other.unit().certificate);
    assert!(matches!(forged, TsaError::Refused("certificate is not signed by the trusted CA")), "{forged:?}");
}

#[test]
fn a_token_signed_under_a_certificate_for_other_uses_is_refused() {
    let ca_key = key(&SHARED.0.path().join("tsa/ca.key"));
    let stolen = forge(&ca_key, &SHARED.1.unit().certificate);
    assert!(matches!(stolen, TsaError::Refused("signature does not verify")), "{stolen:?}");
    type Change = fn(&mut Vec<Extension>);
    let changes: [(Change, &str); 4] = [
        (|extensions| extensions.retain(|one| one.extn_id != ExtendedKeyUsage::OID), "missing"),
        (|extensions| extensions[1].critical = false, "time stamps alone"),
        (|extensions| extensions[1].extn_value = der_of(&ExtendedKeyUsage(vec![TIME_STAMPING, SERVER_AUTH])), "alone"),
        (|extensions| extensions[0].extn_value = der_of(&KeyUsage(KeyUsages::KeyEncipherment.into())), "other uses"),
    ];
    for (change, rule) in changes {
        let mut unit = SHARED.1.unit().certificate.clone();
        change(unit.tbs_certificate.extensions.as_mut().unwrap());
        let signature = ca_key.sign(&unit.tbs_certificate.to_der().unwrap()).unwrap();
        unit.signature = BitString::from_bytes(&signature).unwrap();
        let refused = forge(&SHARED.1.unit().key, &unit);
        assert!(matches!(refused, TsaError::Refused(text) if text.contains(rule)), "{refused:?}");
    }
}

fn der_of(value: &impl Encode) -> OctetString {
    OctetString::new(value.to_der().unwrap()).unwrap()
}

/// What is said of a token that carries the trusted CA's certificate, but is signed by this key under this one.
fn forge(key: &SigningKey, certificate: &x509_cert::Certificate) -> TsaError {
    let imprint = Request::over(Digest::Sha256, &sha256(DATA).0, None).unwrap().imprint;
    let policy = ObjectIdentifier::new(TEST_POLICY).unwrap();
    let info = Info { policy, imprint: &imprint, serial: 1, at: *NOW, accuracy_ms: None, nonce: None };
    let template = Template::new(anchor().certificate(), certificate, key).unwrap();
    let response = template.response(key, &info.encode().unwrap(), true).unwrap();
    verify(&response, &sha256(DATA), &anchor()).unwrap_err()
}

#[test]
fn a_changed_byte_is_refused_wherever_it_bears_on_the_token() {
    let response = SHARED.1.stamp(&sha256(DATA), None, *NOW).unwrap();
    let anchor = anchor();
    let info = verify(&response, &sha256(DATA), &anchor).unwrap();
    let mut harmless = 0;
    for at in 0..response.len() {
        let mut changed = response.clone();
        changed[at] ^= 1;
        if let Ok(read) = verify(&changed, &sha256(DATA), &anchor) {
            assert_eq!(read, info, "byte {at}");
            harmless += 1;
        }
    }
    assert_eq!(harmless, 1, "only the status may change, from granted to granted with modifications");
    for length in 0..response.len() {
        assert!(verify(&response[..length], &sha256(DATA), &anchor).is_err());
    }
    assert!(verify(&[response, vec![0]].concat(), &sha256(DATA), &anchor).is_err());
}

#[test]
fn serials_never_repeat_and_time_never_goes_back() {
    let (_folder, path) = copied();
    let authority = Authority::load(&path, Millis(0)).unwrap();
    let mut serials = HashSet::new();
    let mut latest = Millis(0);
    let anchor = TrustAnchor::from_pem(authority.ca_pem()).unwrap();
    let mut check = |authority: &Authority, now: Millis| {
        let response = authority.stamp(&sha256(DATA), None, now).unwrap();
        let info = verify(&response, &sha256(DATA), &anchor).unwrap();
        assert!(serials.insert(info.serial));
        assert!(info.gen_time >= latest);
        latest = info.gen_time;
        latest
    };
    assert_eq!(check(&authority, NOW.plus(5000)), NOW.plus(5000));
    assert_eq!(check(&authority, *NOW), NOW.plus(5000), "the clock went back, the token must not");
    let restarted = Authority::load(&path, Millis(0)).unwrap();
    let after = check(&restarted, NOW.plus(1));
    assert!(after <= NOW.plus(6000), "nor across a restart, {after:?}");
    assert_eq!(check(&restarted, NOW.plus(7000)), NOW.plus(7000));
    let told = Authority::load(&path, NOW.plus(90_000)).unwrap();
    assert_eq!(check(&told, NOW.plus(7000)), NOW.plus(90_000), "nor below what the caller has seen");
}

#[test]
fn no_token_is_made_outside_the_validity_of_the_unit() {
    let year = 31_556_952_000;
    for (floor, now) in
        [(0, NOW.0 - 60_000), (0, NOW.0 + year + 2_000), (NOW.0 + 2 * year, NOW.0), (0, i64::MAX), (-1, -1)]
    {
        let (_folder, path) = copied();
        let authority = Authority::load(&path, Millis(floor)).unwrap();
        assert!(matches!(authority.stamp(&sha256(DATA), None, Millis(now)), Err(TsaError::Validity)), "{floor} {now}");
    }
    let (_folder, path) = copied();
    let authority = Authority::load(&path, Millis(0)).unwrap();
    authority.stamp(&sha256(DATA), None, Millis(NOW.0 + 2 * year)).unwrap_err();
    let response = authority.stamp(&sha256(DATA), None, *NOW).unwrap();
    assert_eq!(verify(&response, &sha256(DATA), &anchor()).unwrap().gen_time, *NOW, "a refused time must not stick");
}

#[test]
fn a_policy_stands_only_where_somebody_vouches_for_the_time() {
    let (_folder, path) = copied();
    let authority = Authority::load(&path, Millis(0)).unwrap().with_policy("0.4.0.2023.1.1").unwrap();
    let says = |moment: Moment| {
        let info = verify(&authority.stamp(&sha256(DATA), None, moment).unwrap(), &sha256(DATA), &anchor()).unwrap();
        (info.policy, info.accuracy_ms)
    };
    assert_eq!(says(Moment::from(*NOW)), (TEST_POLICY.to_owned(), None));
    for accuracy in [1_000, 2_500, 500, 3] {
        let moment = Moment { now: NOW.plus(10_000), accuracy_ms: Some(accuracy) };
        assert_eq!(says(moment), ("0.4.0.2023.1.1".to_owned(), Some(u64::from(accuracy))));
    }
    let mut authority = authority;
    for bad in ["", "policy", "1", "3.9.9", "1.2.3."] {
        assert!(authority.with_policy(bad).is_err(), "{bad}");
        authority = Authority::load(&path, Millis(0)).unwrap();
    }
}

#[test]
fn an_authority_is_made_whole_private_and_never_over_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tsa");
    // What a crash left, and an empty folder that the operator made.
    fs::create_dir(folder.path().join("tsa.new")).unwrap();
    fs::write(folder.path().join("tsa.new").join("ca.key"), "half").unwrap();
    fs::create_dir(&path).unwrap();
    Authority::create(&path, "Zegel", *NOW).unwrap();
    for (name, mode) in [("ca.key", 0o600), ("tsa.key", 0o600), ("ca.pem", 0o644), ("tsa.pem", 0o644)] {
        assert_eq!(fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777, mode, "{name}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(fs::metadata(path.join("starts")).unwrap().permissions().mode() & 0o077 & 0o022, 0);
    let key = fs::read(path.join("tsa.key")).unwrap();
    assert!(matches!(Authority::create(&path, "Zegel", *NOW), Err(TsaError::Exists(_))));
    assert_eq!(fs::read(path.join("tsa.key")).unwrap(), key);
    assert!(Authority::create(&folder.path().join("other"), "", *NOW).is_err());
}

#[test]
fn a_folder_that_does_not_fit_together_is_refused() {
    let (folder, authority) = fresh();
    let path = folder.path().join("tsa");
    assert!(!format!("{authority:?}").contains("KeyPair"));
    for name in ["ca.key", "tsa.key"] {
        fs::set_permissions(path.join(name), fs::Permissions::from_mode(0o640)).unwrap();
        let text = Authority::load(&path, *NOW).unwrap_err().to_string();
        assert!(text.contains("chmod 600") && text.contains(name), "{text}");
        fs::set_permissions(path.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    for name in ["ca.pem", "tsa.pem", "tsa.key"] {
        let good = fs::read(path.join(name)).unwrap();
        fs::copy(SHARED.0.path().join("tsa").join(name), path.join(name)).unwrap();
        assert!(Authority::load(&path, *NOW).is_err(), "{name} of another authority");
        fs::write(path.join(name), "text").unwrap();
        assert!(Authority::load(&path, *NOW).is_err(), "{name} is no PEM");
        fs::write(path.join(name), good).unwrap();
    }
    let ca = fs::read(path.join("ca.pem")).unwrap();
    fs::copy(path.join("tsa.pem"), path.join("ca.pem")).unwrap();
    assert!(Authority::load(&path, *NOW).is_err(), "a unit is not a CA");
    fs::write(path.join("ca.pem"), ca).unwrap();
    Authority::load(&path, *NOW).unwrap();
    Authority::check(&path).unwrap();
    fs::copy(SHARED.0.path().join("tsa/ca.key"), path.join("ca.key")).unwrap();
    assert!(Authority::check(&path).is_err(), "ca.key of another authority");
    fs::write(path.join("ca.key"), "text").unwrap();
    assert!(Authority::check(&path).is_err(), "ca.key is no PEM");
}
