//! The journal as a command reaches it: opened here, or over the front of the agent that has it.

use crate::client::{Client, list};
use crate::failed::{Failed, at};
use crate::folder::private_folder;
use crate::platform::runtime;
use schemas::Sha256;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Runtime;
use zegel_core::clock::SystemClock;
use zegel_crypto::Keyring;
use zegel_embedded::{Embedded, OpenError, Options};
use zegel_hospital::journal::{Begin, ENTRIES_MAX};
use zegel_hospital::{Entry, Journal, Offer};

/// Where a running agent says its address.
pub const ADDRESS: &str = "agent.address";
/// The token of its front.
pub const TOKEN: &str = "agent.token";
/// One writer with small steps: a backlog of requests needs no more.
const QUEUE_BYTES: usize = 8 << 20;

/// A journal in this process.
pub struct Opened {
    pub journal: Arc<Journal>,
    pub runtime: Runtime,
    store: Arc<Embedded>,
}

impl Opened {
    /// Opens the folder's journal, or begins it.
    ///
    /// # Errors
    /// None when another process has it.
    pub fn open(folder: &Path, begin: &Begin) -> Result<Option<Opened>, Failed> {
        let failure = |error: &dyn std::fmt::Display| Failed::Failure(error.to_string());
        let (database, keys) = (folder.join("journal.db"), folder.join("keys.toml"));
        if begin.hospital.is_none() && !database.exists() {
            return Err(zegel_hospital::HospitalError::NoJournal.into());
        }
        private_folder(folder)?;
        let fresh = !database.exists();
        let options = Options { queue_bytes: QUEUE_BYTES, tail_bytes: 1 << 20, ..Options::default() };
        let store = match Embedded::open(&database, options) {
            Err(OpenError::InUse { .. }) => return Ok(None),
            other => other.map_err(|error| failure(&error))?,
        };
        let keys = match (keys.exists(), fresh) {
            (true, _) => Keyring::load(&keys).map_err(|error| failure(&error))?,
            (false, true) => Keyring::create(&keys).map_err(|error| failure(&error))?,
            // Fresh keys beside an old journal would make everything in it unreadable, silently.
            (false, false) => {
                return Err(Failed::Failure(format!("{} is missing, but there is a journal", keys.display())));
            }
        };
        let runtime = runtime()?;
        let clock = Arc::new(SystemClock);
        let journal = Journal::open(store.clone(), Arc::new(keys), clock, runtime.handle().clone(), begin)?;
        Ok(Some(Opened { journal: Arc::new(journal), runtime, store }))
    }

    /// Lets the store end as it should.
    pub fn close(self) {
        self.runtime.block_on(self.store.close());
    }
}

/// See the module.
pub enum Desk {
    /// In this process.
    Here(Opened),
    /// With a running agent.
    There(Client),
}

impl Desk {
    /// Opens the journal, or finds the agent that has it.
    ///
    /// # Errors
    /// Neither is possible.
    pub fn open(folder: &Path, begin: Begin) -> Result<Desk, Failed> {
        if let Some(opened) = Opened::open(folder, &begin)? {
            return Ok(Desk::Here(opened));
        }
        let read = |name: &str| fs::read_to_string(folder.join(name)).map_err(at(&folder.join(name)));
        let (address, token) = (read(ADDRESS)?, read(TOKEN)?);
        let client = Client::new(address.trim(), Some(token.trim().to_owned()));
        let said = client.get("/v1/status", &[])?;
        match begin.hospital {
            Some(hospital) if said["hospital"] != hospital.to_string() => {
                Err(zegel_hospital::HospitalError::OtherHospital.into())
            }
            _ => Ok(Desk::There(client)),
        }
    }

    /// Writes documents down; one answer each.
    ///
    /// # Errors
    /// The journal fails.
    pub fn add(&self, offers: &[Offer]) -> Result<Vec<Value>, Failed> {
        let mut answers = Vec::with_capacity(offers.len());
        for page in offers.chunks(ENTRIES_MAX) {
            match self {
                Desk::Here(opened) => {
                    for answer in opened.journal.add(page)? {
                        answers.push(serde_json::to_value(answer)?);
                    }
                }
                Desk::There(client) => {
                    let entries: Vec<Value> =
                        page.iter().map(|offer| json!({ "ref": offer.reference, "hash": offer.document })).collect();
                    let answer = client.post_answered("/v1/hashes", &json!({ "entries": entries }))?;
                    answers.extend(list(&answer, "answers").iter().cloned());
                }
            }
        }
        Ok(answers)
    }

    /// The entries of a document.
    ///
    /// # Errors
    /// The journal fails.
    pub fn find(&self, document: &Sha256) -> Result<Vec<Entry>, Failed> {
        match self {
            Desk::Here(opened) => Ok(opened.journal.find(document)?),
            Desk::There(client) => entries(&client.get(&format!("/v1/documents/{document}"), &[])?),
        }
    }

    /// Entries from a reference on, and where the next page begins.
    ///
    /// # Errors
    /// The journal fails.
    pub fn page(&self, from: u64) -> Result<(Vec<Entry>, Option<u64>), Failed> {
        match self {
            Desk::Here(opened) => {
                let found = opened.journal.from(from)?;
                let next = found.last().filter(|_| found.len() == ENTRIES_MAX).map(|entry| entry.reference + 1);
                Ok((found, next))
            }
            Desk::There(client) => {
                let answer = client.get("/v1/entries", &[("from", &from.to_string())])?;
                Ok((entries(&answer)?, answer["next"].as_u64()))
            }
        }
    }

    /// How many entries are where.
    ///
    /// # Errors
    /// The agent does not answer.
    pub fn tally(&self) -> Result<Value, Failed> {
        match self {
            Desk::Here(opened) => Ok(serde_json::to_value(opened.journal.tally())?),
            Desk::There(client) => client.get("/v1/status", &[]),
        }
    }

    /// Lets the store end as it should.
    pub fn close(self) {
        if let Desk::Here(opened) = self {
            opened.close();
        }
    }
}

fn entries(answer: &Value) -> Result<Vec<Entry>, Failed> {
    Ok(serde_json::from_value(answer["entries"].clone())?)
}
