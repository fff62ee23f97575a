//! A hospital in memory and a platform that does what a test tells it to.

use schemas::messages::EntryAnswer;
use schemas::{MailboxAddress, Millis, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use zegel_archive::testing::{Made, Maker, stamp};
use zegel_archive::writer::Writer;
use zegel_core::clock::FakeClock;
use zegel_core::memory::Memory;
use zegel_core::testing::TestKeys;
use zegel_core::{Clock, Keys};
use zegel_crypto::bag::Form;
use zegel_crypto::hash::sha256;
use zegel_crypto::tsa::{Algorithm, Authority};
use zegel_hospital::journal::Begin;
use zegel_hospital::{Agent, Away, HospitalError, Journal, Offer, OwnBag, Platform, RawBag};
use zegel_timestamp::rows::own_reference;

pub const HOSPITAL: &str = "NIHII-HOSPITAL:71000436";
/// 2026-01-01T10:00:00Z
pub const TEN: Millis = Millis(1_767_261_600_000);

pub fn hospital() -> MailboxAddress {
    HOSPITAL.parse().unwrap()
}

pub fn offer(n: u8) -> Offer {
    Offer { reference: None, document: Sha256([n; 32]) }
}

/// The store outlives the journal, as a disk does.
pub struct World {
    pub folder: TempDir,
    pub clock: Arc<FakeClock>,
    pub platform: Played,
    runtime: Runtime,
    store: Arc<Memory>,
    keys: Arc<TestKeys>,
}

impl World {
    pub fn new() -> World {
        World {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(FakeClock::at(TEN)),
            platform: Played::new(),
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap(),
            store: Memory::new(),
            keys: Arc::default(),
        }
    }

    pub fn open(&self, begin: &Begin) -> Result<Arc<Journal>, HospitalError> {
        let keys: Arc<dyn Keys> = self.keys.clone();
        let clock: Arc<dyn Clock> = self.clock.clone();
        Journal::open(self.store.clone(), keys, clock, self.runtime.handle().clone(), begin).map(Arc::new)
    }

    /// The journal, as after a restart.
    pub fn journal(&self) -> Arc<Journal> {
        self.open(&Begin { hospital: Some(hospital()), salted: None, first: 1 }).unwrap()
    }

    /// An agent, as after a restart.
    pub fn agent(&self, journal: &Arc<Journal>) -> Agent<Played> {
        Agent::new(journal.clone(), self.platform.clone(), self.folder.path(), None).unwrap()
    }
}

/// What the platform has and how it behaves.
pub struct State {
    pub away: bool,
    /// Takes entries and loses its answer.
    pub mute: bool,
    pub entries: BTreeMap<u64, (Sha256, Millis)>,
    pub offers: u64,
    pub bags: Vec<Made>,
    /// Bags that the hospital made itself.
    pub own: BTreeMap<Sha256, OwnBag>,
    maker: Maker,
    open: Vec<(u64, Sha256)>,
    authority: Arc<Authority>,
    _folder: TempDir,
}

#[derive(Clone)]
pub struct Played(Arc<Mutex<State>>);

impl Played {
    fn new() -> Played {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("tsa");
        let authority = Authority::create_with(&place, "Test", TEN.plus(-3_600_000), Algorithm::P256).unwrap();
        let mut maker = Maker::new(hospital(), TEN);
        maker.form = Form::Salted;
        Played(Arc::new(Mutex::new(State {
            away: false,
            mute: false,
            entries: BTreeMap::new(),
            offers: 0,
            bags: Vec::new(),
            own: BTreeMap::new(),
            maker,
            open: Vec::new(),
            authority: Arc::new(authority),
            _folder: folder,
        })))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Takes a bag of the hospital, stamps it, and returns what its hash stands under.
    pub fn take_own(&self, bytes: &[u8]) -> (u64, Sha256) {
        let mut state = self.state();
        let digest = sha256(bytes);
        let tsr = state.authority.stamp(&digest, None, TEN.plus(1_000)).unwrap();
        state.own.insert(digest, OwnBag { bytes: bytes.to_vec(), tsr });
        (own_reference(&digest), digest)
    }

    /// Closes the open bag; `change` may lie about its entries.
    pub fn seal(&self, change: impl FnOnce(&mut Vec<(u64, Sha256)>)) {
        let mut state = self.state();
        let mut entries = std::mem::take(&mut state.open);
        change(&mut entries);
        let bound = state.maker.bind(&entries);
        let at = bound.header.end.plus(1_000);
        let made = stamp(bound, &state.authority.clone(), at).unwrap();
        state.bags.push(made);
    }
}

impl Platform for Played {
    fn enrol(&self, salted: bool) -> Result<(), Away> {
        assert!(salted);
        if self.state().away { Err(Away::for_now("away")) } else { Ok(()) }
    }

    fn offer(&self, entries: &[(u64, Sha256)]) -> Result<Vec<EntryAnswer>, Away> {
        let mut state = self.state();
        if state.away {
            return Err(Away::for_now("away"));
        }
        state.offers += 1;
        let (mut answers, earliest_bag) = (Vec::new(), state.bags.len() as u64 + 1);
        // Within the window of the open bag.
        let accepted = TEN.plus(i64::try_from(state.bags.len()).unwrap() * 300_000 + 1_000);
        for (reference, hash) in entries {
            let (first, at) = *state.entries.entry(*reference).or_insert((*hash, accepted));
            if first != *hash {
                answers.push(EntryAnswer::Conflict);
                continue;
            }
            if at == accepted && !state.open.contains(&(*reference, *hash)) {
                state.open.push((*reference, *hash));
            }
            answers.push(EntryAnswer::Accepted { accepted: at, earliest_bag });
        }
        if state.mute { Err(Away::for_now("the answer was lost")) } else { Ok(answers) }
    }

    fn bag(&self, sequence: u64) -> Result<Option<RawBag>, Away> {
        let state = self.state();
        if state.away {
            return Err(Away::for_now("away"));
        }
        let at = usize::try_from(sequence).unwrap() - 1;
        let raw = |made: &Made| RawBag { header: made.header.encode(), xml: made.xml.clone(), tsr: made.tsr.clone() };
        Ok(state.bags.get(at).map(raw))
    }

    fn materials(&self) -> Result<Vec<(String, Vec<u8>)>, Away> {
        let state = self.state();
        if state.away {
            return Err(Away::for_now("away"));
        }
        Ok(vec![("ca.pem".to_owned(), state.authority.ca_pem().as_bytes().to_vec())])
    }

    fn has_own_bags(&self) -> Result<bool, Away> {
        Ok(!self.state().own.is_empty())
    }

    fn own_bag(&self, digest: &Sha256) -> Result<Option<OwnBag>, Away> {
        Ok(self.state().own.get(digest).cloned())
    }

    fn prove(&self, _: &Path, _: &mut Writer) -> Result<u64, Away> {
        Ok(0)
    }
}
