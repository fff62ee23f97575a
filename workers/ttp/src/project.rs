//! The project document: who may send what to whom, and what becomes of each field. TOML, form 1.
//!
//! ```toml
//! name = "lab-registry"
//! senders = ["NIHII-HOSPITAL:71000436"]
//! recipient = "CBE:0123456749"
//! valid = { from = "2026-01-01", until = "2030-12-31" }   # both days included, UTC
//! unlisted = "refuse"          # or "drop": columns that no field names
//! rows = "shuffle"             # or "keep": the order of rows in what is delivered
//! bad_rows = "refuse-batch"    # or "refuse-row": deliver the good rows
//! format = "fhir"              # csv, fixed-width, ndjson, fhir, kmehr, xml, hl7v2; without it CSV or NDJSON, as sent
//! text = { encoding = "latin-1", delimiter = ";" }        # UTF-8 and, in CSV, found by the header, if not stated
//! record = "ClinicalDocument"  # in xml: the element that is one row
//! patient = ["niss"]           # listed paths: who a row is about (shift-dates, small cells)
//! names = ["last_name"]        # listed paths: the patient's names, for scrub-text
//! small_cells = { quasi = ["birth_date", "sex"], k = 5, sensitive = "icd10", l = 2 }
//! [[fields]]
//! path = "niss"                # a CSV column, or a dotted path; see the module `fields` for the other keys
//! kind = "ssin"
//! action = "pseudonym"
//! required = true              # an empty value makes a bad row
//! ```
//! `domain` goes with tokens: equal values of one domain get equal tokens; it defaults to the kind and must be given for
//! text. `scope = "sender"` keeps numbers that each sender issues itself apart. `prefix = "Patient/"` is taken off before
//! the value becomes a token and put before the token again, so that references link with the identifier they hold.
//! `family = "…"` lets documents that name the same family and recipient share pseudonyms: they share one key root.
//! In `fhir`, `kmehr`, `xml` and `hl7v2` paths are patterns (module `paths`).
//! `version`, `deliberation`, `direction`, `certificates`, `quota` and `seals` are the terms of the agreement ([`terms`]); `returns` and
//! `release` those of an exchange ([`exchange`]).
//! JSON with the same members is taken too. What a document is worth is in [`agreement`]: nothing without its signatures.
//!
//! Failure behaviour: an unknown key, a contradiction or a field that would let an identifier pass is refused with the
//! rule ([`ProjectError`]); documents hold no patient data, so errors quote paths.

pub mod agreement;
pub mod book;
pub mod desk;
pub mod diff;
pub mod draft;
pub mod entry;
pub mod exchange;
pub mod register;
pub mod split;
pub mod terms;

pub use crate::fields::{ActionName, Coarseness, FieldDocument, ScopeName, TokenFormat, ValueKind, is_name};
pub use crate::form::{Delimiter, Encoding, FormatName, SmallCells, TextDocument};

use self::exchange::{Release, Returns};
use self::split::Split;
use self::terms::{Direction, Quota, Seals};
use chrono::NaiveDate;
use schemars::JsonSchema;
use schemas::{MailboxAddress, Sha256};
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, HashSet};
use zegel_crypto::hpke::SealKey;

/// Why a document is no project.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProjectError {
    /// It is not TOML, or has a key or value that the form does not know.
    #[error("project document: {0}")]
    Form(String),
    /// The project as a whole breaks a rule.
    #[error("project document: {0}")]
    Rule(&'static str),
    /// A field breaks a rule.
    #[error("project document, field {path:?}: {rule}")]
    Field {
        /// Which field.
        path: String,
        /// Which rule.
        rule: &'static str,
    },
}

impl ProjectError {
    /// The rule that was broken, without quoting the document.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        match self {
            ProjectError::Form(_) => "it is not of its form: check it with zegel project check",
            ProjectError::Rule(rule) | ProjectError::Field { rule, .. } => rule,
        }
    }
}

