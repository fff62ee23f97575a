//! The digests of the profile (EN 319 422 section 5.1.3, ETSI TS 119 312): SHA-256, SHA-384 and SHA-512, and no other.

use super::TsaError;
use aws_lc_rs::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use const_oid::ObjectIdentifier;
use const_oid::db::rfc5912::{ID_SHA_256, ID_SHA_384, ID_SHA_512};
use der::asn1::Any;
use spki::AlgorithmIdentifierOwned;
use std::fmt;
use std::str::FromStr;

/// A digest that may be stamped, or that signatures are made over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digest {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Digest {
    /// Every digest.
    pub const ALL: [Digest; 3] = [Digest::Sha256, Digest::Sha384, Digest::Sha512];

    /// The digest of bytes.
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> Vec<u8> {
        digest(self.algorithm(), bytes).as_ref().to_vec()
    }

    /// Its length in bytes.
    #[must_use]
    pub fn length(self) -> usize {
        self.algorithm().output_len()
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Digest::Sha256 => &SHA256,
            Digest::Sha384 => &SHA384,
            Digest::Sha512 => &SHA512,
        }
    }

    pub(super) fn oid(self) -> ObjectIdentifier {
        match self {
            Digest::Sha256 => ID_SHA_256,
            Digest::Sha384 => ID_SHA_384,
            Digest::Sha512 => ID_SHA_512,
        }
    }

    /// As an algorithm identifier; RFC 5754 leaves the parameters out.
    pub(crate) fn identifier(self) -> AlgorithmIdentifierOwned {
        AlgorithmIdentifierOwned { oid: self.oid(), parameters: None }
    }

    /// The digest that an identifier names, with NULL or no parameters.
    pub(super) fn named(algorithm: &AlgorithmIdentifierOwned) -> Option<Digest> {
        let plain = algorithm.parameters.as_ref().is_none_or(Any::is_null);
        let found = Digest::ALL.into_iter().find(|d| d.oid() == algorithm.oid);
        found.filter(|_| plain)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Digest::Sha256 => "sha-256",
            Digest::Sha384 => "sha-384",
            Digest::Sha512 => "sha-512",
        })
    }
}

impl FromStr for Digest {
    type Err = TsaError;

    fn from_str(text: &str) -> Result<Digest, TsaError> {
        let found = Digest::ALL.into_iter().find(|digest| digest.to_string() == text);
        found.ok_or(TsaError::Authority("digest is sha-256, sha-384 or sha-512"))
    }
}
