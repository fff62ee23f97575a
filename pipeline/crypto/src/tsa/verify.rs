//! Verification of a token: from the digest up to a CA that the caller trusts. The first rule that fails is named.
//!
//! It is stricter than RFC 3161 asks: one signer, RSA or ECDSA with one digest of the profile, DER throughout, the unit's
//! certificate inside or known, signed by the trusted CA itself, and nothing in the token that no signature covers.
//! Certificates are judged at genTime, so an old token stays good after they end. For other authorities' tokens see
//! `foreign`.

use super::asn1::{SigningCertificateV2, TST_INFO, TstInfo, granted, signed_data};
use super::certificates::{all_from_pem, from_pem, may_stamp_at, valid_at};
use super::signing::verify_signature;
use super::{Digest, TsaError};
use crate::hash::sha256;
use cms::cert::CertificateChoices;
use cms::content_info::CmsVersion;
use cms::signed_data::{SignedData, SignerIdentifier, SignerInfo};
use const_oid::db::rfc5911::{
    ID_AA_SIGNING_CERTIFICATE, ID_AA_SIGNING_CERTIFICATE_V_2, ID_CONTENT_TYPE, ID_MESSAGE_DIGEST, ID_SIGNED_DATA,
};
use const_oid::db::rfc5912::ID_KP_TIME_STAMPING;
use const_oid::{AssociatedOid, ObjectIdentifier};
use der::asn1::{Any, OctetString, SetOfVec};
use der::{Decode, Encode};
use schemas::{Millis, Sha256};
use std::sync::{Arc, PoisonError, RwLock};
use subtle::ConstantTimeEq;
use x509_cert::Certificate;
use x509_cert::attr::Attribute;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages};
use x509_tsp::TimeStampResp;

/// A CA that the caller trusts, with units of it that tokens without certificates may be of.
#[derive(Debug, Clone)]
pub struct TrustAnchor {
    certificate: Certificate,
    units: Vec<Certificate>,
    /// SHA-256 of unit certificates that this CA was found to have signed: an archive has thousands of tokens of each.
    found: Arc<RwLock<Vec<Sha256>>>,
}

/// Units that are remembered: a CA of 30 years has one or two a year.
const FOUND_MAX: usize = 256;

/// What a verified token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenInfo {
    /// When it was stamped.
    pub gen_time: Millis,
    /// Its number, big-endian, unique in its authority.
    pub serial: Vec<u8>,
    /// The policy it was made under, dotted.
    pub policy: String,
    /// The nonce, big-endian, if the request had one.
    pub nonce: Option<Vec<u8>>,
    /// How far genTime may be from UTC, in milliseconds; none when nobody vouched for the clock.
    pub accuracy_ms: Option<u64>,
    /// SHA-256 of the time-stamping unit's certificate.
    pub unit: Sha256,
    /// The serial of the unit's certificate, as revocation lists name it.
    pub unit_serial: Vec<u8>,
    /// The certificates from the unit's up to one that a root signed, where an external authority has CAs in between or a root
    /// of its own; nothing where the trusted CA signed the unit's itself.
    pub path: Vec<Issued>,
}

/// A certificate of a path: what a revocation list of its issuer would name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Its serial number.
    pub serial: Vec<u8>,
    /// The certificate of the CA that signed it, DER.
    pub issuer: Vec<u8>,
    /// The CA's name, as RFC 4514 writes names.
    pub by: String,
}

/// Whoever decides which tokens count: a CA that signs its units itself ([`TrustAnchor`], which is strict about the form), or
/// the roots of other authorities ([`Roots`](super::Roots)).
pub trait Verifier: std::fmt::Debug + Send + Sync {
    /// Verifies a `TimeStampResp` over data with this hash.
    ///
    /// # Errors
    /// [`TsaError::Der`] or [`TsaError::Refused`] with the first rule that it breaks.
    fn verify_over(&self, response: &[u8], digest: Digest, hash: &[u8]) -> Result<TokenInfo, TsaError>;

    /// Verifies a `TimeStampResp` over data with this SHA-256.
    ///
    /// # Errors
    /// As [`Verifier::verify_over`].
    fn verify(&self, response: &[u8], digest: &Sha256) -> Result<TokenInfo, TsaError> {
        self.verify_over(response, Digest::Sha256, &digest.0)
    }
}

