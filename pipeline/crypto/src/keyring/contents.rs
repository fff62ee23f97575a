//! What a key file says, and its text. Strict both ways: whatever is not exactly format 1 is refused.
//!
//! Texts are wiped after use; the parser's own copies are beyond our reach. Errors name a rule, never a line.

use crate::secret::Secret32;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use zeroize::{Zeroize, Zeroizing};

/// The one format so far.
const FORMAT: u32 = 1;

/// All keys of a data folder.
#[derive(Clone)]
pub(super) struct Contents {
    pub(super) blinding: Secret32,
    /// By version; never empty.
    pub(super) masters: BTreeMap<u32, Secret32>,
    pub(super) projects: BTreeMap<String, Secret32>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    format: u32,
    blinding: String,
    master: Vec<MasterText>,
    #[serde(default)]
    projects: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MasterText {
    version: u32,
    key: String,
}

impl Contents {
    /// Fresh keys, master version 1, no projects.
    pub(super) fn generate() -> Contents {
        Contents {
            blinding: Secret32::random(),
            masters: BTreeMap::from([(1, Secret32::random())]),
            projects: BTreeMap::new(),
        }
    }

    /// The newest master key and its version.
    pub(super) fn current(&self) -> (u32, &Secret32) {
        match self.masters.last_key_value() {
            Some((version, secret)) => (*version, secret),
            None => unreachable!("a key file without a master key is refused"),
        }
    }

    /// Adds the next master key; returns its version.
    pub(super) fn add_master(&mut self) -> u32 {
        let version = self.current().0 + 1;
        self.masters.insert(version, Secret32::random());
        version
    }

    /// The file's text.
    pub(super) fn to_toml(&self) -> Zeroizing<String> {
        let text = FileText {
            format: FORMAT,
            blinding: encode(&self.blinding),
            master: self.masters.iter().map(|(&version, key)| MasterText { version, key: encode(key) }).collect(),
            projects: self.projects.iter().map(|(name, root)| (name.clone(), encode(root))).collect(),
        };
        match toml::to_string(&text).map(Zeroizing::new) {
            Ok(toml) => Zeroizing::new(format!("# Keys of a Zegel data folder: keep a copy elsewhere.\n{}", *toml)),
            Err(_) => unreachable!("strings and numbers always print as TOML"),
        }
    }

    /// Reads the file's text; the error is the rule that it breaks.
    pub(super) fn from_toml(toml: &str) -> Result<Contents, &'static str> {
        let text: FileText =
            toml::from_str(toml).map_err(|_| "is not a key file (TOML with format, blinding, master)")?;
        if text.format != FORMAT {
            return Err("format must be 1");
        }
        let mut masters = BTreeMap::new();
        for MasterText { version, key } in &text.master {
            // The last version number stays unused, so that there is always a next one.
            if *version == 0 || *version == u32::MAX {
                return Err("a master version must be 1 or more");
            }
            if masters.insert(*version, decode(key)?).is_some() {
                return Err("a master version stands twice");
            }
        }
        if masters.is_empty() {
            return Err("there must be a master key");
        }
        let mut projects = BTreeMap::new();
        for (name, root) in &text.projects {
            projects.insert(name.clone(), decode(root)?);
        }
        Ok(Contents { blinding: decode(&text.blinding)?, masters, projects })
    }
}

impl Drop for FileText {
    fn drop(&mut self) {
        self.blinding.zeroize();
        self.master.iter_mut().for_each(|master| master.key.zeroize());
        self.projects.values_mut().for_each(Zeroize::zeroize);
    }
}

fn encode(secret: &Secret32) -> String {
    BASE64_STANDARD.encode(secret.expose())
}

fn decode(text: &str) -> Result<Secret32, &'static str> {
    let bytes = Zeroizing::new(BASE64_STANDARD.decode(text).map_err(|_| "a key is not base64")?);
    let exact = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| "a key must be 32 bytes")?;
    Ok(Secret32::new(exact))
}
