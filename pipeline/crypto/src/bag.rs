//! The header of a time-stamp bag: deterministic CBOR (RFC 8949 section 4.2.1) that binds a bag's entries, its window and
//! the bag before it. Its SHA-256 is entry 0 of the bag (reserved Ref 0), so the one token over the bag covers all of it.
//!
//! A map of eight pairs, keys ascending:
//! ```text
//! {1: 1 (version), 2: hospital (text, a mailbox address), 3: sequence (1, 2, 3 …), 4: [start, end) in ms since 1970,
//!  5: count of entries without entry 0, 6: Merkle root over their leaves (32 bytes, see [`leaf`]),
//!  7: previous header's SHA-256 (32 bytes; null in the first bag only), 8: "plain" or "salted"}
//! ```
//! Decoding accepts what [`Header::encode`] makes and nothing else: the same header has one encoding, and one hash.

use crate::hash::sha256;
use minicbor::{Decoder, Encoder};
use schemas::{MailboxAddress, Millis, Sha256};

/// The only version so far.
const VERSION: u8 = 1;

/// What the hashes in a bag are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// SHA-256 of the document.
    Plain,
    /// SHA-256 of 16 bytes of salt, which the hospital keeps, and the document's SHA-256.
    Salted,
}

/// The header of one bag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Whose bag.
    pub hospital: MailboxAddress,
    /// 1, 2, 3 … without a gap.
    pub sequence: u64,
    /// Start of the window, inclusive.
    pub start: Millis,
    /// End of the window, exclusive; after `start`.
    pub end: Millis,
    /// How many entries, entry 0 not counted.
    pub count: u64,
    /// Merkle root over [`leaf`] of the entries in their order, entry 0 left out.
    pub root: Sha256,
    /// [`Header::hash`] of the bag before; none in bag 1 only.
    pub previous: Option<Sha256>,
    /// What the hashes are made of.
    pub form: Form,
}

/// Why bytes are not a bag header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BagError {
    /// Not CBOR of this shape, or not its one deterministic encoding.
    #[error("bag header is not in its deterministic encoding")]
    Encoding,
    /// A later version, which this program does not read.
    #[error("bag header has an unknown version")]
    Version,
    /// The sequence is 0, the window is empty or runs backwards, or the link to the bag before is missing or too much.
    #[error("bag header breaks a rule: {0}")]
    Rule(&'static str),
}

/// The bytes of an entry's Merkle leaf: Ref (u64 big-endian), then the hash.
#[must_use]
pub fn leaf(reference: u64, hash: &Sha256) -> [u8; 40] {
    let mut bytes = [0; 40];
    bytes[..8].copy_from_slice(&reference.to_be_bytes());
    bytes[8..].copy_from_slice(&hash.0);
    bytes
}

impl Header {
    /// The one encoding of this header.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self.write() {
            Ok(bytes) => bytes,
            Err(_) => unreachable!("writing to memory does not fail"),
        }
    }

    /// SHA-256 of the encoding: entry 0 of the bag, and the link in the next header.
    #[must_use]
    pub fn hash(&self) -> Sha256 {
        sha256(&self.encode())
    }

    /// Reads a header.
    ///
    /// # Errors
    /// See [`BagError`]; only what [`Header::encode`] makes of a valid header is accepted.
    pub fn decode(bytes: &[u8]) -> Result<Header, BagError> {
        let header = read(&mut Decoder::new(bytes))?;
        header.check()?;
        // Lengths that are not the shortest, indefinite ones, trailing bytes: they all differ from the one encoding.
        if header.encode() != bytes {
            return Err(BagError::Encoding);
        }
        Ok(header)
    }

    /// Whether the header can be true at all.
    ///
    /// # Errors
    /// [`BagError::Rule`].
    pub fn check(&self) -> Result<(), BagError> {
        if self.sequence == 0 {
            return Err(BagError::Rule("sequence is 1 or more"));
        }
        if self.start >= self.end {
            return Err(BagError::Rule("window ends after it starts"));
        }
        if self.previous.is_none() != (self.sequence == 1) {
            return Err(BagError::Rule("every bag but the first names the one before"));
        }
        Ok(())
    }

    fn write(&self) -> Result<Vec<u8>, minicbor::encode::Error<std::convert::Infallible>> {
        let mut out = Encoder::new(Vec::with_capacity(160));
        out.map(8)?;
        out.u8(1)?.u8(VERSION)?;
        out.u8(2)?.str(&self.hospital.to_string())?;
        out.u8(3)?.u64(self.sequence)?;
        out.u8(4)?.array(2)?.i64(self.start.0)?.i64(self.end.0)?;
        out.u8(5)?.u64(self.count)?;
        out.u8(6)?.bytes(&self.root.0)?;
        match &self.previous {
            Some(hash) => out.u8(7)?.bytes(&hash.0)?,
            None => out.u8(7)?.null()?,
        };
        out.u8(8)?.str(match self.form {
            Form::Plain => "plain",
            Form::Salted => "salted",
        })?;
        Ok(out.into_writer())
    }
}

