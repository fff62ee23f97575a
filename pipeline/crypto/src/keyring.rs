//! The keyring: the keys of one data folder, and sealing and blinding with them.
//!
//! Under a passphrase or a security module the file is of format 2 (module `sealed`), and the following is sealed in it. File (`keys.toml`, mode 0600, TOML, format 1; all keys are 32 random bytes in base64):
//! ```toml
//! format = 1
//! blinding = "…"                 # never rotates: the keys of all state are made with it
//! [[master]]                     # the highest version seals, all of them open
//! version = 1
//! key = "…"
//! [projects]                     # random roots, not derived: what is removed here is shredded
//! lab-registry = "…"
//! ```
//! Sealed value: `format (1) ‖ master version (u32 BE) ‖ salt (16 random bytes) ‖ ciphertext ‖ tag (16)`; AES-256-GCM,
//! zero nonce, the context as associated data, key = HMAC-SHA-256(master, "zegel-seal/1" ‖ salt). A key of its own for
//! each value, because random nonces under one key are used up after 2^32 values.
//! Failure: a file that others may read, or that is not exactly of this form, is refused; errors name the path and never
//! a line of the file. Whatever does not authenticate is an error (I8).

use self::contents::Contents;
use self::sealed::FileKey;
use crate::file;
use crate::secret::{ProjectRoot, Secret32, fill_public, fill_random};
use aws_lc_rs::{aead, hmac};
use bytes::Bytes;
use schemas::Key;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use zegel_core::{Keys, KeysError, Sealed};
use zeroize::Zeroizing;

mod contents;
mod error;
mod sealed;

pub use error::KeyringError;
pub use sealed::{Guard, Openers, Passphrase, PassphraseError, SealUnder};

const FORMAT: u8 = 1;
const SALT: usize = 16;
const TAG: usize = 16;
const HEADER: usize = 1 + 4 + SALT;
/// Bound into every value's key, so that no other use of the master key yields the same one.
const SEAL_LABEL: &[u8] = b"zegel-seal/1";

/// The keys of one data folder. Shared between threads by reference. Where several processes use one file, each writes on top of
/// what it says then, while it holds the folder's lock, and sees what others wrote after [`Keyring::refresh`].
pub struct Keyring {
    path: Option<PathBuf>,
    blinding: hmac::Key,
    state: RwLock<State>,
    /// What the file is sealed under. Held while the file is read or written, so that changes follow each other and nobody seals
    /// values behind a lock that fsyncs.
    seal: Mutex<Seal>,
}

/// What a key file is sealed under.
#[derive(Default)]
struct Seal {
    /// To open what is sealed; a file that is not opens without.
    openers: Openers,
    /// The key of the file as it was last read; none: it is not sealed.
    key: Option<FileKey>,
}

/// What rotates: the keys as the file has them, and the masters prepared for sealing, oldest first.
struct State {
    contents: Contents,
    sealing: Vec<(u32, hmac::Key)>,
}

impl Keyring {
    /// Makes a new key file with fresh keys, durable on return.
    ///
    /// # Errors
    /// [`KeyringError::Exists`] when there is one; [`KeyringError::Io`].
    pub fn create(path: &Path) -> Result<Keyring, KeyringError> {
        Keyring::create_as(path, Seal::default())
    }

    /// Makes a new key file with fresh keys under a passphrase or a module, durable on return.
    ///
    /// # Errors
    /// As [`Keyring::create`], and [`KeyringError::Module`].
    pub fn create_sealed(path: &Path, under: &SealUnder) -> Result<Keyring, KeyringError> {
        Keyring::create_as(path, Seal::fresh(path, under, sealed::COSTS)?)
    }

