//! A bag that lies in memory: the very form that [`BagWriter`](super::BagWriter) writes is read at the speed of copying,
//! and whatever else is a bag (another writer's blanks or prefixes) goes on with the general reader.
//!
//! Invariant: both ways show the same entries and accept the same documents; a property test holds them together.
//! Failure behaviour: as [`read_bag`](super::read_bag); entries before the fault have been shown.

use super::{BagXml, HASH_TEXT, NAMESPACE, XmlError, number, read_bag};
use base64::{Engine, engine::general_purpose::STANDARD};
use schemas::Sha256;
use zegel_crypto::hash::sha256;

const OPEN: &[u8] = b"<JournalEntry><Hash>";
const MIDDLE: &[u8] = b"</Hash><Ref>";
const CLOSE: &[u8] = b"</Ref></JournalEntry>\n";
const END: &[u8] = b"</TimeStampBag>\n";
/// The longest `xs:long`.
const DIGITS: usize = 19;

/// One entry of a bag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// `Ref`; 0 is the header's.
    pub reference: u64,
    /// `Hash`.
    pub hash: Sha256,
    /// Where its element begins in the document; none where the document is not in the form that we write.
    pub offset: Option<u64>,
}

/// Reads a bag to its end and shows each entry, in order.
///
/// # Errors
/// See [`XmlError`].
pub fn read_bag_bytes(xml: &[u8], mut on_entry: impl FnMut(&Entry)) -> Result<BagXml, XmlError> {
    let mut shown = 0;
    if let Some((sequence, body)) = head(xml) {
        let rest = entries(&xml[body..], body as u64, |entry| {
            shown += 1;
            on_entry(entry);
        });
        if rest == END && shown > 0 {
            return Ok(BagXml { sequence, entries: shown, digest: sha256(xml) });
        }
    }
    let mut skip = shown;
    read_bag(xml, |reference, hash| {
        if skip > 0 {
            skip -= 1;
        } else {
            on_entry(&Entry { reference, hash: *hash, offset: None });
        }
    })
}

/// Reads at most `count` entries of a document in our own form from an [`Entry::offset`] on.
#[must_use]
pub fn read_entries(xml: &[u8], offset: u64, count: usize) -> Vec<Entry> {
    let mut found = Vec::with_capacity(count.min(1_024));
    let mut rest = usize::try_from(offset).ok().and_then(|at| xml.get(at..)).unwrap_or_default();
    while found.len() < count {
        let at = (xml.len() - rest.len()) as u64;
        let Some((entry, after)) = entry(rest, at) else { break };
        found.push(entry);
        rest = after;
    }
    found
}

/// The sequence, and where the first entry begins.
fn head(xml: &[u8]) -> Option<(u64, usize)> {
    let start = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<TimeStampBag xmlns=\"{NAMESPACE}\" Hash=\"SHA-256\" SequenceNumber=\""
    );
    let rest = xml.strip_prefix(start.as_bytes())?;
    let (text, rest) = digits(rest)?;
    let rest = rest.strip_prefix(b"\">\n")?;
    Some((text, xml.len() - rest.len()))
}

/// Shows entries while they are in our form; what comes after them.
fn entries(mut rest: &[u8], mut at: u64, mut show: impl FnMut(&Entry)) -> &[u8] {
    while let Some((entry, after)) = entry(rest, at) {
        show(&entry);
        at += (rest.len() - after.len()) as u64;
        rest = after;
    }
    rest
}

fn entry(rest: &[u8], at: u64) -> Option<(Entry, &[u8])> {
    let rest = rest.strip_prefix(OPEN)?;
    let (text, rest) = rest.split_at_checked(HASH_TEXT)?;
    // 33 bytes of room: the decoder wants space for every group of four characters.
    let mut bytes = [0; 33];
    if STANDARD.decode_slice(text, &mut bytes) != Ok(32) {
        return None;
    }
    let mut hash = Sha256::default();
    hash.0.copy_from_slice(&bytes[..32]);
    let (reference, rest) = digits(rest.strip_prefix(MIDDLE)?)?;
    let rest = rest.strip_prefix(CLOSE)?;
    Some((Entry { reference, hash, offset: Some(at) }, rest))
}

/// A number in its one form, and what follows it.
fn digits(rest: &[u8]) -> Option<(u64, &[u8])> {
    let length = rest.iter().take(DIGITS).take_while(|byte| byte.is_ascii_digit()).count();
    let (text, rest) = rest.split_at(length);
    Some((number(std::str::from_utf8(text).ok()?)?, rest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::super::BagWriter;
    use super::*;
    use proptest::prelude::*;

    fn written(sequence: u64, entries: &[(u64, [u8; 32])]) -> Vec<u8> {
        let mut writer = BagWriter::new(Vec::new(), sequence).unwrap();
        for (reference, hash) in entries {
            writer.entry(*reference, &Sha256(*hash)).unwrap();
        }
        writer.finish().unwrap()
    }

    /// What a reader makes of a document: the bag, or nothing, and the entries it showed.
    type Read = (Option<BagXml>, Vec<(u64, Sha256)>);

    fn both(xml: &[u8]) -> [Read; 2] {
        let (mut fast, mut slow) = (Vec::new(), Vec::new());
        let one = read_bag_bytes(xml, |entry| fast.push((entry.reference, entry.hash))).ok();
        let other = read_bag(xml, |reference, hash| slow.push((reference, *hash))).ok();
        [(one, fast), (other, slow)]
    }

    #[test]
    fn entries_can_be_read_from_the_offset_that_was_shown() {
        let xml = written(3, &[(0, [9; 32]), (5, [1; 32]), (1 << 60, [2; 32]), (7, [3; 32])]);
        let mut all = Vec::new();
        read_bag_bytes(&xml, |entry| all.push(*entry)).unwrap();
        assert_eq!(read_entries(&xml, all[1].offset.unwrap(), 2), all[1..3]);
        assert_eq!(read_entries(&xml, all[2].offset.unwrap(), 99), all[2..]);
        assert_eq!(read_entries(&xml, u64::MAX, 1), []);
    }

    #[test]
    fn another_writers_blanks_are_read_as_well() {
        let xml = String::from_utf8(written(3, &[(0, [9; 32]), (5, [1; 32]), (6, [1; 32])])).unwrap();
        for (from, to) in [("<Ref>5", "<Ref >5"), ("</TimeStampBag>\n", "</TimeStampBag>"), ("?>\n<", "?><")] {
            let other = xml.replacen(from, to, 1);
            assert_ne!(other, xml);
            let [fast, slow] = both(other.as_bytes());
            assert!(slow.0.is_some(), "{from} as {to}");
            assert_eq!(fast, slow);
        }
    }

    proptest! {
        #[test]
        fn both_readers_show_the_same_whatever_byte_is_changed(
            entries in prop::collection::vec((0u64..=i64::MAX as u64, any::<[u8; 32]>()), 1..20),
            at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>(), cuts: bool,
        ) {
            let mut xml = written(7, &entries);
            let at = at.index(xml.len());
            xml[at] = byte;
            if cuts {
                xml.truncate(cut.index(xml.len()));
            }
            let [fast, slow] = both(&xml);
            prop_assert_eq!(fast, slow);
        }
    }
}
