//! The keys of CA and time-stamping unit, and the signatures that are made and verified with them. A key is in a file, or in a
//! security module and only named in the file.
//!
//! RSA-3072 with PKCS#1 v1.5 is the default, because the validator that hospitals run today reads no other; ECDSA on P-256
//! and P-384 is a hundred times as fast. All by aws-lc-rs: the `rsa` crate has an open timing advisory.

use super::TsaError;
use super::digest::Digest;
use super::folder::Place;
use crate::key_text;
use crate::module::{self, Module, ModuleError, ModuleKey};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_ASN1_SIGNING,
    EcdsaKeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PKCS1_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use const_oid::ObjectIdentifier;
use const_oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ID_EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP_256_R_1, SECP_384_R_1,
    SHA_256_WITH_RSA_ENCRYPTION, SHA_384_WITH_RSA_ENCRYPTION, SHA_512_WITH_RSA_ENCRYPTION,
};
use der::asn1::{Any, BitString};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use zeroize::Zeroizing;

const KEY_LABEL: &str = "PRIVATE KEY";

/// What keys are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// RSA of 3,072 bits, PKCS#1 v1.5, SHA-256.
    #[default]
    Rsa3072,
    /// ECDSA on P-256, SHA-256.
    P256,
    /// ECDSA on P-384, SHA-384.
    P384,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Algorithm; 3] = [Algorithm::Rsa3072, Algorithm::P256, Algorithm::P384];

    /// The digest that goes with it.
    pub(super) fn digest(self) -> Digest {
        match self {
            Algorithm::Rsa3072 | Algorithm::P256 => Digest::Sha256,
            Algorithm::P384 => Digest::Sha384,
        }
    }

    /// Its signatures' identifier; RFC 4055 wants NULL as RSA's parameters, RFC 5758 none for ECDSA.
    pub(super) fn signature(self) -> AlgorithmIdentifierOwned {
        let (oid, parameters) = match self {
            Algorithm::Rsa3072 => (SHA_256_WITH_RSA_ENCRYPTION, Some(Any::null())),
            Algorithm::P256 => (ECDSA_WITH_SHA_256, None),
            Algorithm::P384 => (ECDSA_WITH_SHA_384, None),
        };
        AlgorithmIdentifierOwned { oid, parameters }
    }

    fn key_identifier(self) -> AlgorithmIdentifierOwned {
        let curve = |oid: ObjectIdentifier| (ID_EC_PUBLIC_KEY, Some(Any::from(oid)));
        let (oid, parameters) = match self {
            Algorithm::Rsa3072 => (RSA_ENCRYPTION, Some(Any::null())),
            Algorithm::P256 => curve(SECP_256_R_1),
            Algorithm::P384 => curve(SECP_384_R_1),
        };
        AlgorithmIdentifierOwned { oid, parameters }
    }

    /// What a certified key is.
    pub(super) fn of(key: &SubjectPublicKeyInfoOwned) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.key_identifier() == key.algorithm)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Algorithm::Rsa3072 => "rsa-3072",
            Algorithm::P256 => "ecdsa-p256",
            Algorithm::P384 => "ecdsa-p384",
        })
    }
}

impl FromStr for Algorithm {
    type Err = TsaError;

    fn from_str(text: &str) -> Result<Algorithm, TsaError> {
        let found = Algorithm::ALL.into_iter().find(|algorithm| algorithm.to_string() == text);
        found.ok_or(TsaError::Authority("algorithm is rsa-3072, ecdsa-p256 or ecdsa-p384"))
    }
}

/// A private key.
pub(super) enum SigningKey {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair, Algorithm),
    Module(Arc<dyn ModuleKey>),
}

impl SigningKey {
    /// A new key: in the module under `label`, where there is one.
    pub(super) fn generate_in(
        module: Option<&Arc<dyn Module>>,
        label: &str,
        algorithm: Algorithm,
    ) -> Result<SigningKey, TsaError> {
        match module {
            Some(module) => Ok(SigningKey::Module(module.generate(label, algorithm)?)),
            None => SigningKey::generate(algorithm),
        }
    }

