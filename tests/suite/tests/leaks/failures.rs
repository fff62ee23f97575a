//! Failures that no batch is needed for, and those who look on: strangers, projects that do not hold, the officer's view, the desk's errors,
//! single identifiers, rehearsals at the hospital.

use crate::bait::Patient;
use crate::world::{HOSPITAL, REGISTRY, SECOND, STRANGER, World, command, is_refused, wait_final};
use serde_json::{Value, json};
use std::process::Output;
use zegel_suite::canary::{Canary, Search};
use zegel_suite::server::{Client, Server};

/// Sends as nobody may: for projects that are none or over, and as a stranger. Each is refused.
pub fn send_in_vain(world: &mut World, hospital: &Client, stranger: &Client) {
    let patient = named(world);
    let batch = world.baits[0].good.clone();
    let mut told = Vec::new();
    // A national number is a name that a project could have.
    for (project, more) in [("leak-over", ""), (patient.niss.as_str(), ""), ("leak-no-format", "&digest=zzz")] {
        let (status, answer) = world.send(hospital, HOSPITAL, (project, more), &batch);
        told.push(answer.to_string());
        if status == 202 {
            let life = wait_final(hospital, answer["submission"].as_str().unwrap());
            assert!(is_refused(&life), "{life}");
            told.push(life.to_string());
        }
    }
    let (status, answer) = world.send(stranger, STRANGER, ("leak-no-format", ""), &batch);
    assert_eq!(status, 202, "{answer}");
    let life = wait_final(stranger, answer["submission"].as_str().unwrap());
    assert!(life.to_string().contains("ZGL-TTP-SENDER"), "{life}");
    told.push(life.to_string());
    let search = Search::new(world.of_patients());
    told.iter().for_each(|text| search.clear(text.as_bytes(), "a refusal"));
}

/// A batch that waits for another sender's is kept as it came, and as it will be delivered; when the other has sent, both are.
pub fn wait_for_another(world: &mut World, [hospital, second]: [&Client; 2]) {
    let of = |name: &str| world.baits.iter().find(|bait| bait.name == name).unwrap().good.clone();
    let (one, other) = (of("leak-csv"), of("leak-lines-of-no-format"));
    let (status, first) = world.send(hospital, HOSPITAL, ("leak-pool", ""), &one);
    assert_eq!(status, 202, "{first}");
    let first = first["submission"].as_str().unwrap();
    // Long enough to be made ready; had it not come so far, it is looked at earlier.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let life = hospital.get(&format!("/v1/submissions/{first}")).unwrap();
    assert_eq!(life["final"], false, "it does not wait: {life}");
    crate::scan(world, "while a batch waits");
    let (status, last) = world.send(second, SECOND, ("leak-pool", ""), &other);
    assert_eq!(status, 202, "{last}");
    for (client, id) in [(hospital, first), (second, last["submission"].as_str().unwrap())] {
        assert!(!is_refused(&wait_final(client, id)), "what waited is refused");
    }
}

/// Somebody whom only calls name.
fn named(world: &mut World) -> Patient {
    let patient = world.words.patient();
    world.canaries.extend(crate::bait::canaries("somebody in a call", std::slice::from_ref(&patient)));
    patient
}

