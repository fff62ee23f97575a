//! What requests and responses say, without any trust in it: for texts that name a time, and for comparisons.

use super::TsaError;
use super::asn1::granted;
use super::verify::{content_of, unsigned};
use cms::signed_data::SignedData;
use der::Decode;
use schemas::Millis;
use x509_tsp::{TimeStampReq, TimeStampResp};

/// The time that a DER `TimeStampResp` names. Nothing is verified.
///
/// # Errors
/// [`TsaError::Der`], [`TsaError::Refused`] when it holds no token.
pub fn gen_time(response: &[u8]) -> Result<Millis, TsaError> {
    let response = TimeStampResp::from_der(response)?;
    let signed = granted(&response)?.content.decode_as::<SignedData>()?;
    let (info, _) = content_of(&signed)?;
    Ok(info.gen_time.at())
}

/// The serial number of the token in a DER `TimeStampResp`, in decimal, as consultations name it. Nothing is verified.
///
/// # Errors
/// As [`gen_time`].
pub fn serial(response: &[u8]) -> Result<String, TsaError> {
    let response = TimeStampResp::from_der(response)?;
    let signed = granted(&response)?.content.decode_as::<SignedData>()?;
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
