//! The rows that the time-stamp stage keeps, and the binary record of an entry.
//!
//! | space | owner | sub | value |
//! | --- | --- | --- | --- |
//! | bags | hospital | empty | [`OpenBag`], JSON |
//! | entries | hospital | bag sequence (u64) + chunk (u32) | records of 40 bytes, as they came |
//! | references | hospital | reference / 16 (u64) | [`Bucket`]: up to 16 neighbouring references |
//! | archive | hospital | `b` + sequence (u64) | [`ArchivedBag`], JSON |
//! | archive | hospital | `t` + sequence (u64) | the RFC 3161 response, DER |
//! | archive | hospital | `h` | [`Head`], JSON |
//! | archive | hospital | `f` + digest | [`OwnBagRow`], JSON: a bag that the hospital made itself |
//! | archive | hospital | `g` + digest | the RFC 3161 response over it, DER |
//! | archive | hospital | `i` + stamped (u64) + digest | empty: finds it by its time |
//! | archive | hospital | `k` + SHA-256 of the token | [`TokenRow`], JSON: a token that the hospital asked for by itself |
//! | archive | hospital | `l` + stamped (u64) + the same | empty: finds it by its time |
//! | payloads | the payload's id | empty | the XML's bytes (at most 64 KiB) |
//!
//! Numbers are big-endian, so rows lie in the order of their sequence. A record is `ref` (u64) and the digest.
//! References are kept in buckets because hospitals number their prescriptions one after the other: a request of a
//! hundred entries then reads and writes seven rows instead of a hundred, and in the worst case (numbers without any
//! order) an entry rewrites 800 bytes.
//! Failure behaviour: [`RowError`] says that a row cannot be read, never what is in it.

use bytes::{BufMut, Bytes, BytesMut};
use schemas::messages::{Content, Entry};
use schemas::{MailboxAddress, Millis, Sha256};
use serde::{Deserialize, Serialize};
use zegel_core::rows::{RowError, V1};

/// Length of a record: the reference and the digest.
pub const RECORD: usize = 40;
/// Most entries in one request: 40,000 bytes, which fit an envelope's attachment.
pub const REQUEST_MAX: usize = 1_000;
/// The largest reference: the bag's XML says `xs:long`, so the upper half of u64 does not exist there.
pub const REFERENCE_MAX: u64 = i64::MAX as u64;
/// From here on references are the platform's: the hashes of hospitals' own bags stand under them.
pub const OWN_REFERENCES: u64 = 1 << 62;
/// References in a bucket, as a power of two (see the module's header for the choice).
const BUCKET_BITS: u32 = 4;
/// Format of a bucket.
const BUCKET_VERSION: u8 = 1;
/// One reference in a bucket: its low bits, digest, accepted time, earliest bag.
const BUCKET_RECORD: usize = 1 + 32 + 8 + 8;

/// A hospital's open bag: the one row that intake changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenBag {
    /// Version of the row.
    pub v: V1,
    /// Which hospital.
    pub hospital: MailboxAddress,
    /// When the first window began.
    pub enrolled: Millis,
    /// The open bag's sequence: 1, 2, 3 …
    pub sequence: u64,
    /// Start of its window, inclusive: the end of the bag before it.
    pub start: Millis,
    /// End of its window, exclusive; moves on while the bag is empty.
    pub end: Millis,
    /// Entries so far.
    pub count: u64,
    /// Chunk rows so far.
    pub chunks: u32,
    /// The latest accepted time; a clock that steps back does not go below it.
    pub last_accepted: Millis,
    /// Whether the hospital says that its hashes are salted.
    #[serde(default)]
    pub salted: bool,
}

/// What a hospital learns about its enrolment, also as the reply to `Enrol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// The open bag's sequence.
    pub sequence: u64,
    /// When the first window began.
    pub since: Millis,
    /// When the open window ends.
    pub window_end: Millis,
}

impl From<&OpenBag> for Enrolled {
    fn from(bag: &OpenBag) -> Enrolled {
        Enrolled { sequence: bag.sequence, since: bag.enrolled, window_end: bag.end }
    }
}

/// A bag that was bound, chained, stamped and archived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedBag {
    /// Version of the row.
    pub v: V1,
    /// 1, 2, 3 …
    pub sequence: u64,
    /// Start of its window, inclusive.
    pub start: Millis,
    /// End of its window, exclusive.
    pub end: Millis,
    /// How many entries, entry 0 not counted.
    pub count: u64,
    /// The bag's header, deterministic CBOR, base64.
    #[serde(with = "base64_bytes")]
    pub header: Vec<u8>,
    /// SHA-256 of the header: entry 0's hash, and the link of the next bag.
    pub header_hash: Sha256,
    /// The header hash of the bag before; zeros in the first.
    pub previous: Sha256,
    /// The platform's own copy of the XML: `Stored` or `Object`.
    pub xml: Content,
    /// Length of the XML.
    pub xml_size: u64,
    /// SHA-256 of the XML's exact bytes: what the token binds.
    pub imprint: Sha256,
    /// Length of the time-stamp response (row `t`).
    pub tsr_size: u64,
    /// The token's time.
    pub stamped: Millis,
    /// Whether the token came more than a window after the bag's end: the authority was away.
    pub late: bool,
    /// Chunk rows of the bag that are still to be deleted.
    pub chunks_left: u32,
}

