//! The fields of a project document: what their values are and what becomes of them.
//!
//! | kind | values | |
//! | --- | --- | --- |
//! | `ssin` | national numbers, with or without punctuation | check digits are checked |
//! | `date` | `YYYY-MM-DD`, timestamps, and HL7's `YYYYMMDD…` | |
//! | `postcode` `nis` `age` `number` `sex` | Belgian or foreign postcodes, NIS codes, 0 to 130, decimals, a code for a sex | |
//! | `fhir-id` `fhir-reference` | a resource's id, and what refers to one | tokens stay valid FHIR and go on linking |
//! | `sealed` | content sealed for the recipient, `sealed_for` | the split mode: the TTP sees identifiers only |
//! | `row-number` | 32 hexadecimal digits, drawn at random by the sender's program | links the parts of a `split` batch |
//! | `text` | anything | the default |
//!
//! | action | gives | keys that go with it |
//! | --- | --- | --- |
//! | `pseudonym` | a token that the root can undo; with `format = "ssin"` another valid number | `domain` `scope` `prefix` `format` `name` `may_be_real` |
//! | `one-way` | a token that nobody can undo | `domain` `scope` `prefix` |
//! | `escrow` | a token that only the holder of the project's `decode_key` can undo | `domain` `scope` `prefix` |
//! | `random` | a token that is another one each time, so that nothing links | `prefix` |
//! | `generalise` | a coarser value | `to` |
//! | `bucket` | the interval that a number lies in | `edges` or `width` |
//! | `shift-dates` | the date moved by as many days as all dates of this patient | `days`, and the project's `patient` |
//! | `scrub-text` | free text without national numbers, telephone numbers, e-mail addresses and the patient's names | the project's `names` |
//! | `replace` | a constant, where the form of the document asks for something | `with` |
//! | `drop`, `keep` | nothing; the value as it is | |
//!
//! Failure behaviour: a rule that is broken is told as text; documents hold no patient data.

use crate::coarse::Area;
use crate::paths;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use zegel_crypto::envelope::SealedFor;

/// One field as it is written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldDocument {
    /// A CSV column, or a dotted path; a path through an array holds for each element.
    pub path: String,
    /// What the values are.
    #[serde(default)]
    pub kind: ValueKind,
    /// What becomes of them.
    pub action: ActionName,
    /// With `generalise`: how coarse.
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
    /// With `pseudonym`: the token has the form of what it stands for.
    #[serde(default)]
    pub format: Option<TokenFormat>,
    /// With `format`: what the column is called in what is delivered.
    #[serde(default)]
    pub name: Option<String>,
    /// With `format`: the officer knows that a token may be the number of a living person.
    #[serde(default)]
    pub may_be_real: bool,
    /// With `shift-dates`: at most so many days, 1 to 3,650; 365 without it.
    #[serde(default)]
    pub days: Option<u16>,
    /// With `bucket`: where one interval ends and the next begins, ascending.
    #[serde(default)]
    pub edges: Option<Vec<f64>>,
    /// With `bucket`: intervals of this width, from 0 on.
    #[serde(default)]
    pub width: Option<f64>,
    /// With `replace`: by what.
    #[serde(default)]
    pub with: Option<String>,
    /// With `kind = "sealed"`: the recipient's certificate in PEM, whom alone the content may be sealed for.
    #[serde(default)]
    pub sealed_for: Option<String>,
    /// In fixed-width text: first and last character, from 1 on.
    #[serde(default)]
    pub at: Option<[usize; 2]>,
}

