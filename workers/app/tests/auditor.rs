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
use zegel_archive::manifest::Side;
use zegel_archive::testing::{Made, Maker, entries};
use zegel_archive::writer::{NewBag, Writer};
use zegel_crypto::tsa::{Algorithm, Authority};

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
    let platform = started(folder, &[]);
    prepared(folder);
    platform
}

/// A platform with windows of a second and these settings.
fn started(folder: &Path, settings: &[(&str, &str)]) -> Platform {
    let mut child = command(folder, env!("CARGO_BIN_EXE_zegel"), &["up", "--listen", "127.0.0.1:0"])
        .env("ZEGEL_TIMESTAMP__WINDOW", "*/1 * * * * *")
        .env("ZEGEL_TIMESTAMP__CHECKPOINT_S", "1")
        .env("ZEGEL_LOG__LEVEL", "warn")
        .envs(settings.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("listening on "), "{line}");
    Platform(child)
}

fn prepared(folder: &Path) {
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
    stamped(folder, 5);
    ok(folder, &["timestamp", "fetch", HOSPITAL, "--out", "fetched"]);
    fs::copy(folder.join("fetched/ca.pem"), folder.join("ca.pem")).unwrap();
}

/// Waits until bags hold so many entries, and one was delivered.
fn stamped(folder: &Path, entries: u64) {
    let begun = Instant::now();
    loop {
        let bags = ok(folder, &["timestamp", "bags", HOSPITAL]);
        let counts: Vec<u64> =
            bags["bags"].as_array().unwrap().iter().filter_map(|bag| bag["count"].as_u64()).collect();
        let delivered = ok(folder, &["inbox", HOSPITAL]).to_string().contains("\"bag-header\"");
        if counts.iter().sum::<u64>() == entries && delivered {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "no bag was sealed");
        std::thread::sleep(Duration::from_millis(100));
    }
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
    every_class_has_its_status(folder);
    a_salting_hospital_is_not_accused(folder);
    the_log_stands_in_the_report(folder);
    consultation(folder);
    revocation(folder);
}

