//! Merkle trees of RFC 6962 section 2.1 (the same as RFC 9162): root and inclusion proof over a stream of leaves.
//!
//! `leaf = SHA-256(0x00 ‖ bytes)`, `node = SHA-256(0x01 ‖ left ‖ right)`, the left subtree of `n` leaves holds the largest
//! power of two below `n`; the root of no leaves is `SHA-256("")`. Memory is O(log n): the open subtrees only.

use crate::hash::{Hasher, sha256};
use schemas::Sha256;

/// A tree in the making. With a leaf to prove, it also collects that leaf's path.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// Complete subtrees, the largest first: one for each bit that is set in `size`.
    open: Vec<Subtree>,
    size: u64,
    wanted: Option<u64>,
    path: Vec<Sha256>,
}

#[derive(Debug, Clone, Copy)]
struct Subtree {
    hash: Sha256,
    /// Whether the leaf to prove is in it.
    wanted: bool,
}

/// That a leaf is the `index`-th of a tree: the audit path of RFC 6962 section 2.1.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// Position of the leaf, from 0.
    pub index: u64,
    /// How many leaves the tree has.
    pub size: u64,
    /// Sibling hashes, from the leaf upwards.
    pub path: Vec<Sha256>,
}

/// The hash of a leaf.
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> Sha256 {
    // At once where it is short, as bags' leaves are: making a digest in pieces costs as much again.
    let mut bytes = [0; 64];
    if let Some(room) = bytes.get_mut(1..=leaf.len()) {
        room.copy_from_slice(leaf);
        return sha256(&bytes[..=leaf.len()]);
    }
    let mut hasher = Hasher::new();
    hasher.update(&[0]);
    hasher.update(leaf);
    hasher.finish()
}

/// The root over all leaves.
#[must_use]
pub fn root<L: AsRef<[u8]>>(leaves: impl IntoIterator<Item = L>) -> Sha256 {
    Tree::over(None, leaves).root()
}

/// The root, and the proof of the leaf at `index`; none when there are not so many leaves.
#[must_use]
pub fn prove<L: AsRef<[u8]>>(index: u64, leaves: impl IntoIterator<Item = L>) -> Option<(Sha256, InclusionProof)> {
    Tree::over(Some(index), leaves).prove()
}

impl Tree {
    /// An empty tree.
    #[must_use]
    pub fn new() -> Tree {
        Tree::default()
    }

    /// An empty tree that will prove the leaf at `index`.
    #[must_use]
    pub fn proving(index: u64) -> Tree {
        Tree { wanted: Some(index), ..Tree::default() }
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: &[u8]) {
        self.push_hash(leaf_hash(leaf));
    }

    /// Appends a leaf whose [`leaf_hash`] is known.
    pub fn push_hash(&mut self, leaf: Sha256) {
        let mut merged = Subtree { hash: leaf, wanted: self.wanted == Some(self.size) };
        // As in binary addition: each trailing one of the old size is a subtree as large as what is carried.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.open.pop() {
                merged = join(left, merged, &mut self.path);
            }
        }
        self.open.push(merged);
        self.size += 1;
    }

    /// How many leaves it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over the leaves so far.
    #[must_use]
    pub fn root(&self) -> Sha256 {
        self.close(&mut Vec::new())
    }

    /// The root and the proof of the wanted leaf; none when no leaf is wanted or it has not come.
    #[must_use]
    pub fn prove(&self) -> Option<(Sha256, InclusionProof)> {
        let index = self.wanted.filter(|index| *index < self.size)?;
        let mut path = self.path.clone();
        let root = self.close(&mut path);
        Some((root, InclusionProof { index, size: self.size, path }))
    }

    fn over<L: AsRef<[u8]>>(wanted: Option<u64>, leaves: impl IntoIterator<Item = L>) -> Tree {
        let mut tree = Tree { wanted, ..Tree::default() };
        for leaf in leaves {
            tree.push(leaf.as_ref());
        }
        tree
    }

    /// Joins the open subtrees, the smallest two first.
    fn close(&self, path: &mut Vec<Sha256>) -> Sha256 {
        let mut subtrees = self.open.iter().rev().copied();
        match subtrees.next() {
            Some(smallest) => subtrees.fold(smallest, |right, left| join(left, right, path)).hash,
            None => sha256(&[]),
        }
    }
}

impl InclusionProof {
    /// Whether the proof leads from the leaf to the root (RFC 9162 section 2.1.3.2).
    #[must_use]
    pub fn leads(&self, leaf: &Sha256, root: &Sha256) -> bool {
        if self.index >= self.size {
            return false;
        }
        let (mut node, mut last, mut hash) = (self.index, self.size - 1, *leaf);
        for sibling in &self.path {
            if last == 0 {
                return false;
            }
            if node & 1 == 1 || node == last {
                hash = node_hash(sibling, &hash);
                // A right edge without a partner moves up until it has one.
                while node & 1 == 0 && node != 0 {
                    node >>= 1;
                    last >>= 1;
                }
            } else {
                hash = node_hash(&hash, sibling);
            }
            node >>= 1;
            last >>= 1;
        }
        last == 0 && hash == *root
    }
}

