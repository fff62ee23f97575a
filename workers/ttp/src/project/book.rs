//! The projects that the TTP works for, each with what holds today. Shared by the worker and whoever changes the register.
//!
//! Reading never waits for a change: a change puts a new table in place of the old one. What is not lawful stays in the table
//! with its reason, so that its messages are refused with it (I8).

use super::agreement::Agreement;
use super::exchange::AtLimit;
use super::register::{Register, Standing};
use super::{ProjectDocument, ProjectError};
use crate::CompiledProject;
use crate::refusal::refusal;
use crate::seals::Application;
use chrono::{DateTime, NaiveDate};
use schemas::messages::Reason;
use schemas::{MailboxAddress, Millis};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use zegel_crypto::Secret32;
use zegel_crypto::hpke::OpenKey;

/// One project of the book.
#[derive(Debug, Clone)]
pub enum Listed {
    /// Its papers hold; what is allowed depends on the day.
    Lawful(Arc<Lawful>),
    /// It refuses everything, for this reason.
    Barred(Barred),
    /// Holds as long as its document says, without papers: for tests and measurements.
    Unconditional(Arc<CompiledProject>),
}

/// A project that refuses everything.
#[derive(Debug, Clone)]
pub struct Barred {
    /// Why.
    pub reason: Reason,
    /// Its documents as far as they can be read. Nothing is done by them; they only say whose refused batches are kept.
    pub documents: Vec<ProjectDocument>,
}

/// A project whose papers hold, ready to work.
#[derive(Debug)]
pub struct Lawful {
    register: Register,
    /// By version and epoch; empty when the keys are destroyed.
    compiled: BTreeMap<(u32, u32), Arc<CompiledProject>>,
    /// The root of its synchronous service.
    seals: Option<Secret32>,
}

impl Lawful {
    /// Makes every period ready. `root` is the key root, `seals` that of the synchronous service; none when it is destroyed, or
    /// there is no such service. `decode_keys` are those that this process
    /// has, of whichever projects.
    ///
    /// # Errors
    /// [`ProjectError`] when a version cannot be made ready.
    pub fn new(
        agreement: &Agreement,
        root: Option<&[u8; 32]>,
        seals: Option<Secret32>,
        decode_keys: &[Arc<OpenKey>],
    ) -> Result<Lawful, ProjectError> {
        let mut compiled = BTreeMap::new();
        for period in agreement.register.periods() {
            let (Some(root), Some(document)) = (root, agreement.documents.get(&period.version)) else { continue };
            let project = CompiledProject::with_epoch(ProjectDocument::clone(document), root, period.epoch)?
                .opened_by(decode_keys);
            compiled.insert((period.version, period.epoch), Arc::new(project));
        }
        Ok(Lawful { register: agreement.register.clone(), compiled, seals })
    }

    /// The project as it holds on this day.
    ///
    /// # Errors
    /// The reason why it does not.
    pub fn on(&self, day: NaiveDate) -> Result<Arc<CompiledProject>, Reason> {
        let period = match self.register.standing(day) {
            Standing::InForce(period) => period,
            Standing::Draft => return Err(inactive()),
            Standing::Ahead(_) => return Err(refusal("ZGL-TTP-EARLY", "the project has not taken effect yet")),
            Standing::Retired(_) | Standing::Destroyed(_) => {
                return Err(refusal("ZGL-TTP-RETIRED", "the project is retired"));
            }
        };
        let ready = self.compiled.get(&(period.version, period.epoch));
        ready.cloned().ok_or_else(|| refusal("ZGL-TTP-KEYS", "the project's keys are missing"))
    }
}

/// The reason of a project without signatures.
#[must_use]
pub fn inactive() -> Reason {
    refusal("ZGL-TTP-INACTIVE", "the project is not signed by all parties and activated")
}

/// The reason of a project whose papers do not hold together.
#[must_use]
pub fn altered() -> Reason {
    refusal("ZGL-TTP-ALTERED", "the project's document or register is not as it was signed")
}

/// The reason of a project whose key root is not the one that it was activated with.
#[must_use]
pub fn without_keys() -> Reason {
    refusal("ZGL-TTP-KEYS", "the project's keys are missing, or not those it was activated with")
}

/// See the module's header.
#[derive(Debug, Default)]
pub struct ProjectBook(RwLock<Arc<HashMap<String, Listed>>>);

