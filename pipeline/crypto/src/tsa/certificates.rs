//! The certificates: a self-signed CA, and the time-stamping units that it signs (RFC 5280, EN 319 422 section 6).

use super::TsaError;
use super::signing::SigningKey;
use crate::hash::sha256;
use crate::secret::fill_random;
use const_oid::AssociatedOid;
use const_oid::db::rfc4519;
use const_oid::db::rfc5912::ID_KP_TIME_STAMPING;
use der::asn1::{Any, BitString, GeneralizedTime, OctetString, SetOfVec, UtcTime};
use der::flagset::FlagSet;
use der::pem::LineEnding;
use der::{DateTime, Decode, DecodePem, Encode, EncodePem, ErrorKind, Tag};
use schemas::Millis;
use std::time::Duration;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, PrivateKeyUsagePeriod,
    SubjectKeyIdentifier,
};
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::{Time, Validity};
use x509_cert::{Certificate, TbsCertificate, Version};

/// An archive is read for 30 years.
const CA_YEARS: i64 = 30;
/// Tokens are renewed before their unit's certificate ends; ten years leave time for it.
const TSU_YEARS: i64 = 10;
/// A unit's key is used for a year, so that a stolen one is worth little and its certificate long outlives its last token.
const KEY_YEARS: i64 = 1;
/// A mean Gregorian year in milliseconds.
const YEAR_MS: i64 = 31_556_952_000;

/// The CA's name.
pub(super) fn ca_name(organisation: &str) -> Result<Name, TsaError> {
    // The bound of X.520 (ub-organization-name).
    if organisation.is_empty() || organisation.chars().count() > 64 {
        return Err(TsaError::Authority("organisation is 1 to 64 characters"));
    }
    let part = part(rfc4519::ORGANIZATION_NAME, organisation)?;
    Ok(RdnSequence(vec![part, common_name("Time-stamp CA")?]))
}

/// A self-signed CA.
pub(super) fn authority(key: &SigningKey, name: Name, now: Millis) -> Result<Certificate, TsaError> {
    let usage = KeyUsages::KeyCertSign | KeyUsages::CRLSign;
    let extensions = vec![
        extension(&BasicConstraints { ca: true, path_len_constraint: Some(0) }, true)?,
        extension(&KeyUsage(usage), true)?,
        extension(&SubjectKeyIdentifier(key_id(key)?), false)?,
    ];
    sign(key, body(key, name.clone(), name, key, validity(now, CA_YEARS)?, extensions)?)
}

/// The time-stamping unit of a number, signed by the CA. Its key does nothing but time stamps: the extended usage is
/// critical and sole.
pub(super) fn unit(
    ca_key: &SigningKey,
    ca: &Certificate,
    key: &SigningKey,
    number: u32,
    now: Millis,
) -> Result<Certificate, TsaError> {
    let usage: FlagSet<KeyUsages> = KeyUsages::DigitalSignature | KeyUsages::NonRepudiation;
    let ca_id = AuthorityKeyIdentifier {
        key_identifier: Some(key_id(ca_key)?),
        authority_cert_issuer: None,
        authority_cert_serial_number: None,
    };
    let period = PrivateKeyUsagePeriod {
        not_before: Some(GeneralizedTime::from_date_time(date(now)?)),
        not_after: Some(GeneralizedTime::from_date_time(date(now.plus(KEY_YEARS * YEAR_MS))?)),
    };
    let extensions = vec![
        extension(&KeyUsage(usage), true)?,
        extension(&ExtendedKeyUsage(vec![ID_KP_TIME_STAMPING]), true)?,
        extension(&SubjectKeyIdentifier(key_id(key)?), false)?,
        extension(&ca_id, false)?,
        extension(&period, false)?,
    ];
    let issuer = ca.tbs_certificate.subject.clone();
    // The CA's name with another last part.
    let mut parts = issuer.0.clone();
    parts.pop();
    parts.push(common_name(&format!("Time-stamping unit {number}"))?);
    sign(ca_key, body(ca_key, issuer, RdnSequence(parts), key, validity(now, TSU_YEARS)?, extensions)?)
}

/// Whether the instant lies in the certificate's validity, both ends included.
pub(super) fn valid_at(certificate: &Certificate, at: Millis) -> bool {
    let validity = &certificate.tbs_certificate.validity;
    is_within(at, millis(&validity.not_before), millis(&validity.not_after))
}

