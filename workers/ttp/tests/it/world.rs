//! A TTP worker over the state of one project, as its senders and its recipient see it: for tests of exchanges, pools and games.

use crate::SENDER;
use crate::worker::MemoryObjects;
use bytes::Bytes;
use schemas::Key;
use schemas::messages::{Answer, Answered, Content, Deliver, From, Inbound, Part, QuarantineOrder};
use schemas::{Envelope, MessageId, Millis, Sha256};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use zegel_core::slot::spaces::{EXCHANGES, PAYLOADS, QUARANTINE};
use zegel_core::testing::Bench;
use zegel_core::worker::{JobError, JobIo};
use zegel_core::{Decision, Effects, Keys, KeysError, Objects, Sealed, Worker, names};
use zegel_crypto::Keyring;
use zegel_crypto::hpke::OpenKey;
use zegel_ttp::quarantine::HeldRow;
use zegel_ttp::{CompiledProject, ProjectDocument, Ttp};

pub(crate) const RECIPIENT: &str = "CBE:0123456749";
pub(crate) const OTHER: &str = "NIHII-HOSPITAL:71011720";
pub(crate) const TTP_ADDRESS: &str = "CBE:0206653946";
pub(crate) const TERMS: &str = "direction = \"with-return\"\nreturns = { fields = [\"score\"], within_days = 10 }";
pub(crate) const FIELDS: &str = r#"
[[fields]]
path = "niss"
kind = "ssin"
action = "pseudonym"
[[fields]]
path = "name"
action = "drop"
[[fields]]
path = "value"
action = "keep"
"#;
pub(crate) const BATCH: &str = "niss,name,value\n85061511796,Janssens,7\n85061511895,Peeters,8\n85061511994,Maes,9\n";
pub(crate) const DAY_MS: i64 = 86_400_000;

/// Keys whose randomness is the same in every run, so that a game has one outcome.
pub(crate) struct Seeded {
    ring: Keyring,
    state: AtomicU64,
}

impl Keys for Seeded {
    fn blind(&self, domain: &str, identifier: &[u8]) -> Key {
        self.ring.blind(domain, identifier)
    }

    fn seal(&self, context: &[u8], plain: &[u8]) -> Sealed {
        self.ring.seal(context, plain)
    }

    fn open(&self, context: &[u8], sealed: &Sealed) -> Result<Vec<u8>, KeysError> {
        self.ring.open(context, sealed)
    }

    fn random(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let next = mixed(self.state.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed));
            chunk.copy_from_slice(&next.to_be_bytes()[..chunk.len()]);
        }
    }
}

