//! The JSON Schema documents of everything that travels, as they are checked in under `schemas/json/`.
//!
//! Each document has the `$id` that events name in `dataschema`. The dialect is JSON Schema 2020-12.

use crate::cloudevent::schema_urn;
use crate::messages;
use schemars::JsonSchema;
use serde_json::{Value, json};

/// Every document: its file name and its content, one per payload type, and the envelope's.
#[must_use]
pub fn all() -> Vec<(String, Value)> {
    let payloads = messages::all_schemas().into_iter().map(|(kind, schema)| {
        let mut document = schema.to_value();
        if let Some(members) = document.as_object_mut() {
            members.insert("$id".to_owned(), Value::String(schema_urn(kind)));
        }
        (format!("{kind}.schema.json"), document)
    });
    payloads.chain([("envelope.schema.json".to_owned(), envelope())]).collect()
}

/// The schema of the JSON part of the wire form, version 1 (see [`crate::envelope`]).
#[must_use]
pub fn envelope() -> Value {
    let mut generator = schemars::SchemaGenerator::default();
    let of = |schema: schemars::Schema, what: &str| {
        let mut value = schema.to_value();
        value["description"] = Value::String(what.to_owned());
        value
    };
    let key = of(crate::Key::json_schema(&mut generator), "CloudEvents extension: what orders messages, an HMAC");
    let id = of(crate::MessageId::json_schema(&mut generator), "CloudEvents id");
    let time = of(crate::Millis::json_schema(&mut generator), "CloudEvents time, milliseconds since 1970");
    let deadline = of(crate::Millis::json_schema(&mut generator), "when the answer is due, milliseconds since 1970");
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": schema_urn("envelope.v1"),
        "title": "Envelope",
        "description": "What travels: CloudEvents 1.0 attributes, W3C trace context and a payload",
        "type": "object",
        "required": ["specversion", "id", "source", "type", "time", "partitionkey", "data"],
        "properties": {
            "specversion": { "const": "1.0", "description": "CloudEvents specversion" },
            "id": id,
            "source": { "type": "string", "minLength": 1, "description": "CloudEvents source: the stage that made it" },
            "type": { "type": "string", "minLength": 1, "description": "CloudEvents type, its version at the end" },
            "subject": { "type": "string", "minLength": 1, "description": "CloudEvents subject, never a person" },
            "time": time,
            "partitionkey": key,
            "traceparent": {
                "type": "string",
                "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
                "description": "W3C trace context",
            },
            "deadline": deadline,
            "data": { "description": "the payload, of the schema that urn:zegel:schema:<type> names" },
        },
    })
}
