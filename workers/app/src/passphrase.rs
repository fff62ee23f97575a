//! Where the passphrase of the key file, or the PIN of a security module, comes from: a file, an inherited descriptor or a variable that the settings name. Never
//! the command line, which everybody on the machine reads.
//!
//! It is read once in the life of a process, because a pipe has it once. Errors name the place, never a character of it.

use crate::failed::Failed;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use zegel_crypto::Passphrase;
use zeroize::Zeroizing;

/// More than any passphrase; what is longer is another file.
const BYTES_MAX: u64 = 4_096;
/// The passphrase of this process's settings, once it was read.
static READ: OnceLock<Passphrase> = OnceLock::new();

/// Where it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// Nowhere: the key file is not sealed.
    #[default]
    Nowhere,
    /// The first line of a file.
    File(PathBuf),
    /// An inherited descriptor, up to its end.
    Descriptor(u32),
    /// A variable of the environment.
    Variable(String),
}

/// Why a text names no place.
const FORM: &str = "must be file:PATH, fd:NUMBER or env:NAME, or empty";

impl TryFrom<String> for Source {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Source, &'static str> {
        match text.split_once(':') {
            None if text.is_empty() => Ok(Source::Nowhere),
            Some(("file", path)) if !path.is_empty() => {
                // `file:///run/pin` is the form of RFC 8089, `file:/run/pin` ours.
                Ok(Source::File(path.strip_prefix("//").unwrap_or(path).into()))
            }
            Some(("fd", number)) => number.parse().map(Source::Descriptor).map_err(|_| FORM),
            Some(("env", name)) if !name.is_empty() => Ok(Source::Variable(name.to_owned())),
            _ => Err(FORM),
        }
    }
}

impl std::str::FromStr for Source {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Source, &'static str> {
        Source::try_from(text.to_owned())
    }
}

impl From<Source> for String {
    fn from(source: Source) -> String {
        match source {
            Source::Nowhere => String::new(),
            Source::File(path) => format!("file:{}", path.display()),
            Source::Descriptor(number) => format!("fd:{number}"),
            Source::Variable(name) => format!("env:{name}"),
        }
    }
}

impl Source {
    /// The passphrase of the settings, read by whoever asks first; none where the settings name no place.
    ///
    /// # Errors
    /// When it is not there, can be read by everybody, or is too short.
    pub fn settled(&self) -> Result<Option<Passphrase>, Failed> {
        if let Some(known) = READ.get() {
            return Ok(Some(known.clone()));
        }
        let read = self.read()?;
        Ok(read.map(|passphrase| READ.get_or_init(|| passphrase).clone()))
    }

    /// Reads it anew; none where no place is named.
    ///
    /// # Errors
    /// As [`Source::settled`].
    pub fn read(&self) -> Result<Option<Passphrase>, Failed> {
        const WHAT: &str = "the passphrase";
        let read = self.read_line(WHAT)?.map(|line| Passphrase::new(&line));
        read.transpose().map_err(|error| self.failed(WHAT, &error.to_string()))
    }

    /// The first line of the place, for a secret that errors call `what`; none where no place is named.
    ///
    /// # Errors
    /// When it is not there, or can be read by everybody.
    pub fn read_line(&self, what: &str) -> Result<Option<Zeroizing<String>>, Failed> {
        let failed = |why: String| self.failed(what, &why);
        let text = match self {
            Source::Nowhere => return Ok(None),
            Source::Variable(name) => {
                Zeroizing::new(std::env::var(name).map_err(|_| failed("the variable is not set".to_owned()))?)
            }
            Source::Descriptor(number) => text_of(PathBuf::from(format!("/dev/fd/{number}")), false).map_err(failed)?,
            Source::File(path) => text_of(path.clone(), true).map_err(failed)?,
        };
        Ok(Some(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())))
    }

    fn failed(&self, what: &str, why: &str) -> Failed {
        Failed::Failure(format!("{what} at {}: {why}", String::from(self.clone())))
    }
}

fn text_of(path: PathBuf, must_be_private: bool) -> Result<Zeroizing<String>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mode = file.metadata().map_err(|error| error.to_string())?.permissions().mode();
    // A group may have it: that is how service managers hand secrets over.
    if must_be_private && mode & 0o007 != 0 {
        return Err(format!("is open to everybody (mode {:04o}): take that right away", mode & 0o7777));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(BYTES_MAX).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_place_is_named_and_never_the_passphrase_itself() {
        for text in ["", "file:/run/secrets/zegel", "fd:3", "env:ZEGEL_PASSPHRASE"] {
            assert_eq!(String::from(text.parse::<Source>().unwrap()), text);
        }
        for wrong in ["correct horse battery", "file:", "fd:x", "env:", "pass:word"] {
            assert_eq!(wrong.parse::<Source>(), Err(FORM), "{wrong}");
        }
    }

    #[test]
    fn a_file_that_everybody_reads_is_refused_and_only_its_first_line_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passphrase");
        fs::write(&path, "correct horse battery\nsecond line\n").unwrap();
        let source = Source::File(path.clone());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(source.read().unwrap_err().to_string().contains("open to everybody"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(source.read().unwrap().is_some());
        fs::write(&path, "short\n").unwrap();
        let error = source.read().unwrap_err().to_string();
        assert!(error.contains("12 characters") && !error.contains("short\n"), "{error}");
        assert!(Source::Variable("ZEGEL_NO_SUCH_VARIABLE".to_owned()).read().is_err());
        assert!(Source::Nowhere.read().unwrap().is_none());
    }
}