/// A bag that a hospital made itself, stamped and kept as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnBagRow {
    /// Version of the row.
    pub v: V1,
    /// The hospital's own number of it.
    pub sequence: i64,
    /// How many entries.
    pub entries: u64,
    /// SHA-256 of its bytes: what was stamped.
    pub digest: Sha256,
    /// Its length in bytes.
    pub size: u64,
    /// Its bytes: `Stored` or `Object`.
    pub content: Content,
    /// Under which reference its hash stands in a bag of the platform.
    pub reference: u64,
    /// The token's time.
    pub stamped: Millis,
}

/// A token that a hospital asked for by itself, and had archived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// Version of the row.
    pub v: V1,
    /// The SHA-256 that was stamped.
    pub imprint: Sha256,
    /// SHA-256 of the DER token.
    pub token: Sha256,
    /// The token's time.
    pub stamped: Millis,
    /// The RFC 3161 response around it, DER, base64.
    #[serde(with = "base64_bytes")]
    pub tsr: Vec<u8>,
}

/// The end of a hospital's chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Version of the row.
    pub v: V1,
    /// The last archived bag.
    pub sequence: u64,
    /// Its header hash.
    pub header_hash: Sha256,
    /// End of its window: where the next one begins.
    pub end: Millis,
    /// Its token's time; the next one is never earlier.
    pub gen_time: Millis,
}

/// What was answered when a reference was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The digest that it stands for.
    pub hash: Sha256,
    /// The accepted time.
    pub accepted: Millis,
    /// The earliest bag that the entry can be in.
    pub earliest_bag: u64,
}

/// Neighbouring references that were taken, in the order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bucket(BytesMut);

impl Bucket {
    /// Reads a row.
    ///
    /// # Errors
    /// [`RowError`] when it is not a bucket.
    pub fn read(row: &[u8]) -> Result<Bucket, RowError> {
        match row.split_first() {
            Some((&BUCKET_VERSION, rest)) if rest.len() % BUCKET_RECORD == 0 => Ok(Bucket(BytesMut::from(rest))),
            _ => Err(RowError::Shape),
        }
    }

    /// What was answered for a reference, if it was taken.
    #[must_use]
    pub fn find(&self, reference: u64) -> Option<Taken> {
        let slot = slot_of(reference);
        self.0.chunks_exact(BUCKET_RECORD).find(|record| record[0] == slot).map(|record| Taken {
            hash: Sha256(fixed(&record[1..33])),
            accepted: Millis(i64::from_be_bytes(fixed(&record[33..41]))),
            earliest_bag: u64::from_be_bytes(fixed(&record[41..49])),
        })
    }

    /// Adds a reference that [`Bucket::find`] does not know.
    pub fn insert(&mut self, reference: u64, taken: &Taken) {
        self.0.reserve(BUCKET_RECORD);
        self.0.put_u8(slot_of(reference));
        self.0.put_slice(&taken.hash.0);
        self.0.put_i64(taken.accepted.0);
        self.0.put_u64(taken.earliest_bag);
    }

    /// The row.
    #[must_use]
    pub fn write(&self) -> Bytes {
        let mut row = BytesMut::with_capacity(1 + self.0.len());
        row.put_u8(BUCKET_VERSION);
        row.put_slice(&self.0);
        row.freeze()
    }
}

/// Where a reference's bucket lies; equal for references of one bucket.
#[must_use]
pub fn bucket_of(reference: u64) -> u64 {
    reference >> BUCKET_BITS
}

/// The name of a bucket's row.
#[must_use]
pub fn bucket_sub(bucket: u64) -> Bytes {
    Bytes::copy_from_slice(&bucket.to_be_bytes())
}

/// The attachment of an `Entries` message.
#[must_use]
pub fn encode_entries(entries: &[Entry]) -> Bytes {
    let mut out = BytesMut::with_capacity(entries.len() * RECORD);
    for entry in entries {
        out.put_u64(entry.reference);
        out.put_slice(&entry.hash.0);
    }
    out.freeze()
}

/// The records of an attachment or of a chunk: reference, digest, and the record itself.
pub fn records(bytes: &[u8]) -> impl Iterator<Item = (u64, Sha256, &[u8])> {
    bytes
        .chunks_exact(RECORD)
        .map(|record| (u64::from_be_bytes(fixed(&record[..8])), Sha256(fixed(&record[8..RECORD])), record))
}

/// The name of a chunk of a bag's entries; chunk 0 of the next bag is the end of the range.
#[must_use]
pub fn chunk_sub(sequence: u64, chunk: u32) -> Bytes {
    let mut sub = BytesMut::with_capacity(12);
    sub.put_u64(sequence);
    sub.put_u32(chunk);
    sub.freeze()
}

