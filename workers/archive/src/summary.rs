//! A tree of digests over a bag's entries whose shape depends on the entries alone, so that two trees can be compared from
//! the top and only what differs is looked at.
//!
//! Entries are grouped in order; a group ends after an entry whose Merkle leaf hash ends in six zero bits, so an entry that is
//! missing or added moves no other group. A group's digest is `SHA-256(0x02 ‖ leaf hashes)`; groups are grouped by the same
//! rule on their digests (`SHA-256(0x03 ‖ digests)`), level by level, until one is left. With `d` differences among `n`
//! entries a comparison reads about `64 · d · log64 n` digests. (Somebody who grinds hashes can make a group long; the
//! comparison is then slower, not wrong.)
//!
//! Encoding: `levels (u8)`, then from the groups of entries up: `count (u32)` and as many nodes, each `digest ‖ entries or
//! nodes below (u32)`, on the lowest level followed by `offset (u64)` of the group's first entry in the XML, all ones where
//! the XML is not in our own form.

use schemas::Sha256;
use std::collections::HashMap;
use zegel_crypto::hash::sha256;

/// Groups have 64 members on average.
const END_MASK: u8 = 0x3f;
/// Room for the members of most groups.
const OPEN_BYTES: usize = 1 + 256 * 32;
/// No tree of real entries is as high; the top level takes all that is left.
const LEVELS_MAX: usize = 16;
/// An offset that is not known.
const UNKNOWN: u64 = u64::MAX;

/// One group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Over everything below.
    pub digest: Sha256,
    /// The first entry or node below it, counted on that level.
    pub first: u32,
    /// How many are below it.
    pub count: u32,
    /// Lowest level: where its first entry begins in the XML, if that is known.
    pub offset: Option<u64>,
}

/// The whole tree: levels from the groups of entries up; none for a bag without entries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    levels: Vec<Vec<Node>>,
}

/// What a comparison found: groups of entries that the other side does not have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// Groups on this side only.
    pub here: Vec<Node>,
    /// Groups on the other side only.
    pub there: Vec<Node>,
    /// The same groups stand in another order.
    pub reordered: bool,
    /// Nodes that were read on both sides.
    pub visited: u64,
}

/// Builds a tree entry by entry.
#[derive(Default)]
pub struct Builder {
    groups: Vec<Node>,
    open: Option<Open>,
    next: u32,
}

struct Open {
    /// What is hashed when the group is closed: at once, which for some 2 KiB is twice as fast as piece by piece.
    bytes: Vec<u8>,
    first: u32,
    count: u32,
    offset: Option<u64>,
}

impl Open {
    fn new(level: u8, first: u32, offset: Option<u64>) -> Open {
        let mut bytes = Vec::with_capacity(OPEN_BYTES);
        bytes.push(2 + level.min(1));
        Open { bytes, first, count: 0, offset }
    }

    fn take(&mut self, member: &Sha256) {
        self.bytes.extend_from_slice(&member.0);
        self.count += 1;
    }

    fn close(self) -> Node {
        Node { digest: sha256(&self.bytes), first: self.first, count: self.count, offset: self.offset }
    }
}

fn ends_group(member: &Sha256) -> bool {
    member.0[31] & END_MASK == 0
}

impl Builder {
    /// Takes the next entry: its Merkle leaf hash, and where it begins in the XML.
    pub fn push(&mut self, leaf: &Sha256, offset: Option<u64>) {
        let open = self.open.get_or_insert_with(|| Open::new(0, self.next, offset));
        open.take(leaf);
        self.next = self.next.saturating_add(1);
        if ends_group(leaf) {
            self.groups.extend(self.open.take().map(Open::close));
        }
    }

    /// The tree over all entries so far.
    #[must_use]
    pub fn finish(mut self) -> Summary {
        self.groups.extend(self.open.take().map(Open::close));
        let mut levels = vec![self.groups];
        while levels.last().is_some_and(|top| top.len() > 1) {
            let last_level = levels.len() + 1 >= LEVELS_MAX;
            let above = levels.last().map(|below| group(below, last_level)).unwrap_or_default();
            levels.push(above);
        }
        levels.retain(|level| !level.is_empty());
        Summary { levels }
    }
}

