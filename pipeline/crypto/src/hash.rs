//! SHA-256 (FIPS 180-4) for everybody who checks or names content: at once, or while it streams.

use aws_lc_rs::digest::{Context, SHA256, digest};
use schemas::Sha256;

/// The digest of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Sha256 {
    fixed(digest(&SHA256, bytes).as_ref())
}

/// A digest in the making.
#[derive(Clone)]
pub struct Hasher(Context);

impl Hasher {
    /// Nothing hashed yet.
    #[must_use]
    pub fn new() -> Hasher {
        Hasher(Context::new(&SHA256))
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes taken.
    #[must_use]
    pub fn finish(self) -> Sha256 {
        fixed(self.0.finish().as_ref())
    }
}

impl Default for Hasher {
    fn default() -> Hasher {
        Hasher::new()
    }
}

fn fixed(bytes: &[u8]) -> Sha256 {
    let mut out = [0; 32];
    out.copy_from_slice(bytes);
    Sha256(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_published_one_in_one_piece_or_many() {
        // FIPS 180-4 example: "abc".
        let published = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc").to_string(), published);
        let mut hasher = Hasher::new();
        hasher.update(b"a");
        hasher.update(b"bc");
        assert_eq!(hasher.finish().to_string(), published);
    }
}