/// The output function of splitmix64.
pub(crate) fn mixed(state: u64) -> u64 {
    let mut mixed = state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// A worker on a bench, and its project's key.
pub(crate) struct World {
    pub(crate) bench: Bench<Ttp, Seeded>,
    pub(crate) objects: MemoryObjects,
    pub(crate) key: Key,
    submissions: u64,
    _scratch: tempfile::TempDir,
}

pub(crate) fn id_of(submission: u64) -> MessageId {
    MessageId(u128::from(submission).to_be_bytes())
}

pub(crate) struct Delivered {
    pub(crate) handle: MessageId,
    pub(crate) deliver: Deliver,
    pub(crate) text: String,
}

impl World {
    pub(crate) fn new(terms: &str) -> World {
        World::with_fields(terms, FIELDS)
    }

    pub(crate) fn with_fields(terms: &str, fields: &str) -> World {
        World::with_root(terms, fields, [7; 32])
    }

    pub(crate) fn with_root(terms: &str, fields: &str, root: [u8; 32]) -> World {
        World::with_keys(terms, fields, root, &[])
    }

    /// As in a process that has these keys of decode roles.
    pub(crate) fn with_keys(terms: &str, fields: &str, root: [u8; 32], decode: &[Arc<OpenKey>]) -> World {
        let text = format!(
            "name = \"lab-registry\"\nsenders = [\"{SENDER}\", \"{OTHER}\"]\nrecipient = \"{RECIPIENT}\"\n\
             valid = {{ from = \"2026-01-01\", until = \"2030-12-31\" }}\n{terms}\n{fields}"
        );
        let document = ProjectDocument::parse(&text).unwrap_or_else(|error| panic!("{error}"));
        let scratch = tempfile::tempdir().unwrap();
        let project = CompiledProject::new(document, &root).unwrap().opened_by(decode);
        let ttp = Ttp::new(vec![project], scratch.path().to_owned()).unwrap();
        let keys = Seeded { ring: Keyring::generate_in_memory(), state: AtomicU64::new(7) };
        let key = names::project_key(&keys, "lab-registry");
        World {
            bench: Bench::with_keys(ttp, keys),
            objects: MemoryObjects::default(),
            key,
            submissions: 0,
            _scratch: scratch,
        }
    }

    /// The submission before the latest, or the latest.
    pub(crate) fn submission(&self, is_earlier: bool) -> MessageId {
        id_of(self.submissions - u64::from(is_earlier))
    }

    pub(crate) fn give(&mut self, from: &str, batch: &str, handle: Option<MessageId>) -> Effects {
        self.give_bytes(from, batch.as_bytes(), handle)
    }

    pub(crate) fn give_bytes(&mut self, from: &str, batch: &[u8], handle: Option<MessageId>) -> Effects {
        self.submissions += 1;
        let inbound = self.inbound(from, batch, handle);
        self.hand_in(inbound, batch)
    }

    fn inbound(&self, from: &str, batch: &[u8], handle: Option<MessageId>) -> Inbound {
        Inbound {
            submission: id_of(self.submissions),
            sender: from.parse().unwrap(),
            recipient: TTP_ADDRESS.parse().unwrap(),
            project: "lab-registry".to_owned(),
            part: Part {
                file_name: "batch.csv".to_owned(),
                mime: "text/csv".to_owned(),
                size: batch.len() as u64,
                digest: Sha256([0; 32]),
                content: Content::Attached,
            },
            publication_id: "P1".to_owned(),
            handle,
        }
    }

    /// Gives the worker a message, and runs the job that it may ask for.
    fn hand_in(&mut self, inbound: Inbound, batch: &[u8]) -> Effects {
        let mut envelope = self.bench.envelope(self.key, &inbound);
        if inbound.part.content == Content::Attached {
            envelope.attachment = Bytes::copy_from_slice(batch);
        }
        envelope.deadline = Some(self.bench.now.plus(7_200_000));
        let mut decision = self.bench.decide(envelope.clone()).unwrap();
        if let Decision::Job { spec } = decision {
            let every = zegel_core::Read::Range {
                space: EXCHANGES,
                owner: self.key,
                from: Bytes::new(),
                to: None,
                limit: 1_000,
                reverse: false,
            };
            let rows = self.bench.read(&every);
            let io = Io { rows, keys: &self.bench.keys, objects: &self.objects, now: self.bench.now };
            let outcome = self.bench.worker.run_job(&spec, &io).map(Bytes::from);
            decision = self.bench.decide_after(envelope, Some(outcome)).unwrap();
        }
        match decision {
            Decision::Done(effects) | Decision::Dead { effects, .. } => effects,
            other => panic!("not decided: {other:?}"),
        }
    }

    pub(crate) fn send(&mut self, from: &str, batch: &str) -> Effects {
        self.give(from, batch, None)
    }

    pub(crate) fn exchange(&mut self, batch: &str) -> Delivered {
        let effects = self.send(SENDER, batch);
        let delivered = self.delivered(&effects).pop();
        delivered.unwrap_or_else(|| panic!("{:?}", self.codes(&effects)))
    }

    pub(crate) fn back(&mut self, handle: MessageId, batch: &str) -> Effects {
        self.give(RECIPIENT, batch, Some(handle))
    }

    /// Every batch that goes to the recipient.
    pub(crate) fn delivered(&mut self, effects: &Effects) -> Vec<Delivered> {
        let batches = effects.produced.iter().filter(|produced| produced.channel.name == "mailbox.deliver");
        let batches: Vec<&Envelope> = batches.map(|produced| &produced.envelope).collect();
        batches
            .into_iter()
            .map(|envelope| {
                let deliver: Deliver = envelope.payload().unwrap();
                let From::Handle(handle) = deliver.from else { panic!("not from a handle") };
                let bytes: Bytes = match deliver.parts[0].content.clone() {
                    Content::Attached => envelope.attachment.clone(),
                    Content::Stored(payload) => {
                        let read = zegel_core::Read::One { space: PAYLOADS, owner: Key(payload.0), sub: Bytes::new() };
                        self.bench.read(&read)[0].1.clone()
                    }
                    Content::Object(object) => {
                        let mut bytes = Vec::new();
                        self.objects.open(&object).unwrap().read_to_end(&mut bytes).unwrap();
                        bytes.into()
                    }
                };
                assert_eq!(deliver.parts[0].size, bytes.len() as u64);
                let text = String::from_utf8(bytes.to_vec()).unwrap();
                Delivered { handle, deliver, text }
            })
            .collect()
    }

    /// As [`World::back`], with the batch in the object store.
    pub(crate) fn back_large(&mut self, handle: MessageId, batch: &str) -> Effects {
        self.submissions += 1;
        let batch = batch.as_bytes();
        let mut sink = self.objects.create().unwrap();
        sink.write_all(batch).unwrap();
        let content = Content::Object(sink.finish().unwrap());
        let inbound = self.inbound(RECIPIENT, batch, Some(handle));
        self.hand_in(Inbound { part: Part { content, ..inbound.part.clone() }, ..inbound }, batch)
    }

    /// The codes of every refusal.
    pub(crate) fn codes(&self, effects: &Effects) -> Vec<String> {
        let answers = effects.produced.iter().filter(|produced| produced.channel.name == "receipts.due");
        let codes = answers.filter_map(|produced| match produced.envelope.payload::<Answered>().unwrap().answer {
            Answer::Refused { reason } => {
                let row = reason.rows.first().map(|row| format!(" {}", row.code));
                Some(reason.code + &row.unwrap_or_default())
            }
            _ => None,
        });
        codes.collect()
    }

    /// The one code, after checking that nothing else leaves and nothing changes.
    pub(crate) fn refused(&mut self, handle: MessageId, batch: &str) -> String {
        let effects = self.back(handle, batch);
        self.nothing_but_a_refusal(&effects)
    }

    /// The one code of a refusal that forwards nothing and changes nothing but the quarantine.
    pub(crate) fn nothing_but_a_refusal(&mut self, effects: &Effects) -> String {
        assert_eq!(effects.produced.len(), 1);
        assert!(effects.changes.iter().all(|change| change.space == QUARANTINE), "{:?}", effects.changes);
        assert!(effects.timers.iter().all(|timer| timer.name == "quarantine"));
        let wire = effects.produced[0].envelope.encode().unwrap();
        for secret in ["85061511", "Janssens", "71000436", "P1.", "canary"] {
            assert!(!wire.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
        }
        let mut codes = self.codes(effects);
        assert_eq!(codes.len(), 1);
        codes.remove(0)
    }

    /// What stands still, by number.
    pub(crate) fn quarantine(&mut self) -> Vec<HeldRow> {
        let rows = self.bench.read(&zegel_ttp::quarantine::newest(self.key, u64::MAX, 1_000));
        rows.iter().rev().map(|(_, row)| serde_json::from_slice(row).unwrap()).collect()
    }

    /// Releases a batch from quarantine: the message that is judged anew.
    pub(crate) fn release(&mut self, number: u64) -> Envelope {
        let effects = self.bench.deliver(self.key, &QuarantineOrder::Release { number });
        let again = effects.produced.iter().find(|produced| produced.channel.name == "ttp.inbound");
        again.unwrap_or_else(|| panic!("not released: {:?}", effects.reply)).envelope.clone()
    }
}

struct Io<'a> {
    rows: Vec<(Bytes, Bytes)>,
    keys: &'a Seeded,
    objects: &'a MemoryObjects,
    now: Millis,
}

impl JobIo for Io<'_> {
    fn objects(&self) -> &dyn Objects {
        self.objects
    }
    fn read(&self, read: zegel_core::Read) -> Result<Vec<(Bytes, Bytes)>, JobError> {
        let zegel_core::Read::One { sub, .. } = read else { panic!("the job reads one row") };
        Ok(self.rows.iter().filter(|(found, _)| *found == sub).cloned().collect())
    }
    fn keys(&self) -> &dyn Keys {
        self.keys
    }
    fn now(&self) -> Millis {
        self.now
    }
    fn stopping(&self) -> bool {
        false
    }
}

/// The delivered rows with a column more, and without the filler.
pub(crate) fn enriched(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.is_empty());
    let line = |(number, line)| if number == 0 { format!("{line},score\n") } else { format!("{line},0.{number}\n") };
    lines.enumerate().map(line).collect()
}

/// The sender's rows as they come back, without what was added.
pub(crate) fn restored(effects: &Effects) -> (Deliver, Vec<String>) {
    let deliver: Deliver = effects.produced[0].envelope.payload().unwrap();
    let text = String::from_utf8(effects.produced[0].envelope.attachment.to_vec()).unwrap();
    (deliver, text.lines().map(str::to_owned).collect())
}
