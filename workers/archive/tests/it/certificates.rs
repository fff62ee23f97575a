//! Certificates of units that had ended when a token was made, or ended since: made and stamped by OpenSSL, which asks nobody.

use crate::world::{Kept, audit_with, hospital, names};
use schemas::Millis;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};
use zegel_archive::Class;
use zegel_archive::testing::{Made, Maker, WINDOW_MS, entries};
use zegel_archive::trust::Trust;

/// An authority of OpenSSL's own. `$1` and `$2` are the first and last moment of its unit's certificate.
const AUTHORITY: &str = "
set -e
curve='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
openssl req -x509 $curve -keyout ca.key -out ca.pem -subj /CN=CA -days 100 -addext keyUsage=critical,keyCertSign,cRLSign
openssl req $curve -keyout tsu.key -out tsu.csr -subj /CN=TSU
printf 'extendedKeyUsage=critical,timeStamping\\nkeyUsage=critical,digitalSignature\\n' > extensions
printf '[ca]\\ndefault_ca=c\\n[c]\\ndatabase=index\\nserial=serial\\nnew_certs_dir=.\\ncertificate=ca.pem\\nprivate_key=ca.key\\n' > ca.cnf
printf 'default_md=sha256\\npolicy=p\\n[p]\\ncommonName=supplied\\n' >> ca.cnf
: > index; echo 01 > serial; echo 01 > ts-serial
openssl ca -batch -config ca.cnf -startdate $1 -enddate $2 -extfile extensions -notext -in tsu.csr -out tsu.pem
printf '[tsa]\\ndefault_tsa=t\\n[t]\\nserial=ts-serial\\ndefault_policy=1.2.3.4\\ndigests=sha256\\nsigner_digest=sha256\\n' > ts.cnf
printf 'ess_cert_id_alg=sha256\\n' >> ts.cnf
";
const STAMP: &str = "
set -e
openssl ts -query -data bag.xml -sha256 -cert -out bag.tsq
openssl ts -reply -queryfile bag.tsq -config ts.cnf -signer tsu.pem -inkey tsu.key -chain ca.pem -out bag.tsr
";

fn shell(folder: &Path, script: &str, arguments: &[&str]) {
    let output = Command::new("sh").args(["-c", script, "sh"]).args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An archive with one bag, stamped now under a certificate of that period, and what trusts its CA.
fn stamped(folder: &Path, period: [&str; 2]) -> (Kept, Trust) {
    stamped_by(folder, AUTHORITY, &period)
}

#[allow(clippy::disallowed_methods)] // OpenSSL stamps by the machine's clock
fn stamped_by(folder: &Path, authority: &str, arguments: &[&str]) -> (Kept, Trust) {
    shell(folder, authority, arguments);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let start = Millis(i64::try_from(now).unwrap()).plus(-WINDOW_MS - 5_000);
    let bound = Maker::new(hospital(), start).bind(&entries(1..4, 0));
    fs::write(folder.join("bag.xml"), &bound.xml).unwrap();
    shell(folder, STAMP, &[]);
    let made = Made { header: bound.header, xml: bound.xml, tsr: fs::read(folder.join("bag.tsr")).unwrap() };
    fs::write(folder.join("trust.toml"), "[[ca]]\nfile = \"ca.pem\"\n").unwrap();
    (Kept::of(&[made]), Trust::read(&folder.join("trust.toml")).unwrap())
}

#[test]
fn a_unit_whose_certificate_had_ended_or_not_begun_at_the_tokens_time_is_not_trusted() {
    if Command::new("openssl").arg("version").output().is_err() {
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "ZEGEL_ORACLES is set and openssl is absent");
        println!("SKIPPED: openssl is absent");
        return;
    }
    let audit = |period| {
        let folder = tempfile::tempdir().unwrap();
        let (kept, trust) = stamped(folder.path(), period);
        audit_with(&kept.path(), &trust, None).findings
    };
    let good = audit(["20200101000000Z", "20490101000000Z"]);
    assert_eq!((names(&good), good.status()), (vec![], 0), "{:?}", good.list());
    for period in [["20200101000000Z", "20210101000000Z"], ["20480101000000Z", "20490101000000Z"]] {
        let found = audit(period);
        assert_eq!((names(&found), found.status()), (vec!["token-untrusted"], 13), "{:?}", found.list());
        let text = &found.list().iter().find(|one| one.class == Class::Untrusted).unwrap().text;
        assert!(text.contains("not valid at that time"), "{text}");
    }
}

