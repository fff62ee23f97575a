//! Settings: the commented file that the program carries, then the user's file, then the environment; checked whole.
//!
//! Invariants: `default.toml` names every key with its default (a test holds that), so the documentation cannot drift;
//! a key that nobody knows is refused, in a file and in the environment.
//! Failure behaviour: [`ConfigError`] says which setting, and what it must be.

use crate::endpoint::Endpoint;
use crate::passphrase::Source;
use crate::roles::Role;
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use schemas::MailboxAddress;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

mod timestamp;

pub use timestamp::Timestamp;

/// The commented defaults.
pub const DEFAULT: &str = include_str!("default.toml");

/// Sections whose names, followed by two underscores, mark a variable as one of ours.
const SECTIONS: [&str; 6] = ["keys__", "limits__", "mailbox__", "timestamp__", "runner__", "log__"];
/// Settings at the top that a variable may set; other `ZEGEL_` variables belong to other programs (ZEGEL_TOKEN, …).
const TOP: [&str; 9] = ["listen", "data", "store", "broker", "installation", "objects", "roles", "ttp", "drain_s"];
/// The longest drain: an init system kills sooner.
const DRAIN_MAX_S: u64 = 3_600;
/// Batches of one stage at the same time: a stage has 8 partitions, and more than 64 gains nothing anywhere.
const CONCURRENCY_MAX: usize = 64;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("settings file {path}: {source}", path = .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A key is unknown or a value is of another type.
    #[error("settings: {0}")]
    Shape(String),
    /// A value is out of its range.
    #[error("setting {key}: {rule}")]
    Value {
        /// Which setting.
        key: &'static str,
        /// What it must be.
        rule: String,
    },
}

/// All settings. See `default.toml` for their meaning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// The data folder.
    pub data: PathBuf,
    /// Where state is kept.
    pub store: Endpoint,
    /// Where messages travel.
    pub broker: Endpoint,
    /// Names everything of this installation at backends that several installations share.
    pub installation: String,
    /// Where large content is kept.
    pub objects: Endpoint,
    /// What this process does.
    pub roles: Vec<Role>,
    /// The TTP's own address.
    pub ttp: String,
    /// How long a stop waits, in seconds.
    pub drain_s: u64,
    /// The key file.
    pub keys: Keys,
    /// Sizes.
    pub limits: Limits,
    /// Boxes.
    pub mailbox: Mailbox,
    /// Time-stamp bags.
    pub timestamp: Timestamp,
    /// Stages.
    pub runner: Runner,
    /// Logs.
    pub log: Log,
}

/// The key file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Where its passphrase is.
    pub passphrase: Source,
    /// The URI of the token that guards it and the time-stamp authority (RFC 7512); empty: none.
    pub module: String,
    /// Files of decode roles' private keys that this process has.
    pub decode: Vec<PathBuf>,
}

/// Sizes in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Largest batch for a project.
    pub batch: u64,
    /// Largest message to a mailbox.
    pub message: u64,
}

/// Boxes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mailbox {
    /// Capacity of a box that is opened without one.
    pub capacity: u64,
}

/// Stages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runner {
    /// Batches of one stage at the same time.
    pub concurrency: usize,
    /// Jobs at the same time.
    pub jobs: usize,
    /// How long a process that fell silent keeps its slots, in milliseconds.
    pub lease_ms: u32,
    /// Ends of the process that a suspect may cause before it is given up.
    pub crash_attempts: u32,
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Least level.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// What the command line says about settings; it wins over everything else.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// `--data`.
    pub data: Option<PathBuf>,
    /// `--listen`.
    pub listen: Option<SocketAddr>,
    /// `--store`.
    pub store: Option<Endpoint>,
    /// `--broker`.
    pub broker: Option<Endpoint>,
    /// `--objects`.
    pub objects: Option<Endpoint>,
    /// `--roles`.
    pub roles: Option<Vec<Role>>,
}

