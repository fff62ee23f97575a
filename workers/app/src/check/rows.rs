//! Every row of a space, opened, page by page: memory does not depend on how many there are.

use super::Line;
use crate::failed::Failed;
use crate::folder::Folder;
use bytes::Bytes;
use schemas::Key;
use serde::de::DeserializeOwned;
use zegel_core::sealing::open_value;
use zegel_core::slot::{Space, spaces};
use zegel_core::{Keys, Read};
use zegel_crypto::Keyring;
use zegel_embedded::Offline;

/// Rows of one page.
const PAGE: usize = 1_000;

/// A store and its keys, read only.
pub struct Rows {
    offline: Offline,
    keys: std::sync::Arc<Keyring>,
}

impl Rows {
    /// Opens them.
    ///
    /// # Errors
    /// When key file or database cannot be read.
    pub fn open(folder: &Folder) -> Result<Rows, Failed> {
        let keys = Keyring::load(&folder.keys()).map_err(failure)?;
        Ok(Rows { offline: Offline::open(folder.database()).map_err(failure)?, keys: keys.into() })
    }

    /// The store.
    pub fn offline(&self) -> &Offline {
        &self.offline
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
            let page = self.offline.scan(space, after.take(), PAGE).map_err(failure)?;
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
        let found = self.offline.read(&[read]).map_err(failure)?;
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
