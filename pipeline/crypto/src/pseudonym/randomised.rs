//! `R1` tokens: another one each time, so that equal values do not link, and still reversible with the root.
//!
//! `R1.<kid>.<base64url(nonce ‖ ciphertext ‖ tag)>` with AES-256-GCM-SIV (RFC 8452), a random nonce of 12 bytes, the head
//! `R1.<kid>` as associated data, and the plaintext padded as in a `P1` token. GCM-SIV, because a nonce that repeats by
//! accident among billions of values then shows only that two values were equal.

use super::{BUCKET_MAX, BUCKET_MIN, LENGTH, PseudonymError, append, body, checked_length};
use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use std::fmt;
use zeroize::Zeroizing;

/// Bytes of randomness that each token needs.
pub const NONCE: usize = 12;
const TAG: usize = 16;

/// Makes and undoes `R1` tokens of one scope.
pub struct Randomised {
    pub(super) key: LessSafeKey,
    pub(super) head: String,
}

impl fmt::Debug for Randomised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Randomised(***)")
    }
}

impl Randomised {
    /// `<kind>.<kid>`: how each of its tokens begins.
    #[must_use]
    pub fn head(&self) -> &str {
        &self.head
    }

    /// Appends a token of `value`. `nonce` is fresh random bytes.
    ///
    /// # Errors
    /// [`PseudonymError::Empty`] or [`PseudonymError::TooLong`]; `out` is unchanged then.
    pub fn encode(&self, value: &[u8], nonce: [u8; NONCE], out: &mut Vec<u8>) -> Result<(), PseudonymError> {
        let length = checked_length(value)?;
        let bucket = (LENGTH + value.len()).next_power_of_two().max(BUCKET_MIN);
        let mut text = Zeroizing::new(Vec::with_capacity(NONCE + bucket + TAG));
        text.extend_from_slice(&nonce);
        text.extend_from_slice(&length.to_be_bytes());
        text.extend_from_slice(value);
        text.resize(NONCE + bucket, 0);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(&self.head), &mut text[NONCE..]);
        let Ok(tag) = tag else { unreachable!("a kilobyte is far below what GCM-SIV can seal") };
        text.extend_from_slice(tag.as_ref());
        append(out, &self.head, &text);
        Ok(())
    }

    /// The value that a token stands for.
    ///
    /// # Errors
    /// [`PseudonymError`]: whatever is not exactly a token of this scope is refused.
    pub fn decode(&self, token: &str) -> Result<Zeroizing<Vec<u8>>, PseudonymError> {
        let mut bytes = Zeroizing::new(body(token, "R1.", &self.head)?);
        let bucket = bytes.len().checked_sub(NONCE + TAG).ok_or(PseudonymError::Format)?;
        if !(BUCKET_MIN..=BUCKET_MAX).contains(&bucket) || !bucket.is_power_of_two() {
            return Err(PseudonymError::Format);
        }
        let (nonce, text) = bytes.split_at_mut(NONCE);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| PseudonymError::Format)?;
        let text =
            self.key.open_in_place(nonce, Aad::from(&self.head), text).map_err(|_| PseudonymError::Authentication)?;
        let (length, padded) = text.split_at(LENGTH);
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let value = padded.get(..length).ok_or(PseudonymError::Format)?;
        Ok(Zeroizing::new(value.to_vec()))
    }
}