/// Archives that differ from a good one in one way each, through the program: status, and the name that decides it.
fn every_class_has_its_status(folder: &Path) {
    let place = folder.join("classes");
    fs::create_dir(&place).unwrap();
    let hospital: schemas::MailboxAddress = HOSPITAL.parse().unwrap();
    // 2026-01-01T10:00:00Z, and an authority of a month before.
    let ten = schemas::Millis(1_767_261_600_000);
    let made = |name: &str| {
        Authority::create_with(&place.join(name), name, ten.plus(-31 * 86_400_000), Algorithm::P256).unwrap()
    };
    let (own, other) = (made("own"), made("other"));
    fs::write(place.join("trust.toml"), "[[ca]]\nfile = \"own/ca.pem\"\n").unwrap();
    let mut maker = Maker::new(hospital.clone(), ten);
    let good: Vec<Made> = (0..4).map(|n| maker.make(&own, &entries(n * 3 + 1..n * 3 + 4, 0)).unwrap()).collect();
    let write = |name: &str, bags: &[Made]| {
        let mut writer = Writer::open(&place.join(name), &hospital, Side::Platform).unwrap();
        for one in bags {
            let header = one.header.encode();
            let (sequence, xml, tsr) = (one.header.sequence, &one.xml, &one.tsr);
            writer.append(&NewBag { sequence, header: &header, xml, tsr, request: None }).unwrap();
        }
        writer.finish().unwrap();
    };
    let with = |at: usize, change: &dyn Fn(&mut Made)| {
        let mut bags = good.clone();
        change(&mut bags[at]);
        bags
    };
    write("good", &good);
    write(
        "altered",
        &with(1, &|bag| {
            bag.xml = String::from_utf8(bag.xml.clone()).unwrap().replacen("<Ref>4<", "<Ref>44<", 1).into_bytes()
        }),
    );
    write("missing", &[good[0].clone(), good[1].clone(), good[3].clone()]);
    let stamped = |authority: &Authority, bag: &Made, later: i64| {
        authority.stamp(&zegel_crypto::hash::sha256(&bag.xml), None, bag.header.end.plus(later)).unwrap()
    };
    write("untrusted", &with(2, &|bag| bag.tsr = stamped(&other, bag, 1_000)));
    // The last bag was stamped twice: each archive is right by itself.
    write("twice", &with(3, &|bag| bag.tsr = stamped(&own, bag, 2_000)));
    write("damaged", &good);
    let segment = place.join("damaged/000001.zseg");
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.len() - 1;
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();
    for (arguments, status, name) in [
        (&["--archive", "good"][..], 0, ""),
        (&["--archive", "altered"], 10, "bag-root"),
        (&["--archive", "damaged"], 11, "segment-index"),
        (&["--archive", "missing"], 12, "bag-missing"),
        (&["--archive", "untrusted"], 13, "token-untrusted"),
        (&["--archive", "good", "--against", "twice"], 14, "token-differs"),
        (&["--archive", "missing", "--against", "altered"], 10, "bag-root"),
        (&["--archive", "untrusted", "--against", "damaged"], 11, "segment-index"),
    ] {
        let all = [&["audit", "--trust", "trust.toml", "--report", "report.json"], arguments].concat();
        let output = command(&place, env!("CARGO_BIN_EXE_zegel"), &all).arg("--json").output().unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(name.is_empty() || said["names"][name].as_u64().is_some(), "{arguments:?}: {said}");
        // The report, its page and the process say the same.
        let report: Value = serde_json::from_slice(&fs::read(place.join("report.json")).unwrap()).unwrap();
        let page = fs::read_to_string(place.join("report.html")).unwrap();
        assert_eq!(report["status"], status, "{arguments:?}");
        assert!(page.contains(&format!("Exit status {status}.")) && page.contains("class=\"good\"") == (status == 0));
    }
    assert_eq!(zegel(&place, &["audit", "--archive", "good", "--against", "good", "--trust", "trust.toml"]).0, Some(2));
}

/// Documents of a hospital that salts, which an auditor has without their salts.
fn a_salting_hospital_is_not_accused(folder: &Path) {
    let place = folder.join("salts");
    fs::create_dir(&place).unwrap();
    let hospital: schemas::MailboxAddress = HOSPITAL.parse().unwrap();
    // 2026-01-01T10:00:00Z, and an authority of a month before.
    let ten = schemas::Millis(1_767_261_600_000);
    let own = Authority::create_with(&place.join("own"), "own", ten.plus(-31 * 86_400_000), Algorithm::P256).unwrap();
    fs::write(place.join("trust.toml"), "[[ca]]\nfile = \"own/ca.pem\"\n").unwrap();
    fs::write(place.join("rx.xml"), "<prescription>7</prescription>").unwrap();
    let digest = zegel_crypto::hash::sha256(b"<prescription>7</prescription>");
    let mut maker = Maker::new(hospital.clone(), ten);
    maker.form = zegel_crypto::bag::Form::Salted;
    let bag = maker.make(&own, &[(7, zegel_archive::list::salted(&[5; 16], &digest))]).unwrap();
    let mut writer = Writer::open(&place.join("archive"), &hospital, Side::Platform).unwrap();
    let header = bag.header.encode();
    writer.append(&NewBag { sequence: 1, header: &header, xml: &bag.xml, tsr: &bag.tsr, request: None }).unwrap();
    writer.finish().unwrap();
    let salt = "05".repeat(16);
    fs::write(place.join("bare.csv"), format!("7,{digest}\n")).unwrap();
    fs::write(place.join("list.csv"), format!("7,{digest},{salt}\n")).unwrap();
    for (arguments, status, name) in [
        (&["--documents", "bare.csv"][..], 12, "salt-missing"),
        (&["--documents", "list.csv"], 0, ""),
        (&["--document", "rx.xml"], 12, "document-missing"),
        (&["--document", "rx.xml", "--ref", "7"], 12, "salt-missing"),
        (&["--document", "rx.xml", "--salt", salt.as_str()], 0, ""),
        (&["--document", "trust.toml", "--ref", "7", "--salt", salt.as_str()], 10, "document-differs"),
    ] {
        let all = [&["audit", "--trust", "trust.toml", "--archive", "archive"], arguments].concat();
        let (found, said) = zegel(&place, &all);
        assert_eq!(found, Some(status), "{arguments:?}: {said}");
        assert!(name.is_empty() || said["names"][name] == 1, "{arguments:?}: {said}");
    }
    nothing_is_hashed_anew_without_its_documents(&place);
}

