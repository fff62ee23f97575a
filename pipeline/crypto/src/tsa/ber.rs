//! From BER to DER, as far as other authorities' tokens need it: several of them write lengths that are not known before the
//! content ("indefinite"), and octet strings in pieces, which a DER reader refuses.
//!
//! Only the form is changed: lengths become definite and shortest, pieces of an octet string are joined. Nothing is
//! interpreted; whatever the bytes say is read and verified by the library afterwards.
//! Bounds: 64 KiB of input, a depth of 32; the output is never longer than the input by more than 4 bytes an element.

use super::encode::{OCTET_STRING, element};

/// Longest token: two certificates take 3 KiB, a whole chain 10.
const INPUT_MAX: usize = 64 * 1024;
/// A token with certificates is fifteen levels deep.
const DEPTH_MAX: usize = 32;
/// Bit of a tag that says that the content is elements.
const CONSTRUCTED: u8 = 0x20;

/// The same element with definite lengths; none when the bytes are not one whole element within the bounds.
pub(super) fn to_der(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() > INPUT_MAX {
        return None;
    }
    let (der, rest) = convert(bytes, DEPTH_MAX)?;
    rest.is_empty().then_some(der)
}

fn convert(bytes: &[u8], depth: usize) -> Option<(Vec<u8>, &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    // Tags above 30 do not occur in tokens.
    if depth == 0 || tag & 0x1f == 0x1f {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    if first == 0x80 {
        return if tag & CONSTRUCTED == 0 { None } else { until_end(tag, rest, depth) };
    }
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f)).filter(|(bytes, _)| bytes.len() <= 4)?;
        (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
    };
    let (mut content, rest) = rest.split_at_checked(length)?;
    if tag & CONSTRUCTED == 0 {
        return Some((element(tag, &[content]), rest));
    }
    let mut parts = Vec::new();
    while !content.is_empty() {
        let (part, left) = convert(content, depth - 1)?;
        parts.push(part);
        content = left;
    }
    Some((joined(tag, &parts)?, rest))
}

/// Elements up to the two zeros that end an indefinite length.
fn until_end(tag: u8, mut bytes: &[u8], depth: usize) -> Option<(Vec<u8>, &[u8])> {
    let mut parts = Vec::new();
    loop {
        if let Some(rest) = bytes.strip_prefix(&[0, 0]) {
            return Some((joined(tag, &parts)?, rest));
        }
        let (part, rest) = convert(bytes, depth - 1)?;
        parts.push(part);
        bytes = rest;
    }
}

fn joined(tag: u8, parts: &[Vec<u8>]) -> Option<Vec<u8>> {
    let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    if tag != OCTET_STRING | CONSTRUCTED {
        return Some(element(tag, &slices));
    }
    // The pieces are octet strings themselves, converted and so primitive: their contents make the whole.
    let contents: Option<Vec<&[u8]>> = slices.iter().map(|piece| content_of(piece)).collect();
    Some(element(OCTET_STRING, &contents?))
}

/// The content of a primitive octet string in DER.
fn content_of(piece: &[u8]) -> Option<&[u8]> {
    let (&tag, rest) = piece.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let skipped = if first < 0x80 { 0 } else { usize::from(first & 0x7f) };
    if tag == OCTET_STRING { rest.get(skipped..) } else { None }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn indefinite_lengths_and_pieces_become_definite_and_whole() {
        for (ber, der) in [
            ("3080 020101 0000", "3003 020101"),
            ("3080 3080 0500 0000 0000", "3004 3002 0500"),
            ("2480 0402 0102 0401 03 0000", "0403 010203"),
            ("2409 2480 0401 01 0000 0400", "0401 01"),
            ("308103 020101", "3003 020101"),
            ("3082 0003 020101", "3003 020101"),
            ("0400", "0400"),
        ] {
            let bytes = |text: &str| hex::decode(text.replace(' ', "")).unwrap();
            assert_eq!(to_der(&bytes(ber)), Some(bytes(der)), "{ber}");
        }
        for broken in [
            "",
            "30",
            "3080",
            "3080 0201",
            "3003 0201",
            "0480 0000",
            "1f01 00",
            "3000 00",
            "2403 020101",
            "308500000000 00",
        ] {
            assert_eq!(to_der(&hex::decode(broken.replace(' ', "")).unwrap()), None, "{broken}");
        }
        assert_eq!(to_der(&[0x30, 0x80].repeat(1_000)), None, "too deep");
        assert_eq!(to_der(&vec![0x30; INPUT_MAX + 1]), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_what_is_definite_stays(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(der) = to_der(&bytes) {
                prop_assert_eq!(to_der(&der), Some(der));
            }
        }
    }
}