    pub(super) fn generate(algorithm: Algorithm) -> Result<SigningKey, TsaError> {
        const FAILED: TsaError = TsaError::Authority("a key could not be made");
        Ok(match algorithm {
            Algorithm::Rsa3072 => SigningKey::Rsa(RsaKeyPair::generate(KeySize::Rsa3072).map_err(|_| FAILED)?),
            Algorithm::P256 => {
                SigningKey::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| FAILED)?, algorithm)
            }
            Algorithm::P384 => {
                SigningKey::Ec(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).map_err(|_| FAILED)?, algorithm)
            }
        })
    }

    /// Reads what [`SigningKey::to_text`] gives.
    pub(super) fn from_text(text: &str, place: &Place) -> Result<SigningKey, TsaError> {
        if !module::is_uri(text) {
            return SigningKey::from_pem(&key_text::opened(text, place.keys.as_deref())?);
        }
        let key = place.module.as_ref().ok_or(ModuleError::Absent)?.signing_key(text.trim_end())?;
        Ok(SigningKey::Module(key))
    }

    /// Reads PKCS#8 in PEM, of whichever kind it is.
    pub(super) fn from_pem(text: &str) -> Result<SigningKey, TsaError> {
        const BAD: TsaError = TsaError::Authority("a key file is not PKCS#8 in PEM");
        let (label, pkcs8) = der::pem::decode_vec(text.as_bytes()).map_err(|_| BAD)?;
        let pkcs8 = Zeroizing::new(pkcs8);
        if label != KEY_LABEL {
            return Err(BAD);
        }
        if let Ok(key) = RsaKeyPair::from_pkcs8(&pkcs8) {
            return Ok(SigningKey::Rsa(key));
        }
        if let Ok(key) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8) {
            return Ok(SigningKey::Ec(key, Algorithm::P256));
        }
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, &pkcs8).map_err(|_| BAD)?;
        Ok(SigningKey::Ec(key, Algorithm::P384))
    }

    /// PKCS#8 in PEM, sealed where the place has keys for that; or the URI of a key in a module.
    pub(super) fn to_text(&self, place: &Place) -> Result<Zeroizing<String>, TsaError> {
        const FAILED: TsaError = TsaError::Authority("a key could not be written");
        let pkcs8: Zeroizing<Vec<u8>> = match self {
            SigningKey::Rsa(key) => {
                let der: Pkcs8V1Der<'_> = key.as_der().map_err(|_| FAILED)?;
                Zeroizing::new(der.as_ref().to_vec())
            }
            SigningKey::Ec(key, _) => Zeroizing::new(key.to_pkcs8v1().map_err(|_| FAILED)?.as_ref().to_vec()),
            SigningKey::Module(key) => return Ok(Zeroizing::new(format!("{}\n", key.uri()))),
        };
        let text = der::pem::encode_string(KEY_LABEL, der::pem::LineEnding::LF, &pkcs8);
        let text = text.map(Zeroizing::new).map_err(|_| FAILED)?;
        Ok(key_text::kept(&text, place.keys.as_deref())?)
    }

    pub(super) fn is_in_module(&self) -> bool {
        matches!(self, SigningKey::Module(_))
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            SigningKey::Rsa(_) => Algorithm::Rsa3072,
            SigningKey::Ec(_, algorithm) => *algorithm,
            SigningKey::Module(key) => key.algorithm(),
        }
    }

    /// The public key as certificates have it.
    pub(super) fn public_bytes(&self) -> &[u8] {
        match self {
            SigningKey::Rsa(key) => key.public_key().as_ref(),
            SigningKey::Ec(key, _) => key.public_key().as_ref(),
            SigningKey::Module(key) => key.public_bytes(),
        }
    }

    pub(super) fn public(&self) -> Result<SubjectPublicKeyInfoOwned, TsaError> {
        let subject_public_key = BitString::from_bytes(self.public_bytes())?;
        Ok(SubjectPublicKeyInfoOwned { algorithm: self.algorithm().key_identifier(), subject_public_key })
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TsaError> {
        const FAILED: TsaError = TsaError::Authority("a signature could not be made");
        match self {
            SigningKey::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).map_err(|_| FAILED)?;
                Ok(signature)
            }
            SigningKey::Ec(key, _) => {
                Ok(key.sign(&SystemRandom::new(), message).map_err(|_| FAILED)?.as_ref().to_vec())
            }
            SigningKey::Module(key) => Ok(key.sign_digest(&key.algorithm().digest().of(message))?),
        }
    }

    /// Whether what it signs verifies under a certified key. A module may hold halves of two pairs under one id, so comparing the
    /// public one is not enough.
    pub(super) fn belongs_to(&self, certified: &SubjectPublicKeyInfoOwned) -> Result<bool, TsaError> {
        const TEXT: &[u8] = b"whether key and certificate belong together";
        if self.public()? != *certified {
            return Ok(false);
        }
        match self {
            SigningKey::Module(_) => {
                let algorithm = self.algorithm();
                let signature = self.sign(TEXT)?;
                Ok(verify_signature(certified, &algorithm.signature(), Some(algorithm.digest()), TEXT, &signature)
                    .is_ok())
            }
            SigningKey::Rsa(_) | SigningKey::Ec(..) => Ok(true),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, ***)", self.algorithm())
    }
}

