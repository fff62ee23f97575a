//! Requests (RFC 3161 section 2.4.1) and what is answered when there is no token (section 2.4.2).

use super::digest::Digest;
use super::encode::{BIT_STRING, INTEGER, OCTET_STRING, SEQUENCE, UTF8_STRING, element, unsigned};
use der::asn1::{Any, ObjectIdentifier};
use der::{Decode, Encode, SliceReader};
use x509_tsp::{MessageImprint, TimeStampReq};

/// Longest request that is looked at: SHA-512, a long policy and a nonce of 64 bytes take under 250 bytes.
pub const REQUEST_MAX: usize = 4_096;
/// Longest nonce: eight times what clients send.
const NONCE_MAX: usize = 64;

/// Why there is no token: `PKIFailureInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Bit 0.
    #[error("digest is not SHA-256, SHA-384 or SHA-512")]
    BadAlg,
    /// Bit 2.
    #[error("request is not supported: version 1, and a nonce of at most 64 bytes")]
    BadRequest,
    /// Bit 5.
    #[error("request is not a DER TimeStampReq with an imprint of its digest's length")]
    BadDataFormat,
    /// Bit 14.
    #[error("the authority's time is not available within the stated accuracy")]
    TimeNotAvailable,
    /// Bit 15.
    #[error("policy is not one of this authority's")]
    UnacceptedPolicy,
    /// Bit 16.
    #[error("extensions are not supported")]
    UnacceptedExtension,
    /// Bit 25.
    #[error("the authority could not stamp; try again")]
    SystemFailure,
}

impl Failure {
    fn bit(self) -> u8 {
        match self {
            Failure::BadAlg => 0,
            Failure::BadRequest => 2,
            Failure::BadDataFormat => 5,
            Failure::TimeNotAvailable => 14,
            Failure::UnacceptedPolicy => 15,
            Failure::UnacceptedExtension => 16,
            Failure::SystemFailure => 25,
        }
    }

    /// A rejecting `TimeStampResp`, DER: status rejection(2), the reason as text, and its bit.
    #[must_use]
    pub fn response(self) -> Vec<u8> {
        let text = element(SEQUENCE, &[&element(UTF8_STRING, &[self.to_string().as_bytes()])]);
        let (bytes, bit) = (usize::from(self.bit() / 8), self.bit() % 8);
        // A named bit list ends with its last set bit (X.690 section 11.2.2).
        let mut bits = vec![0; bytes + 2];
        bits[0] = 7 - bit;
        bits[bytes + 1] = 0x80 >> bit;
        let status = element(SEQUENCE, &[&unsigned(INTEGER, 2), &text, &element(BIT_STRING, &[&bits])]);
        element(SEQUENCE, &[&status])
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The `MessageImprint` as it came, DER.
    pub(super) imprint: Vec<u8>,
    /// The policy that is wanted.
    pub(super) policy: Option<ObjectIdentifier>,
    /// The content of the nonce's INTEGER.
    pub(super) nonce: Option<Vec<u8>>,
    /// Whether the unit's certificate is to be inside.
    pub(super) certificates: bool,
}

impl Request {
    /// Reads a DER `TimeStampReq`.
    ///
    /// # Errors
    /// [`Failure`]: what is to be answered.
    pub fn read(bytes: &[u8]) -> Result<Request, Failure> {
        if bytes.len() > REQUEST_MAX {
            return Err(Failure::BadDataFormat);
        }
        let read = TimeStampReq::from_der(bytes).map_err(|_| unreadable(bytes))?;
        if read.extensions.is_some() {
            return Err(Failure::UnacceptedExtension);
        }
        let digest = Digest::named(&read.message_imprint.hash_algorithm).ok_or(Failure::BadAlg)?;
        if read.message_imprint.hashed_message.as_bytes().len() != digest.length() {
            return Err(Failure::BadDataFormat);
        }
        let nonce = read.nonce.map(|nonce| nonce.as_bytes().to_vec());
        if nonce.as_ref().is_some_and(|nonce| nonce.len() > NONCE_MAX) {
            return Err(Failure::BadRequest);
        }
        let imprint = read.message_imprint.to_der().map_err(|_| Failure::BadDataFormat)?;
        Ok(Request { imprint, policy: read.req_policy, nonce, certificates: read.cert_req })
    }

    /// A request for a digest, for the unit's certificate to be inside.
    ///
    /// # Errors
    /// [`Failure::BadDataFormat`] when the hash has another length than the digest.
    pub fn over(digest: Digest, hash: &[u8], nonce: Option<u64>) -> Result<Request, Failure> {
        if hash.len() != digest.length() {
            return Err(Failure::BadDataFormat);
        }
        let algorithm = digest.identifier().to_der().map_err(|_| Failure::BadDataFormat)?;
        let imprint = element(SEQUENCE, &[&algorithm, &element(OCTET_STRING, &[hash])]);
        let nonce = nonce.map(|nonce| {
            let bytes = nonce.to_be_bytes();
            let leading = bytes.iter().take_while(|byte| **byte == 0).count().min(7);
            let zero: &[u8] = if bytes[leading] & 0x80 == 0 { &[] } else { &[0] };
            [zero, &bytes[leading..]].concat()
        });
        Ok(Request { imprint, policy: None, nonce, certificates: true })
    }

    /// The DER `TimeStampReq`, to be sent to an authority.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let policy = self.policy.and_then(|policy| policy.to_der().ok()).unwrap_or_default();
        let nonce = self.nonce.as_ref().map(|nonce| element(INTEGER, &[nonce])).unwrap_or_default();
        // BOOLEAN TRUE; DER leaves the default out.
        let certificates: &[u8] = if self.certificates { &[0x01, 0x01, 0xff] } else { &[] };
        element(SEQUENCE, &[&unsigned(INTEGER, 1), &self.imprint, &policy, &nonce, certificates])
    }

    /// The digest and hash that are to be stamped.
    #[must_use]
    pub fn imprint(&self) -> Option<(Digest, Vec<u8>)> {
        let imprint = MessageImprint::from_der(&self.imprint).ok()?;
        Some((Digest::named(&imprint.hash_algorithm)?, imprint.hashed_message.as_bytes().to_vec()))
    }
}

/// What is wrong with bytes that are no request of version 1.
fn unreadable(bytes: &[u8]) -> Failure {
    let version = Any::from_der(bytes)
        .ok()
        .and_then(|any| SliceReader::new(any.value()).ok().and_then(|mut reader| u64::decode(&mut reader).ok()));
    match version {
        Some(version) if version != 1 => Failure::BadRequest,
        _ => Failure::BadDataFormat,
    }
}
