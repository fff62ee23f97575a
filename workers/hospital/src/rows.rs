//! Where things stand in the journal: one owner, one space, rows told apart by their first byte.
//!
//! | row | value |
//! | --- | --- |
//! | `h` | [`Head`], JSON |
//! | `e` + reference | [`Entry`], JSON |
//! | `d` + document's digest + reference | empty: finds an entry by its document |
//! | `w` + reference | empty: waits to be sent |
//! | `o` + accepted + reference | empty: the platform owes a bag with it |
//!
//! Numbers are u64, big-endian. Values are sealed for their place like every row of a store.

use crate::error::HospitalError;
use bytes::{BufMut, Bytes, BytesMut};
use schemas::{MailboxAddress, Millis, Sha256};
use serde::{Deserialize, Serialize};
use zegel_core::rows::V1;

/// The journal's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub v: V1,
    /// Whose journal.
    pub hospital: MailboxAddress,
    /// Whether hashes are salted.
    pub salted: bool,
    /// The next reference that the journal gives.
    pub next: u64,
    /// The last bag whose entries were looked at.
    pub bag: u64,
    /// Why no further bag is taken; empty while all is well.
    pub halted: Option<String>,
    pub waiting: u64,
    pub owed: u64,
    pub stamped: u64,
    pub refused: u64,
    pub lost: u64,
    /// Entries of bags that are not of this journal.
    pub strangers: u64,
}

impl Head {
    /// A journal in which nothing is written yet.
    pub(crate) fn new(hospital: MailboxAddress, salted: bool, next: u64) -> Head {
        Head {
            v: V1,
            hospital,
            salted,
            next,
            bag: 0,
            halted: None,
            waiting: 0,
            owed: 0,
            stamped: 0,
            refused: 0,
            lost: 0,
            strangers: 0,
        }
    }
}

pub(crate) fn head() -> Bytes {
    Bytes::from_static(b"h")
}

pub(crate) fn entry(reference: u64) -> Bytes {
    row(b'e', &[&reference.to_be_bytes()])
}

pub(crate) fn document(digest: &Sha256, reference: u64) -> Bytes {
    row(b'd', &[&digest.0, &reference.to_be_bytes()])
}

pub(crate) fn waiting(reference: u64) -> Bytes {
    row(b'w', &[&reference.to_be_bytes()])
}

pub(crate) fn owed(accepted: Millis, reference: u64) -> Bytes {
    // Instants before 1970 do not come from a platform; they sort first.
    row(b'o', &[&accepted.0.max(0).to_be_bytes(), &reference.to_be_bytes()])
}

/// The reference at the end of a row's name.
pub(crate) fn reference_of(sub: &[u8]) -> Result<u64, HospitalError> {
    let tail = sub.len().checked_sub(8).and_then(|at| sub.get(at..)).and_then(|tail| tail.try_into().ok());
    tail.map(u64::from_be_bytes).ok_or(HospitalError::Gone)
}

fn row(letter: u8, parts: &[&[u8]]) -> Bytes {
    let mut sub = BytesMut::with_capacity(49);
    sub.put_u8(letter);
    parts.iter().for_each(|part| sub.put_slice(part));
    sub.freeze()
}