/// An authority whose unit was certified by a CA between it and the root, as qualified ones are.
const BETWEEN: &str = "
set -e
curve='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
certify() { openssl x509 -req -in $1.csr -CA $2.pem -CAkey $2.key -set_serial $3 -days 300 -extfile $1.ext -out $1.pem; }
openssl req -x509 $curve -keyout root.key -out root.pem -subj /CN=Root -days 400 -addext keyUsage=critical,keyCertSign,cRLSign
printf 'basicConstraints=critical,CA:TRUE\\nkeyUsage=critical,keyCertSign,cRLSign\\n' > middle.ext
printf 'extendedKeyUsage=critical,timeStamping\\nkeyUsage=critical,digitalSignature\\n' > tsu.ext
for one in middle tsu; do openssl req $curve -keyout $one.key -out $one.csr -subj /CN=$one; done
certify middle root 2
certify tsu middle 3
cp middle.pem ca.pem
echo 01 > ts-serial
printf '[tsa]\\ndefault_tsa=t\\n[t]\\nserial=ts-serial\\ndefault_policy=1.2.3.4\\ndigests=sha256\\nsigner_digest=sha256\\n' > ts.cnf
printf 'ess_cert_id_alg=sha256\\ness_cert_id_chain=yes\\n' >> ts.cnf
";

#[test]
fn bags_that_an_external_authority_stamped_are_audited_up_to_its_root() {
    if Command::new("openssl").arg("version").output().is_err() {
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "ZEGEL_ORACLES is set and openssl is absent");
        println!("SKIPPED: openssl is absent");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (kept, _) = stamped_by(folder.path(), BETWEEN, &[]);
    let trust = |lines: &str| {
        fs::write(folder.path().join("trust.toml"), format!("[[ca]]\n{lines}\n")).unwrap();
        Trust::read(&folder.path().join("trust.toml"))
    };
    let audit = |lines: &str| {
        let found = audit_with(&kept.path(), &trust(lines).unwrap(), None).findings;
        (names(&found), found.status())
    };
    assert_eq!(audit("file = \"root.pem\"\nexternal = true"), (vec![], 0));
    // Taken for a CA that signs its units itself, it is not believed; nor is a stranger's root.
    assert_eq!(audit("file = \"root.pem\""), (vec!["token-untrusted"], 13));
    shell(
        folder.path(),
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout s.key -out stranger.pem -subj /CN=Root -days 9",
        &[],
    );
    assert_eq!(audit("file = \"stranger.pem\"\nexternal = true"), (vec!["token-untrusted"], 13));
    assert!(trust("file = \"tsu.csr\"\nexternal = true").is_err());
    // Evidence of such a bag stands by itself too, and its `openssl` line holds.
    let archive = zegel_archive::reader::Archive::open(&kept.path()).unwrap();
    let external = trust("file = \"root.pem\"\nexternal = true").unwrap();
    let wanted = zegel_archive::evidence::Wanted { reference: Some(2), ..Default::default() };
    let bytes = zegel_archive::evidence::make(&archive, &wanted, &external).unwrap();
    let (view, findings) = zegel_archive::evidence::check(&bytes, None, &external);
    assert!(findings.clean(), "{:?}", findings.list());
    fs::write(folder.path().join("evidence.tar"), bytes).unwrap();
    shell(folder.path(), "mkdir court && tar -xf evidence.tar -C court", &[]);
    let lines = view.statement.unwrap().openssl;
    let line = lines.iter().find(|line| line.contains("ts -verify")).unwrap();
    shell(&folder.path().join("court"), line, &[]);
}