    fn create_as(path: &Path, seal: Seal) -> Result<Keyring, KeyringError> {
        let contents = Contents::generate();
        file::create(path, seal.text(&contents).as_bytes(), file::PRIVATE).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyringError::Exists(path.to_owned()),
            _ => KeyringError::Io { path: path.to_owned(), source },
        })?;
        let keys = Keyring::with(contents, Some(path.to_owned()));
        *keys.sealing() = seal;
        Ok(keys)
    }

    /// Reads a key file that is not sealed.
    ///
    /// # Errors
    /// [`KeyringError::Permissions`] when group or others have any right to it, [`KeyringError::Format`],
    /// [`KeyringError::Sealed`], [`KeyringError::Io`] (also when it is missing).
    pub fn load(path: &Path) -> Result<Keyring, KeyringError> {
        Keyring::load_with(path, Openers::default())
    }

    /// Reads a key file. One that is not sealed opens whatever the openers; see [`Keyring::sealed_under`].
    ///
    /// # Errors
    /// As [`Keyring::load`], [`KeyringError::Passphrase`] and [`KeyringError::Module`].
    pub fn load_with(path: &Path, openers: Openers) -> Result<Keyring, KeyringError> {
        let mut seal = Seal { openers, key: None };
        let contents = seal.read(path)?;
        let keys = Keyring::with(contents, Some(path.to_owned()));
        *keys.sealing() = seal;
        Ok(keys)
    }

    /// What the file is sealed under. None: it is not sealed, or there is no file.
    #[must_use]
    pub fn sealed_under(&self) -> Option<Guard> {
        self.sealing().key.as_ref().map(FileKey::guard)
    }

    /// Seals the file from now on, durable on return: converts one that is not sealed, or exchanges what it is sealed under. Copies
    /// of the file stay as they were, and freed disk blocks may show what it was.
    ///
    /// # Errors
    /// [`KeyringError::Io`], [`KeyringError::Module`] and those of reading; the file is as it was then.
    pub fn seal_file(&self, under: &SealUnder) -> Result<(), KeyringError> {
        self.seal_file_at(under, sealed::COSTS)
    }

    fn seal_file_at(&self, under: &SealUnder, costs: sealed::Costs) -> Result<(), KeyringError> {
        let Some(path) = &self.path else { return Ok(()) };
        let next = Seal::fresh(path, under, costs)?;
        let mut seal = self.sealing();
        let _others_wait = lock_folder(path)?;
        let contents = seal.read(path)?;
        next.write(path, &contents)?;
        *seal = next;
        Ok(())
    }

    /// Fresh keys without a file, for tests and measurements.
    #[must_use]
    pub fn generate_in_memory() -> Keyring {
        Keyring::with(Contents::generate(), None)
    }

    /// Adds a master key that seals from now on, durable on return; the earlier ones keep opening. Returns its version.
    ///
    /// # Errors
    /// [`KeyringError::Io`]; nothing has changed then.
    pub fn rotate(&self) -> Result<u32, KeyringError> {
        self.change(Contents::add_master)
    }

    /// The version that seals now.
    #[must_use]
    pub fn current_version(&self) -> u32 {
        self.state().contents.current().0
    }

    /// How many projects have a root.
    #[must_use]
    pub fn project_roots(&self) -> usize {
        self.state().contents.projects.len()
    }

    /// The root of a project, if it has one.
    #[must_use]
    pub fn project_root(&self, project: &str) -> Option<ProjectRoot> {
        self.state().contents.projects.get(project).cloned().map(ProjectRoot::new)
    }

    /// The root of a project, made and durable on return if it had none.
    ///
    /// # Errors
    /// [`KeyringError::Io`]; the project has no root then.
    pub fn ensure_project_root(&self, project: &str) -> Result<ProjectRoot, KeyringError> {
        if let Some(root) = self.project_root(project) {
            return Ok(root);
        }
        let root = self
            .change(|contents| contents.projects.entry(project.to_owned()).or_insert_with(Secret32::random).clone())?;
        Ok(ProjectRoot::new(root))
    }

    /// Forgets a project's root, durable on return: its pseudonyms cannot be resolved any more. Returns whether there
    /// was one. Copies of the key file and freed disk blocks are outside its reach.
    ///
    /// # Errors
    /// [`KeyringError::Io`]; the root is still there then.
    pub fn drop_project_root(&self, project: &str) -> Result<bool, KeyringError> {
        self.change(|contents| contents.projects.remove(project).is_some())
    }

    /// Takes over what other processes have written into the file; nothing without a file.
    ///
    /// # Errors
    /// As [`Keyring::load`]; the keys are as they were.
    pub fn refresh(&self) -> Result<(), KeyringError> {
        let Some(path) = &self.path else { return Ok(()) };
        let next = State::prepare(self.sealing().read(path)?);
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// The master secret that new objects are derived from, with its version.
    pub(crate) fn current_master(&self) -> (u32, Secret32) {
        let state = self.state();
        let (version, secret) = state.contents.current();
        (version, secret.clone())
    }

    /// The master secret of a version.
    pub(crate) fn master(&self, version: u32) -> Result<Secret32, KeysError> {
        self.state().contents.masters.get(&version).cloned().ok_or(KeysError::UnknownVersion(version))
    }

    fn with(contents: Contents, path: Option<PathBuf>) -> Keyring {
        Keyring {
            path,
            blinding: hmac::Key::new(hmac::HMAC_SHA256, contents.blinding.expose()),
            state: RwLock::new(State::prepare(contents)),
            seal: Mutex::default(),
        }
    }

    /// Changes a copy, writes it, and only then lets it be seen.
    fn change<T>(&self, change: impl FnOnce(&mut Contents) -> T) -> Result<T, KeyringError> {
        let mut seal = self.sealing();
        let lock = self.path.as_deref().map(lock_folder).transpose()?;
        let mut contents = match &self.path {
            // What another process has added since must stay.
            Some(path) => seal.read(path)?,
            None => self.state().contents.clone(),
        };
        let result = change(&mut contents);
        if let Some(path) = &self.path {
            seal.write(path, &contents)?;
        }
        drop(lock);
        let next = State::prepare(contents);
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(result)
    }

    fn sealing(&self) -> MutexGuard<'_, Seal> {
        // Whoever held it either replaced it whole or not at all.
        self.seal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        // A reader cannot leave the state half written, and a writer only swaps it.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seal {
    fn fresh(path: &Path, under: &SealUnder, costs: sealed::Costs) -> Result<Seal, KeyringError> {
        let key = FileKey::fresh(under, costs).map_err(|error| KeyringError::of(path, error))?;
        let openers = match under.clone() {
            SealUnder::Passphrase(passphrase) => passphrase.into(),
            SealUnder::Module(module) => Openers { passphrase: None, module: Some(module) },
        };
        Ok(Seal { openers, key: Some(key) })
    }

    /// Reads the file, and remembers how it is sealed.
    fn read(&mut self, path: &Path) -> Result<Contents, KeyringError> {
        let text = read_file(path)?;
        let form = |rule| KeyringError::Format { path: path.to_owned(), rule };
        if !sealed::is_sealed(&text) {
            if self.key.is_some() {
                // An open copy of before, put back: what is added to it would lie open too.
                return Err(form("it was sealed, and is not any more"));
            }
            return Contents::from_toml(&text).map_err(form);
        }
        let opened = sealed::open(&text, &self.openers, self.key.as_ref());
        let (text, key) = opened.map_err(|error| KeyringError::of(path, error))?;
        self.key = Some(key);
        Contents::from_toml(&text).map_err(form)
    }

    /// Writes the file as it is sealed.
    fn write(&self, path: &Path, contents: &Contents) -> Result<(), KeyringError> {
        file::replace(path, self.text(contents).as_bytes(), file::PRIVATE)
            .map_err(|source| KeyringError::Io { path: path.to_owned(), source })
    }

    fn text(&self, contents: &Contents) -> Zeroizing<String> {
        let plain = contents.to_toml();
        match &self.key {
            Some(key) => Zeroizing::new(key.seal(&plain)),
            None => plain,
        }
    }
}