/// What a field's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ValueKind {
    /// A national number (NISS, INSZ), with or without punctuation; its check digits are checked.
    Ssin,
    /// `YYYY-MM-DD`, an RFC 3339 or XML timestamp, or `YYYYMMDD` with or without a time.
    Date,
    /// Letters and digits, at most 10, at least one digit.
    Postcode,
    /// The NIS code of a Belgian municipality: 5 digits.
    Nis,
    /// Whole years, 0 to 130.
    Age,
    /// A decimal number.
    Number,
    /// A code or word for a sex.
    Sex,
    /// The id of a FHIR resource.
    FhirId,
    /// What refers to a FHIR resource, `fullUrl` included.
    FhirReference,
    /// Sealed end to end for the recipient: base64 of an unsigned CMS EnvelopedData; it passes unopened.
    Sealed,
    /// Links a row with the part that is sealed: 32 lower-case hexadecimal digits, drawn at random.
    RowNumber,
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
            ValueKind::Nis => "nis",
            ValueKind::Age => "age",
            ValueKind::Number => "number",
            ValueKind::Sex => "sex",
            // One domain, so that references link with ids unless the document says otherwise.
            ValueKind::FhirId | ValueKind::FhirReference => "fhir-id",
            ValueKind::Sealed => "sealed",
            ValueKind::RowNumber => "row-number",
            ValueKind::Text => "text",
        }
    }

    /// Whether all values can be written out, and so told from how often each token comes.
    fn is_small(self) -> bool {
        matches!(
            self,
            ValueKind::Date
                | ValueKind::Postcode
                | ValueKind::Nis
                | ValueKind::Age
                | ValueKind::Number
                | ValueKind::Sex
        )
    }

    fn is_fhir(self) -> bool {
        matches!(self, ValueKind::FhirId | ValueKind::FhirReference)
    }
}

/// What becomes of a field's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ActionName {
    /// A token that whoever holds the project's root can undo (AES-256-SIV, or FF1 with `format`).
    Pseudonym,
    /// A token that nobody can undo (HMAC-SHA-256).
    OneWay,
    /// A token that links like a one-way token, and holds the value sealed for the project's decode role (HMAC-SHA-256, HPKE).
    Escrow,
    /// A token that is another one each time (AES-256-GCM-SIV).
    Random,
    /// Left out.
    Drop,
    /// Delivered as it is.
    Keep,
    /// Made coarser.
    Generalise,
    /// Moved by as many days as all dates of the patient.
    ShiftDates,
    /// The interval of a number.
    Bucket,
    /// Free text without identifiers.
    ScrubText,
    /// A constant.
    Replace,
}

impl ActionName {
    /// Whether it gives tokens.
    #[must_use]
    pub fn is_token(self) -> bool {
        matches!(self, ActionName::Random) || self.links()
    }

    /// Whether equal values give equal tokens.
    #[must_use]
    pub fn links(self) -> bool {
        matches!(self, ActionName::Pseudonym | ActionName::OneWay | ActionName::Escrow)
    }
}

/// The form of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TokenFormat {
    /// Another valid national number (FF1 over the ranked numbers).
    Ssin,
}

/// What a value is made coarser to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coarseness {
    /// A date's year.
    Year,
    /// A date's year and month.
    Month,
    /// So many years together, of a date or an age.
    Years(u16),
    /// A postcode's first characters.
    Digits(usize),
    /// A part of the country, of a postcode or NIS code.
    Area(Area),
}

/// As a document writes it.
impl std::fmt::Display for Coarseness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Coarseness::Year => f.write_str("year"),
            Coarseness::Month => f.write_str("month"),
            Coarseness::Years(years) => write!(f, "{years} years"),
            Coarseness::Digits(digits) => write!(f, "{digits} digits"),
            Coarseness::Area(Area::Region) => f.write_str("region"),
            Coarseness::Area(Area::Province) => f.write_str("province"),
            Coarseness::Area(Area::Arrondissement) => f.write_str("arrondissement"),
        }
    }
}

impl<'de> Deserialize<'de> for Coarseness {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(usize),
            Word(String),
        }
        let word = match Written::deserialize(deserializer)? {
            Written::Number(digits) => return Ok(Coarseness::Digits(digits)),
            Written::Word(word) => word,
        };
        let number = |unit: &str| word.replace(unit, "").trim().parse::<u16>().ok();
        match word.as_str() {
            "year" => Some(Coarseness::Year),
            "month" => Some(Coarseness::Month),
            "arrondissement" => Some(Coarseness::Area(Area::Arrondissement)),
            "province" => Some(Coarseness::Area(Area::Province)),
            "region" => Some(Coarseness::Area(Area::Region)),
            years if years.ends_with("years") => number("years").map(Coarseness::Years),
            _ => number("digits").map(|digits| Coarseness::Digits(usize::from(digits))),
        }
        .ok_or_else(|| {
            serde::de::Error::custom(
                "`to` is \"year\", \"month\", \"5 years\", a number of digits, \"arrondissement\", \"province\" or \"region\"",
            )
        })
    }
}

