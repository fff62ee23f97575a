//! Proofs of a log: made from its tiles, carried as text, verified from bytes.
//!
//! A [`Prover`] reads the few tiles that a proof needs (at most two a level) through a [`TileSource`]; what it makes is worth
//! nothing until it is verified against a checkpoint, so a source that lies is found out.
//! A [`LogProof`] is the text of C2SP tlog-proof: index, path and checkpoint, verifiable for decades without the log.

use super::checkpoint::{Opened, Policy, hash};
use super::tiles::{Tile, WIDTH};
use super::{LogError, decimal, ensure};
use crate::merkle::{InclusionProof, leaf_hash, node_hash};
use base64::{Engine, engine::general_purpose::STANDARD};
use schemas::Sha256;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

/// Tiles that a prover keeps: 1 MiB, and more than a proof in a log of any size touches.
const CACHE_MAX: usize = 128;
/// Most hashes in a path: one a level of a tree with 2^63 leaves.
const PATH_MAX: usize = 63;
const PROOF_HEADER: &str = "c2sp.org/tlog-proof@v1";

/// Where tiles come from: a folder, a server, rows of a store.
pub trait TileSource {
    /// What can go wrong.
    type Error: From<LogError>;

    /// The bytes of a tile: its width times 32.
    ///
    /// # Errors
    /// The source's own.
    fn tile(&mut self, tile: Tile) -> Result<Vec<u8>, Self::Error>;
}

/// Makes proofs for one log at one size.
pub struct Prover<S> {
    source: S,
    size: u64,
    cache: HashMap<Tile, Vec<Sha256>>,
}

impl<S: TileSource> Prover<S> {
    /// A prover for the tree of this size.
    pub fn new(source: S, size: u64) -> Prover<S> {
        Prover { source, size, cache: HashMap::new() }
    }

    /// The root, from the tiles of the right edge.
    ///
    /// # Errors
    /// The source's, or [`LogError::Tile`].
    pub fn root(&mut self) -> Result<Sha256, S::Error> {
        self.range(0, self.size)
    }

    /// That the leaf at `index` is in the tree.
    ///
    /// # Errors
    /// The source's, [`LogError::Tile`], or [`LogError::Proof`] when there is no such leaf.
    pub fn inclusion(&mut self, index: u64) -> Result<InclusionProof, S::Error> {
        ensure(index < self.size, LogError::Proof("is asked of a leaf that is not there"))?;
        let (mut low, mut high) = (0, self.size);
        let mut path = Vec::new();
        while high - low > 1 {
            let middle = low + split(high - low);
            if index < middle {
                path.push(self.range(middle, high)?);
                high = middle;
            } else {
                path.push(self.range(low, middle)?);
                low = middle;
            }
        }
        path.reverse();
        Ok(InclusionProof { index, size: self.size, path })
    }

    /// That the tree begins with the tree of `old` leaves (RFC 6962 section 2.1.2).
    ///
    /// # Errors
    /// As [`Prover::inclusion`]; [`LogError::Proof`] when the old tree is the larger.
    pub fn consistency(&mut self, old: u64) -> Result<ConsistencyProof, S::Error> {
        ensure(old <= self.size, LogError::Proof("is asked of a larger tree"))?;
        let (mut low, mut high) = (0, self.size);
        let mut path = Vec::new();
        if old == 0 {
            return Ok(ConsistencyProof { old, new: self.size, path });
        }
        // Down to the subtree with which the old tree ends; `low` is 0 while that subtree is the old tree itself.
        while high != old {
            let middle = low + split(high - low);
            if old <= middle {
                path.push(self.range(middle, high)?);
                high = middle;
            } else {
                path.push(self.range(low, middle)?);
                low = middle;
            }
        }
        if low > 0 {
            path.push(self.range(low, high)?);
        }
        path.reverse();
        Ok(ConsistencyProof { old, new: self.size, path })
    }

    /// The Merkle hash over the leaves from `low` to `high`: perfect subtrees, joined from the right.
    fn range(&mut self, mut low: u64, high: u64) -> Result<Sha256, S::Error> {
        let mut parts = Vec::new();
        while low < high {
            let rest = high - low;
            // `low` is a multiple of every power of two that fits, because ranges begin where a split left them.
            let height = rest.ilog2().min(if low == 0 { 63 } else { low.trailing_zeros() });
            parts.push(self.perfect(height, low >> height)?);
            low += 1 << height;
        }
        let mut parts = parts.into_iter().rev();
        match parts.next() {
            Some(last) => Ok(parts.fold(last, |right, left| node_hash(&left, &right))),
            None => Ok(crate::hash::sha256(&[])),
        }
    }

    /// The hash of the `index`-th perfect subtree of a height, from the hashes of one tile.
    fn perfect(&mut self, height: u32, index: u64) -> Result<Sha256, S::Error> {
        let (level, within) = (height / 8, height % 8);
        let first = index << within;
        let level = u8::try_from(level).map_err(|_| LogError::Tile("is above every level"))?;
        let place = Tile::of(level, first / WIDTH, self.size).ok_or(LogError::Tile("is not in a tree of this size"))?;
        let at = usize::try_from(first % WIDTH).unwrap_or(usize::MAX);
        let hashes = self.hashes(place)?.get(at..at + (1 << within)).ok_or(LogError::Tile("is too narrow"))?;
        let mut row = hashes.to_vec();
        while row.len() > 1 {
            row = row.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
        }
        Ok(row[0])
    }

