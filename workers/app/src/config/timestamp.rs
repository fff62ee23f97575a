//! The section `[timestamp]`: windows, authority, time sources, log.

use super::{ConfigError, value};
use crate::failed::Failed;
use crate::time_sources::TimeSource;
use serde::{Deserialize, Serialize};
use zegel_crypto::tsa::{Algorithm, TEST_POLICY};

/// Accuracies that may be stated: below 10 ms nothing here measures, and above a minute nothing is accurate.
const ACCURACY_MS: std::ops::RangeInclusive<u32> = 10..=60_000;
/// Most time sources: each is asked in turn, two seconds at most.
const SOURCES_MAX: usize = 16;
/// Most witnesses: as many as every reader of signed notes must accept, less the log itself.
const WITNESSES_MAX: usize = 15;

/// Time-stamp bags, the authority and the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timestamp {
    /// When windows end.
    pub window: String,
    /// What the authority's keys are made of.
    pub algorithm: String,
    /// Time sources; none: tokens promise nothing.
    pub sources: Vec<String>,
    /// The accuracy that tokens state while enough sources agree, in milliseconds.
    pub accuracy_ms: u32,
    /// The policy of such tokens.
    pub policy: String,
    /// Whether `POST /timestamp` asks for no token of the platform.
    pub open: bool,
    /// URL of an external authority that stamps instead; empty: our own does.
    pub tsa: String,
    /// File with the roots of the external authority, PEM.
    pub tsa_roots: String,
    /// The log's name.
    pub log: String,
    /// How often a checkpoint is signed while the log grows, in seconds.
    pub checkpoint_s: u32,
    /// Keys of the witnesses that may cosign checkpoints.
    pub witnesses: Vec<String>,
    /// How many of them must have cosigned the checkpoint that is served.
    pub quorum: usize,
    /// Folder whose archives this platform keeps, inside the data folder or absolute; empty: none.
    pub archives: String,
    /// When it looks after them.
    pub keep_at: String,
    /// Time stamps are renewed so many days before their certificates end.
    pub renew_days: u32,
    /// Bags are deleted after so many years; 0: never.
    pub keep_years: u32,
}

impl Timestamp {
    /// The algorithm of the authority's keys.
    ///
    /// # Errors
    /// [`Failed::Usage`] when it is none.
    pub fn algorithm(&self) -> Result<Algorithm, Failed> {
        self.algorithm.parse().map_err(|_| Failed::Usage("timestamp.algorithm: no such algorithm".to_owned()))
    }

    /// The time sources.
    ///
    /// # Errors
    /// [`Failed::Usage`] when one is none.
    pub fn sources(&self) -> Result<Vec<TimeSource>, Failed> {
        let read = |text: &String| text.parse().map_err(|rule| Failed::Usage(format!("timestamp.sources: {rule}")));
        self.sources.iter().map(read).collect()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        zegel_timestamp::schedule::Schedule::cron(&self.window)
            .map_err(|_| value("timestamp.window", "must be a cron expression with seconds, like \"0 */5 * * * *\""))?;
        let vouched = !self.sources.is_empty();
        let witness = |key: &String| key.parse::<zegel_crypto::log::NoteKey>().is_ok();
        let rules = [
            ("timestamp.algorithm", self.algorithm().is_ok(), "must be rsa-3072, ecdsa-p256 or ecdsa-p384"),
            (
                "timestamp.sources",
                self.sources().is_ok() && self.sources.len() <= SOURCES_MAX,
                "must be at most 16 of ntp://host, chrony and http://host/",
            ),
            ("timestamp.accuracy_ms", ACCURACY_MS.contains(&self.accuracy_ms), "must be 10 to 60000 milliseconds"),
            (
                "timestamp.policy",
                !vouched || (!self.policy.is_empty() && self.policy != TEST_POLICY),
                "must be set where time sources are: the object identifier of your own time-stamp policy",
            ),
            (
                "timestamp.tsa",
                self.tsa.is_empty() || self.tsa.starts_with("http://"),
                "must begin with http:// (what comes back is verified; put a proxy in front for TLS)",
            ),
            (
                "timestamp.tsa_roots",
                self.tsa.is_empty() || !self.tsa_roots.is_empty(),
                "must name a file with the external authority's roots, PEM",
            ),
            (
                "timestamp.log",
                !self.log.is_empty() && !self.log.contains(|c: char| c.is_whitespace() || c == '+'),
                "must be a name without spaces and plus signs, like platform.example/log",
            ),
            ("timestamp.checkpoint_s", (1..=300).contains(&self.checkpoint_s), "must be 1 to 300 seconds"),
            (
                "timestamp.witnesses",
                self.witnesses.len() <= WITNESSES_MAX && self.witnesses.iter().all(witness),
                "must be at most 15 verifier keys, like name+id+key",
            ),
            (
                "timestamp.keep_at",
                zegel_timestamp::schedule::Schedule::cron(&self.keep_at).is_ok(),
                "must be a cron expression with seconds, like \"0 30 3 * * *\"",
            ),
            ("timestamp.renew_days", (1..=36_500).contains(&self.renew_days), "must be 1 to 36500 days"),
            ("timestamp.keep_years", self.keep_years <= 1_000, "must be at most 1000 years; 0 keeps everything"),
            ("timestamp.quorum", self.quorum <= self.witnesses.len(), "must be at most the number of witnesses"),
        ];
        match rules.into_iter().find(|(_, holds, _)| !holds) {
            Some((key, _, rule)) => Err(value(key, rule)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
impl Default for Timestamp {
    fn default() -> Timestamp {
        super::Config::load(&super::Overrides::default()).map(|config| config.timestamp).expect("defaults")
    }
}
