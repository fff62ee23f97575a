//! The few ASN.1 types of RFC 3161 and RFC 5035 that the libraries lack, or have without milliseconds.

use super::TsaError;
use crate::small_sets;
use cms::cert::x509::ext::pkix::name::{GeneralName, GeneralNames};
use cms::content_info::ContentInfo;
use cms::signed_data::SignedData;
use const_oid::ObjectIdentifier;
use der::asn1::{Int, OctetString};
use der::{DateTime, DecodeValue, EncodeValue, ErrorKind, FixedTag, Header, Length, Reader, Sequence, Tag, Writer};
use schemas::Millis;
use spki::AlgorithmIdentifierOwned;
use std::time::Duration;
use x509_cert::ext::Extensions;
use x509_cert::serial_number::SerialNumber;
use x509_tsp::{Accuracy, MessageImprint, TimeStampResp, TspVersion};

/// `id-ct-TSTInfo`.
pub(super) const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");

/// `TSTInfo` of RFC 3161 section 2.4.2.
#[derive(Clone, Debug, Eq, PartialEq, Sequence)]
pub(super) struct TstInfo {
    pub(super) version: TspVersion,
    pub(super) policy: ObjectIdentifier,
    pub(super) message_imprint: MessageImprint,
    pub(super) serial_number: Int,
    pub(super) gen_time: GenTime,
    #[asn1(optional = "true")]
    pub(super) accuracy: Option<Accuracy>,
    #[asn1(default = "Default::default")]
    pub(super) ordering: bool,
    #[asn1(optional = "true")]
    pub(super) nonce: Option<Int>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    pub(super) tsa: Option<GeneralName>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    pub(super) extensions: Option<Extensions>,
}

/// The longest text of a time: `YYYYMMDDhhmmss.mmmZ`.
pub(super) const TIME_MAX: usize = 19;

/// A GeneralizedTime in UTC with up to three decimals of a second, in its one DER form: no trailing zeros, no empty
/// fraction (RFC 3161 section 2.4.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct GenTime {
    at: Millis,
    seconds: DateTime,
}

impl GenTime {
    pub(super) fn new(at: Millis) -> der::Result<GenTime> {
        let since = u64::try_from(at.0).map_err(|_| ErrorKind::DateTime)?;
        Ok(GenTime { at, seconds: DateTime::from_unix_duration(Duration::from_secs(since / 1000))? })
    }

    pub(super) fn at(&self) -> Millis {
        self.at
    }

    /// The text and its length.
    pub(super) fn text(&self) -> ([u8; TIME_MAX], usize) {
        let t = &self.seconds;
        let millis = u16::try_from(self.at.0.rem_euclid(1_000)).unwrap_or(0);
        let parts = [
            (t.year(), 4),
            (t.month().into(), 2),
            (t.day().into(), 2),
            (t.hour().into(), 2),
            (t.minutes().into(), 2),
            (t.seconds().into(), 2),
        ];
        let (mut out, mut at) = ([b'.'; TIME_MAX], 0);
        for (value, width) in parts {
            digits(&mut out[at..at + width], value);
            at += width;
        }
        if millis > 0 {
            // The point stands there already.
            let (fraction, width) = match millis {
                ms if ms % 100 == 0 => (ms / 100, 1),
                ms if ms % 10 == 0 => (ms / 10, 2),
                ms => (ms, 3),
            };
            digits(&mut out[at + 1..at + 1 + width], fraction);
            at += 1 + width;
        }
        out[at] = b'Z';
        (out, at + 1)
    }

    /// Reads by positions and compares with the one form of what was read, so no other form gets through.
    fn parse(text: &str) -> Option<GenTime> {
        let (whole, fraction) = text.strip_suffix('Z')?.split_at_checked(14)?;
        if !whole.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let two = |at: usize| whole[at..at + 2].parse::<u8>().ok();
        let year = whole[..4].parse().ok()?;
        let seconds = DateTime::new(year, two(4)?, two(6)?, two(8)?, two(10)?, two(12)?).ok()?;
        let decimals = fraction.strip_prefix('.').unwrap_or("0");
        if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let millis = format!("{decimals:0<3}").parse::<u64>().ok()?;
        let since = seconds.unix_duration().as_secs().checked_mul(1000)?.checked_add(millis)?;
        let time = GenTime::new(Millis(i64::try_from(since).ok()?)).ok()?;
        let (one_form, length) = time.text();
        (one_form[..length] == *text.as_bytes()).then_some(time)
    }
}

