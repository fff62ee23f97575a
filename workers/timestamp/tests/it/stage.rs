//! A bench for both workers over one state: what the runner, the store and the objects do for them, in memory.

use bytes::Bytes;
use schemas::messages::{BagClosed, Content, Deliver, Enrol, Entries, Entry, EntryAnswer, Logged, ObjectRef};
use schemas::{Envelope, Key, MailboxAddress, MessageId, Millis, Payload, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::io::{Cursor, Read as IoRead, Write};
use std::sync::{Arc, Mutex, OnceLock};
use zegel_core::names::{address_key, log_key};
use zegel_core::objects::{ObjectSink, StoredObject};
use zegel_core::testing::TestKeys;
use zegel_core::worker::{JobError, JobIo};
use zegel_core::{Context, Decision, Effects, Interrupt, Keys, Message, Objects, ObjectsError, Read, View, Worker};
use zegel_crypto::bag::Form;
use zegel_crypto::hash::sha256;
use zegel_crypto::tsa::{Authority, TrustAnchor};
use zegel_timestamp::audit::{self, Evidence, Link, Report};
use zegel_timestamp::queries::{self, Query};
use zegel_timestamp::rows::{self, ArchivedBag};
use zegel_timestamp::{Aggregator, OwnAuthority, Schedule, Sealer, StampError, Stamped, Stamper, Windows};

pub const HOSPITAL: &str = "NIHII-HOSPITAL:71000436";
/// 2026-01-01T10:00:00Z
pub const TEN: Millis = Millis(1_767_261_600_000);
pub const MINUTE: i64 = 60_000;

/// One authority for all tests: finding its primes takes longer than the tests.
pub fn authority() -> &'static (Arc<OwnAuthority>, TrustAnchor, String) {
    static AUTHORITY: OnceLock<(Arc<OwnAuthority>, TrustAnchor, String)> = OnceLock::new();
    // It writes down up to where it has stamped, so its folder stays as long as the tests.
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let folder = FOLDER.get_or_init(|| tempfile::tempdir().unwrap());
        let authority = Authority::create(&folder.path().join("tsa"), "Zegel test", Millis(1_767_000_000_000)).unwrap();
        let pem = authority.ca_pem().to_owned();
        let anchor = TrustAnchor::from_pem(&pem).unwrap();
        (Arc::new(OwnAuthority::new(authority).unwrap()), anchor, pem)
    })
}

/// A stamper that can be away, or wrong about the time.
#[derive(Default)]
pub struct Moody {
    pub away: Mutex<bool>,
    pub gen_time: Mutex<Option<Millis>>,
}

impl Stamper for Moody {
    fn stamp(&self, imprint: &Sha256, not_before: Millis) -> Result<Stamped, StampError> {
        if *self.away.lock().unwrap() {
            return Err(StampError::Away);
        }
        let gen_time = self.gen_time.lock().unwrap().unwrap_or(not_before);
        // A granted response around something that is no token, as far as its shape goes.
        let around = hex::decode("30363003020100302f06092a864886f70d010701a0220420").unwrap();
        Ok(Stamped { response: [&around[..], &imprint.0].concat(), gen_time })
    }
}

pub type State = BTreeMap<(u16, Key, Bytes), Bytes>;

#[derive(Default)]
pub struct MemoryObjects(Arc<Mutex<BTreeMap<Sha256, Vec<u8>>>>);

impl Objects for MemoryObjects {
    fn create(&self) -> Result<Box<dyn ObjectSink>, ObjectsError> {
        Ok(Box::new(MemorySink { objects: self.0.clone(), bytes: Vec::new() }))
    }

    fn open(&self, object: &ObjectRef) -> Result<Box<dyn IoRead + Send>, ObjectsError> {
        let bytes = self.0.lock().unwrap().get(&object.name).cloned().ok_or(ObjectsError::Missing)?;
        Ok(Box::new(Cursor::new(bytes)))
    }

    fn delete(&self, name: &Sha256) -> Result<(), ObjectsError> {
        self.0.lock().unwrap().remove(name);
        Ok(())
    }

    fn list(&self) -> Result<Vec<StoredObject>, ObjectsError> {
        Ok(Vec::new())
    }
}

struct MemorySink {
    objects: Arc<Mutex<BTreeMap<Sha256, Vec<u8>>>>,
    bytes: Vec<u8>,
}

impl Write for MemorySink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl ObjectSink for MemorySink {
    fn finish(self: Box<Self>) -> Result<ObjectRef, ObjectsError> {
        let mut objects = self.objects.lock().unwrap();
        // Two objects with the same content have two names, as encryption under fresh keys gives them.
        let name = sha256(&[objects.len().to_be_bytes().as_slice(), &self.bytes].concat());
        let size = self.bytes.len() as u64;
        objects.insert(name, self.bytes);
        Ok(ObjectRef { name, salt: name, key_version: 1, size })
    }
}

