//! Writer, prover, verifier and witness together, over trees of every small size and some that cross tiles.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_possible_truncation)]

use super::note::{NoteSigner, Purpose};
use super::proof::{Prover, TileSource};
use super::tiles::{Tile, WIDTH, encode_bundle};
use super::witness::{AddCheckpoint, Refusal, Seen, judge};
use super::*;
use crate::merkle::{self, leaf_hash};
use proptest::prelude::*;
use schemas::Sha256;
use std::collections::BTreeMap;

const ORIGIN: &str = "zegel.example/log";

/// A log in memory, written as the platform writes one.
#[derive(Default)]
struct Written {
    leaves: Vec<Sha256>,
    above: BTreeMap<(u8, u64), Sha256>,
    frontier: Frontier,
}

impl Written {
    fn of(size: u64) -> Written {
        let mut log = Written::default();
        (0..size).for_each(|n| log.push(&n.to_be_bytes()));
        log
    }

    fn push(&mut self, entry: &[u8]) {
        self.leaves.push(leaf_hash(entry));
        let above = &mut self.above;
        self.frontier
            .push(leaf_hash(entry), |level, index, hash| assert!(above.insert((level, index), hash).is_none()));
    }

    fn prover(&self, size: u64) -> Prover<&Written> {
        Prover::new(self, size)
    }

    fn root(&self, size: u64) -> Sha256 {
        let mut tree = merkle::Tree::new();
        self.leaves[..size as usize].iter().for_each(|leaf| tree.push_hash(*leaf));
        tree.root()
    }
}

impl TileSource for &Written {
    type Error = LogError;

    fn tile(&mut self, tile: Tile) -> Result<Vec<u8>, LogError> {
        let first = tile.index * WIDTH;
        let hash = |n: u64| match tile.level {
            0 => self.leaves[n as usize],
            level => self.above[&(level, n)],
        };
        Ok((first..first + u64::from(tile.width)).flat_map(|n| hash(n).0).collect())
    }
}

#[test]
fn every_leaf_of_every_small_tree_is_proved_and_nothing_else() {
    let log = Written::of(40);
    for size in 1..=40 {
        let root = log.root(size);
        let mut prover = log.prover(size);
        assert_eq!(prover.root().unwrap(), root, "size {size}");
        for index in 0..size {
            let proof = prover.inclusion(index).unwrap();
            assert!(proof.leads(&log.leaves[index as usize], &root));
            assert!(!proof.leads(&log.leaves[(index as usize + 1) % 40], &root));
        }
        assert!(prover.inclusion(size).is_err());
    }
}

#[test]
fn every_small_tree_continues_every_smaller_one_and_no_other() {
    let log = Written::of(40);
    for new in 0..=40 {
        for old in 0..=new {
            let proof = log.prover(new).consistency(old).unwrap();
            let (before, after) = (log.root(old), log.root(new));
            assert!(proof.connects(&before, &after), "{old} {new}");
            let other = Sha256([1; 32]);
            assert!(old == 0 || !proof.connects(&other, &after), "{old} {new}");
            assert!(old == 0 || !proof.connects(&before, &other), "{old} {new}");
            let longer = ConsistencyProof { path: [proof.path.clone(), vec![before]].concat(), ..proof.clone() };
            assert!(!longer.connects(&before, &after), "{old} {new}");
            for step in 0..proof.path.len() {
                let mut bent = proof.clone();
                bent.path[step].0[31] ^= 1;
                assert!(!bent.connects(&before, &after), "{old} {new} {step}");
            }
        }
        assert!(log.prover(new).consistency(new + 1).is_err());
    }
}

#[test]
fn proofs_hold_where_tiles_and_levels_begin() {
    let log = Written::of(66_000);
    assert_eq!(log.frontier.root(), log.root(66_000));
    for size in [255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 66_000] {
        let root = log.root(size);
        let mut prover = log.prover(size);
        assert_eq!(prover.root().unwrap(), root, "size {size}");
        for index in [0, 1, 254, size / 2, size - 1] {
            assert!(prover.inclusion(index).unwrap().leads(&log.leaves[index as usize], &root), "{size} {index}");
        }
        for old in [1, 200, 255, 256, size - 1, size].into_iter().filter(|old| *old <= size) {
            assert!(prover.consistency(old).unwrap().connects(&log.root(old), &root), "{old} {size}");
        }
    }
}

#[test]
fn a_frontier_goes_on_from_what_was_stored() {
    let whole = Written::of(300);
    let stored = Written::of(255).frontier;
    let mut again = Frontier::restore(stored.size(), stored.open().to_vec()).unwrap();
    let mut complete = Vec::new();
    whole.leaves[255..].iter().for_each(|leaf| again.push(*leaf, |level, index, _| complete.push((level, index))));
    assert_eq!((again, complete), (whole.frontier, vec![(1, 0)]));
    assert_eq!(Frontier::restore(3, vec![Sha256([0; 32])]), None);
}

struct Rig {
    log: Written,
    signer: NoteSigner,
    policy: Policy,
}