/// What an operator and an officer can ask, by HTTP and by the command line: nothing of a patient.
pub fn look_on(world: &World, server: &Server) {
    let hidden = world.hidden();
    let search = Search::new(hidden);
    let operator = server.operator();
    let held: Value = operator.get("/v1/quarantine").unwrap();
    let projects: Vec<String> =
        held["projects"].as_array().unwrap().iter().map(|one| one["project"].as_str().unwrap().to_owned()).collect();
    assert!(projects.len() > 12, "hardly anything stands still: {projects:?}");
    let mut paths = ["/metrics", "/v1/stats", "/v1/dead?limit=100", "/v1/alerts", "/v1/projects", "/v1/quarantine"]
        .map(str::to_owned)
        .to_vec();
    for project in &projects {
        paths.extend(["", "/1"].map(|more| format!("/v1/quarantine/{project}{more}")));
    }
    paths.extend(["/v1/projects/leak-small-cells/cells", "/v1/seals/leak-small-cells/log"].map(str::to_owned));
    for path in &paths {
        let (status, bytes) = operator.ask("GET", path, &[], &[]).unwrap();
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&bytes));
        search.clear(&bytes, path);
    }
    let commands: [&[&str]; 12] = [
        &["project", "status"],
        &["project", "show", "leak-no-format"],
        &["project", "cells", "leak-small-cells"],
        &["quarantine", "list"],
        &["quarantine", "list", "--project", "leak-kmehr"],
        &["quarantine", "show", "leak-split/1"],
        &["quarantine", "release", "leak-split/1"],
        &["quarantine", "drop", "leak-split/2"],
        &["quarantine", "show", "leak-split/2"],
        &["seals", "log", "leak-small-cells"],
        &["dead", "list"],
        &["mailbox", "list"],
    ];
    for arguments in commands {
        clear_output(&search, &command(&world.data, arguments), arguments);
    }
    for arguments in &commands[..6] {
        clear_output(&search, &command(&world.data, &[arguments, &["--json"][..]].concat()), arguments);
    }
}

fn clear_output(search: &Search<'_>, output: &Output, arguments: &[&str]) {
    search.clear(&output.stdout, &format!("the output of {arguments:?}"));
    search.clear(&output.stderr, &format!("the errors of {arguments:?}"));
}

/// What the recipient and the sender do with the command line.
pub fn at_home(world: &World, [hospital, registry]: [&str; 2]) {
    let patients = Search::new(world.of_patients());
    let hidden = Search::new(world.not_for_recipient());
    for arguments in [&["inbox", REGISTRY][..], &["inbox", REGISTRY, "--json"], &["receipts", REGISTRY]] {
        clear_output(&hidden, &command(&world.data, &[arguments, &["--token", registry]].concat()), arguments);
    }
    for arguments in [&["inbox", HOSPITAL][..], &["receipts", HOSPITAL], &["receipts", HOSPITAL, "--json"]] {
        clear_output(&patients, &command(&world.data, &[arguments, &["--token", hospital]].concat()), arguments);
    }
    let out = world.path("received");
    let listed: Value =
        serde_json::from_slice(&command(&world.data, &["inbox", REGISTRY, "--json", "--token", registry]).stdout)
            .unwrap();
    let delivered = listed["items"].as_array().unwrap().iter().find(|item| item["from"]["handle"].is_string());
    let id = delivered.expect("a delivery")["id"].as_str().unwrap();
    let get = ["inbox", "get", id, "--out", &out, "--address", REGISTRY, "--token", registry];
    let output = command(&world.data, &get);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    clear_output(&hidden, &output, &get);
    for file in zegel_suite::canary::files(out.as_ref()) {
        hidden.clear(&std::fs::read(&file).unwrap(), "what inbox get wrote");
        hidden.clear(file.to_string_lossy().as_bytes(), "the name of what inbox get wrote");
    }
}