/// Both workers, their state, and the messages between them.
pub struct Stage {
    pub now: Millis,
    pub hospital: MailboxAddress,
    pub key: Key,
    pub aggregator: Aggregator,
    pub sealer: Sealer,
    pub keys: TestKeys,
    pub state: State,
    pub objects: MemoryObjects,
    /// The timer that is set: due, message.
    pub timer: Option<(Millis, Envelope)>,
    pub sealed: VecDeque<Envelope>,
    pub delivered: Vec<Deliver>,
    /// What joined the log.
    pub logged: Vec<Logged>,
    /// Chunk rows deleted by the largest step.
    pub most_changes: usize,
}

impl Stage {
    pub fn new(windows: Windows, stamper: Arc<dyn Stamper>) -> Stage {
        let hospital: MailboxAddress = HOSPITAL.parse().unwrap();
        let keys = TestKeys::default();
        Stage {
            now: TEN,
            key: address_key(&keys, &hospital),
            hospital,
            aggregator: Aggregator::new(windows),
            sealer: Sealer::new(stamper, Form::Plain),
            keys,
            state: State::new(),
            objects: MemoryObjects::default(),
            timer: None,
            sealed: VecDeque::new(),
            delivered: Vec::new(),
            logged: Vec::new(),
            most_changes: 0,
        }
    }

    /// Five-minute windows and the tests' authority.
    pub fn usual() -> Stage {
        Stage::new(Windows::new(Schedule::cron(zegel_timestamp::schedule::DEFAULT).unwrap()), authority().0.clone())
    }

    pub fn enrol(&mut self) -> rows::Enrolled {
        let envelope = self.envelope(&Enrol { hospital: self.hospital.clone(), salted: None });
        serde_json::from_slice(&self.aggregate(envelope).unwrap().unwrap()).unwrap()
    }

    pub fn offer(&mut self, entries: &[Entry]) -> Vec<EntryAnswer> {
        let count = u32::try_from(entries.len()).unwrap();
        let mut envelope = self.envelope(&Entries { hospital: self.hospital.clone(), count });
        envelope.attachment = rows::encode_entries(entries);
        serde_json::from_slice(&self.aggregate(envelope).unwrap().unwrap()).unwrap()
    }

    /// Fires the window's timer when it is due.
    pub fn tick(&mut self) {
        if let Some((_, envelope)) = self.timer.take_if(|(due, _)| *due <= self.now) {
            self.aggregate(envelope).unwrap();
        }
    }

    /// Gives the aggregator a message, and returns its reply.
    pub fn aggregate(&mut self, envelope: Envelope) -> Result<Option<Bytes>, Interrupt> {
        let message = Message { number: 1, envelope, attempt: 0, job: None };
        match decide(&self.aggregator, &message, &self.state, self.now, &self.keys)? {
            Decision::Done(effects) => Ok(self.apply(effects)),
            other => panic!("{other:?}"),
        }
    }

    /// Seals one closed bag; true when there was one.
    pub fn seal_next(&mut self) -> Result<bool, JobError> {
        let Some(envelope) = self.sealed.front().cloned() else { return Ok(false) };
        let mut message = Message { number: 1, envelope, attempt: 0, job: None };
        loop {
            match decide(&self.sealer, &message, &self.state, self.now, &self.keys) {
                Ok(Decision::Job { spec }) => {
                    let result = self.sealer.run_job(&spec, self)?;
                    message.job = Some(Ok(result.into()));
                }
                Ok(Decision::Done(effects)) => {
                    self.sealed.pop_front();
                    self.apply(effects);
                    return Ok(true);
                }
                Err(Interrupt::Fail(failure)) => return Err(JobError { code: failure.code, retryable: false }),
                other => panic!("{other:?}"),
            }
        }
    }

    pub fn seal_all(&mut self) {
        while self.seal_next().unwrap() {}
    }

    pub fn envelope<P: Payload>(&self, payload: &P) -> Envelope {
        Envelope::new(MessageId(self.keys.random16()), "/test", self.key, self.now, payload).unwrap()
    }

    pub fn query<T>(&self, query: &Query<T>) -> T {
        query.answer(read(&self.state, &query.read)).unwrap()
    }

    pub fn bags(&self) -> Vec<ArchivedBag> {
        let mut bags: Vec<ArchivedBag> = Vec::new();
        loop {
            let from = bags.last().map_or(1, |bag| bag.sequence + 1);
            let more = self.query(&queries::bags(self.key, from, 100));
            if more.is_empty() {
                return bags;
            }
            bags.extend(more);
        }
    }