/// A project document as it is written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectDocument {
    /// Version of the form; 1.
    #[serde(default = "first_form")]
    pub form: u32,
    /// The project's name: 1 to 64 lower-case letters, digits and hyphens.
    pub name: String,
    /// Counts the signed documents of one project, from 1.
    #[serde(default = "first_form")]
    pub version: u32,
    /// The decision that allows the exchange, as its committee cites it.
    #[serde(default)]
    pub deliberation: Option<String>,
    /// Whether the recipient may send enriched rows back.
    #[serde(default)]
    pub direction: Direction,
    /// What may come back, where something may.
    #[serde(default)]
    pub returns: Option<Returns>,
    /// When batches are handed over; at once if not stated.
    #[serde(default)]
    pub release: Option<Release>,
    /// SHA-256 of each party's certificate: the one whose signature counts. All parties, or none in a draft.
    #[serde(default)]
    pub certificates: BTreeMap<MailboxAddress, Sha256>,
    /// Documents of one family and recipient share pseudonyms.
    #[serde(default)]
    pub family: Option<String>,
    /// Who may send, 1 to 1,000.
    pub senders: Vec<MailboxAddress>,
    /// Who gets the result; a sender only where `recipient_may_send` says so.
    #[serde(deserialize_with = "address")]
    #[schemars(with = "MailboxAddress")]
    pub recipient: MailboxAddress,
    /// Whether the recipient may be a sender too, and so learn tokens of numbers of its choice.
    #[serde(default)]
    pub recipient_may_send: bool,
    /// How much one sender may have encoded.
    #[serde(default)]
    pub quota: Quota,
    /// The synchronous service, for those who are named there.
    #[serde(default)]
    pub seals: Option<Seals>,
    /// With `escrow`: the public key of the decode role, X25519 in PEM.
    #[serde(default)]
    pub decode_key: Option<String>,
    /// Where a part of each batch is sealed for the recipient, and passes unopened.
    #[serde(default)]
    pub split: Option<Split>,
    /// When batches are taken.
    pub valid: Validity,
    /// What becomes of columns that no field names.
    #[serde(default)]
    pub unlisted: Unlisted,
    /// The order of rows in what is delivered.
    #[serde(default)]
    pub rows: Rows,
    /// What a bad row does to its batch.
    #[serde(default)]
    pub bad_rows: BadRows,
    /// Whether each batch comes as CMS SignedData of its sender, which is checked and taken off.
    #[serde(default)]
    pub signed: bool,
    /// The form of batches; CSV or NDJSON, whichever comes, if not stated.
    #[serde(default)]
    pub format: Option<FormatName>,
    /// How text is written.
    #[serde(default)]
    pub text: TextDocument,
    /// In XML: the dotted path of the element that is one row.
    #[serde(default)]
    pub record: Option<String>,
    /// Listed paths that say who a row is about; the first that has a value counts.
    #[serde(default)]
    pub patient: Vec<String>,
    /// Listed paths that hold the patient's names.
    #[serde(default)]
    pub names: Vec<String>,
    /// Rows that would tell too few patients apart are held back.
    #[serde(default)]
    pub small_cells: Option<SmallCells>,
    /// The fields, 1 to 1,000; CSV is delivered in their order. None where the project is for Seals only.
    #[serde(default)]
    pub fields: Vec<FieldDocument>,
}

/// A period of days, both included, in UTC.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Validity {
    /// First day.
    #[serde(deserialize_with = "day")]
    #[schemars(with = "String", extend("format" = "date"))]
    pub from: NaiveDate,
    /// Last day.
    #[serde(deserialize_with = "day")]
    #[schemars(with = "String", extend("format" = "date"))]
    pub until: NaiveDate,
}

/// What becomes of columns and members that no field names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unlisted {
    /// The batch (CSV) or the row (NDJSON) is refused.
    #[default]
    Refuse,
    /// They are left out.
    Drop,
}

/// The order of rows in what is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rows {
    /// Random: the sender's order says something about the rows.
    #[default]
    Shuffle,
    /// As sent.
    Keep,
}

/// What a bad row does to its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BadRows {
    /// The batch is refused as a whole.
    #[default]
    RefuseBatch,
    /// The good rows are delivered.
    RefuseRow,
}

/// Most senders and most fields of a project: far above any agreement, low enough to be read at start.
const ITEMS_MAX: usize = 1_000;

/// A reader's complaint with its line, and without the value: whoever names a batch in place of a document finds no patient in the error.
fn told(message: &str, line: usize) -> String {
    let message = message.trim();
    let without_value = ["invalid type: ", "invalid value: "].into_iter().find_map(|head| {
        let rest = message.strip_prefix(head)?;
        let kind = rest.split([' ', ',']).next()?;
        Some(format!("{head}{kind}{}", &rest[rest.rfind(", expected")?..]))
    });
    format!("line {line}: {}", without_value.as_deref().unwrap_or(message))
}

fn first_form() -> u32 {
    1
}

/// With a function of its own a missing field is called missing, not something that is no text.
fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MailboxAddress, D::Error> {
    MailboxAddress::deserialize(deserializer)
}

fn day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NaiveDate, D::Error> {
    let text = String::deserialize(deserializer)?;
    NaiveDate::parse_from_str(&text, "%Y-%m-%d").map_err(|_| serde::de::Error::custom("a day is written YYYY-MM-DD"))
}

