//! How a command fails, and the exit status that says so.
//!
//! | status | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | failed: a check found something, a file could not be read, an invariant does not hold |
//! | 2 | wrong usage or wrong settings; nothing was begun |
//! | 3 | refused: the platform or the program says no, with a code; the same again is refused again |
//! | 4 | not reachable, or too busy for now: the same again may succeed |
//! | 5 | stopped, but not everything had ended before the deadline; nothing acknowledged is lost |

use crate::config::ConfigError;

/// Printed under `zegel --help`.
pub const EXIT_HELP: &str = "\
Exit status:
  0  done
  1  failed: a check found something, or a file could not be read or written
  2  wrong usage or settings; nothing was begun
  3  refused, with a code; the same again is refused again
  4  not reachable or too busy; the same again may succeed
  5  stopped before everything in flight had ended; nothing acknowledged is lost

Example:
  zegel demo --data /tmp/zegel-demo";

/// Why a command ended without doing what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// Something went wrong.
    #[error("{0}")]
    Failure(String),
    /// The command line or the settings make no sense.
    #[error("{0}")]
    Usage(String),
    /// The platform, or the program itself, says no.
    #[error("refused ({code}): {text}")]
    Refused {
        /// A stable code.
        code: String,
        /// Names field and rule, never a value.
        text: String,
    },
    /// Nobody answers, or the platform has no room now.
    #[error("not reachable: {0}")]
    Unreachable(String),
    /// The drain's deadline passed.
    #[error("stopped before everything in flight had ended")]
    Undrained,
}

impl Failed {
    /// The exit status.
    pub fn status(&self) -> u8 {
        match self {
            Failed::Failure(_) => 1,
            Failed::Usage(_) => 2,
            Failed::Refused { .. } => 3,
            Failed::Unreachable(_) => 4,
            Failed::Undrained => 5,
        }
    }

    /// The stable code, for `--json`.
    pub fn code(&self) -> &str {
        match self {
            Failed::Failure(_) => "failure",
            Failed::Usage(_) => "usage",
            Failed::Refused { code, .. } => code,
            Failed::Unreachable(_) => "unreachable",
            Failed::Undrained => "undrained",
        }
    }

    /// A refusal by the program itself.
    pub fn refused(code: &str, text: impl Into<String>) -> Failed {
        Failed::Refused { code: code.to_owned(), text: text.into() }
    }
}

impl From<ConfigError> for Failed {
    fn from(error: ConfigError) -> Failed {
        Failed::Usage(error.to_string())
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Failed {
        Failed::Failure(error.to_string())
    }
}

impl From<serde_json::Error> for Failed {
    fn from(_: serde_json::Error) -> Failed {
        // The text of a JSON error may quote what was read.
        Failed::Failure("JSON of another shape than expected".to_owned())
    }
}

/// Adds the file to an error of the system.
pub fn at(path: &std::path::Path) -> impl Fn(std::io::Error) -> Failed + '_ {
    move |error| Failed::Failure(format!("{}: {error}", path.display()))
}