    pub fn content(&self, content: &Content) -> Vec<u8> {
        match content {
            Content::Stored(id) => self.query(&queries::stored_xml(*id)).unwrap().to_vec(),
            Content::Object(object) => {
                let mut bytes = Vec::new();
                self.objects.open(object).unwrap().read_to_end(&mut bytes).unwrap();
                bytes
            }
            Content::Attached => panic!("the archive holds no attachments"),
        }
    }

    /// Checks every bag as an auditor does, and returns the entries of each.
    pub fn audit(&self) -> (Vec<Report>, Vec<Vec<(u64, Sha256)>>) {
        let mut reports: Vec<Report> = Vec::new();
        let mut entries = Vec::new();
        for bag in self.bags() {
            let xml = self.content(&bag.xml);
            let tsr = self.query(&queries::token(self.key, bag.sequence)).unwrap();
            let previous: Option<Link> = reports.last().and_then(|report| report.link.clone());
            let evidence =
                Evidence { xml: xml.as_slice(), tsr: &tsr, header: &bag.header, previous: previous.as_ref() };
            let mut found = Vec::new();
            reports.push(audit::check(evidence, &authority().1, |reference, hash| found.push((reference, *hash))));
            entries.push(found);
        }
        (reports, entries)
    }

    pub fn rows_of(&self, space: zegel_core::Space) -> usize {
        self.state.keys().filter(|(code, ..)| *code == space.code).count()
    }

    fn apply(&mut self, effects: Effects) -> Option<Bytes> {
        self.most_changes = self.most_changes.max(effects.changes.len());
        for change in effects.changes {
            let place = (change.space.code, change.owner, change.sub);
            match change.value {
                Some(value) => self.state.insert(place, value),
                None => self.state.remove(&place),
            };
        }
        for produced in effects.produced {
            if produced.envelope.kind == Logged::TYPE {
                assert_eq!(produced.envelope.partitionkey, log_key(&self.keys));
                self.logged.push(produced.envelope.payload().unwrap());
                continue;
            }
            assert_eq!(produced.envelope.partitionkey, self.key);
            if produced.envelope.kind == BagClosed::TYPE {
                self.sealed.push_back(produced.envelope);
            } else {
                self.delivered.push(produced.envelope.payload().unwrap());
            }
        }
        for timer in effects.timers {
            self.timer = Some((timer.due, timer.message.envelope));
        }
        effects.reply
    }
}

impl JobIo for Stage {
    fn objects(&self) -> &dyn Objects {
        &self.objects
    }
    fn read(&self, wanted: Read) -> Result<Vec<(Bytes, Bytes)>, JobError> {
        Ok(read(&self.state, &wanted))
    }
    fn keys(&self) -> &dyn Keys {
        &self.keys
    }
    fn now(&self) -> Millis {
        self.now
    }
    fn stopping(&self) -> bool {
        false
    }
}

pub fn entry(reference: u64, content: u8) -> Entry {
    Entry { reference, hash: sha256(&[content, 7]) }
}

pub fn decide<W: Worker>(
    worker: &W,
    message: &Message,
    state: &State,
    now: Millis,
    keys: &TestKeys,
) -> Result<Decision, Interrupt> {
    let context = Context { now, keys };
    let mut view = View::default();
    let declared = worker.reads(message, &context);
    for wanted in declared {
        let rows = read(state, &wanted);
        view.load(wanted, rows);
    }
    for _ in 0..2 {
        match worker.decide(message, &view, &context) {
            Err(Interrupt::Missing(wanted)) => {
                let rows = read(state, &wanted);
                view.load(wanted, rows);
            }
            other => return other,
        }
    }
    panic!("the worker reads more than it declares, and one row")
}

pub fn read(state: &State, wanted: &Read) -> Vec<(Bytes, Bytes)> {
    match wanted {
        Read::One { space, owner, sub } => state
            .get(&(space.code, *owner, sub.clone()))
            .map(|value| (sub.clone(), value.clone()))
            .into_iter()
            .collect(),
        Read::Range { space, owner, from, to, limit, reverse } => {
            assert!(!reverse);
            let rows = state.range((space.code, *owner, from.clone())..);
            let rows = rows.take_while(|((code, key, sub), _)| {
                (*code, *key) == (space.code, *owner) && to.as_ref().is_none_or(|to| sub < to)
            });
            rows.take(*limit).map(|((_, _, sub), value)| (sub.clone(), value.clone())).collect()
        }
    }
}
