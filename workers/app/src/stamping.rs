//! Who stamps: our own authority with its time sources and its upkeep, or an external one.
//!
//! The upkeep measures the time sources every minute, and once an hour (at once when the unit was revoked) sees to the
//! authority: a new unit before the old one's key may no longer be used, a new revocation list before the last one ends.
//! Both are due by what lies in the folder, not by what this process remembers, so a crash loses nothing of it.
//! Failure behaviour: a source that is silent is logged once until it speaks again; upkeep that fails is logged every hour,
//! and a month is left to mend it.

use crate::config;
use crate::external::ExternalAuthority;
use crate::failed::{Failed, at};
use crate::folder::Folder;
use crate::time_sources::TimeSource;
use schemas::Millis;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use zegel_core::clock::SystemClock;
use zegel_core::vouching::Accuracy;
use zegel_core::{Clock, Keys, Metrics, Voucher};
use zegel_crypto::Keyring;
use zegel_crypto::key_text;
use zegel_crypto::log::{NoteKey, NoteSigner, Policy, Purpose};
use zegel_crypto::tsa::{Algorithm, Authority, Roots};
use zegel_timestamp::{Answerer, OwnAuthority, Stamper};

/// Who stands in the certificates of our own authority.
const ORGANISATION: &str = "Zegel";
/// Between two measurements: what a well-behaved NTP client asks at most.
const MEASURE_EVERY: Duration = Duration::from_secs(64);
/// A measurement counts for twenty minutes: a server may be restarted meanwhile, and a quartz drifts by a quarter second.
const FRESH_MS: i64 = 20 * 60_000;
/// Between two looks at units and lists.
const LOOK_EVERY_MS: i64 = 3_600_000;

/// What the settings and the folder give.
pub struct Stamping {
    /// Who stamps bags.
    pub stamper: Arc<dyn Stamper>,
    /// Who answers requests of others; none where an external authority stamps.
    pub answerer: Option<Arc<dyn Answerer>>,
    /// Who stamps a checkpoint of the log every day.
    pub external: Option<Arc<dyn Stamper>>,
    own: OwnAuthority,
    voucher: Option<Arc<Voucher>>,
    sources: Vec<TimeSource>,
    algorithm: Algorithm,
}

/// The tasks that go on in the background; they end when this is dropped.
pub struct Upkeep(JoinHandle<()>);

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Opens our own authority, or makes it.
///
/// # Errors
/// When the folder holds something else, or cannot be written.
pub fn open_authority(folder: &Folder, settings: &config::Timestamp, keys: &Arc<Keyring>) -> Result<Authority, Failed> {
    let failure = |error: zegel_crypto::tsa::TsaError| Failed::Failure(error.to_string());
    let place = folder.authority_under(Some(keys))?;
    let authority = if folder.tsa().join("ca.pem").exists() {
        Authority::load(place, Millis(0)).map_err(failure)?
    } else {
        Authority::create_with(place, ORGANISATION, SystemClock.now(), settings.algorithm()?).map_err(failure)?
    };
    if keys.sealed_under().is_some() && !authority.is_guarded().map_err(failure)? {
        tracing::warn!("the authority's keys are not sealed: stop, and run zegel keys seal");
    }
    if folder.is_guarded() && !authority.guards_ca_key().map_err(failure)? {
        tracing::warn!(
            "the authority was made before there was a module: its units move there, the CA's own key stays in its file"
        );
    }
    if settings.policy.is_empty() { Ok(authority) } else { authority.with_policy(&settings.policy).map_err(failure) }
}