impl Verifier for TrustAnchor {
    fn verify_over(&self, response: &[u8], digest: Digest, hash: &[u8]) -> Result<TokenInfo, TsaError> {
        verify_imprint(response, digest, hash, self)
    }
}

impl TrustAnchor {
    /// Reads a CA certificate.
    ///
    /// # Errors
    /// [`TsaError::Der`]; [`TsaError::Refused`] when it may not sign certificates.
    pub fn from_pem(text: &str) -> Result<TrustAnchor, TsaError> {
        let certificate = from_pem(text)?;
        let (_, constraints) = extension::<BasicConstraints>(&certificate)?;
        let (_, usage) = extension::<KeyUsage>(&certificate)?;
        ensure(constraints.ca && usage.key_cert_sign(), "trusted certificate is not a CA")?;
        Ok(TrustAnchor { certificate, units: Vec::new(), found: Arc::default() })
    }

    /// The same CA, with units whose tokens need not hold their certificates.
    ///
    /// # Errors
    /// [`TsaError::Der`]; [`TsaError::Refused`] when a certificate is not of a unit of this CA.
    pub fn knowing(mut self, units_pem: &str) -> Result<TrustAnchor, TsaError> {
        for unit in all_from_pem(units_pem)? {
            self.check_unit(&unit)?;
            self.units.push(unit);
        }
        Ok(self)
    }

    pub(super) fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// [`TrustAnchor::check_unit`], once for each certificate; `digest` is the SHA-256 of its DER.
    fn check_unit_once(&self, unit: &Certificate, digest: Sha256) -> Result<(), TsaError> {
        let known = self.found.read().unwrap_or_else(PoisonError::into_inner).contains(&digest);
        if known {
            return Ok(());
        }
        self.check_unit(unit)?;
        let mut found = self.found.write().unwrap_or_else(PoisonError::into_inner);
        if found.len() < FOUND_MAX {
            found.push(digest);
        }
        Ok(())
    }

    /// Whether this CA signed the certificate, and for nothing but time stamps.
    pub(super) fn check_unit(&self, unit: &Certificate) -> Result<(), TsaError> {
        let body = &unit.tbs_certificate;
        let ca = &self.certificate.tbs_certificate;
        ensure(body.issuer == ca.subject, "certificate is of another CA")?;
        ensure(unit.signature_algorithm == body.signature, "certificate names two algorithms")?;
        let signature = unit.signature.as_bytes().ok_or(TsaError::Refused("certificate has no signature"))?;
        verify_signature(&ca.subject_public_key_info, &body.signature, None, &body.to_der()?, signature)
            .map_err(|_| TsaError::Refused("certificate is not signed by the trusted CA"))?;
        let (critical, purposes) = extension::<ExtendedKeyUsage>(unit)?;
        ensure(critical && purposes.0 == [ID_KP_TIME_STAMPING], "certificate is not for time stamps alone")?;
        let (_, usage) = extension::<KeyUsage>(unit)?;
        let allowed = KeyUsages::DigitalSignature | KeyUsages::NonRepudiation;
        ensure(!usage.0.is_empty() && (usage.0 & !allowed).is_empty(), "certificate's key is for other uses too")
    }
}

/// Verifies a DER `TimeStampResp` over data with this SHA-256, under this CA.
///
/// # Errors
/// [`TsaError::Der`] or [`TsaError::Refused`] with the first rule that it breaks.
pub fn verify(response: &[u8], digest: &Sha256, anchor: &TrustAnchor) -> Result<TokenInfo, TsaError> {
    verify_imprint(response, Digest::Sha256, &digest.0, anchor)
}

