//! The platform as the hospital sees it: a port, so that outages and lies can be played in tests.
//!
//! Contract: every call may block for as long as a request takes; all of them may be repeated without harm.

use crate::own_bags::OwnBag;
use schemas::Sha256;
use schemas::messages::EntryAnswer;
use std::path::Path;
use zegel_archive::writer::Writer;

/// The platform gave no usable answer; asking again later may help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Away {
    /// What happened.
    pub why: String,
    /// The code of the refusal where the platform does not know the caller's token, or gives it no right: that changes only
    /// when somebody does something about it.
    pub denied: Option<String>,
}

impl Away {
    /// Not usable now.
    #[must_use]
    pub fn for_now(why: impl Into<String>) -> Away {
        Away { why: why.into(), denied: None }
    }
}

/// A bag as it came, not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawBag {
    /// Its header, CBOR.
    pub header: Vec<u8>,
    /// Its XML.
    pub xml: Vec<u8>,
    /// The RFC 3161 response.
    pub tsr: Vec<u8>,
}

/// See the module.
pub trait Platform {
    /// Makes the hospital known, and says whether its hashes are salted. Called before the first offer of a run.
    ///
    /// # Errors
    /// [`Away`].
    fn enrol(&self, salted: bool) -> Result<(), Away>;

    /// Offers entries (reference and hash, at most 1,000); one answer each, in their order.
    ///
    /// # Errors
    /// [`Away`].
    fn offer(&self, entries: &[(u64, Sha256)]) -> Result<Vec<EntryAnswer>, Away>;

    /// The bag of this number; none while it is not stamped yet.
    ///
    /// # Errors
    /// [`Away`].
    fn bag(&self, sequence: u64) -> Result<Option<RawBag>, Away>;

    /// Certificates and revocation lists, with the names of files.
    ///
    /// # Errors
    /// [`Away`].
    fn materials(&self) -> Result<Vec<(String, Vec<u8>)>, Away>;

    /// Whether it keeps bags that the hospital made itself.
    ///
    /// # Errors
    /// [`Away`].
    fn has_own_bags(&self) -> Result<bool, Away>;

    /// The bag that the hospital made itself with this digest, and its token; none where the platform has none.
    ///
    /// # Errors
    /// [`Away`].
    fn own_bag(&self, digest: &Sha256) -> Result<Option<OwnBag>, Away>;

    /// Adds proofs that archived bags stand in the platform's log; how many.
    ///
    /// # Errors
    /// [`Away`].
    fn prove(&self, archive: &Path, writer: &mut Writer) -> Result<u64, Away>;
}