/// The log's private key, which is made with the log; its name is the log's for ever.
///
/// # Errors
/// When it cannot be read or written, or the settings name another log.
pub fn open_log_key(
    folder: &Folder,
    settings: &config::Timestamp,
    keys: Option<Arc<dyn Keys>>,
) -> Result<NoteSigner, Failed> {
    let failure = |error: zegel_crypto::log::LogError| Failed::Failure(error.to_string());
    let unreadable = |error: key_text::KeyTextError| Failed::Failure(format!("log.key: {error}"));
    let (key, public) = (folder.tsa().join("log.key"), folder.tsa().join("log.vkey"));
    if !key.exists() {
        let signer = NoteSigner::generate(&settings.log, Purpose::Log).map_err(failure)?;
        crate::folder::write_private(&public, &format!("{}\n", signer.public()))?;
        let kept = key_text::kept(&signer.to_pem().map_err(failure)?, keys.as_deref()).map_err(unreadable)?;
        crate::folder::write_private(&key, &kept)?;
        return Ok(signer);
    }
    let named: NoteKey = read(&public)?.parse().map_err(failure)?;
    if named.name() != settings.log {
        let text = format!(
            "timestamp.log is {}, but this folder's log is {}: a log keeps its name",
            settings.log,
            named.name()
        );
        return Err(Failed::Usage(text));
    }
    let text = key_text::opened(&read(&key)?, keys.as_deref()).map_err(unreadable)?;
    let signer = NoteSigner::from_pem(named.name(), Purpose::Log, &text).map_err(failure)?;
    if *signer.public() == named { Ok(signer) } else { Err(Failed::Failure("log.key and log.vkey differ".to_owned())) }
}

/// Seals the log's private key, where there is one that is not.
///
/// # Errors
/// When it cannot be read or written.
pub fn keep_log_key(folder: &Folder, keys: Option<&dyn Keys>) -> Result<(), Failed> {
    let path = folder.tsa().join("log.key");
    if !path.exists() {
        return Ok(());
    }
    let unreadable = |error: key_text::KeyTextError| Failed::Failure(format!("log.key: {error}"));
    let plain = key_text::opened(&read(&path)?, keys).map_err(unreadable)?;
    crate::folder::write_private(&path, &key_text::kept(&plain, keys).map_err(unreadable)?)
}

/// Whom readers of the log may count on: the witnesses of the settings.
///
/// # Errors
/// When a key is none, or there are fewer witnesses than must cosign.
pub fn policy(signer: &NoteSigner, settings: &config::Timestamp) -> Result<Policy, Failed> {
    let wrong = |error: zegel_crypto::log::LogError| Failed::Usage(format!("timestamp.witnesses: {error}"));
    let witnesses = settings.witnesses.iter().map(|key| key.parse().map_err(wrong)).collect::<Result<_, _>>()?;
    Policy::new(signer.public().clone(), witnesses, settings.quorum).map_err(wrong)
}

fn read(path: &Path) -> Result<String, Failed> {
    std::fs::read_to_string(path).map_err(at(path))
}

/// Wires authority, time sources and external authority as the settings say.
///
/// # Errors
/// When a setting does not hold, or the external authority's roots cannot be read.
pub fn open(authority: Authority, settings: &config::Timestamp, metrics: &Metrics) -> Result<Stamping, Failed> {
    let mut own = OwnAuthority::new(authority).map_err(|error| Failed::Failure(error.to_string()))?;
    let sources = settings.sources()?;
    let voucher = (!sources.is_empty()).then(|| {
        let required = Accuracy { accuracy_ms: settings.accuracy_ms, fresh_ms: FRESH_MS };
        Arc::new(Voucher::system(sources.len(), required, metrics.time_sources.clone()))
    });
    if let Some(voucher) = &voucher {
        own = own.vouched_by(voucher.clone());
    }
    let external = external(settings)?;
    let answers: Arc<dyn Answerer> = Arc::new(own.clone());
    Ok(Stamping {
        stamper: external.clone().unwrap_or_else(|| Arc::new(own.clone())),
        answerer: external.is_none().then_some(answers),
        external,
        own,
        voucher,
        sources,
        algorithm: settings.algorithm()?,
    })
}

