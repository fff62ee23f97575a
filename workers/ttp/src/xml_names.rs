//! What of XML's and KMEHR's own form is delivered without being listed: namespaces where a delivered name needs them, and attributes that say
//! how a value is coded, as far as they have that form.
//!
//! Invariant I4: neither is a place for free text. A declaration that no delivered name uses, a version of a table that is the version of
//! somebody's program, or a language that is none would tell the recipient who sent the document.

use crate::xml_tree::{Element, escape};
use std::borrow::Cow;

/// The namespaces of KMEHR messages: of 2009, and of today (eHealth, kmehr_elements.xsd).
const KMEHR: [&str; 2] =
    ["http://www.health.fgov.be/telematics/kmehr/schema", "http://www.ehealth.fgov.be/standards/kmehr/schema/v1"];
/// What `SV` says where the version that came is none; the schema wants the attribute.
const NO_VERSION: &str = "0.0";
/// Schemes of KMEHR that do not begin with `ID-` or `CD-` (cd-1_43.xsd, id-1_43.xsd).
const SCHEMES: [&str; 8] = ["LOCAL", "INSS", "ICD", "ICPC", "UCUM", "EID-CARDNO", "SIS-CARDNO", "ISI-CARDNO"];
/// The longest scheme of the schema has 37 letters, the longest version of a table 10.
const SCHEME_MAX: usize = 40;
const VERSION_MAX: usize = 10;

/// Whether a namespace is that of KMEHR messages.
pub(crate) fn is_kmehr(namespace: &str) -> bool {
    KMEHR.contains(&namespace)
}

/// What is delivered of an attribute of the form; none where it is none, or has not its form.
pub(crate) fn form_value<'v>(key: &str, value: &'v str, is_kmehr: bool) -> Option<Cow<'v, str>> {
    let fits = match key {
        "xsi:nil" => matches!(value, "true" | "false" | "1" | "0"),
        "xml:space" => matches!(value, "default" | "preserve"),
        "S" if is_kmehr => is_scheme(value),
        "L" if is_kmehr => is_language(value),
        "SV" if is_kmehr && !is_version(value) => return Some(NO_VERSION.into()),
        "SV" => is_kmehr,
        _ => false,
    };
    fits.then_some(Cow::Borrowed(value))
}

fn is_scheme(value: &str) -> bool {
    let rest = value.strip_prefix("ID-").or_else(|| value.strip_prefix("CD-"));
    let is_name =
        |rest: &str| rest.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-');
    SCHEMES.contains(&value) || value.len() <= SCHEME_MAX && rest.is_some_and(is_name)
}

fn is_version(value: &str) -> bool {
    value.len() <= VERSION_MAX && value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// A language, with its country where it has one (RFC 5646, sections 2.2.1 and 2.2.4).
fn is_language(value: &str) -> bool {
    let is_of = |text: &str, most: usize| {
        (2..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphabetic())
    };
    match value.split_once('-') {
        None => is_of(value, 3),
        Some((language, country)) => is_of(language, 3) && is_of(country, 2),
    }
}

/// The prefix that an attribute declares; the empty one is that of names without a prefix.
pub(crate) fn declared(key: &str) -> Option<&str> {
    if key == "xmlns" { Some("") } else { key.strip_prefix("xmlns:") }
}

/// Namespaces by their prefixes, as they hold in the document that is read, and in the one that is written.
#[derive(Default)]
pub(crate) struct Names {
    read: Vec<(String, String)>,
    written: Vec<(String, String)>,
}

/// Where an element began.
pub(crate) struct Mark(usize, usize);

impl Names {
    /// An element begins: what it declares holds until [`Names::leave`].
    pub(crate) fn enter(&mut self, element: &Element) -> Mark {
        let mark = Mark(self.read.len(), self.written.len());
        let own = element.attributes.iter().filter_map(|(key, value)| Some((declared(key)?.to_owned(), value.clone())));
        self.read.extend(own);
        mark
    }

    /// An element ends.
    pub(crate) fn leave(&mut self, Mark(read, written): Mark) {
        self.read.truncate(read);
        self.written.truncate(written);
    }

    /// Appends the declaration that a name needs, where it does not hold yet. An attribute without a prefix needs none.
    pub(crate) fn declare(&mut self, name: &str, is_element: bool, out: &mut Vec<u8>) {
        let prefix = match name.split_once(':') {
            Some(("xml", _)) => return,
            Some((prefix, _)) => prefix,
            None if is_element => "",
            None => return,
        };
        let bound = |all: &[(String, String)]| {
            all.iter().rev().find(|(known, _)| known == prefix).map(|(_, uri)| uri.clone()).unwrap_or_default()
        };
        let uri = bound(&self.read);
        // A prefix cannot be declared away, and what has none was none when it came.
        if uri == bound(&self.written) || uri.is_empty() && !prefix.is_empty() {
            return;
        }
        let colon = if prefix.is_empty() { "" } else { ":" };
        out.extend_from_slice(format!(" xmlns{colon}{prefix}=\"{}\"", escape(&uri)).as_bytes());
        self.written.push((prefix.to_owned(), uri));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_the_form_have_no_room_for_a_name() {
        let form = |key, value| form_value(key, value, true);
        for (key, value) in
            [("S", "CD-DRUG-CNK"), ("S", "LOCAL"), ("SV", "1.43"), ("L", "nl"), ("L", "fr-BE"), ("xsi:nil", "true")]
        {
            assert_eq!(form(key, value).as_deref(), Some(value), "{key}");
        }
        assert_eq!(form("SV", "versie 1.23.25.0").as_deref(), Some(NO_VERSION));
        assert_eq!(form("SV", "LOCALDB").as_deref(), Some(NO_VERSION));
        for (key, value) in [
            ("S", "ALMA"),
            ("S", "CD-Alma"),
            ("L", "alma"),
            ("L", "nl-alma"),
            ("xsi:nil", "alma"),
            ("xml:space", "x"),
            ("xsi:type", "A"),
            ("DN", "1"),
        ] {
            assert_eq!(form(key, value), None, "{key}");
        }
        assert_eq!(form_value("SV", "1.0", false), None, "in KMEHR only");
        assert!(is_kmehr(KMEHR[0]) && !is_kmehr("urn:alma/kmehr/schema/v1"));
    }
}
