//! The terms of an agreement beside its fields: direction, quotas, who may use Seals, whose certificates sign.
//!
//! ```toml
//! version = 2                                 # one more than the version that is replaced
//! deliberation = "21/123 of 7 May 2024"
//! direction = "one-way"                       # or "with-return"
//! quota = { identifiers_per_day = 50_000 }    # distinct ones, for each sender
//! [certificates]
//! "NIHII-HOSPITAL:71000436" = "…"             # SHA-256 of the certificate's DER
//! [seals]
//! algorithms = ["SIV", "HMAC"]
//! encode = ["NIHII-HOSPITAL:71000436"]
//! decode = ["CBE:0123456749"]
//! purpose = "invoicing, article 3 of the deliberation"
//! ```

use super::{ProjectDocument, ProjectError};
use schemars::JsonSchema;
use schemas::MailboxAddress;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Distinct identifiers that one sender may have encoded in a day where the document says nothing: more than the largest group
/// of hospitals has patients, and a month's work for whoever wants the tokens of all 73 million numbers.
pub const IDENTIFIERS_PER_DAY: u64 = 2_000_000;
/// Distinct values that one caller may have encoded by Seals in a day where the document says nothing.
pub const ENCODE_PER_DAY: u64 = 100_000;
/// Values that one caller may have decoded by Seals in a day where the document says nothing.
pub const DECODE_PER_DAY: u64 = 1_000;
/// Most callers of Seals: as many as a project has senders.
const CALLERS_MAX: usize = 1_000;
/// Longest citation and purpose.
const TEXT_MAX: usize = 256;

/// Which way rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From the senders to the recipient.
    #[default]
    OneWay,
    /// The recipient may send enriched rows back to the sender whom it does not know.
    WithReturn,
}

/// How much one sender may have encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Distinct identifiers in a day (UTC), counted over all its batches.
    #[serde(default = "identifiers_per_day")]
    pub identifiers_per_day: u64,
}

impl Default for Quota {
    fn default() -> Quota {
        Quota { identifiers_per_day: IDENTIFIERS_PER_DAY }
    }
}

/// Who may use the synchronous service under this agreement, and how.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Seals {
    /// Which algorithms may be asked for.
    pub algorithms: Vec<Algorithm>,
    /// Who may encode.
    pub encode: Vec<MailboxAddress>,
    /// Who may decode; nobody where it is left out.
    #[serde(default)]
    pub decode: Vec<MailboxAddress>,
    /// What decoding is for, as the deliberation says; needed where anybody may decode.
    #[serde(default)]
    pub purpose: Option<String>,
    /// Distinct values that one caller may have encoded in a day (UTC).
    #[serde(default = "encode_per_day")]
    pub encode_per_day: u64,
    /// Values that one caller may have decoded in a day (UTC).
    #[serde(default = "decode_per_day")]
    pub decode_per_day: u64,
}

/// An algorithm of Seals, by its `AlgorithmCode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    /// Deterministic and reversible: AES-256-SIV.
    Siv,
    /// Deterministic and one-way: HMAC-SHA-256.
    Hmac,
    /// Randomised and reversible: AES-256-GCM-SIV under a random nonce.
    Gcm,
    /// Deterministic, reversible and of the same form: FF1 over decimal digits. Authenticates nothing, and does not rotate.
    Ff1,
}

impl Seals {
    /// Everybody who may call.
    pub fn callers(&self) -> impl Iterator<Item = &MailboxAddress> {
        self.encode.iter().chain(&self.decode)
    }
}

