//! The operator's page about keys, command by command, over a PKCS#11 module that is not ours (SoftHSMv2).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![allow(clippy::disallowed_methods)] // a test's thread may sleep

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/keys.md");
const MODULE: &str = "pkcs11:token=Zegel?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:pin";

struct Platform {
    child: Child,
    url: String,
}

impl Drop for Platform {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

fn command(folder: &Path, program: &str, arguments: &[&str]) -> Command {
    let program_folder = Path::new(env!("CARGO_BIN_EXE_zegel")).parent().unwrap();
    let path = format!("{}:{}", program_folder.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(program);
    command.current_dir(folder).args(arguments).env("PATH", path).env("SOFTHSM2_CONF", folder.join("softhsm2.conf"));
    command.env("ZEGEL_TIMESTAMP__ALGORITHM", "ecdsa-p256").env("ZEGEL_LOG__LEVEL", "error");
    command
}

fn platform(folder: &Path, module: &str) -> Platform {
    started(folder, ("ZEGEL_KEYS__MODULE", module))
}

fn started(folder: &Path, setting: (&str, &str)) -> Platform {
    let mut up = command(folder, env!("CARGO_BIN_EXE_zegel"), &["up", "--listen", "127.0.0.1:0"]);
    let mut child = up.env(setting.0, setting.1).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("listening on ").expect("the platform starts").to_owned();
    Platform { child, url }
}

fn shell(folder: &Path, text: &str) -> String {
    let output = command(folder, "sh", &["-e", "-c", text]).env("ZEGEL_KEYS__MODULE", MODULE).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{text}\n{said}");
    said
}

/// A folder with settings for SoftHSM; none where it is absent, which is said loudly.
fn softhsm() -> Option<tempfile::TempDir> {
    let there = ["softhsm2-util", "pkcs11-tool", "openssl", "curl"]
        .iter()
        .all(|tool| Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap().status.success());
    if !there {
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "ZEGEL_ORACLES is set and a tool of the page is absent");
        println!("SKIPPED: a tool of the page is absent");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    fs::create_dir(&tokens).unwrap();
    fs::write(folder.path().join("softhsm2.conf"), format!("directories.tokendir = {}\n", tokens.display())).unwrap();
    Some(folder)
}

#[test]
fn every_command_on_the_page_about_keys_does_what_the_page_says() {
    let Some(folder) = softhsm() else { return };
    let folder = folder.path();
    let text = fs::read_to_string(PAGE).unwrap();
    let blocks: Vec<&str> = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let [made, used, moved] = blocks[..] else { panic!("the page has lost its commands") };
    assert!(made.contains(MODULE), "the page names another module");
    // The platform itself is started here, on a port that is free.
    shell(folder, made.strip_suffix("zegel up\n").unwrap());
    let running = platform(folder, MODULE);
    let said = shell(folder, &used.replace("http://127.0.0.1:8480", &running.url));
    assert!(said.contains("Verification: OK"), "{said}");
    assert_eq!(said.matches("sensitive, always sensitive, never extractable, local").count(), 3, "{said}");
    drop(running);
    let said = shell(folder, moved);
    assert!(said.contains("sealed under pkcs11:token=Zegel;object=zegel%20key%20file;"), "{said}");
    for name in ["keys.toml", "tsa/ca.key", "tsa/tsa.key"] {
        let kept = fs::read_to_string(folder.join("zegel-data").join(name)).unwrap();
        assert!(!kept.contains("PRIVATE KEY") && !kept.contains("master") && kept.contains("pkcs11:"), "{name}");
    }
    // Revoking needs the CA's key, which is in the module too.
    shell(folder, "zegel timestamp revoke --reason superseded --data zegel-data");
    let without = command(folder, env!("CARGO_BIN_EXE_zegel"), &["keys", "status", "--json"]).output().unwrap();
    let told = String::from_utf8_lossy(&without.stdout).into_owned();
    assert!(!without.status.success() && told.contains("keys.module"), "{told}");
}

#[test]
fn an_installation_of_before_moves_into_the_module_and_keeps_what_it_stored() {
    let Some(folder) = softhsm() else { return };
    let folder = folder.path();
    drop(platform(folder, ""));
    let token = "softhsm2-util --init-token --free --label Zegel --so-pin 5551234567 --pin 87654321";
    shell(folder, &format!("{token}; (umask 077; echo 87654321 > pin); zegel keys seal; zegel check"));
    let keys = fs::read_to_string(folder.join("zegel-data/keys.toml")).unwrap();
    assert!(keys.contains("kdf = \"pkcs11\""), "{keys}");
    all_sealed(folder);
    let running = platform(folder, MODULE);
    // The upkeep begins with the start, and runs beside it.
    let unit = folder.join("zegel-data/tsa/units/2/tsa.key");
    for _ in 0..600 {
        if unit.exists() && !folder.join("zegel-data/tsa/tsa.key").exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert!(fs::read_to_string(unit).unwrap().starts_with("pkcs11:"));
    assert!(!folder.join("zegel-data/tsa/tsa.key").exists(), "the old unit's key is still there");
    drop(running);
    shell(folder, "zegel check");
}

/// No private key of the authority or the log stands open in a file.
fn all_sealed(folder: &Path) {
    for name in ["ca.key", "tsa.key", "log.key"] {
        let text = fs::read_to_string(folder.join("zegel-data/tsa").join(name)).unwrap();
        assert!(text.starts_with("-----BEGIN ZEGEL SEALED PRIVATE KEY-----"), "{name} stands open");
    }
}

#[test]
fn under_a_passphrase_a_copy_of_the_data_folder_has_no_private_key() {
    let passphrase = ("ZEGEL_KEYS__PASSPHRASE", "file:passphrase");
    for began_open in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let zegel = |place: &str, arguments: &[&str]| {
            let mut command = command(folder, env!("CARGO_BIN_EXE_zegel"), arguments);
            command.arg("--json").env(passphrase.0, place).output().unwrap().status.code()
        };
        for (name, text) in [("passphrase", "correct horse battery\n"), ("other", "another horse battery\n")] {
            fs::write(folder.join(name), text).unwrap();
            fs::set_permissions(folder.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }
        if began_open {
            drop(started(folder, (passphrase.0, "")));
            let open = fs::read_to_string(folder.join("zegel-data/tsa/tsa.key")).unwrap();
            assert!(open.starts_with("-----BEGIN PRIVATE KEY-----"));
            assert_eq!(zegel("file:passphrase", &["keys", "seal"]), Some(0));
        } else {
            drop(started(folder, passphrase));
        }
        all_sealed(folder);
        let stamped = fs::read_to_string(folder.join("zegel-data/tsa/tsa.pem")).unwrap();
        drop(started(folder, passphrase));
        assert_eq!(fs::read_to_string(folder.join("zegel-data/tsa/tsa.pem")).unwrap(), stamped, "another authority");
        assert_eq!(zegel("file:passphrase", &["check"]), Some(0));
        assert_eq!(zegel("file:passphrase", &["keys", "passphrase", "--new", "file:other"]), Some(0));
        assert_eq!(zegel("file:other", &["check"]), Some(0), "the authority was left behind");
        assert_eq!(zegel("file:other", &["timestamp", "revoke", "--reason", "superseded"]), Some(0));
        assert_ne!(zegel("file:passphrase", &["timestamp", "revoke", "--reason", "superseded"]), Some(0));
    }
}
