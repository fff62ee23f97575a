//! The eHealth `TimeStampBag` as XML: written entry by entry, read entry by entry.
//!
//! Form (type `TimeStampBagType` of the eHealth time-stamping XSD 2.0; the root element is ours, see `xsd/`):
//! ```xml
//! <?xml version="1.0" encoding="UTF-8"?>
//! <TimeStampBag xmlns="urn:be:fgov:ehealth:timestamping:protocol:v2" Hash="SHA-256" SequenceNumber="7">
//! <JournalEntry><Hash>…</Hash><Ref>0</Ref></JournalEntry>
//! </TimeStampBag>
//! ```
//! The XSD says `xs:string` for a hash and nothing about its form; ours is the base64 of the 32 bytes, as for every
//! digest in XML signatures. `Ref` is `xs:long`. Entry 0 (Ref 0) comes first and is the header's hash.
//! Reading is bounded: one piece of markup has at most [`EVENT_MAX`] bytes, nothing nests deeper than the form, and a
//! document type, an entity, a comment or a processing instruction is refused.
//! Failure behaviour: [`XmlError`] names the rule, never a value.

mod canonical;

pub use canonical::{Entry, read_bag_bytes, read_entries};

use base64::{Engine, engine::general_purpose::STANDARD};
use quick_xml::NsReader;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, ResolveResult};
use schemas::Sha256;
use std::io::{self, BufRead, Read, Write};
use zegel_crypto::hash::Hasher;

/// The namespace of the eHealth time-stamping protocol.
pub const NAMESPACE: &str = "urn:be:fgov:ehealth:timestamping:protocol:v2";
/// Longest tag or text that is read; the longest in a bag is the root's tag, under 200 bytes.
pub const EVENT_MAX: usize = 1_024;
/// Bytes read and hashed at once.
const PIECE: usize = 64 * 1024;
/// Base64 of 32 bytes.
const HASH_TEXT: usize = 44;

/// Why a document is no bag.
#[derive(Debug, thiserror::Error)]
pub enum XmlError {
    /// The bytes could not be read.
    #[error("bag could not be read: {0}")]
    Read(io::ErrorKind),
    /// Not well-formed XML, or a piece of markup is too long.
    #[error("bag is not well-formed xml")]
    Malformed,
    /// Well-formed, but not of the bag's form.
    #[error("bag breaks its schema: {0}")]
    Schema(&'static str),
}

/// What was read, apart from the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BagXml {
    /// `SequenceNumber`.
    pub sequence: u64,
    /// Number of `JournalEntry` elements, entry 0 included.
    pub entries: u64,
    /// SHA-256 of the document's bytes.
    pub digest: Sha256,
}

/// Writes a bag.
pub struct BagWriter<W: Write>(W);

