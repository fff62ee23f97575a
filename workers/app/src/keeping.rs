//! The platform's archives kept by the clock: new bags added, time stamps renewed before their certificates end, old bags
//! deleted where a policy says so.
//!
//! Every folder in `timestamp.archives` that holds an archive is looked after at the instants of `timestamp.keep_at`, and once
//! at the start. What is due follows from what lies in the folder, never from what this process remembers, and each step is
//! the one of the command of the same name (`zegel timestamp export`, `renew`, `expire`): durable before the next, and begun
//! again where a crash cut it off. One writer at a time holds an archive; who comes second leaves it alone.
//! Order: renew before delete, and export first, so that what is new is renewed with the rest. A token for a renewal is
//! verified by the stamper before it is archived.
//! Failure behaviour: what fails is logged with the archive's folder and tried again at the next instant; `renew_days` is
//! long enough for many of them.

use crate::client::Client;
use crate::commands::archive;
use crate::config;
use crate::failed::Failed;
use crate::folder::Folder;
use schemas::Millis;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use zegel_archive::ArchiveError;
use zegel_archive::manifest::{self, Manifest, Side};
use zegel_archive::reader::Archive;
use zegel_archive::renewal;
use zegel_archive::writer::Writer;
use zegel_core::Clock;
use zegel_core::clock::SystemClock;
use zegel_crypto::tsa::Digest;
use zegel_timestamp::Stamper;
use zegel_timestamp::schedule::Schedule;

const DAY_MS: i64 = 86_400_000;
/// A mean Gregorian year.
const YEAR_MS: i64 = 31_556_952_000;
/// Longest sleep between two looks at the clock, which may be set.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What is kept, and how.
pub struct Keeping {
    archives: PathBuf,
    schedule: Schedule,
    renew_ms: i64,
    keep_ms: Option<i64>,
    stamper: Arc<dyn Stamper>,
    folder: Folder,
    url: String,
}

/// The task; it ends when this is dropped.
pub struct Kept(JoinHandle<()>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What one look at one archive did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Done {
    added: u64,
    renewed: u64,
    expired: u64,
}

impl Keeping {
    /// As the settings say; none where no folder is kept. `url` is where this platform listens.
    ///
    /// # Errors
    /// [`Failed::Usage`] when the schedule is none.
    pub fn open(
        settings: &config::Timestamp,
        folder: &Folder,
        url: String,
        stamper: Arc<dyn Stamper>,
    ) -> Result<Option<Keeping>, Failed> {
        if settings.archives.is_empty() {
            return Ok(None);
        }
        let schedule = Schedule::cron(&settings.keep_at).map_err(|error| Failed::Usage(error.to_string()))?;
        Ok(Some(Keeping {
            archives: folder.root().join(&settings.archives),
            schedule,
            renew_ms: i64::from(settings.renew_days) * DAY_MS,
            keep_ms: (settings.keep_years > 0).then_some(i64::from(settings.keep_years) * YEAR_MS),
            stamper,
            folder: folder.clone(),
            url,
        }))
    }

    /// Begins to keep.
    pub fn start(self) -> Kept {
        let keeping = Arc::new(self);
        Kept(tokio::spawn(async move {
            loop {
                let round = keeping.clone();
                let kept = tokio::task::spawn_blocking(move || round.round(SystemClock.now())).await;
                if kept.is_err() {
                    tracing::error!("archives: a look at them ended before its work");
                }
                let next = keeping.schedule.next_boundary(SystemClock.now());
                while SystemClock.now() < next {
                    let left = u64::try_from(next.since(SystemClock.now())).unwrap_or(0);
                    tokio::time::sleep(Duration::from_millis(left.max(1)).min(LOOK_EVERY)).await;
                }
            }
        }))
    }

    /// Looks after every archive once. Blocks.
    fn round(&self, now: Millis) {
        let entries = match std::fs::read_dir(&self.archives) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(folder = %self.archives.display(), %error, "archives: the folder cannot be read");
                return;
            }
        };
        let folders = entries.flatten().map(|entry| entry.path()).filter(|path| path.join(manifest::NAME).exists());
        for folder in folders {
            match self.one(&folder, now) {
                Ok(Done { added: 0, renewed: 0, expired: 0 }) => {}
                Ok(Done { added, renewed, expired }) => {
                    tracing::info!(folder = %folder.display(), added, renewed, expired, "archive kept");
                }
                Err(error) => tracing::error!(folder = %folder.display(), %error, "archive could not be kept"),
            }
        }
    }

    fn one(&self, folder: &Path, now: Millis) -> Result<Done, Failed> {
        let unreadable = || Failed::Failure("its manifest cannot be read: run `zegel audit`".to_owned());
        let text = Manifest::text(folder)?;
        let manifest = std::str::from_utf8(&text).ok().and_then(Manifest::decode).ok_or_else(unreadable)?.0;
        let (hospital, side) = (&manifest.hospital, manifest.side);
        let mut done = Done::default();
        if side == Side::Platform {
            let token = self.folder.operator_token()?;
            let client = Client::new(&self.url, Some(token));
            done.added = archive::go_on(&client, hospital, folder, side)?.bags;
        }
        let archive = Archive::open(folder)?;
        if archive.findings.total() > 0 {
            return Err(Failed::Failure("it is damaged: run `zegel audit`".to_owned()));
        }
        let due = renewal::due(&archive, now.plus(self.renew_ms))?;
        if !due.is_empty() {
            let mut writer = Writer::open(folder, hospital, side)?;
            done.renewed = renewal::renew(due, &mut writer, |digest, root| self.stamp(digest, root, now))?;
            writer.finish()?;
        }
        if let Some(keep_ms) = self.keep_ms
            && archive.expirable(now.plus(-keep_ms)) > 0
        {
            done.expired = Writer::open(folder, hospital, side)?.expire(now.plus(-keep_ms))?;
        }
        Ok(done)
    }

    fn stamp(&self, digest: Digest, root: &[u8], now: Millis) -> Result<Vec<u8>, ArchiveError> {
        let failed = |rule: String| ArchiveError::Input { what: "time-stamp authority".to_owned(), rule };
        self.stamper
            .stamp_over(digest, root, now)
            .map(|stamped| stamped.response)
            .map_err(|error| failed(error.to_string()))
    }
}