/// Verifies a DER `TimeStampResp` over data with this hash, under this CA.
///
/// # Errors
/// As [`verify`].
pub fn verify_imprint(
    response: &[u8],
    digest: Digest,
    hash: &[u8],
    anchor: &TrustAnchor,
) -> Result<TokenInfo, TsaError> {
    let response = TimeStampResp::from_der(response)?;
    let token = granted(&response)?;
    ensure(token.content_type == ID_SIGNED_DATA, "token is not signed data")?;
    let signed = signed_data(token)?;
    let (info, content) = content_of(&signed)?;
    check_imprint(&info, digest, hash)?;

    let signer = signer_of(&signed)?;
    let unit = unit_of(&signed, signer, anchor)?;
    let certificate = unit.to_der()?;
    check_signature(signer, &content, unit, &certificate)?;
    let unit_digest = sha256(&certificate);
    anchor.check_unit_once(unit, unit_digest)?;
    let gen_time = info.gen_time.at();
    ensure(valid_at(&anchor.certificate, gen_time), "certificate was not valid at that time")?;
    ensure(may_stamp_at(unit, gen_time), "certificate was not valid at that time")?;
    Ok(told(info, unit, unit_digest))
}

/// What a verified token of this unit says.
pub(super) fn told(info: TstInfo, unit: &Certificate, unit_digest: Sha256) -> TokenInfo {
    let accuracy = info.accuracy.map(|accuracy| {
        let millis = accuracy.millis.and_then(|millis| u64::try_from(millis).ok()).unwrap_or(0);
        accuracy.seconds.unwrap_or(0).saturating_mul(1_000).saturating_add(millis)
    });
    TokenInfo {
        gen_time: info.gen_time.at(),
        serial: unsigned(info.serial_number.as_bytes()),
        policy: info.policy.to_string(),
        nonce: info.nonce.map(|nonce| unsigned(nonce.as_bytes())),
        accuracy_ms: accuracy,
        unit: unit_digest,
        unit_serial: unit.tbs_certificate.serial_number.as_bytes().to_vec(),
        path: Vec::new(),
    }
}

/// The TSTInfo and the bytes that it was read from.
pub(super) fn content_of(signed: &SignedData) -> Result<(TstInfo, Vec<u8>), TsaError> {
    let content = &signed.encap_content_info;
    ensure(content.econtent_type == TST_INFO, "token is not about a time")?;
    let bytes = content.econtent.as_ref().ok_or(TsaError::Refused("token has no content"))?;
    let bytes = bytes.decode_as::<OctetString>()?.into_bytes();
    Ok((TstInfo::from_der(&bytes)?, bytes))
}

pub(super) fn check_imprint(info: &TstInfo, digest: Digest, hash: &[u8]) -> Result<(), TsaError> {
    let named = Digest::named(&info.message_imprint.hash_algorithm);
    ensure(named == Some(digest), "token is over another digest")?;
    let imprint = info.message_imprint.hashed_message.as_bytes();
    ensure(imprint.ct_eq(hash).into(), "token is for other data")
}

/// The one signer. What RFC 3161 fixes or leaves out is checked too: nothing in a token may change unnoticed.
fn signer_of(signed: &SignedData) -> Result<&SignerInfo, TsaError> {
    let [signer] = signed.signer_infos.0.as_slice() else {
        return Err(TsaError::Refused("token has not exactly one signer"));
    };
    ensure(signed.version == CmsVersion::V3 && signer.version == CmsVersion::V1, "token has another CMS version")?;
    let digests = signed.digest_algorithms.as_slice();
    ensure(digests == [signer.digest_alg.clone()], "token names another digest")?;
    ensure(signed.crls.is_none() && signer.unsigned_attrs.is_none(), "token holds unsigned additions")?;
    Ok(signer)
}

/// The certificate that the signer names. Beside it the token may hold the trusted CA's and no other.
fn unit_of<'a>(
    signed: &'a SignedData,
    signer: &SignerInfo,
    anchor: &'a TrustAnchor,
) -> Result<&'a Certificate, TsaError> {
    let SignerIdentifier::IssuerAndSerialNumber(id) = &signer.sid else {
        return Err(TsaError::Refused("signer is not named by issuer and serial"));
    };
    let named = |certificate: &Certificate| {
        let body = &certificate.tbs_certificate;
        body.issuer == id.issuer && body.serial_number == id.serial_number
    };
    let mut unit = None;
    for choice in signed.certificates.iter().flat_map(|set| set.0.iter()) {
        let CertificateChoices::Certificate(certificate) = choice else {
            return Err(TsaError::Refused("token holds something else than certificates"));
        };
        if named(certificate) {
            unit = Some(certificate);
        } else {
            ensure(*certificate == anchor.certificate, "token holds a certificate of another CA")?;
        }
    }
    let known = || anchor.units.iter().find(|unit| named(unit));
    unit.or_else(known).ok_or(TsaError::Refused("token lacks its signer's certificate"))
}

