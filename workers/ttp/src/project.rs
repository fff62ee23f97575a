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
//! [[fields]]
//! path = "niss"                # a CSV column, or a dotted path in NDJSON
//! kind = "ssin"                # ssin, date, postcode, text (the default)
//! action = "pseudonym"         # pseudonym, one-way, drop, keep, generalise
//! required = true              # an empty value makes a bad row
//! ```
//! `to` goes with `generalise`: `"year"` or `"month"` for a date, a number of first digits for a postcode. `domain` goes
//! with tokens: equal values of one domain get equal tokens; it defaults to the kind and must be given for text.
//! `scope = "sender"` keeps numbers that each sender issues itself apart. `prefix = "Patient/"` is taken off before the
//! value becomes a token and put before the token again, so that references link with the identifier they hold.
//! `family = "…"` lets documents that name the same family and recipient share pseudonyms: they share one key root.
//!
//! Failure behaviour: an unknown key, a contradiction or a field that would let an identifier pass is refused with the
//! rule ([`ProjectError`]); documents hold no patient data, so errors quote paths.

use chrono::NaiveDate;
use schemars::JsonSchema;
use schemas::MailboxAddress;
use serde::{Deserialize, Deserializer};
use std::collections::HashSet;

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

/// A project document as it is written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectDocument {
    /// Version of the form; 1.
    #[serde(default = "first_form")]
    pub form: u32,
    /// The project's name: 1 to 64 lower-case letters, digits and hyphens.
    pub name: String,
    /// Documents of one family and recipient share pseudonyms.
    #[serde(default)]
    pub family: Option<String>,
    /// Who may send, 1 to 1,000.
    pub senders: Vec<MailboxAddress>,
    /// Who gets the result; no sender.
    #[serde(deserialize_with = "address")]
    #[schemars(with = "MailboxAddress")]
    pub recipient: MailboxAddress,
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
    /// The fields, 1 to 1,000; CSV is delivered in their order.
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

/// One field as it is written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldDocument {
    /// A CSV column, or a dotted path in NDJSON; a path through an array holds for each element.
    pub path: String,
    /// What the values are.
    #[serde(default)]
    pub kind: ValueKind,
    /// What becomes of them.
    pub action: ActionName,
    /// With `generalise`: `year`, `month`, or how many first digits.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub to: Option<Coarseness>,
    /// With tokens: fields of one domain link.
    #[serde(default)]
    pub domain: Option<String>,
    /// With tokens: keep the senders' own numbers apart.
    #[serde(default)]
    pub scope: Option<ScopeName>,
    /// With tokens: text before the identifier, which stays.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Whether an empty value makes a bad row.
    #[serde(default)]
    pub required: bool,
}

/// What a field's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ValueKind {
    /// A national number (NISS, INSZ), with or without punctuation; its check digits are checked.
    Ssin,
    /// `YYYY-MM-DD` or an RFC 3339 timestamp.
    Date,
    /// Letters and digits, at most 10, at least one digit.
    Postcode,
    /// Anything.
    #[default]
    Text,
}

impl ValueKind {
    /// As it is written in documents; the default domain.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ValueKind::Ssin => "ssin",
            ValueKind::Date => "date",
            ValueKind::Postcode => "postcode",
            ValueKind::Text => "text",
        }
    }
}

/// What becomes of a field's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ActionName {
    /// A token that whoever holds the project's root can undo (AES-256-SIV).
    Pseudonym,
    /// A token that nobody can undo (HMAC-SHA-256).
    OneWay,
    /// Left out.
    Drop,
    /// Delivered as it is.
    Keep,
    /// Made coarser.
    Generalise,
}

/// What a value is made coarser to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coarseness {
    /// A date's year.
    Year,
    /// A date's year and month.
    Month,
    /// A postcode's first characters.
    Digits(usize),
}

