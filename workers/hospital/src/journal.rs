//! The journal: every document that was handed in, durable before it is acknowledged, and how far each has come.
//!
//! It lies in any [`Store`]; one slot of the store is claimed, and every change is one commit with the counters of the head
//! row, so a crash leaves either all of a change or nothing. Calls block until they are durable; they are made from threads,
//! never from a task of the async runtime.
//! Invariants: a reference stands for one document for ever; a document without a reference gets one number, once, however
//! often it is handed in; every entry that is not at its end has exactly one row that says what it waits for.
//! Bounds: [`ENTRIES_MAX`] entries a step. On disk about 500 bytes an entry.
//! Failure behaviour: an error means that nothing of the call was written down.

use crate::entry::{Answer, Entry, Offer, REFERENCE_MAX, Salt, State};
use crate::error::HospitalError;
use crate::place::Place;
use crate::rows::{self, Head};
use bytes::Bytes;
use schemas::messages::EntryAnswer;
use schemas::{MailboxAddress, Millis, Sha256};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use zegel_core::rows::V1;
use zegel_core::{Clock, Keys, Store, Write};

/// Most entries of one call: one request to the platform.
pub const ENTRIES_MAX: usize = 1_000;
/// See the module.
pub struct Journal {
    place: Place,
    head: Mutex<Head>,
}

/// How many entries are where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Whose journal.
    pub hospital: MailboxAddress,
    /// Whether hashes are salted.
    pub salted: bool,
    /// In the journal alone.
    pub waiting: u64,
    /// Taken by the platform, in no bag yet.
    pub owed: u64,
    /// In an archived bag.
    pub stamped: u64,
    /// Refused by the platform.
    pub refused: u64,
    /// The platform broke its word.
    pub lost: u64,
    /// Entries of archived bags that are not of this journal.
    pub strangers: u64,
    /// The last bag that was looked at.
    pub bag: u64,
    /// Why no further bag is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halted: Option<String>,
}

/// One step in the making.
struct Change<'a> {
    journal: &'a Journal,
    head: Head,
    writes: Vec<Write>,
}

impl Journal {
    /// Opens the hospital's journal, or begins it. `first` is the first reference that a new journal gives.
    ///
    /// # Errors
    /// See [`HospitalError`].
    pub fn open(
        store: Arc<dyn Store>,
        keys: Arc<dyn Keys>,
        clock: Arc<dyn Clock>,
        runtime: Handle,
        begin: &Begin,
    ) -> Result<Journal, HospitalError> {
        let place = Place::claim(store, keys, clock, runtime)?;
        let stored: Option<Head> = place.one(rows::head())?;
        let Begin { hospital, salted, first } = begin;
        if let Some(head) = stored {
            if hospital.as_ref().is_some_and(|hospital| *hospital != head.hospital) {
                return Err(HospitalError::OtherHospital);
            }
            if salted.is_some_and(|salted| salted != head.salted) {
                return Err(HospitalError::OtherForm(if head.salted { "with salts" } else { "without salts" }));
            }
            return Ok(Journal { place, head: Mutex::new(head) });
        }
        let hospital = hospital.clone().ok_or(HospitalError::NoJournal)?;
        let journal = Journal { place, head: Mutex::new(Head::new(hospital, salted.unwrap_or(true), *first)) };
        let mut head = journal.lock();
        Change::of(&journal, &head).commit(&mut head)?;
        drop(head);
        Ok(journal)
    }

    /// Writes documents down, and answers each; durable on return.
    ///
    /// # Errors
    /// See [`HospitalError`].
    pub fn add(&self, offers: &[Offer]) -> Result<Vec<Answer>, HospitalError> {
        if offers.len() > ENTRIES_MAX {
            return Err(HospitalError::TooMany(ENTRIES_MAX));
        }
        let mut head = self.lock();
        let mut change = Change::of(self, &head);
        let mut known = self.known(offers)?;
        let mut answers = Vec::with_capacity(offers.len());
        for offer in offers {
            answers.push(change.offer(offer, &mut known)?);
        }
        fail::fail_point!("hospital::before-journal");
        if !change.writes.is_empty() {
            change.commit(&mut head)?;
        }
        fail::fail_point!("hospital::after-journal");
        Ok(answers)
    }

