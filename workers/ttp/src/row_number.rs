//! Where a row carries its number in each form, so that what is delivered stays of its form and valid.
//!
//! | form | place |
//! | --- | --- |
//! | CSV | the last column, `zegel_row` |
//! | NDJSON | the member `zegel_row` |
//! | FHIR | a resource's `meta.tag` with the system `urn:zegel:row`; in a Bundle an `extension` of the entry |
//! | KMEHR | an `id` of the folder with `S="LOCAL"` and `SL="urn:zegel:row"` |
//! | other XML | the attribute `zegel-row` of the row's element |
//! | HL7 v2 | a last segment `ZGL` |
//!
//! Putting works on rows as they were written, in canonical form; taking works on what a recipient's tools made of them.
//! Failure: what cannot be read is left for the form's own reader, which reports it.

use crate::json::Members;
use crate::values::json_string;
use crate::xml_tree::{Element, Node};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The column, or member, of row numbers.
pub(crate) const COLUMN: &str = "zegel_row";
/// Says whose tags, extensions and ids they are.
const SYSTEM: &str = "urn:zegel:row";
/// The segment of row numbers.
pub(crate) const SEGMENT: &str = "ZGL";
const ATTRIBUTE: &str = "zegel-row";

/// Which form a row has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    Column,
    Member,
    Fhir,
    Folder,
    Attribute,
    Segment,
}

impl Carrier {
    /// Appends the row with its number to `out`.
    pub(crate) fn put(self, row: &[u8], number: &str, out: &mut Vec<u8>) {
        match self {
            Carrier::Column => {
                out.extend_from_slice(row.strip_suffix(b"\n").unwrap_or(row));
                out.extend_from_slice(format!(",{number}\n").as_bytes());
            }
            Carrier::Member => {
                let rest = row.strip_prefix(b"{").unwrap_or(row);
                let comma = if rest.starts_with(b"}") { "" } else { "," };
                out.extend_from_slice(format!("{{\"{COLUMN}\":\"{number}\"{comma}").as_bytes());
                out.extend_from_slice(rest);
            }
            Carrier::Fhir => out.extend_from_slice(&put_fhir(row, number)),
            Carrier::Folder => put_folder(row, number, out),
            Carrier::Attribute => {
                let end = row.iter().position(|byte| b" />".contains(byte)).unwrap_or(row.len());
                out.extend_from_slice(&row[..end]);
                out.extend_from_slice(format!(" {ATTRIBUTE}=\"{number}\"").as_bytes());
                out.extend_from_slice(&row[end..]);
            }
            Carrier::Segment => {
                out.extend_from_slice(row);
                out.extend_from_slice(format!("{SEGMENT}|{number}\r").as_bytes());
            }
        }
    }
}

/// An object's text without one of its members, and what that member said.
type Taken = (String, Vec<String>);

/// The number of a row of NDJSON.
pub(crate) fn take_member(text: &str) -> Option<Taken> {
    let Members(members) = serde_json::from_str(text).ok()?;
    let (own, rest): (Vec<_>, Vec<_>) = members.into_iter().partition(|(name, _)| name == COLUMN);
    Some((
        object(rest.iter().map(|(name, value)| (name.as_ref(), value.get()))),
        own.iter().map(|(_, value)| text_of(value)).collect(),
    ))
}

/// The number of a resource, or of an entry of a Bundle.
pub(crate) fn take_fhir(text: &str) -> Option<Taken> {
    let Members(members) = serde_json::from_str(text).ok()?;
    if !members.iter().any(|(name, _)| name == "resourceType") {
        return take_from(text, "extension", "url", "valueString");
    }
    let mut numbers = Vec::new();
    let mut rest: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(members.len());
    for (name, value) in &members {
        if name != "meta" {
            rest.push((name, value.get().into()));
            continue;
        }
        let (meta, found) = take_from(value.get(), "tag", "system", "code")?;
        // What was put in for the number alone goes with it.
        if found.is_empty() || meta != "{}" {
            rest.push((name, meta.into()));
        }
        numbers.extend(found);
    }
    Some((object(rest.iter().map(|(name, value)| (*name, value.as_ref()))), numbers))
}