/// Whose numbers they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ScopeName {
    /// Each sender issues its own.
    Sender,
}

/// Longest name, domain and prefix.
pub(crate) const NAME_MAX: usize = 64;
/// Most first digits of a postcode that still make it coarser somewhere (ZIP+4 to its area).
const DIGITS_MAX: usize = 5;
/// Ten years: more would take a patient into another age.
const DAYS_MAX: u16 = 3_650;
/// Moves within a year hide the day and keep the season of nobody.
pub(crate) const DAYS_DEFAULT: u16 = 365;
/// Edges of intervals; more would be as fine as the number itself.
const EDGES_MAX: usize = 1_000;

impl FieldDocument {
    /// A text that passes as it is.
    pub(crate) fn kept(path: &str) -> FieldDocument {
        FieldDocument {
            path: path.to_owned(),
            kind: ValueKind::Text,
            action: ActionName::Keep,
            to: None,
            domain: None,
            scope: None,
            prefix: None,
            required: false,
            format: None,
            name: None,
            may_be_real: false,
            days: None,
            edges: None,
            width: None,
            with: None,
            sealed_for: None,
            at: None,
        }
    }

    /// The column's name in what is delivered.
    #[must_use]
    pub fn output_name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.path)
    }

    /// The first rule that the field breaks.
    pub(crate) fn broken_rule(&self, is_tree: bool) -> Option<&'static str> {
        self.token_rule().or_else(|| self.value_rule(is_tree)).or_else(|| self.format_rule())
    }

    fn token_rule(&self) -> Option<&'static str> {
        let links = self.action.links();
        let is_token = self.action.is_token();
        let has_domain = self.domain.is_some() || self.kind != ValueKind::Text;
        let rules = [
            (!links || has_domain, "a token of a text needs a domain: which numbers are these?"),
            (
                !links || !self.kind.is_small(),
                "too few different values: how often each token comes would tell them; generalise, bucket, or random",
            ),
            (links || self.domain.is_none(), "domain goes with pseudonym, one-way and escrow only"),
            (self.domain.as_deref().is_none_or(is_name), "domain is 1 to 64 lower-case letters, digits and hyphens"),
            (links || self.scope.is_none(), "scope goes with pseudonym, one-way and escrow only"),
            (is_token || self.prefix.is_none(), "prefix goes with pseudonym, one-way, escrow and random only"),
            (self.prefix.as_deref().is_none_or(is_prefix), "prefix is 1 to 64 characters"),
            (!self.kind.is_fhir() || self.prefix.is_none(), "references know their prefixes by themselves"),
            (!self.kind.is_fhir() || self.action != ActionName::Random, "an id that changes each time links nothing"),
            (!self.kind.is_fhir() || self.action != ActionName::Escrow, "a sealed value does not fit an id of FHIR"),
        ];
        first_broken(&rules)
    }

    fn value_rule(&self, is_tree: bool) -> Option<&'static str> {
        use ActionName::{Bucket, Drop, Generalise, Keep, Replace, ScrubText, ShiftDates};
        let is = |action| self.action == action;
        let is_sealed = self.kind == ValueKind::Sealed;
        let edges = self.edges.as_deref().unwrap_or_default();
        let rules = [
            (
                is_path(&self.path) && (!is_tree || paths::split(&self.path).is_some()),
                "path is 1 to 255 characters, without empty parts",
            ),
            (is(Generalise) == self.to.is_some(), "`to` goes with generalise, and generalise needs it"),
            (
                !is(Generalise) || self.can_generalise(),
                "a date goes to \"year\", \"month\" or \"5 years\", an age to \"5 years\", a postcode to 1 to 5 digits or \
                 \"province\", a NIS code to \"arrondissement\", \"province\" or \"region\"",
            ),
            (self.kind != ValueKind::Ssin || !is(Keep), "a national number cannot be kept"),
            (!is(Drop) || !self.required, "what is dropped cannot be required"),
            (!is(ShiftDates) || self.kind == ValueKind::Date, "shift-dates goes with dates"),
            (is(ShiftDates) || self.days.is_none(), "days goes with shift-dates only"),
            (self.days.is_none_or(|days| (1..=DAYS_MAX).contains(&days)), "days is 1 to 3650"),
            (!is(Bucket) || self.kind == ValueKind::Number, "bucket goes with numbers"),
            (is(Bucket) == (self.edges.is_some() || self.width.is_some()), "bucket needs edges or width"),
            (self.edges.is_none() || self.width.is_none(), "a bucket has edges or a width, not both"),
            (
                self.edges.is_none() || (1..=EDGES_MAX).contains(&edges.len()) && edges.is_sorted_by(|a, b| a < b),
                "edges are 1 to 1,000 ascending numbers",
            ),
            (self.width.is_none_or(|width| width.is_finite() && width > 0.0), "width is over 0"),
            (!is(ScrubText) || self.kind == ValueKind::Text, "scrub-text goes with text"),
            (is(Replace) == self.with.is_some(), "`with` goes with replace, and replace needs it"),
            (!is_sealed || is(Keep) || is(Drop), "what is sealed is kept or dropped"),
            (
                (is_sealed && is(Keep)) == self.sealed_for.is_some(),
                "sealed_for goes with sealed values, and needs the recipient's certificate",
            ),
            (
                self.sealed_for.as_deref().is_none_or(|pem| SealedFor::from_pem(pem).is_ok()),
                "sealed_for is not a certificate in PEM",
            ),
        ];
        first_broken(&rules)
    }

    fn format_rule(&self) -> Option<&'static str> {
        let is_ssin = self.kind == ValueKind::Ssin && self.action == ActionName::Pseudonym;
        let renamed = self.name.as_ref().is_some_and(|name| *name != self.path && is_path(name));
        let has_format = self.format.is_some();
        let at = self.at.is_none_or(|[first, last]| 1 <= first && first <= last && last <= 1 << 16);
        let rules = [
            (!has_format || is_ssin, "format = \"ssin\" goes with pseudonyms of national numbers"),
            (
                !has_format || renamed && self.may_be_real,
                "a token in the form of a national number may be a living person's: give the column another `name` and \
                 confirm with may_be_real = true",
            ),
            (has_format || self.name.is_none() && !self.may_be_real, "name and may_be_real go with format"),
            (!has_format || self.prefix.is_none(), "prefix does not go with format"),
            (at, "at is the first and the last character, from 1 on"),
        ];
        first_broken(&rules)
    }

    fn can_generalise(&self) -> bool {
        match (self.kind, self.to) {
            (ValueKind::Date, Some(Coarseness::Year | Coarseness::Month)) => true,
            (ValueKind::Date | ValueKind::Age, Some(Coarseness::Years(years))) => (2..=100).contains(&years),
            (ValueKind::Postcode, Some(Coarseness::Digits(digits))) => (1..=DIGITS_MAX).contains(&digits),
            (ValueKind::Postcode, Some(Coarseness::Area(Area::Province))) => true,
            (ValueKind::Nis, Some(Coarseness::Area(_))) => true,
            _ => false,
        }
    }
}

fn first_broken(rules: &[(bool, &'static str)]) -> Option<&'static str> {
    rules.iter().find(|(holds, _)| !holds).map(|(_, rule)| *rule)
}

/// Whether a project, family or domain may have this name: 1 to 64 lower-case letters, digits and hyphens, no hyphen first.
/// So it is safe as the name of a folder.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('-')
}

fn is_path(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.split('.').all(|part| !part.is_empty())
}

fn is_prefix(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len())
}