/// Rehearsals of every bait: what they say quotes no value, and a preview is what the recipient would get.
pub fn rehearse(world: &World, token: &str) {
    let patients = Search::new(world.of_patients());
    let hidden = Search::new(world.canaries.patients.iter().chain(&world.canaries.sender));
    // A row of each kind; the dialects of tables are one when they are read.
    let few = ["leak-csv", "leak-fhir-lines", "leak-kmehr", "leak-hl7v2", "leak-split"];
    for bait in world.baits.iter().filter(|bait| crate::is_full() || few.contains(&bait.name.as_str())) {
        if bait.name == "leak-signed" {
            continue;
        }
        let [document, batch, out] =
            ["toml", "batch", "preview"].map(|ending| world.path(&format!("{}.{ending}", bait.project)));
        std::fs::write(&batch, bait.uncut.as_ref().map_or(&bait.bad, |[_, bad]| bad)).unwrap();
        let dry = ["send", "--sender", HOSPITAL, "--project", &bait.project, "--dry-run", &batch, "--token", token];
        let output = command(&world.data, &dry);
        assert_ne!(output.status.code(), Some(2), "{}: {}", bait.name, String::from_utf8_lossy(&output.stderr));
        clear_output(&patients, &output, &dry[..6]);
        let preview = ["project", "try", "--project", &document, "--batch", &batch, "--out", &out];
        let output = command(&world.data, &preview);
        assert_ne!(output.status.code(), Some(2), "{}: {}", bait.name, String::from_utf8_lossy(&output.stderr));
        clear_output(&patients, &output, &preview[..2]);
        hidden.clear(&std::fs::read(&out).unwrap_or_default(), &format!("the preview of {}", bait.name));
        if let Some([good, _]) = &bait.uncut {
            std::fs::write(&batch, good).unwrap();
            let send =
                ["send", "--sender", HOSPITAL, "--project", &bait.project, "--wait", "60", &batch, "--token", token];
            let output = command(&world.data, &send);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            clear_output(&patients, &output, &send[..5]);
        }
        // The batch in place of the document.
        let swapped = ["project", "check", &batch];
        clear_output(&patients, &command(&world.data, &swapped), &swapped);
    }
}

/// Calls with somebody's values where none belong: nothing is quoted, whoever asks.
pub fn call_badly(world: &mut World, server: &Server, clients: &[&Client]) -> usize {
    let Patient { niss, name, note, .. } = named(world);
    let operator = server.operator();
    let long = note.repeat(10);
    let quoted = |text: &str| json!(text).to_string();
    let seals = |name: &str, id: &str, code: &str, input: &str| json!({ "ApplicationName": name, "OriginalData": [{ "Id": id, "AlgorithmCode": code, "InputData": input }] });
    let decode =
        |value: &str| json!({ "ApplicationName": "leak-small-cells", "EncodedData": [{ "Id": "a", "Value": value }] });
    let bodies = [
        seals("leak-small-cells", "a", "SIV", &long),
        seals("leak-small-cells", "a", &name, &niss),
        seals("leak-small-cells", "a", "FF1", &name),
        seals(&name, "a", "SIV", &niss),
        json!({ "ApplicationName": "leak-small-cells", "OriginalData": niss }),
        json!({ "ApplicationName": "leak-small-cells", "OriginalData": [{ "Id": "a", niss.clone(): name }] }),
        decode(&name),
        decode(&hex::encode(&niss)),
        json!({ "name": niss, "deed": name, "papers": [niss] }),
        json!({ "entry": quoted(&name), "signature": niss, "document": format!("name = \"{niss}\"\n{name}") }),
        json!(niss),
    ];
    let mut calls: Vec<(&str, String, Vec<u8>)> = Vec::new();
    for path in
        ["/v1/seals/encode", "/v1/seals/decode", "/v1/projects", "/v1/boxes", "/v1/inscriptions", "/v1/mutations"]
    {
        calls.extend(bodies.iter().map(|body| ("POST", path.to_owned(), body.to_string().into_bytes())));
        calls.push(("POST", path.to_owned(), format!("{{\"a\": {niss} {name}").into_bytes()));
        calls.push(("POST", path.to_owned(), world.baits[0].good.clone()));
    }
    let handle = "0123456789abcdef0123456789abcdef";
    for (method, path) in [
        ("POST", format!("/v1/returns/{niss}?sender={REGISTRY}&project=leak-no-format&publication_id=a1")),
        ("POST", format!("/v1/returns/{handle}?sender={niss}&project={niss}&publication_id=a1")),
        ("POST", format!("/v1/projects/X{niss}/root")),
        ("GET", format!("/v1/projects/{niss}")),
        ("GET", format!("/v1/projects/{niss}/cells?after={niss}")),
        ("GET", format!("/v1/quarantine/{niss}")),
        ("GET", format!("/v1/quarantine/leak-no-format?below=x{niss}")),
        ("GET", format!("/v1/quarantine/leak-no-format/x{niss}")),
        ("DELETE", format!("/v1/quarantine/{niss}/1")),
        ("POST", format!("/v1/quarantine/{niss}/1/release")),
        ("GET", format!("/v1/seals/{niss}/log?from=x{niss}")),
        ("GET", format!("/v1/submissions/{niss}")),
        ("GET", format!("/v1/boxes/SSIN:{niss}/inbox")),
        ("GET", format!("/{niss}")),
    ] {
        calls.push((method, path, niss.clone().into_bytes()));
    }
    let search = Search::new(world.of_patients());
    let mut refused = 0;
    for (method, path, body) in &calls {
        for client in clients.iter().copied().chain([&operator]) {
            let (status, said) = client.ask(method, path, &[("content-type", "application/json")], body).unwrap();
            search.clear(&said, &format!("{method} {}", path.split(['?', '/']).nth(2).unwrap_or_default()));
            refused += usize::from(status >= 400);
        }
    }
    refused
}

