//! The terms of an exchange: what may come back and until when, and when what came in is handed over.
//!
//! ```toml
//! direction = "with-return"
//! returns = { fields = ["risk", "model"], within_days = 30 }    # what the recipient may add, and how long a handle lives
//! release = { min_senders = 3, max_age_minutes = 30, at_limit = "refuse" }
//! ```
//! Without `release` a batch is handed over as soon as it is ready: its time then says who sent it to whoever sees when hospitals send.

use super::{ProjectDocument, ProjectError};
use crate::paths;
use crate::project::terms::Direction;
use crate::row_number::COLUMN;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::HashSet;

/// A month: a study's model has run by then, and a handle that is never used does not lie about for ever.
const WITHIN_DAYS: u16 = 30;
/// A year and a day.
const WITHIN_DAYS_MAX: u16 = 366;
/// Most fields that may be added: as many as a project lists.
const FIELDS_MAX: usize = 1_000;
/// Half an hour: a quarter of the time in which every batch must have its answer.
const MAX_AGE_MINUTES: u16 = 30;
/// An hour: as much is left for a recipient's box that is full.
const MAX_AGE_MINUTES_MAX: u16 = 60;

/// What may come back.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Returns {
    /// Columns or paths that the recipient may add to rows; none if not stated.
    #[serde(default)]
    pub fields: Vec<String>,
    /// Days until a handle expires, 1 to 366.
    #[serde(default = "within_days")]
    pub within_days: u16,
}

impl Default for Returns {
    fn default() -> Returns {
        Returns { fields: Vec::new(), within_days: WITHIN_DAYS }
    }
}

/// Most senders that a batch may have to wait for: more never come together within the hour.
const SENDERS_MAX: usize = 20;

/// When batches are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Batches are held until they come from so many different senders, 2 to 20.
    pub min_senders: u16,
    /// Minutes after which a batch is held no longer, 1 to 60.
    #[serde(default = "max_age_minutes")]
    pub max_age_minutes: u16,
    /// What becomes of batches when that time comes and there are too few senders.
    #[serde(default)]
    pub at_limit: AtLimit,
}

/// What becomes of batches that were held for as long as they may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AtLimit {
    /// They are refused; nothing was handed over.
    #[default]
    Refuse,
    /// They are handed over, and the project's report says among how few.
    Release,
}

fn within_days() -> u16 {
    WITHIN_DAYS
}

fn max_age_minutes() -> u16 {
    MAX_AGE_MINUTES
}

impl ProjectDocument {
    /// What may come back; none where nothing may.
    #[must_use]
    pub fn return_terms(&self) -> Option<Returns> {
        (self.direction == Direction::WithReturn).then(|| self.returns.clone().unwrap_or_default())
    }

    /// How many senders a delivery may come from, as its recipient sees it: a project with one hides nobody.
    #[must_use]
    pub fn anonymity_set(&self) -> usize {
        self.senders.len()
    }

