//! Verification of a token: from the digest up to a CA that the caller trusts. The first rule that fails is named.
//!
//! It is stricter than RFC 3161 asks: one signer, SHA-256 with RSA, DER throughout, the unit's certificate inside, signed
//! by the trusted CA itself, and nothing in the token that no signature covers. Certificates are judged at genTime, so an old token stays good after they end.

use super::TsaError;
use super::asn1::{SigningCertificateV2, TST_INFO, TstInfo, granted};
use super::certificates::{from_pem, valid_at};
use crate::hash::sha256;
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use cms::cert::CertificateChoices;
use cms::content_info::CmsVersion;
use cms::signed_data::{SignedData, SignerIdentifier, SignerInfo};
use const_oid::db::rfc5911::{
    ID_AA_SIGNING_CERTIFICATE, ID_AA_SIGNING_CERTIFICATE_V_2, ID_CONTENT_TYPE, ID_MESSAGE_DIGEST, ID_SIGNED_DATA,
};
use const_oid::db::rfc5912::{ID_KP_TIME_STAMPING, ID_SHA_256, RSA_ENCRYPTION, SHA_256_WITH_RSA_ENCRYPTION};
use const_oid::{AssociatedOid, ObjectIdentifier};
use der::asn1::{Any, OctetString, SetOfVec};
use der::{Decode, Encode};
use schemas::{Millis, Sha256};
use spki::AlgorithmIdentifierOwned;
use subtle::ConstantTimeEq;
use x509_cert::Certificate;
use x509_cert::attr::Attribute;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages};
use x509_tsp::TimeStampResp;

/// A CA that the caller trusts.
#[derive(Debug, Clone)]
pub struct TrustAnchor(Certificate);

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
    /// SHA-256 of the time-stamping unit's certificate.
    pub unit: Sha256,
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
        Ok(TrustAnchor(certificate))
    }

    pub(super) fn certificate(&self) -> &Certificate {
        &self.0
    }

    /// Whether this CA signed the certificate, and for nothing but time stamps.
    pub(super) fn check_unit(&self, unit: &Certificate) -> Result<(), TsaError> {
        let body = &unit.tbs_certificate;
        ensure(body.issuer == self.0.tbs_certificate.subject, "certificate is of another CA")?;
        ensure(unit.signature_algorithm == body.signature, "certificate names two algorithms")?;
        let signature = unit.signature.as_bytes().ok_or(TsaError::Refused("certificate has no signature"))?;
        check_rsa(&self.0, &unit.signature_algorithm, &body.to_der()?, signature)
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
    let response = TimeStampResp::from_der(response)?;
    let token = granted(&response)?;
    ensure(token.content_type == ID_SIGNED_DATA, "token is not signed data")?;
    let signed = token.content.decode_as::<SignedData>()?;
    let (info, content) = content_of(&signed)?;
    check_imprint(&info, digest)?;

    let signer = signer_of(&signed)?;
    let unit = unit_of(&signed, signer, anchor)?;
    check_signature(signer, &content, unit)?;
    anchor.check_unit(unit)?;
    let gen_time = info.gen_time.at();
    ensure(valid_at(unit, gen_time) && valid_at(&anchor.0, gen_time), "certificate was not valid at that time")?;
    Ok(TokenInfo {
        gen_time,
        serial: unsigned(info.serial_number.as_bytes()),
        policy: info.policy.to_string(),
        nonce: info.nonce.map(|nonce| unsigned(nonce.as_bytes())),
        unit: sha256(&unit.to_der()?),
    })
}

/// The TSTInfo and the bytes that it was read from.
fn content_of(signed: &SignedData) -> Result<(TstInfo, Vec<u8>), TsaError> {
    let content = &signed.encap_content_info;
    ensure(content.econtent_type == TST_INFO, "token is not about a time")?;
    let bytes = content.econtent.as_ref().ok_or(TsaError::Refused("token has no content"))?;
    let bytes = bytes.decode_as::<OctetString>()?.into_bytes();
    Ok((TstInfo::from_der(&bytes)?, bytes))
}

fn check_imprint(info: &TstInfo, digest: &Sha256) -> Result<(), TsaError> {
    ensure(is_sha256(&info.message_imprint.hash_algorithm), "token is not over SHA-256")?;
    let imprint = info.message_imprint.hashed_message.as_bytes();
    ensure(imprint.ct_eq(&digest.0).into(), "token is for other data")
}

/// The one signer. What RFC 3161 fixes or leaves out is checked too: nothing in a token may change unnoticed.
fn signer_of(signed: &SignedData) -> Result<&SignerInfo, TsaError> {
    let [signer] = signed.signer_infos.0.as_slice() else {
        return Err(TsaError::Refused("token has not exactly one signer"));
    };
    ensure(signed.version == CmsVersion::V3 && signer.version == CmsVersion::V1, "token has another CMS version")?;
    let digests = signed.digest_algorithms.as_slice();
    ensure(digests.len() == 1 && digests.iter().all(is_sha256), "token names another digest")?;
    ensure(signed.crls.is_none() && signer.unsigned_attrs.is_none(), "token holds unsigned additions")?;
    Ok(signer)
}