impl<W: Write> BagWriter<W> {
    /// Begins a bag.
    ///
    /// # Errors
    /// What the writer says.
    pub fn new(mut out: W, sequence: u64) -> io::Result<BagWriter<W>> {
        writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
        writeln!(out, r#"<TimeStampBag xmlns="{NAMESPACE}" Hash="SHA-256" SequenceNumber="{sequence}">"#)?;
        Ok(BagWriter(out))
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// What the writer says.
    pub fn entry(&mut self, reference: u64, hash: &Sha256) -> io::Result<()> {
        let mut text = [0; HASH_TEXT];
        STANDARD.encode_slice(hash.0, &mut text).map_err(io::Error::other)?;
        self.0.write_all(b"<JournalEntry><Hash>")?;
        self.0.write_all(&text)?;
        writeln!(self.0, "</Hash><Ref>{reference}</Ref></JournalEntry>")
    }

    /// Ends the bag.
    ///
    /// # Errors
    /// What the writer says.
    pub fn finish(mut self) -> io::Result<W> {
        writeln!(self.0, "</TimeStampBag>")?;
        Ok(self.0)
    }
}

/// Reads a bag to its end and shows each entry, in order.
///
/// # Errors
/// See [`XmlError`]; entries before the fault have been shown.
pub fn read_bag(source: impl Read, on_entry: impl FnMut(u64, &Sha256)) -> Result<BagXml, XmlError> {
    let mut reader = NsReader::from_reader(Pieces::new(source));
    let mut parser = Parser { at: At::Start, sequence: 0, entries: 0, hash: Sha256::default(), reference: 0, on_entry };
    let mut event = Vec::with_capacity(EVENT_MAX);
    while parser.at != At::Eof {
        event.clear();
        reader.get_mut().left = EVENT_MAX;
        let (namespace, next) = reader.read_resolved_event_into(&mut event).map_err(|error| match error {
            quick_xml::Error::Io(error) if error.kind() != io::ErrorKind::InvalidData => XmlError::Read(error.kind()),
            _ => XmlError::Malformed,
        })?;
        let ours = matches!(namespace, ResolveResult::Bound(Namespace(name)) if name == NAMESPACE);
        parser.step(&next, ours)?;
    }
    let digest = std::mem::take(&mut reader.get_mut().hasher).finish();
    Ok(BagXml { sequence: parser.sequence, entries: parser.entries, digest })
}

/// Where in the form the parser stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    Bag,
    Entry,
    Hash,
    HashRead,
    HashDone,
    Ref,
    RefRead,
    RefDone,
    End,
    Eof,
}

struct Parser<F> {
    at: At,
    sequence: u64,
    entries: u64,
    hash: Sha256,
    reference: u64,
    on_entry: F,
}

impl<F: FnMut(u64, &Sha256)> Parser<F> {
    fn step(&mut self, event: &Event<'_>, ours: bool) -> Result<(), XmlError> {
        self.at = match (self.at, event) {
            (At::Start, Event::Decl(_)) => At::Start,
            (At::Start, Event::Start(tag)) => self.root(tag, ours)?,
            (At::Bag, Event::Start(tag)) => element(tag, ours, "JournalEntry", At::Entry)?,
            (At::Entry, Event::Start(tag)) => element(tag, ours, "Hash", At::Hash)?,
            (At::Hash, Event::Text(text)) => self.hash(text)?,
            (At::HashRead, Event::End(_)) => At::HashDone,
            (At::HashDone, Event::Start(tag)) => element(tag, ours, "Ref", At::Ref)?,
            (At::Ref, Event::Text(text)) => {
                self.reference = number(text).ok_or(XmlError::Schema("Ref is a number of xs:long, 0 or more"))?;
                At::RefRead
            }
            (At::RefRead, Event::End(_)) => At::RefDone,
            (At::RefDone, Event::End(_)) => {
                (self.on_entry)(self.reference, &self.hash);
                self.entries += 1;
                At::Bag
            }
            (At::Bag, Event::End(_)) if self.entries > 0 => At::End,
            (At::End, Event::Eof) => At::Eof,
            (at, Event::Text(text)) if !matches!(at, At::HashRead | At::RefRead) && blank(text) => at,
            (_, Event::DocType(_) | Event::GeneralRef(_)) => {
                return Err(XmlError::Schema("no document type or entity"));
            }
            _ => return Err(XmlError::Schema("elements are those of TimeStampBagType, in its order")),
        };
        Ok(())
    }

    fn root(&mut self, tag: &BytesStart<'_>, ours: bool) -> Result<At, XmlError> {
        const ATTRIBUTES: XmlError = XmlError::Schema("attributes are Hash and SequenceNumber");
        if !ours || tag.local_name().into_inner() != "TimeStampBag" {
            return Err(XmlError::Schema("root is TimeStampBag of the eHealth namespace"));
        }
        let mut sequence = None;
        let mut algorithm = false;
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|_| XmlError::Malformed)?;
            match attribute.key.into_inner() {
                "Hash" => algorithm = attribute.value == "SHA-256",
                "SequenceNumber" => sequence = number(&attribute.value),
                name if name == "xmlns" || name.starts_with("xmlns:") => {}
                _ => return Err(ATTRIBUTES),
            }
        }
        self.sequence = sequence.filter(|_| algorithm).ok_or(ATTRIBUTES)?;
        Ok(At::Bag)
    }

    fn hash(&mut self, text: &str) -> Result<At, XmlError> {
        const FORM: XmlError = XmlError::Schema("Hash is the base64 of 32 bytes");
        // 33 bytes of room: the decoder wants space for every group of four characters.
        let mut bytes = [0; 33];
        if text.len() != HASH_TEXT || STANDARD.decode_slice(text, &mut bytes) != Ok(32) {
            return Err(FORM);
        }
        self.hash.0.copy_from_slice(&bytes[..32]);
        Ok(At::HashRead)
    }
}

fn element(tag: &BytesStart<'_>, ours: bool, name: &str, next: At) -> Result<At, XmlError> {
    if ours && tag.local_name().into_inner() == name && tag.attributes().next().is_none() {
        Ok(next)
    } else {
        Err(XmlError::Schema("elements are those of TimeStampBagType, in its order"))
    }
}

/// A number of `xs:long` that is not negative, without sign or leading zeros: one number has one text.
fn number(text: &str) -> Option<u64> {
    let canonical = text == "0" || text.starts_with(|first: char| ('1'..='9').contains(&first));
    text.parse().ok().filter(|number| canonical && *number <= crate::rows::REFERENCE_MAX)
}

fn blank(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_whitespace())
}

/// Reads and hashes in pieces, and stops a piece of markup that is too long.
struct Pieces<R> {
    source: R,
    piece: Vec<u8>,
    at: usize,
    hasher: Hasher,
    left: usize,
}

impl<R: Read> Pieces<R> {
    fn new(source: R) -> Pieces<R> {
        Pieces { source, piece: Vec::new(), at: 0, hasher: Hasher::new(), left: EVENT_MAX }
    }
}

