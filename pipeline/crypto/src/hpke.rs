//! Hybrid public key encryption: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM in base mode, one message a key (RFC 9180).
//!
//! What is sealed is `enc (32) ‖ ciphertext ‖ tag (16)`. The ephemeral key is derived (section 7.1.3) from key material that the caller
//! gives: fresh material for each message, or one that is a keyed function of everything that is sealed, so that it seals one message
//! only.
//! Keys are PEM as `openssl genpkey -algorithm X25519` and `openssl pkey -pubout` write them (RFC 8410, sections 4 and 7).
//! Invariants: base mode says nothing of who sealed; a caller that must know binds it elsewhere. Private keys print as stars.
//! Failure: [`HpkeError`], without a byte of key or message (I8).

use aws_lc_rs::aead::{AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use der::pem::LineEnding;
use hkdf::Hkdf;
use sha2::Sha256;
use std::fmt;
use zeroize::Zeroizing;

/// Bytes of a key, and of what stands in front of a ciphertext.
pub const KEY: usize = 32;
/// Bytes that sealing adds.
pub const OVERHEAD: usize = KEY + 16;

const KEM_ID: [u8; 2] = [0x00, 0x20];
const KDF_ID: [u8; 2] = [0x00, 0x01];
/// AES-256-GCM.
const AEAD_ID: [u8; 2] = [0x00, 0x02];
/// SubjectPublicKeyInfo of an X25519 key up to its bits (RFC 8410, section 4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00];
/// OneAsymmetricKey of an X25519 key up to its bytes (RFC 8410, section 7).
const PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x04, 0x22, 0x04, 0x20];
const PUBLIC_LABEL: &str = "PUBLIC KEY";
const PRIVATE_LABEL: &str = "PRIVATE KEY";

/// Why something cannot be sealed, opened, or used as a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HpkeError {
    /// The text is no X25519 key in PEM.
    #[error("key is not X25519 in PEM, as openssl genpkey -algorithm X25519 writes it")]
    Key,
    /// It was sealed for another key, with another context, or changed.
    #[error("sealed value does not open with this key")]
    Open,
}

/// A key that things are sealed for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SealKey([u8; KEY]);

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(…)")
    }
}

impl SealKey {
    /// Reads a public key.
    ///
    /// # Errors
    /// [`HpkeError::Key`].
    pub fn from_pem(pem: &str) -> Result<SealKey, HpkeError> {
        let text = trimmed(pem);
        let (label, der) = der::pem::decode_vec(text.as_bytes()).map_err(|_| HpkeError::Key)?;
        let key = der.strip_prefix(&SPKI).filter(|_| label == PUBLIC_LABEL).ok_or(HpkeError::Key)?;
        key.try_into().map(SealKey).map_err(|_| HpkeError::Key)
    }

    /// As PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem(PUBLIC_LABEL, &[&SPKI[..], &self.0].concat())
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; KEY] {
        &self.0
    }

    /// Whether something can be sealed for it: not one of the few points for which every secret is zero (RFC 7748, section 6.1).
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.seal(&[1; KEY], b"", b"", b"").is_ok()
    }

    /// Seals `plain`; `material` as in the module's header.
    ///
    /// # Errors
    /// [`HpkeError::Key`] when the key is one of the few for which every secret is zero (RFC 7748, section 6.1).
    pub fn seal(&self, material: &[u8; KEY], info: &[u8], aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, HpkeError> {
        self.seal_with(&AES_256_GCM, AEAD_ID, material, (info, aad), plain)
    }

    fn seal_with(
        &self,
        aead: &'static Algorithm,
        aead_id: [u8; 2],
        material: &[u8; KEY],
        (info, aad): (&[u8], &[u8]),
        plain: &[u8],
    ) -> Result<Vec<u8>, HpkeError> {
        let ephemeral = OpenKey::derived(material)?;
        let (enc, secret) = (ephemeral.public, shared(&ephemeral.private, self, (&ephemeral.public, self))?);
        let mut sealed = enc.0.to_vec();
        sealed.extend_from_slice(plain);
        let (key, nonce) = schedule(&secret, info, aead, aead_id)?;
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), &mut sealed[KEY..]);
        sealed.extend_from_slice(tag.map_err(|_| HpkeError::Key)?.as_ref());
        Ok(sealed)
    }
}

/// A private key.
pub struct OpenKey {
    private: PrivateKey,
    public: SealKey,
    bytes: Zeroizing<[u8; KEY]>,
}

impl fmt::Debug for OpenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenKey(***)")
    }
}

impl OpenKey {
    /// A new key.
    #[must_use]
    pub fn generate() -> OpenKey {
        match OpenKey::of(Zeroizing::new(*crate::Secret32::random().expose())) {
            Ok(key) => key,
            Err(_) => unreachable!("any 32 bytes are an X25519 key (RFC 7748, section 5)"),
        }
    }

    /// Reads a private key.
    ///
    /// # Errors
    /// [`HpkeError::Key`].
    pub fn from_pem(pem: &str) -> Result<OpenKey, HpkeError> {
        let text = trimmed(pem);
        let (label, der) = der::pem::decode_vec(text.as_bytes()).map_err(|_| HpkeError::Key)?;
        let der = Zeroizing::new(der);
        let key = der.strip_prefix(&PKCS8).filter(|_| label == PRIVATE_LABEL).ok_or(HpkeError::Key)?;
        OpenKey::of(Zeroizing::new(key.try_into().map_err(|_| HpkeError::Key)?))
    }