/// Verifies a signature by a certified key. `digest` is what CMS says beside the identifier, which for RSA may be the key's
/// own; a certificate's identifier names both.
pub(super) fn verify_signature(
    key: &SubjectPublicKeyInfoOwned,
    identifier: &AlgorithmIdentifierOwned,
    digest: Option<Digest>,
    message: &[u8],
    signature: &[u8],
) -> Result<(), TsaError> {
    let algorithm = verification(key, identifier, digest)
        .ok_or(TsaError::Refused("signature is neither RSA nor ECDSA with a digest of the profile"))?;
    UnparsedPublicKey::new(algorithm, key.subject_public_key.raw_bytes())
        .verify(message, signature)
        .map_err(|_| TsaError::Refused("signature does not verify"))
}

fn verification(
    key: &SubjectPublicKeyInfoOwned,
    identifier: &AlgorithmIdentifierOwned,
    digest: Option<Digest>,
) -> Option<&'static dyn VerificationAlgorithm> {
    let plain = identifier.parameters.as_ref().is_none_or(Any::is_null);
    if !plain {
        return None;
    }
    let is_rsa = key.algorithm.oid == RSA_ENCRYPTION;
    let named = match identifier.oid {
        RSA_ENCRYPTION if is_rsa => digest?,
        SHA_256_WITH_RSA_ENCRYPTION if is_rsa => Digest::Sha256,
        SHA_384_WITH_RSA_ENCRYPTION if is_rsa => Digest::Sha384,
        SHA_512_WITH_RSA_ENCRYPTION if is_rsa => Digest::Sha512,
        ECDSA_WITH_SHA_256 => Digest::Sha256,
        ECDSA_WITH_SHA_384 => Digest::Sha384,
        _ => return None,
    };
    if digest.is_some_and(|digest| digest != named) {
        return None;
    }
    match (Algorithm::of(key)?, named) {
        (Algorithm::Rsa3072, Digest::Sha256) => Some(&RSA_PKCS1_2048_8192_SHA256),
        (Algorithm::Rsa3072, Digest::Sha384) => Some(&RSA_PKCS1_2048_8192_SHA384),
        (Algorithm::Rsa3072, Digest::Sha512) => Some(&RSA_PKCS1_2048_8192_SHA512),
        (Algorithm::P256, Digest::Sha256) => Some(&ECDSA_P256_SHA256_ASN1),
        (Algorithm::P384, Digest::Sha384) => Some(&ECDSA_P384_SHA384_ASN1),
        _ => None,
    }
}
