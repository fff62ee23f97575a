//! A parcel as a Kafka record: the CloudEvents Kafka protocol binding 1.0, binary content mode, so that any client can read a
//! channel.
//!
//! Format: the record's key is the 16 bytes of the message's key, its value the sealed envelope; headers are
//! `ce_specversion`, `ce_id` (32 hexadecimal digits), `ce_source` (`/channel`), `ce_type`, `content-type`, and
//! `zegel-number` (decimal) on a numbered lane, `zegel-session` (32 hexadecimal digits) and `zegel-sequence` (decimal) on an
//! intake lane. What the envelope says is sealed, its type too.
//! Failure behaviour: a record that is not exactly this is a stranger's; decoding says why, and the reader passes it.

use bytes::Bytes;
use rdkafka::Message;
use rdkafka::message::{Header, Headers, OwnedHeaders};
use schemas::{Key, MessageId};
use zegel_core::Sealed;
use zegel_core::transport::{Lane, Mark, Parcel};

/// `ce_type` of a sealed envelope.
pub const SEALED_TYPE: &str = "be.zegel.sealed.v1";

const SPECVERSION: &str = "ce_specversion";
const ID: &str = "ce_id";
const SOURCE: &str = "ce_source";
const TYPE: &str = "ce_type";
const CONTENT_TYPE: &str = "content-type";
const NUMBER: &str = "zegel-number";
const SESSION: &str = "zegel-session";
const SEQUENCE: &str = "zegel-sequence";

pub(crate) fn headers(channel: &str, parcel: &Parcel) -> OwnedHeaders {
    let set = |headers: OwnedHeaders, key, value: &str| headers.insert(Header { key, value: Some(value) });
    let headers = set(OwnedHeaders::new_with_capacity(8), SPECVERSION, "1.0");
    let headers = set(headers, ID, &hex::encode(parcel.id.0));
    let headers = set(headers, SOURCE, &format!("/{channel}"));
    let headers = set(headers, TYPE, SEALED_TYPE);
    let headers = set(headers, CONTENT_TYPE, "application/octet-stream");
    match parcel.mark {
        Mark::Number(number) => set(headers, NUMBER, &number.to_string()),
        Mark::Edge { session, sequence } => {
            set(set(headers, SESSION, &hex::encode(session)), SEQUENCE, &sequence.to_string())
        }
    }
}

/// The parcel of a record, or what is wrong with it.
pub(crate) fn parcel(lane: Lane, record: &impl Message) -> Result<Parcel, &'static str> {
    let key = record.key().and_then(|key| key.try_into().ok()).ok_or("its key is not 16 bytes")?;
    let headers = record.headers().ok_or("it has no headers")?;
    let mut found = Found::default();
    for header in headers.iter() {
        let slot = match header.key {
            SPECVERSION => &mut found.specversion,
            ID => &mut found.id,
            TYPE => &mut found.kind,
            NUMBER => &mut found.number,
            SESSION => &mut found.session,
            SEQUENCE => &mut found.sequence,
            _ => continue,
        };
        *slot = header.value;
    }
    if found.specversion != Some(b"1.0") || found.kind != Some(SEALED_TYPE.as_bytes()) {
        return Err("it is not a sealed event");
    }
    let id = found.id.and_then(sixteen).ok_or("its ce_id is not 32 hexadecimal digits")?;
    let mark = found.mark(lane.intake).ok_or("it has not the mark of its lane")?;
    let body = Sealed::from_stored(Bytes::copy_from_slice(record.payload().unwrap_or_default()));
    Ok(Parcel { mark, key: Key(key), id: MessageId(id), body })
}

#[derive(Default)]
struct Found<'m> {
    specversion: Option<&'m [u8]>,
    id: Option<&'m [u8]>,
    kind: Option<&'m [u8]>,
    number: Option<&'m [u8]>,
    session: Option<&'m [u8]>,
    sequence: Option<&'m [u8]>,
}

impl Found<'_> {
    fn mark(&self, intake: bool) -> Option<Mark> {
        match (intake, self.number, self.session, self.sequence) {
            (false, Some(number), None, None) => Some(Mark::Number(decimal(number)?)),
            (true, None, Some(session), Some(sequence)) => {
                Some(Mark::Edge { session: sixteen(session)?, sequence: decimal(sequence)? })
            }
            _ => None,
        }
    }
}

fn sixteen(text: &[u8]) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

/// Digits only, as they are written here: no sign, no leading zero.
fn decimal(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
