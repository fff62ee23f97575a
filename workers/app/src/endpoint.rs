//! Where a backend is: a word for what lies in the data folder, or a URL, whose password is shown to nobody.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A backend's place, as in the settings.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Endpoint(String);

impl Endpoint {
    /// As it was said, password included. For whoever connects, and nobody else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `postgres` of `postgres://…`; the whole word where it is no URL.
    pub fn scheme(&self) -> &str {
        self.0.split_once("://").map_or(&self.0, |(scheme, _)| scheme)
    }

    /// With three stars for a password.
    pub fn masked(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else { return self.0.clone() };
        let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(authority_end);
        // A query may say anything, a password too.
        let path = path.split_once('?').map_or_else(|| path.to_owned(), |(path, _)| format!("{path}?***"));
        match authority.rsplit_once('@') {
            Some((user, host)) => {
                let name = user.split_once(':').map_or(user, |(name, _)| name);
                let stars = if user.contains(':') { ":***" } else { "" };
                format!("{scheme}://{name}{stars}@{host}{path}")
            }
            None => format!("{scheme}://{authority}{path}"),
        }
    }
}

impl From<String> for Endpoint {
    fn from(text: String) -> Endpoint {
        Endpoint(text)
    }
}

impl From<&str> for Endpoint {
    fn from(text: &str) -> Endpoint {
        Endpoint(text.to_owned())
    }
}

impl std::str::FromStr for Endpoint {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Endpoint, Self::Err> {
        Ok(Endpoint(text.to_owned()))
    }
}

impl Serialize for Endpoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.masked())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_shown_nowhere() {
        for (said, shown) in [
            ("embedded", "embedded"),
            ("postgres://zegel:s3cr@t@db:5432/zegel?sslmode=off", "postgres://zegel:***@db:5432/zegel?***"),
            ("amqp://guest@127.0.0.1/%2f", "amqp://guest@127.0.0.1/%2f"),
            ("kafka://a:9092,b:9092", "kafka://a:9092,b:9092"),
            ("postgres:///zegel?password=s3cret", "postgres:///zegel?***"),
        ] {
            let endpoint = Endpoint::from(said);
            assert_eq!(endpoint.masked(), shown);
            assert!(!format!("{endpoint:?}").contains("s3cr"));
            assert!(!serde_json::to_string(&endpoint).unwrap_or_default().contains("s3cr"));
        }
    }
}
