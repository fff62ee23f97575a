//! What stands in a segment, record by record.
//!
//! | kind | record | body |
//! | --- | --- | --- |
//! | 0 | [`Head`] | CBOR map: 1 hospital, 2 number of the segment |
//! | 1 | [`Bag`] | CBOR map: 1 sequence, 2 header, 3 XML, 4 time-stamp response, 5 request or null, 6 [`Summary`](crate::summary::Summary) |
//! | 2 | [`Material`] | CBOR map: 1 name, 2 bytes: certificate lists and certificates of the time |
//! | 3 | [`Renewal`] | CBOR map: 1 sequence of the bag, 2 evidence record (RFC 4998, DER) |
//! | 4 | [`Foreign`] | CBOR map: 1 time-stamp response, 2 bag as the hospital sent it, 3 sequence of the bag that holds its hash |
//! | 5 | [`LogProof`] | CBOR map: 1 sequence of the bag, 2 proof (C2SP tlog-proof, text) |
//! | 6 | [`Leaves`] | CBOR map: 1 sequence of the bag, 2 which chain of its evidence record, from 0, 3 array of documents: array of reference and hashes |
//! | 255 | index | see [`crate::segment`] |
//!
//! XML, responses and headers are kept byte for byte as they were stamped, sent or received.
//! Failure behaviour: bytes that are not of this form are [`NotARecord`]; nothing is guessed.

use crate::error::ArchiveError;
use crate::frame::BODY_MAX;
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};
use schemas::{MailboxAddress, Sha256};
use std::convert::Infallible;
use zegel_crypto::hash::{Hasher, sha256};

/// Kinds of records.
pub mod kinds {
    /// The first record of every segment.
    pub const HEAD: u8 = 0;
    /// A bag with its evidence.
    pub const BAG: u8 = 1;
    /// Certificates and certificate lists.
    pub const MATERIAL: u8 = 2;
    /// A renewed time stamp of a bag.
    pub const RENEWAL: u8 = 3;
    /// A bag that the hospital made itself.
    pub const FOREIGN: u8 = 4;
    /// That a bag stands in the log.
    pub const LOG_PROOF: u8 = 5;
    /// Documents of a bag that were hashed anew with it.
    pub const LEAVES: u8 = 6;
    /// The last record of a sealed segment.
    pub const INDEX: u8 = 255;
}

/// The body is not of its kind's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("record is not of its kind's form")]
pub struct NotARecord;

impl From<minicbor::decode::Error> for NotARecord {
    fn from(_: minicbor::decode::Error) -> NotARecord {
        NotARecord
    }
}

/// Whose segment it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Whose bags.
    pub hospital: MailboxAddress,
    /// 1, 2, 3 …
    pub number: u32,
}

/// A bag with its evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bag<'a> {
    /// 1, 2, 3 …
    pub sequence: u64,
    /// Deterministic CBOR (`zegel_crypto::bag`).
    pub header: &'a [u8],
    /// The `TimeStampBag`, the very bytes that were stamped.
    pub xml: &'a [u8],
    /// The RFC 3161 response, DER.
    pub tsr: &'a [u8],
    /// The RFC 3161 request, DER, where it was kept: its nonce must be in the token.
    pub request: Option<&'a [u8]>,
    /// The tree of digests over the entries, as [`crate::summary`] encodes it.
    pub summary: &'a [u8],
}

/// A certificate or a certificate list of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Material<'a> {
    /// A file name: what it is by its ending (`.pem`, `.crl`).
    pub name: &'a str,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// A renewed time stamp of a bag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal<'a> {
    /// Which bag.
    pub sequence: u64,
    /// The evidence record, DER.
    pub record: &'a [u8],
}

/// Documents of a bag that were hashed anew with it (hash-tree renewal).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaves {
    /// Which bag.
    pub sequence: u64,
    /// Which chain of its evidence record they stand in, from 0; never 0.
    pub chain: u64,
    /// References, rising, each with the hashes of its document and, where there is one, its salt.
    pub documents: Vec<(u64, Vec<Vec<u8>>)>,
}

/// That a bag stands in the platform's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogProof<'a> {
    /// Which bag.
    pub sequence: u64,
    /// The proof with its checkpoint.
    pub text: &'a str,
}

/// A bag that the hospital made itself and had stamped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign<'a> {
    /// The RFC 3161 response, DER.
    pub tsr: &'a [u8],
    /// The bag as it came.
    pub bytes: &'a [u8],
    /// The platform's bag that holds its hash; 0 where none does yet.
    pub held_by: u64,
}

/// What names a bag's whole evidence: equal items, equal bags. The time-stamp request is not part of it, because only one
/// side may have kept it.
#[must_use]
pub fn item(sequence: u64, header: &[u8], xml: &Sha256, tsr: &[u8]) -> Sha256 {
    let mut hasher = Hasher::new();
    hasher.update(&sequence.to_be_bytes());
    hasher.update(&sha256(header).0);
    hasher.update(&xml.0);
    hasher.update(&sha256(tsr).0);
    hasher.finish()
}

