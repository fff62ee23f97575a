//! What must survive a crash so that no serial comes twice and genTime never goes back: the `starts` folder.
//!
//! ```text
//! starts/<number>      one file for the latest start: "<millisecond up to which tokens may be given>\n"
//! ```
//! A start takes the next number under a lock of the folder, so two processes never share one, and deletes the lower ones. Serial = 24 bits of that number ‖ 38 random bits ‖ a 64-bit counter: distinct by the number, and by chance even
//! when a backup of the folder is put back. genTime begins at the highest instant that any file holds; before a token goes
//! beyond what is written, the file is written further, ahead by at most the stated accuracy, so that a restart may give
//! tokens at once and still states no time that is off by more than that.
//! Failure behaviour: no token when the file cannot be written.

use super::TsaError;
use crate::file;
use crate::secret::fill_random;
use schemas::Millis;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

const STARTS: &str = "starts";
/// The furthest that is written ahead: one write a second under load.
const AHEAD_MAX_MS: i64 = 1_000;
const NUMBER_BITS: u32 = 24;
const RANDOM_BITS: u32 = 38;

/// Numbers and times of one start.
pub(super) struct Floor {
    path: PathBuf,
    /// Where the serials of this start begin.
    epoch: u64,
    counter: AtomicU64,
    /// The last genTime.
    latest: AtomicI64,
    /// Up to where tokens may be given.
    written: AtomicI64,
    writing: Mutex<()>,
}

impl Floor {
    /// Begins a start in an authority's folder; durable on return.
    pub(super) fn begin(folder: &Path, floor: Millis) -> Result<Floor, TsaError> {
        let starts = folder.join(STARTS);
        let failed = |source| TsaError::Io { path: starts.clone(), source };
        match fs::create_dir(&starts) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            Err(_) => {}
            Ok(()) => file::sync_folder_of(&starts).map_err(failed)?,
        }
        // Released when the file is dropped, or the process dies.
        let lock = fs::File::open(&starts).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let (last, latest) = earlier(&starts)?;
        let (number, latest) = (last + 1, latest.max(floor.0));
        let path = starts.join(number.to_string());
        file::create(&path, format!("{latest}\n").as_bytes(), file::PRIVATE).map_err(failed)?;
        remove_below(&starts, number);
        Ok(Floor {
            path,
            epoch: epoch(number),
            counter: AtomicU64::new(1),
            latest: AtomicI64::new(latest),
            written: AtomicI64::new(latest),
            writing: Mutex::new(()),
        })
    }

    /// The next serial.
    pub(super) fn serial(&self) -> u128 {
        u128::from(self.epoch) << 64 | u128::from(self.counter.fetch_add(1, Ordering::Relaxed))
    }

    /// The last genTime.
    pub(super) fn latest(&self) -> Millis {
        Millis(self.latest.load(Ordering::Acquire))
    }

    /// The genTime of a token at this instant, which was checked: it, or the last one when that is later.
    pub(super) fn advance(&self, at: Millis, ahead_ms: i64) -> Result<Millis, TsaError> {
        if at.0 > self.written.load(Ordering::Acquire) {
            let _one_writer = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            if at.0 > self.written.load(Ordering::Acquire) {
                let until = at.plus(ahead_ms.clamp(1, AHEAD_MAX_MS)).0;
                file::replace(&self.path, format!("{until}\n").as_bytes(), file::PRIVATE)
                    .map_err(|source| TsaError::Io { path: self.path.clone(), source })?;
                self.written.store(until, Ordering::Release);
            }
        }
        Ok(Millis(self.latest.fetch_max(at.0, Ordering::AcqRel).max(at.0)))
    }
}

/// The highest number of a start, and the latest instant that any may have given.
fn earlier(starts: &Path) -> Result<(u64, i64), TsaError> {
    let failed = |source| TsaError::Io { path: starts.to_owned(), source };
    let (mut last, mut latest) = (0, 0);
    for entry in fs::read_dir(starts).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok()) else { continue };
        let text = fs::read_to_string(entry.path()).map_err(failed)?;
        let until: i64 = text.trim().parse().map_err(|_| TsaError::Authority("a file of starts is damaged"))?;
        (last, latest) = (last.max(number), latest.max(until));
    }
    Ok((last, latest))
}

/// Deletes the files of earlier starts. What cannot be deleted is read once more next time.
fn remove_below(starts: &Path, number: u64) {
    for entry in fs::read_dir(starts).into_iter().flatten().flatten() {
        let earlier = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
        if earlier.is_some_and(|earlier| earlier < number) {
            let _read_again_next_time = fs::remove_file(entry.path());
        }
    }
}

/// 62 bits: the start's number and chance. The top bit is clear, or the INTEGER would be negative; the next is set, so that
/// all serials are as long.
fn epoch(number: u64) -> u64 {
    let mut random = [0; 8];
    fill_random(&mut random);
    let number = number & ((1 << NUMBER_BITS) - 1);
    1 << 62 | number << RANDOM_BITS | u64::from_be_bytes(random) >> (64 - RANDOM_BITS)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn left(folder: &Path) -> usize {
        fs::read_dir(folder.join(STARTS)).unwrap().count()
    }

    #[test]
    fn starts_at_the_same_time_never_share_a_number() {
        let folder = tempfile::tempdir().unwrap();
        let begin = || Floor::begin(folder.path(), Millis(0)).unwrap().epoch >> RANDOM_BITS;
        let numbers: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(begin)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(numbers.iter().collect::<HashSet<_>>().len(), 8, "{numbers:?}");
        begin();
        assert_eq!(left(folder.path()), 1, "the files of earlier starts are deleted");
    }

    #[test]
    fn a_crash_after_any_token_leaves_a_floor_above_it_and_within_the_accuracy() {
        let folder = tempfile::tempdir().unwrap();
        let mut at = Millis(1_800_000_000_000);
        for step in [0, 1, 400, 999, 5, 100_000, 1] {
            let floor = Floor::begin(folder.path(), Millis(0)).unwrap();
            assert!(floor.latest() <= at.plus(500), "a restart is not sent into the future");
            at = at.plus(step).max(floor.latest());
            let given = floor.advance(at, 500).unwrap();
            assert_eq!(given, at);
            assert_eq!(floor.advance(at.plus(-50), 500).unwrap(), at, "nor back");
            std::mem::forget(floor); // no clean end
            assert!(Floor::begin(folder.path(), Millis(0)).unwrap().latest() >= at);
        }
    }

    #[test]
    fn no_token_where_the_floor_cannot_be_written_or_read() {
        let folder = tempfile::tempdir().unwrap();
        let floor = Floor::begin(folder.path(), Millis(0)).unwrap();
        floor.advance(Millis(1_000), 1_000).unwrap();
        fs::remove_dir_all(folder.path().join(STARTS)).unwrap();
        floor.advance(Millis(1_500), 1_000).unwrap();
        assert!(matches!(floor.advance(Millis(2_500), 1_000), Err(TsaError::Io { .. })));
        fs::create_dir(folder.path().join(STARTS)).unwrap();
        fs::write(folder.path().join(STARTS).join("1"), "soon\n").unwrap();
        assert!(Floor::begin(folder.path(), Millis(0)).is_err());
    }
}