    /// As PEM, PKCS#8.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(pem(PRIVATE_LABEL, &Zeroizing::new([&PKCS8[..], &self.bytes[..]].concat())))
    }

    /// The key that things are sealed for.
    #[must_use]
    pub fn public(&self) -> &SealKey {
        &self.public
    }

    /// Opens what was sealed for this key, with this context.
    ///
    /// # Errors
    /// [`HpkeError::Open`].
    pub fn open(&self, info: &[u8], aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, HpkeError> {
        let (enc, text) = sealed.split_at_checked(KEY).ok_or(HpkeError::Open)?;
        let enc = SealKey(enc.try_into().map_err(|_| HpkeError::Open)?);
        let secret = shared(&self.private, &enc, (&enc, &self.public)).map_err(|_| HpkeError::Open)?;
        let (key, nonce) = schedule(&secret, info, &AES_256_GCM, AEAD_ID)?;
        let mut text = Zeroizing::new(text.to_vec());
        let length = key.open_in_place(nonce, Aad::from(aad), &mut text).map_err(|_| HpkeError::Open)?.len();
        text.truncate(length);
        Ok(text)
    }

    /// Of 32 bytes; any are a key.
    ///
    /// # Errors
    /// [`HpkeError::Key`] when the library refuses them.
    pub fn from_bytes(bytes: &[u8; KEY]) -> Result<OpenKey, HpkeError> {
        OpenKey::of(Zeroizing::new(*bytes))
    }

    fn of(bytes: Zeroizing<[u8; KEY]>) -> Result<OpenKey, HpkeError> {
        let private = PrivateKey::from_private_key(&X25519, &bytes[..]).map_err(|_| HpkeError::Key)?;
        let public = private.compute_public_key().map_err(|_| HpkeError::Key)?;
        let public = SealKey(public.as_ref().try_into().map_err(|_| HpkeError::Key)?);
        Ok(OpenKey { private, public, bytes })
    }

    /// DeriveKeyPair of X25519.
    fn derived(material: &[u8; KEY]) -> Result<OpenKey, HpkeError> {
        let suite = kem_suite();
        let prk = extract(&suite, b"", b"dkp_prk", material);
        let mut bytes = Zeroizing::new([0; KEY]);
        expand(&prk, &suite, b"sk", b"", &mut bytes[..])?;
        OpenKey::of(bytes)
    }
}

/// The shared secret of a key pair and another's public key (sections 4.1 and 7.1).
fn shared(
    own: &PrivateKey,
    other: &SealKey,
    (enc, recipient): (&SealKey, &SealKey),
) -> Result<Zeroizing<[u8; KEY]>, HpkeError> {
    agree(own, UnparsedPublicKey::new(&X25519, &other.0), HpkeError::Key, |dh| {
        let suite = kem_suite();
        let prk = extract(&suite, b"", b"eae_prk", dh);
        let mut secret = Zeroizing::new([0; KEY]);
        expand(&prk, &suite, b"shared_secret", &[enc.0, recipient.0].concat(), &mut secret[..])?;
        Ok(secret)
    })
}

/// Key and nonce of the first message in base mode (section 5.1).
fn schedule(
    secret: &[u8; KEY],
    info: &[u8],
    aead: &'static Algorithm,
    aead_id: [u8; 2],
) -> Result<(LessSafeKey, Nonce), HpkeError> {
    let suite = [&b"HPKE"[..], &KEM_ID, &KDF_ID, &aead_id].concat();
    let psk_id_hash = extract_bytes(&suite, b"", b"psk_id_hash", b"");
    let info_hash = extract_bytes(&suite, b"", b"info_hash", info);
    let context = [&[0u8][..], &psk_id_hash, &info_hash].concat();
    let prk = extract(&suite, secret, b"secret", b"");
    let (mut key, mut nonce) = (Zeroizing::new(vec![0; aead.key_len()]), [0; 12]);
    expand(&prk, &suite, b"key", &context, &mut key)?;
    expand(&prk, &suite, b"base_nonce", &context, &mut nonce)?;
    let key = UnboundKey::new(aead, &key).map(LessSafeKey::new).map_err(|_| HpkeError::Key)?;
    Ok((key, Nonce::assume_unique_for_key(nonce)))
}

fn kem_suite() -> Vec<u8> {
    [&b"KEM"[..], &KEM_ID].concat()
}

/// LabeledExtract (section 4).
fn extract(suite: &[u8], salt: &[u8], label: &[u8], material: &[u8]) -> Hkdf<Sha256> {
    Hkdf::extract(Some(salt), &labelled(suite, label, material)).1
}

fn extract_bytes(suite: &[u8], salt: &[u8], label: &[u8], material: &[u8]) -> Vec<u8> {
    Hkdf::<Sha256>::extract(Some(salt), &labelled(suite, label, material)).0.to_vec()
}

fn labelled(suite: &[u8], label: &[u8], material: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([b"HPKE-v1", suite, label, material].concat())
}

/// LabeledExpand (section 4).
fn expand(prk: &Hkdf<Sha256>, suite: &[u8], label: &[u8], info: &[u8], out: &mut [u8]) -> Result<(), HpkeError> {
    let length = u16::try_from(out.len()).map_err(|_| HpkeError::Key)?.to_be_bytes();
    prk.expand(&[&length, &b"HPKE-v1"[..], suite, label, info].concat(), out).map_err(|_| HpkeError::Key)
}

/// A document's text is often indented.
fn trimmed(pem: &str) -> Zeroizing<String> {
    Zeroizing::new(pem.trim().lines().map(|line| format!("{}\n", line.trim())).collect())
}

fn pem(label: &str, der: &[u8]) -> String {
    match der::pem::encode_string(label, LineEnding::LF, der) {
        Ok(text) => text,
        Err(_) => unreachable!("a key of 48 bytes prints as PEM"),
    }
}

#[cfg(test)]
#[path = "hpke/tests.rs"]
mod tests;
