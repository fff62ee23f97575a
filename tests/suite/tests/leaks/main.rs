//! I4 from outside: canaries in every identifying value of every format, in everything that names the sender, in every failure that a batch
//! can meet; searched in every encoding in everything that the platform keeps, prints or hands over, while it runs, after kill -9, at
//! crash points, and afterwards.
//!
//! Who may see what: patients' values nobody, but the hospital in what is returned to it and the caller of a decoding, who asked for them;
//! medical values the recipient; the sender's name the platform's operator and officer. A rehearsal at the hospital (`send --dry-run`, `project
//! try`) names rows, columns and rules, and what the hospital called its file; it quotes no value of it. The project's document lists all
//! senders to all parties: that one of them sent is no secret, which one is.
//!
//! `ZEGEL_LEAK_POINTS` says at how many fail points the process dies ([`crashes`]), `all` takes all, and every format under both policies for
//! bad rows; `make leaks` does that.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![allow(clippy::disallowed_methods)] // threads of a test may sleep

mod bait;
mod crashes;
mod exchange;
mod failures;
mod modes;
mod tables;
mod trees;
mod world;

use std::collections::BTreeSet;
use std::process::Command;
use world::{HOSPITAL, REGISTRY, SECOND, STRANGER, World};
use zegel_suite::canary::Search;
use zegel_suite::zegel;

/// Whether everything is done that takes minutes.
fn is_full() -> bool {
    std::env::var("ZEGEL_LEAK_POINTS").is_ok_and(|points| points == "all")
}

/// What the program says it knows in place of a word that it does not: names in backticks behind `expected`.
fn known(line: &str) -> BTreeSet<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("project.toml");
    std::fs::write(&path, format!("{line}\n")).unwrap();
    let output = Command::new(zegel()).args(["project", "check"]).arg(&path).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let names = text.split_once("expected").expect("it says what it knows").1.split('`').skip(1).step_by(2);
    names.map(str::to_owned).collect()
}

#[test]
fn no_identifier_leaks_at_rest_in_telemetry_or_to_the_recipient_in_any_format_or_failure() {
    let mut world = World::new(20_261_122);
    everything_has_bait(&world);
    everything_is_sent(&world);
    world.activate(|bait| is_full() || bait.name == "leak-kmehr");
    let server = world.start(&zegel(), &[]).expect("starts");
    let [hospital, registry, stranger, second] =
        [HOSPITAL, REGISTRY, STRANGER, SECOND].map(|owner| server.open_box(owner).unwrap());
    failures::follow(&mut world, &server, [&hospital, &registry]);
    let sent = exchange::send_all(&mut world, &hospital, true);
    scan(&world, "while it runs");
    server.kill();
    scan(&world, "after kill -9");
    let server = world.start(&zegel(), &[]).expect("starts again");
    exchange::judge(&world, &hospital, &sent);
    let mut sent = exchange::send_all(&mut world, &hospital, false);
    sent.extend(exchange::send_whole(&mut world, &hospital));
    let refused = exchange::judge(&world, &hospital, &sent);
    println!("{} batches of {} baits, {refused} refused", sent.len(), world.baits.len());
    failures::send_in_vain(&mut world, &hospital, &stranger);
    failures::wait_for_another(&mut world, [&hospital, &second]);
    let deliveries = exchange::receive(&world, &registry);
    exchange::medical_arrived(&world, &deliveries);
    let returned = exchange::give_back(&mut world, &registry, &deliveries);
    exchange::listed(&world, &registry);
    assert_eq!(exchange::came_back(&world, &hospital), returned, "what is returned is not in clear");
    println!("{} deliveries, {returned} returned", deliveries.len());
    failures::code(&mut world, &hospital, &registry);
    let calls = failures::call_badly(&mut world, &server, &[&hospital, &registry]);
    println!("{calls} calls refused");
    failures::look_on(&world, &server);
    failures::rehearse(&world, hospital.token());
    failures::at_home(&world, [hospital.token(), registry.token()]);
    assert_eq!(server.stop(), Some(0), "the process does not drain");
    if is_full() {
        check(&world);
    }
    println!("{} bytes searched", scan(&world, "after the end"));
}

/// `zegel check` looks at everything, and says nothing of it.
fn check(world: &World) {
    let checked = world::command(&world.data, &["check"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    Search::new(world.hidden()).clear(&[checked.stdout, checked.stderr].concat(), "zegel check");
}

/// Searches the data folder and the log for what nobody may have there.
fn scan(world: &World, when: &str) -> u64 {
    Search::new(world.hidden()).clear_below(&world.data, when)
}

/// What is searched for is in what is sent: every patient's number and name, and the medical value, of every bait.
fn everything_is_sent(world: &World) {
    for bait in &world.baits {
        let uncut = bait.uncut.iter().flatten().flatten();
        let sent: Vec<u8> = bait.good.iter().chain(&bait.bad).chain(uncut).copied().collect();
        let found = Search::new(world.of_patients()).every(&sent);
        let of = |what: &str| found.contains(format!("{}{what}", bait.name).as_str());
        let is_sealed = bait.name == "leak-sealed-values";
        assert!(
            of(": niss") && of(": a word of the name") && (is_sealed || of(": medical value")),
            "{}: {found:?}",
            bait.name
        );
        assert!(
            of(", bad row: niss") || is_sealed || bait.uncut.is_some() || of(", held back: niss"),
            "{}: {found:?}",
            bait.name
        );
    }
}

/// Every format, encoding, delimiter and action that a project can name has bait: what is added and has none fails here.
fn everything_has_bait(world: &World) {
    let formats: BTreeSet<String> = world.baits.iter().filter_map(|bait| bait.format).map(str::to_owned).collect();
    assert_eq!(formats, known("format = \"?\""), "a format has no bait");
    let terms: String = world.baits.iter().map(|bait| bait.terms.as_str()).collect();
    let absent = |line: &str, written: &dyn Fn(&str) -> String| -> Vec<String> {
        known(line).into_iter().filter(|name| !terms.contains(&written(name))).collect()
    };
    let tab = |name: &str| format!("delimiter = \"{}\"", name.replace('\t', "tab"));
    assert_eq!(absent("text = { encoding = \"?\" }", &|name| format!("encoding = \"{name}\"")), [""; 0], "no bait");
    assert_eq!(absent("text = { delimiter = \"?\" }", &tab), [","], "no bait; the comma is what is found by itself");
    assert_eq!(absent("[[fields]]\npath = \"a\"\naction = \"?\"", &|name| format!("action = \"{name}\"")), [""; 0]);
}
