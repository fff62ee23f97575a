//! The envelope: CloudEvents 1.0 attributes, W3C trace context, a JSON payload and at most one attachment.
//!
//! Wire form, version 1: `[version: u8 = 1][length of the JSON: u32 big-endian][JSON][attachment]`.
//! The JSON is the CloudEvents JSON format (section 3 of the JSON event format 1.0) with our extension attributes
//! `partitionkey`, `traceparent`, `attempt` and `deadline`. The attachment holds at most [`ATTACHMENT_MAX`] bytes of
//! content, so that small content travels with its message and needs no second durable write; larger content is an
//! object, and the payload refers to it.
//! Failure behaviour: [`EnvelopeError`] names what is wrong, never the content.

use crate::basic::{Key, MessageId, Millis, TraceParent};
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The largest attachment: 64 KiB. Above it a payload goes to the object store (claim check).
pub const ATTACHMENT_MAX: usize = 64 * 1024;

/// The first byte of the wire form.
const VERSION: u8 = 1;

/// Why an envelope could not be read or built.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// The first byte is not a version that this program knows.
    #[error("envelope version {0} is unknown")]
    Version(u8),
    /// The bytes end too early.
    #[error("envelope is cut short")]
    Truncated,
    /// The JSON part is not what the schema says. The text of the JSON error is left out: it may quote data.
    #[error("envelope or payload is not valid JSON for its type")]
    Json,
    /// The message is of another type than the reader asked for.
    #[error("message type is {found}, expected {expected}")]
    Type {
        /// What the envelope says.
        found: String,
        /// What the reader wanted.
        expected: &'static str,
    },
    /// The attachment is over [`ATTACHMENT_MAX`].
    #[error("attachment of {0} bytes is over 65536 bytes")]
    Attachment(usize),
}

/// A payload type: what a message of one CloudEvents `type` carries.
pub trait Payload: Serialize + DeserializeOwned {
    /// The CloudEvents `type`, with the version at its end, for example `be.zegel.mailbox.submitted.v1`.
    const TYPE: &'static str;
}

/// One message as it travels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// Always `1.0`.
    pub specversion: SpecVersion,
    /// CloudEvents `id`.
    pub id: MessageId,
    /// CloudEvents `source`: the stage that made the message, for example `/zegel/ttp`.
    pub source: String,
    /// CloudEvents `type`.
    #[serde(rename = "type")]
    pub kind: String,
    /// CloudEvents `subject`: what the message is about, never an identifier of a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// CloudEvents `time`, in milliseconds (our stored form; exports print RFC 3339).
    pub time: Millis,
    /// The partition key (CloudEvents extension `partitionkey`).
    pub partitionkey: Key,
    /// W3C trace context (CloudEvents extension `traceparent`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<TraceParent>,
    /// When the submission that caused this message must have its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Millis>,
    /// The payload, JSON.
    pub data: Box<RawData>,
    /// At most [`ATTACHMENT_MAX`] bytes of content, outside the JSON.
    #[serde(skip)]
    pub attachment: Bytes,
}

/// The JSON of a payload, kept as text until a worker asks for its type.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawData(Box<serde_json::value::RawValue>);

impl PartialEq for RawData {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

/// The constant `1.0` of CloudEvents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpecVersion {
    /// CloudEvents 1.0.
    #[serde(rename = "1.0")]
    V1,
}

impl Envelope {
    /// Builds an envelope around `payload`. `source` is the stage's name with a leading `/zegel/`.
    ///
    /// # Errors
    /// [`EnvelopeError::Json`] when the payload cannot be written as JSON.
    pub fn new<P: Payload>(
        id: MessageId,
        source: &str,
        key: Key,
        time: Millis,
        payload: &P,
    ) -> Result<Envelope, EnvelopeError> {
        let data = serde_json::value::to_raw_value(payload).map_err(|_| EnvelopeError::Json)?;
        Ok(Envelope {
            specversion: SpecVersion::V1,
            id,
            source: source.to_owned(),
            kind: P::TYPE.to_owned(),
            subject: None,
            time,
            partitionkey: key,
            traceparent: None,
            deadline: None,
            data: Box::new(RawData(data)),
            attachment: Bytes::new(),
        })
    }

    /// Reads the payload as `P`.
    ///
    /// # Errors
    /// [`EnvelopeError::Type`] when the message is of another type, [`EnvelopeError::Json`] when the payload does not
    /// follow its schema.
    pub fn payload<P: Payload>(&self) -> Result<P, EnvelopeError> {
        if self.kind != P::TYPE {
            return Err(EnvelopeError::Type { found: self.kind.clone(), expected: P::TYPE });
        }
        serde_json::from_str(self.data.0.get()).map_err(|_| EnvelopeError::Json)
    }

    /// The wire form (see the module's header).
    ///
    /// # Errors
    /// [`EnvelopeError::Attachment`] when the attachment is too large, [`EnvelopeError::Json`] when an attribute cannot
    /// be written.
    pub fn encode(&self) -> Result<Bytes, EnvelopeError> {
        if self.attachment.len() > ATTACHMENT_MAX {
            return Err(EnvelopeError::Attachment(self.attachment.len()));
        }
        let mut out = BytesMut::with_capacity(512 + self.attachment.len());
        out.put_u8(VERSION);
        out.put_u32(0);
        let mut writer = out.writer();
        serde_json::to_writer(&mut writer, self).map_err(|_| EnvelopeError::Json)?;
        let mut out = writer.into_inner();
        let length = u32::try_from(out.len() - 5).map_err(|_| EnvelopeError::Truncated)?;
        out[1..5].copy_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.attachment);
        Ok(out.freeze())
    }

    /// Reads the wire form.
    ///
    /// # Errors
    /// Every variant of [`EnvelopeError`] except `Type`.
    pub fn decode(bytes: Bytes) -> Result<Envelope, EnvelopeError> {
        let (&version, rest) = bytes.split_first().ok_or(EnvelopeError::Truncated)?;
        if version != VERSION {
            return Err(EnvelopeError::Version(version));
        }
        let head: [u8; 4] = rest.get(..4).and_then(|h| h.try_into().ok()).ok_or(EnvelopeError::Truncated)?;
        let end = 5usize.saturating_add(u32::from_be_bytes(head) as usize);
        let json = bytes.get(5..end).ok_or(EnvelopeError::Truncated)?;
        let mut envelope: Envelope = serde_json::from_slice(json).map_err(|_| EnvelopeError::Json)?;
        envelope.attachment = bytes.slice(end..);
        if envelope.attachment.len() > ATTACHMENT_MAX {
            return Err(EnvelopeError::Attachment(envelope.attachment.len()));
        }
        Ok(envelope)
    }
}
