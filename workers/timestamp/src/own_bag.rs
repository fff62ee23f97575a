//! A bag that a hospital made itself, the eHealth platform's original way: checked against the schema's rules, stamped, kept byte for
//! byte, entered into the log, and its hash into the hospital's next bag of ours, so that our chain covers it too.
//!
//! What is checked at the edge ([`check`]) is what the XSD says of `TimeStampBagType` (versions 1.0 and 2.0) and no more: a hash is
//! any text there, and references and sequence numbers are any `xs:long`. The XSD names no root element; `TimeStampBag` is
//! the name in use.
//! The work is the sealer's: a job has the digest stamped, the step after it writes everything in one commit. The same bag again is
//! given the first answer. The hash stands in the next bag under a reference that follows from it, above every hospital's.
//! Failure behaviour: while the authority is away the hospital's bags wait behind this one, as they would have to in any case.

use crate::rows::{self, OwnBagRow, base64_bytes};
use crate::stamper::Stamper;
use crate::{DELIVER, ENTRIES, LOGGED, SOURCE};
use bytes::Bytes;
use quick_xml::NsReader;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, ResolveResult};
use schemas::messages::{
    BagMaker, Content, ContentType, Deliver, Entries, Entry, From, Logged, OwnBag, Part, ReceiptsWanted,
};
use schemas::{Key, Millis, Sha256};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use zegel_core::names::log_key;
use zegel_core::rows::V1;
use zegel_core::slot::spaces;
use zegel_core::worker::{JobError, JobIo};
use zegel_core::{Context, Decision, Effects, Failure, Interrupt, Message, View};
use zegel_crypto::hash::sha256;
use zegel_crypto::tsa::token_of;

/// Longest bag: a hundred thousand entries.
pub const OWN_MAX: usize = 16 << 20;
/// The namespaces of the XSD, version 2.0 and 1.0.
const NAMESPACES: [&str; 2] = [crate::xml::NAMESPACE, "http://www.behealth.be/webservices/tsa"];

/// What a job is to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spec {
    v: V1,
    own: Sha256,
}

/// What a job brought.
#[derive(Debug, Serialize, Deserialize)]
struct Stamped {
    v: V1,
    #[serde(with = "base64_bytes")]
    tsr: Vec<u8>,
    token: Sha256,
    gen_time: Millis,
}

pub(crate) fn stamp(spec: &Spec, stamper: &dyn Stamper, io: &dyn JobIo) -> Result<Vec<u8>, JobError> {
    let again = |code: &str| JobError { code: code.to_owned(), retryable: true };
    let stamped = stamper.stamp(&spec.own, io.now()).map_err(|_| again("ZGL-TS-AUTHORITY"))?;
    let token = sha256(&token_of(&stamped.response).map_err(|_| again("ZGL-TS-AUTHORITY"))?);
    let stamped = Stamped { v: V1, tsr: stamped.response, token, gen_time: stamped.gen_time };
    serde_json::to_vec(&stamped).map_err(|_| again("ZGL-STATE-WRITE"))
}