/// The certificate that the signer names. Beside it the token may hold the trusted CA's and no other.
fn unit_of<'a>(signed: &'a SignedData, signer: &SignerInfo, anchor: &TrustAnchor) -> Result<&'a Certificate, TsaError> {
    let SignerIdentifier::IssuerAndSerialNumber(id) = &signer.sid else {
        return Err(TsaError::Refused("signer is not named by issuer and serial"));
    };
    let mut unit = None;
    for choice in signed.certificates.iter().flat_map(|set| set.0.iter()) {
        let CertificateChoices::Certificate(certificate) = choice else {
            return Err(TsaError::Refused("token holds something else than certificates"));
        };
        let body = &certificate.tbs_certificate;
        if body.issuer == id.issuer && body.serial_number == id.serial_number {
            unit = Some(certificate);
        } else {
            ensure(*certificate == anchor.0, "token holds a certificate of another CA")?;
        }
    }
    unit.ok_or(TsaError::Refused("token lacks its signer's certificate"))
}

fn check_signature(signer: &SignerInfo, content: &[u8], unit: &Certificate) -> Result<(), TsaError> {
    ensure(is_sha256(&signer.digest_alg), "token is not signed over SHA-256")?;
    let attributes = signer.signed_attrs.as_ref().ok_or(TsaError::Refused("token has no signed attributes"))?;
    ensure(single(attributes, ID_CONTENT_TYPE)?.decode_as::<ObjectIdentifier>()? == TST_INFO, "content type differs")?;
    let digest = single(attributes, ID_MESSAGE_DIGEST)?.decode_as::<OctetString>()?;
    ensure(digest.as_bytes().ct_eq(&sha256(content).0).into(), "content was changed")?;
    check_signing_certificate(attributes, unit)?;
    check_rsa(unit, &signer.signature_algorithm, &attributes.to_der()?, signer.signature.as_bytes())
}

/// Exactly one ESSCertIDv2, which is the unit's, and no ESSCertID.
fn check_signing_certificate(attributes: &SetOfVec<Attribute>, unit: &Certificate) -> Result<(), TsaError> {
    let old = attributes.iter().any(|attribute| attribute.oid == ID_AA_SIGNING_CERTIFICATE);
    ensure(!old, "token has an ESSCertID")?;
    let ids = single(attributes, ID_AA_SIGNING_CERTIFICATE_V_2)?.decode_as::<SigningCertificateV2>()?;
    let [id] = ids.certs.as_slice() else {
        return Err(TsaError::Refused("token has not exactly one ESSCertIDv2"));
    };
    ensure(id.hash_algorithm.as_ref().is_none_or(is_sha256), "ESSCertIDv2 is not over SHA-256")?;
    let matches = id.cert_hash.as_bytes().ct_eq(&sha256(&unit.to_der()?).0);
    ensure(matches.into(), "ESSCertIDv2 is of another certificate")
}

fn check_rsa(
    signer: &Certificate,
    algorithm: &AlgorithmIdentifierOwned,
    message: &[u8],
    signature: &[u8],
) -> Result<(), TsaError> {
    let key = &signer.tbs_certificate.subject_public_key_info;
    let named = [SHA_256_WITH_RSA_ENCRYPTION, RSA_ENCRYPTION].contains(&algorithm.oid);
    let plain = algorithm.parameters.as_ref().is_some_and(Any::is_null);
    ensure(named && plain && key.algorithm.oid == RSA_ENCRYPTION, "signature is not SHA-256 with RSA")?;
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.subject_public_key.raw_bytes())
        .verify(message, signature)
        .map_err(|_| TsaError::Refused("signature does not verify"))
}

/// The one value of an attribute that stands there once.
fn single(attributes: &SetOfVec<Attribute>, oid: ObjectIdentifier) -> Result<&Any, TsaError> {
    let mut of_kind = attributes.iter().filter(|attribute| attribute.oid == oid);
    match (of_kind.next().map(|attribute| attribute.values.as_slice()), of_kind.next()) {
        (Some([value]), None) => Ok(value),
        _ => Err(TsaError::Refused("a signed attribute is missing or stands twice")),
    }
}

/// The one extension of a kind, and whether it is critical.
fn extension<'a, E: AssociatedOid + Decode<'a>>(certificate: &'a Certificate) -> Result<(bool, E), TsaError> {
    let extensions = certificate.tbs_certificate.extensions.as_deref().unwrap_or_default();
    let mut of_kind = extensions.iter().filter(|extension| extension.extn_id == E::OID);
    match (of_kind.next(), of_kind.next()) {
        (Some(one), None) => Ok((one.critical, E::from_der(one.extn_value.as_bytes())?)),
        _ => Err(TsaError::Refused("a certificate extension is missing or stands twice")),
    }
}

fn is_sha256(algorithm: &AlgorithmIdentifierOwned) -> bool {
    algorithm.oid == ID_SHA_256 && algorithm.parameters.as_ref().is_none_or(Any::is_null)
}

/// The bytes of a positive INTEGER without the zero that keeps it positive.
fn unsigned(bytes: &[u8]) -> Vec<u8> {
    bytes.strip_prefix(&[0]).filter(|rest| !rest.is_empty()).unwrap_or(bytes).to_vec()
}

fn ensure(holds: bool, rule: &'static str) -> Result<(), TsaError> {
    if holds { Ok(()) } else { Err(TsaError::Refused(rule)) }
}
