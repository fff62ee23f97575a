//! One file with all evidence about one document, readable in thirty years: a tar archive that says itself what is in it.
//!
//! The format is the text in README-v2.txt, which every evidence file carries; files of format 1 are read as well. An evidence file has one form; a changed bit
//! is found wherever it is: in the archive's own bytes by writing them again, in the content by what holds it together.
//! Failure behaviour: a file that cannot be read is a finding, like everything else that is wrong with it.

mod check;
mod make;
mod renewals;

pub use check::{EvidenceView, check};
pub use make::{Wanted, find, make};

use crate::{openssl, tar};
use schemas::{MailboxAddress, Millis, Sha256};
use serde::{Deserialize, Serialize};
use zegel_crypto::hash::sha256;

/// The text that stands in every evidence file.
pub const README: &str = include_str!("README-v2.txt");
/// What evidence.json calls the format.
pub const FORMAT: &str = "zegel-evidence/2";
/// Formats that are read, each with its text.
const FORMATS: [(&str, &str); 2] = [("zegel-evidence/1", include_str!("README-v1.txt")), (FORMAT, README)];
/// The file with the digests of the others.
pub(crate) const SUMS: &str = "SHA256SUMS";

/// The content of evidence.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// [`FORMAT`].
    pub format: String,
    /// Whose document.
    pub hospital: MailboxAddress,
    /// In which bag.
    pub sequence: u64,
    /// The hospital's number of the document.
    pub reference: u64,
    /// The entry's hash.
    pub hash: Sha256,
    /// 16 bytes in hexadecimal, where the hash is salted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// SHA-256 of the document, where it is known to the maker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_sha256: Option<Sha256>,
    /// The entry's place in the tree.
    pub merkle: Path,
    /// The token's time.
    pub stamped: Millis,
    /// Command lines that check the same.
    pub openssl: Vec<String>,
}

/// An inclusion proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Path {
    /// Position of the leaf, from 0.
    pub index: u64,
    /// How many leaves.
    pub size: u64,
    /// Sibling hashes, from the leaf upwards.
    pub path: Vec<Sha256>,
}

/// `SHA256SUMS` over files, in their order, as `sha256sum` writes it.
pub(crate) fn sums(files: &[tar::File<'_>]) -> String {
    files.iter().map(|(name, bytes)| format!("{}  {name}\n", sha256(bytes))).collect()
}

/// The command lines that check a file with so many CAs, and a document in it or not; `salt` in hexadecimal.
fn lines(authorities: usize, document: bool, salt: Option<&str>, stamped: Millis) -> Vec<String> {
    let tokens = (1..=authorities).map(|n| openssl::token("bag.xml", "bag.tsr", &format!("ca-{n}.pem"), stamped));
    let own = match salt.and_then(|salt| hex::decode(salt).ok()) {
        Some(salt) => openssl::salted_digest("document", &salt),
        None => openssl::digest("document"),
    };
    let others = [openssl::text("bag.tsr"), openssl::digest("bag.header")];
    tokens.chain(others).chain(document.then_some(own)).collect()
}

impl Statement {
    /// The one text of a statement.
    fn encode(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    fn decode(bytes: &[u8]) -> Option<Statement> {
        let read: Statement = serde_json::from_slice(bytes).ok()?;
        (read.encode() == bytes && read.readme().is_some()).then_some(read)
    }

    /// The text of its format; none where the format is not known.
    fn readme(&self) -> Option<&'static str> {
        FORMATS.iter().find(|(format, _)| *format == self.format).map(|(_, text)| *text)
    }
}