pub(crate) fn decide(message: &Message, view: &View, context: &Context<'_>) -> Result<Decision, Interrupt> {
    let bag: OwnBag = message.payload()?;
    let owner = message.key();
    let known: Option<OwnBagRow> = view.get(spaces::ARCHIVE, owner, rows::own_sub(&bag.digest))?;
    if let Some(known) = known {
        return Ok(Decision::Done(Effects { reply: Some(json(&known)?), ..Effects::default() }));
    }
    let stamped = match &message.job {
        None => {
            let spec = serde_json::to_vec(&Spec { v: V1, own: bag.digest });
            return Ok(Decision::Job { spec: spec.map_err(|_| Failure::permanent("ZGL-STATE-WRITE"))? });
        }
        Some(Err(error)) => return Err(Failure::permanent(&error.code).into()),
        Some(Ok(bytes)) => bytes,
    };
    let stamped: Stamped = serde_json::from_slice(stamped).map_err(|_| Failure::permanent("ZGL-STATE-READ"))?;
    let mut effects = Effects::default();
    let content = match &bag.content {
        Content::Attached if sha256(&message.envelope.attachment) == bag.digest => {
            stored(&mut effects, context, message.envelope.attachment.clone())
        }
        Content::Object(object) => Content::Object(object.clone()),
        _ => return Err(Failure::permanent("ZGL-MSG-PAYLOAD").into()),
    };
    let row = OwnBagRow {
        v: V1,
        sequence: bag.sequence,
        entries: bag.entries,
        digest: bag.digest,
        size: bag.size,
        content,
        reference: rows::own_reference(&bag.digest),
        stamped: stamped.gen_time,
    };
    archive(&mut effects, owner, &row, &stamped)?;
    follow(&mut effects, message, context, &row, &stamped)?;
    effects.reply = Some(json(&row)?);
    Ok(Decision::Done(effects))
}

fn archive(effects: &mut Effects, owner: Key, row: &OwnBagRow, stamped: &Stamped) -> Result<(), Interrupt> {
    let tsr = Bytes::from(stamped.tsr.clone());
    effects.put(spaces::ARCHIVE, owner, rows::own_sub(&row.digest), row)?;
    effects.put_bytes(spaces::ARCHIVE, owner, rows::own_token_sub(&row.digest), tsr);
    effects.put_bytes(spaces::ARCHIVE, owner, rows::own_time_sub(row.stamped, &row.digest), Bytes::new());
    Ok(())
}

/// The log's entry, the entry in the next bag, and the token into the hospital's box.
fn follow(
    effects: &mut Effects,
    message: &Message,
    context: &Context<'_>,
    row: &OwnBagRow,
    stamped: &Stamped,
) -> Result<(), Interrupt> {
    let bag: OwnBag = message.payload()?;
    let owner = message.key();
    let logged = Logged { maker: BagMaker::Hospital, subject: row.digest, token: stamped.token };
    effects.produce(LOGGED, message.follow_up(context, SOURCE, log_key(context.keys), &logged)?);
    let entries = Entries { hospital: bag.hospital.clone(), count: 1 };
    let mut entry = message.follow_up(context, SOURCE, owner, &entries)?;
    entry.attachment = rows::encode_entries(&[Entry { reference: row.reference, hash: row.digest }]);
    effects.produce(ENTRIES, entry);
    let tsr = Bytes::from(stamped.tsr.clone());
    let part = Part {
        file_name: format!("{}.tsr", row.sequence),
        mime: "application/timestamp-reply".to_owned(),
        size: tsr.len() as u64,
        digest: sha256(&tsr),
        content: stored(effects, context, tsr),
    };
    let deliver = Deliver {
        item: context.new_id(),
        recipient: bag.hospital,
        from: From::Platform,
        content_type: ContentType::Document,
        title: format!("Time stamp of your TimeStampBag {}", row.sequence),
        parts: vec![part],
        notice: None,
        meta: BTreeMap::from([("own-bag".to_owned(), row.digest.to_string())]),
        answers: None,
        answers_for: None,
        receipts: ReceiptsWanted::default(),
    };
    // A hospital's box has the hospital's key.
    effects.produce(DELIVER, message.follow_up(context, SOURCE, owner, &deliver)?);
    Ok(())
}

/// Writes a payload of its own: content belongs to exactly one owner.
fn stored(effects: &mut Effects, context: &Context<'_>, bytes: Bytes) -> Content {
    let id = context.new_id();
    effects.put_bytes(spaces::PAYLOADS, Key(id.0), Bytes::new(), bytes);
    Content::Stored(id)
}

fn json(row: &OwnBagRow) -> Result<Bytes, Interrupt> {
    serde_json::to_vec(row).map(Bytes::from).map_err(|_| Failure::permanent("ZGL-STATE-WRITE").into())
}

