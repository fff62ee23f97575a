//! The envelope: its stored form is fixed, survives a round trip, refuses garbage, and exports as a CloudEvent.

use crate::checked_in::{self, pretty};
use crate::examples::{self, NOON, id};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;
use zegel_schemas::envelope::{ATTACHMENT_MAX, EnvelopeError};
use zegel_schemas::messages::{FeedAck, Submission};
use zegel_schemas::{Envelope, Key, MessageId, Millis, TraceParent};

fn full() -> Envelope {
    let submission = examples::submissions().remove(0);
    let mut envelope = Envelope::new(id(8), "/zegel/edge", Key([9; 16]), NOON, &submission).unwrap();
    envelope.subject = Some("submission".to_owned());
    envelope.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap());
    envelope.deadline = Some(NOON.plus(7_200_000));
    envelope.attachment = Bytes::from_static(b"niss\n85061511796\n");
    envelope
}

fn bare() -> Envelope {
    Envelope::new(id(8), "/zegel/feed", Key([9; 16]), NOON, &FeedAck { up_to: 42 }).unwrap()
}

/// The JSON part of a wire form.
fn json_part(wire: &[u8]) -> Value {
    let length = u32::from_be_bytes(wire[1..5].try_into().unwrap()) as usize;
    serde_json::from_slice(&wire[5..5 + length]).unwrap()
}

#[test]
fn the_wire_form_of_version_1_is_the_golden_one() {
    let wires = [full().encode().unwrap(), bare().encode().unwrap()];
    let text: String = wires.iter().map(|wire| hex::encode(wire) + "\n").collect();
    checked_in::same("golden/envelope.v1.hex", &text);
    checked_in::same("golden/envelope.json", &pretty(&wires.map(|wire| json_part(&wire))));
    let file = std::fs::read_to_string(checked_in::path("golden/envelope.v1.hex")).unwrap();
    let read = file.lines().map(|line| Envelope::decode(hex::decode(line).unwrap().into()).unwrap());
    assert_eq!(read.collect::<Vec<_>>(), [full(), bare()]);
    assert_eq!(full().payload::<Submission>().unwrap(), examples::submissions()[0]);
}

#[test]
fn a_wrong_type_version_size_or_end_is_named() {
    assert!(matches!(bare().payload::<Submission>(), Err(EnvelopeError::Type { .. })));
    let wire = full().encode().unwrap();
    let mut newer = wire.to_vec();
    newer[0] = 2;
    assert!(matches!(Envelope::decode(newer.into()), Err(EnvelopeError::Version(2))));
    assert!(matches!(Envelope::decode(wire.slice(..20)), Err(EnvelopeError::Truncated)));
    assert!(matches!(Envelope::decode(Bytes::new()), Err(EnvelopeError::Truncated)));
    let mut large = bare();
    large.attachment = vec![0; ATTACHMENT_MAX].into();
    assert_eq!(Envelope::decode(large.encode().unwrap()).unwrap(), large);
    large.attachment = vec![0; ATTACHMENT_MAX + 1].into();
    assert!(matches!(large.encode(), Err(EnvelopeError::Attachment(_))));
}

#[test]
fn the_export_has_what_cloudevents_1_0_requires_and_nothing_that_it_forbids() {
    for envelope in [full(), bare()] {
        let event: Value = serde_json::from_str(&envelope.to_cloudevent_json(3).unwrap()).unwrap();
        let event = event.as_object().unwrap();
        // CloudEvents 1.0.2, "Required attributes".
        assert_eq!(event["specversion"], "1.0");
        for required in ["id", "source", "type"] {
            assert!(event[required].as_str().is_some_and(|text| !text.is_empty()), "{required}");
        }
        // "Naming conventions": lower-case letters and digits, at most 20 characters.
        for name in event.keys() {
            let good = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) && name.len() <= 20;
            assert!(good, "attribute name {name}");
        }
        // "Type system": no null, no object, integers of 32 bits.
        for (name, value) in event.iter().filter(|(name, _)| *name != "data") {
            let good = value.as_str().is_some_and(|text| !text.is_empty())
                || value.as_i64().is_some_and(|number| i32::try_from(number).is_ok());
            assert!(good, "value of {name}");
        }
        assert!(event["data"].is_object() && event["datacontenttype"] == "application/json");
    }
}

#[test]
fn the_export_says_time_deadline_attempt_and_schema_in_the_open_forms() {
    let event: Value = serde_json::from_str(&full().to_cloudevent_json(3).unwrap()).unwrap();
    assert_eq!(event["time"], "2026-01-05T09:30:00.000Z");
    assert_eq!(event["deadline"], "2026-01-05T11:30:00.000Z");
    assert_eq!(event["attempt"], 3);
    assert_eq!(event["attachmentsize"], 17);
    assert_eq!(event["dataschema"], "urn:zegel:schema:be.zegel.mailbox.submitted.v1");
    let schema = std::fs::read_to_string(checked_in::path("json/be.zegel.mailbox.submitted.v1.schema.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&schema).unwrap()["$id"], event["dataschema"]);
}

fn envelopes() -> impl Strategy<Value = Envelope> {
    let trace = (any::<[u8; 16]>(), any::<[u8; 8]>(), any::<u8>())
        .prop_filter("all zero is no trace", |(trace, span, _)| *trace != [0; 16] && *span != [0; 8])
        .prop_map(|(trace_id, span_id, flags)| TraceParent { trace_id, span_id, flags });
    (
        (any::<[u8; 16]>(), ".{0,20}", any::<[u8; 16]>(), any::<i64>(), any::<u64>()),
        proptest::option::of(".{0,20}"),
        proptest::option::of(trace),
        proptest::option::of(any::<i64>()),
        proptest::collection::vec(any::<u8>(), 0..200),
    )
        .prop_map(|((id, source, key, time, up_to), subject, traceparent, deadline, attachment)| {
            let payload = FeedAck { up_to };
            let mut envelope = Envelope::new(MessageId(id), &source, Key(key), Millis(time), &payload).unwrap();
            envelope.subject = subject;
            envelope.traceparent = traceparent;
            envelope.deadline = deadline.map(Millis);
            envelope.attachment = attachment.into();
            envelope
        })
}

proptest! {
    #[test]
    fn an_envelope_survives_its_wire_form(envelope in envelopes()) {
        let wire = envelope.encode().unwrap();
        let read = Envelope::decode(wire.clone()).unwrap();
        prop_assert_eq!(&read, &envelope);
        prop_assert_eq!(read.encode().unwrap(), wire);
        prop_assert!(envelope.to_cloudevent_json(1).is_ok());
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        // 300 random bytes are no JSON with seven required members.
        prop_assert!(Envelope::decode(bytes.into()).is_err());
    }

    #[test]
    fn a_damaged_envelope_never_panics(place in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut wire = full().encode().unwrap().to_vec();
        let place = place.index(wire.len());
        wire[place] = byte;
        if cut { wire.truncate(place) }
        if let Ok(envelope) = Envelope::decode(wire.into()) {
            let _ = envelope.payload::<Submission>();
            prop_assert!(envelope.encode().is_ok());
        }
    }
}
