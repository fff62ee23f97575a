//! The auditor's speed: `zegel audit` over archives with one altered prescription, from the start of the process to its report.
//!
//! The list of documents (reference and SHA-256 of each) is given, the archive is in the page cache, tokens are RSA-3072 as
//! the platform makes them by default. Goal (design): a million prescriptions in a thousand bags under 2 s on 2 cores.
//! Growth from 10^3 entries up is printed, and a million entries in many small bags, where tokens are the cost. Beside each
//! time stands its bound: what SHA-256 alone takes for the bytes that an audit has to hash, measured in the same run. A bag's
//! XML is hashed twice (by the archive's digest over the record, and by the token's imprint), each entry once as a Merkle
//! leaf, about once as an inner node, and once more in the tree of digests.
//! The program is the one beside this executable, or the one that `ZEGEL_BIN` names.

use crate::deadline;
use crate::stats::{Histogram, Report};
use anyhow::{Context, Result, ensure};
use schemas::{MailboxAddress, Millis, Sha256};
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use zegel_archive::manifest::Side;
use zegel_archive::testing::{Bound, Made, Maker, entries, stamp};
use zegel_archive::writer::{NewBag, Writer};
use zegel_crypto::tsa::Authority;

const HOSPITAL: &str = "NIHII-HOSPITAL:71000436";
/// 2025-12-01: the first window, and when the authority was made. A unit's key is used for a year, which holds 105,000 bags.
const BEGIN: Millis = Millis(1_764_547_200_000);
/// Entries of a bag in the growth series.
const BAG: u64 = 1_000;
/// Bags that are bound before they are stamped, so that memory stays small.
const ROUND: usize = 2_000;
/// Runs of which the median counts; one before them warms the cache.
const RUNS: usize = 5;
/// How long the hash function alone is measured.
const HASHING: Duration = Duration::from_millis(500);
/// The design's goal.
const GOAL: Duration = Duration::from_secs(2);

/// Audits archives of 10^3 entries up to `largest`, and one of a million entries in `many` bags.
///
/// # Errors
/// When an archive cannot be made, or the audit finds something else than the one altered prescription.
pub fn run(folder: &Path, largest: u64, many: u64) -> Result<Vec<Report>> {
    fs::create_dir_all(folder)?;
    let tsa = folder.join("tsa");
    Authority::create(&tsa, "Zegel load test", BEGIN)?;
    let mut reports = Vec::new();
    let mut size = 1_000;
    while size <= largest {
        reports.push(one(folder, size, size / BAG)?);
        size *= 10;
    }
    if many > 0 {
        reports.push(one(folder, 1_000_000, many)?);
    }
    Ok(reports)
}

#[allow(clippy::cast_precision_loss)]
fn one(folder: &Path, count: u64, bags: u64) -> Result<Report> {
    let what = format!("audit, {count} prescriptions in {bags} bags, one altered");
    deadline::part(&what);
    let place = folder.join(format!("{count}-{bags}"));
    fs::create_dir(&place)?;
    archive(folder, &place, count, bags)?;
    let altered = count / 3 + 1;
    list(&place.join("list.csv"), count, altered)?;
    fs::write(place.join("trust.toml"), "[[ca]]\nfile = \"../tsa/ca.pem\"\n")?;
    let mut times = Vec::new();
    for run in 0..=RUNS {
        let took = audit(&place, altered)?;
        if run > 0 {
            times.push(took);
        }
    }
    times.sort_unstable();
    let median = times[times.len() / 2];
    let mut latencies = Histogram::default();
    times.iter().for_each(|took| latencies.record(*took));
    let bytes = fs::read_dir(place.join("archive"))?.filter_map(Result::ok).filter_map(|e| e.metadata().ok());
    let bytes: u64 = bytes.map(|data| data.len()).sum();
    fs::remove_dir_all(&place)?;
    let hashed = hashed_bytes(bytes, count);
    let bound = hashed as f64 / hashing_speed();
    let report = Report::named(&what)
        .measured(count, bytes, median, &latencies)
        .with("bound: SHA-256 alone on all cores, ms", bound * 1e3)
        .with("MB that must be hashed", hashed as f64 / 1e6)
        .with("times the bound", median.as_secs_f64() / bound)
        .with("from process start to report, median of 5, ms", median.as_secs_f64() * 1e3)
        .with("µs a prescription", median.as_secs_f64() * 1e6 / count as f64);
    let held = count == 1_000_000 && bags == 1_000;
    Ok(if held {
        report.goal("a million prescriptions, one altered, under 2 s on 2 cores", median < GOAL)
    } else {
        report
    })
}

/// Bytes that SHA-256 takes in blocks of 64, its padding included: the archive twice; for each entry a leaf of 41 bytes (one
/// block), a node of 65 (two), and 32 bytes in a group of the tree of digests.
fn hashed_bytes(archive: u64, entries: u64) -> u64 {
    2 * archive + entries * (64 + 128 + 32)
}

