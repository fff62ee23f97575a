//! Why there are no keys. Errors name the file and a rule, never a line of it.

use super::sealed::OpenError;
use crate::module::ModuleError;
use std::io;
use std::path::{Path, PathBuf};

/// Why a key file could not be made, read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// A new key file would replace one, and with it everything that was sealed.
    #[error("key file {0} exists already")]
    Exists(PathBuf),
    /// Other users of the machine may read the file.
    #[error("key file {path} is open to others (mode {mode:04o}): run `chmod 600 {path}`", path = .path.display())]
    Permissions {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is not a key file of a known format.
    #[error("key file {path}: {rule}", path = .path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// What it breaks.
        rule: &'static str,
    },
    /// It is sealed, and what opens it was not given.
    #[error("key file {path} is sealed under {needs}", path = .path.display())]
    Sealed {
        /// Which file.
        path: PathBuf,
        /// What it needs, and which setting says it.
        needs: &'static str,
    },
    /// It is sealed under a key in a security module, which does not do its part.
    #[error("key file {path}: {source}", path = .path.display())]
    Module {
        /// Which file.
        path: PathBuf,
        /// What the module said.
        source: ModuleError,
    },
    /// It does not open.
    #[error("key file {0} does not open: another passphrase, or the file was changed")]
    Passphrase(PathBuf),
    /// The disk or the folder does not allow it.
    #[error("key file {path}: {source}", path = .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl KeyringError {
    /// Of what opening a sealed text gave.
    pub(super) fn of(path: &Path, error: OpenError) -> KeyringError {
        let path = path.to_owned();
        match error {
            OpenError::Form(rule) => KeyringError::Format { path, rule },
            OpenError::Authentication => KeyringError::Passphrase(path),
            OpenError::Needs(needs) => KeyringError::Sealed { path, needs },
            OpenError::Module(source) => KeyringError::Module { path, source },
        }
    }
}
