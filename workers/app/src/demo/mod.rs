//! `zegel demo`: a whole day of a small region in a few seconds, over HTTP as real clients would, and then every
//! invariant checked on what it left.
//!
//! Two hospitals hand over batches (one by its drop folder), one of them a bad one; the TTP pseudonymises for a registry;
//! letters go from one hospital to the other; 1,000 prescriptions are stamped; three organisations are told of mutations.
//! Ctrl-C ends it with a drained platform.
//! Failure behaviour: exit status 0 only if all invariants hold; what a platform refuses or does not answer in time ends
//! the demo with its reason, and the folder stays as it is for whoever looks into it.

mod checks;
mod collect;
mod ground;
pub mod needles;
mod people;
mod plan;
mod scenario;
mod tally;

use self::checks::{MEMORY_MAX_MIB, Verdict};
use self::ground::Ground;
use self::plan::{Plan, Wanted};
use self::scenario::{Day, Scenario};
use crate::cli::Demo;
use crate::commands::Place;
use crate::commands::project::target::{Local, Target};
use crate::commands::project::trial;
use crate::config::{Config, Overrides};
use crate::declare::Declared;
use crate::failed::{Failed, at};
use crate::folder::Folder;
use crate::platform::{self, Running};
use crate::term::{Report, row, spinner, table};
use crate::{check, signals, telemetry};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use zegel_core::Clock;
use zegel_core::clock::SystemClock;
use zegel_timestamp::Schedule;

/// Where the demo lives when nobody says otherwise.
const FOLDER: &str = "zegel-demo";
/// What is waited for at most, apart from windows and large batches: far above what a loaded machine takes.
const PATIENCE: Duration = Duration::from_secs(1_800);
/// For so many bytes of a given batch a second more is waited.
const BYTES_PER_SECOND: u64 = 1 << 20;
/// How long the platform may take to stop.
const DRAIN: Duration = Duration::from_secs(60);

/// Runs the demo.
///
/// # Errors
/// See the module's header.
pub fn run(place: &Place, wanted: &Demo) -> Result<Report, Failed> {
    let begun = Instant::now();
    let schedule = schedule(wanted.window)?;
    let planned = Wanted::read(wanted)?;
    let stop = signals::flag()?;
    let root = place.overrides.data.clone().unwrap_or_else(|| PathBuf::from(FOLDER));
    let ground = Ground::prepare(&root, wanted.force)?;
    let config = config(place, &ground)?;
    telemetry::start(&config.log);
    let patience = PATIENCE
        + Duration::from_secs(planned.bytes() / BYTES_PER_SECOND)
        + Duration::from_secs(u64::from(wanted.window)) * 4;
    let plan = planned.lay_out(&ground)?;

    let runtime = platform::runtime()?;
    if !["store", "embedded"].contains(&config.broker.scheme()) {
        // A demo declares what it needs; a platform leaves that to its operator.
        runtime.block_on(async { Declared::open(&config.broker, &config.installation).await?.apply().await })?;
    }
    sign(&config, &plan)?;
    let running = runtime.block_on(platform::start(&config, schedule))?;
    let played = play(place, &ground, &plan, &config, &running, (patience, stop));
    let drained = runtime.block_on(running.drain(DRAIN));
    let (mut verdict, peak_mib) = played?;
    if !drained {
        verdict.fault("I1", "the platform did not drain in time");
    }
    if peak_mib > MEMORY_MAX_MIB {
        verdict.fault("I7", format!("{peak_mib} MiB of memory were used, {MEMORY_MAX_MIB} are allowed"));
    }
    for line in check::platform(&config, false)?.into_iter().filter(|line| !line.findings.is_empty()) {
        verdict.fault(line.invariant, format!("check: {}", line.findings.join("; ")));
    }
    report(&ground, &verdict, begun.elapsed(), peak_mib)
}

/// Signs every project for everybody, with keys that are made here: a demo is a trial.
fn sign(config: &Config, plan: &Plan) -> Result<(), Failed> {
    let folder = Folder::of(config);
    let target = Target::Local(Box::new(Local::open(&folder)?));
    for text in &plan.documents {
        trial::activate(&target, &folder.projects(), text, SystemClock.now())?;
    }
    Ok(())
}

/// Windows of so many seconds.
fn schedule(seconds: u32) -> Result<Schedule, Failed> {
    if !(1..=3_600).contains(&seconds) {
        return Err(Failed::Usage("--window must be 1 to 3600 seconds".to_owned()));
    }
    Schedule::every(i64::from(seconds) * 1_000).map_err(|error| Failed::Usage(error.to_string()))
}

fn config(place: &Place, ground: &Ground) -> Result<Config, Failed> {
    let overrides = Overrides {
        file: place.overrides.file.clone(),
        data: Some(ground.root().to_owned()),
        // Only this machine, and a port that is free.
        listen: Some(([127, 0, 0, 1], 0).into()),
        ..place.overrides.clone()
    };
    let mut config = Config::load(&overrides)?;
    if config.log.level == "info" {
        // A person reads the table; what is worth a warning still shows.
        config.log.level = "warn".to_owned();
    }
    Ok(config)
}

