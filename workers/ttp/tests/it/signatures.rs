//! Batches in the signature of their sender: made by openssl, checked, taken off; everything else is refused.

use crate::{SENDER, back, output, refused};
use std::fs;
use std::path::Path;
use std::process::Command;
use zegel_ttp::{CompiledProject, ProjectDocument};

const BATCH: &str = "niss,labs\n85061511796,SEALED\n";

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

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

/// A project in split mode: the number is the TTP's to read, the laboratory values are the recipient's.
fn split(folder: &Path) -> CompiledProject {
    let fingerprint = |name: &str| zegel_crypto::signed::fingerprint(&read(folder, name)).unwrap();
    let text = format!(
        "name = \"p\"\nsenders = [\"{SENDER}\"]\nrecipient = \"CBE:0123456749\"\nsigned = true\n\
         valid = {{ from = \"2026-01-01\", until = \"2030-12-31\" }}\n\
         [certificates]\n\"{SENDER}\" = \"{}\"\n\"CBE:0123456749\" = \"{}\"\n\
         [[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\n\
         [[fields]]\npath = \"labs\"\nkind = \"sealed\"\naction = \"keep\"\nsealed_for = \"\"\"\n{}\"\"\"\n",
        fingerprint("hospital.pem"),
        fingerprint("registry.pem"),
        read(folder, "registry.pem")
    );
    let document = ProjectDocument::parse(&text).unwrap_or_else(|error| panic!("{error}"));
    CompiledProject::new(document, &[7; 32]).unwrap()
}

fn sign(folder: &Path, who: &str, more: &str) -> Vec<u8> {
    let to = format!(
        "cms -sign -binary -md sha256 -signer {who}.pem -inkey {who}.key -in batch.csv -outform DER -out signed{more}"
    );
    assert!(openssl(folder, &to));
    fs::read(folder.join("signed")).unwrap()
}

#[test]
fn the_ttp_checks_and_takes_off_the_signature_and_the_recipient_alone_reads_the_medical_part() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for name in ["hospital", "registry", "stranger"] {
        let new =
            format!("req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name}");
        if !openssl(at, &new) {
            return;
        }
    }
    fs::write(at.join("labs.json"), r#"{"hba1c":7.2}"#).unwrap();
    openssl(at, "cms -encrypt -aes256 -binary -in labs.json -outform DER -out labs.der registry.pem");
    let sealed = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, fs::read(at.join("labs.der")).unwrap());
    fs::write(at.join("batch.csv"), BATCH.replace("SEALED", &sealed)).unwrap();
    let project = split(at);

    let signed = sign(at, "hospital", " -nodetach");
    let folder_of_run = tempfile::tempdir().unwrap();
    let keys = zegel_crypto::Keyring::generate_in_memory();
    let scratch = zegel_ttp::ScratchDir { folder: folder_of_run.path(), keys: &keys };
    let mut random = |bytes: &mut [u8]| zegel_core::Keys::random(&keys, bytes);
    let mut out = Vec::new();
    let sender = crate::sender();
    zegel_ttp::transform(&project, &sender, &mut &signed[..], &mut out, Some(scratch), &mut random).unwrap();
    let delivered = String::from_utf8(out).unwrap();
    assert!(!delivered.contains("85061511796") && delivered.contains(&sealed), "{delivered}");
    // Only the registry opens its part, and a way back goes unsigned: it was delivered so.
    let part = delivered.lines().nth(1).unwrap().split(',').nth(1).unwrap();
    fs::write(at.join("part"), base64::Engine::decode(&base64::prelude::BASE64_STANDARD, part).unwrap()).unwrap();
    openssl(at, "cms -decrypt -inform DER -in part -inkey registry.key -recip registry.pem -out opened");
    assert_eq!(read(at, "opened"), r#"{"hba1c":7.2}"#);
    assert!(back(&project, delivered.as_bytes()).unwrap().contains("85061511796"));

    let refusal = |batch: &[u8]| refused(&project, batch).code;
    assert_eq!(refusal(&fs::read(at.join("batch.csv")).unwrap()), "ZGL-TTP-SIGNATURE", "an unsigned batch passes");
    assert_eq!(refusal(&sign(at, "stranger", " -nodetach")), "ZGL-TTP-SIGNATURE", "a stranger's batch passes");
    assert_eq!(refusal(&sign(at, "hospital", "")), "ZGL-TTP-SIGNATURE", "a signature without a batch passes");
    let place = signed.windows(4).position(|window| window == b"niss").unwrap();
    for at in [place, place + 12, signed.len() - 3] {
        let mut changed = signed.clone();
        changed[at] ^= 1;
        assert_eq!(refusal(&changed), "ZGL-TTP-SIGNATURE", "byte {at} was changed");
    }
    let unsigned = crate::project(
        "[[fields]]\npath = \"niss\"\naction = \"drop\"\n[[fields]]\npath = \"labs\"\naction = \"keep\"",
    );
    assert!(output(&unsigned, BATCH).contains("SEALED"), "projects of before want no signature");
}
