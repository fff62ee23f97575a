//! Hashes an archive's evidence anew before a digest weakens: hash-tree renewal (RFC 4998 section 5.3), of bags and of documents.
//!
//! A bag's evidence record gets a chain in the new digest `H`, whose first token is over a hash tree. Under it stand, for each bag,
//! `H(H(bag XML) ‖ H(chains before))`, and for each document of the bag that is at hand `H(H(document) ‖ H(chains before))`, with
//! the same of its salt where it has one. The bag alone would not do: it names documents by their old digest, and whoever can
//! make two documents with one old digest could show either. So whoever has the documents does this, over their exact bytes.
//! A document's own evidence record ([`record_of`]) is the bag's with the document's paths; it is not stored, but follows from
//! the hashes of the bag's documents ([`Leaves`]). A document that is left out once cannot join a later chain.
//! Crash safety: as [`crate::renewal`]; hashes whose chain never came belong to nothing and are replaced by the next run's.

use crate::error::{ArchiveError, at};
use crate::list::{SALT, salted};
use crate::reader::Archive;
use crate::record::{Bag, Foreign, Leaves, kinds};
use crate::renewal::{Due, GROUP, failed, select};
use crate::writer::Writer;
use schemas::Sha256;
use std::collections::HashMap;
use zegel_crypto::evidence_record::{EvidenceRecord, RecordError, Reduced, above, climb, node};
use zegel_crypto::hash::sha256;
use zegel_crypto::tsa::{Digest, token_of};
use zegel_timestamp::xml::{Entry, read_bag_bytes};

/// Documents that are at hand, by the hash that their entries have.
#[derive(Debug)]
pub struct Originals {
    digest: Digest,
    found: HashMap<Sha256, Original>,
}

#[derive(Debug)]
struct Original {
    /// The document in the new digest.
    hash: Vec<u8>,
    salt: Option<[u8; SALT]>,
}

/// What was hashed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Done {
    /// Bags.
    pub bags: u64,
    /// Documents in them.
    pub documents: u64,
    /// Entries whose documents were not at hand, or not in an earlier chain.
    pub absent: u64,
}

impl Originals {
    /// None yet; they will be hashed with this digest.
    #[must_use]
    pub fn new(digest: Digest) -> Originals {
        Originals { digest, found: HashMap::new() }
    }

    /// Adds a document's exact bytes, with every salt that it was stamped under.
    pub fn add(&mut self, document: &[u8], salts: &[[u8; SALT]]) {
        let (old, hash) = (sha256(document), self.digest.of(document));
        for salt in salts {
            let original = Original { hash: hash.clone(), salt: Some(*salt) };
            self.found.insert(salted(salt, &old), original);
        }
        self.found.insert(old, Original { hash, salt: None });
    }

    /// Adds the bags that the hospital made itself, which the archive holds.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn add_own_bags(&mut self, archive: &Archive) -> Result<(), ArchiveError> {
        for (segment, slot) in archive.records(kinds::FOREIGN) {
            let body = segment.body(slot).map_err(at(&archive.folder.join(&segment.name)))?;
            if let Ok(foreign) = Foreign::decode(&body) {
                self.add(foreign.bytes, &[]);
            }
        }
        Ok(())
    }
}

/// The bags whose evidence rests on a shorter digest than this one.
///
/// # Errors
/// As [`crate::renewal::due`].
pub fn due(archive: &Archive, digest: Digest) -> Result<Vec<Due>, ArchiveError> {
    select(archive, |due| due.record.digest().is_ok_and(|last| last.length() < digest.length()))
}

/// How many documents of these bags are at hand, without doing anything.
///
/// # Errors
/// When a bag cannot be read.
pub fn count(archive: &Archive, due: &[Due], originals: &Originals) -> Result<Done, ArchiveError> {
    let earlier = leaves(archive)?;
    let mut done = Done::default();
    for due in due {
        member(archive, due, originals, earlier.get(&due.sequence), &mut done)?;
    }
    Ok(done)
}

/// Hashes bags and the documents that are at hand anew, a group at a time. `stamp` gives a verified `TimeStampResp` over a hash.
///
/// # Errors
/// What `stamp` says, and [`ArchiveError::Io`]; groups before it are done and durable.
pub fn rehash(
    archive: &Archive,
    due: &[Due],
    originals: &Originals,
    writer: &mut Writer,
    mut stamp: impl FnMut(Digest, &[u8]) -> Result<Vec<u8>, ArchiveError>,
) -> Result<Done, ArchiveError> {
    let digest = originals.digest;
    let earlier = leaves(archive)?;
    let mut done = Done::default();
    for group in due.chunks(GROUP) {
        let member = |due: &Due| member(archive, due, originals, earlier.get(&due.sequence), &mut done);
        let members = group.iter().map(member).collect::<Result<Vec<_>, _>>()?;
        let roots: Vec<Vec<u8>> = members.iter().map(|member| member.root.clone()).collect();
        let (root, above) = above(digest, &roots);
        let token = token_of(&stamp(digest, &root)?).map_err(failed)?;
        for ((due, member), above) in group.iter().zip(members).zip(above) {
            let mut record = due.record.clone();
            record.begin_chain(&[member.path, above].concat(), &token).map_err(failed)?;
            if !member.leaves.documents.is_empty() {
                writer.append_leaves(&member.leaves)?;
            }
            writer.append_renewal(due.sequence, &record.encode().map_err(failed)?)?;
        }
        writer.sync()?;
    }
    Ok(done)
}

/// A bag's part of the hash tree.
struct Member {
    /// What leads from the XML to `root`.
    path: Reduced,
    root: Vec<u8>,
    leaves: Leaves,
}