/// The reference under which the hash of a hospital's own bag stands in a bag of the platform: from the digest, so that the same
/// bag has the same one however often it comes.
#[must_use]
pub fn own_reference(digest: &Sha256) -> u64 {
    let low = u64::from_be_bytes(fixed(&digest.0[..8])) & (OWN_REFERENCES - 1);
    OWN_REFERENCES | low
}

/// The name of the row of a hospital's own bag.
#[must_use]
pub fn own_sub(digest: &Sha256) -> Bytes {
    Bytes::from([b"f".as_slice(), &digest.0].concat())
}

/// The name of the time-stamp response over a hospital's own bag.
#[must_use]
pub fn own_token_sub(digest: &Sha256) -> Bytes {
    Bytes::from([b"g".as_slice(), &digest.0].concat())
}

/// The name of the row by which a hospital's own bag is found by its time.
#[must_use]
pub fn own_time_sub(stamped: Millis, digest: &Sha256) -> Bytes {
    // Tokens are not from before 1970.
    Bytes::from([b"i".as_slice(), &stamped.0.max(0).to_be_bytes(), &digest.0].concat())
}

/// The name of the row of a token that is archived by itself.
#[must_use]
pub fn kept_token_sub(token: &Sha256) -> Bytes {
    Bytes::from([b"k".as_slice(), &token.0].concat())
}

/// The name of the row by which such a token is found by its time.
#[must_use]
pub fn kept_time_sub(stamped: Millis, token: &Sha256) -> Bytes {
    Bytes::from([b"l".as_slice(), &stamped.0.max(0).to_be_bytes(), &token.0].concat())
}

/// The name of a bag's archive row.
#[must_use]
pub fn bag_sub(sequence: u64) -> Bytes {
    lettered(b'b', sequence)
}

/// The name of a bag's time-stamp response.
#[must_use]
pub fn token_sub(sequence: u64) -> Bytes {
    lettered(b't', sequence)
}

/// The name of the chain's head.
#[must_use]
pub fn head_sub() -> Bytes {
    Bytes::from_static(b"h")
}

fn lettered(letter: u8, sequence: u64) -> Bytes {
    let mut sub = BytesMut::with_capacity(9);
    sub.put_u8(letter);
    sub.put_u64(sequence);
    sub.freeze()
}

fn slot_of(reference: u64) -> u8 {
    u8::try_from(reference & ((1 << BUCKET_BITS) - 1)).unwrap_or_default()
}

/// The bytes as an array; callers pass slices of that very length.
fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap_or([0; N])
}

/// Bytes as base64 text in JSON.
pub(crate) mod base64_bytes {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::borrow::Cow;

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map_err(|_| D::Error::custom("not base64"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_keeps_neighbours_apart_and_survives_storing() {
        let taken = |n: u8| Taken { hash: Sha256([n; 32]), accepted: Millis(i64::from(n)), earliest_bag: 7 };
        let mut bucket = Bucket::default();
        bucket.insert(17, &taken(1));
        bucket.insert(31, &taken(2));
        let again = Bucket::read(&bucket.write()).unwrap();
        assert_eq!((again.find(17), again.find(31), again.find(18)), (Some(taken(1)), Some(taken(2)), None));
        assert_eq!(bucket_of(17), bucket_of(31));
        assert_ne!(bucket_of(31), bucket_of(32));
    }

    #[test]
    fn a_bucket_of_another_version_or_length_is_refused() {
        assert_eq!(Bucket::read(&[2]), Err(RowError::Shape));
        assert_eq!(Bucket::read(&[1, 0]), Err(RowError::Shape));
        assert_eq!(Bucket::read(&[]), Err(RowError::Shape));
    }

    #[test]
    fn the_stored_form_of_a_bucket_does_not_change_unnoticed() {
        let mut bucket = Bucket::default();
        bucket.insert(0x12, &Taken { hash: Sha256([0xaa; 32]), accepted: Millis(3), earliest_bag: 4 });
        let golden = format!("0102{}00000000000000030000000000000004", "aa".repeat(32));
        assert_eq!(hex::encode(bucket.write()), golden);
        assert_eq!(hex::encode(bucket_sub(bucket_of(0x12))), "0000000000000001");
    }

    #[test]
    fn chunks_of_a_bag_end_where_the_next_bag_begins() {
        assert!(chunk_sub(3, u32::MAX) < chunk_sub(4, 0));
        assert!(bag_sub(9) < bag_sub(10));
    }

    #[test]
    fn entries_survive_the_attachment() {
        let entries = [Entry { reference: 5, hash: Sha256([1; 32]) }, Entry { reference: 6, hash: Sha256([2; 32]) }];
        let bytes = encode_entries(&entries);
        let back: Vec<_> = records(&bytes).map(|(reference, hash, _)| Entry { reference, hash }).collect();
        assert_eq!(back, entries);
    }
}