fn check_signature(
    signer: &SignerInfo,
    content: &[u8],
    unit: &Certificate,
    certificate: &[u8],
) -> Result<(), TsaError> {
    let digest = Digest::named(&signer.digest_alg).ok_or(TsaError::Refused("token is signed over another digest"))?;
    let attributes = signer.signed_attrs.as_ref().ok_or(TsaError::Refused("token has no signed attributes"))?;
    ensure(single(attributes, ID_CONTENT_TYPE)?.decode_as::<ObjectIdentifier>()? == TST_INFO, "content type differs")?;
    let stated = single(attributes, ID_MESSAGE_DIGEST)?.decode_as::<OctetString>()?;
    ensure(stated.as_bytes().ct_eq(&digest.of(content)).into(), "content was changed")?;
    check_signing_certificate(attributes, certificate)?;
    let key = &unit.tbs_certificate.subject_public_key_info;
    let (algorithm, signature) = (&signer.signature_algorithm, signer.signature.as_bytes());
    verify_signature(key, algorithm, Some(digest), &attributes.to_der()?, signature)
}

/// Exactly one ESSCertIDv2, which is the unit's, and no ESSCertID.
fn check_signing_certificate(attributes: &SetOfVec<Attribute>, certificate: &[u8]) -> Result<(), TsaError> {
    let old = attributes.iter().any(|attribute| attribute.oid == ID_AA_SIGNING_CERTIFICATE);
    ensure(!old, "token has an ESSCertID")?;
    let ids = single(attributes, ID_AA_SIGNING_CERTIFICATE_V_2)?.decode_as::<SigningCertificateV2>()?;
    let [id] = ids.certs.as_slice() else {
        return Err(TsaError::Refused("token has not exactly one ESSCertIDv2"));
    };
    let digest = id.hash_algorithm.as_ref().map_or(Some(Digest::Sha256), Digest::named);
    let digest = digest.ok_or(TsaError::Refused("ESSCertIDv2 is over another digest"))?;
    let matches = id.cert_hash.as_bytes().ct_eq(&digest.of(certificate));
    ensure(matches.into(), "ESSCertIDv2 is of another certificate")
}

/// The one value of an attribute that stands there once.
pub(super) fn single(attributes: &SetOfVec<Attribute>, oid: ObjectIdentifier) -> Result<&Any, TsaError> {
    let mut of_kind = attributes.iter().filter(|attribute| attribute.oid == oid);
    match (of_kind.next().map(|attribute| attribute.values.as_slice()), of_kind.next()) {
        (Some([value]), None) => Ok(value),
        _ => Err(TsaError::Refused("a signed attribute is missing or stands twice")),
    }
}

/// The one extension of a kind, and whether it is critical.
pub(super) fn extension<'a, E: AssociatedOid + Decode<'a>>(
    certificate: &'a Certificate,
) -> Result<(bool, E), TsaError> {
    let extensions = certificate.tbs_certificate.extensions.as_deref().unwrap_or_default();
    let mut of_kind = extensions.iter().filter(|extension| extension.extn_id == E::OID);
    match (of_kind.next(), of_kind.next()) {
        (Some(one), None) => Ok((one.critical, E::from_der(one.extn_value.as_bytes())?)),
        _ => Err(TsaError::Refused("a certificate extension is missing or stands twice")),
    }
}

/// The bytes of a positive INTEGER without the zero that keeps it positive.
pub(super) fn unsigned(bytes: &[u8]) -> Vec<u8> {
    bytes.strip_prefix(&[0]).filter(|rest| !rest.is_empty()).unwrap_or(bytes).to_vec()
}

pub(super) fn ensure(holds: bool, rule: &'static str) -> Result<(), TsaError> {
    if holds { Ok(()) } else { Err(TsaError::Refused(rule)) }
}
