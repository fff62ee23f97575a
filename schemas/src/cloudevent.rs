//! The export form of an envelope: the JSON format of CloudEvents 1.0, for people and tools outside.
//!
//! It differs from the stored form in what readers elsewhere expect: times are RFC 3339 text, `datacontenttype` and
//! `dataschema` are said, and so is the `attempt`, which the deliverer counts and the stored form therefore lacks.
//! The attachment stays behind (JSON data and binary data exclude each other in CloudEvents); `attachmentsize` says how
//! large it is.
//! Failure behaviour: [`EnvelopeError::Json`] when it cannot be written.

use crate::basic::{Key, MessageId, Millis, TraceParent};
use crate::envelope::{Envelope, EnvelopeError, RawData, SpecVersion};
use chrono::{DateTime, Datelike, SecondsFormat};
use serde::Serialize;

/// What every payload is written in.
pub const DATA_CONTENT_TYPE: &str = "application/json";

/// The attributes in the order in which people look for them.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: SpecVersion,
    id: MessageId,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    datacontenttype: &'static str,
    dataschema: String,
    partitionkey: Key,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<TraceParent>,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attachmentsize: Option<usize>,
    data: &'a RawData,
}

impl Envelope {
    /// The envelope as a CloudEvents 1.0 JSON document, delivered for the `attempt`th time (from 1).
    ///
    /// # Errors
    /// [`EnvelopeError::Json`] when an attribute cannot be written.
    pub fn to_cloudevent_json(&self, attempt: u32) -> Result<String, EnvelopeError> {
        let event = CloudEvent {
            specversion: self.specversion,
            id: self.id,
            source: &self.source,
            kind: &self.kind,
            subject: self.subject.as_deref(),
            time: rfc3339(self.time),
            datacontenttype: DATA_CONTENT_TYPE,
            dataschema: schema_urn(&self.kind),
            partitionkey: self.partitionkey,
            traceparent: self.traceparent,
            attempt,
            deadline: self.deadline.and_then(rfc3339),
            attachmentsize: (!self.attachment.is_empty()).then_some(self.attachment.len()),
            data: &self.data,
        };
        serde_json::to_string(&event).map_err(|_| EnvelopeError::Json)
    }
}

/// The name of the JSON Schema of a payload type: its `$id`, and the `dataschema` of its events.
#[must_use]
pub fn schema_urn(kind: &str) -> String {
    format!("urn:zegel:schema:{kind}")
}

/// The instant as RFC 3339 text in UTC with milliseconds, or none outside the years 0 to 9999 that RFC 3339 can write
/// (so for [`Millis::NEVER`]).
#[must_use]
pub fn rfc3339(instant: Millis) -> Option<String> {
    let time = DateTime::from_timestamp_millis(instant.0)?;
    (0..=9999).contains(&time.year()).then(|| time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_as_rfc_3339_asks() {
        let text = |ms| rfc3339(Millis(ms));
        assert_eq!(text(0).as_deref(), Some("1970-01-01T00:00:00.000Z"));
        assert_eq!(text(1_709_210_096_789).as_deref(), Some("2024-02-29T12:34:56.789Z"));
        assert_eq!(text(-1).as_deref(), Some("1969-12-31T23:59:59.999Z"));
        assert_eq!(text(253_402_300_799_999).as_deref(), Some("9999-12-31T23:59:59.999Z"));
        assert_eq!(text(253_402_300_800_000), None);
        assert_eq!(rfc3339(Millis::NEVER), None);
    }
}