    fn hashes(&mut self, place: Tile) -> Result<&[Sha256], S::Error> {
        if !self.cache.contains_key(&place) {
            let bytes = self.source.tile(place)?;
            if self.cache.len() >= CACHE_MAX {
                self.cache.clear();
            }
            self.cache.insert(place, place.hashes(&bytes)?);
        }
        Ok(self.cache.get(&place).map_or(&[], Vec::as_slice))
    }
}

/// The largest power of two below `n`, which is at least 2.
fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// That a tree begins with an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// Size of the earlier tree.
    pub old: u64,
    /// Size of the later tree.
    pub new: u64,
    /// Hashes in the order of RFC 6962.
    pub path: Vec<Sha256>,
}

impl ConsistencyProof {
    /// Whether the tree with the new root begins with the tree with the old one (RFC 9162 section 2.1.4.2). Nothing is
    /// before the empty tree, whose root its caller knows.
    #[must_use]
    pub fn connects(&self, old_root: &Sha256, new_root: &Sha256) -> bool {
        if self.old == self.new || self.old == 0 {
            let same = self.old != self.new || old_root == new_root;
            return same && self.path.is_empty() && self.old <= self.new;
        }
        if self.old > self.new || self.path.len() > PATH_MAX {
            return false;
        }
        // The old root itself is left out of the path where the old tree is a perfect subtree.
        let (first, rest) = if self.old.is_power_of_two() {
            (*old_root, self.path.as_slice())
        } else {
            match self.path.split_first() {
                Some((first, rest)) => (*first, rest),
                None => return false,
            }
        };
        let shift = (self.old - 1).trailing_ones();
        let (mut node, mut last) = ((self.old - 1) >> shift, (self.new - 1) >> shift);
        let (mut old_hash, mut new_hash) = (first, first);
        for sibling in rest {
            if last == 0 {
                return false;
            }
            if node & 1 == 1 || node == last {
                old_hash = node_hash(sibling, &old_hash);
                new_hash = node_hash(sibling, &new_hash);
                while node & 1 == 0 && node != 0 {
                    node >>= 1;
                    last >>= 1;
                }
            } else {
                new_hash = node_hash(&new_hash, sibling);
            }
            node >>= 1;
            last >>= 1;
        }
        last == 0 && old_hash == *old_root && new_hash == *new_root
    }
}

/// That an entry is in the log, as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogProof {
    /// The entry's index.
    pub index: u64,
    /// The inclusion path, from the leaf upwards.
    pub path: Vec<Sha256>,
    /// The checkpoint, a signed note, as it was.
    pub checkpoint: String,
}

impl LogProof {
    /// Verifies that the entry with these bytes is in the log that the policy trusts.
    ///
    /// # Errors
    /// As [`Policy::check`]; [`LogError::Proof`] when the path does not lead to the checkpoint's root.
    pub fn verify(&self, entry: &[u8], policy: &Policy) -> Result<Opened, LogError> {
        let opened = policy.check(&self.checkpoint)?;
        let size = opened.checkpoint.size;
        let proof = InclusionProof { index: self.index, size, path: self.path.clone() };
        ensure(
            proof.leads(&leaf_hash(entry), &opened.checkpoint.root),
            LogError::Proof("does not lead to the log's root"),
        )?;
        Ok(opened)
    }
}

impl fmt::Display for LogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{PROOF_HEADER}\nindex {}", self.index)?;
        write_path(f, &self.path)?;
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for LogProof {
    type Err = LogError;

    fn from_str(text: &str) -> Result<LogProof, LogError> {
        const SHAPE: LogError = LogError::Proof("is not a tlog-proof");
        let rest = text.strip_prefix(PROOF_HEADER).and_then(|rest| rest.strip_prefix('\n')).ok_or(SHAPE)?;
        let (head, checkpoint) = rest.split_once("\n\n").ok_or(SHAPE)?;
        let mut lines = head.split('\n').peekable();
        // Nobody vouches for the extra line, and we have no use for it.
        let _extra = lines.next_if(|line| line.starts_with("extra "));
        let index = lines.next().and_then(|line| decimal(line.strip_prefix("index ")?)).ok_or(SHAPE)?;
        Ok(LogProof { index, path: read_path(lines)?, checkpoint: checkpoint.to_owned() })
    }
}

/// A hash a line.
pub(super) fn write_path(f: &mut fmt::Formatter<'_>, path: &[Sha256]) -> fmt::Result {
    path.iter().try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash.0)))
}

/// At most 63 lines of a hash each.
pub(super) fn read_path<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<Sha256>, LogError> {
    let path: Vec<Sha256> = lines
        .take(PATH_MAX + 1)
        .map(|line| hash(line).ok_or(LogError::Proof("has a line that is no hash")))
        .collect::<Result<_, _>>()?;
    ensure(path.len() <= PATH_MAX, LogError::Proof("has over 63 hashes"))?;
    Ok(path)
}