impl<R: Read> Read for Pieces<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let taken = self.fill_buf()?.read(out)?;
        self.consume(taken);
        Ok(taken)
    }
}

impl<R: Read> BufRead for Pieces<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.piece.len() {
            self.piece.resize(PIECE, 0);
            let read = loop {
                match self.source.read(&mut self.piece) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read,
                }
            };
            self.piece.truncate(*read.as_ref().unwrap_or(&0));
            self.at = 0;
            read?;
            self.hasher.update(&self.piece);
        }
        let rest = &self.piece[self.at..];
        if self.left == 0 && !rest.is_empty() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(&rest[..rest.len().min(self.left)])
    }

    fn consume(&mut self, bytes: usize) {
        self.at += bytes;
        self.left -= bytes;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(sequence: u64, entries: &[(u64, Sha256)]) -> Vec<u8> {
        let mut writer = BagWriter::new(Vec::new(), sequence).unwrap();
        for (reference, hash) in entries {
            writer.entry(*reference, hash).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(xml: &[u8]) -> Result<(BagXml, Vec<(u64, Sha256)>), XmlError> {
        let mut entries = Vec::new();
        let bag = read_bag(xml, |reference, hash| entries.push((reference, *hash)))?;
        Ok((bag, entries))
    }

    #[test]
    fn the_form_does_not_change_unnoticed() {
        let xml = written(7, &[(0, Sha256([0; 32])), (12, Sha256([255; 32]))]);
        let golden = include_str!("../golden/bag-v1.xml");
        assert_eq!(String::from_utf8(xml).unwrap(), golden);
    }

    #[test]
    fn what_is_not_of_the_form_is_refused() {
        let good = String::from_utf8(written(7, &[(0, Sha256([1; 32])), (5, Sha256([2; 32]))])).unwrap();
        assert!(read(good.as_bytes()).is_ok());
        let long = "x".repeat(2 * EVENT_MAX);
        let changes = [
            ("<TimeStampBag", "<!DOCTYPE a [<!ENTITY e \"x\">]>\n<TimeStampBag".to_owned()),
            ("<Ref>5", "<Ref>&#53;".to_owned()),
            ("<Ref>5", "<Ref>05".to_owned()),
            ("<Ref>5", "<Ref>-5".to_owned()),
            ("<Ref>5", "<Ref>9223372036854775808".to_owned()),
            ("<Ref>5", "<Ref><!-- c -->5".to_owned()),
            ("<Ref>5</Ref>", String::new()),
            ("<Ref>5</Ref>", "<Ref>5</Ref><Ref>6</Ref>".to_owned()),
            ("<Ref>5</Ref>", "<Ref/>".to_owned()),
            ("protocol:v2", "protocol:v3".to_owned()),
            ("SHA-256", "SHA-1".to_owned()),
            ("SequenceNumber=\"7\"", "SequenceNumber=\"7\" Other=\"1\"".to_owned()),
            (" SequenceNumber=\"7\"", String::new()),
            ("AQEBAQ", "AQEBA!".to_owned()),
            ("</TimeStampBag>", String::new()),
            ("</TimeStampBag>", "</TimeStampBag><TimeStampBag/>".to_owned()),
            ("</TimeStampBag>", "</TimeStampBag> x".to_owned()),
            ("<Ref>5", format!("<Ref>{long}5")),
            ("SHA-256", format!("SHA-256\" xmlns:x=\"{long}")),
        ];
        for (part, other) in changes {
            let bad = good.replacen(part, &other, 1);
            assert_ne!(bad, good, "{part}");
            assert!(read(bad.as_bytes()).is_err(), "{part} -> {}", &other[..other.len().min(40)]);
        }
    }

    #[test]
    fn an_empty_element_is_no_bag() {
        let empty = format!(r#"<TimeStampBag xmlns="{NAMESPACE}" Hash="SHA-256" SequenceNumber="1"></TimeStampBag>"#);
        assert!(read(empty.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            sequence in 1u64..=i64::MAX as u64,
            entries in prop::collection::vec((0u64..=i64::MAX as u64, any::<[u8; 32]>()), 1..50),
        ) {
            let entries: Vec<_> = entries.into_iter().map(|(reference, hash)| (reference, Sha256(hash))).collect();
            let xml = written(sequence, &entries);
            let (bag, again) = read(&xml).unwrap();
            prop_assert_eq!(again, entries.clone());
            let digest = zegel_crypto::hash::sha256(&xml);
            prop_assert_eq!(bag, BagXml { sequence, entries: entries.len() as u64, digest });
        }

        #[test]
        fn no_bytes_make_the_reader_panic(cut in 0usize..400, at in 0usize..400, byte: u8) {
            let mut xml = written(1, &[(0, Sha256([1; 32])), (5, Sha256([2; 32]))]);
            xml.truncate(cut.max(1));
            let at = at % xml.len();
            xml[at] = byte;
            let _ = read(&xml);
        }
    }
}
