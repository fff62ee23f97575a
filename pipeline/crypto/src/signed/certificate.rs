//! The certificates of parties: what of them counts, and those that parties without a certificate authority make themselves.

use super::{CANNOT_MAKE, SignedError};
use crate::hash::sha256;
use crate::secret::fill_random;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair};
use const_oid::AssociatedOid;
use const_oid::db::rfc4519::COMMON_NAME;
use const_oid::db::rfc5912::{ECDSA_WITH_SHA_256, ID_EC_PUBLIC_KEY, SECP_256_R_1};
use der::asn1::{Any, BitString, GeneralizedTime, OctetString, SetOfVec, UtcTime};
use der::pem::LineEnding;
use der::{DateTime, Decode, DecodePem, Encode, EncodePem, ErrorKind, Tag};
use schemas::{Millis, Sha256};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use std::time::Duration;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{KeyUsage, KeyUsages, SubjectKeyIdentifier};
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::{Time, Validity};
use x509_cert::{Certificate, TbsCertificate, Version};

/// A key of a party lives as long as an agreement usually does.
const LIFE: Duration = Duration::from_secs(5 * 31_556_952);
/// The bound of X.520 (ub-common-name).
const NAME_MAX: usize = 64;

/// What of a certificate counts here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerCertificate {
    /// SHA-256 of its DER.
    pub fingerprint: Sha256,
    /// First second of its validity.
    pub not_before: Millis,
    /// Last second of its validity.
    pub not_after: Millis,
}

impl SignerCertificate {
    pub(super) fn of(certificate: &Certificate) -> Result<SignerCertificate, SignedError> {
        let validity = &certificate.tbs_certificate.validity;
        Ok(SignerCertificate {
            fingerprint: sha256(&certificate.to_der()?),
            not_before: millis(&validity.not_before),
            not_after: millis(&validity.not_after),
        })
    }

    /// Whether the instant lies in its validity, both ends included.
    #[must_use]
    pub fn is_valid_at(&self, at: Millis) -> bool {
        let second = at.0.div_euclid(1_000) * 1_000;
        self.not_before.0 <= second && second <= self.not_after.0
    }
}

/// Whether the certificate's key may sign documents: no key usage, or one that says so (RFC 5280 section 4.2.1.3).
pub(super) fn may_sign(certificate: &Certificate) -> Result<bool, SignedError> {
    let extensions = certificate.tbs_certificate.extensions.as_deref().unwrap_or_default();
    let mut usages = extensions.iter().filter(|extension| extension.extn_id == KeyUsage::OID);
    match (usages.next(), usages.next()) {
        (None, _) => Ok(true),
        (Some(usage), None) => {
            let usage = KeyUsage::from_der(usage.extn_value.as_bytes())?;
            Ok(usage.digital_signature() || usage.non_repudiation())
        }
        _ => Ok(false),
    }
}

pub(super) fn from_pem(text: &str) -> Result<Certificate, SignedError> {
    Ok(Certificate::from_pem(text)?)
}

pub(super) fn pem(certificate: &Certificate) -> Result<String, SignedError> {
    Ok(certificate.to_pem(LineEnding::LF)?)
}

/// A certificate that a key signs for itself, for signing documents and nothing else.
pub(super) fn self_signed(key: &EcdsaKeyPair, name: &str, now: Millis) -> Result<Certificate, SignedError> {
    if name.is_empty() || name.chars().count() > NAME_MAX {
        return Err(SignedError::Identity("a name is 1 to 64 characters"));
    }
    let name = common_name(name)?;
    let usage = KeyUsages::DigitalSignature | KeyUsages::NonRepudiation;
    let key_id = OctetString::new(&sha256(key.public_key().as_ref()).0[..20])?;
    let mut serial = [0; 16];
    fill_random(&mut serial);
    serial[0] = serial[0] >> 2 | 0x40; // positive, and never zero
    let body = TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(&serial)?,
        signature: ecdsa(),
        issuer: name.clone(),
        validity: validity(now)?,
        subject: name,
        subject_public_key_info: SubjectPublicKeyInfoOwned {
            algorithm: AlgorithmIdentifierOwned {
                oid: ID_EC_PUBLIC_KEY,
                parameters: Some(Any::encode_from(&SECP_256_R_1)?),
            },
            subject_public_key: BitString::from_bytes(key.public_key().as_ref())?,
        },
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(vec![extension(&KeyUsage(usage), true)?, extension(&SubjectKeyIdentifier(key_id), false)?]),
    };
    let signature = key.sign(&SystemRandom::new(), &body.to_der()?).map_err(|_| CANNOT_MAKE)?;
    let signature = BitString::from_bytes(signature.as_ref())?;
    Ok(Certificate { tbs_certificate: body, signature_algorithm: ecdsa(), signature })
}

/// ECDSA with SHA-256 (RFC 5758 section 3.2: without parameters).
pub(super) fn ecdsa() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid: ECDSA_WITH_SHA_256, parameters: None }
}

/// RFC 5280 section 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050 on.
pub(super) fn time(at: Millis) -> Result<Time, SignedError> {
    let seconds = u64::try_from(at.0.div_euclid(1_000)).map_err(|_| der::Error::from(ErrorKind::DateTime))?;
    let date = DateTime::from_unix_duration(Duration::from_secs(seconds))?;
    if date.year() < 2050 {
        return Ok(Time::UtcTime(UtcTime::from_date_time(date)?));
    }
    Ok(Time::GeneralTime(GeneralizedTime::from_date_time(date)))
}

/// The beginning of a second.
pub(super) fn millis(time: &Time) -> Millis {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    Millis(seconds.saturating_mul(1_000))
}

fn validity(now: Millis) -> Result<Validity, SignedError> {
    let end = now.plus(i64::try_from(LIFE.as_millis()).unwrap_or(i64::MAX));
    Ok(Validity { not_before: time(now)?, not_after: time(end)? })
}

fn extension<E: AssociatedOid + Encode>(value: &E, critical: bool) -> Result<Extension, SignedError> {
    Ok(Extension { extn_id: E::OID, critical, extn_value: OctetString::new(value.to_der()?)? })
}

fn common_name(text: &str) -> Result<Name, SignedError> {
    let value = Any::new(Tag::Utf8String, text.as_bytes())?;
    let part = AttributeTypeAndValue { oid: COMMON_NAME, value };
    Ok(RdnSequence(vec![RelativeDistinguishedName(SetOfVec::try_from(vec![part])?)]))
}