fn join(left: Subtree, right: Subtree, path: &mut Vec<Sha256>) -> Subtree {
    if left.wanted {
        path.push(right.hash);
    } else if right.wanted {
        path.push(left.hash);
    }
    Subtree { hash: node_hash(&left.hash, &right.hash), wanted: left.wanted || right.wanted }
}

/// The hash of an inner node.
pub(crate) fn node_hash(left: &Sha256, right: &Sha256) -> Sha256 {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    sha256(&bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The leaves, roots and a path that the Certificate Transparency implementations test with.
    const LEAVES: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    const PATH_OF_5_IN_8: [&str; 3] = [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];

    fn leaves() -> Vec<Vec<u8>> {
        LEAVES.iter().map(|leaf| hex::decode(leaf).unwrap()).collect()
    }

    #[test]
    fn the_roots_and_a_path_are_the_published_ones() {
        for (size, expected) in ROOTS.iter().enumerate() {
            assert_eq!(root(&leaves()[..size]).to_string(), *expected, "size {size}");
        }
        let (root, proof) = prove(5, leaves()).unwrap();
        assert_eq!(root.to_string(), ROOTS[8]);
        assert_eq!(proof.path.iter().map(Sha256::to_string).collect::<Vec<_>>(), PATH_OF_5_IN_8);
        assert!(proof.leads(&leaf_hash(&leaves()[5]), &root));
    }

    #[test]
    fn a_proof_of_a_leaf_that_is_not_there_is_not_made() {
        assert_eq!(prove(0, Vec::<Vec<u8>>::new()), None);
        assert_eq!(prove(8, leaves()), None);
        assert_eq!(Tree::new().prove(), None);
    }

    #[test]
    fn memory_stays_logarithmic() {
        let mut tree = Tree::proving(3);
        for leaf in 0..100_000_u32 {
            tree.push(&leaf.to_be_bytes());
            assert!(tree.open.len() <= 17 && tree.path.len() <= 17);
        }
    }

    /// The definition of RFC 6962 section 2.1, word for word.
    fn defined(leaves: &[Vec<u8>]) -> Sha256 {
        match leaves {
            [] => sha256(&[]),
            [one] => leaf_hash(one),
            many => {
                let split = many.len().next_power_of_two() / 2;
                node_hash(&defined(&many[..split]), &defined(&many[split..]))
            }
        }
    }

    /// The audit path of section 2.1.1, word for word.
    fn defined_path(index: usize, leaves: &[Vec<u8>]) -> Vec<Sha256> {
        if leaves.len() <= 1 {
            return Vec::new();
        }
        let split = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(split);
        let (mut path, sibling) = if index < split {
            (defined_path(index, left), defined(right))
        } else {
            (defined_path(index - split, right), defined(left))
        };
        path.push(sibling);
        path
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn streaming_agrees_with_the_definition(
            leaves in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..4), 1..70),
            pick in any::<proptest::sample::Index>(),
        ) {
            let index = pick.index(leaves.len());
            let (root, proof) = prove(index as u64, &leaves).unwrap();
            prop_assert_eq!(root, defined(&leaves));
            prop_assert_eq!(&proof.path, &defined_path(index, &leaves));
            prop_assert!(proof.leads(&leaf_hash(&leaves[index]), &root));
        }

        #[test]
        fn a_proof_changed_in_any_way_leads_nowhere(
            size in 1_usize..70, pick in any::<proptest::sample::Index>(), other in 0_u64..80, bit in 0_usize..256,
        ) {
            let leaves: Vec<[u8; 8]> = (0..size as u64).map(u64::to_be_bytes).collect();
            let index = pick.index(size);
            let (root, proof) = prove(index as u64, &leaves).unwrap();
            let leaf = leaf_hash(&leaves[index]);
            let moved = InclusionProof { index: other, ..proof.clone() };
            prop_assert_eq!(moved.leads(&leaf, &root), other == index as u64);
            let longer = InclusionProof { path: [proof.path.clone(), vec![leaf]].concat(), ..proof.clone() };
            prop_assert!(!longer.leads(&leaf, &root));
            let mut wrong = leaf;
            wrong.0[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!proof.leads(&wrong, &root));
            for step in 0..proof.path.len() {
                let mut bent = proof.clone();
                bent.path[step].0[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(!bent.leads(&leaf, &root));
            }
            if !proof.path.is_empty() {
                let mut shorter = proof.clone();
                shorter.path.pop();
                prop_assert!(!shorter.leads(&leaf, &root));
            }
        }
    }
}