    /// The oldest entries that wait to be sent, by reference; at most [`ENTRIES_MAX`].
    ///
    /// # Errors
    /// See [`HospitalError`].
    pub fn waiting(&self) -> Result<Vec<Entry>, HospitalError> {
        let found = self.place.range(Bytes::from_static(b"w"), Bytes::from_static(b"x"))?;
        let references: Vec<u64> = found.iter().map(|sub| rows::reference_of(sub)).collect::<Result<_, _>>()?;
        self.place.entries(&references)?.into_iter().map(|entry| entry.ok_or(HospitalError::Gone)).collect()
    }

    /// Writes down what the platform answered to entries of [`Journal::waiting`].
    ///
    /// # Errors
    /// See [`HospitalError`].
    pub fn answered(&self, answers: &[(Entry, EntryAnswer)]) -> Result<(), HospitalError> {
        let mut head = self.lock();
        let mut change = Change::of(self, &head);
        for (entry, answer) in answers {
            let state = match answer {
                EntryAnswer::Accepted { accepted, .. } => State::Accepted { accepted: *accepted },
                EntryAnswer::Conflict => State::Refused { why: "conflict".to_owned() },
                EntryAnswer::Invalid => State::Refused { why: "invalid".to_owned() },
            };
            change.turn(entry, state)?;
        }
        change.commit(&mut head)
    }

    /// Looks for entries of this journal among those of a bag; at most [`ENTRIES_MAX`] at a time. An entry with another hash
    /// than the journal's is [`State::Lost`].
    ///
    /// # Errors
    /// See [`HospitalError`].
    pub fn seen_in_bag(&self, bag: u64, entries: &[(u64, Sha256)]) -> Result<Seen, HospitalError> {
        let references: Vec<u64> = entries.iter().map(|(reference, _)| *reference).collect();
        let mut head = self.lock();
        let mut change = Change::of(self, &head);
        let (before, mut strangers) = (head.lost, 0);
        for (entry, (reference, hash)) in self.place.entries(&references)?.iter().zip(entries) {
            match entry {
                // The hash of a bag that the hospital made itself.
                None if *reference > REFERENCE_MAX => {}
                None => strangers += 1,
                // Looked at before a crash already.
                Some(Entry { state: State::Stamped { .. } | State::Lost { .. }, .. }) => {}
                Some(entry) if entry.hash() == *hash => change.turn(entry, State::Stamped { bag })?,
                // The platform said that it had something else under this reference, and that is what stands here.
                Some(Entry { state: State::Refused { .. }, .. }) => strangers += 1,
                Some(entry) => change.turn(entry, State::Lost { bag })?,
            }
        }
        // Numbers that somebody else took are not given again.
        let last = references.iter().filter(|reference| **reference < REFERENCE_MAX).max();
        change.head.next = change.head.next.max(last.map_or(0, |last| last + 1));
        let lost = change.head.lost - before;
        change.commit(&mut head)?;
        Ok(Seen { lost, strangers })
    }