impl ProjectDocument {
    /// Reads and checks a document: TOML, or JSON when it begins with `{`.
    ///
    /// # Errors
    /// [`ProjectError`] with the first rule that is broken.
    pub fn parse(text: &str) -> Result<ProjectDocument, ProjectError> {
        let document: ProjectDocument = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| {
                let place = format!(" at line {} column {}", error.line(), error.column());
                ProjectError::Form(told(error.to_string().trim_end_matches(&place), error.line()))
            })?
        } else {
            toml::from_str(text).map_err(|error| {
                let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
                ProjectError::Form(told(error.message(), before.matches('\n').count() + 1))
            })?
        };
        document.check()?;
        Ok(document)
    }

    /// Everybody who must sign, each once: the senders, the recipient, the callers of Seals.
    #[must_use]
    pub fn parties(&self) -> Vec<&MailboxAddress> {
        let callers = self.seals.iter().flat_map(Seals::callers);
        let mut seen = HashSet::new();
        self.senders.iter().chain([&self.recipient]).chain(callers).filter(|party| seen.insert(*party)).collect()
    }

    /// The name under which the key root is kept. A family's has a colon, which no project's name can have.
    #[must_use]
    pub fn root_name(&self) -> String {
        match &self.family {
            Some(family) => format!("family:{family}"),
            None => self.name.clone(),
        }
    }

    fn check(&self) -> Result<(), ProjectError> {
        let distinct: HashSet<_> = self.senders.iter().collect();
        let rules = [
            (self.form == 1, "this program knows form 1 only"),
            (is_name(&self.name), "name is 1 to 64 lower-case letters, digits and hyphens"),
            (self.family.as_deref().is_none_or(is_name), "family is 1 to 64 lower-case letters, digits and hyphens"),
            (!self.senders.is_empty() && self.senders.len() <= ITEMS_MAX, "senders are 1 to 1,000 addresses"),
            (distinct.len() == self.senders.len(), "a sender is named twice"),
            // Who may send may learn tokens of numbers of their choice; as recipient they would own the dictionary.
            (
                !distinct.contains(&self.recipient) || self.recipient_may_send,
                "the recipient cannot be a sender too, unless recipient_may_send is true",
            ),
            (self.valid.from <= self.valid.until, "valid.from is after valid.until"),
            (
                self.fields.len() <= ITEMS_MAX && (!self.fields.is_empty() || self.seals.is_some()),
                "fields are 1 to 1,000",
            ),
            (
                self.decode_key.as_deref().is_none_or(|pem| SealKey::from_pem(pem).is_ok_and(|key| key.is_sound())),
                "decode_key is no X25519 key in PEM, as openssl pkey -pubout writes it",
            ),
            (
                self.decode_key.is_some() == self.fields.iter().any(|field| field.action == ActionName::Escrow),
                "decode_key goes with escrow, and escrow needs it",
            ),
            (
                self.fields.is_empty() || self.fields.iter().any(|field| field.action != ActionName::Drop),
                "every field is dropped",
            ),
        ];
        if let Some((_, rule)) = rules.into_iter().find(|(holds, _)| !holds) {
            return Err(ProjectError::Rule(rule));
        }
        self.check_form()?;
        self.check_terms()?;
        self.check_exchange()?;
        self.check_split()?;
        let mut paths = HashSet::new();
        for field in &self.fields {
            let is_tree = self.format.is_some_and(FormatName::is_tree);
            let rule =
                if !paths.insert(&field.path) { Some("path is listed twice") } else { field.broken_rule(is_tree) };
            if let Some(rule) = rule.or_else(|| self.form_rule(field)) {
                return Err(ProjectError::Field { path: field.path.clone(), rule });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const ISSUED: &str = r#"
        name = "lab-registry"
        senders = ["NIHII-HOSPITAL:71000436"]
        recipient = "CBE:0123456749"
        valid = { from = "2026-01-01", until = "2030-12-31" }
        unlisted = "refuse"                  # or "drop"
        [[fields]]
        path = "niss"
        kind = "ssin"
        action = "pseudonym"
        [[fields]]
        path = "birth_date"
        kind = "date"
        action = "generalise"
        to = "year"
        [[fields]]
        path = "lab_value"
        action = "keep"
        [[fields]]
        path = "patient_no"
        action = "pseudonym"
        domain = "hospital-patient"
        scope = "sender"
    "#;

    /// The error of the document with one piece of text replaced.
    fn error_after(from: &str, to: &str) -> String {
        assert!(ISSUED.contains(from), "the document has {from}");
        ProjectDocument::parse(&ISSUED.replace(from, to)).unwrap_err().to_string()
    }

    #[test]
    fn the_published_document_is_read_with_the_safe_defaults() {
        let document = ProjectDocument::parse(ISSUED).unwrap();
        assert_eq!(document.unlisted, Unlisted::Refuse);
        assert_eq!(document.rows, Rows::Shuffle);
        assert_eq!(document.bad_rows, BadRows::RefuseBatch);
        assert_eq!(document.fields[2].kind, ValueKind::Text);
        assert_eq!(document.fields[1].to, Some(Coarseness::Year));
        assert_eq!(document.root_name(), "lab-registry");
    }

    #[test]
    fn a_missing_recipient_is_called_missing() {
        assert!(error_after("recipient = ", "#").contains("missing field `recipient`"));
    }

    #[test]
    fn a_misspelt_key_is_refused_and_the_error_lists_the_known_ones() {
        let error = error_after("unlisted =", "unlsited =");
        assert!(error.contains("unlsited") && error.contains("`unlisted`"), "{error}");
        let error = error_after("scope =", "scop =");
        assert!(error.contains("`scope`"), "{error}");
    }

    #[test]
    fn a_batch_in_place_of_a_document_is_refused_without_a_word_of_it() {
        for batch in [
            "85061511796,Janssens\n",
            "Janssens = \n",
            "name = 85061511796\n",
            "name = \"a\"\nversion = \"85061511796, expected Janssens\"\n",
            "{\"version\":\"85061511796\"}",
            "{\"name\":85061511796}",
            "{\"name\":\"Janssens\" 85061511796",
        ] {
            let error = ProjectDocument::parse(batch).unwrap_err().to_string();
            assert!(error.contains("line ") && !error.contains("8506151") && !error.contains("Janssens"), "{error}");
        }
        assert!(
            error_after("name = \"lab-registry\"", "name = 1")
                .contains("line 2: invalid type: integer, expected a string")
        );
    }

    #[test]
    fn contradictions_are_refused_with_their_rule() {
        for (from, to, expected) in [
            ("lab-registry", "Lab Registry", "name is"),
            ("CBE:0123456749", "NIHII-HOSPITAL:71000436", "cannot be a sender"),
            ("2030-12-31", "2025-12-31", "valid.from is after"),
            ("2030-12-31", "31/12/2030", "YYYY-MM-DD"),
            ("domain = \"hospital-patient\"", "", "needs a domain"),
            ("to = \"year\"", "", "generalise needs it"),
            ("to = \"year\"", "to = 2", "a date goes to"),
            ("kind = \"date\"", "", "a date goes to"),
            ("kind = \"date\"", "kind = \"postcode\"", "a postcode to"),
            ("path = \"lab_value\"", "path = \"niss\"", "listed twice"),
            ("path = \"lab_value\"", "path = \"lab..value\"", "without empty parts"),
            ("action = \"keep\"", "kind = \"ssin\"\naction = \"keep\"", "cannot be kept"),
            ("action = \"keep\"", "action = \"keep\"\ndomain = \"x\"", "domain goes with"),
            ("action = \"keep\"", "action = \"drop\"\nrequired = true", "cannot be required"),
            ("name =", "form = 2\nname =", "form 1 only"),
            ("71000436\"]", "71000436\", \"NIHII-HOSPITAL:71000436\"]", "named twice"),
            ("name =", "version = 0\nname =", "version counts from 1"),
            ("name =", "deliberation = \" \"\nname =", "deliberation is"),
            ("name =", "quota = { identifiers_per_day = 0 }\nname =", "a quota is at least 1"),
            (
                "name =",
                "certificates = { \"CBE:0123456749\" = \"0000000000000000000000000000000000000000000000000000000000000000\" }\nname =",
                "certificates names every party",
            ),
            (
                "[[fields]]\n        path = \"niss\"",
                "[seals]\nalgorithms = []\nencode = [\"CBE:0123456749\"]\n[[fields]]\n        path = \"niss\"",
                "seals.algorithms",
            ),
        ] {
            let error = error_after(from, to);
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn a_postcode_may_be_written_with_a_number_or_with_words() {
        for to in ["2", "\"2\"", "\"2 digits\""] {
            let text = ISSUED.replace("kind = \"date\"", "kind = \"postcode\"").replace("\"year\"", to);
            assert_eq!(ProjectDocument::parse(&text).unwrap().fields[1].to, Some(Coarseness::Digits(2)), "{to}");
        }
    }

    #[test]
    fn a_family_never_shares_its_root_with_a_project_of_that_name() {
        let text = ISSUED.replace("name =", "family = \"lab-registry\"\nname =");
        assert_ne!(ProjectDocument::parse(&text).unwrap().root_name(), "lab-registry");
    }

    #[test]
    fn the_form_has_a_json_schema() {
        let schema = serde_json::to_string(&schemars::schema_for!(ProjectDocument)).unwrap();
        assert!(schema.contains("\"refuse-batch\"") && schema.contains("\"additionalProperties\":false"));
    }
}
