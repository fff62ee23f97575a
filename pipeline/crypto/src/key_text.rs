//! Private keys in files of their own, sealed with the keys of the data folder: a copy of the folder has them only with what opens
//! `keys.toml`.
//!
//! Form: PEM with the label `ZEGEL SEALED PRIVATE KEY` around a value of [`Keys::seal`] whose content is the PEM of the key, in place
//! of that PEM. What is not of this form is handed through: a plain key, or the URI of one in a security module.
//! Failure behaviour: a sealed text without keys, or with others, is an error (I8).

use bytes::Bytes;
use der::pem::{self, LineEnding};
use zegel_core::{Keys, Sealed};
use zeroize::Zeroizing;

const LABEL: &str = "ZEGEL SEALED PRIVATE KEY";
const BEGIN: &str = "-----BEGIN ZEGEL SEALED PRIVATE KEY-----";
/// What the sealed value is bound to.
const CONTEXT: &[u8] = b"zegel-key-text/1";

/// Why a text holds no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// It is sealed, and the keys of the folder are not at hand or not sealed themselves.
    #[error("a key file is sealed with the folder's keys, which are not at hand")]
    Sealed,
    /// Other keys sealed it, or it was changed.
    #[error("a key file does not open with the folder's keys: it belongs to another folder, or was changed")]
    Authentication,
    /// It does not encode.
    #[error("a key could not be written")]
    Encoding,
}

/// The text of a private key as it is kept: sealed where there are keys for that.
///
/// # Errors
/// [`KeyTextError::Encoding`].
pub fn kept(text: &str, keys: Option<&dyn Keys>) -> Result<Zeroizing<String>, KeyTextError> {
    let Some(keys) = keys else { return Ok(Zeroizing::new(text.to_owned())) };
    let sealed = keys.seal(CONTEXT, text.as_bytes());
    pem::encode_string(LABEL, LineEnding::LF, sealed.bytes()).map(Zeroizing::new).map_err(|_| KeyTextError::Encoding)
}

/// The text of a private key as it was before [`kept`].
///
/// # Errors
/// [`KeyTextError::Sealed`], [`KeyTextError::Authentication`].
pub fn opened(text: &str, keys: Option<&dyn Keys>) -> Result<Zeroizing<String>, KeyTextError> {
    if !is_sealed(text) {
        return Ok(Zeroizing::new(text.to_owned()));
    }
    let keys = keys.ok_or(KeyTextError::Sealed)?;
    let (_, bytes) = pem::decode_vec(text.as_bytes()).map_err(|_| KeyTextError::Authentication)?;
    let plain =
        keys.open(CONTEXT, &Sealed::from_stored(Bytes::from(bytes))).map_err(|_| KeyTextError::Authentication)?;
    String::from_utf8(plain).map(Zeroizing::new).map_err(|_| KeyTextError::Authentication)
}

/// Whether a text is of the sealed form.
#[must_use]
pub fn is_sealed(text: &str) -> bool {
    text.starts_with(BEGIN)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Keyring;

    #[test]
    fn a_sealed_key_opens_with_its_own_keys_only_and_others_pass_through() {
        let (keys, others) = (Keyring::generate_in_memory(), Keyring::generate_in_memory());
        let text = kept("-----BEGIN PRIVATE KEY-----", Some(&keys)).unwrap();
        assert!(is_sealed(&text) && !text.contains("BEGIN PRIVATE"));
        assert_eq!(*opened(&text, Some(&keys)).unwrap(), "-----BEGIN PRIVATE KEY-----");
        assert_eq!(opened(&text, Some(&others)).err(), Some(KeyTextError::Authentication));
        assert_eq!(opened(&text, None).err(), Some(KeyTextError::Sealed));
        assert_eq!(
            opened(&format!("{BEGIN}\nAAAA\n-----END X-----"), Some(&keys)).err(),
            Some(KeyTextError::Authentication)
        );
        for plain in ["pkcs11:token=a", "-----BEGIN PRIVATE KEY-----"] {
            assert_eq!(*opened(plain, Some(&keys)).unwrap(), plain);
            assert_eq!(*kept(plain, None).unwrap(), plain);
        }
    }
}