/// Whoever names a folder of which no file was stamped as it lies there has forgotten the salts: hashed anew without the documents, the bags
/// could never be mended.
fn nothing_is_hashed_anew_without_its_documents(place: &Path) {
    fs::create_dir(place.join("documents")).unwrap();
    fs::copy(place.join("rx.xml"), place.join("documents/rx.xml")).unwrap();
    // Nobody is asked there.
    let renew =
        "timestamp renew archive --tsa http://127.0.0.1:9/ --trust trust.toml --digest sha-512 --documents documents";
    let renew: Vec<&str> = renew.split(' ').collect();
    let before = segments(&place.join("archive"));
    for more in [&[][..], &["--dry-run"]] {
        let (status, said) = zegel(place, &[&renew[..], more].concat());
        assert_eq!((status, &said["error"]["code"]), (Some(3), &"documents-unknown".into()), "{said}");
    }
    assert_eq!(segments(&place.join("archive")), before, "something was hashed anew");
    let with_salts = ok(place, &[&renew[..], &["--list", "list.csv", "--dry-run"]].concat());
    assert_eq!((&with_salts["bags"], &with_salts["documents"]), (&1.into(), &1.into()), "{with_salts}");
}

/// The platform's own log, whose key the trust file names: its proofs are in the archive, and the report counts them.
fn the_log_stands_in_the_report(folder: &Path) {
    let key = fs::read_to_string(folder.join("data/tsa/log.vkey")).unwrap();
    let trust = format!("[[ca]]\nfile = \"ca.pem\"\n[log]\nkey = \"{}\"\n", key.trim());
    fs::write(folder.join("logged.toml"), trust).unwrap();
    let begun = Instant::now();
    loop {
        // A checkpoint follows the bags within seconds; a later export fetches its proofs.
        ok(folder, &["timestamp", "export", HOSPITAL, "--out", "archive"]);
        let (status, said) = zegel(folder, &["audit", "--archive", "archive", "--trust", "logged.toml"]);
        let log = &said["archives"][0]["log"];
        if status == Some(0) && log["state"] == "checked" && log["bags"].as_u64() > Some(0) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{status:?} {said}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let other =
        zegel_crypto::log::NoteSigner::generate("zegel.localhost/log", zegel_crypto::log::Purpose::Log).unwrap();
    let trust = format!("[[ca]]\nfile = \"ca.pem\"\n[log]\nkey = \"{}\"\n", other.public());
    fs::write(folder.join("other-log.toml"), trust).unwrap();
    let (status, said) = zegel(folder, &["audit", "--archive", "archive", "--trust", "other-log.toml"]);
    assert_eq!((status, said["names"]["log-proof"].as_u64() > Some(0)), (Some(10), true), "another log's key: {said}");
}

/// Segments of an archive: each look that did something seals one.
fn segments(archive: &Path) -> usize {
    let names = fs::read_dir(archive).unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    names.filter(|name| name.ends_with(".zseg") && name != "open.zseg").count()
}

#[test]
fn archives_get_new_bags_and_renewed_stamps_by_the_clock_through_kills() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let settings = [
        ("ZEGEL_TIMESTAMP__ARCHIVES", "archives"),
        ("ZEGEL_TIMESTAMP__KEEP_AT", "*/1 * * * * *"),
        // Every certificate ends within a hundred years, so everything is due at every look.
        ("ZEGEL_TIMESTAMP__RENEW_DAYS", "36500"),
        ("ZEGEL_TIMESTAMP__KEEP_YEARS", "30"),
        ("ZEGEL_TIMESTAMP__ALGORITHM", "ecdsa-p256"),
    ];
    let mut platform = started(folder, &settings);
    prepared(folder);
    ok(folder, &["timestamp", "export", HOSPITAL, "--out", "data/archives/first"]);
    let archive = folder.join("data/archives/first");
    let first = ok(folder, &["timestamp", "export", HOSPITAL, "--out", "copy"])["last"].as_u64().unwrap();
    // Another bag, which nobody exports by hand.
    fs::write(folder.join("more.csv"), format!("100,{}\n", "ab".repeat(32))).unwrap();
    ok(folder, &["timestamp", "add", HOSPITAL, "more.csv"]);
    stamped(folder, 6);
    for round in 1..=3 {
        let (before, begun) = (segments(&archive), Instant::now());
        while segments(&archive) < before + 2 {
            assert!(begun.elapsed() < Duration::from_secs(60), "round {round}: the archive was left alone");
            std::thread::sleep(Duration::from_millis(20));
        }
        // Killed, wherever it is.
        drop(platform);
        platform = started(folder, &settings);
    }
    // The last time it ends as it should, and leaves nothing half written.
    let ended = Command::new("kill").args(["-TERM", &platform.0.id().to_string()]).status().unwrap();
    assert!(ended.success() && platform.0.wait().unwrap().success());
    fs::write(folder.join("own.toml"), "[[ca]]\nfile = \"ca.pem\"\n").unwrap();
    let (status, said) = zegel(folder, &["audit", "--archive", "data/archives/first", "--trust", "own.toml"]);
    let overview = &said["archives"][0];
    assert_eq!(status, Some(0), "{said}");
    assert!(overview["bags"].as_u64().unwrap() > first, "no bag was added: {said}");
    assert!(overview["renewed"].as_u64().unwrap() > 0, "no time stamp was renewed: {said}");
}

