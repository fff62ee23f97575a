//! Proofs of the log, one core: inclusion and consistency proofs made from tiles and verified, a second, from 10^3 to 10^7
//! entries.
//!
//! Tiles lie in memory in their stored form, so what is measured is the prover, not a disk; each proof reads them through a
//! prover of its own, as a request over HTTP does. No goal: growth with the size is the figure (it must be logarithmic).

use crate::deadline;
use crate::stats::Report;
use anyhow::{Result, ensure};
use schemas::Sha256;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use zegel_crypto::log::tiles::WIDTH;
use zegel_crypto::log::{Frontier, LogError, Prover, Tile, TileSource};
use zegel_crypto::merkle::leaf_hash;

/// Sizes of the logs that are measured; a platform of 200 hospitals has 21 million bags a year.
const SIZES: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
/// Between two looks at the clock.
const ROUND: u64 = 64;
/// An odd number that spreads places evenly.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// The hashes of every level whose tiles are served.
struct Log {
    size: u64,
    levels: HashMap<u8, Vec<u8>>,
    root: Sha256,
}

impl Log {
    fn of(size: u64) -> Log {
        let mut frontier = Frontier::default();
        let mut levels: HashMap<u8, Vec<u8>> = HashMap::new();
        for index in 0..size {
            let leaf = leaf_hash(&index.to_be_bytes());
            levels.entry(0).or_default().extend_from_slice(&leaf.0);
            frontier.push(leaf, |level, _, hash| levels.entry(level).or_default().extend_from_slice(&hash.0));
        }
        Log { size, levels, root: frontier.root() }
    }

    fn prover(&self) -> Prover<&Log> {
        Prover::new(self, self.size)
    }
}

impl TileSource for &Log {
    type Error = LogError;

    fn tile(&mut self, tile: Tile) -> Result<Vec<u8>, LogError> {
        const ABSENT: LogError = LogError::Tile("is not there");
        let level = self.levels.get(&tile.level).ok_or(ABSENT)?;
        let from = usize::try_from(tile.index * WIDTH * 32).map_err(|_| ABSENT)?;
        level.get(from..from + usize::from(tile.width) * 32).map(<[u8]>::to_vec).ok_or(ABSENT)
    }
}

/// Measures every size.
///
/// # Errors
/// When a proof is not made or does not verify.
pub fn run(seconds: u64) -> Result<Vec<Report>> {
    let each = Duration::from_millis(seconds * 1_000 / 4);
    SIZES.into_iter().map(|size| one(size, each)).collect()
}

fn one(size: u64, each: Duration) -> Result<Report> {
    let name = format!("proofs, a log of {size} entries");
    deadline::part(&name);
    let log = Log::of(size);
    let place = |n: u64| n.wrapping_mul(SPREAD) % size;
    let included = log.prover().inclusion(place(1)).map_err(|error| anyhow::anyhow!("{error}"))?;
    let leaf = leaf_hash(&place(1).to_be_bytes());
    let old = Log::of(size / 3);
    let consistent = log.prover().consistency(old.size).map_err(|error| anyhow::anyhow!("{error}"))?;
    ensure!(included.leads(&leaf, &log.root), "a proof of inclusion does not verify");
    ensure!(consistent.connects(&old.root, &log.root), "a proof of consistency does not verify");
    let inclusion = pace(each, |n| log.prover().inclusion(place(n)).is_ok())?;
    let consistency = pace(each, |n| log.prover().consistency(place(n)).is_ok())?;
    let verified = pace(each, |_| included.leads(&leaf, &log.root))?;
    let connected = pace(each, |_| consistent.connects(&old.root, &log.root))?;
    let mut report = Report::named(&name)
        .with("consistency proofs made/s", consistency.round())
        .with("inclusion proofs verified/s", verified.round())
        .with("consistency proofs verified/s", connected.round())
        .with("hashes in an inclusion proof", included.path.len());
    report.msg_per_s = inclusion;
    Ok(report)
}

/// How often something is done in a second.
#[allow(clippy::cast_precision_loss)]
fn pace(length: Duration, mut work: impl FnMut(u64) -> bool) -> Result<f64> {
    let begun = Instant::now();
    let mut done = 0;
    while begun.elapsed() < length {
        for _ in 0..ROUND {
            done += 1;
            ensure!(work(done), "a proof could not be made or does not verify");
        }
    }
    Ok(done as f64 / begun.elapsed().as_secs_f64())
}