/// Takes the elements of an array of an object that are the TTP's.
fn take_from(text: &str, array: &str, key: &str, value_key: &str) -> Option<Taken> {
    let Members(members) = serde_json::from_str(text).ok()?;
    let mut numbers = Vec::new();
    let mut rest: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(members.len());
    for (name, value) in &members {
        if name != array {
            rest.push((name, value.get().into()));
            continue;
        }
        let elements: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
        let (own, kept): (Vec<&RawValue>, Vec<&RawValue>) =
            elements.into_iter().partition(|element| member(element, key).as_deref() == Some(SYSTEM));
        numbers.extend(own.iter().map(|element| member(element, value_key).unwrap_or_default()));
        if own.is_empty() {
            rest.push((name, value.get().into()));
        } else if !kept.is_empty() {
            let kept: Vec<&str> = kept.iter().map(|element| element.get()).collect();
            rest.push((name, format!("[{}]", kept.join(",")).into()));
        }
    }
    Some((object(rest.iter().map(|(name, value)| (*name, value.as_ref()))), numbers))
}

fn put_fhir(row: &[u8], number: &str) -> Vec<u8> {
    let (body, end) = match row.strip_suffix(b"\n") {
        Some(body) => (body, "\n"),
        None => (row, ""),
    };
    let text = String::from_utf8_lossy(body);
    let Ok(Members(members)) = serde_json::from_str(&text) else { return row.to_vec() };
    let is_resource = members.iter().any(|(name, _)| name == "resourceType");
    let numbered = if is_resource {
        let meta = members.iter().find(|(name, _)| name == "meta").map_or("{}", |(_, value)| value.get());
        let meta = add_to(meta, "tag", &format!("{{\"code\":\"{number}\",\"system\":\"{SYSTEM}\"}}"));
        with_member(&members, "meta", &meta)
    } else {
        add_to(&text, "extension", &format!("{{\"url\":\"{SYSTEM}\",\"valueString\":\"{number}\"}}"))
    };
    [numbered.as_bytes(), end.as_bytes()].concat()
}

/// An object's text with one element more at the end of one of its arrays.
fn add_to(text: &str, array: &str, element: &str) -> String {
    let members = serde_json::from_str::<Members<'_>>(text).map(|Members(members)| members).unwrap_or_default();
    let found = members.iter().find(|(name, _)| name == array).and_then(|(_, value)| value.get().strip_suffix(']'));
    let elements = match found {
        Some(elements) if elements.trim() != "[" => format!("{elements},{element}]"),
        _ => format!("[{element}]"),
    };
    with_member(&members, array, &elements)
}

