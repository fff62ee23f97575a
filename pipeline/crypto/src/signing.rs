//! Signatures over reports: Ed25519 (RFC 8032), keys as PKCS#8 and SubjectPublicKeyInfo in PEM, so that `openssl pkeyutl
//! -verify -rawin` checks what is made here and `openssl genpkey -algorithm ed25519` makes keys for it.
//!
//! Failure behaviour: [`SigningError`] names the rule, never key material. A private key file that others may read is refused.

use crate::file;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use const_oid::ObjectIdentifier;
use der::asn1::BitString;
use der::pem::LineEnding;
use der::{DecodePem, EncodePem};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// `id-Ed25519` of RFC 8410.
const ED25519_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const LABEL: &str = "PRIVATE KEY";

/// Why there is no key or no signature.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The file's content is another kind of key, or none.
    #[error("{path}: {rule}", path = .path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// The system refuses.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The library refuses.
    #[error("a key could not be made or written")]
    Library,
}

/// A private key.
pub struct SigningKey(Ed25519KeyPair);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

impl SigningKey {
    /// Reads a key file, or makes one (mode 0600) where there is none.
    ///
    /// # Errors
    /// See [`SigningError`].
    pub fn read_or_create(path: &Path) -> Result<SigningKey, SigningError> {
        let failed = |source| SigningError::Io { path: path.to_owned(), source };
        match fs::File::open(path) {
            Ok(opened) => {
                let wrong = |rule| SigningError::Key { path: path.to_owned(), rule };
                if file::open_mode(&opened).map_err(failed)?.is_some() {
                    return Err(wrong("the key is open to others: run `chmod 600` on it"));
                }
                let text = fs::read_to_string(path).map(Zeroizing::new).map_err(failed)?;
                SigningKey::from_pem(&text).ok_or_else(|| wrong("it is no Ed25519 key (PKCS#8 in PEM)"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = SigningKey::generate()?;
                file::create(path, key.to_pem()?.as_bytes(), file::PRIVATE).map_err(failed)?;
                Ok(key)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// A new key.
    ///
    /// # Errors
    /// [`SigningError::Library`].
    pub fn generate() -> Result<SigningKey, SigningError> {
        Ed25519KeyPair::generate().map(SigningKey).map_err(|_| SigningError::Library)
    }

    fn from_pem(text: &str) -> Option<SigningKey> {
        let (label, pkcs8) = der::pem::decode_vec(text.as_bytes()).ok()?;
        let pkcs8 = Zeroizing::new(pkcs8);
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).ok()?;
        (label == LABEL).then_some(SigningKey(key))
    }

    fn to_pem(&self) -> Result<Zeroizing<String>, SigningError> {
        let pkcs8: Pkcs8V1Der<'_> = self.0.as_der().map_err(|_| SigningError::Library)?;
        let text = der::pem::encode_string(LABEL, LineEnding::LF, pkcs8.as_ref());
        text.map(Zeroizing::new).map_err(|_| SigningError::Library)
    }

    /// The public half, as PEM.
    ///
    /// # Errors
    /// [`SigningError::Library`].
    pub fn public_pem(&self) -> Result<String, SigningError> {
        let bytes = BitString::from_bytes(self.0.public_key().as_ref()).map_err(|_| SigningError::Library)?;
        let algorithm = AlgorithmIdentifierOwned { oid: ED25519_OID, parameters: None };
        let key = SubjectPublicKeyInfoOwned { algorithm, subject_public_key: bytes };
        key.to_pem(LineEnding::LF).map_err(|_| SigningError::Library)
    }

    /// 64 bytes of signature over the message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

/// Whether the signature is of this public key (PEM) over this message.
#[must_use]
pub fn verifies(public_pem: &str, message: &[u8], signature: &[u8]) -> bool {
    let key = SubjectPublicKeyInfoOwned::from_pem(public_pem).ok().filter(|key| key.algorithm.oid == ED25519_OID);
    key.is_some_and(|key| {
        UnparsedPublicKey::new(&ED25519, key.subject_public_key.raw_bytes()).verify(message, signature).is_ok()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    #[test]
    fn a_key_is_made_once_and_refused_when_others_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let made = SigningKey::read_or_create(&path).unwrap();
        let read = SigningKey::read_or_create(&path).unwrap();
        let (public, signature) = (made.public_pem().unwrap(), read.sign(b"report"));
        assert!(verifies(&public, b"report", &signature));
        assert!(!verifies(&public, b"report.", &signature));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(SigningKey::read_or_create(&path), Err(SigningError::Key { .. })));
        fs::write(&path, "no key").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(SigningKey::read_or_create(&path).is_err());
    }

    #[test]
    fn openssl_reads_our_keys_and_verifies_our_signatures_and_we_read_its_keys() {
        let folder = tempfile::tempdir().unwrap();
        let openssl = |arguments: &[&str]| Command::new("openssl").current_dir(folder.path()).args(arguments).output();
        let made = openssl(&["genpkey", "-algorithm", "ed25519", "-out", "key.pem"]);
        let Ok(made) = made else {
            assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "ZEGEL_ORACLES is set and openssl is absent");
            println!("SKIPPED: openssl is absent");
            return;
        };
        assert!(made.status.success());
        fs::set_permissions(folder.path().join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
        for name in ["key.pem", "own.pem"] {
            let key = SigningKey::read_or_create(&folder.path().join(name)).unwrap();
            fs::write(folder.path().join("public.pem"), key.public_pem().unwrap()).unwrap();
            fs::write(folder.path().join("report"), b"report").unwrap();
            fs::write(folder.path().join("report.sig"), key.sign(b"report")).unwrap();
            let check = [
                "pkeyutl",
                "-verify",
                "-pubin",
                "-inkey",
                "public.pem",
                "-rawin",
                "-in",
                "report",
                "-sigfile",
                "report.sig",
            ];
            let output = openssl(&check).unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(openssl(&["pkey", "-in", name, "-noout"]).unwrap().status.success());
        }
    }
}
