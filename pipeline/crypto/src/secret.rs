//! Secret values: 32 bytes that print as stars and are wiped when dropped.
//!
//! Neither type implements `Serialize` or `Display`, so a secret leaves only where `expose` is written.

use std::cell::RefCell;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// 256 secret bits.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret32([u8; 32]);

impl Secret32 {
    /// Takes the bytes over. The caller wipes its own copy.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Secret32 {
        Secret32(bytes)
    }

    /// Fresh random bytes.
    #[must_use]
    pub fn random() -> Secret32 {
        let mut secret = Secret32([0; 32]);
        fill_random(&mut secret.0);
        secret
    }

    /// The bytes, for the one computation that needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret32(***)")
    }
}

/// The random root that all keys of one TTP project are derived from. It is random, not derived from a master key, so a
/// project whose root is dropped is shredded for good.
#[derive(Clone)]
pub struct ProjectRoot(Secret32);

impl ProjectRoot {
    /// Wraps a root.
    #[must_use]
    pub fn new(root: Secret32) -> ProjectRoot {
        ProjectRoot(root)
    }

    /// The bytes, for the derivation of the project's keys.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// The root as a secret, for a service that keeps it.
    #[must_use]
    pub fn into_secret(self) -> Secret32 {
        self.0
    }

    /// What may be written down of a root: it shows nothing of it, and no other root has the same. So a register can say
    /// which root a project was activated with, and which one was destroyed.
    #[must_use]
    pub fn commitment(&self) -> schemas::Sha256 {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, self.expose());
        let tag = aws_lc_rs::hmac::sign(&key, b"zegel-root/1");
        let mut commitment = [0; 32];
        commitment.copy_from_slice(tag.as_ref());
        schemas::Sha256(commitment)
    }
}

impl fmt::Debug for ProjectRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProjectRoot(***)")
    }
}

/// Random bytes drawn ahead by a thread: 64 salts or ids, for which one call of the generator is as dear as for one.
const POOL: usize = 1_024;

/// Drawn and not yet handed out: the last `left` bytes.
struct Pool {
    bytes: [u8; POOL],
    left: usize,
}

thread_local! {
    static AHEAD: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL], left: 0 }) };
}

/// Fills a small buffer with randomness that will be seen by others (salts, ids), from bytes drawn ahead by this thread.
/// What is handed out is wiped here. Keys come from [`fill_random`]. The process never forks, so no two share a pool.
///
/// # Panics
/// As [`fill_random`].
pub(crate) fn fill_public(out: &mut [u8]) {
    if out.len() > POOL / 4 {
        return fill_random(out);
    }
    AHEAD.with_borrow_mut(|pool| {
        if pool.left < out.len() {
            fill_random(&mut pool.bytes);
            pool.left = POOL;
        }
        let start = POOL - pool.left;
        let taken = &mut pool.bytes[start..start + out.len()];
        out.copy_from_slice(taken);
        taken.zeroize();
        pool.left -= out.len();
    });
}

/// Fills the buffer from the library's generator (CTR-DRBG of the calling thread, seeded by the kernel, reseeded after
/// a fork).
///
/// # Panics
/// When the system gives no randomness. To go on would be to encrypt under a guessable key (I8).
pub(crate) fn fill_random(out: &mut [u8]) {
    assert!(aws_lc_rs::rand::fill(out).is_ok(), "the system gives no randomness");
}

/// 64 random bits, for what must not be guessed and is no secret: nonces, cookies.
#[must_use]
pub fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    fill_random(&mut bytes);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints() {
        assert_eq!(format!("{:?}", Secret32::new([0xAB; 32])), "Secret32(***)");
        assert_eq!(format!("{:#?}", ProjectRoot::new(Secret32::new([0xAB; 32]))), "ProjectRoot(***)");
    }

    #[test]
    fn no_byte_drawn_ahead_is_handed_out_twice() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10 * POOL / 16 {
            let mut id = [0; 16];
            fill_public(&mut id);
            assert!(seen.insert(id));
        }
        AHEAD.with_borrow(|pool| assert!(pool.bytes[..POOL - pool.left].iter().all(|byte| *byte == 0)));
    }

    #[test]
    fn two_random_secrets_differ() {
        assert_ne!(Secret32::random().expose(), Secret32::random().expose());
    }
}
