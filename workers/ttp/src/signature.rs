//! The outer signature of a batch: checked against the certificate that the agreement names for its sender, and taken off, so that
//! nothing of it reaches the recipient.
//!
//! Form: CMS SignedData in DER with the batch inside (RFC 5652), one signer, SHA-256; `openssl cms -sign -nodetach -binary -md sha256
//! -outform DER` makes it. Bound: [`SIGNED_MAX`], because a signature counts only when the last byte was read.
//! Failure: anything else refuses the batch (I8); the reason names the rule, never the signer.

use crate::refusal::{TransformError, refusal};
use schemas::Sha256;
use std::io::{BufRead, Read};
use zegel_crypto::signed;

/// The largest signed batch: it is held in memory twice.
pub(crate) const SIGNED_MAX: u64 = 16 << 20;

/// The batch inside a signature by the holder of this certificate; none: nobody's counts.
pub(crate) fn strip(input: &mut dyn BufRead, signer: Option<Sha256>) -> Result<Vec<u8>, TransformError> {
    let mut bytes = Vec::new();
    input.take(SIGNED_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SIGNED_MAX {
        return Err(refusal("ZGL-TTP-SIZE", "a signed batch is at most 16 MiB: send it in several parts").into());
    }
    let (content, verified) = signed::open(&bytes).map_err(|error| {
        let text = format!("the batch is not CMS SignedData of its sender: {error}");
        refusal("ZGL-TTP-SIGNATURE", text)
    })?;
    if signer != Some(verified.signer.fingerprint) {
        let text = "the batch is signed with another certificate than the agreement names for its sender";
        return Err(refusal("ZGL-TTP-SIGNATURE", text).into());
    }
    Ok(content)
}
