//! The agent: sends what the journal holds, takes the bags that come back, verifies and archives them. One [`Agent::round`]
//! does what is due and returns; whoever runs it waits between rounds and brings the clock.
//!
//! Order of durable steps for a bag: archive it, mark its entries (pages of [`ENTRIES_MAX`]), close it. A crash anywhere is
//! mended by the next round, which looks at the archived bag again.
//! Failure behaviour: a platform that is away, or refuses, is asked again after waits of up to a minute, for ever; a bag that
//! does not verify is put aside as evidence (`rejected/`), the journal says why no further bag is taken, and the platform is asked
//! again for it; an entry that its bag lacks is counted as lost and logged.

use crate::backoff::Backoff;
use crate::bags::{self, Before, Verified};
use crate::error::{HospitalError, at};
use crate::journal::{ENTRIES_MAX, Journal};
use crate::own_bags::{self, OwnBag, Wanted};
use crate::platform::{Away, Platform, RawBag};
use schemas::{Millis, Sha256};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zegel_archive::manifest::Side;
use zegel_archive::reader::Archive;
use zegel_archive::record::{Bag, Foreign};
use zegel_archive::trust::Trust;
use zegel_archive::writer::{NewBag, Writer};
use zegel_timestamp::rows::OWN_REFERENCES;

/// Requests of one round, so that bags are taken while a backlog is sent.
const REQUESTS: usize = 20;
/// Bags of one round, so that a backlog is sent while bags are taken.
const BAGS: usize = 50;
/// Between two looks for new proofs and lists: the log signs at most one checkpoint a minute.
const PROOFS_EVERY_MS: i64 = 60_000;

/// See the module.
pub struct Agent<P> {
    journal: Arc<Journal>,
    platform: P,
    folder: PathBuf,
    trust: Option<Trust>,
    archive: Option<(Writer, Before)>,
    sending: Backoff,
    taking: Backoff,
    proved: Option<Millis>,
    own: Wanted,
    enrolled: bool,
}

/// What a round did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Round {
    /// Entries that the platform answered.
    pub sent: u64,
    /// Bags that were archived.
    pub bags: u64,
    /// Entries that a bag lacks.
    pub lost: u64,
    /// Why the platform could not be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub away: Option<String>,
    /// The code of the refusal, where the platform gives the agent's token no right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied: Option<String>,
    /// Why a bag was not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
}

impl<P: Platform> Agent<P> {
    /// An agent over a folder: its archive is `archive/` in it. Without a trust file, the CA that the platform shows first is
    /// written to `ca.pem` there and held to from then on.
    ///
    /// # Errors
    /// When `ca.pem` is there and cannot be used.
    pub fn new(
        journal: Arc<Journal>,
        platform: P,
        folder: &Path,
        trust: Option<Trust>,
    ) -> Result<Agent<P>, HospitalError> {
        let pinned = folder.join(CA);
        let trust = match trust {
            None if pinned.exists() => Some(trusted(&fs::read(&pinned).map_err(at(&pinned))?)?),
            other => other,
        };
        Ok(Agent {
            journal,
            platform,
            folder: folder.to_owned(),
            trust,
            archive: None,
            sending: Backoff::default(),
            taking: Backoff::default(),
            proved: None,
            own: Wanted::default(),
            enrolled: false,
        })
    }

    /// Where the archive is.
    #[must_use]
    pub fn archive(&self) -> PathBuf {
        self.folder.join("archive")
    }

    /// Does what is due now.
    ///
    /// # Errors
    /// When the journal or the archive fails; never because of the platform.
    pub fn round(&mut self) -> Result<Round, HospitalError> {
        let mut round = Round::default();
        let now = self.journal.now();
        if self.sending.is_due(now) {
            let outcome = self.send(&mut round);
            let outcome = settle(&mut self.sending, now, outcome, &mut round);
            outcome?;
        }
        if self.taking.is_due(now) {
            let outcome = self.take(&mut round);
            let outcome = settle(&mut self.taking, now, outcome, &mut round);
            outcome?;
            if round.rejected.is_some() {
                self.taking.failed(now);
            }
        }
        Ok(round)
    }

