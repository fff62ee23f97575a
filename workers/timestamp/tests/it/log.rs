//! The append-only log: what joins it, how it is read, cosigned and stamped, and a foreign client that reads it.

use crate::stage::{self, MINUTE, Stage, State, TEN, entry};
use bytes::Bytes;
use schemas::messages::{BagMaker, CheckpointDue, CheckpointStamp, Cosigned, Logged};
use schemas::{Envelope, Key, MessageId, Millis, Payload, Sha256};
use std::process::Command;
use std::sync::Arc;
use zegel_core::names::{log_key, log_stamp_key};
use zegel_core::testing::TestKeys;
use zegel_core::{Decision, Keys, Message};
use zegel_crypto::hash::sha256;
use zegel_crypto::log::tiles::{Tile, encode_bundle};
use zegel_crypto::log::{
    Checkpoint, Entry, LogError, LogProof, NoteSigner, Opened, Policy, Prover, Purpose, Resource, TileSource,
};
use zegel_crypto::tsa::token_of;
use zegel_timestamp::log::{CosignedAnswer, Log, LogHead};
use zegel_timestamp::queries::{self, Query};

const ORIGIN: &str = "zegel.example/log";

/// The worker over its own state.
struct Bench {
    log: Log,
    policy: Policy,
    keys: TestKeys,
    state: State,
    now: Millis,
    timer: Option<(Millis, Envelope)>,
    /// Checkpoints that an external authority is to stamp.
    to_stamp: Vec<Envelope>,
}

impl Bench {
    fn new(witnesses: &[&NoteSigner], quorum: usize) -> Bench {
        let signer = NoteSigner::generate(ORIGIN, Purpose::Log).unwrap();
        let keys = witnesses.iter().map(|witness| witness.public().clone()).collect();
        let policy = Policy::new(signer.public().clone(), keys, quorum).unwrap();
        let log = Log::new(Arc::new(signer), policy.clone(), MINUTE).stamped_by(stage::authority().0.clone());
        let (keys, state) = (TestKeys::default(), State::new());
        Bench { log, policy, keys, state, now: TEN, timer: None, to_stamp: Vec::new() }
    }

    fn key(&self) -> Key {
        log_key(&self.keys)
    }

    fn give<P: Payload>(&mut self, payload: &P) -> Option<Bytes> {
        let envelope = Envelope::new(MessageId(self.keys.random16()), "/test", self.key(), self.now, payload).unwrap();
        self.handle(envelope, None)
    }

    fn handle(&mut self, envelope: Envelope, job: Option<Bytes>) -> Option<Bytes> {
        let message = Message { number: 1, envelope, attempt: 0, job: job.map(Ok) };
        let decision = stage::decide(&self.log, &message, &self.state, self.now, &self.keys).unwrap();
        let Decision::Done(effects) = decision else { panic!("{decision:?}") };
        for change in effects.changes {
            assert_eq!(change.owner, message.envelope.partitionkey, "state of another key");
            let place = (change.space.code, change.owner, change.sub);
            match change.value {
                Some(value) => self.state.insert(place, value),
                None => self.state.remove(&place),
            };
        }
        self.timer = effects.timers.into_iter().next().map(|set| (set.due, set.message.envelope)).or(self.timer.take());
        self.to_stamp.extend(effects.produced.into_iter().map(|produced| produced.envelope));
        effects.reply
    }

    fn append(&mut self, count: u64) {
        let from = self.head().map_or(0, |head| head.size);
        for n in from..from + count {
            let subject = sha256(&n.to_be_bytes());
            self.give(&Logged { maker: BagMaker::Platform, subject, token: Sha256([7; 32]) });
        }
    }

    /// Lets the timer fire.
    fn sign(&mut self) -> String {
        let (due, envelope) = self.timer.take().expect("no timer");
        self.now = self.now.max(due);
        self.handle(envelope, None);
        let size = self.head().unwrap().signed;
        self.query(&queries::log_checkpoint(self.key(), size)).unwrap().note
    }

    fn head(&self) -> Option<LogHead> {
        self.query(&queries::log_head(self.key()))
    }

    fn query<T>(&self, query: &Query<T>) -> T {
        query.answer(stage::read(&self.state, &query.read)).unwrap()
    }

    fn cosign(&mut self, size: u64, note: &str, witness: &NoteSigner) -> Option<u64> {
        let text = self.policy.open(note).unwrap().note.text;
        let lines = vec![witness.sign(&text, 1_800_000_000).to_string().trim().to_owned()];
        let reply = self.give(&Cosigned { size, lines }).unwrap();
        serde_json::from_slice::<CosignedAnswer>(&reply).unwrap().witnesses
    }

    fn served(&self, resource: Resource) -> Vec<u8> {
        match resource {
            Resource::Hashes(tile) => self.query(&queries::log_hashes(self.key(), &tile)),
            Resource::Entries(tile) => encode_bundle(&self.query(&queries::log_entries(self.key(), &tile))),
        }
    }
}

