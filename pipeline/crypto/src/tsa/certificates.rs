//! The two certificates: a self-signed CA, and the time-stamping unit that it signs (RFC 5280, EN 319 422 section 6).

use super::TsaError;
use crate::hash::sha256;
use crate::secret::fill_random;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use const_oid::AssociatedOid;
use const_oid::db::rfc4519;
use const_oid::db::rfc5912::{ID_KP_TIME_STAMPING, RSA_ENCRYPTION, SHA_256_WITH_RSA_ENCRYPTION};
use der::asn1::{Any, BitString, GeneralizedTime, OctetString, SetOfVec, UtcTime};
use der::flagset::FlagSet;
use der::pem::LineEnding;
use der::{DateTime, DecodePem, Encode, EncodePem, ErrorKind, Tag};
use schemas::Millis;
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use std::time::Duration;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectKeyIdentifier,
};
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::{Time, Validity};
use x509_cert::{Certificate, TbsCertificate, Version};

/// An archive is read for 30 years.
const CA_YEARS: u64 = 30;
/// Tokens are renewed before their unit's certificate ends; ten years leave time for it.
const TSU_YEARS: u64 = 10;
/// A mean Gregorian year.
const YEAR: Duration = Duration::from_secs(31_556_952);

/// The names of the CA and of its time-stamping unit.
pub(super) fn names(organisation: &str) -> Result<[Name; 2], TsaError> {
    // The bound of X.520 (ub-organization-name).
    if organisation.is_empty() || organisation.chars().count() > 64 {
        return Err(TsaError::Authority("organisation is 1 to 64 characters"));
    }
    Ok([name(organisation, "Time-stamp CA")?, name(organisation, "Time-stamping unit 1")?])
}

/// A self-signed CA.
pub(super) fn authority(key: &KeyPair, name: Name, now: Millis) -> Result<Certificate, TsaError> {
    let key_id = key_id(key)?;
    let usage = KeyUsages::KeyCertSign | KeyUsages::CRLSign;
    let extensions = vec![
        extension(&BasicConstraints { ca: true, path_len_constraint: Some(0) }, true)?,
        extension(&KeyUsage(usage), true)?,
        extension(&SubjectKeyIdentifier(key_id), false)?,
    ];
    sign(key, body(name.clone(), name, key, validity(now, CA_YEARS)?, extensions)?)
}

/// A time-stamping unit, signed by the CA. Its key does nothing but time stamps: the extended usage is critical and sole.
pub(super) fn unit(
    ca_key: &KeyPair,
    ca: &Certificate,
    key: &KeyPair,
    name: Name,
    now: Millis,
) -> Result<Certificate, TsaError> {
    let usage: FlagSet<KeyUsages> = KeyUsages::DigitalSignature | KeyUsages::NonRepudiation;
    let ca_id = AuthorityKeyIdentifier {
        key_identifier: Some(key_id(ca_key)?),
        authority_cert_issuer: None,
        authority_cert_serial_number: None,
    };
    let extensions = vec![
        extension(&KeyUsage(usage), true)?,
        extension(&ExtendedKeyUsage(vec![ID_KP_TIME_STAMPING]), true)?,
        extension(&SubjectKeyIdentifier(key_id(key)?), false)?,
        extension(&ca_id, false)?,
    ];
    let issuer = ca.tbs_certificate.subject.clone();
    sign(ca_key, body(issuer, name, key, validity(now, TSU_YEARS)?, extensions)?)
}

/// Whether the instant lies in the certificate's validity, both ends included.
pub(super) fn valid_at(certificate: &Certificate, at: Millis) -> bool {
    let validity = &certificate.tbs_certificate.validity;
    let second = at.0.div_euclid(1000);
    let bound = |time: &Time| i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    bound(&validity.not_before) <= second && second <= bound(&validity.not_after)
}

/// PEM text of a certificate.
pub(super) fn pem(certificate: &Certificate) -> Result<String, TsaError> {
    Ok(certificate.to_pem(LineEnding::LF)?)
}

/// A certificate from PEM text.
pub(super) fn from_pem(text: &str) -> Result<Certificate, TsaError> {
    Ok(Certificate::from_pem(text)?)
}

/// SHA-256 with RSA PKCS#1 v1.5; RFC 4055 wants NULL as its parameters.
pub(super) fn signature_algorithm() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid: SHA_256_WITH_RSA_ENCRYPTION, parameters: Some(Any::null()) }
}

/// Signs with SHA-256 and RSA PKCS#1 v1.5.
pub(super) fn rsa_sign(key: &KeyPair, message: &[u8]) -> Result<Vec<u8>, TsaError> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
        .map_err(|_| TsaError::Authority("a signature could not be made"))?;
    Ok(signature)
}

fn body(
    issuer: Name,
    subject: Name,
    key: &KeyPair,
    validity: Validity,
    extensions: Vec<Extension>,
) -> Result<TbsCertificate, TsaError> {
    let mut serial = [0; 16];
    fill_random(&mut serial);
    serial[0] = serial[0] >> 2 | 0x40; // positive, and never zero
    Ok(TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(&serial)?,
        signature: signature_algorithm(),
        issuer,
        validity,
        subject,
        subject_public_key_info: SubjectPublicKeyInfoOwned {
            algorithm: AlgorithmIdentifierOwned { oid: RSA_ENCRYPTION, parameters: Some(Any::null()) },
            subject_public_key: BitString::from_bytes(key.public_key().as_ref())?,
        },
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(extensions),
    })
}

fn sign(key: &KeyPair, body: TbsCertificate) -> Result<Certificate, TsaError> {
    let signature = BitString::from_bytes(&rsa_sign(key, &body.to_der()?)?)?;
    Ok(Certificate { tbs_certificate: body, signature_algorithm: signature_algorithm(), signature })
}

fn extension<E: AssociatedOid + Encode>(value: &E, critical: bool) -> Result<Extension, TsaError> {
    Ok(Extension { extn_id: E::OID, critical, extn_value: OctetString::new(value.to_der()?)? })
}

/// RFC 7093 section 2, method 1: the first 160 bits of the key's SHA-256.
fn key_id(key: &KeyPair) -> Result<OctetString, TsaError> {
    Ok(OctetString::new(&sha256(key.public_key().as_ref()).0[..20])?)
}

fn name(organisation: &str, common_name: &str) -> der::Result<Name> {
    let part = |oid, text: &str| {
        let value = Any::new(Tag::Utf8String, text.as_bytes())?;
        Ok::<_, der::Error>(RelativeDistinguishedName(SetOfVec::try_from(vec![AttributeTypeAndValue { oid, value }])?))
    };
    let organisation_part = part(rfc4519::ORGANIZATION_NAME, organisation)?;
    Ok(RdnSequence(vec![organisation_part, part(rfc4519::COMMON_NAME, common_name)?]))
}

fn validity(now: Millis, years: u64) -> Result<Validity, TsaError> {
    let seconds = u64::try_from(now.0 / 1000).map_err(|_| der::Error::from(ErrorKind::DateTime))?;
    let start = Duration::from_secs(seconds);
    let end = start + Duration::from_secs(YEAR.as_secs() * years);
    Ok(Validity { not_before: time(start)?, not_after: time(end)? })
}

/// RFC 5280 section 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050 on.
fn time(since_1970: Duration) -> der::Result<Time> {
    let date = DateTime::from_unix_duration(since_1970)?;
    if date.year() < 2050 {
        return Ok(Time::UtcTime(UtcTime::from_date_time(date)?));
    }
    Ok(Time::GeneralTime(GeneralizedTime::from_date_time(date)))
}