/// Whether a unit may stamp at the instant: its certificate is valid, and its key may still be used. A unit without a usage
/// period uses its key as long as the certificate is valid.
pub(super) fn may_stamp_at(unit: &Certificate, at: Millis) -> bool {
    let extensions = unit.tbs_certificate.extensions.as_deref().unwrap_or_default();
    let period = extensions.iter().find(|extension| extension.extn_id == PrivateKeyUsagePeriod::OID);
    let in_period = period.is_none_or(|extension| {
        // A period that cannot be read allows nothing.
        PrivateKeyUsagePeriod::from_der(extension.extn_value.as_bytes()).is_ok_and(|period| {
            let bound = |time: GeneralizedTime| in_millis(time.to_unix_duration());
            let (from, until) =
                (period.not_before.map_or(Millis(0), bound), period.not_after.map_or(Millis::NEVER, bound));
            is_within(at, from, until)
        })
    });
    valid_at(unit, at) && in_period
}

/// An X.509 time.
pub(super) fn millis(time: &Time) -> Millis {
    in_millis(time.to_unix_duration())
}

/// RFC 5280 section 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050 on.
pub(super) fn time(at: Millis) -> der::Result<Time> {
    let date = date(at)?;
    if date.year() < 2050 {
        return Ok(Time::UtcTime(UtcTime::from_date_time(date)?));
    }
    Ok(Time::GeneralTime(GeneralizedTime::from_date_time(date)))
}

/// PEM text of a certificate.
pub(super) fn pem(certificate: &Certificate) -> Result<String, TsaError> {
    Ok(certificate.to_pem(LineEnding::LF)?)
}

/// A certificate from PEM text.
pub(super) fn from_pem(text: &str) -> Result<Certificate, TsaError> {
    Ok(Certificate::from_pem(text)?)
}

/// The certificates of a PEM text, one after the other. The library's reader counts below zero where there is no text.
pub(super) fn all_from_pem(text: &str) -> Result<Vec<Certificate>, TsaError> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    Ok(Certificate::load_pem_chain(text.as_bytes())?)
}

/// RFC 7093 section 2, method 1: the first 160 bits of the key's SHA-256.
pub(super) fn key_id(key: &SigningKey) -> Result<OctetString, TsaError> {
    Ok(OctetString::new(&sha256(key.public_bytes()).0[..20])?)
}

fn is_within(at: Millis, from: Millis, until: Millis) -> bool {
    // Certificates count whole seconds, and both ends belong to them.
    let second = at.0.div_euclid(1_000);
    from.0.div_euclid(1_000) <= second && second <= until.0.div_euclid(1_000)
}

fn in_millis(since_1970: Duration) -> Millis {
    Millis(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
}

fn date(at: Millis) -> der::Result<DateTime> {
    let seconds = u64::try_from(at.0.div_euclid(1_000)).map_err(|_| der::Error::from(ErrorKind::DateTime))?;
    DateTime::from_unix_duration(Duration::from_secs(seconds))
}

fn body(
    signer: &SigningKey,
    issuer: Name,
    subject: Name,
    key: &SigningKey,
    validity: Validity,
    extensions: Vec<Extension>,
) -> Result<TbsCertificate, TsaError> {
    let mut serial = [0; 16];
    fill_random(&mut serial);
    serial[0] = serial[0] >> 2 | 0x40; // positive, and never zero
    Ok(TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(&serial)?,
        signature: signer.algorithm().signature(),
        issuer,
        validity,
        subject,
        subject_public_key_info: key.public()?,
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(extensions),
    })
}

fn sign(key: &SigningKey, body: TbsCertificate) -> Result<Certificate, TsaError> {
    let signature = BitString::from_bytes(&key.sign(&body.to_der()?)?)?;
    Ok(Certificate { signature_algorithm: body.signature.clone(), tbs_certificate: body, signature })
}

fn extension<E: AssociatedOid + Encode>(value: &E, critical: bool) -> Result<Extension, TsaError> {
    Ok(Extension { extn_id: E::OID, critical, extn_value: OctetString::new(value.to_der()?)? })
}

fn common_name(text: &str) -> der::Result<RelativeDistinguishedName> {
    part(rfc4519::COMMON_NAME, text)
}

fn part(oid: der::asn1::ObjectIdentifier, text: &str) -> der::Result<RelativeDistinguishedName> {
    let value = Any::new(Tag::Utf8String, text.as_bytes())?;
    Ok(RelativeDistinguishedName(SetOfVec::try_from(vec![AttributeTypeAndValue { oid, value }])?))
}

fn validity(now: Millis, years: i64) -> Result<Validity, TsaError> {
    Ok(Validity { not_before: time(now)?, not_after: time(now.plus(years * YEAR_MS))? })
}
