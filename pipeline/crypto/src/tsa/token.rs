//! The token: CMS SignedData over a TSTInfo, with the three signed attributes that the profile wants.

use super::TsaError;
use super::asn1::{EssCertIdV2, IssuerSerial, SigningCertificateV2, TST_INFO, TstInfo};
use super::certificates::{rsa_sign, signature_algorithm};
use crate::hash::sha256;
use aws_lc_rs::rsa::KeyPair;
use cms::cert::{CertificateChoices, IssuerAndSerialNumber};
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{
    CertificateSet, EncapsulatedContentInfo, SignedData, SignerIdentifier, SignerInfo, SignerInfos,
};
use const_oid::ObjectIdentifier;
use const_oid::db::rfc5911::{ID_AA_SIGNING_CERTIFICATE_V_2, ID_CONTENT_TYPE, ID_MESSAGE_DIGEST, ID_SIGNED_DATA};
use const_oid::db::rfc5912::ID_SHA_256;
use der::asn1::{Any, OctetString, SetOfVec};
use der::{Decode, Encode, EncodeValue, Tagged};
use spki::AlgorithmIdentifierOwned;
use x509_cert::Certificate;
use x509_cert::attr::Attribute;
use x509_cert::ext::pkix::name::GeneralName;
use x509_tsp::TimeStampResp;

/// `PKIStatusInfo { status granted(0) }`.
const GRANTED: [u8; 5] = [0x30, 0x03, 0x02, 0x01, 0x00];

/// What is the same in every token of one unit.
pub(super) struct Signer {
    certificates: CertificateSet,
    id: SignerIdentifier,
    signing_certificate: Attribute,
}

impl Signer {
    pub(super) fn new(ca: &Certificate, tsu: &Certificate) -> Result<Signer, TsaError> {
        let body = &tsu.tbs_certificate;
        let signing_certificate = SigningCertificateV2 {
            certs: vec![EssCertIdV2 {
                hash_algorithm: None,
                cert_hash: OctetString::new(sha256(&tsu.to_der()?).0)?,
                issuer_serial: Some(IssuerSerial {
                    issuer: vec![GeneralName::DirectoryName(body.issuer.clone())],
                    serial_number: body.serial_number.clone(),
                }),
            }],
            policies: None,
        };
        let certificates = [ca, tsu].map(|certificate| CertificateChoices::Certificate(certificate.clone()));
        Ok(Signer {
            certificates: CertificateSet::try_from(certificates.to_vec())?,
            id: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
                issuer: body.issuer.clone(),
                serial_number: body.serial_number.clone(),
            }),
            signing_certificate: attribute(ID_AA_SIGNING_CERTIFICATE_V_2, &signing_certificate)?,
        })
    }

    /// A granted `TimeStampResp` with the signed token, in DER.
    pub(super) fn response(&self, key: &KeyPair, info: &TstInfo) -> Result<Vec<u8>, TsaError> {
        let content = info.to_der()?;
        let digest = OctetString::new(sha256(&content).0)?;
        // A SetOfVec sorts, and its encoding as a SET is what is signed (RFC 5652 section 5.4).
        let attributes = SetOfVec::try_from(vec![
            attribute(ID_CONTENT_TYPE, &TST_INFO)?,
            attribute(ID_MESSAGE_DIGEST, &digest)?,
            self.signing_certificate.clone(),
        ])?;
        let signer = SignerInfo {
            version: CmsVersion::V1,
            sid: self.id.clone(),
            digest_alg: sha256_algorithm(),
            signature: OctetString::new(rsa_sign(key, &attributes.to_der()?)?)?,
            signed_attrs: Some(attributes),
            signature_algorithm: signature_algorithm(),
            unsigned_attrs: None,
        };
        let signed = SignedData {
            version: CmsVersion::V3,
            digest_algorithms: SetOfVec::try_from(vec![sha256_algorithm()])?,
            encap_content_info: EncapsulatedContentInfo {
                econtent_type: TST_INFO,
                econtent: Some(Any::encode_from(&OctetString::new(content)?)?),
            },
            certificates: Some(self.certificates.clone()),
            crls: None,
            signer_infos: SignerInfos::try_from(vec![signer])?,
        };
        let token = ContentInfo { content_type: ID_SIGNED_DATA, content: Any::encode_from(&signed)? };
        Ok(TimeStampResp { status: Decode::from_der(&GRANTED)?, time_stamp_token: Some(token) }.to_der()?)
    }
}

/// SHA-256; RFC 5754 leaves its parameters out.
fn sha256_algorithm() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid: ID_SHA_256, parameters: None }
}

fn attribute<T: EncodeValue + Tagged>(oid: ObjectIdentifier, value: &T) -> Result<Attribute, TsaError> {
    Ok(Attribute { oid, values: SetOfVec::try_from(vec![Any::encode_from(value)?])? })
}
