//! FHIR references and ids: rewritten so that what referred to a resource before still refers to it.
//!
//! | before | after |
//! | --- | --- |
//! | `#`, `Type` | unchanged: a type of R4 or R4B names nobody |
//! | `#id` | `#TOKEN`, as the contained resource's id |
//! | `Type/id`, `Type/id/_history/2` | `Type/TOKEN`, `Type/TOKEN/_history/2` |
//! | `https://host/base/Type/id` | `https://fhir.invalid/HOST-TOKEN/Type/TOKEN` |
//! | `urn:uuid:id`, `urn:oid:id` | `urn:zegel:uuid:TOKEN`, `urn:zegel:oid:TOKEN` |
//! | `Type?identifier=system|value` | `Type?identifier=system|P1-TOKEN` of the value, as an `identifier.value` of the domain gets; the system as a host, unless the project keeps systems |
//! | anything else | `urn:zegel:text:P1-TOKEN` |
//!
//! TOKEN is the one that the resource's id gets, so that `fullUrl`, `id` and references agree. A host names the sender;
//! its token is drawn anew in every batch, so that it is no stable mark. Nothing stays that has room for a name: another word than a type,
//! and a version that is no number, make the whole a text. Bound: [`HOSTS_MAX`] hosts in a batch.

use crate::fhir_types::is_name as is_type;
use crate::fields::{ActionName, FieldDocument};
use crate::values::{ID, LENGTH, RowCode, TOKEN};
use std::collections::HashMap;
use zegel_crypto::pseudonym::{Compact, NONCE, OneWay, PseudonymError, Randomised, Reversible};

/// Digits of a version: fewer than any number of a person has.
const VERSION_MAX: usize = 6;
/// A batch refers to its own server and a few others.
const HOSTS_MAX: usize = 1_000;
const HOST: &str = "https://fhir.invalid/";
const URN: &str = "urn:zegel:";

/// Makes ids of ids.
pub(crate) enum Ids {
    Reversible(Box<Compact>),
    OneWay(Box<OneWay>),
}

impl Ids {
    pub(crate) fn encode(&mut self, id: &str, out: &mut Vec<u8>) -> Result<(), RowCode> {
        if !is_id(id) {
            return Err(ID);
        }
        match self {
            Ids::Reversible(maker) => maker.encode(id, out).map_err(|error| match error {
                PseudonymError::TooLong => LENGTH,
                _ => ID,
            }),
            Ids::OneWay(maker) => maker.encode_id(id.as_bytes(), out).map_err(|_| ID),
        }
    }

    pub(crate) fn decode(&mut self, token: &str, out: &mut Vec<u8>) -> Result<(), RowCode> {
        match self {
            Ids::Reversible(maker) => {
                out.extend_from_slice(maker.decode(token).map_err(|_| TOKEN)?.as_bytes());
                Ok(())
            }
            Ids::OneWay(_) => {
                out.extend_from_slice(token.as_bytes());
                Ok(())
            }
        }
    }
}

/// Makes tokens of other texts of the same scope.
pub(crate) enum Texts {
    Reversible(Box<Reversible>),
    OneWay(Box<OneWay>),
}

impl Texts {
    fn encode(&mut self, text: &str, out: &mut Vec<u8>) -> Result<(), RowCode> {
        match self {
            Texts::Reversible(maker) => maker.encode(text.as_bytes(), out),
            Texts::OneWay(maker) => maker.encode(text.as_bytes(), out),
        }
        .map_err(|_| LENGTH)
    }

    fn decode(&mut self, token: &str, out: &mut Vec<u8>) -> Result<(), RowCode> {
        match self {
            Texts::Reversible(maker) => out.extend_from_slice(&maker.decode(token).map_err(|_| TOKEN)?),
            Texts::OneWay(_) => out.extend_from_slice(token.as_bytes()),
        }
        Ok(())
    }
}

/// Rewrites references of one scope.
pub(crate) struct References {
    pub(crate) ids: Ids,
    pub(crate) texts: Texts,
    pub(crate) hosts: Randomised,
    /// Whether systems of identifiers are delivered, so that references by identifier are to agree with them.
    pub(crate) keeps_systems: bool,
    /// Tokens of this batch's hosts.
    pub(crate) known: HashMap<String, String>,
}