/// The text of an object in which one member has another value; members stay sorted.
fn with_member(members: &[(Cow<'_, str>, &RawValue)], name: &str, value: &str) -> String {
    let mut all: Vec<(&str, &str)> =
        members.iter().map(|(name, value)| (name.as_ref(), value.get())).filter(|(other, _)| *other != name).collect();
    let place = all.iter().position(|(other, _)| *other > name).unwrap_or(all.len());
    all.insert(place, (name, value));
    object(all.into_iter())
}

fn object<'m>(members: impl Iterator<Item = (&'m str, &'m str)>) -> String {
    let mut text = b"{".to_vec();
    for (name, value) in members {
        if text.len() > 1 {
            text.push(b',');
        }
        // Writing to memory does not fail; a name that were left out would make the text no JSON, which is refused.
        _ = json_string(name, &mut text);
        text.push(b':');
        text.extend_from_slice(value.as_bytes());
    }
    text.push(b'}');
    String::from_utf8_lossy(&text).into_owned()
}

/// A member that is a string.
fn member(element: &RawValue, name: &str) -> Option<String> {
    let Members(members) = serde_json::from_str(element.get()).ok()?;
    members.iter().find(|(found, _)| found == name).map(|(_, value)| text_of(value))
}

/// What a string says; anything else says nothing.
fn text_of(value: &RawValue) -> String {
    serde_json::from_str(value.get()).unwrap_or_default()
}

fn put_folder(row: &[u8], number: &str, out: &mut Vec<u8>) {
    const PATIENT: &[u8] = b"<patient";
    let id = format!("<id S=\"LOCAL\" SL=\"{SYSTEM}\" SV=\"1.0\">{number}</id>");
    // Ids stand before the patient; text cannot hold an angle bracket.
    let is_patient = |at: &usize| row[at + PATIENT.len()..].first().is_some_and(|next| b" />".contains(next));
    let patient =
        (0..row.len().saturating_sub(PATIENT.len())).filter(|at| row[*at..].starts_with(PATIENT)).find(is_patient);
    let start = row.iter().position(|byte| *byte == b'>').unwrap_or(row.len());
    match patient {
        None if row[..start].ends_with(b"/") => {
            out.extend_from_slice(&row[..start - 1]);
            out.extend_from_slice(format!(">{id}</folder>").as_bytes());
        }
        place => {
            let place = place.unwrap_or((start + 1).min(row.len()));
            out.extend_from_slice(&row[..place]);
            out.extend_from_slice(id.as_bytes());
            out.extend_from_slice(&row[place..]);
        }
    }
}

/// The numbers of a row that is an element; they are gone afterwards.
pub(crate) fn take_element(row: &mut Element, is_kmehr: bool) -> Vec<String> {
    if !is_kmehr {
        let (own, rest) = std::mem::take(&mut row.attributes).into_iter().partition(|(name, _)| name == ATTRIBUTE);
        row.attributes = rest;
        let own: Vec<(String, String)> = own;
        return own.into_iter().map(|(_, value)| value).collect();
    }
    let is_own = |node: &Node| match node {
        Node::Element(element) => element.name == "id" && element.attribute("SL") == Some(SYSTEM),
        Node::Text(_) => false,
    };
    let (own, rest): (Vec<Node>, Vec<Node>) = std::mem::take(&mut row.children).into_iter().partition(is_own);
    row.children = rest;
    own.iter().filter_map(|node| if let Node::Element(element) = node { Some(element.text()) } else { None }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn put(carrier: Carrier, row: &str) -> String {
        let mut out = Vec::new();
        carrier.put(row.as_bytes(), "N7", &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_form_has_its_place_for_the_number() {
        assert_eq!(put(Carrier::Column, "a,\"b\n\"\n"), "a,\"b\n\",N7\n");
        assert_eq!(put(Carrier::Member, "{\"a\":1}\n"), "{\"zegel_row\":\"N7\",\"a\":1}\n");
        assert_eq!(put(Carrier::Member, "{}\n"), "{\"zegel_row\":\"N7\"}\n");
        assert_eq!(put(Carrier::Attribute, "<row/>"), "<row zegel-row=\"N7\"/>");
        assert_eq!(put(Carrier::Attribute, "<row a=\"1\">x</row>"), "<row zegel-row=\"N7\" a=\"1\">x</row>");
        assert_eq!(put(Carrier::Segment, "MSH|^~\\&\r"), "MSH|^~\\&\rZGL|N7\r");
        let id = "<id S=\"LOCAL\" SL=\"urn:zegel:row\" SV=\"1.0\">N7</id>";
        assert_eq!(
            put(Carrier::Folder, "<folder><id>1</id><patient/></folder>"),
            format!("<folder><id>1</id>{id}<patient/></folder>")
        );
        assert_eq!(put(Carrier::Folder, "<folder><patients/></folder>"), format!("<folder>{id}<patients/></folder>"));
        assert_eq!(put(Carrier::Folder, "<folder/>"), format!("<folder>{id}</folder>"));
    }

    #[test]
    fn what_is_put_into_json_is_taken_again_and_leaves_nothing() {
        for (row, carrier) in [
            ("{\"a\":1}", Carrier::Member),
            ("{}", Carrier::Member),
            ("{\"id\":\"1\",\"resourceType\":\"Patient\"}\n", Carrier::Fhir),
            ("{\"meta\":{\"tag\":[{\"code\":\"x\"}]},\"resourceType\":\"Patient\"}", Carrier::Fhir),
            ("{\"meta\":{\"versionId\":\"1\"},\"resourceType\":\"Patient\"}", Carrier::Fhir),
            ("{\"fullUrl\":\"u\",\"resource\":{\"resourceType\":\"Patient\"}}", Carrier::Fhir),
            ("{\"extension\":[{\"url\":\"x\",\"valueString\":\"[]\"}],\"request\":{}}", Carrier::Fhir),
        ] {
            let put = put(carrier, row);
            assert!(put.contains("N7") && serde_json::from_str::<serde_json::Value>(&put).is_ok(), "{put}");
            let take = if carrier == Carrier::Fhir { take_fhir } else { take_member };
            assert_eq!(take(&put), Some((row.trim().to_owned(), vec!["N7".to_owned()])));
            assert_eq!(take(row).unwrap().1, Vec::<String>::new());
        }
        // A member that stands twice stays for the reader that refuses it; two numbers are two.
        assert_eq!(
            take_member("{\"a\":1,\"a\":2,\"zegel_row\":\"x\",\"zegel_row\":7}").unwrap(),
            ("{\"a\":1,\"a\":2}".to_owned(), vec!["x".to_owned(), String::new()])
        );
        assert_eq!(take_member("[1]"), None);
    }
}
