//! The pages of the TTP's officer, the hospital and the researcher: their commands, in the order of their steps, on one installation.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");
const HOSPITAL: &str = "NIHII-HOSPITAL:71000436";
const RESEARCHER: &str = "CBE:0123456749";
/// When the document is in force and the platform can be started.
const ACTIVATED: u32 = 8;

struct Platform(Child);

impl Drop for Platform {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Each step's blocks, with the page that they stand on.
fn steps() -> BTreeMap<u32, Vec<(&'static str, String)>> {
    let mut steps: BTreeMap<u32, Vec<_>> = BTreeMap::new();
    for page in ["officer", "hospital", "researcher"] {
        let text = fs::read_to_string(format!("{DOCS}/{page}.md")).unwrap();
        let marked = text.split("<!-- step ").skip(1);
        assert_eq!(marked.clone().count(), text.matches("```sh\n").count(), "{page}: a block has no step");
        for part in marked {
            let (number, rest) = part.split_once(" -->\n```sh\n").expect("a block follows the step");
            let block = rest.split_once("```").expect("it ends").0.to_owned();
            steps.entry(number.parse().unwrap()).or_default().push((page, block));
        }
    }
    steps
}

fn command(folder: &Path, program: &str) -> Command {
    let programs = Path::new(env!("CARGO_BIN_EXE_zegel")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(program);
    command.current_dir(folder).env("PATH", path).env("ZEGEL_LOG__LEVEL", "error");
    command
}

/// Starts the platform and opens both mailboxes; what the operator hands out lies in the folder.
fn start(folder: &Path) -> (Platform, String) {
    let mut up = command(folder, env!("CARGO_BIN_EXE_zegel"));
    up.args(["up", "--listen", "127.0.0.1:0", "--data", "data"]).env("ZEGEL_TIMESTAMP__ALGORITHM", "ecdsa-p256");
    let mut child = up.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let platform = Platform(child);
    let url = line.trim().strip_prefix("listening on ").expect("the platform starts").to_owned();
    for (address, file) in [(HOSPITAL, "hospital.token"), (RESEARCHER, "registry.token")] {
        let mut open = command(folder, env!("CARGO_BIN_EXE_zegel"));
        assert!(open.args(["mailbox", "open", address, "--data", "data"]).output().unwrap().status.success());
        let kept = format!("data/credentials/{}.token", address.replace(':', "-"));
        fs::rename(folder.join(kept), folder.join(file)).unwrap();
    }
    (platform, url)
}

#[test]
fn every_command_on_the_pages_of_officer_hospital_and_researcher_does_what_the_page_says() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut running: Option<(Platform, String)> = None;
    let steps = steps();
    assert_eq!(steps.keys().copied().collect::<Vec<_>>(), (1..=13).collect::<Vec<_>>(), "a step is missing");
    let mut said = String::new();
    for (number, blocks) in steps {
        for (page, block) in blocks {
            let url = running.as_ref().map_or("http://127.0.0.1:8480", |(_, url)| url);
            let text = block.replace("http://127.0.0.1:8480", url);
            let mut shell = command(folder, "sh");
            if page == "officer" {
                shell.env("ZEGEL_DATA", "data");
            }
            let output = shell.args(["-e", "-c", &text]).output().unwrap();
            said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(output.status.success(), "{page}, step {number}:\n{block}\n{said}");
        }
        if number == ACTIVATED {
            running = Some(start(folder));
        }
    }
    assert!(said.contains("keys destroyed"), "{said}");
    let preview = fs::read_to_string(folder.join("preview.csv")).unwrap();
    assert!(preview.contains("P1.") && !preview.contains("85061511796") && !preview.contains("none"), "{preview}");
    let returned = all(&folder.join("returned"));
    assert!(returned.contains("85061511895") && returned.contains("8.1,0.5"), "{returned}");
}

fn all(folder: &Path) -> String {
    fs::read_dir(folder).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
}
