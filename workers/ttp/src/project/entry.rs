//! Entries of a project's register: what the TTP's officer has decided, one signed text after the other.
//!
//! An entry is TOML, and a detached signature of an officer stands beside it. Entries are numbered from 1, and each names the
//! SHA-256 of the one before, so that none can be left out, put in or changed without all later ones failing: the register is
//! the audit log of its project.
//!
//! ```toml
//! form = 1
//! project = "lab-registry"
//! sequence = 1
//! previous = "…"                  # SHA-256 of entry 0's text: absent in the first
//! effective = "2026-12-01"        # from this day on, UTC
//! [deed]
//! is = "activate"                 # activate, rotate, retire, destroy-keys
//! version = 1
//! document = "…"                  # SHA-256 of the document's bytes
//! root = "…"                      # commitment to the key root
//! trial = false
//! [[deed.signatures]]             # one for each party, in the document's order
//! certificate = "…"               # SHA-256
//! signature = "…"                 # SHA-256 of the detached signature's bytes
//! ```

use super::ProjectError;
use chrono::NaiveDate;
use schemas::Sha256;
use serde::{Deserialize, Serialize};

/// Largest entry in bytes: a thousand parties take a fifth of it.
pub const ENTRY_MAX: usize = 1 << 20;

/// One decision. See the module's header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Version of the form; 1.
    pub form: u32,
    /// Which project.
    pub project: String,
    /// Its place in the register, from 1.
    pub sequence: u32,
    /// SHA-256 of the entry before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Sha256>,
    /// First day on which it holds.
    #[serde(with = "day")]
    pub effective: NaiveDate,
    /// What was decided.
    pub deed: Deed,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Deed {
    /// A signed version of the document takes effect.
    Activate {
        /// Which version.
        version: u32,
        /// SHA-256 of the document's bytes.
        document: Sha256,
        /// Commitment to the key root that makes its tokens.
        root: Sha256,
        /// All keys were made by one person, for trying the platform.
        #[serde(default)]
        trial: bool,
        /// What each party signed with, in the document's order of parties.
        signatures: Vec<PartySignature>,
    },
    /// Tokens are made with the next generation of keys.
    Rotate {
        /// The new generation, one more than the present.
        epoch: u32,
    },
    /// The project ends.
    Retire {
        /// Why, for the file.
        reason: String,
    },
    /// The key root is destroyed: no token of the project can be resolved any more, by nobody.
    DestroyKeys {
        /// Commitment to the root that is destroyed.
        root: Sha256,
    },
}

/// How one party has signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartySignature {
    /// SHA-256 of its certificate.
    pub certificate: Sha256,
    /// SHA-256 of its detached signature.
    pub signature: Sha256,
}

/// A day as `YYYY-MM-DD`.
mod day {
    use chrono::NaiveDate;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(day: &NaiveDate, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(day)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NaiveDate, D::Error> {
        let text = String::deserialize(deserializer)?;
        NaiveDate::parse_from_str(&text, "%Y-%m-%d").map_err(|_| serde::de::Error::custom("a day is YYYY-MM-DD"))
    }
}

impl Entry {
    /// The text that an officer signs.
    ///
    /// # Errors
    /// [`ProjectError::Form`] when it cannot be written.
    pub fn to_toml(&self) -> Result<String, ProjectError> {
        toml::to_string(self).map_err(|error| ProjectError::Form(error.to_string()))
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// [`ProjectError`] when it is over 1 MiB or not of this form.
    pub fn parse(text: &[u8]) -> Result<Entry, ProjectError> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= ENTRY_MAX);
        let text = text.ok_or(ProjectError::Rule("an entry is UTF-8, up to 1 MiB"))?;
        let entry: Entry =
            toml::from_str(text).map_err(|error| ProjectError::Form(error.to_string().trim().to_owned()))?;
        if entry.form != 1 {
            return Err(ProjectError::Rule("this program knows entries of form 1 only"));
        }
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_entry_reads_as_it_was_written_and_knows_no_other_member() {
        let entry = |deed| Entry {
            form: 1,
            project: "lab-registry".to_owned(),
            sequence: 2,
            previous: Some(Sha256([7; 32])),
            effective: "2026-12-01".parse().unwrap(),
            deed,
        };
        let signatures = vec![PartySignature { certificate: Sha256([1; 32]), signature: Sha256([2; 32]) }];
        let (document, root) = (Sha256([3; 32]), Sha256([4; 32]));
        for deed in [
            Deed::Activate { version: 1, document, root, trial: false, signatures },
            Deed::Rotate { epoch: 2 },
            Deed::Retire { reason: "the study \"x\" has ended\n".to_owned() },
            Deed::DestroyKeys { root },
        ] {
            let text = entry(deed.clone()).to_toml().unwrap();
            assert_eq!(Entry::parse(text.as_bytes()).unwrap(), entry(deed), "{text}");
            assert!(Entry::parse(format!("{text}\nmore = 1\n").as_bytes()).is_err(), "{text}");
            assert!(Entry::parse(text.replace("form = 1", "form = 2").as_bytes()).is_err());
        }
    }
}