fn member(
    archive: &Archive,
    due: &Due,
    originals: &Originals,
    earlier: Option<&ByChain>,
    done: &mut Done,
) -> Result<Member, ArchiveError> {
    let digest = originals.digest;
    let body = archive.bag_body(due.sequence)?;
    let unreadable = |_| ArchiveError::input(format!("bag {}", due.sequence), "its record cannot be read");
    let bag = Bag::decode(&body).map_err(unreadable)?;
    let mut found: Vec<(u64, &Original)> = Vec::new();
    let _faults_are_for_the_audit = read_bag_bytes(bag.xml, |Entry { reference, hash, .. }| {
        if *reference > 0 {
            done.absent += 1;
            found.extend(originals.found.get(hash).map(|original| (*reference, original)));
        }
    });
    found.sort_by_key(|(reference, _)| *reference);
    found.dedup_by_key(|(reference, _)| *reference);
    let chains = due.record.chains_digest(digest).map_err(failed)?;
    let documents = found.into_iter().filter_map(|(reference, original)| {
        let chains = match due.record.chains() {
            // The first chain is the bag's own.
            1 => chains.clone(),
            _ => record_of(&due.record, earlier?, reference).ok()??.chains_digest(digest).ok()?,
        };
        let salt = original.salt.map(|salt| digest.of(&salt));
        let hashes = [Some(original.hash.clone()), salt].into_iter().flatten();
        Some((reference, hashes.map(|hash| digest.of(&[hash, chains.clone()].concat())).collect()))
    });
    let leaves = Leaves { sequence: due.sequence, chain: due.record.chains() as u64, documents: documents.collect() };
    done.bags += 1;
    done.documents += leaves.documents.len() as u64;
    done.absent -= leaves.documents.len() as u64;
    let own = vec![digest.of(&[digest.of(bag.xml), chains].concat())];
    let (root, siblings) = climb(digest, nodes(digest, &own, &leaves), 0);
    Ok(Member { path: [vec![own], siblings].concat(), root, leaves })
}

/// The nodes of a bag: its own, then its documents'.
fn nodes(digest: Digest, own: &[Vec<u8>], leaves: &Leaves) -> Vec<Vec<u8>> {
    let documents = leaves.documents.iter().map(|(_, hashes)| node(digest, hashes));
    std::iter::once(node(digest, own)).chain(documents).collect()
}

/// A bag's documents, by the chain that they stand in.
pub(crate) type ByChain = HashMap<u64, Leaves>;

/// The documents of each bag that were hashed anew; of several lists for one chain the latest.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn leaves(archive: &Archive) -> Result<HashMap<u64, ByChain>, ArchiveError> {
    let mut found: HashMap<u64, ByChain> = HashMap::new();
    for (segment, slot) in archive.records(kinds::LEAVES) {
        let body = segment.body(slot).map_err(at(&archive.folder.join(&segment.name)))?;
        if let Ok(leaves) = Leaves::decode(&body) {
            found.entry(leaves.sequence).or_default().insert(leaves.chain, leaves);
        }
    }
    Ok(found)
}

/// What leads from a bag's documents to the root of their chain, when the list is the one that was stamped with the bag.
struct Place<'a> {
    digest: Digest,
    leaves: &'a Leaves,
    nodes: Vec<Vec<u8>>,
    /// From the bag's root upwards.
    above: Reduced,
}

impl<'a> Place<'a> {
    fn of(record: &EvidenceRecord, chain: usize, leaves: &'a Leaves) -> Result<Place<'a>, RecordError> {
        let other = RecordError::Refused("its documents' hashes are not those that were stamped");
        let (digest, path) = record.path(chain).ok_or(other.clone())?;
        let own = path.first().filter(|_| chain > 0).ok_or(other.clone())?;
        let nodes = nodes(digest, own, leaves);
        let (_, siblings) = climb(digest, nodes.clone(), 0);
        let above = path[1..].strip_prefix(siblings.as_slice()).ok_or(other)?.to_vec();
        Ok(Place { digest, leaves, nodes, above })
    }

    fn path(self, reference: u64) -> Option<Reduced> {
        let at = self.leaves.documents.binary_search_by_key(&reference, |(reference, _)| *reference).ok()?;
        let (_, siblings) = climb(self.digest, self.nodes, at + 1);
        Some([vec![self.leaves.documents[at].1.clone()], siblings, self.above].concat())
    }
}

/// The evidence record of a document, out of its bag's; none when it does not stand in every chain after the first.
///
/// # Errors
/// [`RecordError`] when the hashes of the bag's documents are not those that were stamped.
pub(crate) fn record_of(
    record: &EvidenceRecord,
    by_chain: &ByChain,
    reference: u64,
) -> Result<Option<EvidenceRecord>, RecordError> {
    let mut own = record.until(1);
    for chain in 1..record.chains() {
        let Some(leaves) = by_chain.get(&(chain as u64)) else { return Ok(None) };
        let Some(path) = Place::of(record, chain, leaves)?.path(reference) else { return Ok(None) };
        own.follow(record, chain, &path)?;
    }
    Ok(Some(own).filter(|own| own.chains() > 1))
}

/// Checks that a list is the one that was stamped with its bag, and names documents of the bag, each once.
///
/// # Errors
/// [`RecordError`] when it is not.
pub(crate) fn check(record: &EvidenceRecord, leaves: &Leaves, references: &[u64]) -> Result<(), RecordError> {
    let chain = usize::try_from(leaves.chain).unwrap_or(usize::MAX);
    Place::of(record, chain, leaves)?;
    let rising = leaves.documents.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let mut sorted = references.to_vec();
    sorted.sort_unstable();
    let known = leaves.documents.iter().all(|(reference, _)| sorted.binary_search(reference).is_ok());
    if rising && known { Ok(()) } else { Err(RecordError::Refused("its documents are not those of the bag")) }
}
