//! Errors: why a store cannot be opened, and what PostgreSQL's codes mean for the ports.
//!
//! Texts name the SQLSTATE and its meaning in our words, never PostgreSQL's message, detail or hint, which may quote values,
//! and never the URL, which may hold a password.

use std::io::ErrorKind;
use tokio_postgres::error::{Severity, SqlState};
use zegel_core::StoreError;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL cannot be understood.
    #[error("the store's url is not one of postgresql: expected postgres://user:password@host:port/database")]
    Url,
    /// TLS was asked for, which this client does not speak.
    #[error("sslmode=require is not supported: use a local socket, a private network, or a tunnel that ends beside us")]
    Tls,
    /// The name of the schema would have to be quoted.
    #[error("the schema's name must be lower-case letters, digits and _, beginning with a letter, at most 50 of them")]
    SchemaName,
    /// A setting makes acknowledged work be lost when the machine loses power.
    #[error("postgresql runs with {setting}=off, so what it acknowledges may be lost; switch it on")]
    Unsafe {
        /// Which setting.
        setting: &'static str,
    },
    /// The server is too old.
    #[error("postgresql {found} is too old, 15 or later is needed")]
    Server {
        /// Its major version.
        found: i32,
    },
    /// The database stores text in another encoding.
    #[error("the database's encoding is not utf8")]
    Encoding,
    /// No store is in the schema.
    #[error("the database's schema holds no store of ours")]
    Nothing,
    /// The schema was written by a newer version, or, where it is only read, by an older one.
    #[error("the schema has format version {found}, this program knows versions up to {known}")]
    Version {
        /// The schema's version.
        found: i32,
        /// The newest version that this program reads.
        known: i32,
    },
    /// A channel was stored with another number of partitions; its messages would be looked for elsewhere.
    #[error("channel {channel} is stored in {stored} partitions, the topology says {declared}")]
    Partitions {
        /// Channel name.
        channel: &'static str,
        /// As stored.
        stored: i32,
        /// As declared.
        declared: u16,
    },
    /// The topology does not fit the stored format (see [`crate::layout`]).
    #[error("channel {0} does not fit the stored format")]
    Topology(&'static str),
    /// Anything else that the network or PostgreSQL refuses.
    #[error("postgresql refuses: {0}")]
    Refused(String),
}

/// What a failed call means for what it was to do.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// PostgreSQL answered: nothing was changed. The same call may go through at once (deadlock, lost race).
    Again(StoreError),
    /// PostgreSQL answered: nothing was changed.
    Refused(StoreError),
    /// PostgreSQL was not reached: nothing was changed. Worth trying again while there is time.
    Away(StoreError),
    /// The connection ended before the answer: whether anything was changed is unknown.
    Lost(StoreError),
}

impl Fault {
    pub(crate) fn into_error(self) -> StoreError {
        match self {
            Fault::Again(error) | Fault::Refused(error) | Fault::Away(error) | Fault::Lost(error) => error,
        }
    }

    pub(crate) fn unavailable(what: &str) -> StoreError {
        StoreError::Unavailable(what.to_owned())
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Fault {
        let Some(answer) = error.as_db_error() else { return Fault::Lost(Fault::unavailable(&meaning(&error))) };
        // A session that is ended from outside may have committed just before.
        let error = store_error(answer.code());
        match answer.parsed_severity() {
            Some(Severity::Error) if is_transient(answer.code()) => Fault::Again(error),
            // A server that became a standby: another connection may find the new primary.
            Some(Severity::Error) if *answer.code() == SqlState::READ_ONLY_SQL_TRANSACTION => Fault::Lost(error),
            Some(Severity::Error) => Fault::Refused(error),
            _ => Fault::Lost(error),
        }
    }
}

fn is_transient(code: &SqlState) -> bool {
    [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::LOCK_NOT_AVAILABLE].contains(code)
}

/// The port's error for PostgreSQL's code.
fn store_error(code: &SqlState) -> StoreError {
    let what = code_meaning(code);
    match (code.code(), code.code().get(..2).unwrap_or("")) {
        ("53100", _) => StoreError::Full(what),
        // Damaged pages; and statements that this schema or this data cannot take, which only an operator can mend.
        (_, "XX" | "22" | "23" | "42" | "54" | "ZG") => StoreError::Damaged(what),
        _ => StoreError::Unavailable(what),
    }
}

/// What went wrong, in words of ours.
pub(crate) fn meaning(error: &tokio_postgres::Error) -> String {
    if let Some(code) = error.code() {
        return code_meaning(code);
    }
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                ErrorKind::NotFound => "the server's socket does not exist".to_owned(),
                kind => kind.to_string(),
            };
        }
        source = inner.source();
    }
    if error.is_closed() { "the connection was closed".to_owned() } else { "the client cannot go on".to_owned() }
}

fn code_meaning(code: &SqlState) -> String {
    let words = match (code.code(), code.code().get(..2).unwrap_or("")) {
        ("53100", _) => "the disk is full",
        ("53300", _) => "too many connections",
        ("57014", _) => "a statement took too long",
        ("57P01" | "57P02" | "57P03", _) => "the server is starting or stopping",
        ("25006", _) => "the server is read-only",
        ("28P01", _) => "the password is wrong",
        ("3D000", _) => "the database does not exist",
        ("42501", _) => "permission is missing",
        ("XX001" | "XX002", _) => "a page is not what was written",
        ("40P01" | "40001" | "55P03", _) => "others held the rows for too long",
        ("ZG001", _) => "a partition is missing or has used up its numbers",
        (_, "08") => "the connection failed",
        (_, "28") => "the user may not connect",
        (_, "53") => "the server lacks resources",
        (_, "54") => "a row is too large",
        (_, "58") => "the server's operating system failed",
        _ => "unexpected",
    };
    format!("{words} (sqlstate {})", code.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_a_damaged_one_and_from_one_that_is_away() {
        let of = |code: &str| store_error(&SqlState::from_code(code));
        assert!(matches!(of("53100"), StoreError::Full(_)));
        for code in ["XX001", "XX002", "42P01", "ZG001"] {
            assert!(matches!(of(code), StoreError::Damaged(_)), "{code}");
        }
        for code in ["57P01", "57P03", "08006", "25006", "57014", "53300", "40001", "58030"] {
            assert!(matches!(of(code), StoreError::Unavailable(_)), "{code}");
        }
    }

    #[test]
    fn only_a_lost_race_is_tried_again_at_once() {
        assert!(is_transient(&SqlState::from_code("40P01")) && is_transient(&SqlState::from_code("40001")));
        assert!(!is_transient(&SqlState::from_code("53100")) && !is_transient(&SqlState::from_code("57014")));
    }
}
