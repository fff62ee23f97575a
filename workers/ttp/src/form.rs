//! What a project document says of the form of its batches: format, text, rows, and what a row says of its patient.
//!
//! Failure behaviour: a contradiction is refused with its rule when the document is checked.

use crate::fields::{ActionName, FieldDocument, ValueKind};
use crate::project::{ProjectDocument, ProjectError, Rows};
use schemars::JsonSchema;
use serde::Deserialize;

/// The form of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FormatName {
    /// Delimited text with a header: comma, semicolon, tab or bar.
    Csv,
    /// Text in which each column has its place (`at`), without a header.
    FixedWidth,
    /// One JSON object a line.
    Ndjson,
    /// An array of JSON objects, or objects one after another; what goes out is NDJSON.
    Json,
    /// FHIR R4 in JSON: a bundle, one resource, or one resource a line.
    Fhir,
    /// A KMEHR message; its folders are the rows.
    Kmehr,
    /// Another XML document; `record` names the element that is a row.
    Xml,
    /// HL7 v2 messages in ER7 (pipes and hats).
    Hl7v2,
}

impl FormatName {
    /// Whether paths are patterns in a tree.
    #[must_use]
    pub fn is_tree(self) -> bool {
        matches!(self, FormatName::Fhir | FormatName::Kmehr | FormatName::Xml | FormatName::Hl7v2)
    }
}

/// How text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TextDocument {
    /// How letters are written as bytes.
    pub encoding: Encoding,
    /// What parts columns; found by the header if not stated.
    pub delimiter: Option<Delimiter>,
}

/// How letters are written as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
pub enum Encoding {
    /// UTF-8.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// ISO 8859-1.
    #[serde(rename = "latin-1")]
    Latin1,
    /// Microsoft's extension of ISO 8859-1.
    #[serde(rename = "windows-1252")]
    Windows1252,
}

/// What parts columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Delimiter {
    /// A comma.
    #[serde(rename = ",")]
    Comma,
    /// A semicolon.
    #[serde(rename = ";")]
    Semicolon,
    /// A tab.
    #[serde(rename = "\t", alias = "tab")]
    Tab,
    /// A vertical bar.
    #[serde(rename = "|")]
    Bar,
}

/// Rows that would tell too few patients apart are held back.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SmallCells {
    /// Listed paths whose delivered values together may tell who somebody is.
    pub quasi: Vec<String>,
    /// The fewest distinct patients that a release may add to a class; 2 to 1,000.
    #[serde(default = "five")]
    pub k: u32,
    /// A listed path whose value is not to be learned from knowing the class.
    #[serde(default)]
    pub sensitive: Option<String>,
    /// The fewest different sensitive values among the patients that a release adds to a class.
    #[serde(default)]
    pub l: Option<u32>,
}

fn five() -> u32 {
    5
}

impl ProjectDocument {
    /// Rules about the form of batches and about what a row says of its patient.
    pub(crate) fn check_form(&self) -> Result<(), ProjectError> {
        let is = |format| self.format == Some(format);
        let is_listed = |path: &String| self.fields.iter().any(|field| field.path == *path);
        let has = |action| self.fields.iter().any(|field| field.action == action);
        let cells = self.small_cells.as_ref();
        let rules = [
            (
                self.text.delimiter.is_none() || self.format.is_none_or(|_| is(FormatName::Csv)),
                "delimiter goes with csv",
            ),
            (is(FormatName::Xml) == self.record.is_some(), "record goes with xml, and xml needs it"),
            (self.patient.iter().chain(&self.names).all(is_listed), "patient and names are paths of fields"),
            (self.patient.len() + self.names.len() <= 100, "patient and names are at most 100 paths"),
            (!has(ActionName::ShiftDates) || !self.patient.is_empty(), "shift-dates needs `patient`"),
            (cells.is_none() || !self.patient.is_empty(), "small_cells needs `patient`"),
            (cells.is_none() || self.rows == Rows::Shuffle, "small_cells goes with shuffled rows"),
            (cells.is_none() || !is(FormatName::Fhir), "small_cells needs rows that hold their patient: not fhir"),
            (cells.is_none_or(|cells| (2..=1_000).contains(&cells.k)), "small_cells.k is 2 to 1,000"),
            (
                cells.is_none_or(|cells| cells.quasi.iter().chain(&cells.sensitive).all(is_listed)),
                "small_cells names paths of fields",
            ),
            (cells.is_none_or(|cells| !cells.quasi.is_empty()), "small_cells needs quasi-identifiers"),
            (
                cells.is_none_or(|cells| {
                    cells.l.is_some() == cells.sensitive.is_some() && cells.l.is_none_or(|l| l >= 2)
                }),
                "small_cells: l goes with sensitive and is at least 2",
            ),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(ProjectError::Rule(rule)),
            None => Ok(()),
        }
    }

    /// Rules about a field in the form of this project's batches.
    pub(crate) fn form_rule(&self, field: &FieldDocument) -> Option<&'static str> {
        let is_table = self.format.is_none_or(|format| !format.is_tree());
        let is_fixed = self.format == Some(FormatName::FixedWidth);
        let is_fhir_kind = matches!(field.kind, ValueKind::FhirId | ValueKind::FhirReference);
        let names_sender = match self.format {
            Some(FormatName::Kmehr) => field.path.starts_with("header.sender"),
            Some(FormatName::Hl7v2) => field.path.starts_with("MSH.3") || field.path.starts_with("MSH.4"),
            _ => false,
        };
        let rules = [
            (field.format.is_none() || is_table, "format goes with tables and ndjson only"),
            (field.at.is_some() == is_fixed, "at goes with fixed-width, and fixed-width needs it"),
            (
                !is_fhir_kind
                    || self.format.is_none_or(|format| matches!(format, FormatName::Fhir | FormatName::Ndjson)),
                "kind goes with fhir",
            ),
            (!names_sender || field.action != ActionName::Keep, "this names the sender and cannot be kept"),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map(|(_, rule)| rule)
    }
}
