//! Our own time-stamp authority: RFC 3161 with RFC 5816, after the profile of EN 319 422; and the verification of tokens.
//!
//! The authority's folder is described in `folder`; it is made once, whole. The CA signs time-stamping units (TSUs) and
//! revocation lists. One unit is active at a time; its key is used for a year and then replaced. RSA-3072 is the default,
//! because the validator that hospitals run today reads no other; ECDSA P-256 and P-384 are options.
//!
//! A token: version 1; the policy; the request's imprint (SHA-256, SHA-384 or SHA-512); a serial that never repeats, and
//! genTime with milliseconds that never goes back, across crashes too (see `floor`); accuracy when time sources vouch for
//! the clock, and otherwise none and a policy that promises nothing; the nonce echoed; ordering false; exactly one ESSCertIDv2
//! and no ESSCertID (both together are refused by that validator); CA and TSU certificates in DER order where they are asked
//! for. What it proves: evidence, with our own CA and clock. A legal presumption needs an external qualified authority.
//! Failure: no token at all when the time is not known well enough, is outside the unit's usage period, or something does
//! not encode (I8); a caller over HTTP gets a `TimeStampResp` that says why.

mod asn1;
mod authority;
mod ber;
mod certificates;
mod crl;
mod digest;
mod encode;
mod floor;
mod folder;
mod foreign;
mod inspect;
mod request;
mod signing;
mod token;
mod verify;

#[cfg(test)]
mod tests;

pub use authority::{Authority, Maintained};
pub use crl::{Crl, Reason, Revoked};
pub use digest::Digest;
pub use folder::Place;
pub use foreign::{ForeignInfo, Roots, Trusted};
pub use inspect::{
    CertificateFacts, certificate_facts, gen_time, imprint_digest, request_nonce, response_of, serial, unit_ends,
};
pub use request::{Failure, REQUEST_MAX, Request};
pub use signing::Algorithm;
pub use verify::{Issued, TokenInfo, TrustAnchor, Verifier, verify, verify_imprint};
pub use zegel_core::Moment;

use der::{Decode, Encode};
use std::io;
use std::path::PathBuf;

/// The policy of tokens from a machine without a configured time source: a test policy, which promises nothing. It stands
/// under an enterprise number that nobody holds, so no other authority's tokens carry it.
pub const TEST_POLICY: &str = "1.3.6.1.4.1.99999.1";

/// Why there is no authority, no token, or no trust in one.
#[derive(Debug, thiserror::Error)]
pub enum TsaError {
    /// The folder holds something already; an authority never replaces another.
    #[error("folder {0} is not empty")]
    Exists(PathBuf),
    /// Other users of the machine may read a private key.
    #[error("key file {path} is open to others (mode {mode:04o}): run `chmod 600 {path}`", path = .path.display())]
    Permissions {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The disk or the folder does not allow it.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key or certificate of the authority cannot be used.
    #[error("authority: {0}")]
    Authority(&'static str),
    /// A key of the authority is in a security module that does not do what was asked.
    #[error("authority: {0}")]
    Module(#[from] crate::module::ModuleError),
    /// A key of the authority is sealed and does not open.
    #[error("authority: {0}")]
    Sealed(#[from] crate::key_text::KeyTextError),
    /// The time is outside the validity or the usage period of the active unit.
    #[error("time is outside the validity of the authority's certificate")]
    Validity,
    /// The clock went back further than it is known.
    #[error("time lies before that of a token that was given, by more than the stated accuracy")]
    Clock,
    /// Something is not DER of the expected shape.
    #[error("token: {0}")]
    Der(#[from] der::Error),
    /// A response, token or certificate breaks a rule.
    #[error("token is refused: {0}")]
    Refused(&'static str),
}

/// The DER `TimeStampToken` inside a DER `TimeStampResp`.
///
/// # Errors
/// [`TsaError::Der`]; [`TsaError::Refused`] when the response grants nothing.
pub fn token_of(response: &[u8]) -> Result<Vec<u8>, TsaError> {
    let response = x509_tsp::TimeStampResp::from_der(response)?;
    Ok(asn1::granted(&response)?.to_der()?)
}
