//! What a project showed in its classes, in the store: the ledger of small cells.
//!
//! Rows of the project's key in the space `cells`, never changed. `p ‖ bucket (u8) ‖ message number (u64 BE)` → pairs of 16 bytes,
//! one behind the other; a pair's first byte is its bucket; a batch adds at most 256 of these. `r ‖ message number` → the
//! report for the officer, a [`ReportRow`] as JSON. They are written in the step that delivers the batch, so what stands in the
//! ledger was delivered, and the other way round.
//! Memory: one bucket at a time, because pairs are asked for in order. Bound: [`NEW_MAX`] new pairs in a batch, what fits a job's
//! outcome; more are refused with the advice to send in parts.

use crate::small_cells::{CellsReport, Ledger, Pair};
use bytes::Bytes;
use schemas::{Key, Millis};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::io;
use zegel_core::slot::spaces::CELLS;
use zegel_core::worker::{Change, JobIo};
use zegel_core::{Failure, Interrupt, Read};

/// New pairs of one batch: 1.6 MB in a job's outcome.
const NEW_MAX: usize = 100_000;
/// Rows read at a time.
const PAGE: usize = 256;
const PAIRS: u8 = b'p';
const REPORTS: u8 = b'r';
const PAIR: usize = size_of::<Pair>();

/// What an officer is told of one batch that was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportRow {
    /// When; none in rows of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Millis>,
    /// What was shown and held back.
    #[serde(flatten)]
    pub report: CellsReport,
}

/// Reports on a project's batches after a message's number, oldest first.
#[must_use]
pub fn reports(project: Key, after: u64, limit: usize) -> Read {
    let from = [&[REPORTS][..], &after.saturating_add(1).to_be_bytes()].concat().into();
    let to = Some(Bytes::from_static(&[REPORTS + 1]));
    Read::Range { space: CELLS, owner: project, from, to, limit, reverse: false }
}

/// The message's number in the sub of a report; none when it is another row.
#[must_use]
pub fn report_number(sub: &[u8]) -> Option<u64> {
    let (REPORTS, number) = (*sub.first()?, sub.get(1..)?) else { return None };
    Some(u64::from_be_bytes(number.try_into().ok()?))
}

/// The ledger as a job sees it.
pub(crate) struct StoreLedger<'a> {
    io: &'a dyn JobIo,
    owner: Key,
    bucket: Option<(u8, HashSet<Pair>)>,
    /// What the batch adds.
    pub(crate) new: Vec<Pair>,
}

impl<'a> StoreLedger<'a> {
    /// The ledger of the project with this key.
    pub(crate) fn new(io: &'a dyn JobIo, owner: Key) -> StoreLedger<'a> {
        StoreLedger { io, owner, bucket: None, new: Vec::new() }
    }

    fn load(&self, bucket: u8) -> io::Result<HashSet<Pair>> {
        let mut pairs = HashSet::new();
        let mut from = Bytes::copy_from_slice(&[PAIRS, bucket]);
        let to = Bytes::copy_from_slice(&bucket.checked_add(1).map_or([PAIRS + 1, 0], |next| [PAIRS, next]));
        loop {
            let read = Read::Range {
                space: CELLS,
                owner: self.owner,
                from,
                to: Some(to.clone()),
                limit: PAGE,
                reverse: false,
            };
            let rows = self.io.read(read).map_err(io::Error::other)?;
            for (_, value) in &rows {
                pairs.extend(value.chunks_exact(PAIR).filter_map(|pair| Pair::try_from(pair).ok()));
            }
            match rows.last() {
                Some((last, _)) if rows.len() == PAGE => from = [&last[..], &[0]].concat().into(),
                _ => return Ok(pairs),
            }
        }
    }
}

impl Ledger for StoreLedger<'_> {
    fn has(&mut self, pair: &Pair) -> io::Result<bool> {
        if self.bucket.as_ref().is_none_or(|(bucket, _)| *bucket != pair[0]) {
            self.bucket = Some((pair[0], self.load(pair[0])?));
        }
        Ok(self.bucket.as_ref().is_some_and(|(_, pairs)| pairs.contains(pair)))
    }

    fn add(&mut self, pair: Pair) -> io::Result<()> {
        if self.new.len() >= NEW_MAX {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.new.push(pair);
        Ok(())
    }
}

/// The rows that a delivered batch adds; `number` is its message's.
///
/// # Errors
/// A permanent failure when the bytes are no pairs.
pub(crate) fn rows(owner: Key, number: u64, pairs: &[u8], report: &ReportRow) -> Result<Vec<Change>, Interrupt> {
    if !pairs.len().is_multiple_of(PAIR) {
        return Err(Failure::permanent("ZGL-STATE-READ").into());
    }
    let mut buckets: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    for pair in pairs.chunks_exact(PAIR) {
        buckets.entry(pair[0]).or_default().extend_from_slice(pair);
    }
    let change = |sub: &[u8], value: Vec<u8>| Change {
        space: CELLS,
        owner,
        sub: [sub, &number.to_be_bytes()].concat().into(),
        value: Some(value.into()),
    };
    let mut changes: Vec<_> = buckets.into_iter().map(|(bucket, value)| change(&[PAIRS, bucket], value)).collect();
    let report = serde_json::to_vec(report).map_err(|_| Failure::permanent("ZGL-STATE-WRITE"))?;
    changes.push(change(&[REPORTS], report));
    Ok(changes)
}
