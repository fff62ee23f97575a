//! Tools that we did not write read our bags: `openssl ts` the tokens, `xmllint` the XML with the eHealth XSD.

use crate::stage::{MINUTE, Stage, TEN, authority, entry};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use zegel_crypto::hash::sha256;
use zegel_timestamp::{dss, queries};

/// Runs a tool: whether it was content, and what it said. None, loudly, when it is not installed.
fn run(command: &mut Command) -> Option<(bool, String)> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
        }
        Err(_) => {
            assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "ZEGEL_ORACLES is set and {program} is absent");
            eprintln!("SKIPPED: {program} is not installed");
            None
        }
    }
}

/// A folder with two bags (the first one with entries, the second empty) and the CA.
fn bags() -> tempfile::TempDir {
    let mut stage = Stage::usual();
    stage.offer(&(1..=100).map(|reference| entry(reference, 1)).collect::<Vec<_>>());
    stage.now = TEN.plus(65 * MINUTE);
    stage.tick();
    stage.seal_all();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ca.pem"), &authority().2).unwrap();
    for bag in stage.bags() {
        fs::write(folder.path().join(format!("{}.xml", bag.sequence)), stage.content(&bag.xml)).unwrap();
        let token = stage.query(&queries::token(stage.key, bag.sequence)).unwrap();
        fs::write(folder.path().join(format!("{}.tsr", bag.sequence)), token).unwrap();
    }
    folder
}

fn verify(folder: &Path, xml: &str) -> Option<(bool, String)> {
    let mut command = Command::new("openssl");
    command.current_dir(folder).args(["ts", "-verify", "-data", xml, "-in", "1.tsr", "-CAfile", "ca.pem"]);
    run(&mut command)
}

#[test]
fn openssl_accepts_a_bag_and_refuses_it_with_one_byte_changed() {
    let folder = bags();
    let Some((good, said)) = verify(folder.path(), "1.xml") else { return };
    assert!(good, "{said}");
    let mut bytes = fs::read(folder.path().join("1.xml")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] = b' ';
    fs::write(folder.path().join("changed.xml"), bytes).unwrap();
    assert!(!verify(folder.path(), "changed.xml").unwrap().0);
    assert!(!verify(folder.path(), "2.xml").unwrap().0);
}

#[test]
fn bags_follow_the_ehealth_schema() {
    let Some(schemas) = ehealth_schemas() else { return };
    let folder = bags();
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("xsd/zegel-timestampbag.xsd");
    let beside = folder.path().join("ehealth-timestamping/XSD");
    copy(&schemas.join("ehealth-timestamping/XSD"), &beside);
    copy(&schemas.join("external/XSD"), &folder.path().join("external/XSD"));
    fs::copy(ours, beside.join("zegel-timestampbag.xsd")).unwrap();
    let check = |xml: &str| {
        let mut command = Command::new("xmllint");
        command.current_dir(folder.path()).args(["--nonet", "--noout", "--schema"]);
        run(command.arg("ehealth-timestamping/XSD/zegel-timestampbag.xsd").arg(xml))
    };
    for xml in ["1.xml", "2.xml"] {
        let Some((good, said)) = check(xml) else { return };
        assert!(good, "{said}");
    }
    let text = fs::read_to_string(folder.path().join("1.xml")).unwrap();
    fs::write(folder.path().join("bad.xml"), text.replacen("<Ref>7<", "<Ref>seven<", 1)).unwrap();
    assert!(!check("bad.xml").unwrap().0);
}

/// The eHealth platform's way of asking: our answers follow the schema of OASIS DSS, and the token in them is one for openssl.
#[test]
fn a_sign_request_gets_a_sign_response_of_the_schema_with_a_token_that_openssl_accepts() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, _, pem) = authority();
    fs::write(folder.path().join("ca.pem"), pem).unwrap();
    fs::write(folder.path().join("bag.xml"), "a bag of the hospital's own").unwrap();
    let ask = |documents: &str| {
        let request = format!(
            "<SignRequest xmlns=\"urn:oasis:names:tc:dss:1.0:core:schema\" xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\" \
             RequestID=\"r-1\" Profile=\"urn:ehealth:profiles:timestamping:2.1-cert\"><InputDocuments>{documents}\
             </InputDocuments></SignRequest>"
        );
        (dss::answer(request.as_bytes(), authority.as_ref(), Some(TEN)), request)
    };
    let bag = STANDARD.encode(fs::read(folder.path().join("bag.xml")).unwrap());
    let (whole, request) = ask(&format!("<Document><Base64Data>{bag}</Base64Data></Document>"));
    let hash = STANDARD.encode(sha256(b"a bag of the hospital's own").0);
    let (hashed, _) = ask(&format!(
        "<DocumentHash><ds:DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\"/><ds:DigestValue>{hash}\
         </ds:DigestValue></DocumentHash>"
    ));
    let (refused, _) = ask("<Document><EscapedXML>x</EscapedXML></Document>");
    assert!(refused.contains("resultminor:NotSupported") && !refused.contains("Token"), "{refused}");
    for (name, answer) in [("whole", &whole), ("hashed", &hashed)] {
        assert!(answer.contains("RequestID=\"r-1\"") && answer.contains("resultmajor:Success"), "{answer}");
        let token = answer.split("<RFC3161TimeStampToken>").nth(1).unwrap().split('<').next().unwrap();
        fs::write(folder.path().join(name), STANDARD.decode(token).unwrap()).unwrap();
        let mut command = Command::new("openssl");
        command.current_dir(folder.path()).args(["ts", "-verify", "-data", "bag.xml", "-token_in", "-in", name]);
        let attime = (TEN.0 / 1_000 + 60).to_string();
        let Some((good, said)) = run(command.args(["-CAfile", "ca.pem", "-attime", &attime])) else { return };
        assert!(good, "{said}");
    }
    let Some(schemas) = ehealth_schemas() else { return };
    let schema = schemas.join("external/XSD/oasis-dss-core-schema-v1.0-os.xsd");
    for (name, xml) in [("request", &request), ("whole", &whole), ("hashed", &hashed), ("refused", &refused)] {
        let file = folder.path().join(format!("{name}.xml"));
        fs::write(&file, xml).unwrap();
        let mut command = Command::new("xmllint");
        let Some((good, said)) = run(command.args(["--nonet", "--noout", "--schema"]).arg(&schema).arg(file)) else {
            return;
        };
        assert!(good, "{said}\n{xml}");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// The eHealth schemas, which stay outside the repository.
fn ehealth_schemas() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let found = root.parent()?.join("shared/reference/ehealth/connector-xsd");
    if found.join("ehealth-timestamping/XSD/ehealth-profiles-timestamping-2_0.xsd").is_file() {
        return Some(found);
    }
    eprintln!("SKIPPED: the eHealth schemas are not at {}", found.display());
    None
}