/// What the schema says of a bag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// `SequenceNumber`.
    pub sequence: i64,
    /// `JournalEntry` elements.
    pub entries: u64,
}

/// Which rule of the schema bytes break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bag breaks its schema: {0}")]
pub struct NotABag(pub &'static str);

const FORM: NotABag = NotABag("well-formed xml without document type and entities, of at most 16 MiB");
const ORDER: NotABag = NotABag("elements are those of TimeStampBagType, in its order");
const ATTRIBUTES: NotABag = NotABag("attributes are Hash, which is SHA-256, and SequenceNumber, an xs:long");

/// Checks bytes against `TimeStampBagType`.
///
/// # Errors
/// [`NotABag`] with the rule.
pub fn check(xml: &[u8]) -> Result<Shape, NotABag> {
    check_with(xml, |_, _| {})
}

/// The same; `on_entry` sees the reference and the text of the hash of every entry.
///
/// # Errors
/// [`NotABag`] with the rule.
pub fn check_with(xml: &[u8], mut on_entry: impl FnMut(i64, &str)) -> Result<Shape, NotABag> {
    if xml.len() > OWN_MAX {
        return Err(FORM);
    }
    let mut reader = NsReader::from_reader(xml);
    let (mut buffer, mut state) = (Vec::new(), Schema::default());
    loop {
        buffer.clear();
        let (namespace, event) = reader.read_resolved_event_into(&mut buffer).map_err(|_| FORM)?;
        let known = |name: &str| NAMESPACES.iter().position(|known| *known == name);
        let version = match namespace {
            ResolveResult::Bound(Namespace(name)) => known(name),
            _ => None,
        };
        match event {
            Event::Start(tag) => state.start(&tag, version)?,
            Event::Empty(tag) => {
                state.start(&tag, version)?;
                state.end(&mut on_entry)?;
            }
            Event::End(_) => state.end(&mut on_entry)?,
            Event::Text(text) => state.text(&text)?,
            Event::Decl(_) | Event::Comment(_) => {}
            Event::Eof => return state.shape(),
            _ => return Err(FORM),
        }
    }
}

#[derive(Default)]
struct Schema {
    path: Vec<&'static str>,
    version: Option<usize>,
    sequence: Option<i64>,
    entries: u64,
    /// Children of the open entry that have ended.
    children: u8,
    text: String,
    /// The hash of the open entry.
    hash: String,
    ended: bool,
}

impl Schema {
    fn start(&mut self, tag: &BytesStart<'_>, version: Option<usize>) -> Result<(), NotABag> {
        let name = tag.local_name().into_inner();
        let known = match (self.path.as_slice(), name, self.children) {
            ([], "TimeStampBag", _) if version.is_some() && !self.ended => {
                self.version = version;
                self.sequence = Some(root(tag)?);
                "TimeStampBag"
            }
            (["TimeStampBag"], "JournalEntry", _) => "JournalEntry",
            (["TimeStampBag", "JournalEntry"], "Hash", 0) => "Hash",
            (["TimeStampBag", "JournalEntry"], "Ref", 1) => "Ref",
            _ => return Err(ORDER),
        };
        if version != self.version {
            return Err(ORDER);
        }
        if known != "TimeStampBag"
            && tag.attributes().any(|one| !one.is_ok_and(|one| is_namespace(one.key.into_inner())))
        {
            return Err(ORDER);
        }
        if known == "JournalEntry" {
            self.children = 0;
        }
        self.text.clear();
        self.path.push(known);
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), NotABag> {
        match self.path.last() {
            Some(&("Hash" | "Ref")) => self.text.push_str(text),
            _ if text.bytes().all(|byte| byte.is_ascii_whitespace()) => {}
            _ => return Err(ORDER),
        }
        Ok(())
    }

    fn end(&mut self, on_entry: &mut impl FnMut(i64, &str)) -> Result<(), NotABag> {
        match self.path.pop().ok_or(FORM)? {
            "Hash" => {
                self.hash = std::mem::take(&mut self.text);
                self.children = 1;
            }
            "Ref" => {
                let reference = self.text.trim().parse().map_err(|_| NotABag("Ref is an xs:long"))?;
                on_entry(reference, self.hash.trim());
                self.children = 2;
            }
            "JournalEntry" if self.children != 2 => return Err(ORDER),
            "JournalEntry" => {
                self.entries += 1;
                self.children = 0;
            }
            _ => self.ended = true,
        }
        Ok(())
    }

    fn shape(&self) -> Result<Shape, NotABag> {
        if self.entries == 0 || !self.ended {
            return Err(NotABag("there is at least one JournalEntry"));
        }
        Ok(Shape { sequence: self.sequence.ok_or(ATTRIBUTES)?, entries: self.entries })
    }
}

fn root(tag: &BytesStart<'_>) -> Result<i64, NotABag> {
    let (mut sequence, mut algorithm) = (None, false);
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|_| FORM)?;
        match attribute.key.into_inner() {
            "Hash" => algorithm = attribute.value.trim() == "SHA-256",
            "SequenceNumber" => sequence = attribute.value.trim().parse().ok(),
            name if is_namespace(name) => {}
            _ => return Err(ATTRIBUTES),
        }
    }
    sequence.filter(|_| algorithm).ok_or(ATTRIBUTES)
}