impl<'de> Deserialize<'de> for Coarseness {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(usize),
            Word(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(digits) => Ok(Coarseness::Digits(digits)),
            Written::Word(word) => match word.as_str() {
                "year" => Ok(Coarseness::Year),
                "month" => Ok(Coarseness::Month),
                digits => digits
                    .replace("digits", "")
                    .trim()
                    .parse()
                    .map(Coarseness::Digits)
                    .map_err(|_| serde::de::Error::custom("`to` is \"year\", \"month\" or a number of digits")),
            },
        }
    }
}

/// Whose numbers they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ScopeName {
    /// Each sender issues its own.
    Sender,
}

/// Most senders and most fields of a project: far above any agreement, low enough to be read at start.
const ITEMS_MAX: usize = 1_000;
/// Longest name, domain and prefix.
const NAME_MAX: usize = 64;
/// Most first digits of a postcode that still make it coarser somewhere (ZIP+4 to its area).
const DIGITS_MAX: usize = 5;

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
    /// Reads and checks a document.
    ///
    /// # Errors
    /// [`ProjectError`] with the first rule that is broken.
    pub fn parse(toml: &str) -> Result<ProjectDocument, ProjectError> {
        let document: ProjectDocument =
            toml::from_str(toml).map_err(|error| ProjectError::Form(error.to_string().trim().to_owned()))?;
        document.check()?;
        Ok(document)
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
            (!distinct.contains(&self.recipient), "the recipient cannot be a sender too"),
            (self.valid.from <= self.valid.until, "valid.from is after valid.until"),
            (!self.fields.is_empty() && self.fields.len() <= ITEMS_MAX, "fields are 1 to 1,000"),
            (self.fields.iter().any(|field| field.action != ActionName::Drop), "every field is dropped"),
        ];
        if let Some((_, rule)) = rules.into_iter().find(|(holds, _)| !holds) {
            return Err(ProjectError::Rule(rule));
        }
        let mut paths = HashSet::new();
        for field in &self.fields {
            let rule = if paths.insert(&field.path) { field.broken_rule() } else { Some("path is listed twice") };
            if let Some(rule) = rule {
                return Err(ProjectError::Field { path: field.path.clone(), rule });
            }
        }
        Ok(())
    }
}

impl FieldDocument {
    fn broken_rule(&self) -> Option<&'static str> {
        use ActionName::{Drop, Generalise, Keep, OneWay, Pseudonym};
        let is_token = matches!(self.action, Pseudonym | OneWay);
        let is_generalised = self.action == Generalise;
        let has_domain = self.domain.is_some() || self.kind != ValueKind::Text;
        let rules = [
            (is_path(&self.path), "path is 1 to 255 characters, without empty parts"),
            (!is_token || has_domain, "a token of a text needs a domain: which numbers are these?"),
            (is_token || self.domain.is_none(), "domain goes with pseudonym and one-way only"),
            (self.domain.as_deref().is_none_or(is_name), "domain is 1 to 64 lower-case letters, digits and hyphens"),
            (is_token || self.scope.is_none(), "scope goes with pseudonym and one-way only"),
            (is_token || self.prefix.is_none(), "prefix goes with pseudonym and one-way only"),
            (self.prefix.as_deref().is_none_or(is_prefix), "prefix is 1 to 64 characters"),
            (is_generalised == self.to.is_some(), "`to` goes with generalise, and generalise needs it"),
            (
                !is_generalised || self.can_generalise(),
                "a date goes to \"year\" or \"month\", a postcode to 1 to 5 digits",
            ),
            (self.kind != ValueKind::Ssin || self.action != Keep, "a national number cannot be kept"),
            (self.action != Drop || !self.required, "what is dropped cannot be required"),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map(|(_, rule)| rule)
    }

    fn can_generalise(&self) -> bool {
        match (self.kind, self.to) {
            (ValueKind::Date, Some(Coarseness::Year | Coarseness::Month)) => true,
            (ValueKind::Postcode, Some(Coarseness::Digits(digits))) => (1..=DIGITS_MAX).contains(&digits),
            _ => false,
        }
    }
}

fn is_name(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('-')
}

fn is_path(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.split('.').all(|part| !part.is_empty())
}

fn is_prefix(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len())
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