    fn send(&mut self, round: &mut Round) -> Result<(), Trouble> {
        for _ in 0..REQUESTS {
            if !self.enrolled {
                self.platform.enrol(self.journal.tally().salted)?;
                self.enrolled = true;
            }
            let waiting = self.journal.waiting()?;
            if waiting.is_empty() {
                break;
            }
            let offered: Vec<(u64, Sha256)> = waiting.iter().map(|entry| (entry.reference, entry.hash())).collect();
            fail::fail_point!("hospital::before-offer");
            let answers = self.platform.offer(&offered)?;
            if answers.len() != offered.len() {
                return Err(Away::for_now("the platform answered another number of entries").into());
            }
            fail::fail_point!("hospital::after-offer");
            let answered: Vec<_> = waiting.into_iter().zip(answers).collect();
            self.journal.answered(&answered)?;
            round.sent += answered.len() as u64;
            if answered.len() < ENTRIES_MAX {
                break;
            }
        }
        Ok(())
    }

    fn take(&mut self, round: &mut Round) -> Result<(), Trouble> {
        self.open_archive()?;
        self.trust()?;
        for _ in 0..BAGS {
            if !self.take_next(round)? {
                break;
            }
        }
        self.prove(round)
    }

    /// The next bag, if there is one: verified, archived, its entries marked.
    fn take_next(&mut self, round: &mut Round) -> Result<bool, Trouble> {
        let tally = self.journal.tally();
        let (Some((writer, before)), Some(trust)) = (&mut self.archive, &self.trust) else { return Ok(false) };
        // Archived before a crash, and its entries not marked yet.
        let again = writer.last() > tally.bag;
        let sequence = if again { tally.bag + 1 } else { writer.last() + 1 };
        let (raw, expected) = if again {
            let archive = Archive::open(&self.folder.join("archive"))?;
            (archived(&archive, sequence)?, bags::before(&archive, sequence - 1)?)
        } else {
            match self.platform.bag(sequence)? {
                Some(raw) => (raw, before.clone()),
                None => return Ok(false),
            }
        };
        let bag = match bags::verify(&raw, trust, &tally.hospital, sequence, &expected) {
            Ok(bag) => bag,
            Err(why) => {
                let why = format!("bag {sequence} does not hold: {why}");
                set_aside(&self.folder.join("rejected"), sequence, &raw)?;
                self.journal.halt(&why)?;
                round.rejected = Some(why);
                return Ok(false);
            }
        };
        if !again {
            let RawBag { header, xml, tsr } = &raw;
            fail::fail_point!("hospital::before-archive");
            writer.append(&NewBag { sequence, header, xml, tsr, request: None })?;
            writer.sync()?;
            fail::fail_point!("hospital::after-archive");
        }
        *before = Before::Bag(Box::new(bag.link.clone()));
        self.own.note(sequence, &bag.entries);
        round.lost += mark(&self.journal, sequence, &bag)?;
        round.bags += 1;
        Ok(true)
    }

    fn open_archive(&mut self) -> Result<(), HospitalError> {
        if self.archive.is_none() {
            let folder = self.archive();
            let writer = Writer::open(&folder, &self.journal.tally().hospital, Side::Hospital)?;
            let before = bags::before(&Archive::open(&folder)?, writer.last())?;
            self.archive = Some((writer, before));
        }
        Ok(())
    }

    /// Holds to the CA that the platform shows first, where no trust file was given.
    fn trust(&mut self) -> Result<(), Trouble> {
        if self.trust.is_some() {
            return Ok(());
        }
        let shown = self.platform.materials()?.into_iter().find(|(name, _)| name == CA);
        let (_, pem) = shown.ok_or_else(|| Away::for_now("the platform shows no certificate of its authority"))?;
        let trust =
            trusted(&pem).map_err(|_| Away::for_now("the platform's certificate cannot be used: say --trust"))?;
        durable(&self.folder.join(CA), &pem)?;
        self.trust = Some(trust);
        Ok(())
    }

    /// Certificates, lists, proofs of the log, and the bags that the hospital made itself, once a minute.
    fn prove(&mut self, round: &mut Round) -> Result<(), Trouble> {
        let now = self.journal.now();
        if self.proved.is_some_and(|last| (0..PROOFS_EVERY_MS).contains(&now.since(last))) {
            return Ok(());
        }
        let folder = self.archive();
        let Some((writer, _)) = &mut self.archive else { return Ok(()) };
        for (name, bytes) in self.platform.materials()? {
            writer.append_material(&name, &bytes)?;
        }
        writer.sync()?;
        if writer.last() > 0 {
            self.platform.prove(&folder, writer)?;
            writer.sync()?;
            self.own_bags(&folder, round)?;
        }
        self.proved = Some(now);
        Ok(())
    }
}