impl Head {
    pub(crate) fn encode(&self) -> Vec<u8> {
        written(|out| {
            out.map(2)?.u8(1)?.str(&self.hospital.to_string())?.u8(2)?.u32(self.number)?;
            Ok(())
        })
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Head, NotARecord> {
        let mut input = Fields::open(body, 2)?;
        let hospital = input.next()?.str()?.parse().map_err(|_| NotARecord)?;
        let number = input.next()?.u32()?;
        input.end()?;
        Ok(Head { hospital, number })
    }
}

impl<'a> Bag<'a> {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, ArchiveError> {
        let request = self.request.unwrap_or_default().len();
        if self.xml.len() + self.tsr.len() + self.header.len() + self.summary.len() + request > BODY_MAX - 1_024 {
            return Err(ArchiveError::TooLarge("bag"));
        }
        Ok(written(|out| {
            out.map(6)?.u8(1)?.u64(self.sequence)?.u8(2)?.bytes(self.header)?.u8(3)?.bytes(self.xml)?;
            out.u8(4)?.bytes(self.tsr)?.u8(5)?;
            match self.request {
                Some(request) => out.bytes(request)?,
                None => out.null()?,
            };
            out.u8(6)?.bytes(self.summary)?;
            Ok(())
        }))
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`NotARecord`].
    pub fn decode(body: &'a [u8]) -> Result<Bag<'a>, NotARecord> {
        let mut input = Fields::open(body, 6)?;
        let sequence = input.next()?.u64()?;
        let header = input.next()?.bytes()?;
        let xml = input.next()?.bytes()?;
        let tsr = input.next()?.bytes()?;
        let request = input.next()?;
        let request = match request.datatype()? {
            Type::Null => request.null().map(|()| None)?,
            _ => Some(request.bytes()?),
        };
        let summary = input.next()?.bytes()?;
        input.end()?;
        Ok(Bag { sequence, header, xml, tsr, request, summary })
    }
}

impl<'a> Material<'a> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        written(|out| {
            out.map(2)?.u8(1)?.str(self.name)?.u8(2)?.bytes(self.bytes)?;
            Ok(())
        })
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`NotARecord`].
    pub fn decode(body: &'a [u8]) -> Result<Material<'a>, NotARecord> {
        let mut input = Fields::open(body, 2)?;
        let name = input.next()?.str()?;
        let bytes = input.next()?.bytes()?;
        input.end()?;
        Ok(Material { name, bytes })
    }
}

impl<'a> Renewal<'a> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        written(|out| {
            out.map(2)?.u8(1)?.u64(self.sequence)?.u8(2)?.bytes(self.record)?;
            Ok(())
        })
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`NotARecord`].
    pub fn decode(body: &'a [u8]) -> Result<Renewal<'a>, NotARecord> {
        let mut input = Fields::open(body, 2)?;
        let sequence = input.next()?.u64()?;
        let record = input.next()?.bytes()?;
        input.end()?;
        Ok(Renewal { sequence, record })
    }
}

/// Most hashes of one document: its own and its salt's.
const HASHES_MAX: u64 = 2;

impl Leaves {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, ArchiveError> {
        let sizes =
            self.documents.iter().map(|(_, hashes)| 16 + hashes.iter().map(|hash| hash.len() + 8).sum::<usize>());
        if sizes.sum::<usize>() > BODY_MAX - 1_024 {
            return Err(ArchiveError::TooLarge("documents of one bag"));
        }
        Ok(written(|out| {
            out.map(3)?.u8(1)?.u64(self.sequence)?.u8(2)?.u64(self.chain)?.u8(3)?.array(self.documents.len() as u64)?;
            for (reference, hashes) in &self.documents {
                out.array(1 + hashes.len() as u64)?.u64(*reference)?;
                for hash in hashes {
                    out.bytes(hash)?;
                }
            }
            Ok(())
        }))
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`NotARecord`].
    pub fn decode(body: &[u8]) -> Result<Leaves, NotARecord> {
        let mut input = Fields::open(body, 3)?;
        let sequence = input.next()?.u64()?;
        let chain = input.next()?.u64()?;
        let array = input.next()?;
        let count = array.array()?.ok_or(NotARecord)?;
        let mut documents = Vec::new();
        for _ in 0..count {
            let length = array.array()?.ok_or(NotARecord)?;
            if !(2..=1 + HASHES_MAX).contains(&length) {
                return Err(NotARecord);
            }
            let reference = array.u64()?;
            let hashes = (1..length).map(|_| Ok(array.bytes()?.to_vec())).collect::<Result<_, NotARecord>>()?;
            documents.push((reference, hashes));
        }
        input.end()?;
        Ok(Leaves { sequence, chain, documents })
    }
}