impl TileSource for &Bench {
    type Error = LogError;

    fn tile(&mut self, tile: Tile) -> Result<Vec<u8>, LogError> {
        Ok(self.served(Resource::Hashes(tile)))
    }
}

#[test]
fn every_stamped_bag_joins_the_log_with_its_header_and_token() {
    let mut stage = Stage::usual();
    stage.enrol();
    for window in 0..3u8 {
        stage.offer(&[entry(u64::from(window) + 1, window)]);
        stage.now = stage.now.plus(5 * MINUTE);
        stage.tick();
        stage.seal_all();
    }
    let bags = stage.bags();
    assert_eq!((bags.len(), stage.logged.len()), (3, 3));
    for (bag, logged) in bags.iter().zip(&stage.logged) {
        let tsr = stage.query(&queries::token(stage.key, bag.sequence)).unwrap();
        let token = sha256(&token_of(&tsr).unwrap());
        assert_eq!(*logged, Logged { maker: BagMaker::Platform, subject: bag.header_hash, token });
    }
}

#[test]
fn entries_are_proved_from_the_rows_against_what_was_signed() {
    let mut bench = Bench::new(&[], 0);
    bench.append(600);
    let note = bench.sign();
    let size = bench.policy.check(&note).unwrap().checkpoint.size;
    assert_eq!(size, 600);
    for index in [0, 255, 256, 599] {
        let path = Prover::new(&bench, size).inclusion(index).unwrap().path;
        let proof = LogProof { index, path, checkpoint: note.clone() };
        let tile = Tile::of(0, index / 256, size).unwrap();
        let entries = bench.query(&queries::log_entries(bench.key(), &tile));
        let bytes = &entries[usize::try_from(index % 256).unwrap()];
        assert_eq!(Entry::decode(bytes).unwrap().subject, sha256(&index.to_be_bytes()));
        proof.verify(bytes, &bench.policy).unwrap();
    }
}

#[test]
fn a_checkpoint_is_signed_once_for_what_came_and_each_continues_the_last() {
    let mut bench = Bench::new(&[], 0);
    let mut seen: Option<Checkpoint> = None;
    for more in [1, 1, 253, 3, 300] {
        bench.append(more);
        assert_eq!(bench.timer.as_ref().unwrap().0, bench.now.plus(MINUTE), "the first entry sets the timer");
        let note = bench.sign();
        assert!(bench.timer.is_none());
        let checkpoint = bench.policy.check(&note).unwrap().checkpoint;
        if let Some(seen) = &seen {
            let proof = Prover::new(&bench, checkpoint.size).consistency(seen.size).unwrap();
            assert!(proof.connects(&seen.root, &checkpoint.root));
        }
        seen = Some(checkpoint);
    }
    let rows = bench.state.len();
    bench.give(&CheckpointDue {});
    assert_eq!(bench.state.len(), rows, "nothing came, nothing is signed");
}

#[test]
fn what_is_served_waits_for_the_quorum_and_strangers_do_not_count() {
    let witness = |name: &str| NoteSigner::generate(name, Purpose::Witness).unwrap();
    let (one, two, stranger) = (witness("hospital.example/w"), witness("auditor.example/w"), witness("x.example/w"));
    let mut bench = Bench::new(&[&one, &two], 2);
    bench.append(5);
    let note = bench.sign();
    assert_eq!((bench.head().unwrap().signed, bench.head().unwrap().published), (5, 0));
    assert_eq!(bench.cosign(5, &note, &stranger), Some(0));
    assert_eq!(bench.cosign(5, &note, &one), Some(1));
    assert_eq!(bench.cosign(5, &note, &one), Some(1), "twice the same is one");
    assert_eq!(bench.cosign(9, &note, &one), None, "no such checkpoint");
    assert_eq!(bench.head().unwrap().published, 0);
    assert_eq!(bench.cosign(5, &note, &two), Some(2));
    assert_eq!(bench.head().unwrap().published, 5);
    let served = bench.query(&queries::log_checkpoint(bench.key(), 5)).unwrap().note;
    let Opened { witnesses, .. } = bench.policy.check(&served).unwrap();
    assert_eq!(witnesses.len(), 2);
    bench.append(1);
    let later = bench.sign();
    assert_eq!((bench.head().unwrap().signed, bench.head().unwrap().published), (6, 5));
    // A signature over another checkpoint is worth nothing.
    let mixed = one.sign(&bench.policy.open(&note).unwrap().note.text, 5).to_string().trim().to_owned();
    let reply = bench.give(&Cosigned { size: 6, lines: vec![mixed, "nonsense".to_owned()] }).unwrap();
    assert_eq!(serde_json::from_slice::<CosignedAnswer>(&reply).unwrap().witnesses, Some(0));
    assert_eq!(bench.policy.open(&later).unwrap().witnesses, []);
}

