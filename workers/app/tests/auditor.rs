//! The auditor's page, command by command, on archives of a platform that ran; and the exit status of each kind of finding.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![allow(clippy::disallowed_methods)] // a test's thread may sleep

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const HOSPITAL: &str = "NIHII-HOSPITAL:71000436";
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/auditor.md");

struct Platform(Child);

impl Drop for Platform {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// The program in a folder; `ZEGEL_DATA` leads it to the platform.
fn command(folder: &Path, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).args(arguments).env("ZEGEL_DATA", folder.join("data"));
    command
}

fn zegel(folder: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = command(folder, env!("CARGO_BIN_EXE_zegel"), arguments).arg("--json").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {said}")))
}

fn ok(folder: &Path, arguments: &[&str]) -> Value {
    let (status, value) = zegel(folder, arguments);
    assert_eq!(status, Some(0), "{arguments:?}: {value}");
    value
}

/// A platform in which five prescriptions were stamped and their bag was delivered; the working folder holds what the page
/// presumes.
fn begun(folder: &Path) -> Platform {
    let mut child = command(folder, env!("CARGO_BIN_EXE_zegel"), &["up", "--listen", "127.0.0.1:0"])
        .env("ZEGEL_TIMESTAMP__WINDOW", "*/1 * * * * *")
        .env("ZEGEL_LOG__LEVEL", "warn")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("listening on "), "{line}");
    let platform = Platform(child);
    ok(folder, &["mailbox", "open", HOSPITAL]);
    ok(folder, &["timestamp", "enrol", HOSPITAL]);
    let mut lines = String::new();
    for number in 1..=5 {
        let path = folder.join(format!("rx-{number}.xml"));
        fs::write(&path, format!("<prescription number=\"{number}\">10 mg</prescription>\n")).unwrap();
        let digest = zegel_crypto::hash::sha256(&fs::read(&path).unwrap());
        lines.push_str(&format!("{number},{digest}\n"));
    }
    fs::write(folder.join("list.csv"), lines).unwrap();
    ok(folder, &["timestamp", "add", HOSPITAL, "list.csv"]);
    let begun = Instant::now();
    loop {
        let bags = ok(folder, &["timestamp", "bags", HOSPITAL]);
        let counts: Vec<u64> =
            bags["bags"].as_array().unwrap().iter().filter_map(|bag| bag["count"].as_u64()).collect();
        let delivered = ok(folder, &["inbox", HOSPITAL]).to_string().contains("\"bag-header\"");
        if counts.iter().sum::<u64>() == 5 && delivered {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "no bag was sealed");
        std::thread::sleep(Duration::from_millis(100));
    }
    ok(folder, &["timestamp", "fetch", HOSPITAL, "--out", "fetched"]);
    fs::copy(folder.join("fetched/ca.pem"), folder.join("ca.pem")).unwrap();
    platform
}