impl Rig {
    fn new(size: u64) -> Rig {
        let signer = NoteSigner::generate(ORIGIN, Purpose::Log).unwrap();
        let policy = Policy::new(signer.public().clone(), Vec::new(), 0).unwrap();
        Rig { log: Written::of(size), signer, policy }
    }

    fn checkpoint(&self, size: u64) -> String {
        let root = self.log.root(size);
        Checkpoint { origin: ORIGIN.to_owned(), size, root, extensions: Vec::new() }.sign(&self.signer).to_string()
    }

    fn request(&self, old: u64, new: u64) -> AddCheckpoint {
        let path = self.log.prover(new).consistency(old).unwrap().path;
        AddCheckpoint { old, path, checkpoint: self.checkpoint(new) }
    }
}

#[test]
fn a_log_proof_is_read_back_and_holds_for_its_entry_alone() {
    let rig = Rig::new(300);
    let path = rig.log.prover(300).inclusion(77).unwrap().path;
    let proof = LogProof { index: 77, path, checkpoint: rig.checkpoint(300) };
    let again: LogProof = proof.to_string().parse().unwrap();
    assert_eq!(again, proof);
    again.verify(&77u64.to_be_bytes(), &rig.policy).unwrap();
    assert!(again.verify(&78u64.to_be_bytes(), &rig.policy).is_err());
    let with_extra = proof.to_string().replacen("\nindex", "\nextra AAAA\nindex", 1);
    assert_eq!(with_extra.parse(), Ok(proof.clone()));
    for broken in ["index 077", "index -1", "index", "inde 77"] {
        assert!(proof.to_string().replacen("index 77", broken, 1).parse::<LogProof>().is_err(), "{broken}");
    }
}

#[test]
fn a_witness_signs_what_continues_and_refuses_two_histories() {
    let rig = Rig::new(50);
    let (seen, text) = judge(&rig.policy, &Seen::default(), &rig.request(0, 10)).unwrap();
    assert_eq!((seen.size, seen.root), (10, rig.log.root(10)));
    assert_eq!(text.parse::<Checkpoint>().unwrap().size, 10);
    let request: AddCheckpoint = rig.request(10, 50).to_string().parse().unwrap();
    let (later, _) = judge(&rig.policy, &seen, &request).unwrap();
    assert_eq!(judge(&rig.policy, &later, &rig.request(10, 50)), Err(Refusal::Conflict(50)));
    assert_eq!(judge(&rig.policy, &later, &rig.request(50, 50)).unwrap().0, later, "the same again is signed again");

    // The platform forgets an entry and writes the rest anew under its own key.
    let mut forked = Written::default();
    (0..60u64).filter(|n| *n != 7).for_each(|n| forked.push(&n.to_be_bytes()));
    let other = Rig { log: forked, signer: rig.signer, policy: rig.policy };
    for (old, new) in [(50, 50), (50, 59)] {
        assert_eq!(judge(&other.policy, &later, &other.request(old, new)), Err(Refusal::Fork));
    }
    assert_eq!(judge(&other.policy, &later, &other.request(10, 20)), Err(Refusal::Conflict(50)), "nor does it go back");
    let stranger = Rig::new(60);
    assert_eq!(judge(&other.policy, &later, &stranger.request(50, 60)), Err(Refusal::Signature));
    let renamed =
        AddCheckpoint { checkpoint: other.checkpoint(59).replace(ORIGIN, "else/log"), ..other.request(50, 59) };
    assert_eq!(judge(&other.policy, &later, &renamed), Err(Refusal::Unknown));
    let shrunk = AddCheckpoint { old: 50, ..other.request(10, 20) };
    assert_eq!(judge(&other.policy, &later, &shrunk), Err(Refusal::Shape));
}

#[test]
fn a_bundle_hashes_to_its_tile() {
    let entries: Vec<[u8; 8]> = (0..5u64).map(u64::to_be_bytes).collect();
    let log = Written::of(5);
    let tile = Tile::of(0, 0, 5).unwrap();
    let bundle = encode_bundle(&entries);
    let hashed: Vec<u8> =
        tiles::decode_bundle(&tile, &bundle).unwrap().into_iter().flat_map(|entry| leaf_hash(entry).0).collect();
    assert_eq!((&log).tile(tile).unwrap(), hashed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_text_never_panics(text in "(?s).{0,200}", lines in "(old [0-9]{1,20}\n)?([A-Za-z0-9+/=]{0,44}\n){0,4}\n.{0,40}") {
        let _ = text.parse::<LogProof>();
        let _ = text.parse::<AddCheckpoint>();
        let _ = lines.parse::<AddCheckpoint>();
        let _ = format!("c2sp.org/tlog-proof@v1\n{lines}").parse::<LogProof>();
    }

    #[test]
    fn a_consistency_proof_of_strangers_never_panics(old in 0u64..200, new in 0u64..200, length in 0usize..9, fill in any::<u8>()) {
        let proof = ConsistencyProof { old, new, path: vec![Sha256([fill; 32]); length] };
        let connects = proof.connects(&Sha256([1; 32]), &Sha256([2; 32]));
        prop_assert_eq!(connects, old == 0 && new > 0 && length == 0);
    }
}
