//! The frame around every record of a segment: `length (u32) ‖ kind (u8) ‖ body ‖ SHA-256(length ‖ kind ‖ body)`.
//!
//! Numbers are big-endian. The digest makes a torn write and a changed bit visible, whichever byte they hit.
//! Failure behaviour: a frame that does not hold is [`Broken`], with what can still be said about its length.

use schemas::Sha256;
use zegel_crypto::hash::Hasher;

/// Bytes before the body.
pub(crate) const HEAD: usize = 5;
/// Bytes after the body.
pub(crate) const DIGEST: usize = 32;
/// The longest body that is written or read: a bag of a million entries has 120 MB of XML.
pub(crate) const BODY_MAX: usize = 256 << 20;

/// A frame that holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub kind: u8,
    pub body: &'a [u8],
    pub digest: Sha256,
}

/// A frame that does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The bytes end before the frame does, or its length cannot be.
    Short,
    /// The digest is another.
    Digest,
}

/// The digest of a record.
pub(crate) fn digest(kind: u8, body: &[u8]) -> Sha256 {
    let mut hasher = Hasher::new();
    hasher.update(&head(kind, body.len()));
    hasher.update(body);
    hasher.finish()
}

/// The frame's first bytes; a body is at most [`BODY_MAX`] long, which its maker has checked.
pub(crate) fn head(kind: u8, length: usize) -> [u8; HEAD] {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [a, b, c, d, kind]
}

/// The length of the whole frame that begins here, if it can be one.
pub(crate) fn length(bytes: &[u8]) -> Option<usize> {
    let body = u32::from_be_bytes(*bytes.first_chunk::<4>()?);
    let body = usize::try_from(body).ok().filter(|body| *body <= BODY_MAX)?;
    Some(HEAD + body + DIGEST)
}

/// Reads the frame that begins here.
pub(crate) fn read(bytes: &[u8]) -> Result<Frame<'_>, Broken> {
    let length = length(bytes).ok_or(Broken::Short)?;
    let frame = bytes.get(..length).ok_or(Broken::Short)?;
    let (covered, stored) = frame.split_at(length - DIGEST);
    let digest = digest(covered[4], &covered[HEAD..]);
    if stored == digest.0 {
        Ok(Frame { kind: covered[4], body: &covered[HEAD..], digest })
    } else {
        Err(Broken::Digest)
    }
}

/// Appends a frame to a buffer; returns its digest.
pub(crate) fn append(out: &mut Vec<u8>, kind: u8, body: &[u8]) -> Sha256 {
    let digest = digest(kind, body);
    out.extend_from_slice(&head(kind, body.len()));
    out.extend_from_slice(body);
    out.extend_from_slice(&digest.0);
    digest
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_bit_and_every_cut_breaks_a_frame() {
        let mut good = Vec::new();
        append(&mut good, 7, b"body");
        assert_eq!(read(&good).unwrap().body, b"body");
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bytes).is_err(), "bit {bit}");
        }
        for cut in 0..good.len() {
            assert_eq!(read(&good[..cut]).unwrap_err(), Broken::Short);
        }
    }
}