impl State {
    fn prepare(contents: Contents) -> State {
        let sealing = contents
            .masters
            .iter()
            .map(|(version, secret)| (*version, hmac::Key::new(hmac::HMAC_SHA256, secret.expose())))
            .collect();
        State { contents, sealing }
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring(***)")
    }
}

impl Keys for Keyring {
    fn blind(&self, domain: &str, identifier: &[u8]) -> Key {
        let mut context = hmac::Context::with_key(&self.blinding);
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        context.update(&(domain.len() as u64).to_be_bytes());
        context.update(domain.as_bytes());
        context.update(identifier);
        let tag = context.sign();
        let mut key = [0; 16];
        key.copy_from_slice(&tag.as_ref()[..16]);
        Key(key)
    }

    fn seal(&self, context: &[u8], plain: &[u8]) -> Sealed {
        let mut salt = [0; SALT];
        fill_public(&mut salt);
        let state = self.state();
        let (version, cipher) = match state.sealing.last() {
            Some((version, master)) => (*version, value_cipher(master, &salt)),
            None => unreachable!("a keyring without a master key is refused when it is read"),
        };
        drop(state);
        let mut out = Vec::with_capacity(HEADER + plain.len() + TAG);
        out.push(FORMAT);
        out.extend_from_slice(&version.to_be_bytes());
        out.extend_from_slice(&salt);
        out.extend_from_slice(plain);
        let tag = cipher.seal_in_place_separate_tag(zero_nonce(), aead::Aad::from(context), &mut out[HEADER..]);
        match tag {
            Ok(tag) => out.extend_from_slice(tag.as_ref()),
            // Only a value beyond 2^36 bytes is refused; nothing that size is held in memory.
            Err(_) => unreachable!("a value in memory is never too long for AES-GCM"),
        }
        Sealed::from_stored(Bytes::from(out))
    }

