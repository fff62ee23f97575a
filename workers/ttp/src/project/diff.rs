//! What differs between two documents, place by place, with what it means for tokens and for who gets what.
//!
//! Works on the texts as values, so that it sees every member that the form has; a field is named by its path, so that
//! fields that only moved do not differ.

use super::{ProjectDocument, ProjectError};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Where: `valid.until`, `fields[niss].action`.
    pub place: String,
    /// What stood there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What stands there now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// What follows from it, where that is not plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
}

/// Compares two documents.
///
/// # Errors
/// [`ProjectError`] when one of them is no project document.
pub fn diff(old: &str, new: &str) -> Result<Vec<Change>, ProjectError> {
    let (old, new) = (places(old)?, places(new)?);
    let mut all: Vec<&String> = old.keys().chain(new.keys()).collect();
    all.sort();
    all.dedup();
    let changed = all.into_iter().filter(|place| old.get(*place) != new.get(*place));
    Ok(changed
        .map(|place| {
            let (before, after) = (old.get(place).cloned(), new.get(place).cloned());
            let note = note(place, before.as_deref(), after.as_deref());
            Change { place: place.clone(), before, after, note }
        })
        .collect())
}

/// Every place of a document with what stands there.
fn places(text: &str) -> Result<BTreeMap<String, String>, ProjectError> {
    ProjectDocument::parse(text)?;
    let form = |error: String| ProjectError::Form(error);
    let value: Value = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| form(error.to_string()))?
    } else {
        toml::from_str(text).map_err(|error| form(error.to_string()))?
    };
    let mut found = BTreeMap::new();
    collect(String::new(), &value, &mut found);
    Ok(found)
}

fn collect(place: String, value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let inner = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                collect(inner, member, found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let name = match item {
                    Value::Object(members) => members.get("path").and_then(Value::as_str).map(str::to_owned),
                    // Addresses and columns are sets: their place in the list means nothing.
                    Value::String(text) => Some(text.clone()),
                    _ => None,
                };
                collect(format!("{place}[{}]", name.unwrap_or_else(|| index.to_string())), item, found);
            }
        }
        Value::String(text) => {
            found.insert(place, text.clone());
        }
        other => {
            found.insert(place, other.to_string());
        }
    }
}

fn note(place: &str, before: Option<&str>, after: Option<&str>) -> Option<&'static str> {
    let member = place.rsplit_once('.').map(|(_, member)| member);
    match place {
        "name" | "family" | "recipient" => return Some("an amendment cannot change this: it is another project"),
        "unlisted" if after == Some("drop") => return Some("columns that nobody agreed on no longer stop a batch"),
        "rows" if after == Some("keep") => return Some("the order of rows says something about the sender"),
        "recipient_may_send" if after == Some("true") => {
            return Some("the recipient may learn tokens of numbers of its choice");
        }
        _ => {}
    }
    if place.starts_with("senders[") {
        return Some(if after.is_some() { "one more sender" } else { "one sender less" });
    }
    if place.starts_with("fields[") {
        return match member {
            Some("domain" | "kind" | "scope" | "prefix") => Some("tokens of this field change"),
            Some("action") if after == Some("keep") => Some("values are delivered as they are"),
            Some("action") if before.is_some() && after.is_some() => Some("what the recipient gets changes"),
            Some("path") if after.is_none() => Some("the field is not listed any more"),
            _ => None,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OLD: &str = r#"
        name = "lab-registry"
        senders = ["NIHII-HOSPITAL:71000436"]
        recipient = "CBE:0123456749"
        valid = { from = "2026-01-01", until = "2030-12-31" }
        [[fields]]
        path = "niss"
        kind = "ssin"
        action = "pseudonym"
        [[fields]]
        path = "value"
        action = "keep"
    "#;

    #[test]
    fn every_change_is_named_with_its_place_and_a_moved_field_is_none() {
        assert_eq!(diff(OLD, OLD).unwrap(), []);
        let new = OLD
            .replace("2030-12-31", "2031-12-31")
            .replace("436\"]", "436\", \"NIHII-HOSPITAL:71011720\"]")
            .replace("action = \"pseudonym\"", "action = \"pseudonym\"\ndomain = \"x\"");
        let changes = diff(OLD, &new).unwrap();
        let told: Vec<(&str, Option<&str>)> = changes.iter().map(|c| (c.place.as_str(), c.note)).collect();
        assert_eq!(
            told,
            [
                ("fields[niss].domain", Some("tokens of this field change")),
                ("senders[NIHII-HOSPITAL:71011720]", Some("one more sender")),
                ("valid.until", None),
            ]
        );
        let (head, fields) = OLD.split_at(OLD.find("[[fields]]").unwrap());
        let second = fields.rfind("[[fields]]").unwrap();
        let moved = format!("{head}{}\n{}", &fields[second..], &fields[..second]);
        assert_eq!(diff(OLD, &moved).unwrap(), []);
    }
}