impl<'a> LogProof<'a> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        written(|out| {
            out.map(2)?.u8(1)?.u64(self.sequence)?.u8(2)?.str(self.text)?;
            Ok(())
        })
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`NotARecord`].
    pub fn decode(body: &'a [u8]) -> Result<LogProof<'a>, NotARecord> {
        let mut input = Fields::open(body, 2)?;
        let sequence = input.next()?.u64()?;
        let text = input.next()?.str()?;
        input.end()?;
        Ok(LogProof { sequence, text })
    }
}

impl<'a> Foreign<'a> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        written(|out| {
            out.map(3)?.u8(1)?.bytes(self.tsr)?.u8(2)?.bytes(self.bytes)?.u8(3)?.u64(self.held_by)?;
            Ok(())
        })
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`NotARecord`].
    pub fn decode(body: &'a [u8]) -> Result<Foreign<'a>, NotARecord> {
        let mut input = Fields::open(body, 3)?;
        let tsr = input.next()?.bytes()?;
        let bytes = input.next()?.bytes()?;
        let held_by = input.next()?.u64()?;
        input.end()?;
        Ok(Foreign { tsr, bytes, held_by })
    }
}

type Written = Result<(), minicbor::encode::Error<Infallible>>;

/// CBOR in memory.
pub(crate) fn written(write: impl FnOnce(&mut Encoder<Vec<u8>>) -> Written) -> Vec<u8> {
    let mut out = Encoder::new(Vec::with_capacity(256));
    match write(&mut out) {
        Ok(()) => out.into_writer(),
        Err(_) => unreachable!("writing to memory does not fail"),
    }
}

/// The values of a map whose keys are 1, 2, 3 …
struct Fields<'a> {
    input: Decoder<'a>,
    key: u8,
}

impl<'a> Fields<'a> {
    fn open(body: &'a [u8], count: u64) -> Result<Fields<'a>, NotARecord> {
        let mut input = Decoder::new(body);
        if input.map()? == Some(count) { Ok(Fields { input, key: 0 }) } else { Err(NotARecord) }
    }

    fn next(&mut self) -> Result<&mut Decoder<'a>, NotARecord> {
        self.key += 1;
        if self.input.u8()? == self.key { Ok(&mut self.input) } else { Err(NotARecord) }
    }

    fn end(self) -> Result<(), NotARecord> {
        if self.input.position() == self.input.input().len() { Ok(()) } else { Err(NotARecord) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_their_encoding_and_nothing_may_follow_them() {
        let bag = Bag { sequence: 7, header: b"h", xml: b"x", tsr: b"t", request: None, summary: b"s" };
        let asked = Bag { request: Some(b"q"), ..bag };
        for one in [bag, asked] {
            let mut body = one.encode().unwrap();
            assert_eq!(Bag::decode(&body), Ok(one));
            body.push(0);
            assert_eq!(Bag::decode(&body), Err(NotARecord));
        }
        let material = Material { name: "ca.pem", bytes: b"m" };
        assert_eq!(Material::decode(&material.encode()), Ok(material));
        let renewal = Renewal { sequence: 7, record: b"r" };
        assert_eq!(Renewal::decode(&renewal.encode()), Ok(renewal));
        let leaves = Leaves { sequence: 7, chain: 1, documents: vec![(1, vec![vec![1]]), (4, vec![vec![2], vec![3]])] };
        assert_eq!(Leaves::decode(&leaves.encode().unwrap()), Ok(leaves.clone()));
        for documents in [vec![(1, vec![])], vec![(1, vec![vec![1], vec![2], vec![3]])]] {
            assert_eq!(Leaves::decode(&Leaves { documents, ..leaves.clone() }.encode().unwrap()), Err(NotARecord));
        }
        let proof = LogProof { sequence: 7, text: "p" };
        assert_eq!(LogProof::decode(&proof.encode()), Ok(proof));
        let foreign = Foreign { tsr: b"t", bytes: b"b", held_by: 3 };
        assert_eq!(Foreign::decode(&foreign.encode()), Ok(foreign));
        let head = Head { hospital: "NIHII-HOSPITAL:71000436".parse().unwrap(), number: 2 };
        assert_eq!(Head::decode(&head.encode()), Ok(head.clone()));
        assert_eq!(Head::decode(&material.encode()), Err(NotARecord));
    }

    #[test]
    fn an_item_changes_with_each_of_its_parts() {
        let one = item(1, b"h", &Sha256([1; 32]), b"t");
        for other in [
            item(2, b"h", &Sha256([1; 32]), b"t"),
            item(1, b"i", &Sha256([1; 32]), b"t"),
            item(1, b"h", &Sha256([2; 32]), b"t"),
            item(1, b"h", &Sha256([1; 32]), b"u"),
        ] {
            assert_ne!(one, other);
        }
    }
}