/// Fills the place with a number's digits, zeros in front.
fn digits(place: &mut [u8], mut value: u16) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10).to_le_bytes()[0];
        value /= 10;
    }
}

impl FixedTag for GenTime {
    const TAG: Tag = Tag::GeneralizedTime;
}

impl EncodeValue for GenTime {
    fn value_len(&self) -> der::Result<Length> {
        self.text().1.try_into()
    }

    fn encode_value(&self, writer: &mut impl Writer) -> der::Result<()> {
        let (text, length) = self.text();
        writer.write(&text[..length])
    }
}

impl<'a> DecodeValue<'a> for GenTime {
    fn decode_value<R: Reader<'a>>(reader: &mut R, header: Header) -> der::Result<GenTime> {
        let text = reader.read_vec(header.length)?;
        let time = std::str::from_utf8(&text).ok().and_then(GenTime::parse);
        time.ok_or_else(|| Tag::GeneralizedTime.value_error())
    }
}

/// `SigningCertificateV2` of RFC 5035.
#[derive(Clone, Debug, Eq, PartialEq, Sequence)]
pub(super) struct SigningCertificateV2 {
    pub(super) certs: Vec<EssCertIdV2>,
    /// `policies`, which nobody uses and we only pass over.
    #[asn1(optional = "true")]
    pub(super) policies: Option<der::Any>,
}

/// `ESSCertIDv2` of RFC 5035. The default algorithm is SHA-256, and DER leaves a default out.
#[derive(Clone, Debug, Eq, PartialEq, Sequence)]
pub(super) struct EssCertIdV2 {
    #[asn1(optional = "true")]
    pub(super) hash_algorithm: Option<AlgorithmIdentifierOwned>,
    pub(super) cert_hash: OctetString,
    #[asn1(optional = "true")]
    pub(super) issuer_serial: Option<IssuerSerial>,
}

/// `IssuerSerial` of RFC 5035.
#[derive(Clone, Debug, Eq, PartialEq, Sequence)]
pub(super) struct IssuerSerial {
    pub(super) issuer: GeneralNames,
    pub(super) serial_number: SerialNumber,
}

/// What a token signs and who, once it is known not to stop the decoder (see `small_sets`).
pub(super) fn signed_data(token: &ContentInfo) -> Result<SignedData, TsaError> {
    if !small_sets::are_small(token.content.value()) {
        return Err(TsaError::Refused("token holds more than a token does"));
    }
    Ok(token.content.decode_as::<SignedData>()?)
}

/// The token of a response that grants one (RFC 3161: status 0 or 1).
pub(super) fn granted<'a>(response: &'a TimeStampResp<'_>) -> Result<&'a ContentInfo, TsaError> {
    match &response.time_stamp_token {
        Some(token) if (response.status.status as u8) <= 1 => Ok(token),
        _ => Err(TsaError::Refused("response grants no token")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use der::{Decode, Encode};

    #[test]
    fn a_time_has_its_one_der_form() {
        for (millis, text) in [
            (0, "19700101000000Z"),
            (1_795_312_800_123, "20261122020000.123Z"),
            (1_795_312_800_120, "20261122020000.12Z"),
            (1_795_312_800_100, "20261122020000.1Z"),
            (1_795_312_800_003, "20261122020000.003Z"),
            (253_402_300_799_999, "99991231235959.999Z"),
        ] {
            let time = GenTime::new(Millis(millis)).unwrap();
            let der = time.to_der().unwrap();
            assert_eq!(&der[2..], text.as_bytes());
            assert_eq!(GenTime::from_der(&der).unwrap().at(), Millis(millis));
        }
        assert!(GenTime::new(Millis(-1)).is_err());
        assert!(GenTime::new(Millis(253_402_300_800_000)).is_err());
    }

    #[test]
    fn any_other_form_of_a_time_is_refused() {
        for text in [
            "20261122020000.120Z",
            "20261122020000.0Z",
            "20261122020000.Z",
            "20261122020000",
            "202611220200Z",
            "20261122020000+0100",
            "20261322020000Z",
            "20260230020000Z",
            "20261122020000.1234Z",
            "+0261122020000Z",
            "20261122020060Z",
            "",
            "Z",
            "20261122020000.-1Z",
            "2026112202000éZ",
        ] {
            assert_eq!(GenTime::parse(text), None, "{text}");
        }
    }
}
