//! Hash trees of RFC 4998 section 4.2: hashes under one node are sorted, joined and hashed; leaves have no prefix of their own.

use crate::tsa::Digest;

/// What leads from a leaf to the root of a tree (`reducedHashtree`): the hashes under each node on the way, in lists. The first
/// list holds the leaf's own hashes, later ones what is put to the hash below.
pub type Reduced = Vec<Vec<Vec<u8>>>;

/// A node, with the leaves under it.
type Ranged = (Vec<u8>, std::ops::Range<usize>);

/// The root over a group of hashes, and what leads to it from each of them.
#[must_use]
pub fn tree(digest: Digest, leaves: &[Vec<u8>]) -> (Vec<u8>, Vec<Reduced>) {
    if let [leaf] = leaves {
        // A group of one is hashed once all the same, so that every renewal has the same form.
        return (node(digest, leaves), vec![vec![vec![leaf.clone()]]]);
    }
    let (root, mut paths) = above(digest, leaves);
    for (path, leaf) in paths.iter_mut().zip(leaves) {
        if let Some(first) = path.first_mut() {
            first.push(leaf.clone());
            first.sort_unstable();
        }
    }
    (root, paths)
}

/// The root over nodes, and the siblings on the way to it from each of them; of one node it is the node.
#[must_use]
pub fn above(digest: Digest, nodes: &[Vec<u8>]) -> (Vec<u8>, Vec<Reduced>) {
    let mut paths: Vec<Reduced> = vec![Vec::new(); nodes.len()];
    let mut level: Vec<Ranged> = nodes.iter().enumerate().map(|(at, node)| (node.clone(), at..at + 1)).collect();
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| pair_of(digest, pair, &mut paths)).collect();
    }
    (level.first().map_or_else(|| digest.of(&[]), |(root, _)| root.clone()), paths)
}

fn pair_of(digest: Digest, pair: &[Ranged], paths: &mut [Reduced]) -> Ranged {
    let [(left, one), (right, other)] = pair else { return pair[0].clone() };
    for (sibling, under) in [(right, one), (left, other)] {
        paths[under.clone()].iter_mut().for_each(|path| path.push(vec![sibling.clone()]));
    }
    (node(digest, &[left.clone(), right.clone()]), one.start..other.end)
}

/// The same root, with the siblings on the way from one node alone: a bag may hold a million.
#[must_use]
pub fn climb(digest: Digest, mut level: Vec<Vec<u8>>, mut at: usize) -> (Vec<u8>, Reduced) {
    let mut path = Reduced::new();
    while level.len() > 1 {
        path.extend(level.get(at ^ 1).map(|sibling| vec![sibling.clone()]));
        let up = |pair: &[Vec<u8>]| if let [alone] = pair { alone.clone() } else { node(digest, pair) };
        level = level.chunks(2).map(up).collect();
        at /= 2;
    }
    (level.pop().unwrap_or_else(|| digest.of(&[])), path)
}

/// The hash over hashes in binary ascending order (section 4.2).
#[must_use]
pub fn node(digest: Digest, hashes: &[Vec<u8>]) -> Vec<u8> {
    let mut hashes = hashes.to_vec();
    hashes.sort_unstable();
    digest.of(&hashes.concat())
}

/// Whether a path begins with these hashes: one may stand there among others, a group's are all that stand there (section 4.3).
pub(super) fn joins(members: &[Vec<u8>], reduced: &Reduced) -> bool {
    match (members, reduced.first()) {
        ([], _) | (_, None) => false,
        ([one], Some(first)) => first.contains(one),
        (all, Some(first)) => {
            let (mut all, mut first) = (all.to_vec(), first.clone());
            all.sort_unstable();
            first.sort_unstable();
            all == first
        }
    }
}

/// Where a path leads; none when there is none.
pub(super) fn root(digest: Digest, reduced: &Reduced) -> Option<Vec<u8>> {
    let (first, rest) = reduced.split_first()?;
    Some(rest.iter().fold(node(digest, first), |hash, list| node(digest, &[list.as_slice(), &[hash]].concat())))
}
