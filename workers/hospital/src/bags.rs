//! Verifies a bag that came from the platform, as an auditor would: XML, header, Merkle root, token, and its place in the chain.
//!
//! Memory: the bag's XML and 40 bytes an entry.
//! Failure behaviour: the first fault refuses the bag, by the name that an audit would give it (I8).

use crate::platform::RawBag;
use schemas::{MailboxAddress, Millis, Sha256};
use zegel_archive::error::ArchiveError;
use zegel_archive::reader::Archive;
use zegel_archive::record::Bag;
use zegel_archive::trust::Trust;
use zegel_crypto::bag::Header;
use zegel_crypto::tsa::{TsaError, gen_time};
use zegel_timestamp::audit::{Link, chain, check_alone};

/// A bag that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Its header.
    pub header: Header,
    /// Reference and hash of its entries, entry 0 left out.
    pub entries: Vec<(u64, Sha256)>,
    /// What the next bag must continue.
    pub link: Link,
}

/// What a bag must continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// Nothing: it is the hospital's first.
    Nothing,
    /// This one.
    Bag(Box<Link>),
    /// A bag that the archive's policy deleted.
    Expired,
}

/// Checks a bag.
///
/// # Errors
/// The name of the first fault, as an audit says it.
pub fn verify(
    raw: &RawBag,
    trust: &Trust,
    hospital: &MailboxAddress,
    sequence: u64,
    before: &Before,
) -> Result<Verified, String> {
    let mut entries = Vec::new();
    let mut fault = None;
    let token = |imprint: &Sha256| {
        trust.verify(&raw.tsr, imprint).map_err(|found| {
            fault = Some(format!("{}: {}", found.name, found.text));
            TsaError::Refused("token does not count")
        })
    };
    let report = check_alone(&raw.xml, &raw.header, token, |entry, _| entries.push((entry.reference, entry.hash)));
    if let Some(fault) = fault {
        return Err(fault);
    }
    if let Some(found) = report.findings.first() {
        return Err(found.name().to_owned());
    }
    let (Some(header), Some(link)) = (report.header, report.link) else { return Err("bag-token".to_owned()) };
    if header.sequence != sequence || header.hospital != *hospital {
        return Err("bag-sequence".to_owned());
    }
    let found = match before {
        Before::Nothing => chain(&header, Some(link.gen_time), None),
        Before::Bag(before) => chain(&header, Some(link.gen_time), Some(before)),
        Before::Expired => Vec::new(),
    };
    match found.first() {
        Some(found) => Err(found.name().to_owned()),
        None => Ok(Verified { header, entries, link }),
    }
}

/// What the bag after `sequence` must continue, out of the archive.
///
/// # Errors
/// When the archive cannot be read.
pub fn before(archive: &Archive, sequence: u64) -> Result<Before, ArchiveError> {
    if sequence == 0 {
        return Ok(Before::Nothing);
    }
    if archive.bag(sequence).is_none() {
        return Ok(Before::Expired);
    }
    let body = archive.bag_body(sequence)?;
    let unusable = || ArchiveError::Input {
        what: format!("bag {sequence}"),
        rule: "the own archive's last bag cannot be read: run `zegel audit`".to_owned(),
    };
    let bag = Bag::decode(&body).map_err(|_| unusable())?;
    let header = Header::decode(bag.header).map_err(|_| unusable())?;
    let at: Millis = gen_time(bag.tsr).map_err(|_| unusable())?;
    Ok(Before::Bag(Box::new(Link { header, gen_time: at })))
}
