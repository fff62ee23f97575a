//! Takes the evidence about one document out of an archive.

use super::{FORMAT, Path, README, SUMS, Statement, lines, sums};
use crate::error::{ArchiveError, at};
use crate::list::salted;
use crate::reader::Archive;
use crate::record::Bag;
use crate::tar;
use crate::trust::Trust;
use crate::{rehash, renewal};
use schemas::Sha256;
use zegel_crypto::bag::{Form, Header, leaf};
use zegel_crypto::evidence_record::EvidenceRecord;
use zegel_crypto::hash::sha256;
use zegel_crypto::merkle::{Tree, leaf_hash};
use zegel_crypto::tsa::gen_time;
use zegel_timestamp::xml::{Entry, read_bag_bytes};

/// Which document.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// The hospital's number of it; found by the hash where it is not known.
    pub reference: Option<u64>,
    /// The document, to be put into the file.
    pub document: Option<&'a [u8]>,
    /// SHA-256 of the document, where only that is known.
    pub digest: Option<Sha256>,
    /// Where the hospital salts its hashes.
    pub salt: Option<&'a [u8]>,
}

impl Wanted<'_> {
    fn document_digest(&self) -> Option<Sha256> {
        self.document.map(sha256).or(self.digest)
    }

    /// The hash that its entry has.
    #[must_use]
    pub fn hash(&self) -> Option<Sha256> {
        let digest = self.document_digest()?;
        Some(self.salt.map_or(digest, |salt| salted(salt, &digest)))
    }

    fn is(&self, entry: &Entry) -> bool {
        entry.reference > 0
            && self.reference.is_none_or(|reference| reference == entry.reference)
            && (self.reference.is_some() || self.hash().is_some_and(|hash| hash == entry.hash))
    }
}

/// The bag that holds a document, and its entry; none when no bag does.
///
/// # Errors
/// When a file cannot be read, or neither reference nor document is given.
pub fn find(archive: &Archive, wanted: &Wanted<'_>) -> Result<Option<(u64, Entry)>, ArchiveError> {
    if wanted.reference.is_none() && wanted.hash().is_none() {
        return Err(ArchiveError::input("document", "its reference or its content must be given"));
    }
    for (segment, slot) in archive.bags() {
        let body = segment.body(slot).map_err(at(&archive.folder.join(&segment.name)))?;
        let Ok(bag) = Bag::decode(&body) else { continue };
        let mut found = None;
        let _faults_are_for_the_audit = read_bag_bytes(bag.xml, |entry| {
            if found.is_none() && wanted.is(entry) {
                found = Some(*entry);
            }
        });
        if let Some(entry) = found {
            return Ok(Some((slot.sequence, entry)));
        }
    }
    Ok(None)
}

/// All evidence about one document, as a file.
///
/// # Errors
/// When no bag holds it, the bag cannot be read, or its entry has another hash than the document.
pub fn make(archive: &Archive, wanted: &Wanted<'_>, trust: &Trust) -> Result<Vec<u8>, ArchiveError> {
    let refused = |rule: &str| ArchiveError::input("evidence", rule);
    let none = match wanted.salt {
        Some(_) => "no bag of the archive holds this document",
        None => "no bag of the archive holds this document; where its hash is salted, give --salt",
    };
    let (sequence, entry) = find(archive, wanted)?.ok_or_else(|| refused(none))?;
    let body = archive.bag_body(sequence)?;
    let bag = Bag::decode(&body).map_err(|_| refused("the bag cannot be read"))?;
    let header = Header::decode(bag.header).map_err(|_| refused("the bag's header cannot be read"))?;
    if header.form == Form::Salted && wanted.document_digest().is_some() != wanted.salt.is_some() {
        return Err(refused("the bag's hashes are salted: give the document and its salt, or neither"));
    }
    if wanted.hash().is_some_and(|hash| hash != entry.hash) {
        return Err(refused("another document was stamped under this reference"));
    }
    let stamped = gen_time(bag.tsr).map_err(|_| refused("the bag's token cannot be read"))?;
    let salt = wanted.salt.map(hex::encode);
    let statement = Statement {
        format: FORMAT.to_owned(),
        hospital: header.hospital.clone(),
        sequence,
        reference: entry.reference,
        hash: entry.hash,
        salt: salt.clone(),
        document_sha256: wanted.document_digest(),
        merkle: path(bag.xml, entry.reference).ok_or_else(|| refused("the bag's XML cannot be read"))?,
        stamped,
        openssl: lines(trust.authorities.len(), wanted.document.is_some(), salt.as_deref(), stamped),
    };
    pack(archive, wanted, trust, &bag, &statement)
}