fn external(settings: &config::Timestamp) -> Result<Option<Arc<dyn Stamper>>, Failed> {
    if settings.tsa.is_empty() {
        return Ok(None);
    }
    let wrong = |error: zegel_crypto::tsa::TsaError| Failed::Usage(format!("timestamp.tsa_roots: {error}"));
    let roots = Roots::from_pem(&read(Path::new(&settings.tsa_roots))?).map_err(wrong)?;
    Ok(Some(Arc::new(ExternalAuthority::new(&settings.tsa, roots))))
}

impl Stamping {
    /// The CA's certificate that bags' tokens lead to: our own, or the roots of the external authority.
    ///
    /// # Errors
    /// When the roots cannot be read.
    pub fn anchor_pem(&self, settings: &config::Timestamp) -> Result<Vec<u8>, Failed> {
        match &self.external {
            Some(_) => Ok(read(Path::new(&settings.tsa_roots))?.into_bytes()),
            None => Ok(self.own.authority().ca_pem().as_bytes().to_vec()),
        }
    }

    /// Begins the upkeep; see the module's header.
    pub fn keep_up(&self) -> Upkeep {
        let work = Arc::new(Work {
            own: self.own.clone(),
            voucher: self.voucher.clone(),
            sources: self.sources.clone(),
            algorithm: self.algorithm,
        });
        Upkeep(tokio::spawn(async move {
            let mut looked = None;
            let mut silent = vec![false; work.sources.len()];
            loop {
                let (turn, heard) = (work.clone(), silent);
                let done = tokio::task::spawn_blocking(move || turn.round(looked, heard)).await;
                let Ok((at, still)) = done else { return };
                (looked, silent) = (at, still);
                tokio::time::sleep(MEASURE_EVERY).await;
            }
        }))
    }
}

/// What the upkeep works on.
struct Work {
    own: OwnAuthority,
    voucher: Option<Arc<Voucher>>,
    sources: Vec<TimeSource>,
    algorithm: Algorithm,
}

impl Work {
    /// One round: every source, and the authority when an hour has passed. Blocks.
    fn round(&self, looked: Option<Millis>, mut silent: Vec<bool>) -> (Option<Millis>, Vec<bool>) {
        if let Some(voucher) = &self.voucher {
            for (index, source) in self.sources.iter().enumerate() {
                let measured = source.measure(&SystemClock);
                match &measured {
                    Err(error) if !silent[index] => {
                        tracing::warn!(%source, kind = ?error.kind(), "a time source does not say the time");
                    }
                    Ok(_) if silent[index] => tracing::info!(%source, "a time source says the time again"),
                    _ => {}
                }
                silent[index] = measured.is_err();
                voucher.record(index, measured.ok());
            }
        }
        let now = SystemClock.now();
        // A unit that somebody revoked is replaced at once, not within the hour.
        let urgent = self.own.authority().is_revoked().unwrap_or(true);
        if !urgent && looked.is_some_and(|looked| now.since(looked).abs() < LOOK_EVERY_MS) {
            return (looked, silent);
        }
        match self.own.authority().maintain(now, self.algorithm) {
            Ok(done) if done.renewed => tracing::info!("another time-stamping unit is active"),
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the authority could not be kept up"),
        }
        (Some(now), silent)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn settings(log: &str) -> config::Timestamp {
        config::Timestamp { log: log.to_owned(), ..config::Timestamp::default() }
    }

    #[test]
    fn a_log_keeps_its_key_and_its_name() {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::at(data.path());
        std::fs::create_dir(folder.tsa()).unwrap();
        let made = open_log_key(&folder, &settings("one.example/log"), None).unwrap();
        let again = open_log_key(&folder, &settings("one.example/log"), None).unwrap();
        assert_eq!(made.public(), again.public());
        let renamed = open_log_key(&folder, &settings("two.example/log"), None).unwrap_err();
        assert!(renamed.to_string().contains("a log keeps its name"), "{renamed}");
        assert_eq!(policy(&made, &settings("one.example/log")).unwrap().quorum(), 0);
        let short = config::Timestamp { quorum: 1, ..settings("one.example/log") };
        assert!(policy(&made, &short).is_err(), "a quorum without witnesses");
    }
}
