//! The token: CMS SignedData over a TSTInfo, with the three signed attributes that the profile wants.

use super::TsaError;
use super::asn1::{EssCertIdV2, IssuerSerial, SigningCertificateV2, TST_INFO};
use super::encode::{CONTEXT_0, INTEGER, OCTET_STRING, SEQUENCE, SET, element, open, unsigned, whole};
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
    signature: Vec<u8>,
    /// `id-signedData`.
    signed_data: Vec<u8>,
    /// Version and digests of the `SignedData`.
    head: Vec<u8>,
    /// `id-ct-TSTInfo`.
    content_type: Vec<u8>,
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
            signature: algorithm.signature().to_der()?,
            signed_data: ID_SIGNED_DATA.to_der()?,
            head: [unsigned(INTEGER, 3), element(SET, &[&digest])].concat(),
            content_type: TST_INFO.to_der()?,
        })
    }

    /// A granted `TimeStampResp` with the signed token over a `TSTInfo`, in DER.
    pub(super) fn response(&self, key: &SigningKey, info: &[u8], certificates: bool) -> Result<Vec<u8>, TsaError> {
        let algorithm = key.algorithm();
        let digest = algorithm.digest().of(info);
        let [before, after] = &self.attributes;
        let value = whole(digest.len());
        let attributes_length = before.len() + whole(value) + after.len();
        // What is signed is the attributes as a SET; in the token they stand under an implicit tag (RFC 5652 section 5.4).
        let mut attributes = Vec::with_capacity(whole(attributes_length));
        open(&mut attributes, SET, attributes_length);
        attributes.extend_from_slice(before);
        open(&mut attributes, SET, value);
        open(&mut attributes, OCTET_STRING, digest.len());
        attributes.extend_from_slice(&digest);
        attributes.extend_from_slice(after);
        let signature = key.sign(&attributes)?;
        attributes[0] = CONTEXT_0;
        Ok(self.written(info, &attributes, &signature, certificates))
    }

    /// The parts in their order, each length known before: a token is written once, into the place that it is given out of.
    fn written(&self, info: &[u8], attributes: &[u8], signature: &[u8], certificates: bool) -> Vec<u8> {
        let certificates: &[u8] = if certificates { &self.certificates } else { &[] };
        let signer = self.signer.len() + attributes.len() + self.signature.len() + whole(signature.len());
        let octets = whole(info.len());
        let content = self.content_type.len() + whole(octets);
        let signed = self.head.len() + whole(content) + certificates.len() + whole(whole(signer));
        let token = self.signed_data.len() + whole(whole(signed));
        let response = GRANTED.len() + whole(token);
        let mut out = Vec::with_capacity(whole(response));
        open(&mut out, SEQUENCE, response);
        out.extend_from_slice(&GRANTED);
        open(&mut out, SEQUENCE, token);
        out.extend_from_slice(&self.signed_data);
        open(&mut out, CONTEXT_0, whole(signed));
        open(&mut out, SEQUENCE, signed);
        out.extend_from_slice(&self.head);
        open(&mut out, SEQUENCE, content);
        out.extend_from_slice(&self.content_type);
        open(&mut out, CONTEXT_0, octets);
        open(&mut out, OCTET_STRING, info.len());
        out.extend_from_slice(info);
        out.extend_from_slice(certificates);
        open(&mut out, SET, whole(signer));
        open(&mut out, SEQUENCE, signer);
        out.extend_from_slice(&self.signer);
        out.extend_from_slice(attributes);
        out.extend_from_slice(&self.signature);
        open(&mut out, OCTET_STRING, signature.len());
        out.extend_from_slice(signature);
        out
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
