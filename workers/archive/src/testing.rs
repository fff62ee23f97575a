//! Makes chained, stamped bags without a platform: for tests and load tests, here and in other crates.
//!
//! Binding (which makes the chain) and stamping (which takes the time) are two steps, so that a load test can stamp many bags
//! beside each other.

use schemas::{MailboxAddress, Millis, Sha256};
use zegel_crypto::bag::{Form, Header, leaf};
use zegel_crypto::hash::sha256;
use zegel_crypto::merkle::Tree;
use zegel_crypto::tsa::{Authority, TsaError};
use zegel_timestamp::xml::BagWriter;

/// Windows of made bags: five minutes.
pub const WINDOW_MS: i64 = 300_000;

/// A bag that is bound and chained.
#[derive(Debug, Clone)]
pub struct Bound {
    /// Its header.
    pub header: Header,
    /// Its XML.
    pub xml: Vec<u8>,
}

/// A bag with its token.
#[derive(Debug, Clone)]
pub struct Made {
    /// Its header.
    pub header: Header,
    /// Its XML.
    pub xml: Vec<u8>,
    /// The response.
    pub tsr: Vec<u8>,
}

/// Makes the bags of one hospital, one after the other.
#[derive(Debug, Clone)]
pub struct Maker {
    hospital: MailboxAddress,
    last: Option<Header>,
    start: Millis,
    /// What headers say that hashes are made of.
    pub form: Form,
}

impl Maker {
    /// A hospital whose first window begins at `start`.
    #[must_use]
    pub fn new(hospital: MailboxAddress, start: Millis) -> Maker {
        Maker { hospital, last: None, start, form: Form::Plain }
    }

    /// The next bag.
    #[must_use]
    pub fn bind(&mut self, entries: &[(u64, Sha256)]) -> Bound {
        let start = self.last.as_ref().map_or(self.start, |last| last.end);
        let sequence = self.last.as_ref().map_or(1, |last| last.sequence + 1);
        let mut tree = Tree::new();
        entries.iter().for_each(|(reference, hash)| tree.push(&leaf(*reference, hash)));
        let header = Header {
            hospital: self.hospital.clone(),
            sequence,
            start,
            end: start.plus(WINDOW_MS),
            count: entries.len() as u64,
            root: tree.root(),
            previous: self.last.as_ref().map(Header::hash),
            form: self.form,
        };
        self.last = Some(header.clone());
        let xml = xml(&header, entries);
        Bound { header, xml }
    }

    /// The next bag, stamped one second after its window's end.
    ///
    /// # Errors
    /// As [`Authority::stamp`].
    pub fn make(&mut self, authority: &Authority, entries: &[(u64, Sha256)]) -> Result<Made, TsaError> {
        let bound = self.bind(entries);
        let at = bound.header.end.plus(1_000);
        stamp(bound, authority, at)
    }
}

/// Has a bag stamped.
///
/// # Errors
/// As [`Authority::stamp`].
pub fn stamp(bound: Bound, authority: &Authority, at: Millis) -> Result<Made, TsaError> {
    let tsr = authority.stamp(&sha256(&bound.xml), None, at)?;
    Ok(Made { header: bound.header, xml: bound.xml, tsr })
}

/// The XML of a bag with this header.
#[must_use]
pub fn xml(header: &Header, entries: &[(u64, Sha256)]) -> Vec<u8> {
    let write = || {
        let mut writer = BagWriter::new(Vec::with_capacity(256 + entries.len() * 112), header.sequence)?;
        writer.entry(0, &header.hash())?;
        entries.iter().try_for_each(|(reference, hash)| writer.entry(*reference, hash))?;
        writer.finish()
    };
    // Writing to memory does not fail.
    write().unwrap_or_default()
}

/// Entries with these references; each hash follows from its reference and a seed.
#[must_use]
pub fn entries(references: std::ops::Range<u64>, seed: u8) -> Vec<(u64, Sha256)> {
    references.map(|reference| (reference, sha256(&[&reference.to_be_bytes()[..], &[seed]].concat()))).collect()
}

/// An evidence file in which one file has another content, under digests that fit again: what a forger makes. None when it
/// cannot be read.
#[must_use]
pub fn forged(evidence: &[u8], name: &str, content: Option<&[u8]>) -> Option<Vec<u8>> {
    let (files, at) = crate::tar::read(evidence)?;
    let (_, others) = files.split_last()?;
    let mut files: Vec<crate::tar::File<'_>> = others.iter().filter(|(found, _)| *found != name).copied().collect();
    let place = others.iter().position(|(found, _)| *found == name).unwrap_or(files.len());
    if let Some(content) = content {
        files.insert(place, (name, content));
    }
    let digests = crate::evidence::sums(&files);
    files.push((crate::evidence::SUMS, digests.as_bytes()));
    crate::tar::write(&files, at)
}
