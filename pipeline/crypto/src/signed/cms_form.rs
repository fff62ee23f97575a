//! The CMS form of a signature: built detached, and read back strictly, detached or around its content.

use super::certificate::{ecdsa, may_sign, millis, time};
use super::{Identity, Key, SignedError, SignerCertificate, Verified};
use crate::hash::sha256;
use crate::small_sets;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use cms::cert::{CertificateChoices, IssuerAndSerialNumber};
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{
    CertificateSet, EncapsulatedContentInfo, SignedData, SignerIdentifier, SignerInfo, SignerInfos,
};
use const_oid::ObjectIdentifier;
use const_oid::db::rfc5911::{ID_CONTENT_TYPE, ID_DATA, ID_MESSAGE_DIGEST, ID_SIGNED_DATA, ID_SIGNING_TIME};
use const_oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ID_EC_PUBLIC_KEY, ID_SHA_256, RSA_ENCRYPTION, SECP_256_R_1, SECP_384_R_1,
    SHA_256_WITH_RSA_ENCRYPTION,
};
use der::asn1::{Any, OctetString, SetOfVec};
use der::{Decode, Encode, EncodeValue, Tagged};
use schemas::Millis;
use spki::AlgorithmIdentifierOwned;
use subtle::ConstantTimeEq;
use x509_cert::Certificate;
use x509_cert::attr::Attribute;
use x509_cert::time::Time;

/// A signature by this identity.
pub(super) fn build(identity: &Identity, content: &[u8], now: Millis) -> Result<Vec<u8>, SignedError> {
    let body = &identity.certificate.tbs_certificate;
    // A SetOfVec sorts, and its encoding as a SET is what is signed (RFC 5652 section 5.4).
    let attributes = SetOfVec::try_from(vec![
        attribute(ID_CONTENT_TYPE, &ID_DATA)?,
        attribute(ID_MESSAGE_DIGEST, &OctetString::new(sha256(content).0)?)?,
        time_attribute(&time(now)?)?,
    ])?;
    let signature_algorithm = match &identity.key {
        Key::Ec(_) => ecdsa(),
        Key::Rsa(_) => AlgorithmIdentifierOwned { oid: SHA_256_WITH_RSA_ENCRYPTION, parameters: Some(Any::null()) },
    };
    let signer = SignerInfo {
        version: CmsVersion::V1,
        sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
            issuer: body.issuer.clone(),
            serial_number: body.serial_number.clone(),
        }),
        digest_alg: sha256_algorithm(),
        signature: OctetString::new(identity.key.sign(&attributes.to_der()?)?)?,
        signed_attrs: Some(attributes),
        signature_algorithm,
        unsigned_attrs: None,
    };
    let signed = SignedData {
        version: CmsVersion::V1,
        digest_algorithms: SetOfVec::try_from(vec![sha256_algorithm()])?,
        encap_content_info: EncapsulatedContentInfo { econtent_type: ID_DATA, econtent: None },
        certificates: Some(CertificateSet::try_from(vec![CertificateChoices::Certificate(
            identity.certificate.clone(),
        )])?),
        crls: None,
        signer_infos: SignerInfos::try_from(vec![signer])?,
    };
    Ok(ContentInfo { content_type: ID_SIGNED_DATA, content: Any::encode_from(&signed)? }.to_der()?)
}

/// See [`super::verify`].
pub(super) fn verify(content: &[u8], signature: &[u8]) -> Result<Verified, SignedError> {
    let signed = signed_data(signature)?;
    ensure(signed.encap_content_info.econtent.is_none(), "it is not detached: the content is inside")?;
    verify_over(&signed, content)
}

/// See [`super::open`].
pub(super) fn open(bytes: &[u8]) -> Result<(Vec<u8>, Verified), SignedError> {
    let signed = signed_data(bytes)?;
    let inside =
        signed.encap_content_info.econtent.as_ref().ok_or(SignedError::Refused("its content is not inside"))?;
    let content = inside.decode_as::<OctetString>()?.into_bytes();
    let verified = verify_over(&signed, &content)?;
    Ok((content, verified))
}

fn signed_data(bytes: &[u8]) -> Result<SignedData, SignedError> {
    let info = ContentInfo::from_der(bytes)?;
    ensure(info.content_type == ID_SIGNED_DATA, "it is not signed data")?;
    ensure(small_sets::are_small(info.content.value()), "it holds more than a signature does")?;
    let signed = info.content.decode_as::<SignedData>()?;
    ensure(signed.encap_content_info.econtent_type == ID_DATA, "it is over something else than plain data")?;
    Ok(signed)
}