fn is_namespace(name: &str) -> bool {
    // Declarations, and where a schema is to be found, which any element may say.
    name == "xmlns" || name.starts_with("xmlns:") || name.ends_with(":schemaLocation")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bag() -> String {
        "<?xml version=\"1.0\"?>\n<t:TimeStampBag xmlns:t=\"urn:be:fgov:ehealth:timestamping:protocol:v2\" Hash=\"SHA-256\" \
         SequenceNumber=\"-3\"><t:JournalEntry><t:Hash>any text</t:Hash><t:Ref>-9</t:Ref></t:JournalEntry>\n</t:TimeStampBag>"
            .to_owned()
    }

    #[test]
    fn what_the_schema_allows_is_taken_in_both_versions_and_nothing_else() {
        assert_eq!(check(bag().as_bytes()), Ok(Shape { sequence: -3, entries: 1 }));
        let older = bag().replace(NAMESPACES[0], NAMESPACES[1]);
        assert_eq!(check(older.as_bytes()), Ok(Shape { sequence: -3, entries: 1 }));
        let mut seen = Vec::new();
        assert!(check_with(bag().as_bytes(), |reference, hash| seen.push((reference, hash.to_owned()))).is_ok());
        assert_eq!(seen, [(-9, "any text".to_owned())]);
        for (from, to) in [
            ("SHA-256", "MD5"),
            ("SequenceNumber=\"-3\"", ""),
            ("\"-3\"", "\"three\""),
            ("protocol:v2", "protocol:v3"),
            ("<t:Ref>-9</t:Ref>", ""),
            ("-9", "nine"),
            ("<t:Hash>any text</t:Hash>", ""),
            ("<t:JournalEntry>", "<t:JournalEntry x=\"1\">"),
            ("</t:TimeStampBag>", ""),
            ("</t:TimeStampBag>", "<t:Other/></t:TimeStampBag>"),
            ("<?xml version=\"1.0\"?>", "<!DOCTYPE a [<!ENTITY e \"x\">]>"),
        ] {
            let bad = bag().replace(from, to);
            assert_ne!(bad, bag());
            assert!(check(bad.as_bytes()).is_err(), "{from} as {to}");
        }
        let at = bag().find("<t:Journal").unwrap();
        let empty = format!("{}</t:TimeStampBag>", &bag()[..at]);
        assert!(check(empty.as_bytes()).is_err(), "a bag without entries");
    }

    #[test]
    fn the_platforms_references_lie_above_every_hospitals() {
        let reference = rows::own_reference(&Sha256([0xff; 32]));
        assert!((rows::OWN_REFERENCES..=rows::REFERENCE_MAX).contains(&reference));
    }
}
