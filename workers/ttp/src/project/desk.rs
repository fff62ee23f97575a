//! The desk where papers are handed in and asked for: the port between those who call (command line, HTTP) and whoever keeps
//! the papers. The wire types are here too, so that both sides speak the same.

use schemas::Sha256;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Why a desk does not do what it is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    /// There is no such project.
    #[error("there is no such project")]
    Unknown,
    /// What was handed in breaks a rule; nothing was kept.
    #[error("{place}: {rule}")]
    Refused {
        /// Which paper.
        place: String,
        /// Which rule; borrowed where it is a text of this program, so that nothing of what was handed in can be in it.
        rule: Cow<'static, str>,
    },
    /// The papers could not be read or written.
    #[error("the register could not be read or written: {0}")]
    Failed(String),
}

/// What an officer hands in: a decision, with the papers that it is about.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filing {
    /// The entry's text, exactly as it was signed.
    pub entry: String,
    /// The officer's detached signature, DER in base64.
    pub countersignature: String,
    /// The document that the entry activates, exactly as it was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// The parties' detached signatures in the document's order of parties, DER in base64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<String>,
}

/// What holds for a project now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Batches are taken.
    InForce,
    /// It takes effect later.
    Ahead,
    /// Its last day has passed.
    Expired,
    /// An officer has ended it.
    Retired,
    /// It has ended, and its keys are gone.
    KeysDestroyed,
    /// Everything is refused: not signed, altered, or without its keys.
    Barred,
}

impl State {
    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::InForce => "in force",
            State::Ahead => "ahead",
            State::Expired => "expired",
            State::Retired => "retired",
            State::KeysDestroyed => "keys destroyed",
            State::Barred => "barred",
        }
    }
}

/// One project at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// Its name.
    pub name: String,
    /// What holds now.
    pub state: State,
    /// The version in force, or the last one.
    pub version: u32,
    /// Generation of the keys.
    pub epoch: u32,
    /// Last day of the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// How many senders it has.
    pub senders: usize,
    /// All its keys were made by one person.
    pub trial: bool,
    /// The code with which batches are refused, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barred: Option<Barred>,
    /// What an officer should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Why a project refuses everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barred {
    /// A code of `schemas::codes`.
    pub code: String,
    /// Which paper breaks which rule.
    pub why: String,
}

/// One decision of the register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionView {
    /// Its number.
    pub sequence: u32,
    /// What: `activate version 2`, `rotate to epoch 2`, …
    pub deed: String,
    /// From which day on.
    pub effective: String,
    /// When it was signed, RFC 3339, as the officer claims.
    pub signed_at: String,
    /// SHA-256 of the officer's certificate.
    pub officer: Sha256,
}

/// Everything that is known of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// At a glance.
    pub overview: Overview,
    /// The document in force, or the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// SHA-256 of the last entry; the next one names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Sha256>,
    /// Commitment to the key root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Sha256>,
    /// First day that the next decision may name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earliest: Option<String>,
    /// Every decision.
    pub decisions: Vec<DecisionView>,
}

/// A desk without projects, for a platform that has no TTP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Closed;

impl Desk for Closed {
    fn list(&self) -> Result<Vec<Overview>, DeskError> {
        Ok(Vec::new())
    }

    fn show(&self, _: &str) -> Result<Details, DeskError> {
        Err(DeskError::Unknown)
    }

    fn root(&self, _: &str) -> Result<Sha256, DeskError> {
        Err(DeskError::Unknown)
    }

    fn file(&self, _: &Filing) -> Result<Overview, DeskError> {
        Err(DeskError::Unknown)
    }
}

/// Keeps papers. All calls block on the disk or the network.
pub trait Desk: Send + Sync {
    /// Every project, by name.
    ///
    /// # Errors
    /// [`DeskError::Failed`].
    fn list(&self) -> Result<Vec<Overview>, DeskError>;

    /// One project.
    ///
    /// # Errors
    /// [`DeskError::Unknown`], [`DeskError::Failed`].
    fn show(&self, name: &str) -> Result<Details, DeskError>;

    /// The commitment to the key root of this name (`ProjectDocument::root_name`), which is made if there is none.
    ///
    /// # Errors
    /// [`DeskError::Refused`] for a name that no project can have, [`DeskError::Failed`].
    fn root(&self, root_name: &str) -> Result<Sha256, DeskError>;

    /// Takes a decision; durable on return, and in force at once where its day has come.
    ///
    /// # Errors
    /// [`DeskError::Refused`] with the rule that it breaks; nothing was kept then.
    fn file(&self, filing: &Filing) -> Result<Overview, DeskError>;
}
