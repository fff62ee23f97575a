//! The few shapes of DER that are written here by hand: a token's, of which only number, time, imprint, nonce and signature
//! vary. Through the general encoder a token costs more than its ECDSA signature. Nothing is ever parsed by hand.

use super::TsaError;
use super::asn1::GenTime;
use der::asn1::ObjectIdentifier;
use schemas::Millis;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0c;
const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// `[0]`, constructed.
pub(super) const CONTEXT_0: u8 = 0xa0;
/// `[0] IMPLICIT` of a primitive type.
const IMPLICIT_0: u8 = 0x80;

/// An element with these parts as its content, one after the other.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(whole(length));
    open(&mut out, tag, length);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// Begins an element whose content has so many bytes; they must follow.
pub(super) fn open(out: &mut Vec<u8>, tag: u8, length: usize) {
    out.push(tag);
    if length < 0x80 {
        out.push(length.to_le_bytes()[0]);
    } else {
        let bytes = length.to_be_bytes();
        let leading = bytes.len() - octets(length);
        out.push(0x80 | octets(length).to_le_bytes()[0]);
        out.extend_from_slice(&bytes[leading..]);
    }
}

/// Bytes of an element whose content has so many, its tag and length included.
pub(super) fn whole(length: usize) -> usize {
    length + if length < 0x80 { 2 } else { 2 + octets(length) }
}

/// Bytes of a number in its shortest form.
fn octets(number: usize) -> usize {
    number.to_be_bytes().iter().skip_while(|byte| **byte == 0).count()
}

/// A positive INTEGER in its shortest form.
pub(super) fn unsigned(tag: u8, value: u128) -> Vec<u8> {
    let mut out = Vec::with_capacity(19);
    number(&mut out, tag, value);
    out
}

fn number(out: &mut Vec<u8>, tag: u8, value: u128) {
    let bytes = value.to_be_bytes();
    let leading = bytes.iter().take_while(|byte| **byte == 0).count().min(bytes.len() - 1);
    let significant = &bytes[leading..];
    let zero: &[u8] = if significant[0] & 0x80 == 0 { &[] } else { &[0] };
    open(out, tag, zero.len() + significant.len());
    out.extend_from_slice(zero);
    out.extend_from_slice(significant);
}

/// What varies in a `TSTInfo`.
pub(super) struct Info<'a> {
    pub(super) policy: ObjectIdentifier,
    /// The request's `MessageImprint`, DER: the token's must be the same value.
    pub(super) imprint: &'a [u8],
    pub(super) serial: u128,
    pub(super) at: Millis,
    /// Accuracy in milliseconds, when somebody vouches for the clock.
    pub(super) accuracy_ms: Option<u32>,
    /// The request's nonce: the content of its INTEGER.
    pub(super) nonce: Option<&'a [u8]>,
}

impl Info<'_> {
    /// `TSTInfo` of RFC 3161 section 2.4.2. `ordering` is FALSE, and DER leaves a default out.
    pub(super) fn encode(&self) -> Result<Vec<u8>, TsaError> {
        let mut body = Vec::with_capacity(160 + self.imprint.len() + self.nonce.map_or(0, <[u8]>::len));
        number(&mut body, INTEGER, 1);
        open(&mut body, OBJECT_IDENTIFIER, self.policy.as_bytes().len());
        body.extend_from_slice(self.policy.as_bytes());
        body.extend_from_slice(self.imprint);
        number(&mut body, INTEGER, self.serial);
        let (time, length) = GenTime::new(self.at)?.text();
        open(&mut body, GENERALIZED_TIME, length);
        body.extend_from_slice(&time[..length]);
        if let Some(ms) = self.accuracy_ms {
            body.extend_from_slice(&accuracy(ms));
        }
        if let Some(nonce) = self.nonce {
            open(&mut body, INTEGER, nonce.len());
            body.extend_from_slice(nonce);
        }
        Ok(element(SEQUENCE, &[&body]))
    }
}

/// `Accuracy`: seconds and milliseconds, each only when it is not 0.
fn accuracy(ms: u32) -> Vec<u8> {
    let part = |tag, value: u32| if value == 0 { Vec::new() } else { unsigned(tag, u128::from(value)) };
    element(SEQUENCE, &[&part(INTEGER, ms / 1000), &part(IMPLICIT_0, ms % 1000)])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::asn1::TstInfo;
    use super::*;
    use der::{Decode, Encode};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_by_hand_is_what_the_library_writes(
            serial in any::<u128>(), at in 0i64..253_402_300_800_000, accuracy in proptest::option::of(1u32..100_000),
            nonce in proptest::option::of(1i64..), hash in any::<[u8; 32]>(),
        ) {
            let nonce = nonce.map(|nonce| der::asn1::Int::from(der::asn1::Uint::new(&nonce.to_be_bytes()).unwrap()));
            let algorithm = super::super::Digest::Sha256.identifier().to_der().unwrap();
            let imprint = element(SEQUENCE, &[&algorithm, &element(OCTET_STRING, &[&hash])]);
            let policy = ObjectIdentifier::new_unwrap("1.2.3.4");
            let bytes = nonce.as_ref().map(der::asn1::Int::as_bytes);
            let info = Info { policy, imprint: &imprint, serial, at: Millis(at), accuracy_ms: accuracy, nonce: bytes };
            let encoded = info.encode().unwrap();
            let read = TstInfo::from_der(&encoded).unwrap();
            prop_assert_eq!(read.to_der().unwrap(), encoded);
            prop_assert_eq!(read.gen_time.at(), Millis(at));
            prop_assert_eq!(read.accuracy.map(|a| a.seconds.unwrap_or(0) * 1000 + a.millis.unwrap_or(0) as u64), accuracy.map(u64::from));
            prop_assert_eq!(read.nonce, nonce);
        }

        #[test]
        fn every_length_is_in_its_shortest_form(length in 0usize..70_000) {
            let bytes = element(OCTET_STRING, &[&vec![7; length]]);
            prop_assert_eq!(der::asn1::OctetString::from_der(&bytes).unwrap().as_bytes().len(), length);
            prop_assert_eq!(bytes.len(), whole(length));
        }
    }
}