/// A revocation list of `$1` that names `$2`: expiry, date with reason, serial.
const LIST: &str = "
set -e
: > $1.index; test -z \"$2\" || printf 'R\\t490101000000Z\\t%s\\t%s\\tunknown\\t/CN=x\\n' \"$2\" \"$3\" > $1.index
printf '[ca]\\ndefault_ca=c\\n[c]\\ndatabase=%s.index\\ncrlnumber=%s.number\\ndefault_md=sha256\\n' $1 $1 > $1.cnf
printf 'default_crl_days=30\\nunique_subject=no\\n' >> $1.cnf
echo 01 > $1.number
openssl ca -config $1.cnf -gencrl -keyfile $1.key -cert $1.pem -out $1.crl
";

#[test]
fn a_revoked_ca_between_unit_and_root_is_found_and_a_list_that_is_absent_is_said() {
    if Command::new("openssl").arg("version").output().is_err() {
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "ZEGEL_ORACLES is set and openssl is absent");
        println!("SKIPPED: openssl is absent");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (kept, _) = stamped_by(folder.path(), BETWEEN, &[]);
    let audit = |lists: &str| {
        let text = format!("[[ca]]\nfile = \"root.pem\"\nexternal = true\ncrl = [{lists}]\n");
        fs::write(folder.path().join("trust.toml"), text).unwrap();
        let trust = Trust::read(&folder.path().join("trust.toml")).unwrap();
        let audited = audit_with(&kept.path(), &trust, None);
        let unknown = audited.findings.list().iter().filter(|found| found.name == "revocation-unknown");
        let texts: Vec<String> = unknown.map(|found| found.text.clone()).collect();
        assert_eq!(texts.is_empty(), audited.overview.revocations_known_until.is_some(), "{texts:?}");
        (names(&audited.findings), audited.findings.status(), texts)
    };
    let list = |ca: &str, date: &str, serial: &str| shell(folder.path(), LIST, &[ca, date, serial]);
    let clean = |texts: &[&str]| (vec![], 0, texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    let absent = |name: &str| format!("there is no revocation list of CN={name}: what it revoked is not known");
    list("root", "", "");
    list("middle", "", "");
    let both = "\"root.crl\", \"middle.crl\"";
    assert_eq!(audit(both), clean(&[]));
    assert_eq!(audit("\"middle.crl\""), clean(&[&absent("Root")]));
    assert_eq!(audit("\"root.crl\""), clean(&[&absent("middle")]));
    assert_eq!(audit(""), clean(&[&absent("Root"), &absent("middle")]));
    // The CA in between has the serial number 2, the unit 3.
    for (ca, date, serial, expected) in [
        ("root", "200101000000Z", "02", vec!["token-ca-revoked"]),
        ("root", "480101000000Z,CACompromise", "02", vec!["token-ca-revoked"]),
        ("root", "480101000000Z,superseded", "02", vec![]),
        // What another CA has with this number is revoked, not the unit.
        ("root", "200101000000Z", "03", vec![]),
        ("middle", "200101000000Z", "03", vec!["token-revoked"]),
    ] {
        list(ca, date, serial);
        let status = if expected.is_empty() { 0 } else { 13 };
        assert_eq!(audit(both), (expected, status, vec![]), "{ca} {date} {serial}");
        list(ca, "", "");
    }
    // A list that came with the archive counts as well.
    list("root", "200101000000Z", "02");
    let mut writer =
        zegel_archive::writer::Writer::open(&kept.path(), &hospital(), zegel_archive::manifest::Side::Platform)
            .unwrap();
    writer.append_material("root.crl", &fs::read(folder.path().join("root.crl")).unwrap()).unwrap();
    writer.finish().unwrap();
    assert_eq!(audit("\"middle.crl\""), (vec!["token-ca-revoked"], 13, vec![]));
}
