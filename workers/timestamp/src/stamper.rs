//! The authority's port: a digest in, a time-stamp response out.
//!
//! Contract: [`Stamper::stamp`] may block (a foreign authority is called over the network); every error is worth another
//! attempt, because the bag waits until somebody stamps it and intake goes on meanwhile.
//! Failure behaviour: a response that does not verify is an error and is never archived (I8).

use schemas::{Millis, Sha256};
use zegel_crypto::tsa::{Authority, TrustAnchor, TsaError, verify};

/// Why there is no stamp now. What the authority said is for the log of whoever implements it.
#[derive(Debug, thiserror::Error)]
pub enum StampError {
    /// The authority cannot be reached, or refuses to stamp.
    #[error("authority gave no stamp")]
    Away,
    /// The authority's answer does not verify.
    #[error("authority's stamp does not verify")]
    Unverified,
}

/// A verified stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamped {
    /// The whole RFC 3161 `TimeStampResp`, DER.
    pub response: Vec<u8>,
    /// The token's time.
    pub gen_time: Millis,
}

/// See the module's contract.
pub trait Stamper: Send + Sync + 'static {
    /// Stamps a digest, not before `not_before`, which is the present instant or later.
    ///
    /// # Errors
    /// See [`StampError`].
    fn stamp(&self, imprint: &Sha256, not_before: Millis) -> Result<Stamped, StampError>;
}

/// Our own authority as a stamper: each token is verified like a stranger's before it is used.
#[derive(Debug)]
pub struct OwnAuthority {
    authority: Authority,
    anchor: TrustAnchor,
}

impl OwnAuthority {
    /// Wraps an authority.
    ///
    /// # Errors
    /// [`TsaError`] when its own CA certificate cannot be read.
    pub fn new(authority: Authority) -> Result<OwnAuthority, TsaError> {
        let anchor = TrustAnchor::from_pem(authority.ca_pem())?;
        Ok(OwnAuthority { authority, anchor })
    }
}

impl Stamper for OwnAuthority {
    fn stamp(&self, imprint: &Sha256, not_before: Millis) -> Result<Stamped, StampError> {
        let response = self.authority.stamp(imprint, None, not_before).map_err(|_| StampError::Away)?;
        let info = verify(&response, imprint, &self.anchor).map_err(|_| StampError::Unverified)?;
        Ok(Stamped { response, gen_time: info.gen_time })
    }
}