impl Config {
    /// Reads and checks the settings.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(overrides: &Overrides) -> Result<Config, ConfigError> {
        let environment = environment();
        let mut figment = Figment::from(Toml::string(DEFAULT));
        if let Some((path, text)) = user_file(overrides)? {
            let place = |error: figment::Error| ConfigError::Shape(format!("{}: {error}", path.display()));
            // On its own first, so that a bad file is named.
            Figment::from(Toml::string(DEFAULT)).merge(Toml::string(&text)).extract::<Config>().map_err(place)?;
            figment = figment.merge(Toml::string(&text));
        }
        figment = figment.merge(environment);
        if let Some(data) = &overrides.data {
            figment = figment.merge(Serialized::default("data", data));
        }
        if let Some(listen) = &overrides.listen {
            figment = figment.merge(Serialized::default("listen", listen));
        }
        let endpoints = [("store", &overrides.store), ("broker", &overrides.broker), ("objects", &overrides.objects)];
        for (key, endpoint) in endpoints {
            if let Some(endpoint) = endpoint {
                // Not as it serialises: that hides the password.
                figment = figment.merge(Serialized::default(key, endpoint.expose()));
            }
        }
        if let Some(roles) = &overrides.roles {
            figment = figment.merge(Serialized::default("roles", roles));
        }
        let config: Config = figment.extract().map_err(|error| ConfigError::Shape(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// The TTP's address; it was checked when the settings were read.
    ///
    /// # Errors
    /// [`ConfigError::Value`] when it is no address.
    pub fn ttp_address(&self) -> Result<MailboxAddress, ConfigError> {
        self.ttp.parse().map_err(|_| value("ttp", "must be a mailbox address, like CBE:0199999944"))
    }

    /// As a file: the defaults' keys with the values in force, without their comments.
    ///
    /// # Errors
    /// [`ConfigError::Shape`] when a value cannot be written.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|error| ConfigError::Shape(error.to_string()))
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.ttp_address()?;
        let rules = [
            (
                "installation",
                is_name(&self.installation),
                "must be 1 to 30 lower-case letters and digits, a letter first",
            ),
            ("roles", !self.roles.is_empty(), "must name at least one role"),
            ("drain_s", (1..=DRAIN_MAX_S).contains(&self.drain_s), "must be 1 to 3600 seconds"),
            ("limits.batch", self.limits.batch > 0, "must be at least 1 byte"),
            ("limits.message", self.limits.message > 0, "must be at least 1 byte"),
            ("limits.message", self.limits.message <= self.limits.batch, "must not be over limits.batch"),
            ("mailbox.capacity", self.mailbox.capacity > 0, "must be at least 1 byte"),
            ("runner.concurrency", (1..=CONCURRENCY_MAX).contains(&self.runner.concurrency), "must be 1 to 64"),
            ("runner.lease_ms", (500..=600_000).contains(&self.runner.lease_ms), "must be 500 to 600000"),
            ("runner.crash_attempts", (1..=1_000).contains(&self.runner.crash_attempts), "must be 1 to 1000"),
            ("runner.jobs", (1..=CONCURRENCY_MAX).contains(&self.runner.jobs), "must be 1 to 64"),
            (
                "log.level",
                self.log.level.parse::<tracing::Level>().is_ok(),
                "must be error, warn, info, debug or trace",
            ),
        ];
        match rules.into_iter().find(|(_, holds, _)| !holds) {
            Some((key, _, rule)) => Err(value(key, rule)),
            None => self.timestamp.check(),
        }
    }
}

/// What is a name at every backend, unquoted.
fn is_name(text: &str) -> bool {
    text.len() <= 30
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.chars().all(|one| one.is_ascii_lowercase() || one.is_ascii_digit())
}

fn value(key: &'static str, rule: &str) -> ConfigError {
    ConfigError::Value { key, rule: rule.to_owned() }
}

/// `--config`, or `zegel.toml` in the data folder when there is one.
fn user_file(overrides: &Overrides) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let (path, must_exist) = match &overrides.file {
        Some(path) => (path.clone(), true),
        None => (data_folder(overrides).join("zegel.toml"), false),
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => Ok(None),
        Err(source) => Err(ConfigError::File { path, source }),
    }
}

/// Where the data folder is before any file is read.
fn data_folder(overrides: &Overrides) -> PathBuf {
    let from_environment = || std::env::var_os("ZEGEL_DATA").map(PathBuf::from);
    overrides.data.clone().or_else(from_environment).unwrap_or_else(|| Path::new("zegel-data").to_owned())
}

fn environment() -> Env {
    Env::prefixed("ZEGEL_")
        .filter(|key| {
            let name = key.as_str().to_ascii_lowercase();
            TOP.contains(&name.as_str()) || SECTIONS.iter().any(|section| name.starts_with(section))
        })
        .split("__")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::result_large_err)]
mod tests {
    use super::*;
    use figment::Jail;
    use std::collections::BTreeSet;