fn group(below: &[Node], all_in_one: bool) -> Vec<Node> {
    let mut groups = Vec::new();
    let mut open: Option<Open> = None;
    for (index, node) in (0u32..).zip(below) {
        let group = open.get_or_insert_with(|| Open::new(1, index, None));
        group.take(&node.digest);
        if ends_group(&node.digest) && !all_in_one {
            groups.extend(open.take().map(Open::close));
        }
    }
    groups.extend(open.take().map(Open::close));
    groups
}

impl Summary {
    /// The digest over everything; none without entries.
    #[must_use]
    pub fn root(&self) -> Option<Sha256> {
        self.levels.last().and_then(|top| top.first()).map(|node| node.digest)
    }

    /// The groups of entries, in order.
    #[must_use]
    pub fn groups(&self) -> &[Node] {
        self.levels.first().map_or(&[], Vec::as_slice)
    }

    /// Compares two trees from the top.
    #[must_use]
    pub fn compare(&self, other: &Summary) -> Difference {
        let mut found = Difference::default();
        let level = self.levels.len().min(other.levels.len());
        let mut here = self.down_to(level);
        let mut there = other.down_to(level);
        found.visited = (here.len() + there.len()) as u64;
        if level == 0 {
            // One of them has no entries.
            found.here = self.groups().to_vec();
            found.there = other.groups().to_vec();
            return found;
        }
        for level in (0..level).rev() {
            found.reordered |= drop_common(&mut here, &mut there);
            if level > 0 {
                here = self.below(level, &here);
                there = other.below(level, &there);
                found.visited += (here.len() + there.len()) as u64;
            }
        }
        (found.here, found.there) = (here, there);
        found
    }

    /// All nodes of the level under `level`, by way of the top.
    fn down_to(&self, level: usize) -> Vec<Node> {
        level.checked_sub(1).and_then(|index| self.levels.get(index)).cloned().unwrap_or_default()
    }

    fn below(&self, level: usize, nodes: &[Node]) -> Vec<Node> {
        let Some(below) = level.checked_sub(1).and_then(|index| self.levels.get(index)) else { return Vec::new() };
        let range = |node: &Node| node.first as usize..(node.first as usize).saturating_add(node.count as usize);
        nodes.iter().flat_map(|node| below.get(range(node)).unwrap_or_default()).copied().collect()
    }

    /// The bytes of the tree.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![u8::try_from(self.levels.len()).unwrap_or(u8::MAX)];
        for (height, level) in self.levels.iter().enumerate() {
            out.extend_from_slice(&u32::try_from(level.len()).unwrap_or(u32::MAX).to_be_bytes());
            for node in level {
                out.extend_from_slice(&node.digest.0);
                out.extend_from_slice(&node.count.to_be_bytes());
                if height == 0 {
                    out.extend_from_slice(&node.offset.unwrap_or(UNKNOWN).to_be_bytes());
                }
            }
        }
        out
    }

    /// Reads a tree; none when the bytes are not one, whatever they are.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Summary> {
        let (levels, mut rest) = bytes.split_first()?;
        let mut read = Vec::new();
        for height in 0..*levels {
            let (count, after) = rest.split_first_chunk::<4>()?;
            let count = u32::from_be_bytes(*count) as usize;
            let size = if height == 0 { 44 } else { 36 };
            let (nodes, after) = after.split_at_checked(count.checked_mul(size)?)?;
            let mut first = 0u32;
            let mut level = Vec::with_capacity(count);
            for node in nodes.chunks_exact(size) {
                let count = u32::from_be_bytes(*node.get(32..)?.first_chunk()?);
                let offset = node.get(36..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
                let digest = Sha256(*node.first_chunk()?);
                level.push(Node { digest, first, count, offset: offset.filter(|offset| *offset != UNKNOWN) });
                first = first.checked_add(count)?;
            }
            // Each level counts exactly what is on the one below it.
            let below = read.last().map(Vec::len);
            if below.is_some_and(|below| below != first as usize) || level.is_empty() {
                return None;
            }
            read.push(level);
            rest = after;
        }
        let whole = rest.is_empty() && read.last().is_none_or(|top: &Vec<Node>| top.len() == 1);
        whole.then_some(Summary { levels: read })
    }
}