#[test]
fn one_checkpoint_a_day_is_stamped_by_the_external_authority_and_the_log_goes_on_meanwhile() {
    let mut bench = Bench::new(&[], 0);
    bench.append(1);
    let note = bench.sign();
    bench.append(1);
    bench.sign();
    assert_eq!(bench.to_stamp.len(), 1, "once a day");
    bench.now = bench.now.plus(24 * 60 * MINUTE);
    bench.append(1);
    bench.sign();
    assert_eq!(bench.to_stamp.len(), 2);
    let envelope = bench.to_stamp.remove(0);
    assert_eq!(envelope.partitionkey, log_stamp_key(&bench.keys), "apart from the log's own key");
    let wanted: CheckpointStamp = envelope.payload().unwrap();
    assert_eq!((wanted.size, wanted.imprint), (1, sha256(note.as_bytes())));
    bench.handle(envelope, Some(Bytes::from_static(b"response")));
    let stamps = log_stamp_key(&bench.keys);
    assert_eq!(bench.query(&queries::log_stamp(stamps, 1)).unwrap(), &b"response"[..]);
}

#[test]
fn checkpoints_are_kept_for_days_and_not_for_ever() {
    let mut bench = Bench::new(&[], 0);
    for _ in 0..870 {
        bench.append(1);
        bench.sign();
    }
    let kept = bench.state.keys().filter(|(.., sub)| sub.starts_with(b"c")).count();
    assert_eq!((kept, bench.head().unwrap().kept), (864, 864));
    assert!(bench.query(&queries::log_checkpoint(bench.key(), 870)).is_some());
    assert!(bench.query(&queries::log_checkpoint(bench.key(), 1)).is_none());
}

#[test]
fn pymerkle_agrees_about_roots_and_proofs() {
    const CHECK: &str = r#"
import sys, json
try:
    from pymerkle import InmemoryTree, verify_inclusion, verify_consistency, MerkleProof
except ImportError:
    sys.exit(77)
given = json.load(sys.stdin)
tree = InmemoryTree(algorithm='sha256')
for entry in given['entries']:
    tree.append_entry(bytes.fromhex(entry))
for size, root in given['roots']:
    assert tree.get_state(size).hex() == root, size
print('ok')
"#;
    let mut bench = Bench::new(&[], 0);
    let mut roots = Vec::new();
    for more in [1, 4, 250, 2, 43] {
        bench.append(more);
        let note = bench.sign();
        let checkpoint = bench.policy.check(&note).unwrap().checkpoint;
        roots.push((checkpoint.size, checkpoint.root.to_string()));
    }
    let entries: Vec<String> = Resource::all(300)
        .filter_map(|resource| match resource {
            Resource::Entries(tile) => Some(bench.query(&queries::log_entries(bench.key(), &tile))),
            Resource::Hashes(_) => None,
        })
        .flatten()
        .map(hex::encode)
        .collect();
    let input = serde_json::json!({ "entries": entries, "roots": roots }).to_string();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.json");
    std::fs::write(&path, input).unwrap();
    let output = Command::new("python3").args(["-c", CHECK]).stdin(std::fs::File::open(&path).unwrap()).output();
    let output = output.ok().filter(|output| output.status.code() != Some(77));
    let Some(output) = output else {
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "ZEGEL_ORACLES is set and pymerkle is absent");
        println!("SKIPPED: pymerkle is absent");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A log in a folder, as a static server has it, read by the Go implementation of tlog-tiles: it rebuilds the tree, compares
/// every tile and verifies the signatures.
#[test]
fn a_client_that_is_not_ours_reads_the_log_and_finds_a_changed_bit() {
    let witness = NoteSigner::generate("hospital.example/w", Purpose::Witness).unwrap();
    let mut bench = Bench::new(&[&witness], 1);
    bench.append(700);
    let note = bench.sign();
    let size = bench.head().unwrap().signed;
    bench.cosign(size, &note, &witness);
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = bench.query(&queries::log_checkpoint(bench.key(), size)).unwrap().note;
    std::fs::write(folder.path().join("checkpoint"), &checkpoint).unwrap();
    for resource in Resource::all(size) {
        let path = folder.path().join(resource.to_string());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bench.served(resource)).unwrap();
    }
    let read = || {
        let arguments = [bench.policy.log().to_string(), witness.public().to_string()];
        Command::new("tlog-oracle").arg(folder.path()).args(arguments).output().ok()
    };
    let Some(output) = read() else {
        let has_go = Command::new("go").arg("version").output().is_ok();
        let required = std::env::var_os("ZEGEL_ORACLES").is_some() && has_go;
        assert!(!required, "ZEGEL_ORACLES is set and tlog-oracle is absent");
        println!("SKIPPED: tlog-oracle is absent");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tile = folder.path().join("tile/0/001");
    let mut bytes = std::fs::read(&tile).unwrap();
    bytes[77] ^= 1;
    std::fs::write(&tile, bytes).unwrap();
    assert!(!read().unwrap().status.success(), "a changed tile");
}