/// The parts of a reference.
#[derive(Debug, PartialEq, Eq)]
enum Parts<'t> {
    AsIs,
    /// The id of a contained resource.
    Local(&'t str),
    /// What stands before the id, the id, what stands behind it.
    Relative(&'t str, &'t str, &'t str),
    /// The host with its path, and the relative part.
    Absolute(&'t str, &'t str),
    /// `uuid:` or `oid:`, and the id.
    Urn(&'t str, &'t str),
    /// Up to the system, the system, and the value.
    Identifier(&'t str, &'t str, &'t str),
    Other,
}

impl References {
    /// Appends the reference that `text` becomes. `nonce` is fresh random bytes.
    pub(crate) fn encode(&mut self, text: &str, nonce: [u8; NONCE], out: &mut Vec<u8>) -> Result<(), RowCode> {
        match parts(text) {
            Parts::AsIs => out.extend_from_slice(text.as_bytes()),
            Parts::Local(id) => self.relative("#", id, "", out)?,
            Parts::Relative(before, id, after) => self.relative(before, id, after, out)?,
            Parts::Absolute(host, relative) => {
                out.extend_from_slice(HOST.as_bytes());
                self.host(host, nonce, out)?;
                out.push(b'/');
                let Parts::Relative(before, id, after) = parts(relative) else { return Err(ID) };
                self.relative(before, id, after, out)?;
            }
            Parts::Urn(kind, id) => {
                out.extend_from_slice(URN.as_bytes());
                out.extend_from_slice(kind.as_bytes());
                self.ids.encode(id, out)?;
            }
            Parts::Identifier(before, system, value) => {
                out.extend_from_slice(before.as_bytes());
                if self.keeps_systems || system.is_empty() {
                    out.extend_from_slice(system.as_bytes());
                } else {
                    out.extend_from_slice(HOST.as_bytes());
                    self.host(system, nonce, out)?;
                }
                out.push(b'|');
                self.texts.encode(value, out)?;
            }
            Parts::Other => {
                out.extend_from_slice(URN.as_bytes());
                out.extend_from_slice(b"text:");
                self.texts.encode(text, out)?;
            }
        }
        Ok(())
    }

    /// Appends the reference that became `text`.
    pub(crate) fn decode(&mut self, text: &str, out: &mut Vec<u8>) -> Result<(), RowCode> {
        if let Some(rest) = text.strip_prefix(URN) {
            let (kind, token) = rest.split_once(':').ok_or(TOKEN)?;
            if kind == "text" {
                return self.texts.decode(token, out);
            }
            out.extend_from_slice(format!("urn:{kind}:").as_bytes());
            return self.ids.decode(token, out);
        }
        if let Some((host, relative)) = text.strip_prefix(HOST).and_then(|rest| rest.split_once('/')) {
            match &self.texts {
                Texts::Reversible(_) => out.extend_from_slice(&self.hosts.decode(host).map_err(|_| TOKEN)?),
                Texts::OneWay(_) => out.extend_from_slice(format!("{HOST}{host}/").as_bytes()),
            }
            return self.decode(relative, out);
        }
        match parts(text) {
            Parts::Local(token) => {
                out.push(b'#');
                self.ids.decode(token, out)?;
            }
            Parts::Relative(before, token, after) => {
                out.extend_from_slice(before.as_bytes());
                self.ids.decode(token, out)?;
                out.extend_from_slice(after.as_bytes());
            }
            Parts::Identifier(before, system, token) => {
                out.extend_from_slice(before.as_bytes());
                match system.strip_prefix(HOST).filter(|_| matches!(self.texts, Texts::Reversible(_))) {
                    Some(host) => out.extend_from_slice(&self.hosts.decode(host).map_err(|_| TOKEN)?),
                    None => out.extend_from_slice(system.as_bytes()),
                }
                out.push(b'|');
                self.texts.decode(token, out)?;
            }
            Parts::AsIs => out.extend_from_slice(text.as_bytes()),
            _ => return Err(TOKEN),
        }
        Ok(())
    }

    fn relative(&mut self, before: &str, id: &str, after: &str, out: &mut Vec<u8>) -> Result<(), RowCode> {
        out.extend_from_slice(before.as_bytes());
        self.ids.encode(id, out)?;
        out.extend_from_slice(after.as_bytes());
        Ok(())
    }

    fn host(&mut self, host: &str, nonce: [u8; NONCE], out: &mut Vec<u8>) -> Result<(), RowCode> {
        if !self.known.contains_key(host) {
            if self.known.len() >= HOSTS_MAX {
                return Err(ID);
            }
            let mut token = Vec::new();
            self.hosts.encode(host.as_bytes(), nonce, &mut token).map_err(|_| LENGTH)?;
            self.known.insert(host.to_owned(), String::from_utf8_lossy(&token).into_owned());
        }
        out.extend_from_slice(self.known.get(host).ok_or(ID)?.as_bytes());
        Ok(())
    }
}

/// Whether a project delivers the systems of identifiers as they are.
pub(crate) fn keeps_systems(fields: &[FieldDocument]) -> bool {
    let is_kept = |field: &FieldDocument| matches!(field.action, ActionName::Keep | ActionName::ScrubText);
    fields.iter().filter(|field| is_kept(field) && !field.path.contains('[')).any(|field| {
        let mut names = field.path.rsplit('.');
        match names.next() {
            Some("**") => true,
            Some("system" | "*") => names.next().is_some_and(|of| of.starts_with('*') || of.ends_with("dentifier")),
            _ => false,
        }
    })
}

/// The id at the end of a reference, for comparing it with ids.
pub(crate) fn id_of(reference: &str) -> &str {
    match parts(reference) {
        Parts::Local(id) | Parts::Relative(_, id, _) | Parts::Urn(_, id) | Parts::Identifier(_, _, id) => id,
        Parts::Absolute(_, relative) => id_of(relative),
        Parts::AsIs | Parts::Other => reference,
    }
}

fn parts(text: &str) -> Parts<'_> {
    if text == "#" || is_type(text) {
        return Parts::AsIs;
    }
    if let Some(id) = text.strip_prefix('#') {
        return if is_id(id) { Parts::Local(id) } else { Parts::Other };
    }
    for kind in ["uuid:", "oid:"] {
        let id = text.strip_prefix("urn:").and_then(|rest| rest.strip_prefix(kind)).filter(|id| is_id(id));
        if let Some(id) = id {
            return Parts::Urn(kind, id);
        }
    }
    if let Some(parts) = relative(text) {
        return parts;
    }
    if let Some((kind, query)) = text.split_once('?').filter(|(kind, _)| is_type(kind)) {
        let condition = query.strip_prefix("identifier=").and_then(|rest| rest.split_once('|'));
        // Several conditions, or a part that is written with per cent signs: what they say is not known.
        let is_one = |part: &str| !part.contains(['&', '%', '|']);
        return match condition.filter(|(system, value)| is_one(system) && is_one(value) && !value.is_empty()) {
            Some((system, value)) => Parts::Identifier(&text[..kind.len() + 1 + "identifier=".len()], system, value),
            None => Parts::Other,
        };
    }
    absolute(text).unwrap_or(Parts::Other)
}

fn relative(text: &str) -> Option<Parts<'_>> {
    let (kind, rest) = text.split_once('/').filter(|(kind, _)| is_type(kind))?;
    let (id, version) = rest.split_once('/').unwrap_or((rest, ""));
    let is_number =
        |version: &str| (1..=VERSION_MAX).contains(&version.len()) && version.bytes().all(|c| c.is_ascii_digit());
    let is_version =
        version.is_empty() && !rest.ends_with('/') || version.strip_prefix("_history/").is_some_and(is_number);
    (is_id(id) && is_version).then(|| Parts::Relative(&text[..=kind.len()], id, &rest[id.len()..]))
}