    /// What an officer should know before the project takes effect.
    #[must_use]
    pub fn exchange_warnings(&self) -> Vec<&'static str> {
        let warnings = [
            (self.senders.len() == 1, "the project has one sender, so the recipient knows who sent each batch"),
            (
                self.senders.len() > 1 && self.release.is_none(),
                "without release, a batch is handed over at once: its time may tell who sent it",
            ),
        ];
        warnings.into_iter().filter(|(holds, _)| *holds).map(|(_, text)| text).collect()
    }

    pub(super) fn check_exchange(&self) -> Result<(), ProjectError> {
        let is_with_return = self.direction == Direction::WithReturn;
        let added = self.returns.iter().flat_map(|returns| &returns.fields);
        let distinct: HashSet<_> = added.clone().collect();
        let is_listed =
            |path: &&String| self.fields.iter().any(|field| field.path == **path || field.output_name() == **path);
        let is_path = |path: &&String| !path.is_empty() && path.len() <= 255 && paths::split(path).is_some();
        let release = self.release.as_ref();
        let rules = [
            (self.returns.is_none() || is_with_return, "returns goes with direction = \"with-return\""),
            (
                added.clone().count() == distinct.len() && distinct.len() <= FIELDS_MAX,
                "returns.fields are at most 1,000, each once",
            ),
            (
                added.clone().all(|path| is_path(&path)),
                "returns.fields are paths of 1 to 255 characters, without empty parts",
            ),
            (
                !added.clone().any(|path| is_listed(&path)),
                "returns.fields are not among the fields: those come back anyway",
            ),
            (
                !is_with_return
                    || self.fields.iter().all(|field| field.output_name() != COLUMN)
                        && !distinct.contains(&COLUMN.to_owned()),
                "zegel_row is the column of the TTP's row numbers",
            ),
            (
                self.returns.as_ref().is_none_or(|returns| (1..=WITHIN_DAYS_MAX).contains(&returns.within_days)),
                "returns.within_days is 1 to 366",
            ),
            (
                release.is_none_or(|release| {
                    (2..=self.senders.len().min(SENDERS_MAX)).contains(&usize::from(release.min_senders))
                }),
                "release.min_senders is 2 to 20, and not more than there are senders",
            ),
            (
                release.is_none_or(|release| (1..=MAX_AGE_MINUTES_MAX).contains(&release.max_age_minutes)),
                "release.max_age_minutes is 1 to 60",
            ),
            // What is remembered as shown would never have been shown.
            (
                self.small_cells.is_none() || release.is_none_or(|release| release.at_limit == AtLimit::Release),
                "small_cells goes with release.at_limit = \"release\"",
            ),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(ProjectError::Rule(rule)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TERMS: &str = r#"
        name = "risk"
        senders = ["NIHII-HOSPITAL:71000436", "NIHII-HOSPITAL:71011720"]
        recipient = "CBE:0123456749"
        valid = { from = "2026-01-01", until = "2030-12-31" }
        direction = "with-return"
        returns = { fields = ["score"] }
        release = { min_senders = 2 }
        [[fields]]
        path = "niss"
        kind = "ssin"
        action = "pseudonym"
    "#;

    #[test]
    fn what_is_not_stated_is_the_safe_choice() {
        let document = ProjectDocument::parse(TERMS).unwrap();
        assert_eq!(document.return_terms().unwrap().within_days, 30);
        let release = document.release.unwrap();
        assert_eq!((release.max_age_minutes, release.at_limit), (30, AtLimit::Refuse));
        assert!(document.exchange_warnings().is_empty());
        let one_way = TERMS.replace("direction = \"with-return\"", "").replace("returns =", "#");
        assert!(ProjectDocument::parse(&one_way).unwrap().return_terms().is_none());
    }

    #[test]
    fn contradictions_are_refused_with_their_rule() {
        for (from, to, expected) in [
            ("direction = \"with-return\"", "", "returns goes with"),
            ("[\"score\"]", "[\"score\", \"score\"]", "each once"),
            ("[\"score\"]", "[\"a..b\"]", "without empty parts"),
            ("[\"score\"]", "[\"niss\"]", "not among the fields"),
            ("[\"score\"]", "[\"zegel_row\"]", "row numbers"),
            ("[\"score\"] }", "[], within_days = 400 }", "within_days is"),
            ("min_senders = 2", "min_senders = 3", "min_senders is"),
            ("min_senders = 2", "min_senders = 1", "min_senders is"),
            ("min_senders = 2", "min_senders = 2, max_age_minutes = 61", "max_age_minutes is"),
            (
                "returns =",
                "patient = [\"niss\"]\nsmall_cells = { quasi = [\"niss\"] }\nreturns =",
                "small_cells goes with",
            ),
        ] {
            let error = ProjectDocument::parse(&TERMS.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn a_project_that_hides_nobody_or_not_the_time_warns() {
        let alone = TERMS.replace(", \"NIHII-HOSPITAL:71011720\"", "").replace("release =", "#");
        assert!(ProjectDocument::parse(&alone).unwrap().exchange_warnings()[0].contains("one sender"));
        let at_once = ProjectDocument::parse(&TERMS.replace("release =", "#")).unwrap();
        assert!(at_once.exchange_warnings()[0].contains("its time"));
    }
}