/// The page's blocks of commands.
fn blocks() -> Vec<String> {
    let text = fs::read_to_string(PAGE).unwrap();
    text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// Whether the tools that the page names are there.
fn tools() -> bool {
    let there = ["openssl", "tar", "sha256sum", "sed"]
        .iter()
        .all(|tool| Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap().status.success());
    assert!(
        there || std::env::var_os("ZEGEL_ORACLES").is_none(),
        "ZEGEL_ORACLES is set and a tool of the page is absent"
    );
    there
}

#[test]
fn every_command_on_the_auditors_page_does_what_the_page_says() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    if !tools() {
        println!("SKIPPED: openssl, tar, sha256sum or sed is absent");
        return;
    }
    let _platform = begun(folder);
    let program = PathBuf::from(env!("CARGO_BIN_EXE_zegel"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
    let blocks = blocks();
    assert!(blocks.len() >= 8, "the page has lost its commands");
    for block in &blocks {
        let output = command(folder, "sh", &["-e", "-c", block]).env("PATH", &path).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{block}\n{said}");
    }
    let report: Value = serde_json::from_slice(&fs::read(folder.join("audit.json")).unwrap()).unwrap();
    assert_eq!((report["verdict"].as_str(), report["archives"][0]["entries"].as_u64()), (Some("clean"), Some(5)));
    statuses(folder);
    consultation(folder);
}

/// One call as the operator: status and body.
fn call(folder: &Path, method: &str, path: &str, body: &str) -> (u16, String) {
    let base = fs::read_to_string(folder.join("data/zegel.address")).unwrap();
    let token = fs::read_to_string(folder.join("data/credentials/operator.token")).unwrap();
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("{}{path}", base.trim()))
        .header("authorization", format!("Bearer {}", token.trim()))
        .header("content-type", "application/xml");
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut response = agent.run(request.body(body.to_owned()).unwrap()).unwrap();
    (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
}

/// What stands between tags of this name.
fn between<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split(&open).skip(1).map(|rest| rest.split(&close).next().unwrap()).collect()
}

/// A hospital that lost its archive asks what there is, and has it back by the calls of the eHealth schema and by the stream.
fn consultation(folder: &Path) {
    const NAMESPACE: &str = "urn:be:fgov:ehealth:timestamping:protocol:v2";
    let request = |element: &str, period: &str, list: &[&str]| {
        let list: String = list.iter().map(|one| format!("<TSList>{one}</TSList>")).collect();
        format!("<{element} xmlns=\"{NAMESPACE}\"><IDHospital>71000436</IDHospital>{period}{list}</{element}>")
    };
    let ever = format!("<Period><Start>0</Start><End>{}</End></Period>", i64::MAX);
    let (status, answer) = call(folder, "POST", "/v1/timestamp/consult", &request("TSConsultRequest", &ever, &[]));
    assert_eq!((status, between(&answer, "Status")), (200, vec!["INCOMPLETE"]), "{answer}");
    valid(folder, "consult.xml", &answer);
    let list = between(&answer, "TSList");
    let (_, answer) = call(folder, "POST", "/v1/timestamp/consult", &request("TSConsultRequest", &ever, &list));
    // Another window may have ended meanwhile; what was named is not missing.
    assert!(between(&answer, "TSList").iter().all(|one| !list.contains(one)), "{answer}");
    let first = &list[..list.len().min(10)];
    let (status, answer) = call(folder, "POST", "/v1/timestamp/retrieve", &request("TSConsultTSBagRequest", "", first));
    valid(folder, "bags.xml", &answer);
    let bags = between(&answer, "TSBagValue");
    assert_eq!((status, bags.len()), (200, first.len()));
    let own = |number: usize| fs::read(folder.join(format!("fetched/{number}.xml"))).unwrap();
    assert_eq!(STANDARD.decode(bags[0]).unwrap(), own(1));
    let eleven = vec![list[0]; 11];
    let (status, answer) =
        call(folder, "POST", "/v1/timestamp/retrieve", &request("TSConsultTSBagRequest", "", &eleven));
    assert_eq!((status, between(&answer, "Type")), (400, vec!["InvalidRequest"]));
    let nobody = request("TSConsultRequest", &ever, &[]).replace("71000436", "CBE:0123456749");
    assert!(call(folder, "POST", "/v1/timestamp/consult", &nobody).0 >= 400);
    let (status, lines) = call(folder, "GET", &format!("/v1/timestamp/stream/{HOSPITAL}?from=1&to=2"), "");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((status, lines[0]["sequence"].as_u64()), (200, Some(1)));
    assert_eq!(STANDARD.decode(lines[0]["xml"].as_str().unwrap()).unwrap(), own(1));
}

/// Validates an answer with the eHealth schemas, which stay outside the repository.
fn valid(folder: &Path, name: &str, xml: &str) {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/ehealth/connector-xsd");
    let schema = schemas.join("ehealth-timestamping/XSD/ehealth-profiles-timestamping-2_0.xsd");
    fs::write(folder.join(name), xml).unwrap();
    if !schema.is_file() {
        println!("SKIPPED: the eHealth schemas are not at {}", schemas.display());
        return;
    }
    match Command::new("xmllint").args(["--nonet", "--noout", "--schema"]).arg(schema).arg(folder.join(name)).output() {
        Ok(output) => assert!(output.status.success(), "{}\n{xml}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "ZEGEL_ORACLES is set and xmllint is absent"),
    }
}

/// The exit statuses of the page's table, on the archives that its commands left.
fn statuses(folder: &Path) {
    let audit = |arguments: &[&str]| {
        let (status, value) = zegel(folder, &[&["audit", "--trust", "trust.toml"], arguments].concat());
        (status, value["names"].as_object().map(|names| names.keys().cloned().collect::<Vec<_>>()).unwrap_or_default())
    };
    let (status, names) = audit(&["--archive", "archive", "--documents", "list.csv"]);
    assert_eq!((status, names), (Some(0), Vec::new()));
    fs::write(folder.join("more.csv"), format!("77,{}\n", "ab".repeat(32))).unwrap();
    let (status, names) = audit(&["--archive", "archive", "--documents", "more.csv"]);
    assert_eq!((status, names), (Some(12), vec!["document-missing".to_owned()]));
    // Another authority than the one that stamped.
    let other = folder.join("other");
    fs::create_dir(&other).unwrap();
    zegel_crypto::tsa::Authority::create(&other.join("tsa"), "Other", schemas::Millis(1_700_000_000_000)).unwrap();
    fs::write(folder.join("other.toml"), "[[ca]]\nfile = \"other/tsa/ca.pem\"\n").unwrap();
    let (status, _) = zegel(folder, &["audit", "--archive", "archive", "--trust", "other.toml"]);
    assert_eq!(status, Some(13));
    // A bit of the hospital's archive; the comparison says whose it was.
    let segment = folder.join("own-archive/000001.zseg");
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&segment, &bytes).unwrap();
    let (status, names) = audit(&["--archive", "own-archive"]);
    assert!(matches!(status, Some(10 | 11)) && names.contains(&"record-digest".to_owned()), "{status:?} {names:?}");
    assert_eq!(audit(&["--archive", "nowhere"]).0, Some(1));
    assert_eq!(zegel(folder, &["audit", "--archive", "archive", "--trust", "list.csv"]).0, Some(2));
    // An export goes on, and does not write over another side's archive.
    let again = ok(folder, &["timestamp", "export", HOSPITAL, "--out", "archive"]);
    assert!(again["last"].as_u64().unwrap() >= 1);
    assert_eq!(zegel(folder, &["timestamp", "export", HOSPITAL, "--side", "hospital", "--out", "archive"]).0, Some(1));
    let dry = ok(folder, &["timestamp", "expire", "archive", "--years", "30", "--dry-run"]);
    assert_eq!(dry["bags"], 0);
}