impl ProjectDocument {
    pub(super) fn check_terms(&self) -> Result<(), ProjectError> {
        let parties: HashSet<_> = self.parties().into_iter().collect();
        let certified = |wanted: &HashSet<&MailboxAddress>| self.certificates.keys().collect::<HashSet<_>>() == *wanted;
        let text = |text: &Option<String>| text.as_deref().is_none_or(is_text);
        let quotas = [Some(self.quota.identifiers_per_day), self.seals.as_ref().map(|seals| seals.encode_per_day)];
        let rules = [
            (self.version >= 1, "version counts from 1"),
            (text(&self.deliberation), "deliberation is 1 to 256 characters"),
            (self.certificates.is_empty() || certified(&parties), "certificates names every party, and nobody else"),
            (!self.signed || !self.certificates.is_empty(), "signed batches need certificates"),
            (quotas.into_iter().flatten().all(|quota| quota > 0), "a quota is at least 1"),
        ];
        let seals = self.seals.iter().flat_map(Seals::rules);
        match rules.into_iter().chain(seals).find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(ProjectError::Rule(rule)),
            None => Ok(()),
        }
    }
}

impl Seals {
    fn rules(&self) -> [(bool, &'static str); 6] {
        let distinct: HashSet<_> = self.algorithms.iter().collect();
        let size = |callers: &[MailboxAddress]| callers.len() <= CALLERS_MAX;
        [
            (
                !distinct.is_empty() && distinct.len() == self.algorithms.len(),
                "seals.algorithms names at least one algorithm, each once",
            ),
            (!self.encode.is_empty() && size(&self.encode), "seals.encode names 1 to 1,000 addresses"),
            (size(&self.decode), "seals.decode names at most 1,000 addresses"),
            (self.purpose.as_deref().is_none_or(is_text), "seals.purpose is 1 to 256 characters"),
            (
                self.decode.is_empty() || self.purpose.is_some(),
                "a right to decode needs the purpose that the deliberation names",
            ),
            (
                self.decode.is_empty() || self.algorithms.iter().any(|algorithm| *algorithm != Algorithm::Hmac),
                "nothing that HMAC encodes can be decoded",
            ),
        ]
    }
}

fn is_text(text: &str) -> bool {
    (1..=TEXT_MAX).contains(&text.trim().chars().count())
}

fn identifiers_per_day() -> u64 {
    IDENTIFIERS_PER_DAY
}

fn encode_per_day() -> u64 {
    ENCODE_PER_DAY
}

fn decode_per_day() -> u64 {
    DECODE_PER_DAY
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SEALS: &str = r#"
        name = "invoices"
        senders = ["NIHII-HOSPITAL:71000436"]
        recipient = "CBE:0123456749"
        valid = { from = "2026-01-01", until = "2030-12-31" }
        [seals]
        algorithms = ["SIV", "HMAC"]
        encode = ["NIHII-HOSPITAL:71000436"]
        decode = ["CBE:0123456749"]
        purpose = "invoicing"
    "#;

    #[test]
    fn a_project_for_seals_needs_no_fields_and_its_callers_are_parties() {
        let document = ProjectDocument::parse(SEALS).unwrap();
        assert_eq!(document.parties().len(), 2);
        let wider = SEALS.replace("decode = [", "decode = [\"NIHII-HOSPITAL:71011720\", ");
        assert_eq!(ProjectDocument::parse(&wider).unwrap().parties().len(), 3, "who decodes need not sign");
        assert_eq!(document.quota.identifiers_per_day, IDENTIFIERS_PER_DAY);
    }

    #[test]
    fn a_right_to_decode_without_a_purpose_or_with_nothing_to_decode_is_refused() {
        for (from, to, expected) in [
            ("purpose = \"invoicing\"", "", "needs the purpose"),
            ("\"SIV\", ", "", "nothing that HMAC"),
            ("\"SIV\", ", "\"HMAC\", ", "each once"),
            ("\"SIV\"", "\"MD5\"", "unknown variant"),
        ] {
            let error = ProjectDocument::parse(&SEALS.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn json_is_read_like_toml() {
        let json = serde_json::to_string(&toml::from_str::<toml::Value>(SEALS).unwrap()).unwrap();
        assert_eq!(ProjectDocument::parse(&json).unwrap().name, "invoices");
        assert!(ProjectDocument::parse(&json.replace("\"name\"", "\"nmae\"")).is_err());
    }
}
