//! Agreements: detached CMS signatures (RFC 5652 section 5) over documents, by parties who are known by their certificates.
//!
//! A signature is a DER `ContentInfo` with `SignedData` over content that lies elsewhere (`id-data`, no `eContent`): one
//! signer, named by issuer and serial, whose certificate is inside; SHA-256; RSA PKCS#1 v1.5 from 2,048 bits on, or ECDSA on
//! P-256 or P-384; the signed attributes contentType, messageDigest and signingTime. `openssl cms -sign -binary -md sha256`
//! makes such a signature, and `openssl cms -verify -binary -content FILE` checks one.
//!
//! Trust: whose signature it is, is said by the certificate's SHA-256 fingerprint alone, which the caller compares with the one
//! that was agreed on. No chain is followed and no revocation is asked for; a certificate must be valid at the signing time
//! that its owner claims.
//! Failure: whatever is not exactly of this form is refused with the rule that it breaks (I8); nothing of the content, and no
//! name of a certificate, stands in an error.

mod certificate;
mod cms_form;
#[cfg(test)]
mod tests;

pub use certificate::SignerCertificate;

use crate::file;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256};
use schemas::{Millis, Sha256};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use x509_cert::Certificate;
use zeroize::Zeroizing;

/// Largest signature that is read, in bytes: a chain of certificates fits several times.
pub const SIGNATURE_MAX: usize = 64 << 10;

const KEY_LABEL: &str = "PRIVATE KEY";

/// Why something is not signed, or not by whom it should be.
#[derive(Debug, thiserror::Error)]
pub enum SignedError {
    /// The file could not be read or written.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Other users of the machine may read a private key.
    #[error("key file {path} is open to others (mode {mode:04o}): run `chmod 600 {path}`", path = .path.display())]
    Permissions {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key or certificate cannot be used.
    #[error("identity: {0}")]
    Identity(&'static str),
    /// Not DER of the expected shape.
    #[error("signature or certificate is not of the expected form: {0}")]
    Der(#[from] der::Error),
    /// It breaks a rule.
    #[error("signature is refused: {0}")]
    Refused(&'static str),
}

impl SignedError {
    /// The rule that was broken, without a path or a place.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        match self {
            SignedError::Refused(rule) | SignedError::Identity(rule) => rule,
            SignedError::Der(_) => "the signature is not of the expected form",
            SignedError::Io { .. } | SignedError::Permissions { .. } => "a file cannot be used",
        }
    }
}

/// What a verified signature says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Whose it is.
    pub signer: SignerCertificate,
    /// When it was made, as the signer claims.
    pub signed_at: Millis,
}

/// A private key with its certificate: a party, or a TTP officer.
pub struct Identity {
    key: Key,
    certificate: Certificate,
}

enum Key {
    Rsa(Box<rsa::KeyPair>),
    Ec(EcdsaKeyPair),
}

impl Identity {
    /// A new ECDSA P-256 key with a certificate that it signs itself, valid for five years from `now`. `name` is 1 to 64
    /// characters; no person's number belongs into it.
    ///
    /// # Errors
    /// [`SignedError::Identity`] when the name is too long; [`SignedError::Der`] when the time is not between 1970 and 9999.
    pub fn create(name: &str, now: Millis) -> Result<Identity, SignedError> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| CANNOT_MAKE)?;
        let certificate = certificate::self_signed(&key, name, now)?;
        Ok(Identity { key: Key::Ec(key), certificate })
    }

    /// Reads a private key (PKCS#8, PEM; RSA or P-256) and its certificate (PEM).
    ///
    /// # Errors
    /// [`SignedError::Permissions`] when others may read the key, [`SignedError::Io`], [`SignedError::Identity`] when the two
    /// do not belong together.
    pub fn load(key: &Path, certificate: &Path) -> Result<Identity, SignedError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| SignedError::Io { path, source }
        };
        let opened = fs::File::open(key).map_err(failed(key))?;
        if let Some(mode) = file::open_mode(&opened).map_err(failed(key))? {
            return Err(SignedError::Permissions { path: key.to_owned(), mode });
        }
        let key_pem = Zeroizing::new(io::read_to_string(opened).map_err(failed(key))?);
        let certificate_pem = fs::read_to_string(certificate).map_err(failed(certificate))?;
        Identity::from_pem(&key_pem, &certificate_pem)
    }

    /// Reads a private key (PKCS#8) and its certificate from PEM texts.
    ///
    /// # Errors
    /// [`SignedError::Identity`], [`SignedError::Der`].
    pub fn from_pem(key: &str, certificate: &str) -> Result<Identity, SignedError> {
        const BAD: SignedError = SignedError::Identity("the private key is not PKCS#8 in PEM, of RSA or of P-256");
        let (label, pkcs8) = der::pem::decode_vec(key.as_bytes()).map_err(|_| BAD)?;
        let pkcs8 = Zeroizing::new(pkcs8);
        if label != KEY_LABEL {
            return Err(BAD);
        }
        let key = match EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8) {
            Ok(key) => Key::Ec(key),
            Err(_) => Key::Rsa(Box::new(rsa::KeyPair::from_pkcs8(&pkcs8).map_err(|_| BAD)?)),
        };
        let certificate = certificate::from_pem(certificate)?;
        let certified = certificate.tbs_certificate.subject_public_key_info.subject_public_key.raw_bytes();
        if key.public() != certified {
            return Err(SignedError::Identity("key and certificate do not belong together"));
        }
        Ok(Identity { key, certificate })
    }

    /// Writes `KEY` (mode 0600) and `CERTIFICATE` (mode 0644), both in PEM. Neither may exist.
    ///
    /// # Errors
    /// [`SignedError::Io`]; a file that was written stays.
    pub fn write(&self, key: &Path, certificate: &Path) -> Result<(), SignedError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| SignedError::Io { path, source }
        };
        file::create(key, self.key_pem()?.as_bytes(), file::PRIVATE).map_err(failed(key))?;
        file::create(certificate, self.certificate_pem()?.as_bytes(), file::PUBLIC).map_err(failed(certificate))
    }

    /// The private key, PKCS#8 in PEM.
    ///
    /// # Errors
    /// [`SignedError::Identity`] when it is an RSA key, which is only read here.
    pub fn key_pem(&self) -> Result<Zeroizing<String>, SignedError> {
        let Key::Ec(key) = &self.key else {
            return Err(SignedError::Identity("only keys that were made here are written"));
        };
        let pkcs8 = key.to_pkcs8v1().map_err(|_| CANNOT_MAKE)?;
        let text = der::pem::encode_string(KEY_LABEL, der::pem::LineEnding::LF, pkcs8.as_ref());
        text.map(Zeroizing::new).map_err(|_| CANNOT_MAKE)
    }

    /// The private key, PKCS#8 in DER, for opening what was sealed for its holder.
    pub(crate) fn pkcs8(&self) -> Option<Zeroizing<Vec<u8>>> {
        let der: Pkcs8V1Der<'static> = match &self.key {
            Key::Ec(key) => return Some(Zeroizing::new(key.to_pkcs8v1().ok()?.as_ref().to_vec())),
            Key::Rsa(key) => key.as_der().ok()?,
        };
        Some(Zeroizing::new(der.as_ref().to_vec()))
    }

    /// The certificate in PEM.
    ///
    /// # Errors
    /// [`SignedError::Der`].
    pub fn certificate_pem(&self) -> Result<String, SignedError> {
        certificate::pem(&self.certificate)
    }

    /// The certificate.
    ///
    /// # Errors
    /// [`SignedError::Der`].
    pub fn certificate(&self) -> Result<SignerCertificate, SignedError> {
        SignerCertificate::of(&self.certificate)
    }

    /// Signs content that lies elsewhere: a DER `ContentInfo`.
    ///
    /// # Errors
    /// [`SignedError::Refused`] when the certificate is not valid at `now`; nothing would accept the signature.
    pub fn sign(&self, content: &[u8], now: Millis) -> Result<Vec<u8>, SignedError> {
        if !self.certificate()?.is_valid_at(now) {
            return Err(SignedError::Refused("the signer's certificate is not valid now"));
        }
        cms_form::build(self, content, now)
    }
}

