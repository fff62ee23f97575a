//! The hammer: each scenario is a program with a goal and an exit code.
//!
//! Exit code 0: every goal was met. 1: a goal was missed, the report says by how much. 2: a scenario could not be run.
//! Figures depend on the machine, so its hardware and the time of one fdatasync are printed beside them, and peers run
//! beside us in the same run where there is one.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)] // a report is what this program is for

mod audit;
mod bags;
mod brokers;
mod deadline;
mod embedded;
mod http;
mod pipeline;
mod proofs;
mod stages;
mod stats;
mod tsa;
mod ttp;
mod world;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use stats::Report;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Hammers parts of Zegel and says whether they reach their goals.
#[derive(Parser)]
#[command(after_help = "Examples:\n  cargo run --release -p load-tests -- pipeline --seconds 10 --json\n  \
    deploy/dev/services run rabbitmq kafka -- cargo run --release -p load-tests --features kafka -- all")]
struct Cli {
    /// Which scenario
    #[arg(value_enum)]
    scenario: Scenario,
    /// Length of each measurement
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// One JSON object per scenario
    #[arg(long)]
    json: bool,
    /// Where data goes, on the disk to be measured (default: a temporary folder under the current one)
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Largest TTP batch in megabytes
    #[arg(long, default_value_t = 1_000)]
    batch_mb: u64,
    /// Largest archive of the audit's growth: entries, in bags of 1,000
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    audit_entries: u64,
    /// Bags of the audit's archive of a million entries in many bags; 0 leaves it out
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    audit_bags: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Embedded broker: publish, consume, commit; bare SQLite beside it
    Embedded,
    /// A submission over HTTP, workers paused
    Http,
    /// The whole pipeline: mailbox, TTP, mailbox, receipts
    Pipeline,
    /// Pseudonymising a CSV batch, the bare loop beside it; flat memory from 10 KB up
    Ttp,
    /// Time-stamp entries, and sealing beside intake
    Bags,
    /// Time-stamp tokens a second for each kind of key, bare signatures and `openssl ts` beside them
    Tsa,
    /// `zegel audit` of a million prescriptions with one altered, from process start to report
    Audit,
    /// Proofs of the log made and verified a second, from 10^3 to 10^7 entries
    Proofs,
    /// RabbitMQ through the transport, a bare client and the embedded broker beside it; AMQP_URL names it
    Amqp,
    /// Kafka likewise; KAFKA_URL names it
    Kafka,
    /// All of them, without the brokers whose URL is not set
    All,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(reports) if reports.iter().all(|report| report.met) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            println!("a scenario could not be run: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli) -> Result<Vec<Report>> {
    let folder = match &cli.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir_in(".")?,
    };
    if !cli.json {
        println!("{}; fdatasync of 4 KiB: {} µs median", stats::hardware(), stats::fdatasync_us(folder.path())?);
    }
    let wanted = |scenario| cli.scenario == scenario || cli.scenario == Scenario::All;
    let (length, at) = (cli.seconds, |name: &str| folder.path().join(name));
    let mut reports = Vec::new();
    // Allowed: the measurements and, for what surrounds them, ten times what an idle machine needs (the speed table: 90 s).
    let within = |name, seconds, run: &dyn Fn() -> Result<Vec<Report>>| {
        deadline::within(name, Duration::from_secs(seconds), folder.path(), run)
    };
    if wanted(Scenario::Embedded) {
        let run = || embedded::run(&at("embedded"), length);
        show(cli, within("embedded", 6 * length + 60, &run)?, &mut reports);
    }
    if wanted(Scenario::Http) {
        let run = || http::run(&at("http"), length);
        show(cli, within("http", length + 60, &run)?, &mut reports);
    }
    if wanted(Scenario::Pipeline) {
        let run = || pipeline::run(&at("pipeline"), length);
        show(cli, within("pipeline", 3 * length + 180, &run)?, &mut reports);
    }
    if wanted(Scenario::Ttp) {
        let run = || ttp::run(&at("ttp"), cli.batch_mb);
        show(cli, within("ttp", 900 + cli.batch_mb / 2, &run)?, &mut reports);
    }
    if wanted(Scenario::Bags) {
        let run = || bags::run(&at("bags"), length);
        show(cli, within("bags", 3 * length + 120, &run)?, &mut reports);
    }
    if wanted(Scenario::Tsa) {
        let run = || tsa::run(&at("tsa"), length);
        show(cli, within("tsa", 3 * length + 60, &run)?, &mut reports);
    }
    if wanted(Scenario::Audit) {
        let run = || audit::run(&at("audit"), cli.audit_entries, cli.audit_bags);
        // Stamping the archives takes most of it: some 700 tokens a second and core.
        show(cli, within("audit", 300 + cli.audit_entries / 50_000 + cli.audit_bags / 100, &run)?, &mut reports);
    }
    if wanted(Scenario::Proofs) {
        show(cli, within("proofs", 5 * length + 120, &|| proofs::run(length))?, &mut reports);
    }
    if wanted(Scenario::Amqp)
        && let Some(url) = server(cli, "AMQP_URL")?
    {
        let run = || brokers::amqp(&url, folder.path(), length);
        show(cli, within("amqp", 100 * length + 60, &run)?, &mut reports);
    }
    if wanted(Scenario::Kafka)
        && let Some(url) = server(cli, "KAFKA_URL")?
    {
        let run = || kafka(&url, folder.path(), length);
        show(cli, within("kafka", 100 * length + 120, &run)?, &mut reports);
    }
    Ok(reports)
}

/// The server of a scenario; one that is run among all is left out where there is none.
fn server(cli: &Cli, variable: &str) -> Result<Option<String>> {
    match std::env::var(variable) {
        Ok(url) if !url.is_empty() => Ok(Some(url)),
        _ if cli.scenario == Scenario::All => {
            println!("SKIPPED: {variable} is not set (deploy/dev/services run rabbitmq kafka -- … sets it)");
            Ok(None)
        }
        _ => anyhow::bail!("{variable} is not set; deploy/dev/services run rabbitmq kafka -- … sets it"),
    }
}

#[cfg(feature = "kafka")]
use brokers::kafka;

#[cfg(not(feature = "kafka"))]
fn kafka(_: &str, _: &std::path::Path, _: u64) -> Result<Vec<Report>> {
    anyhow::bail!("this program was built without Kafka: build it with --features kafka")
}

fn show(cli: &Cli, new: Vec<Report>, reports: &mut Vec<Report>) {
    for report in &new {
        if cli.json {
            println!("{}", with_hardware(report));
        } else {
            print_text(report);
        }
    }
    reports.extend(new);
}

fn with_hardware(report: &Report) -> String {
    let mut value = serde_json::to_value(report).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.insert("hardware".to_owned(), stats::hardware().into());
    }
    value.to_string()
}

fn print_text(report: &Report) {
    println!("\n{}", report.scenario);
    println!(
        "  {:>10.0} msg/s {:>9.1} MB/s   p50 {:.2} ms  p99 {:.2} ms  p99.9 {:.2} ms   peak {:.0} MB   {} fsyncs   {:.0} disk bytes/msg   {:.1} µs CPU/msg",
        report.msg_per_s,
        report.mb_per_s,
        report.p50_ms,
        report.p99_ms,
        report.p999_ms,
        report.peak_rss_mb,
        report.fsyncs,
        report.disk_bytes_per_msg,
        report.cpu_us_per_msg
    );
    for (name, value) in &report.extra {
        println!("  {name}: {value}");
    }
    if !report.goal.is_empty() {
        println!("  goal: {} — {}", report.goal, if report.met { "met" } else { "MISSED" });
    }
}
