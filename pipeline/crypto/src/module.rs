//! Keys that never leave a security module: what this crate asks of one. PKCS#11 stands behind it, one crate away.
//!
//! A key is known by its URI (RFC 7512), which is written where a key file would be: `pkcs11:token=…;object=…;id=…;type=…`.
//! It names no place of a library and holds no PIN; those are settings.
//! Failure behaviour: [`ModuleError`] says which rule or what the module answered, never anything of a key or a PIN. A module that
//! is away fails the call, and only that: callers stamp later, and open nothing meanwhile.

use crate::tsa::Algorithm;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// How a text begins that names a key in a module.
const SCHEME: &str = "pkcs11:";

/// Whether a text names a key in a module.
pub(crate) fn is_uri(text: &str) -> bool {
    text.starts_with(SCHEME)
}

/// Why a module did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModuleError {
    /// The key is in a module, and the settings name none.
    #[error("the key is in a security module: name it in the setting keys.module")]
    Absent,
    /// The text does not name a key of this module.
    #[error("{0}")]
    Uri(&'static str),
    /// There is no such key, or more than one.
    #[error("the security module has {found} keys of kind {kind} under that id, not one")]
    Key {
        /// What was looked for.
        kind: &'static str,
        /// How many there are.
        found: usize,
    },
    /// What the module returned is not what PKCS#11 says.
    #[error("the security module answered {0}")]
    Answer(&'static str),
    /// The module's own words; they name a function and a return value.
    #[error("security module: {0}")]
    Failed(String),
}

/// A private key that signs inside the module.
pub trait ModuleKey: fmt::Debug + Send + Sync {
    /// Its URI.
    fn uri(&self) -> &str;

    /// What it is made of.
    fn algorithm(&self) -> Algorithm;

    /// Its public half as a certificate has it: `RSAPublicKey` (RFC 8017) or an uncompressed point (SEC 1).
    fn public_bytes(&self) -> &[u8];

    /// A signature over a digest that goes with the algorithm, as certificates and tokens have it: PKCS#1 v1.5 over the
    /// `DigestInfo`, or `ECDSA-Sig-Value` in DER.
    ///
    /// # Errors
    /// [`ModuleError::Failed`] while the module is away.
    fn sign_digest(&self, digest: &[u8]) -> Result<Vec<u8>, ModuleError>;
}

/// A security module with one token that was opened.
pub trait Module: fmt::Debug + Send + Sync {
    /// Makes a signing key that is sensitive and cannot be extracted. `label` is for whoever looks at the token.
    ///
    /// # Errors
    /// See [`ModuleError`].
    fn generate(&self, label: &str, algorithm: Algorithm) -> Result<Arc<dyn ModuleKey>, ModuleError>;

    /// The signing key that a URI names.
    ///
    /// # Errors
    /// See [`ModuleError`].
    fn signing_key(&self, uri: &str) -> Result<Arc<dyn ModuleKey>, ModuleError>;

    /// Destroys both halves of a signing key; nothing when there is none.
    ///
    /// # Errors
    /// See [`ModuleError`].
    fn destroy(&self, uri: &str) -> Result<(), ModuleError>;

    /// Makes an AES-256 key that is sensitive and cannot be extracted, for [`Module::wrap`]. Returns its URI.
    ///
    /// # Errors
    /// See [`ModuleError`].
    fn generate_wrapping(&self, label: &str) -> Result<String, ModuleError>;

    /// Encrypts up to 64 bytes under a wrapping key, bound to `context`: `nonce (12) ‖ ciphertext ‖ tag (16)`, AES-256-GCM.
    ///
    /// # Errors
    /// See [`ModuleError`].
    fn wrap(&self, uri: &str, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, ModuleError>;

    /// What [`Module::wrap`] was given.
    ///
    /// # Errors
    /// [`ModuleError::Failed`] also when it does not authenticate.
    fn unwrap(&self, uri: &str, context: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, ModuleError>;
}