fn pack(
    archive: &Archive,
    wanted: &Wanted<'_>,
    trust: &Trust,
    bag: &Bag<'_>,
    statement: &Statement,
) -> Result<Vec<u8>, ArchiveError> {
    let text = statement.encode();
    let mut files: Vec<tar::File<'_>> = vec![("README.txt", README.as_bytes()), ("evidence.json", &text)];
    files.extend(wanted.document.map(|document| ("document", document)));
    files.extend([("bag.xml", bag.xml), ("bag.tsr", bag.tsr), ("bag.header", bag.header)]);
    let authorities: Vec<(String, &[u8])> =
        (1..).zip(&trust.authorities).map(|(n, ca)| (format!("ca-{n}.pem"), ca.pem.as_bytes())).collect();
    files.extend(authorities.iter().map(|(name, bytes)| (name.as_str(), *bytes)));
    let materials = archive.materials()?;
    let lists: Vec<(String, &[u8])> = (1..)
        .zip(materials.iter().filter(|(name, _)| name.ends_with(".crl")))
        .map(|(n, (_, bytes))| (format!("{n}.crl"), bytes.as_slice()))
        .collect();
    files.extend(lists.iter().map(|(name, bytes)| (name.as_str(), *bytes)));
    let proof = archive.log_proofs()?.remove(&statement.sequence);
    files.extend(proof.as_deref().map(|text| ("log-proof.txt", text.as_bytes())));
    let renewal = renewal::records(archive)?.remove(&statement.sequence);
    files.extend(renewal.as_deref().map(|record| ("renewal.ers", record)));
    let own = renewal.as_deref().map(|record| of_document(archive, record, statement)).transpose()?.flatten();
    files.extend(own.as_deref().map(|record| ("document.ers", record)));
    let digests = sums(&files);
    files.push((SUMS, digests.as_bytes()));
    tar::write(&files, statement.stamped).ok_or(ArchiveError::TooLarge("evidence"))
}

/// The document's own evidence record, where it was hashed anew with its bag.
fn of_document(archive: &Archive, record: &[u8], statement: &Statement) -> Result<Option<Vec<u8>>, ArchiveError> {
    let Some(by_chain) = rehash::leaves(archive)?.remove(&statement.sequence) else { return Ok(None) };
    let record = EvidenceRecord::decode(record).map_err(renewal::failed)?;
    let own = rehash::record_of(&record, &by_chain, statement.reference).map_err(renewal::failed)?;
    own.map(|own| own.encode().map_err(renewal::failed)).transpose()
}

/// The inclusion proof of a reference.
fn path(xml: &[u8], reference: u64) -> Option<Path> {
    let mut position = None;
    let mut leaves = 0;
    read_bag_bytes(xml, |entry| {
        if entry.reference == reference && reference > 0 {
            position = Some(leaves);
        }
        leaves += u64::from(entry.reference > 0);
    })
    .ok()?;
    let mut tree = Tree::proving(position?);
    read_bag_bytes(xml, |entry| {
        if entry.reference > 0 {
            tree.push_hash(leaf_hash(&leaf(entry.reference, &entry.hash)));
        }
    })
    .ok()?;
    let (_, proof) = tree.prove()?;
    Some(Path { index: proof.index, size: proof.size, path: proof.path })
}