    /// Closes a bag whose entries were all looked at: what the platform had taken before `end` and is not in it is
    /// [`State::Lost`]. Returns how many are. `strangers` are the bag's entries that are not of this journal.
    ///
    /// # Errors
    /// See [`HospitalError`].
    pub fn bag_ended(&self, bag: u64, end: Millis, strangers: u64) -> Result<u64, HospitalError> {
        let mut lost = 0;
        loop {
            let overdue = self.place.range(Bytes::from_static(b"o"), rows::owed(end, 0))?;
            let references: Vec<u64> = overdue.iter().map(|sub| rows::reference_of(sub)).collect::<Result<_, _>>()?;
            let mut head = self.lock();
            let mut change = Change::of(self, &head);
            for entry in self.place.entries(&references)?.into_iter().flatten() {
                change.turn(&entry, State::Lost { bag })?;
            }
            lost += references.len() as u64;
            let last = references.len() < ENTRIES_MAX;
            if last {
                // An archive that was begun anew brings bags that were looked at before.
                let is_new = bag > change.head.bag;
                change.head.strangers += if is_new { strangers } else { 0 };
                change.head.bag = change.head.bag.max(bag);
                change.head.halted = None;
            }
            change.commit(&mut head)?;
            if last {
                return Ok(lost);
            }
        }
    }

    /// Writes down why no further bag is taken.
    ///
    /// # Errors
    /// See [`HospitalError`].
    pub fn halt(&self, why: &str) -> Result<(), HospitalError> {
        let mut head = self.lock();
        if head.halted.as_deref() == Some(why) {
            return Ok(());
        }
        let mut change = Change::of(self, &head);
        change.head.halted = Some(why.to_owned());
        change.commit(&mut head)
    }

    /// The entry under a reference.
    ///
    /// # Errors
    /// See [`HospitalError`].
    pub fn entry(&self, reference: u64) -> Result<Option<Entry>, HospitalError> {
        self.place.one(rows::entry(reference))
    }

    /// The entries of a document, by reference; at most [`ENTRIES_MAX`].
    ///
    /// # Errors
    /// See [`HospitalError`].
    pub fn find(&self, document: &Sha256) -> Result<Vec<Entry>, HospitalError> {
        let found = self.place.range(rows::document(document, 0), rows::document(document, u64::MAX))?;
        let references: Vec<u64> = found.iter().map(|sub| rows::reference_of(sub)).collect::<Result<_, _>>()?;
        Ok(self.place.entries(&references)?.into_iter().flatten().collect())
    }

    /// Entries from a reference on, in order; at most [`ENTRIES_MAX`].
    ///
    /// # Errors
    /// See [`HospitalError`].
    pub fn from(&self, reference: u64) -> Result<Vec<Entry>, HospitalError> {
        let found = self.place.range(rows::entry(reference), rows::entry(u64::MAX))?;
        let references: Vec<u64> = found.iter().map(|sub| rows::reference_of(sub)).collect::<Result<_, _>>()?;
        Ok(self.place.entries(&references)?.into_iter().flatten().collect())
    }

    /// How many entries are where.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let head = self.lock().clone();
        Tally {
            hospital: head.hospital,
            salted: head.salted,
            waiting: head.waiting,
            owed: head.owed,
            stamped: head.stamped,
            refused: head.refused,
            lost: head.lost,
            strangers: head.strangers,
            bag: head.bag,
            halted: head.halted,
        }
    }

    /// The journal's clock.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.place.now()
    }

    /// What the journal has already of these offers.
    fn known(&self, offers: &[Offer]) -> Result<Known, HospitalError> {
        let reads = offers.iter().map(|offer| match offer.reference {
            Some(reference) => self.place.at(rows::entry(reference)),
            None => {
                let (from, to) = (rows::document(&offer.document, 0), rows::document(&offer.document, u64::MAX));
                self.place.between(from, to, 1)
            }
        });
        let mut references = Vec::new();
        for (sub, _) in self.place.read(reads.collect())?.iter().flatten() {
            references.push(rows::reference_of(sub)?);
        }
        let mut known = Known::default();
        self.place.entries(&references)?.into_iter().flatten().for_each(|entry| known.insert(entry));
        Ok(known)
    }

    fn lock(&self) -> MutexGuard<'_, Head> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was seen among entries of a bag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Entries of this journal under which the bag has another hash.
    pub lost: u64,
    /// Entries that are not of this journal.
    pub strangers: u64,
}

