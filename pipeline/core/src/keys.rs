//! The keys port: blinding identifiers, sealing what is stored, randomness.
//!
//! Invariant I4: nothing leaves this process towards a store or a broker except [`Key`]s (blinded) and [`Sealed`] bytes.
//! The ports accept only these two types, so a forgotten encryption does not compile.

use bytes::Bytes;
use schemas::Key;

/// Why sealed bytes could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// The authentication tag does not match: the bytes, their place or the key is not the one they were sealed with.
    #[error("sealed value fails authentication")]
    Authentication,
    /// The value names a key version that is not in the key file.
    #[error("key version {0} is not in the key file")]
    UnknownVersion(u32),
    /// The value's format is unknown or it is too short.
    #[error("sealed value has an unknown format")]
    Format,
}

/// Bytes that were encrypted and authenticated for one place. Made by [`Keys::seal`]; backends store them as they are.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Bytes);

impl Sealed {
    /// Wraps bytes that come from a store or a broker, or from an implementation of [`Keys::seal`].
    #[must_use]
    pub fn from_stored(bytes: Bytes) -> Sealed {
        Sealed(bytes)
    }

    /// The ciphertext.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Length of the ciphertext.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// Blinds, seals, opens, and makes randomness. Implementations are cheap to call from many threads (microseconds).
pub trait Keys: Send + Sync + 'static {
    /// The key of an identifier in a domain: 16 bytes of HMAC-SHA-256. The same input gives the same key for the whole
    /// life of the data folder (the blinding key does not rotate, or state would be lost).
    fn blind(&self, domain: &str, identifier: &[u8]) -> Key;

    /// Encrypts `plain` for the place that `context` names (AES-256-GCM, one key per value, see the crypto crate).
    /// A value moved to another place does not open there.
    fn seal(&self, context: &[u8], plain: &[u8]) -> Sealed;

    /// Decrypts and authenticates.
    ///
    /// # Errors
    /// See [`KeysError`]. The caller stops the item (I8).
    fn open(&self, context: &[u8], sealed: &Sealed) -> Result<Vec<u8>, KeysError>;

    /// Fills the buffer with random bytes.
    fn random(&self, out: &mut [u8]);

    /// 16 random bytes that others will see: an id.
    fn random16(&self) -> [u8; 16] {
        let mut out = [0; 16];
        self.random(&mut out);
        out
    }
}
