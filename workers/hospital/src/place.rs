//! Where the journal lies: rows of one owner in a store, opened and sealed here, read and written from threads.

use crate::entry::Entry;
use crate::error::HospitalError;
use crate::journal::ENTRIES_MAX;
use crate::rows;
use bytes::Bytes;
use schemas::{Key, Millis};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tokio::runtime::Handle;
use topology::CHANNELS;
use zegel_core::rows::decode;
use zegel_core::sealing::{open_value, seal_value};
use zegel_core::slot::spaces::JOURNAL;
use zegel_core::{Clock, Keys, OwnerId, Read, Rows, Slot, Step, Store, Write};

/// The only process that has the folder's lock claims the slot; its own earlier claim, from before a crash, is no other's.
const OWNER: OwnerId = OwnerId(*b"hospital journal");
/// Nobody else may claim it meanwhile in any case; the commit checks the epoch, not this.
const LEASE_MS: i64 = 60_000;

/// See the module.
pub(crate) struct Place {
    store: Arc<dyn Store>,
    pub(crate) keys: Arc<dyn Keys>,
    clock: Arc<dyn Clock>,
    runtime: Handle,
    owner: Key,
    slot: Slot,
    epoch: u64,
}

impl Place {
    /// Claims the one slot that a journal commits under. Its channel carries nothing there; any one would do.
    pub(crate) fn claim(
        store: Arc<dyn Store>,
        keys: Arc<dyn Keys>,
        clock: Arc<dyn Clock>,
        runtime: Handle,
    ) -> Result<Place, HospitalError> {
        let owner = keys.blind("hospital-journal", b"");
        let channel = &CHANNELS[4];
        let slot = Slot { channel: channel.code, group: channel.groups[0].code, partition: 0 };
        let claim = runtime.block_on(store.claim(slot, OWNER, clock.now(), LEASE_MS))?.ok_or(HospitalError::Taken)?;
        Ok(Place { store, keys, clock, runtime, owner, slot, epoch: claim.epoch })
    }

    pub(crate) fn now(&self) -> Millis {
        self.clock.now()
    }

    pub(crate) fn one<T: DeserializeOwned>(&self, sub: Bytes) -> Result<Option<T>, HospitalError> {
        let rows = self.read(vec![self.at(sub)])?;
        rows.first().map_or(Ok(None), |rows| self.opened(rows))
    }

    pub(crate) fn entries(&self, references: &[u64]) -> Result<Vec<Option<Entry>>, HospitalError> {
        let reads = references.iter().map(|reference| self.at(rows::entry(*reference)));
        self.read(reads.collect())?.iter().map(|rows| self.opened(rows)).collect()
    }

    /// Names of rows; at most [`ENTRIES_MAX`].
    pub(crate) fn range(&self, from: Bytes, to: Bytes) -> Result<Vec<Bytes>, HospitalError> {
        let found = self.read(vec![self.between(from, to, ENTRIES_MAX)])?;
        Ok(found.into_iter().flatten().map(|(sub, _)| sub).collect())
    }

    pub(crate) fn at(&self, sub: Bytes) -> Read {
        Read::One { space: JOURNAL, owner: self.owner, sub }
    }

    pub(crate) fn between(&self, from: Bytes, to: Bytes, limit: usize) -> Read {
        Read::Range { space: JOURNAL, owner: self.owner, from, to: Some(to), limit, reverse: false }
    }

    pub(crate) fn read(&self, reads: Vec<Read>) -> Result<Vec<Rows>, HospitalError> {
        if reads.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.runtime.block_on(self.store.read(reads))?)
    }

    fn opened<T: DeserializeOwned>(&self, rows: &Rows) -> Result<Option<T>, HospitalError> {
        let Some((sub, sealed)) = rows.first() else { return Ok(None) };
        let plain = open_value(&*self.keys, JOURNAL, self.owner, sub, sealed)?;
        Ok(Some(decode(&plain)?))
    }

    /// A row with a value.
    pub(crate) fn row<T: Serialize>(&self, sub: Bytes, value: &T) -> Result<Write, HospitalError> {
        let plain = serde_json::to_vec(value).map_err(|_| HospitalError::Gone)?;
        let value = Some(seal_value(&*self.keys, JOURNAL, self.owner, &sub, &plain));
        Ok(Write { space: JOURNAL, owner: self.owner, sub, value })
    }

    /// A row that is there or not, without a value.
    pub(crate) fn mark(&self, sub: Bytes, there: bool) -> Write {
        let value = there.then(|| seal_value(&*self.keys, JOURNAL, self.owner, &sub, &[]));
        Write { space: JOURNAL, owner: self.owner, sub, value }
    }

    /// Durable on return.
    pub(crate) fn commit(&self, writes: Vec<Write>) -> Result<(), HospitalError> {
        let mut step = Step::empty(self.slot, self.epoch);
        step.writes = writes;
        Ok(self.runtime.block_on(self.store.commit(step))?)
    }
}
