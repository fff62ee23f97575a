//! The right edge of a log's tree: all that a writer keeps to append and to know the root.

use crate::hash::sha256;
use crate::merkle::node_hash;
use schemas::Sha256;

/// The complete subtrees of a tree, the largest first: one for each bit that is set in its size.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    open: Vec<Sha256>,
}

impl Frontier {
    /// From what was stored; none when it is not as many subtrees as the size has bits set.
    #[must_use]
    pub fn restore(size: u64, open: Vec<Sha256>) -> Option<Frontier> {
        (open.len() == size.count_ones() as usize).then_some(Frontier { size, open })
    }

    /// How many leaves there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The complete subtrees, to be stored.
    #[must_use]
    pub fn open(&self) -> &[Sha256] {
        &self.open
    }

    /// Appends a leaf; tells of each hash of a tile at level 1 or above that is complete with it: (level, index, hash).
    pub fn push(&mut self, leaf: Sha256, mut complete: impl FnMut(u8, u64, Sha256)) {
        let mut merged = leaf;
        let mut height: u8 = 0;
        // As in binary addition: each trailing one of the old size is a subtree as large as what is carried.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.open.pop() {
                merged = node_hash(&left, &merged);
            }
            height += 1;
            if height.is_multiple_of(8) {
                complete(height / 8, self.size >> height, merged);
            }
        }
        self.open.push(merged);
        self.size += 1;
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Sha256 {
        let mut subtrees = self.open.iter().rev().copied();
        match subtrees.next() {
            Some(smallest) => subtrees.fold(smallest, |right, left| node_hash(&left, &right)),
            None => sha256(&[]),
        }
    }
}