fn absolute(text: &str) -> Option<Parts<'_>> {
    text.split_once("://").filter(|(scheme, _)| scheme.bytes().all(|byte| byte.is_ascii_lowercase()))?;
    // The relative part is the last two names, or the last four with a version.
    let slashes: Vec<_> = text.rmatch_indices('/').map(|(place, _)| place).take(4).collect();
    let from = |slash: &usize| {
        let (host, part) = text.split_at(slash + 1);
        relative(part).is_some().then_some(Parts::Absolute(host, part))
    };
    slashes.get(3).and_then(from).or_else(|| slashes.get(1).and_then(from))
}

/// FHIR R4, section 2.24.0.1, `id`.
fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'.')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use zegel_crypto::pseudonym::{PseudonymRoot, Scope};

    fn references(is_reversible: bool) -> References {
        let root = PseudonymRoot::new(&[7; 32]);
        let scope = Scope { recipient: "CBE:0123456749", domain: "fhir-id", epoch: 1, sender: None };
        References {
            ids: match is_reversible {
                true => Ids::Reversible(Box::new(root.compact(&scope))),
                false => Ids::OneWay(Box::new(root.one_way(&scope))),
            },
            texts: match is_reversible {
                true => Texts::Reversible(Box::new(root.reversible(&scope))),
                false => Texts::OneWay(Box::new(root.one_way(&scope))),
            },
            hosts: root.randomised(&scope),
            keeps_systems: false,
            known: HashMap::new(),
        }
    }

    fn encode(references: &mut References, text: &str) -> String {
        let mut out = Vec::new();
        references.encode(text, [1; NONCE], &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    const ALL: [&str; 17] = [
        "#",
        "#contained-dzop",
        "#kind-en gezin",
        "dzop",
        "Alma/12",
        "Patient/12/_history/129c6ac7",
        "Patient",
        "Patient/129c6ac7-8d06-89de-ad63-0204a93e76c3",
        "CareTeam/dzop-team-0002.v2",
        "Patient/12/_history/3",
        "https://hospital.example/fhir/Patient/12",
        "http://hospital.example:8080/a/b/Patient/12/_history/1",
        "urn:uuid:129c6ac7-8d06-89de-ad63-0204a93e76c3",
        "urn:oid:1.2.3.4",
        "Practitioner?identifier=http://hl7.org/fhir/sid/us-npi|9999974592",
        "Practitioner?name=jan&identifier=x|y",
        "(org-kind-en-gezin",
    ];

    #[test]
    fn every_form_comes_back_and_nothing_of_it_is_left_before() {
        let mut all = references(true);
        for text in ALL {
            let there = encode(&mut all, text);
            let mut back = Vec::new();
            all.decode(&there, &mut back).unwrap();
            assert_eq!(String::from_utf8(back).unwrap(), text, "{there}");
            for secret in ["129c6ac7", "dzop", "hospital.example", "9999974592", "kind-en", "Alma", "us-npi"] {
                assert!(!there.contains(secret), "{there}");
            }
        }
    }

    #[test]
    fn a_system_stays_where_the_project_keeps_systems_and_a_contained_resource_is_found() {
        let mut all = References { keeps_systems: true, ..references(true) };
        let there = encode(&mut all, "Practitioner?identifier=http://hl7.org/fhir/sid/us-npi|9999974592");
        assert!(there.starts_with("Practitioner?identifier=http://hl7.org/fhir/sid/us-npi|P1."), "{there}");
        let mut id = Vec::new();
        all.ids.encode("p1", &mut id).unwrap();
        assert_eq!(encode(&mut all, "#p1"), format!("#{}", String::from_utf8(id).unwrap()));
        let field = |path: &str, action: &str| {
            serde_json::from_value::<FieldDocument>(serde_json::json!({ "path": path, "action": action })).unwrap()
        };
        for (path, action, expected) in [
            ("**.identifier.system", "keep", true),
            ("**", "scrub-text", true),
            ("Patient.identifier.*", "keep", true),
            ("Condition.code.coding.system", "keep", false),
            ("**.identifier[system=urn:a].system", "keep", false),
            ("**.identifier.system", "drop", false),
            ("Patient.active", "keep", false),
        ] {
            assert_eq!(keeps_systems(&[field(path, action)]), expected, "{path}");
        }
    }

    #[test]
    fn what_agreed_before_agrees_after() {
        for is_reversible in [true, false] {
            let mut all = references(is_reversible);
            let mut id = Vec::new();
            all.ids.encode("12", &mut id).unwrap();
            let id = String::from_utf8(id).unwrap();
            assert!(is_id(&id), "{id}");
            assert_eq!(encode(&mut all, "Patient/12"), format!("Patient/{id}"));
            assert_eq!(encode(&mut all, "Patient/12/_history/3"), format!("Patient/{id}/_history/3"));
            let absolute = encode(&mut all, "https://h.example/fhir/Patient/12");
            assert!(absolute.starts_with(HOST) && absolute.ends_with(&format!("/Patient/{id}")), "{absolute}");
            assert_eq!(absolute, encode(&mut all, "https://h.example/fhir/Patient/12"));
        }
    }

    #[test]
    fn the_same_host_looks_different_in_the_next_batch() {
        let mut out = Vec::new();
        references(true).encode("https://h.example/Patient/1", [2; NONCE], &mut out).unwrap();
        assert_ne!(encode(&mut references(true), "https://h.example/Patient/1").into_bytes(), out);
    }

    #[test]
    fn an_id_that_does_not_fit_is_refused_and_a_token_of_another_is_not_decoded() {
        let mut all = references(true);
        assert_eq!(all.encode(&format!("Patient/{}", "x".repeat(41)), [0; NONCE], &mut Vec::new()), Err(LENGTH));
        assert_eq!(all.decode("Patient/12", &mut Vec::new()), Err(TOKEN));
        assert_eq!(all.decode("urn:uuid:12", &mut Vec::new()), Err(TOKEN));
        assert_eq!(id_of("https://h.example/Patient/12/_history/1"), "12");
    }
}