/// Plays the day, fetches what it left, and checks it, while the platform runs. Also returns how much memory that took.
fn play(
    place: &Place,
    ground: &Ground,
    plan: &Plan,
    config: &Config,
    running: &Running,
    (patience, stop): (Duration, Arc<AtomicBool>),
) -> Result<(Verdict, u64), Failed> {
    let spinner = spinner(place.json);
    let folder = Folder::of(config);
    let scenario = Scenario::begin(plan, &folder, config.ttp_address()?, spinner.clone(), patience, stop)?;
    let day = scenario.play()?;
    let found = collect::collect(ground, plan, &scenario, &day)?;
    // Before the checks: they remember every value of a batch, which the platform never does.
    let peak_mib = peak_mib();
    scenario.say("checking every invariant");
    let mut verdict = checks::check(ground, plan, &day, &found)?;
    closed_doors(plan, &scenario, &day, running, &mut verdict)?;
    spinner.finish_and_clear();
    Ok((verdict, peak_mib))
}

/// I8 and I5, asked of the running platform: strangers are shown the door, nobody reads another's box, and no alert is
/// open.
fn closed_doors(
    plan: &Plan,
    scenario: &Scenario<'_>,
    day: &Day,
    running: &Running,
    verdict: &mut Verdict,
) -> Result<(), Failed> {
    let [first, second] = &plan.hospitals;
    let inbox = format!("/v1/boxes/{first}/inbox");
    let stranger = crate::client::Client::new(&running.url(), Some("zgl_guess".to_owned()));
    let doors = [
        ("a stranger", stranger.status("GET", &inbox, &[])?, 401),
        ("another hospital", scenario.owner(second)?.status("GET", &inbox, &[])?, 403),
        ("the operator", scenario.operator().status("GET", &inbox, &[])?, 403),
    ];
    for (who, status, expected) in doors {
        if status != expected {
            verdict.fault("I8", format!("{who} got {status} for another's box instead of {expected}"));
        }
    }
    if let Some(sent) = day.submitted.first() {
        let other = if sent.sender == *second { first } else { second };
        let status = scenario.owner(other)?.status("GET", &format!("/v1/submissions/{}", sent.submission), &[])?;
        if status != 404 {
            verdict.fault("I8", "another hospital sees a submission that is not its own");
        }
    }
    let alerts = scenario.operator().get("/v1/alerts", &[])?;
    if crate::client::list(&alerts, "alerts").iter().any(|alert| alert["open"] == true) {
        verdict.fault("I5", "an alert is open");
    }
    Ok(())
}

fn report(ground: &Ground, verdict: &Verdict, took: Duration, peak_mib: u64) -> Result<Report, Failed> {
    let n = &verdict.numbers;
    let holds: serde_json::Map<String, Value> =
        verdict.findings.iter().map(|(name, found)| ((*name).to_owned(), found.is_empty().into())).collect();
    let seconds = (took.as_secs_f64() * 1_000.0).round() / 1_000.0;
    let json = json!({
        "submitted": n.submitted, "delivered": n.delivered, "refused": n.refused,
        "receipts_positive": n.receipts_positive, "receipts_negative": n.receipts_negative,
        "rows_in": n.rows_in, "rows_out": n.rows_out, "rows_refused": n.rows_refused,
        "bags": n.bags, "entries": n.entries, "tokens_verified": n.tokens_verified,
        "notifications": n.notifications, "lost": n.lost, "duplicated": n.duplicated,
        "invariants": holds, "findings": verdict.findings, "ok": verdict.holds(),
        "peak_rss_mib": peak_mib, "seconds": seconds,
    });
    let path = ground.out().join("report.json");
    fs::write(&path, format!("{json:#}\n")).map_err(at(&path))?;
    let text = text(ground.root(), verdict, seconds);
    Ok(Report { json, text, status: u8::from(!verdict.holds()) })
}

fn text(root: &Path, verdict: &Verdict, seconds: f64) -> String {
    let n = &verdict.numbers;
    let lines = [
        ("submissions sent", n.submitted.to_string()),
        ("  delivered", n.delivered.to_string()),
        ("  refused", n.refused.to_string()),
        ("receipts, positive / negative", format!("{} / {}", n.receipts_positive, n.receipts_negative)),
        ("rows in / out", format!("{} / {}", n.rows_in, n.rows_out)),
        ("prescriptions stamped", n.entries.to_string()),
        ("bags / tokens verified", format!("{} / {}", n.bags, n.tokens_verified)),
        ("notifications", n.notifications.to_string()),
        ("lost / duplicated", format!("{} / {}", n.lost, n.duplicated)),
        ("seconds", format!("{seconds:.1}")),
    ];
    let mut rows: Vec<Vec<String>> = lines.iter().map(|(what, value)| row([what, value])).collect();
    rows.push(row(["", ""]));
    for (name, found) in &verdict.findings {
        let said = if found.is_empty() { "ok" } else { "FAILED" };
        rows.push(row([&format!("{name} {}", meaning(name)), said]));
    }
    let mut out = table(&rows);
    for (name, found) in &verdict.findings {
        found.iter().for_each(|finding| out.push_str(&format!("{name}: {finding}\n")));
    }
    out.push('\n');
    verdict.refusals.iter().for_each(|refusal| out.push_str(&format!("{refusal}\n")));
    out.push_str(&format!("what is left: {}\n", root.join("out").display()));
    out
}

fn meaning(invariant: &str) -> &'static str {
    match invariant {
        "I1" => "no-loss",
        "I2" => "once",
        "I3" => "order",
        "I4" => "no-leak",
        "I5" => "answer",
        "I6" => "one-bag",
        "I7" => "flat",
        _ => "closed",
    }
}

/// The most memory that this process ever had, in MiB; 0 where the system does not say.
fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
