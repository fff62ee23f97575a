//! The authority's ports: a digest in, a time-stamp response out, for bags ([`Stamper`]) and for anybody ([`Answerer`]).
//!
//! Contract: [`Stamper::stamp`] may block (a foreign authority is called over the network); every error is worth another
//! attempt, because the bag waits until somebody stamps it and intake goes on meanwhile.
//! Failure behaviour: a response that does not verify is an error and is never archived (I8).

use schemas::{Millis, Sha256};
use std::sync::Arc;
use zegel_core::{Moment, Voucher};
use zegel_crypto::tsa::{Authority, Digest, Request, TrustAnchor, TsaError, verify, verify_imprint};

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

    /// Stamps a hash of any digest of the profile, now: what renewals in a later digest need.
    ///
    /// # Errors
    /// See [`StampError`]; [`StampError::Away`] from who stamps SHA-256 alone.
    fn stamp_over(&self, digest: Digest, hash: &[u8], now: Millis) -> Result<Stamped, StampError> {
        match (digest, hash.try_into()) {
            (Digest::Sha256, Ok(hash)) => self.stamp(&Sha256(hash), now),
            _ => Err(StampError::Away),
        }
    }
}

/// Answers RFC 3161 requests of others, and publishes what they need to verify the answers.
pub trait Answerer: Send + Sync + 'static {
    /// Blocks for a signature. Answers a DER `TimeStampReq` with a DER `TimeStampResp`, a token or a refusal. `now` is none while the platform's clock
    /// is not to be trusted.
    fn answer(&self, request: &[u8], now: Option<Millis>) -> Vec<u8>;

    /// The CA's revocation list, DER.
    fn revocations(&self) -> Option<Vec<u8>>;

    /// The certificates of all units, PEM.
    fn units(&self) -> Option<String>;
}

/// Our own authority as a stamper: each token for a bag is verified like a stranger's before it is used.
#[derive(Clone)]
pub struct OwnAuthority {
    authority: Arc<Authority>,
    anchor: TrustAnchor,
    voucher: Option<Arc<Voucher>>,
}

impl OwnAuthority {
    /// Wraps an authority whose time nobody vouches for: its tokens promise nothing.
    ///
    /// # Errors
    /// [`TsaError`] when its own CA certificate cannot be read.
    pub fn new(authority: Authority) -> Result<OwnAuthority, TsaError> {
        let anchor = TrustAnchor::from_pem(authority.ca_pem())?;
        Ok(OwnAuthority { authority: Arc::new(authority), anchor, voucher: None })
    }

    /// The same authority, stamping only while time sources vouch for the clock, and stating how accurate it is.
    #[must_use]
    pub fn vouched_by(mut self, voucher: Arc<Voucher>) -> OwnAuthority {
        self.voucher = Some(voucher);
        self
    }

    /// The authority itself, for its upkeep.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    fn moment(&self, now: Millis) -> Option<Moment> {
        match &self.voucher {
            None => Some(Moment::from(now)),
            Some(voucher) => voucher.moment().ok(),
        }
    }
}

impl Stamper for OwnAuthority {
    fn stamp(&self, imprint: &Sha256, not_before: Millis) -> Result<Stamped, StampError> {
        let mut moment = self.moment(not_before).ok_or(StampError::Away)?;
        // A bag's end lies in the past, unless the platform's clock and the vouched one part: then it waits.
        let slack = moment.accuracy_ms.map_or(i64::MAX, |accuracy| i64::from(accuracy) / 2);
        if not_before.since(moment.now) > slack {
            return Err(StampError::Away);
        }
        moment.now = moment.now.max(not_before);
        let response = self.authority.stamp(imprint, None, moment).map_err(|_| StampError::Away)?;
        let info = verify(&response, imprint, &self.anchor).map_err(|_| StampError::Unverified)?;
        Ok(Stamped { response, gen_time: info.gen_time })
    }

    fn stamp_over(&self, digest: Digest, hash: &[u8], now: Millis) -> Result<Stamped, StampError> {
        let request = Request::over(digest, hash, None).map_err(|_| StampError::Away)?;
        let response = self.answer(&request.encode(), Some(now));
        let info = verify_imprint(&response, digest, hash, &self.anchor).map_err(|_| StampError::Away)?;
        Ok(Stamped { response, gen_time: info.gen_time })
    }
}

impl Answerer for OwnAuthority {
    fn answer(&self, request: &[u8], now: Option<Millis>) -> Vec<u8> {
        self.authority.answer(request, now.and_then(|now| self.moment(now)))
    }

    fn revocations(&self) -> Option<Vec<u8>> {
        self.authority.list().ok()
    }

    fn units(&self) -> Option<String> {
        self.authority.units_pem().ok()
    }
}
