//! Tools that we did not write read our bags: `openssl ts` the tokens, `xmllint` the XML with the eHealth XSD.

use crate::stage::{MINUTE, Stage, TEN, authority, entry};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use zegel_timestamp::queries;

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
