//! The token: CMS SignedData over a TSTInfo, with the three signed attributes that the profile wants.

use super::TsaError;
use super::asn1::{EssCertIdV2, IssuerSerial, SigningCertificateV2, TST_INFO};
use super::encode::{CONTEXT_0, INTEGER, OCTET_STRING, SEQUENCE, SET, element, unsigned};
use super::signing::SigningKey;
use crate::hash::sha256;
use cms::cert::IssuerAndSerialNumber;
use const_oid::ObjectIdentifier;
use const_oid::db::rfc5911::{ID_AA_SIGNING_CERTIFICATE_V_2, ID_CONTENT_TYPE, ID_MESSAGE_DIGEST, ID_SIGNED_DATA};
use der::Encode;
use der::asn1::OctetString;
use x509_cert::Certificate;
use x509_cert::ext::pkix::name::GeneralName;

/// `PKIStatusInfo { status granted(0) }`.
const GRANTED: [u8; 5] = [0x30, 0x03, 0x02, 0x01, 0x00];

/// What is the same in every token of one unit, in DER.
pub(super) struct Template {
    /// The signed attributes before and after the message digest. Their order in the SET does not depend on it.
    attributes: [Vec<u8>; 2],
    /// `[0]` with both certificates in DER order.
    certificates: Vec<u8>,
    /// Version, signer and digest of the `SignerInfo`.
    signer: Vec<u8>,
    digest: Vec<u8>,
    signature: Vec<u8>,
}

impl Template {
    pub(super) fn new(ca: &Certificate, tsu: &Certificate, key: &SigningKey) -> Result<Template, TsaError> {
        let body = &tsu.tbs_certificate;
        let algorithm = key.algorithm();
        let digest = algorithm.digest().identifier().to_der()?;
        let issuer = IssuerAndSerialNumber { issuer: body.issuer.clone(), serial_number: body.serial_number.clone() }
            .to_der()?;
        let mut certificates = [ca.to_der()?, tsu.to_der()?];
        certificates.sort();
        Ok(Template {
            attributes: attributes(tsu, algorithm.digest().length())?,
            certificates: element(CONTEXT_0, &[&certificates[0], &certificates[1]]),
            signer: [unsigned(INTEGER, 1), issuer, digest.clone()].concat(),
            digest,
            signature: algorithm.signature().to_der()?,
        })
    }

    /// A granted `TimeStampResp` with the signed token over a `TSTInfo`, in DER.
    pub(super) fn response(&self, key: &SigningKey, info: &[u8], certificates: bool) -> Result<Vec<u8>, TsaError> {
        let digest = element(OCTET_STRING, &[&key.algorithm().digest().of(info)]);
        let digest = element(SET, &[&digest]);
        let [before, after] = &self.attributes;
        // What is signed is the attributes as a SET; in the token they stand under an implicit tag (RFC 5652 section 5.4).
        let signature = key.sign(&element(SET, &[before, &digest, after]))?;
        let signer = element(
            SEQUENCE,
            &[
                &self.signer,
                &element(CONTEXT_0, &[before, &digest, after]),
                &self.signature,
                &element(OCTET_STRING, &[&signature]),
            ],
        );
        let content = element(CONTEXT_0, &[&element(OCTET_STRING, &[info])]);
        let signed = element(
            SEQUENCE,
            &[
                &unsigned(INTEGER, 3),
                &element(SET, &[&self.digest]),
                &element(SEQUENCE, &[&TST_INFO.to_der()?, &content]),
                if certificates { &self.certificates } else { &[] },
                &element(SET, &[&signer]),
            ],
        );
        let token = element(SEQUENCE, &[&ID_SIGNED_DATA.to_der()?, &element(CONTEXT_0, &[&signed])]);
        Ok(element(SEQUENCE, &[&GRANTED, &token]))
    }
}

/// The signed attributes in the order of their encodings, without the message digest's value.
fn attributes(tsu: &Certificate, digest_length: usize) -> Result<[Vec<u8>; 2], TsaError> {
    let body = &tsu.tbs_certificate;
    let unit = SigningCertificateV2 {
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
    let attribute = |oid: ObjectIdentifier, value: &[u8]| -> Result<Vec<u8>, TsaError> {
        Ok(element(SEQUENCE, &[&oid.to_der()?, &element(SET, &[value])]))
    };
    let digest = attribute(ID_MESSAGE_DIGEST, &element(OCTET_STRING, &[&vec![0; digest_length]]))?;
    let mut all = [
        attribute(ID_CONTENT_TYPE, &TST_INFO.to_der()?)?,
        attribute(ID_AA_SIGNING_CERTIFICATE_V_2, &unit.to_der()?)?,
        digest.clone(),
    ];
    all.sort();
    let whole = all.concat();
    // The value is the attribute's end: the SET and the OCTET STRING in it, with their two headers of two bytes each.
    let value = digest_length + 4;
    let at: usize = all.iter().take_while(|one| **one != digest).map(Vec::len).sum::<usize>() + digest.len();
    Ok([whole[..at - value].to_vec(), whole[at..].to_vec()])
}