fn verify_over(signed: &SignedData, content: &[u8]) -> Result<Verified, SignedError> {
    let [signer] = signed.signer_infos.0.as_slice() else {
        return Err(SignedError::Refused("it has not exactly one signer"));
    };
    // What no signature covers must not come in two forms.
    ensure(signed.version == CmsVersion::V1 && signer.version == CmsVersion::V1, "it has another CMS version")?;
    let digests = signed.digest_algorithms.as_slice();
    ensure(digests.len() == 1 && digests.iter().all(is_sha256), "it is not over SHA-256 (with openssl: -md sha256)")?;
    ensure(signed.crls.is_none() && signer.unsigned_attrs.is_none(), "it holds unsigned additions")?;
    let certificate = certificate_of(signed, signer)?;
    ensure(may_sign(certificate)?, "the signer's certificate is not for signatures")?;
    let attributes = signer.signed_attrs.as_ref().ok_or(SignedError::Refused("it has no signed attributes"))?;
    check_content(signer, attributes, content)?;
    check_value(certificate, signer, &attributes.to_der()?)?;
    let signed_at = millis(&Time::from_der(&single(attributes, ID_SIGNING_TIME)?.to_der()?)?);
    let signer = SignerCertificate::of(certificate)?;
    ensure(signer.is_valid_at(signed_at), "the signer's certificate was not valid when it was made")?;
    Ok(Verified { signer, signed_at })
}

/// The certificate that the signer names; others, a chain for example, may stand beside it.
fn certificate_of<'a>(signed: &'a SignedData, signer: &SignerInfo) -> Result<&'a Certificate, SignedError> {
    let SignerIdentifier::IssuerAndSerialNumber(id) = &signer.sid else {
        return Err(SignedError::Refused("its signer is not named by issuer and serial"));
    };
    let certificates = signed.certificates.iter().flat_map(|set| set.0.iter());
    let mut named = certificates.filter_map(|choice| match choice {
        CertificateChoices::Certificate(certificate) => Some(certificate),
        _ => None,
    });
    named
        .find(|certificate| {
            let body = &certificate.tbs_certificate;
            body.issuer == id.issuer && body.serial_number == id.serial_number
        })
        .ok_or(SignedError::Refused("it lacks its signer's certificate"))
}

fn check_content(signer: &SignerInfo, attributes: &SetOfVec<Attribute>, content: &[u8]) -> Result<(), SignedError> {
    ensure(is_sha256(&signer.digest_alg), "it is not over SHA-256 (with openssl: -md sha256)")?;
    let kind = single(attributes, ID_CONTENT_TYPE)?.decode_as::<ObjectIdentifier>()?;
    ensure(kind == ID_DATA, "its content type differs")?;
    let digest = single(attributes, ID_MESSAGE_DIGEST)?.decode_as::<OctetString>()?;
    ensure(digest.as_bytes().ct_eq(&sha256(content).0).into(), "it is over another document (with openssl: -binary)")
}

fn check_value(certificate: &Certificate, signer: &SignerInfo, message: &[u8]) -> Result<(), SignedError> {
    let key = &certificate.tbs_certificate.subject_public_key_info;
    let curve = || key.algorithm.parameters.as_ref().and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
    let algorithm: &'static dyn VerificationAlgorithm = match (key.algorithm.oid, signer.signature_algorithm.oid) {
        (RSA_ENCRYPTION, RSA_ENCRYPTION | SHA_256_WITH_RSA_ENCRYPTION) => &RSA_PKCS1_2048_8192_SHA256,
        (ID_EC_PUBLIC_KEY, ECDSA_WITH_SHA_256) => match curve() {
            Some(SECP_256_R_1) => &ECDSA_P256_SHA256_ASN1,
            Some(SECP_384_R_1) => &ECDSA_P384_SHA256_ASN1,
            _ => return Err(SignedError::Refused("its curve is not P-256 or P-384")),
        },
        _ => return Err(SignedError::Refused("it is not SHA-256 with RSA or ECDSA")),
    };
    UnparsedPublicKey::new(algorithm, key.subject_public_key.raw_bytes())
        .verify(message, signer.signature.as_bytes())
        .map_err(|_| SignedError::Refused("it does not verify"))
}

/// The one value of an attribute that stands there once.
fn single(attributes: &SetOfVec<Attribute>, oid: ObjectIdentifier) -> Result<&Any, SignedError> {
    let mut of_kind = attributes.iter().filter(|attribute| attribute.oid == oid);
    match (of_kind.next().map(|attribute| attribute.values.as_slice()), of_kind.next()) {
        (Some([value]), None) => Ok(value),
        _ => Err(SignedError::Refused("a signed attribute is missing or stands twice")),
    }
}

fn attribute<T: EncodeValue + Tagged>(oid: ObjectIdentifier, value: &T) -> Result<Attribute, SignedError> {
    Ok(Attribute { oid, values: SetOfVec::try_from(vec![Any::encode_from(value)?])? })
}

/// A time is a CHOICE, which has no tag of its own.
fn time_attribute(time: &Time) -> Result<Attribute, SignedError> {
    let value = match time {
        Time::UtcTime(time) => Any::encode_from(time)?,
        Time::GeneralTime(time) => Any::encode_from(time)?,
    };
    Ok(Attribute { oid: ID_SIGNING_TIME, values: SetOfVec::try_from(vec![value])? })
}

/// SHA-256; RFC 5754 leaves its parameters out.
fn sha256_algorithm() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid: ID_SHA_256, parameters: None }
}

fn is_sha256(algorithm: &AlgorithmIdentifierOwned) -> bool {
    algorithm.oid == ID_SHA_256 && algorithm.parameters.as_ref().is_none_or(Any::is_null)
}

fn ensure(holds: bool, rule: &'static str) -> Result<(), SignedError> {
    if holds { Ok(()) } else { Err(SignedError::Refused(rule)) }
}
