//! The AsyncAPI 3.0 document.
//!
//! Payload schemas are written for its own schema format, which is JSON Schema draft 7 with references into
//! `components`: shared definitions move to `components/schemas`, and a reference with neighbours is wrapped in `allOf`,
//! because readers ignore what stands beside `$ref`. What AsyncAPI has no word for has an `x-` name.

use super::table::after_dead;
use crate::channels::Channel;
use schemas::{documents, messages};
use serde_json::{Map, Value, json};

/// The name of the envelope's attributes among the shared schemas.
const ENVELOPE: &str = "EnvelopeAttributes";

pub(super) fn of(channels: &[Channel]) -> Value {
    let mut shared = Map::new();
    let messages: Map<String, Value> = messages::all_schemas()
        .into_iter()
        .map(|(kind, schema)| (kind.to_owned(), message(kind, payload(schema.to_value(), &mut shared))))
        .collect();
    shared.insert(ENVELOPE.to_owned(), envelope());
    json!({
        "asyncapi": "3.0.0",
        "id": "urn:zegel:topology",
        "info": {
            "title": "Zegel",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The channels of Zegel. Messages are ordered per key; a key is an HMAC, never an identifier.",
            "license": { "name": "Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "channels": channels.iter().map(|c| (c.name.to_owned(), channel(c))).collect::<Map<_, _>>(),
        "operations": channels.iter().flat_map(operations).collect::<Map<_, _>>(),
        "components": { "messages": messages, "schemas": shared },
    })
}

fn channel(channel: &Channel) -> Value {
    let messages =
        channel.types.iter().map(|kind| ((*kind).to_owned(), reference(&format!("components/messages/{kind}"))));
    json!({
        "address": channel.name,
        "description": channel.what,
        "messages": messages.collect::<Map<_, _>>(),
        "x-code": channel.code,
        "x-key": channel.key,
        "x-partitions": channel.partitions,
        "x-groups": channel.groups.iter().map(|group| group.name).collect::<Vec<_>>(),
        "x-retry-ms": channel.retry_ms,
        "x-retry-endless": channel.endless,
        "x-after-dead": after_dead(channel.after_dead),
        "x-idempotency-days": channel.idempotency_days,
        "x-high-water": channel.high_water,
    })
}

/// One `receive` per group that reads the channel, one `send` per channel that it produces to, one per edge.
fn operations(channel: &Channel) -> Vec<(String, Value)> {
    let of = |action: &str, channel: &str, summary: String| json!({ "action": action, "channel": reference(&format!("channels/{channel}")), "summary": summary });
    let mut all = Vec::new();
    for edge in channel.edges {
        let name = format!("{}-sends-{}", edge.replace(' ', "-"), channel.name);
        all.push((name, of("send", channel.name, format!("edge: {edge}"))));
    }
    for group in channel.groups {
        let name = format!("{}-receives-{}", group.name, channel.name);
        all.push((name, of("receive", channel.name, format!("stage: {}", group.name))));
        for target in group.produces {
            let name = format!("{}-sends-{target}", group.name);
            all.push((name, of("send", target, format!("stage: {}", group.name))));
        }
    }
    all
}

fn message(kind: &str, payload: Value) -> Value {
    json!({
        "name": kind,
        "title": payload["title"],
        "summary": payload["description"],
        "contentType": "application/json",
        "headers": reference(&format!("components/schemas/{ENVELOPE}")),
        "payload": payload,
    })
}

/// The payload's schema with its definitions moved to `shared`.
fn payload(mut schema: Value, shared: &mut Map<String, Value>) -> Value {
    if let Some(members) = schema.as_object_mut() {
        members.remove("$schema");
        if let Some(Value::Object(definitions)) = members.remove("$defs") {
            shared.extend(definitions.into_iter().map(|(name, definition)| (name, with_references_here(definition))));
        }
    }
    with_references_here(schema)
}

/// Rewrites references to definitions, and wraps those that have neighbours.
fn with_references_here(schema: Value) -> Value {
    match schema {
        Value::Array(items) => items.into_iter().map(with_references_here).collect(),
        Value::Object(members) => {
            let mut members: Map<_, _> =
                members.into_iter().map(|(name, value)| (name, with_references_here(value))).collect();
            let target = members.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix("#/$defs/"));
            if let Some(target) = target {
                let target = reference(&format!("components/schemas/{target}"));
                members.remove("$ref");
                if members.is_empty() {
                    return target;
                }
                members.insert("allOf".to_owned(), json!([target]));
            }
            Value::Object(members)
        }
        other => other,
    }
}

/// The envelope without the payload: what travels as headers.
fn envelope() -> Value {
    let mut schema = documents::envelope();
    if let Some(members) = schema.as_object_mut() {
        members.remove("$schema");
        members.remove("$id");
    }
    if let Some(required) = schema["required"].as_array_mut() {
        required.retain(|name| name != "data");
    }
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.remove("data");
    }
    schema
}

fn reference(path: &str) -> Value {
    json!({ "$ref": format!("#/{path}") })
}