/// A unit is revoked while the platform runs: its list comes with the next export, and the audit honours it.
fn revocation(folder: &Path) {
    let dry = ok(folder, &["timestamp", "revoke", "--reason", "key-compromise", "--dry-run"]);
    assert_eq!((&dry["unit"], &dry["revoked"]), (&1.into(), &false.into()));
    for (arguments, status) in [
        (&["--reason", "boredom"][..], 2),
        (&["--reason", "superseded", "--unit", "9"], 2),
        (&["--reason", "superseded", "--since", "2999-01-01"], 2),
    ] {
        assert_eq!(zegel(folder, &[&["timestamp", "revoke"], arguments].concat()).0, Some(status), "{arguments:?}");
    }
    ok(folder, &["timestamp", "export", HOSPITAL, "--out", "compromised"]);
    assert_eq!(zegel(folder, &["audit", "--archive", "compromised", "--trust", "trust.toml"]).0, Some(0));
    let list = ok(folder, &["timestamp", "revoke", "--reason", "key-compromise", "--unit", "1"]);
    ok(folder, &["timestamp", "export", HOSPITAL, "--out", "compromised"]);
    let (status, said) = zegel(folder, &["audit", "--archive", "compromised", "--trust", "trust.toml"]);
    assert_eq!((status, said["names"]["token-revoked"].as_u64() > Some(0)), (Some(13), true), "{list} {said}");
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
    Authority::create(&other.join("tsa"), "Other", schemas::Millis(1_700_000_000_000)).unwrap();
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