/// Bytes a second of SHA-256 over large pieces, on as many threads as an audit has.
#[allow(clippy::cast_precision_loss)]
fn hashing_speed() -> f64 {
    let piece = vec![7; 1 << 20];
    let work = || {
        let (begun, mut bytes) = (Instant::now(), 0);
        while begun.elapsed() < HASHING {
            std::hint::black_box(zegel_crypto::hash::sha256(&piece));
            bytes += piece.len();
        }
        bytes as f64 / begun.elapsed().as_secs_f64()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..cores).map(|_| scope.spawn(work)).collect();
        work() + others.into_iter().map(|other| other.join().unwrap_or(0.0)).sum::<f64>()
    })
}

/// Runs the program once; it must find the one that was altered and nothing else.
fn audit(place: &Path, altered: u64) -> Result<Duration> {
    let started = Instant::now();
    let output = Command::new(program()?)
        .current_dir(place)
        .args(["audit", "--json", "--archive", "archive", "--documents", "list.csv", "--trust", "trust.toml"])
        .args(["--report", "report.json"])
        .output()?;
    let took = started.elapsed();
    ensure!(output.status.code() == Some(10), "the audit ended with {:?}", output.status.code());
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let found = (&said["findings"], &said["first"][0]["name"], &said["first"][0]["place"]["reference"]);
    ensure!(
        found == (&1.into(), &"document-differs".into(), &altered.into()),
        "the audit found something else: {said}"
    );
    Ok(took)
}

fn program() -> Result<PathBuf> {
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("zegel")).filter(|path| path.exists());
    let named = std::env::var_os("ZEGEL_BIN").map(PathBuf::from);
    named.or_else(beside).context("build it first: cargo build --release -p zegel, or say ZEGEL_BIN")
}

/// The list of documents, one of them another than the one that was stamped.
fn list(path: &Path, count: u64, altered: u64) -> Result<()> {
    let mut out = BufWriter::new(fs::File::create(path)?);
    for (reference, hash) in entries(1..count + 1, 0) {
        let hash = if reference == altered { Sha256([7; 32]) } else { hash };
        writeln!(out, "{reference},{hash}")?;
    }
    out.flush()?;
    Ok(())
}

fn archive(folder: &Path, place: &Path, count: u64, bags: u64) -> Result<()> {
    let hospital: MailboxAddress = HOSPITAL.parse()?;
    let mut writer = Writer::open(&place.join("archive"), &hospital, Side::Platform)?;
    let mut maker = Maker::new(hospital, BEGIN);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // Each thread has an authority of its own, because a token's time never goes below one that was given before.
    let authorities: Vec<Authority> =
        (0..cores).map(|core| authority(folder, &place.join(format!("tsa-{core}")))).collect::<Result<_>>()?;
    let size = count / bags;
    let mut next = 1;
    let mut left = usize::try_from(bags)?;
    while left > 0 {
        let round: Vec<Bound> = (0..left.min(ROUND))
            .map(|_| {
                let bound = maker.bind(&entries(next..next + size, 0));
                next += size;
                bound
            })
            .collect();
        left -= round.len();
        for made in stamped(round, &authorities)? {
            let header = made.header.encode();
            let sequence = made.header.sequence;
            writer.append(&NewBag { sequence, header: &header, xml: &made.xml, tsr: &made.tsr, request: None })?;
        }
    }
    writer.finish()?;
    Ok(())
}

/// Stamps bags beside each other, each thread a run of them in order.
fn stamped(round: Vec<Bound>, authorities: &[Authority]) -> Result<Vec<Made>> {
    let share = round.len().div_ceil(authorities.len());
    let mut parts: Vec<Vec<Bound>> = Vec::new();
    let mut rest = round.into_iter().peekable();
    while rest.peek().is_some() {
        parts.push(rest.by_ref().take(share).collect());
    }
    std::thread::scope(|scope| {
        let work = |part: Vec<Bound>, authority| {
            let stamps = part.into_iter().map(|bound: Bound| {
                let at = bound.header.end.plus(1_000);
                stamp(bound, authority, at)
            });
            stamps.collect::<Result<Vec<Made>, _>>()
        };
        let threads: Vec<_> = parts
            .into_iter()
            .zip(authorities)
            .map(|(part, authority)| scope.spawn(move || work(part, authority)))
            .collect();
        let mut made = Vec::new();
        for thread in threads {
            made.extend(thread.join().map_err(|_| anyhow::anyhow!("a thread ended before its work"))??);
        }
        Ok(made)
    })
}

/// The authority with a clock of its own: its folder copied.
fn authority(folder: &Path, to: &Path) -> Result<Authority> {
    copy(&folder.join("tsa"), to)?;
    Ok(Authority::load(to, Millis(0))?)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?.path();
        let target = to.join(entry.file_name().context("a file has a name")?);
        if entry.is_dir() {
            copy(&entry, &target)?;
        } else {
            fs::copy(&entry, &target)?;
        }
    }
    Ok(())
}