impl<P: Platform> Agent<P> {
    fn own_bags(&mut self, folder: &Path, round: &mut Round) -> Result<(), Trouble> {
        let (Some((writer, _)), Some(trust)) = (&mut self.archive, &self.trust) else { return Ok(()) };
        if !self.own.looked() {
            let archive = self.platform.has_own_bags()?.then(|| Archive::open(folder)).transpose()?;
            self.own.look(archive.as_ref())?;
        }
        for (digest, held_by) in self.own.list() {
            let own = self.platform.own_bag(&digest)?;
            let verified = own_bags::verify(own.as_ref(), &digest, trust);
            match (own, verified) {
                (Some(own), Ok(())) => {
                    writer.append_foreign(&Foreign { tsr: &own.tsr, bytes: &own.bytes, held_by })?;
                    writer.sync()?;
                    self.own.archived(&digest);
                }
                (own, Err(why)) => {
                    let folder = self.folder.join("rejected");
                    own.map(|own| set_aside_own(&folder, &digest, &own)).transpose()?;
                    let text = format!(
                        "the hospital's own bag {digest}, whose hash bag {held_by} holds, does not hold: {why}"
                    );
                    round.rejected = Some(text);
                }
                (None, Ok(())) => {}
            }
        }
        Ok(())
    }
}

/// The pinned certificate's name.
const CA: &str = "ca.pem";

/// The platform is away, or something of the hospital's own failed.
enum Trouble {
    Away(Away),
    Own(HospitalError),
}

impl From<Away> for Trouble {
    fn from(away: Away) -> Trouble {
        Trouble::Away(away)
    }
}

impl<E: Into<HospitalError>> From<E> for Trouble {
    fn from(error: E) -> Trouble {
        Trouble::Own(error.into())
    }
}

/// Waits longer after a failure of the platform; our own failures go up.
fn settle(
    backoff: &mut Backoff,
    now: Millis,
    outcome: Result<(), Trouble>,
    round: &mut Round,
) -> Result<(), HospitalError> {
    match outcome {
        Ok(()) => backoff.succeeded(),
        Err(Trouble::Away(Away { why, denied })) => {
            backoff.failed(now);
            (round.away, round.denied) = (Some(why), denied);
        }
        Err(Trouble::Own(error)) => return Err(error),
    }
    Ok(())
}

/// Marks a bag's entries in the journal and closes it; how many the platform owed and it lacks.
fn mark(journal: &Journal, sequence: u64, bag: &Verified) -> Result<u64, HospitalError> {
    let (mut lost, mut strangers) = (0, 0);
    // Hashes of bags that the hospital made itself are no entries of the journal, and are checked with those bags.
    let entries: Vec<_> = bag.entries.iter().copied().filter(|(reference, _)| *reference < OWN_REFERENCES).collect();
    for page in entries.chunks(ENTRIES_MAX) {
        let seen = journal.seen_in_bag(sequence, page)?;
        lost += seen.lost;
        strangers += seen.strangers;
        fail::fail_point!("hospital::between-pages");
    }
    Ok(lost + journal.bag_ended(sequence, bag.header.end, strangers)?)
}

fn archived(archive: &Archive, sequence: u64) -> Result<RawBag, HospitalError> {
    let body = archive.bag_body(sequence)?;
    let bag = Bag::decode(&body).map_err(|_| HospitalError::Gone)?;
    Ok(RawBag { header: bag.header.to_vec(), xml: bag.xml.to_vec(), tsr: bag.tsr.to_vec() })
}

fn trusted(pem: &[u8]) -> Result<Trust, HospitalError> {
    Ok(Trust::parse("[[ca]]\nfile = \"ca.pem\"\n", |_| Ok(pem.to_vec()))?)
}

/// Keeps a bag that does not hold, for whoever has to judge it.
fn set_aside(folder: &Path, sequence: u64, raw: &RawBag) -> Result<(), HospitalError> {
    fs::create_dir_all(folder).map_err(at(folder))?;
    for (kind, bytes) in [("xml", &raw.xml), ("tsr", &raw.tsr), ("header", &raw.header)] {
        durable(&folder.join(format!("{sequence}.{kind}")), bytes)?;
    }
    Ok(())
}

fn set_aside_own(folder: &Path, digest: &Sha256, own: &OwnBag) -> Result<(), HospitalError> {
    fs::create_dir_all(folder).map_err(at(folder))?;
    for (kind, bytes) in [("xml", &own.bytes), ("tsr", &own.tsr)] {
        durable(&folder.join(format!("own-{digest}.{kind}")), bytes)?;
    }
    Ok(())
}

/// Writes a file whole or not at all.
pub(crate) fn durable(path: &Path, bytes: &[u8]) -> Result<(), HospitalError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let write = || {
        let file = fs::File::create(&beside)?;
        std::io::Write::write_all(&mut &file, bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(at(path))
}