impl Key {
    fn public(&self) -> &[u8] {
        match self {
            Key::Rsa(key) => key.public_key().as_ref(),
            Key::Ec(key) => key.public_key().as_ref(),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignedError> {
        let random = SystemRandom::new();
        match self {
            Key::Ec(key) => Ok(key.sign(&random, message).map_err(|_| CANNOT_MAKE)?.as_ref().to_vec()),
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(|_| CANNOT_MAKE)?;
                Ok(signature)
            }
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(key: ***)")
    }
}

const CANNOT_MAKE: SignedError = SignedError::Identity("a key or signature could not be made");

/// Verifies a detached signature over `content`. Whether its signer is the one that was expected, the caller sees by
/// [`SignerCertificate::fingerprint`].
///
/// # Errors
/// [`SignedError::Der`] or [`SignedError::Refused`] with the first rule that it breaks.
pub fn verify(content: &[u8], signature: &[u8]) -> Result<Verified, SignedError> {
    if signature.len() > SIGNATURE_MAX {
        return Err(SignedError::Refused("it is over 64 KiB"));
    }
    cms_form::verify(content, signature)
}

/// Verifies a signature that has its content inside (DER, as `openssl cms -sign -nodetach -binary -md sha256 -outform DER` makes
/// it), and takes it off. Whose it is, the caller sees by [`SignerCertificate::fingerprint`]. The content is copied once; the caller
/// bounds its size.
///
/// # Errors
/// As [`verify`].
pub fn open(signed: &[u8]) -> Result<(Vec<u8>, Verified), SignedError> {
    cms_form::open(signed)
}

/// The SHA-256 fingerprint of a certificate in PEM, as `openssl x509 -noout -fingerprint -sha256` prints it.
///
/// # Errors
/// [`SignedError::Der`].
pub fn fingerprint(certificate_pem: &str) -> Result<Sha256, SignedError> {
    Ok(SignerCertificate::of(&certificate::from_pem(certificate_pem)?)?.fingerprint)
}

/// Every certificate in a text of PEM blocks, up to 100.
///
/// # Errors
/// [`SignedError::Der`]; [`SignedError::Refused`] when there is none, or too many.
pub fn certificates(pem: &str) -> Result<Vec<SignerCertificate>, SignedError> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let blocks: Vec<String> = pem.split(BEGIN).skip(1).map(|rest| format!("{BEGIN}{rest}")).collect();
    if blocks.is_empty() || blocks.len() > 100 {
        return Err(SignedError::Refused("a file of certificates holds 1 to 100 of them in PEM"));
    }
    const END: &str = "-----END CERTIFICATE-----";
    let whole = |block: &String| block.find(END).map(|at| format!("{}\n", &block[..at + END.len()]));
    blocks
        .iter()
        .map(|block| whole(block).ok_or(SignedError::Refused("a certificate is cut off")))
        .map(|block| SignerCertificate::of(&certificate::from_pem(&block?)?))
        .collect()
}
