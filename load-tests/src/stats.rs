//! What a scenario reports: rates, latency percentiles, memory, disk writes, and the goal it is held to.
//!
//! Latencies are kept in a histogram of 2,048 buckets growing by under 1.2 % each, so a percentile is exact to that.

use serde::Serialize;
use std::time::Duration;

/// Lower bound of the first bucket: 1 µs. Upper bound of the last: about 15 hours.
const BASE_US: f64 = 1.0;
const GROWTH: f64 = 1.012;
const BUCKETS: usize = 2_048;

/// Latencies.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: vec![0; BUCKETS], total: 0 }
    }
}

impl Histogram {
    /// Notes one latency.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // bounded by the number of buckets
    pub fn record(&mut self, latency: Duration) {
        let us = (latency.as_secs_f64() * 1e6).max(BASE_US);
        let bucket = ((us / BASE_US).ln() / GROWTH.ln()) as usize;
        self.counts[bucket.min(BUCKETS - 1)] += 1;
        self.total += 1;
    }

    /// Adds another's latencies.
    pub fn merge(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.total += other.total;
    }

    /// Milliseconds below which this share (0 to 1) of the latencies lie.
    #[must_use]
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn percentile_ms(&self, share: f64) -> f64 {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && *count > 0 {
                return BASE_US * GROWTH.powi(bucket as i32 + 1) / 1_000.0;
            }
        }
        0.0
    }
}

/// The result of one scenario.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Which scenario, with its parameters.
    pub scenario: String,
    /// Messages (or rows, entries) a second.
    pub msg_per_s: f64,
    /// Payload megabytes a second.
    pub mb_per_s: f64,
    /// Latency percentiles.
    pub p50_ms: f64,
    /// Latency percentiles.
    pub p99_ms: f64,
    /// Latency percentiles.
    pub p999_ms: f64,
    /// Highest resident memory of the process so far.
    pub peak_rss_mb: f64,
    /// Commits that reached the disk.
    pub fsyncs: u64,
    /// Bytes written to the disk, per message.
    pub disk_bytes_per_msg: f64,
    /// Processor time of the whole process (generator included), per message.
    pub cpu_us_per_msg: f64,
    /// Figures that only this scenario has.
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// What the scenario aims at, in words.
    pub goal: String,
    /// Whether the goal was met.
    pub met: bool,
}

impl Report {
    /// A report without figures yet.
    #[must_use]
    pub fn named(scenario: &str) -> Report {
        Report {
            scenario: scenario.to_owned(),
            msg_per_s: 0.0,
            mb_per_s: 0.0,
            p50_ms: 0.0,
            p99_ms: 0.0,
            p999_ms: 0.0,
            peak_rss_mb: 0.0,
            fsyncs: 0,
            disk_bytes_per_msg: 0.0,
            cpu_us_per_msg: 0.0,
            extra: serde_json::Map::new(),
            goal: String::new(),
            met: true,
        }
    }

    /// Fills in rates and latencies.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn measured(mut self, messages: u64, payload_bytes: u64, took: Duration, latencies: &Histogram) -> Report {
        let seconds = took.as_secs_f64().max(1e-9);
        self.msg_per_s = messages as f64 / seconds;
        self.mb_per_s = payload_bytes as f64 / seconds / 1e6;
        self.p50_ms = latencies.percentile_ms(0.5);
        self.p99_ms = latencies.percentile_ms(0.99);
        self.p999_ms = latencies.percentile_ms(0.999);
        self.peak_rss_mb = peak_rss_mb();
        self
    }

    /// States the goal and whether it was met.
    #[must_use]
    pub fn goal(mut self, goal: &str, met: bool) -> Report {
        goal.clone_into(&mut self.goal);
        self.met = met;
        self
    }

    /// Adds a figure of this scenario's own.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Report {
        self.extra.insert(name.to_owned(), value.into());
        self
    }
}

/// What a process has used when a measurement begins, so that its end can tell the difference.
pub struct Usage {
    disk: u64,
    cpu: u64,
}

impl Usage {
    /// Now.
    #[must_use]
    pub fn now() -> Usage {
        Usage { disk: disk_bytes(), cpu: cpu_us() }
    }

    /// Writes the difference into the report of so many messages.
    #[allow(clippy::cast_precision_loss)]
    pub fn tell(&self, report: &mut Report, messages: u64) {
        let messages = messages.max(1) as f64;
        report.disk_bytes_per_msg = disk_bytes().saturating_sub(self.disk) as f64 / messages;
        report.cpu_us_per_msg = cpu_us().saturating_sub(self.cpu) as f64 / messages;
    }
}

/// Highest resident memory of this process, megabytes (VmHWM).
#[must_use]
pub fn peak_rss_mb() -> f64 {
    status_kb("VmHWM:") / 1024.0
}

/// Resident memory of this process now, megabytes.
#[must_use]
pub fn rss_mb() -> f64 {
    status_kb("VmRSS:") / 1024.0
}

fn status_kb(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("0");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

/// Bytes that this process caused to be written to storage so far.
#[must_use]
pub fn disk_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:")).unwrap_or("0");
    line.trim().parse().unwrap_or(0)
}

/// Processor time of this process so far, user and system, all threads, in microseconds.
#[must_use]
pub fn cpu_us() -> u64 {
    /// Linux counts in hundredths of a second for programs, whatever the kernel's own tick is.
    const TICK_US: u64 = 10_000;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The command's name, in parentheses, may hold blanks; utime and stime are the 12th and 13th fields behind it.
    let behind = stat.rsplit(')').next().unwrap_or_default();
    behind.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * TICK_US
}

/// The machine that the figures come from.
#[must_use]
pub fn hardware() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(':').nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total: u64 = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|line| line.split_whitespace().next())
        .and_then(|kb| kb.parse().ok())
        .unwrap_or(0);
    format!("{} cores, {}, {} GiB", cores, model.unwrap_or("unknown processor").trim(), total / 1_048_576)
}

/// The median time of one 4 KiB write with fdatasync in this folder, microseconds: the limit under everything durable.
///
/// # Errors
/// When the folder cannot be written.
pub fn fdatasync_us(folder: &std::path::Path) -> std::io::Result<u64> {
    use std::io::Write;
    let mut file = std::fs::File::create(folder.join("fsync-probe"))?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let started = std::time::Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_exact_to_one_bucket() {
        let mut histogram = Histogram::default();
        (1..=1000u64).for_each(|ms| histogram.record(Duration::from_millis(ms)));
        for (share, expected) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0)] {
            let found = histogram.percentile_ms(share);
            assert!((found / expected - 1.0).abs() < 0.025, "{share}: {found} instead of {expected}");
        }
    }
}