impl ProjectBook {
    /// A book of projects that hold without papers: for tests and measurements.
    ///
    /// # Errors
    /// [`ProjectError::Rule`] when two projects have the same name.
    pub fn unconditional(projects: Vec<CompiledProject>) -> Result<ProjectBook, ProjectError> {
        let count = projects.len();
        let by_name = |project: CompiledProject| (project.name().to_owned(), Listed::Unconditional(Arc::new(project)));
        let table: HashMap<_, _> = projects.into_iter().map(by_name).collect();
        if table.len() < count {
            return Err(ProjectError::Rule("two projects have the same name"));
        }
        Ok(ProjectBook(RwLock::new(Arc::new(table))))
    }

    /// Puts a new table in place of the old one.
    pub fn replace(&self, table: HashMap<String, Listed>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }

    /// Every project that is known, in force or not, in order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut names: Vec<String> = table.keys().cloned().collect();
        names.sort();
        names
    }

    /// The project as it holds at this instant.
    ///
    /// # Errors
    /// The reason why it does not: unknown, not signed, altered, ahead, retired.
    pub fn at(&self, name: &str, now: Millis) -> Result<Arc<CompiledProject>, Reason> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        match table.get(name) {
            None => Err(refusal("ZGL-TTP-PROJECT", "the project is unknown")),
            Some(Listed::Barred(barred)) => Err(barred.reason.clone()),
            Some(Listed::Unconditional(project)) => Ok(project.clone()),
            Some(Listed::Lawful(lawful)) => lawful.on(day_of(now)),
        }
    }
}

impl ProjectBook {
    /// Whether the project has, in any of its documents, this address as a sender; of what comes back: as the recipient that may
    /// return. It says nothing of whether the project holds today.
    #[must_use]
    pub fn knows(&self, name: &str, sender: &MailboxAddress, is_return: bool) -> bool {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        match table.get(name) {
            None => false,
            Some(Listed::Barred(barred)) => barred.documents.iter().any(|document| match is_return {
                true => document.recipient == *sender && document.return_terms().is_some(),
                false => document.senders.contains(sender),
            }),
            Some(Listed::Unconditional(project)) => project.knows(sender, is_return),
            Some(Listed::Lawful(lawful)) => lawful.compiled.values().any(|project| project.knows(sender, is_return)),
        }
    }

    /// Of each project that holds today: how many senders it has, and among how few of them a delivery may be hidden as far as
    /// its metadata go. Where batches are handed over at once, or below the minimum, that is 1: the time may tell.
    #[must_use]
    pub fn anonymity(&self, now: Millis) -> Vec<(String, usize, usize)> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut all: Vec<_> = table.keys().filter_map(|name| Some((name.clone(), self.at(name, now).ok()?))).collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        let of = |(name, project): (String, Arc<CompiledProject>)| {
            let kept = project.release().filter(|release| release.at_limit == AtLimit::Refuse);
            (name, project.senders(), kept.map_or(1, |release| usize::from(release.min_senders)))
        };
        all.into_iter().map(of).collect()
    }

    /// The project as it was under this version of its document and these keys, as long as it holds today.
    ///
    /// # Errors
    /// The reason why it does not, or that those keys are gone.
    pub fn of_period(&self, name: &str, period: (u32, u32), now: Millis) -> Result<Arc<CompiledProject>, Reason> {
        let today = self.at(name, now)?;
        if (today.version(), today.epoch()) == period {
            return Ok(today);
        }
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(Listed::Lawful(lawful)) = table.get(name) else { return Err(without_keys()) };
        lawful.compiled.get(&period).cloned().ok_or_else(without_keys)
    }

    /// The application of this name as it holds at this instant.
    ///
    /// # Errors
    /// The reason why it does not, or is none.
    pub fn application(&self, name: &str, now: Millis) -> Result<Application, Reason> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(Listed::Lawful(lawful)) = table.get(name) else { return Err(inactive()) };
        let project = lawful.on(day_of(now))?;
        if !project.is_open(now) {
            return Err(refusal("ZGL-TTP-EXPIRED", "the project does not hold today"));
        }
        let root = lawful.seals.as_ref().ok_or_else(inactive)?;
        Application::new(project, root.expose()).ok_or_else(inactive)
    }
}

/// The day of an instant, UTC. An instant that no calendar has is refused by its distance: far ahead.
#[must_use]
pub fn day_of(now: Millis) -> NaiveDate {
    DateTime::from_timestamp_millis(now.0).map_or(NaiveDate::MAX, |instant| instant.date_naive())
}