/// Takes away what both lists have, each as often as both have it; whether they have it in another order.
fn drop_common(here: &mut Vec<Node>, there: &mut Vec<Node>) -> bool {
    let mut left: HashMap<[u8; 32], u32> = HashMap::new();
    for node in there.iter() {
        *left.entry(node.digest.0).or_default() += 1;
    }
    let mut common: HashMap<[u8; 32], u32> = HashMap::new();
    let take = |counts: &mut HashMap<[u8; 32], u32>, node: &Node| {
        let count = counts.get_mut(&node.digest.0).filter(|count| **count > 0);
        count.map(|count| *count -= 1).is_some()
    };
    let (mut order_here, mut order_there) = (Vec::new(), Vec::new());
    here.retain(|node| {
        let both = take(&mut left, node);
        if both {
            *common.entry(node.digest.0).or_default() += 1;
            order_here.push(node.digest);
        }
        !both
    });
    there.retain(|node| {
        let both = take(&mut common, node);
        if both {
            order_there.push(node.digest);
        }
        !both
    });
    order_here != order_there
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn leaf(n: u64) -> Sha256 {
        sha256(&n.to_be_bytes())
    }

    fn tree(entries: &[u64]) -> Summary {
        let mut builder = Builder::default();
        for (index, n) in entries.iter().enumerate() {
            builder.push(&leaf(*n), Some(index as u64));
        }
        builder.finish()
    }

    /// The entries of the groups that differ.
    fn entries(all: &[u64], nodes: &[Node]) -> BTreeSet<u64> {
        nodes.iter().flat_map(|node| &all[node.first as usize..(node.first + node.count) as usize]).copied().collect()
    }

    #[test]
    fn a_tree_survives_its_encoding_and_no_cut_of_it_is_one() {
        for size in [0, 1, 2, 63, 64, 65, 5_000] {
            let all: Vec<u64> = (0..size).collect();
            let bytes = tree(&all).encode();
            assert_eq!(Summary::decode(&bytes), Some(tree(&all)));
            for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
                assert!(size == 0 && cut == 1 || Summary::decode(&bytes[..cut]).is_none() || cut == bytes.len());
            }
        }
    }

    #[test]
    fn the_cost_of_a_comparison_grows_with_the_differences_and_the_logarithm() {
        let mut costs = Vec::new();
        for size in [1_000u64, 10_000, 100_000, 1_000_000] {
            let all: Vec<u64> = (0..size).collect();
            let mut other = all.clone();
            other[size as usize / 3] = u64::MAX;
            let found = tree(&all).compare(&tree(&other));
            assert!(entries(&all, &found.here).contains(&(size / 3)));
            costs.push(found.visited);
        }
        // A thousand times as many entries, and far from a hundred times the cost.
        assert!(costs[3] < 1_500, "{costs:?}");
    }

    #[test]
    fn swapped_entries_are_seen_even_when_whole_groups_are_swapped() {
        let all: Vec<u64> = (0..2_000).collect();
        let one = tree(&all);
        let groups = one.groups();
        assert!(groups.len() > 4);
        let mut other = all.clone();
        let (a, b) = (groups[1], groups[2]);
        let middle = a.count as usize;
        other[a.first as usize..(b.first + b.count) as usize].rotate_left(middle);
        let found = one.compare(&tree(&other));
        assert!(found.reordered && found.here.is_empty() && found.there.is_empty());
        let mut near = all.clone();
        near.swap(a.first as usize, a.first as usize + 1);
        let found = one.compare(&tree(&near));
        assert!(!found.here.is_empty() && entries(&all, &found.here) == entries(&near, &found.there));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_difference_lies_in_the_groups_that_are_shown(
            size in 0u64..3_000, gone in prop::collection::btree_set(0u64..3_000, 0..6),
            added in prop::collection::btree_set(10_000u64..20_000, 0..6),
        ) {
            let all: Vec<u64> = (0..size).collect();
            let mut other: Vec<u64> = all.iter().copied().filter(|n| !gone.contains(n)).collect();
            for (place, n) in added.iter().enumerate() {
                other.insert((place * 37).min(other.len()), *n);
            }
            let found = tree(&all).compare(&tree(&other));
            let gone: BTreeSet<u64> = gone.into_iter().filter(|n| *n < size).collect();
            let (here, there) = (entries(&all, &found.here), entries(&other, &found.there));
            prop_assert!(gone.is_subset(&here) && added.is_subset(&there));
            prop_assert_eq!(here.difference(&there).copied().collect::<BTreeSet<_>>(), gone);
            prop_assert_eq!(there.difference(&here).copied().collect::<BTreeSet<_>>(), added);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _tree = Summary::decode(&bytes);
        }
    }
}
