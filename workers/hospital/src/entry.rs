//! What the journal knows of one document: its digest, its salt, the hash that is stamped, and how far it has come.
//!
//! The salt is the first 16 bytes of an HMAC over digest and reference under the journal's key file, so it looks random to
//! whoever has not that file; the same document under the same reference has the same salt even when the journal was lost, and
//! a salt that was disclosed with one document says nothing of another's. It is written down as well: evidence must not
//! depend on a key for thirty years.

use schemas::{Millis, Sha256};
use serde::{Deserialize, Serialize};
use std::fmt;
use zegel_archive::list::salted;
use zegel_core::Keys;
use zegel_core::rows::V1;

/// The largest reference that a hospital may give; above, numbers are the platform's own.
pub const REFERENCE_MAX: u64 = zegel_timestamp::rows::OWN_REFERENCES - 1;

/// A document that is to be stamped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// The hospital's number for it; none: the journal gives the next one.
    pub reference: Option<u64>,
    /// SHA-256 of the document.
    pub document: Sha256,
}

/// What became of one offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Answer {
    /// It is durable in the journal now.
    Journaled(View),
    /// It was already.
    Known(View),
    /// The reference stands for another document.
    Conflict {
        /// Which.
        #[serde(rename = "ref")]
        reference: u64,
    },
    /// The reference is 0 or too large, or the journal has no number left to give.
    Invalid,
}

/// The random 16 bytes before the digest. Whoever knows them and the entry can guess the document, so it is not printed.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Salt(pub [u8; 16]);

impl Salt {
    /// The salt of a document under a reference.
    #[must_use]
    pub fn of(keys: &dyn Keys, reference: u64, document: &Sha256) -> Salt {
        Salt(keys.blind("stamp-salt", &[&reference.to_be_bytes()[..], &document.0].concat()).0)
    }
}

impl TryFrom<String> for Salt {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Salt, &'static str> {
        let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Salt).ok_or("a salt is 32 hexadecimal digits")
    }
}

impl From<Salt> for String {
    fn from(salt: Salt) -> String {
        hex::encode(salt.0)
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(***)")
    }
}

/// How far an entry has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// In the journal alone.
    Waiting,
    /// The platform has it and owes a bag with it.
    Accepted {
        /// When the platform took it.
        accepted: Millis,
    },
    /// It stands in a bag that verified and is archived.
    Stamped {
        /// Which.
        bag: u64,
    },
    /// The platform will not take it.
    Refused {
        /// `conflict` or `invalid`.
        why: String,
    },
    /// The bag of its time came without it, or with another hash: the platform broke its word.
    Lost {
        /// Which bag.
        bag: u64,
    },
}

/// One document in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Version of the row.
    pub v: V1,
    /// The hospital's number of it.
    #[serde(rename = "ref")]
    pub reference: u64,
    /// SHA-256 of the document.
    pub document: Sha256,
    /// Its salt; none in a journal of plain hashes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub salt: Option<Salt>,
    /// When it was written down.
    pub journaled: Millis,
    /// How far it has come.
    #[serde(flatten)]
    pub state: State,
}

/// What everybody in the hospital may see of an entry: all but the salt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct View {
    /// The hospital's number of it.
    #[serde(rename = "ref")]
    pub reference: u64,
    /// SHA-256 of the document.
    pub document: Sha256,
    /// The hash that is stamped.
    pub hash: Sha256,
    /// When it was written down.
    pub journaled: Millis,
    /// How far it has come.
    #[serde(flatten)]
    pub state: State,
}

impl Entry {
    /// Without the salt.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            reference: self.reference,
            document: self.document,
            hash: self.hash(),
            journaled: self.journaled,
            state: self.state.clone(),
        }
    }

    /// The hash that is stamped.
    #[must_use]
    pub fn hash(&self) -> Sha256 {
        self.salt.map_or(self.document, |salt| salted(&salt.0, &self.document))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use zegel_core::testing::TestKeys;

    #[test]
    fn a_salt_is_the_same_for_the_same_document_and_reference_and_for_nothing_else() {
        let keys = TestKeys::default();
        let of = |reference, document| Salt::of(&keys, reference, &Sha256([document; 32]));
        assert_eq!(of(7, 1), of(7, 1));
        assert_ne!(of(7, 1), of(8, 1));
        assert_ne!(of(7, 1), of(7, 2));
        assert!(!format!("{:?}", of(7, 1)).contains(&hex::encode(of(7, 1).0)));
    }
}