    fn open(&self, context: &[u8], sealed: &Sealed) -> Result<Vec<u8>, KeysError> {
        let bytes = sealed.bytes();
        if bytes.len() < HEADER + TAG || bytes[0] != FORMAT {
            return Err(KeysError::Format);
        }
        let version = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
        let state = self.state();
        let cipher = match state.sealing.binary_search_by_key(&version, |(version, _)| *version) {
            Ok(found) => value_cipher(&state.sealing[found].1, &bytes[5..HEADER]),
            Err(_) => return Err(KeysError::UnknownVersion(version)),
        };
        drop(state);
        let mut plain = bytes[HEADER..].to_vec();
        let length = cipher
            .open_in_place(zero_nonce(), aead::Aad::from(context), &mut plain)
            .map_err(|_| KeysError::Authentication)?
            .len();
        plain.truncate(length);
        Ok(plain)
    }

    fn random(&self, out: &mut [u8]) {
        fill_random(out);
    }

    fn random16(&self) -> [u8; 16] {
        let mut id = [0; 16];
        fill_public(&mut id);
        id
    }
}

/// The cipher of one value. The key is used for one message only, so its nonce may be zero.
fn value_cipher(master: &hmac::Key, salt: &[u8]) -> aead::LessSafeKey {
    let mut context = hmac::Context::with_key(master);
    context.update(SEAL_LABEL);
    context.update(salt);
    cipher(context.sign().as_ref())
}

/// AES-256-GCM under a key of 32 bytes.
pub(crate) fn cipher(key: &[u8]) -> aead::LessSafeKey {
    match aead::UnboundKey::new(&aead::AES_256_GCM, key) {
        Ok(key) => aead::LessSafeKey::new(key),
        Err(_) => unreachable!("the key of AES-256-GCM is always 32 bytes here"),
    }
}

fn zero_nonce() -> aead::Nonce {
    aead::Nonce::assume_unique_for_key([0; 12])
}

/// Waits until no other process changes the key file; ends when what is returned is dropped.
fn lock_folder(path: &Path) -> Result<File, KeyringError> {
    let failed = |source| KeyringError::Io { path: path.to_owned(), source };
    // The file itself is replaced with every change, so its folder is what can be held.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let opened = File::open(folder).map_err(failed)?;
    opened.lock().map_err(failed)?;
    Ok(opened)
}

/// Reads through one handle, so that the permissions checked are those of the bytes read.
fn read_file(path: &Path) -> Result<Zeroizing<String>, KeyringError> {
    let failed = |source| KeyringError::Io { path: path.to_owned(), source };
    let mut opened = File::open(path).map_err(failed)?;
    if let Some(mode) = file::open_mode(&opened).map_err(failed)? {
        return Err(KeyringError::Permissions { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    opened.read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