impl From<minicbor::decode::Error> for BagError {
    fn from(_: minicbor::decode::Error) -> BagError {
        BagError::Encoding
    }
}

fn read(input: &mut Decoder<'_>) -> Result<Header, BagError> {
    if input.map()? != Some(8) {
        return Err(BagError::Encoding);
    }
    key(input, 1)?;
    if input.u64()? != u64::from(VERSION) {
        return Err(BagError::Version);
    }
    key(input, 2)?;
    let hospital = input.str()?.parse().map_err(|_| BagError::Rule("hospital is a mailbox address"))?;
    key(input, 3)?;
    let sequence = input.u64()?;
    key(input, 4)?;
    if input.array()? != Some(2) {
        return Err(BagError::Encoding);
    }
    let (start, end) = (Millis(input.i64()?), Millis(input.i64()?));
    key(input, 5)?;
    let count = input.u64()?;
    key(input, 6)?;
    let root = digest(input)?;
    key(input, 7)?;
    let previous = match input.datatype()? {
        minicbor::data::Type::Null => input.null().map(|()| None)?,
        _ => Some(digest(input)?),
    };
    key(input, 8)?;
    let form = match input.str()? {
        "plain" => Form::Plain,
        "salted" => Form::Salted,
        _ => return Err(BagError::Encoding),
    };
    Ok(Header { hospital, sequence, start, end, count, root, previous, form })
}

fn key(input: &mut Decoder<'_>, expected: u8) -> Result<(), BagError> {
    if input.u8()? == expected { Ok(()) } else { Err(BagError::Encoding) }
}

fn digest(input: &mut Decoder<'_>) -> Result<Sha256, BagError> {
    input.bytes()?.try_into().map(Sha256).map_err(|_| BagError::Encoding)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn second() -> Header {
        Header {
            hospital: "NIHII-HOSPITAL:71000436".parse().unwrap(),
            sequence: 2,
            start: Millis(1_795_312_800_000),
            end: Millis(1_795_313_100_000),
            count: 1000,
            root: Sha256([0x11; 32]),
            previous: Some(Sha256([0x22; 32])),
            form: Form::Salted,
        }
    }

    /// Written by hand from RFC 8949; a change of it breaks every archive.
    const GOLDEN: &str = "a8\
        0101\
        02774e494849492d484f53504954414c3a3731303030343336\
        0302\
        04821b000001a200fb51001b000001a200ffe4e0\
        051903e8\
        0658201111111111111111111111111111111111111111111111111111111111111111\
        0758202222222222222222222222222222222222222222222222222222222222222222\
        086673616c746564";

    #[test]
    fn the_encoding_is_the_golden_one() {
        assert_eq!(hex::encode(second().encode()), GOLDEN);
        assert_eq!(Header::decode(&hex::decode(GOLDEN).unwrap()), Ok(second()));
        assert_eq!(second().hash(), sha256(&hex::decode(GOLDEN).unwrap()));
    }

    #[test]
    fn a_second_encoding_of_the_same_header_is_refused() {
        for (from, to) in [
            ("0302", "031802"),   // 2 in two bytes
            ("0302", "03190002"), // in three
            ("a8", "b808"),       // the map's length in two bytes
            ("a8", "bf"),         // an indefinite map
            ("0101", "180101"),   // a key in two bytes
            ("0482", "049f"),     // an indefinite array
            ("0866", "087f66"),   // an indefinite string
            ("a80101", "a80102"), // another version
        ] {
            let bytes = hex::decode(GOLDEN.replacen(from, to, 1)).unwrap();
            assert!(Header::decode(&bytes).is_err(), "{from} as {to}");
        }
        assert_eq!(Header::decode(&hex::decode(format!("{GOLDEN}00")).unwrap()), Err(BagError::Encoding));
    }

    #[test]
    fn a_header_that_cannot_be_true_is_refused() {
        for wrong in [
            Header { sequence: 0, ..second() },
            Header { sequence: 1, ..second() },
            Header { previous: None, ..second() },
            Header { end: second().start, ..second() },
        ] {
            assert!(matches!(Header::decode(&wrong.encode()), Err(BagError::Rule(_))));
        }
        let first = Header { sequence: 1, previous: None, ..second() };
        assert_eq!(Header::decode(&first.encode()), Ok(first));
    }

    #[test]
    fn every_changed_bit_changes_the_header_or_is_refused() {
        let good = second().encode();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(Header::decode(&bytes), Ok(second()), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_encoded_decodes_to_itself(
            sequence in 2_u64.., start in any::<i32>(), length in 1_i64..1 << 40, count in any::<u64>(),
            root in any::<[u8; 32]>(), previous in any::<[u8; 32]>(), salted in any::<bool>(),
        ) {
            let start = Millis(i64::from(start));
            let form = if salted { Form::Salted } else { Form::Plain };
            let header = Header {
                sequence, start, end: start.plus(length), count, root: Sha256(root), previous: Some(Sha256(previous)), form,
                ..second()
            };
            prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Header::decode(&bytes).is_err());
        }
    }
}