/// Single identifiers are coded and decoded; only the answer to a decoding has them.
pub fn code(world: &mut World, hospital: &Client, registry: &Client) {
    let Patient { niss, name, .. } = named(world);
    let items = json!([
        { "Id": "a", "AlgorithmCode": "SIV", "InputData": niss },
        { "Id": "b", "AlgorithmCode": "HMAC", "InputData": name },
        { "Id": "c", "AlgorithmCode": "FF1", "InputData": niss },
    ]);
    let body = json!({ "ApplicationName": "leak-small-cells", "OriginalData": items });
    let coded = hospital.post("/v1/seals/encode", &body).unwrap();
    Search::new(world.of_patients()).clear(coded.to_string().as_bytes(), "coded values");
    let value = coded["Response"][0]["EncodedData"]["Value"].as_str().unwrap();
    let body = json!({ "ApplicationName": "leak-small-cells", "EncodedData": [{ "Id": "a", "Value": value }] });
    let decoded = registry.post("/v1/seals/decode", &body).unwrap().to_string();
    assert!(decoded.contains(&niss), "{decoded}");
    // Who may not decode is told nothing.
    let refused = hospital.post("/v1/seals/decode", &body).unwrap_err();
    Search::new(&[Canary::new("a number", &niss)]).clear(refused.as_bytes(), "a refused decoding");
}

/// A citizen's mailbox, an inscription and a mutation: numbers of persons as addresses and keys.
pub fn follow(world: &mut World, server: &Server, [hospital, registry]: [&Client; 2]) {
    let patient = named(world);
    let citizen = format!("SSIN:{}", patient.niss);
    let own = server.open_box(&citizen).unwrap();
    let batch = world.baits[0].good.clone();
    for n in 0..5 {
        let body = json!({ "organisation": REGISTRY, "ssin": patient.niss, "from": "2020-01-01" });
        registry.post("/v1/inscriptions", &body).unwrap();
        let details = json!({ "street": patient.name });
        let body = json!({ "feed": "r", "event": format!("e{n}"), "ssin": patient.niss, "kind": "address", "date": "2026-11-01", "details": details });
        server.operator().post("/v1/mutations", &body).unwrap();
        for (client, from, to) in [(&own, citizen.as_str(), HOSPITAL), (hospital, HOSPITAL, citizen.as_str())] {
            let path =
                format!("/v1/messages?sender={from}&to={to}&publication_id=C{n}&title=t&file_name=f&mime=text/plain");
            assert_eq!(client.post_bytes(&path, "text/plain", &batch).unwrap().0, 202);
        }
    }
}
