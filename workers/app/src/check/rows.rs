//! Every row of a space, opened, page by page: memory does not depend on how many there are.

use super::Line;
use crate::backend;
use crate::config::Config;
use crate::failed::Failed;
use crate::folder::Folder;
use bytes::Bytes;
use schemas::Key;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use zegel_core::sealing::open_value;
use zegel_core::slot::{Space, spaces};
use zegel_core::store::{DeadFilter, DeadLetter, SlotStats};
use zegel_core::{Keys, Outgoing, Read, Sealed, StoreError};
use zegel_crypto::Keyring;
use zegel_embedded::Offline;

/// Rows of one page.
const PAGE: usize = 1_000;

/// A store that is only read.
pub enum Source {
    /// A file.
    Embedded(Box<Offline>),
    /// One snapshot of a schema, and what its calls run on.
    Postgres(zegel_postgres::Offline, Handle),
}

impl Source {
    /// The store of the settings.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(config: &Config, folder: &Folder, runtime: &Handle) -> Result<Source, Failed> {
        if !backend::is_shared(config) {
            return Ok(Source::Embedded(Box::new(Offline::open(folder.database()).map_err(failure)?)));
        }
        let opening = zegel_postgres::Offline::open(config.store.expose(), &config.installation);
        Ok(Source::Postgres(runtime.block_on(opening).map_err(failure)?, runtime.clone()))
    }

    fn read(&self, reads: &[Read]) -> Result<Vec<zegel_core::Rows>, StoreError> {
        match self {
            Source::Embedded(offline) => offline.read(reads),
            Source::Postgres(offline, runtime) => runtime.block_on(offline.read(reads)),
        }
    }

    fn scan(&self, space: Space, after: Option<(Key, Bytes)>) -> Result<Vec<(Key, Bytes, Sealed)>, StoreError> {
        match self {
            Source::Embedded(offline) => offline.scan(space, after, PAGE),
            Source::Postgres(offline, runtime) => runtime.block_on(offline.scan(space, after, PAGE)),
        }
    }

    /// See [`zegel_core::Store::dead`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn dead(&self, filter: DeadFilter) -> Result<Vec<DeadLetter>, Failed> {
        match self {
            Source::Embedded(offline) => offline.dead(filter),
            Source::Postgres(offline, runtime) => runtime.block_on(offline.dead(filter)),
        }
        .map_err(failure)
    }

    /// See [`zegel_core::Store::stats`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn stats(&self) -> Result<Vec<SlotStats>, Failed> {
        match self {
            Source::Embedded(offline) => offline.stats(),
            Source::Postgres(offline, runtime) => runtime.block_on(offline.stats()),
        }
        .map_err(failure)
    }

    /// Gives every sealed message to `each`, with the table that holds it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn each_message(&self, each: impl FnMut(&'static str, Outgoing)) -> Result<(), Failed> {
        match self {
            Source::Embedded(offline) => offline.each_message(each),
            Source::Postgres(offline, runtime) => runtime.block_on(offline.each_message(each)),
        }
        .map_err(failure)
    }
}

/// A store and its keys, read only.
pub struct Rows {
    source: Source,
    keys: std::sync::Arc<Keyring>,
}

impl Rows {
    /// A store with the folder's keys.
    ///
    /// # Errors
    /// When the key file cannot be read.
    pub fn open(source: Source, folder: &Folder) -> Result<Rows, Failed> {
        let keys = folder.open_keys()?;
        Ok(Rows { source, keys: keys.into() })
    }

    /// The store.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The keys.
    pub fn keys(&self) -> std::sync::Arc<Keyring> {
        self.keys.clone()
    }

    /// Gives every row of a space to `each`: owner, sub, and the opened value, or none where it does not open.
    ///
    /// # Errors
    /// When the database cannot be read, or `each` fails.
    pub fn every(
        &self,
        space: Space,
        mut each: impl FnMut(Key, &Bytes, Option<Bytes>) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        let mut after: Option<(Key, Bytes)> = None;
        loop {
            let page = self.source.scan(space, after.take()).map_err(failure)?;
            for (owner, sub, value) in &page {
                let plain = open_value(&*self.keys as &dyn Keys, space, *owner, sub, value).ok().map(Bytes::from);
                each(*owner, sub, plain)?;
            }
            match page.into_iter().next_back() {
                Some((owner, sub, _)) => after = Some((owner, sub)),
                None => return Ok(()),
            }
        }
    }

    /// One row, opened; none where it is missing or does not open.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn one(&self, space: Space, owner: Key, sub: Bytes) -> Result<Option<Bytes>, Failed> {
        let read = Read::One { space, owner, sub: sub.clone() };
        let found = self.source.read(&[read]).map_err(failure)?;
        let value = found.into_iter().next().and_then(|rows| rows.into_iter().next());
        Ok(value
            .and_then(|(_, value)| open_value(&*self.keys as &dyn Keys, space, owner, &sub, &value).ok())
            .map(Bytes::from))
    }

    /// One row as JSON; none where it is missing or cannot be read.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn json<T: DeserializeOwned>(&self, space: Space, owner: Key, sub: Bytes) -> Result<Option<T>, Failed> {
        Ok(self.one(space, owner, sub)?.and_then(|bytes| zegel_core::rows::decode(&bytes).ok()))
    }

    /// I8: every row authenticates in its place.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn all_open(&self) -> Result<Line, Failed> {
        let mut line = Line::new("I8", "rows authenticate in their places");
        for space in spaces::ALL {
            self.every(*space, |owner, _, value| {
                line.looked_at += 1;
                if value.is_none() {
                    line.fault(format!("a row of {} does not authenticate (owner {owner})", space.name));
                }
                Ok(())
            })?;
        }
        Ok(line)
    }
}

/// Any error as text.
pub fn failure(error: impl std::fmt::Display) -> Failed {
    Failed::Failure(error.to_string())
}