/// How a journal is begun.
#[derive(Debug, Clone)]
pub struct Begin {
    /// Whose journal; none: whosever is there, and there must be one.
    pub hospital: Option<MailboxAddress>,
    /// Whether hashes are salted; none: as the journal has it, and a new one salts.
    pub salted: Option<bool>,
    /// The first reference that a new journal gives.
    pub first: u64,
}

/// Entries that a call meets: those in the store, and those that it makes itself.
#[derive(Default)]
struct Known {
    entries: BTreeMap<u64, Entry>,
    documents: BTreeMap<Sha256, u64>,
}

impl Known {
    fn insert(&mut self, entry: Entry) {
        self.documents.entry(entry.document).or_insert(entry.reference);
        self.entries.insert(entry.reference, entry);
    }
}

impl<'a> Change<'a> {
    fn of(journal: &'a Journal, head: &Head) -> Change<'a> {
        Change { journal, head: head.clone(), writes: Vec::new() }
    }

    fn offer(&mut self, offer: &Offer, known: &mut Known) -> Result<Answer, HospitalError> {
        let reference = match offer.reference {
            Some(reference) => reference,
            None => known.documents.get(&offer.document).copied().unwrap_or(self.head.next),
        };
        if !(1..=REFERENCE_MAX).contains(&reference) {
            return Ok(Answer::Invalid);
        }
        if let Some(entry) = known.entries.get(&reference) {
            let same = entry.document == offer.document;
            return Ok(if same { Answer::Known(entry.view()) } else { Answer::Conflict { reference } });
        }
        let salt = self.head.salted.then(|| Salt::of(&*self.journal.place.keys, reference, &offer.document));
        let (document, journaled) = (offer.document, self.journal.place.now());
        let entry = Entry { v: V1, reference, document, salt, journaled, state: State::Waiting };
        self.put(rows::entry(reference), &entry)?;
        self.mark(rows::document(&document, reference), true);
        self.mark(rows::waiting(reference), true);
        self.head.waiting += 1;
        self.head.next = self.head.next.max(reference + 1);
        let view = entry.view();
        known.insert(entry);
        Ok(Answer::Journaled(view))
    }

    /// Moves an entry on to another state, and the row that says what it waits for.
    fn turn(&mut self, entry: &Entry, state: State) -> Result<(), HospitalError> {
        let reference = entry.reference;
        match &entry.state {
            State::Waiting => {
                self.mark(rows::waiting(reference), false);
                self.head.waiting = self.head.waiting.saturating_sub(1);
            }
            State::Accepted { accepted } => {
                self.mark(rows::owed(*accepted, reference), false);
                self.head.owed = self.head.owed.saturating_sub(1);
            }
            State::Refused { .. } => self.head.refused = self.head.refused.saturating_sub(1),
            State::Stamped { .. } | State::Lost { .. } => {}
        }
        match &state {
            State::Waiting => {}
            State::Accepted { accepted } => {
                self.mark(rows::owed(*accepted, reference), true);
                self.head.owed += 1;
            }
            State::Stamped { .. } => self.head.stamped += 1,
            State::Refused { .. } => self.head.refused += 1,
            State::Lost { .. } => self.head.lost += 1,
        }
        self.put(rows::entry(reference), &Entry { state, ..entry.clone() })
    }

    fn mark(&mut self, sub: Bytes, there: bool) {
        self.writes.push(self.journal.place.mark(sub, there));
    }

    fn put<T: Serialize>(&mut self, sub: Bytes, value: &T) -> Result<(), HospitalError> {
        self.writes.push(self.journal.place.row(sub, value)?);
        Ok(())
    }

    /// Makes the step durable; only then the counters in memory follow.
    fn commit(mut self, head: &mut Head) -> Result<(), HospitalError> {
        let now = self.head.clone();
        self.put(rows::head(), &now)?;
        self.journal.place.commit(self.writes)?;
        *head = now;
        Ok(())
    }
}
