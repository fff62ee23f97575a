//! A look at DER before it is decoded: the decoder sorts each SET OF by insertion and compares by encoding, so a set of some thousand
//! elements in descending order, a few kilobytes, would take minutes. Nothing that we read has more than a few.
//!
//! Failure behaviour: what is not DER with definite lengths does not pass; the decoder would refuse it too.

/// More elements than any set that we read: certificates of a chain, attributes of a signer.
const ELEMENTS_MAX: usize = 64;
/// Deeper than any structure that we read.
const DEPTH_MAX: usize = 48;
const CONSTRUCTED: u8 = 0x20;
const SEQUENCE: u8 = 0x30;
/// Tag numbers from 31 on, which CMS has not.
const LONG_TAG: u8 = 0x1f;

/// Whether no set, and no element with a tag of its context, which may stand for one, has too many elements. Linear in the length.
pub(crate) fn are_small(der: &[u8]) -> bool {
    walk(der).is_some()
}

fn walk(der: &[u8]) -> Option<()> {
    // What is open: its end, whether its elements are counted, and how many there were.
    let mut open = vec![(der.len(), false, 0usize)];
    let mut at = 0;
    while let Some((end, is_counted, elements)) = open.last_mut() {
        if at == *end {
            open.pop();
            continue;
        }
        *elements += 1;
        if *is_counted && *elements > ELEMENTS_MAX {
            return None;
        }
        let end = *end;
        let tag = *der.get(at)?;
        let (header, length) = length(der.get(at + 1..end)?)?;
        let content = at + 1 + header;
        let next = content.checked_add(length).filter(|next| *next <= end && tag & LONG_TAG != LONG_TAG)?;
        if tag & CONSTRUCTED == 0 {
            at = next;
        } else if open.len() < DEPTH_MAX {
            open.push((next, tag != SEQUENCE, 0));
            at = content;
        } else {
            return None;
        }
    }
    Some(())
}

/// The length, and how many bytes it is written in.
fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let first = usize::from(*bytes.first()?);
    if first < 0x80 {
        return Some((1, first));
    }
    let count = first & 0x7f;
    let value = bytes.get(1..=count).filter(|_| (1..=4).contains(&count))?;
    Some((1 + count, value.iter().fold(0, |value, byte| value << 8 | usize::from(*byte))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes();
        [&[tag, 0x84][..], &length, content].concat()
    }

    #[test]
    fn a_long_sequence_passes_and_a_long_set_does_not_however_deep_it_lies() {
        let many = tlv(0x02, &[1]).repeat(ELEMENTS_MAX + 1);
        assert!(are_small(&tlv(SEQUENCE, &many)) && are_small(&tlv(0x04, &many)));
        for tag in [0x31, 0xa0, 0xa1] {
            assert!(!are_small(&tlv(SEQUENCE, &tlv(SEQUENCE, &tlv(tag, &many)))), "{tag:x}");
            assert!(are_small(&tlv(tag, &many[many.len() / (ELEMENTS_MAX + 1)..])), "{tag:x}");
        }
    }

    #[test]
    fn what_is_no_der_does_not_pass_and_ends() {
        for wrong in [&[0x30, 0x80, 0, 0][..], &[0x30, 5, 1], &[0x30, 0x85, 1, 1, 1, 1, 1], &[0x1f, 1, 1], &[0x30]] {
            assert!(!are_small(wrong), "{wrong:?}");
        }
        let deep = (0..DEPTH_MAX).fold(Vec::new(), |inside, _| tlv(SEQUENCE, &inside));
        assert!(!are_small(&deep));
    }
}
