//! What requests and responses say, without any trust in it: for texts that name a time, and for comparisons.

use super::asn1::{granted, signed_data};
use super::certificates::{all_from_pem, millis};
use super::encode::{SEQUENCE, element};
use super::verify::{content_of, unsigned};
use super::{Digest, TsaError};
use crate::hash::sha256;
use cms::cert::CertificateChoices;
use cms::signed_data::SignerIdentifier;
use der::{Decode, Encode};
use schemas::{Millis, Sha256};
use x509_tsp::{TimeStampReq, TimeStampResp};

/// The time that a DER `TimeStampResp` names. Nothing is verified.
///
/// # Errors
/// [`TsaError::Der`], [`TsaError::Refused`] when it holds no token.
pub fn gen_time(response: &[u8]) -> Result<Millis, TsaError> {
    let response = TimeStampResp::from_der(response)?;
    let signed = signed_data(granted(&response)?)?;
    let (info, _) = content_of(&signed)?;
    Ok(info.gen_time.at())
}

/// The `TimeStampResp` that grants a token, DER: what [`verify`](super::verify) takes.
#[must_use]
pub fn response_of(token: &[u8]) -> Vec<u8> {
    // PKIStatusInfo { status granted(0) }
    element(SEQUENCE, &[&[0x30, 0x03, 0x02, 0x01, 0x00], token])
}

/// When the certificate of a response's unit ends, as the token itself says. Nothing is verified.
///
/// # Errors
/// As [`gen_time`]; [`TsaError::Refused`] when the certificate is not in the token.
pub fn unit_ends(response: &[u8]) -> Result<Millis, TsaError> {
    let response = TimeStampResp::from_der(response)?;
    let signed = signed_data(granted(&response)?)?;
    let signer = signed.signer_infos.0.as_slice().first();
    let Some(SignerIdentifier::IssuerAndSerialNumber(id)) = signer.map(|signer| &signer.sid) else {
        return Err(TsaError::Refused("signer is not named by issuer and serial"));
    };
    let certificates = signed.certificates.iter().flat_map(|set| set.0.iter());
    let unit = certificates.filter_map(|choice| match choice {
        CertificateChoices::Certificate(one) => Some(&one.tbs_certificate),
        CertificateChoices::Other(_) => None,
    });
    let mut unit = unit.filter(|body| body.issuer == id.issuer && body.serial_number == id.serial_number);
    let unit = unit.next().ok_or(TsaError::Refused("token lacks its signer's certificate"))?;
    Ok(millis(&unit.validity.not_after))
}

/// The digest that the token of a response is over, as the token itself says. Nothing is verified.
///
/// # Errors
/// As [`gen_time`]; [`TsaError::Refused`] when it is none of the profile.
pub fn imprint_digest(response: &[u8]) -> Result<Digest, TsaError> {
    let response = TimeStampResp::from_der(response)?;
    let signed = signed_data(granted(&response)?)?;
    let (info, _) = content_of(&signed)?;
    let digest = Digest::named(&info.message_imprint.hash_algorithm);
    digest.ok_or(TsaError::Refused("token is over a digest that is not of the profile"))
}

/// The serial number of the token in a DER `TimeStampResp`, in decimal, as consultations name it. Nothing is verified.
///
/// # Errors
/// As [`gen_time`].
pub fn serial(response: &[u8]) -> Result<String, TsaError> {
    let response = TimeStampResp::from_der(response)?;
    let signed = signed_data(granted(&response)?)?;
    let (info, _) = content_of(&signed)?;
    Ok(decimal(&unsigned(info.serial_number.as_bytes())))
}

/// A big-endian number in decimal.
fn decimal(bytes: &[u8]) -> String {
    // Little-endian digits; serials have at most 20 bytes, so the square of their length is nothing.
    let mut digits = vec![0u8];
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = u8::try_from(carry % 10).unwrap_or_default();
            carry /= 10;
        }
        while carry > 0 {
            digits.push(u8::try_from(carry % 10).unwrap_or_default());
            carry /= 10;
        }
    }
    digits.iter().rev().map(|digit| char::from(b'0' + digit)).collect()
}

/// The nonce of a DER `TimeStampReq`, big-endian, as [`TokenInfo::nonce`](super::TokenInfo::nonce) has it.
///
/// # Errors
/// [`TsaError::Der`].
pub fn request_nonce(request: &[u8]) -> Result<Option<Vec<u8>>, TsaError> {
    let request = TimeStampReq::from_der(request)?;
    Ok(request.nonce.map(|nonce| unsigned(nonce.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_its_decimal_digits() {
        for number in [0u128, 7, 10, 255, 256, 65_535, u128::from(u64::MAX), u128::MAX] {
            assert_eq!(decimal(&number.to_be_bytes()), number.to_string());
        }
    }
}

/// What a reader compares a certificate by.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CertificateFacts {
    /// Its subject, as RFC 4514 writes names.
    pub subject: String,
    /// Its last instant.
    pub not_after: Millis,
    /// SHA-256 of its DER, which authorities publish as its fingerprint.
    pub fingerprint: Sha256,
}

/// The certificates of a PEM text; none where it cannot be read.
#[must_use]
pub fn certificate_facts(pem: &str) -> Vec<CertificateFacts> {
    let all = all_from_pem(pem).unwrap_or_default();
    let facts = |one: x509_cert::Certificate| {
        let body = &one.tbs_certificate;
        let (subject, not_after) = (body.subject.to_string(), millis(&body.validity.not_after));
        Some(CertificateFacts { subject, not_after, fingerprint: sha256(&one.to_der().ok()?) })
    };
    all.into_iter().filter_map(facts).collect()
}
