//! Mailbox addresses: who owns a box of the secure mailbox.
//!
//! Text form: `TYPE[-SUBTYPE]:ID[:QUALITY]`, for example `NIHII-HOSPITAL:71000436`, `CBE:0123456749`,
//! `SSIN:85061511796:CITIZEN`. Without a quality the type's default is taken; printing leaves the default out, so equal
//! addresses print equally.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Who owns a box. `Debug` masks the identifier, because logs and errors must not show it (I4).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxAddress(String);

impl fmt::Display for MailboxAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MailboxAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MailboxAddress(***)")
    }
}

impl std::str::FromStr for MailboxAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }
}

impl Serialize for MailboxAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MailboxAddress {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for MailboxAddress {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MailboxAddress".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[A-Z0-9_-]+:[0-9]+(:[A-Z_]+)?$" })
    }
}