    fn leaves(prefix: &str, value: &toml::Value, into: &mut BTreeSet<String>) {
        match value {
            toml::Value::Table(table) => {
                for (key, inner) in table {
                    leaves(&format!("{prefix}.{key}"), inner, into);
                }
            }
            _ => {
                into.insert(prefix.trim_start_matches('.').to_owned());
            }
        }
    }

    fn keys_of(text: &str) -> BTreeSet<String> {
        let mut keys = BTreeSet::new();
        leaves("", &toml::from_str::<toml::Value>(text).unwrap(), &mut keys);
        keys
    }

    #[test]
    fn every_setting_stands_in_the_default_file_under_a_comment() {
        Jail::expect_with(|_| {
            let config = Config::load(&Overrides::default()).unwrap();
            assert_eq!(keys_of(DEFAULT), keys_of(&config.to_toml().unwrap()));
            Ok(())
        });
        let mut before = "";
        for line in DEFAULT.lines() {
            if line.contains(" = ") && !line.starts_with('#') {
                assert!(before.starts_with('#'), "{line} has no comment");
            }
            before = line;
        }
    }

    #[test]
    fn a_file_wins_over_the_defaults_the_environment_over_the_file_and_the_command_line_over_all() {
        Jail::expect_with(|jail| {
            jail.create_dir("d")?;
            jail.create_file("d/zegel.toml", "listen = \"127.0.0.1:1\"\ndrain_s = 7\n[limits]\nbatch = 20_000_000\n")?;
            let mut overrides = Overrides { data: Some("d".into()), ..Overrides::default() };
            let from_file = Config::load(&overrides).unwrap();
            assert_eq!((from_file.drain_s, from_file.limits.batch, from_file.listen.port()), (7, 20_000_000, 1));
            assert_eq!(from_file.limits.message, 10_485_760);
            jail.set_env("ZEGEL_LISTEN", "127.0.0.1:2");
            jail.set_env("ZEGEL_LIMITS__BATCH", "30000000");
            jail.set_env("ZEGEL_TOKEN", "not a setting");
            let from_environment = Config::load(&overrides).unwrap();
            assert_eq!((from_environment.limits.batch, from_environment.listen.port()), (30_000_000, 2));
            overrides.listen = Some("127.0.0.1:3".parse().unwrap());
            assert_eq!(Config::load(&overrides).unwrap().listen.port(), 3);
            Ok(())
        });
    }

    #[test]
    fn an_unknown_key_is_refused_in_a_file_and_in_the_environment() {
        Jail::expect_with(|jail| {
            jail.create_file("bad.toml", "[limits]\nbacth = 1\n")?;
            let file = Overrides { file: Some("bad.toml".into()), ..Overrides::default() };
            assert!(Config::load(&file).unwrap_err().to_string().contains("bacth"));
            jail.set_env("ZEGEL_LIMITS__BACTH", "1");
            assert!(Config::load(&Overrides::default()).unwrap_err().to_string().contains("bacth"));
            Ok(())
        });
    }

    #[test]
    fn a_value_out_of_range_names_its_setting() {
        for (text, key) in [
            ("ttp = \"CBE:1\"", "ttp"),
            ("drain_s = 0", "drain_s"),
            ("[limits]\nmessage = 0", "limits.message"),
            ("[timestamp]\nwindow = \"every now and then\"", "timestamp.window"),
            ("[timestamp]\nalgorithm = \"md5\"", "timestamp.algorithm"),
            ("[timestamp]\nsources = [\"sundial\"]", "timestamp.sources"),
            ("[timestamp]\nsources = [\"chrony\"]", "timestamp.policy"),
            ("[timestamp]\ntsa = \"http://tsa.example\"", "timestamp.tsa_roots"),
            ("[timestamp]\nquorum = 1", "timestamp.quorum"),
            ("[timestamp]\nwitnesses = [\"w\"]", "timestamp.witnesses"),
            ("[runner]\njobs = 0", "runner.jobs"),
            ("[log]\nlevel = \"loud\"", "log.level"),
        ] {
            Jail::expect_with(|jail| {
                jail.create_file("c.toml", text)?;
                let error = Config::load(&Overrides { file: Some("c.toml".into()), ..Overrides::default() });
                assert!(matches!(error, Err(ConfigError::Value { key: named, .. }) if named == key), "{key}");
                Ok(())
            });
        }
    }
}
