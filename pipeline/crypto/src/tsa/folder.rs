//! The folder of an authority.
//!
//! ```text
//! ca.pem ca.key        the CA; the key signs units and revocation lists, and is in memory only while it does
//! ca.crl               its revocation list, DER
//! tsa.pem tsa.key      unit 1
//! units/<n>/tsa.pem tsa.key   unit n, from 2 on, made whole by a rename; the highest number is the active one
//! starts/              see `floor`
//! ```
//! Keys are PKCS#8 in PEM with mode 0600, sealed where the place has keys for that (module
//! `key_text`), or are in a security module, and their URI (RFC 7512) stands in the file. One unit is active at a time; when it is replaced its key is deleted and its
//! certificate stays, because old tokens without certificates inside are verified with it.

use super::TsaError;
use super::certificates;
use super::signing::SigningKey;
use super::verify::TrustAnchor;
use crate::file;
use crate::key_text;
use crate::module::{self, Module, ModuleError};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_cert::Certificate;
use zegel_core::Keys;
use zeroize::Zeroizing;

pub(super) const CA_CERTIFICATE: &str = "ca.pem";
pub(super) const CA_KEY: &str = "ca.key";
pub(super) const CA_LIST: &str = "ca.crl";
pub(super) const TSU_CERTIFICATE: &str = "tsa.pem";
pub(super) const TSU_KEY: &str = "tsa.key";
const UNITS: &str = "units";

/// Where an authority is: its folder, and the security module that new keys are made in. A path alone: keys are in files.
#[derive(Clone)]
pub struct Place {
    pub(super) folder: PathBuf,
    pub(super) module: Option<Arc<dyn Module>>,
    pub(super) keys: Option<Arc<dyn Keys>>,
}

impl Place {
    /// A folder whose keys are in a module, if there is one.
    #[must_use]
    pub fn new(folder: &Path, module: Option<Arc<dyn Module>>) -> Place {
        Place { folder: folder.to_owned(), module, keys: None }
    }

    /// The same place, whose key files are sealed with these keys from now on; plain ones are read as before.
    #[must_use]
    pub fn sealed_with(self, keys: Arc<dyn Keys>) -> Place {
        Place { keys: Some(keys), ..self }
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Place {
    fn from(folder: &P) -> Place {
        Place::new(folder.as_ref(), None)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({})", self.folder.display())
    }
}

/// Held while units or lists are written: what another process of this folder writes meanwhile would be lost.
pub(super) struct Lock(fs::File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Said aloud: a child process that was being started just now holds a copy of the handle, and would keep the lock.
        let _closing_unlocks_too = self.0.unlock();
    }
}

/// Waits for the folder.
pub(super) fn lock(folder: &Path) -> Result<Lock, TsaError> {
    let failed = |source| TsaError::Io { path: folder.to_owned(), source };
    let opened = fs::File::open(folder).map_err(failed)?;
    opened.lock().map_err(failed)?;
    Ok(Lock(opened))
}

/// One unit's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnitFolder {
    pub(super) number: u32,
    path: PathBuf,
}

impl UnitFolder {
    pub(super) fn certificate(&self) -> Result<Certificate, TsaError> {
        certificates::from_pem(&read_text(&self.path.join(TSU_CERTIFICATE))?)
    }

    pub(super) fn key(&self, place: &Place) -> Result<SigningKey, TsaError> {
        read_key(&self.path.join(TSU_KEY), place)
    }

    /// Deletes the private key: a unit that is replaced stamps nothing any more. In a module first, so that what a crash leaves
    /// still names what is to be destroyed.
    pub(super) fn destroy_key(&self, module: Option<&Arc<dyn Module>>) -> Result<(), TsaError> {
        let path = self.path.join(TSU_KEY);
        if !path.exists() {
            return Ok(());
        }
        let text = read_text(&path)?;
        if module::is_uri(&text) {
            module.ok_or(ModuleError::Absent)?.destroy(text.trim_end())?;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(TsaError::Io { path, source: error }),
            _ => Ok(()),
        }
    }
}

/// Every unit, the active one last.
pub(super) fn units(folder: &Path) -> Result<Vec<UnitFolder>, TsaError> {
    let mut found = vec![UnitFolder { number: 1, path: folder.to_owned() }];
    let place = folder.join(UNITS);
    match fs::read_dir(&place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(TsaError::Io { path: place, source }),
        Ok(entries) => {
            for entry in entries {
                let path = entry.map_err(|source| TsaError::Io { path: place.clone(), source })?.path();
                let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
                found.extend(number.map(|number| UnitFolder { number, path }));
            }
        }
    }
    found.sort_by_key(|unit| unit.number);
    Ok(found)
}

/// The active unit.
pub(super) fn active(folder: &Path) -> Result<UnitFolder, TsaError> {
    units(folder)?.pop().ok_or(TsaError::Authority("there is no time-stamping unit"))
}

/// Writes the next unit, durable on return. When another process wrote one of that number meanwhile, that one stays.
pub(super) fn add_unit(at: &Place, number: u32, key: &SigningKey, unit: &Certificate) -> Result<(), TsaError> {
    let place = at.folder.join(UNITS);
    match fs::create_dir(&place) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(TsaError::Io { path: place, source: error });
        }
        _ => {}
    }
    let path = place.join(number.to_string());
    let building = building_folder(&path)?;
    write(&building.join(TSU_KEY), key.to_text(at)?.as_bytes(), file::PRIVATE)?;
    write(&building.join(TSU_CERTIFICATE), certificates::pem(unit)?.as_bytes(), file::PUBLIC)?;
    match fs::rename(&building, &path) {
        Err(error) if is_taken(&error) => {
            fs::remove_dir_all(&building).map_err(|source| TsaError::Io { path: building.clone(), source })?;
        }
        Err(source) => return Err(TsaError::Io { path, source }),
        Ok(()) => {}
    }
    file::sync_folder_of(&path)
        .and_then(|()| file::sync_folder_of(&place))
        .map_err(|source| TsaError::Io { path, source })
}

/// Writes a whole new authority by one rename: a crash leaves all of it or none.
pub(super) fn create(
    place: &Place,
    keys: [&SigningKey; 2],
    certificates: [&Certificate; 2],
    list: &[u8],
) -> Result<(), TsaError> {
    let folder = &place.folder;
    let building = building_folder(folder)?;
    let [ca, tsu] = certificates;
    write(&building.join(CA_KEY), keys[0].to_text(place)?.as_bytes(), file::PRIVATE)?;
    write(&building.join(TSU_KEY), keys[1].to_text(place)?.as_bytes(), file::PRIVATE)?;
    write(&building.join(CA_CERTIFICATE), certificates::pem(ca)?.as_bytes(), file::PUBLIC)?;
    write(&building.join(TSU_CERTIFICATE), certificates::pem(tsu)?.as_bytes(), file::PUBLIC)?;
    write(&building.join(CA_LIST), list, file::PUBLIC)?;
    fs::rename(&building, folder).map_err(|source| match source {
        source if is_taken(&source) => TsaError::Exists(folder.clone()),
        source => TsaError::Io { path: folder.to_owned(), source },
    })?;
    file::sync_folder_of(folder).map_err(|source| TsaError::Io { path: folder.to_owned(), source })
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
}

/// The CA's certificate as a trust anchor, and its text.
pub(super) fn ca(folder: &Path) -> Result<(TrustAnchor, String), TsaError> {
    let text = read_text(&folder.join(CA_CERTIFICATE))?;
    Ok((TrustAnchor::from_pem(&text)?, text.to_string()))
}

/// The CA's key, checked against its certificate.
pub(super) fn ca_key(place: &Place, ca: &TrustAnchor) -> Result<SigningKey, TsaError> {
    let key = read_key(&place.folder.join(CA_KEY), place)?;
    if !key.belongs_to(&ca.certificate().tbs_certificate.subject_public_key_info)? {
        return Err(TsaError::Authority("key and certificate of the authority do not belong together"));
    }
    Ok(key)
}

/// Whether the file of the CA's key only names it.
pub(super) fn is_ca_key_named(folder: &Path) -> Result<bool, TsaError> {
    Ok(module::is_uri(&read_text(&folder.join(CA_KEY))?))
}

/// The revocation list, if there is one.
pub(super) fn list(folder: &Path) -> Result<Option<Vec<u8>>, TsaError> {
    let path = folder.join(CA_LIST);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TsaError::Io { path, source }),
    }
}

/// Writes the revocation list over the one before.
pub(super) fn keep_list(folder: &Path, list: &[u8]) -> Result<(), TsaError> {
    let path = folder.join(CA_LIST);
    file::replace(&path, list, file::PUBLIC).map_err(|source| TsaError::Io { path, source })
}

/// Refuses a folder that holds something.
pub(super) fn check_vacant(folder: &Path) -> Result<(), TsaError> {
    match fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(true) => Err(TsaError::Exists(folder.to_owned())),
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(TsaError::Io { path: folder.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Refuses a key that others may read.
pub(super) fn check_private(folder: &Path) -> Result<(), TsaError> {
    for path in [folder.join(CA_KEY), active(folder)?.path.join(TSU_KEY)] {
        match fs::File::open(&path).and_then(|opened| file::open_mode(&opened)) {
            Ok(None) => {}
            Ok(Some(mode)) => return Err(TsaError::Permissions { path, mode }),
            Err(source) => return Err(TsaError::Io { path, source }),
        }
    }
    Ok(())
}

fn read_key(path: &Path, place: &Place) -> Result<SigningKey, TsaError> {
    SigningKey::from_text(&read_text(path)?, place)
}

/// Writes the keys of CA and active unit as the place keeps them now.
pub(super) fn keep_keys(place: &Place) -> Result<(), TsaError> {
    for path in [place.folder.join(CA_KEY), active(&place.folder)?.path.join(TSU_KEY)] {
        let text = read_key(&path, place)?.to_text(place)?;
        file::replace(&path, text.as_bytes(), file::PRIVATE).map_err(|source| TsaError::Io { path, source })?;
    }
    Ok(())
}

/// Whether no key stands in a file for everybody who has the file.
pub(super) fn is_guarded(folder: &Path) -> Result<bool, TsaError> {
    for path in [folder.join(CA_KEY), active(folder)?.path.join(TSU_KEY)] {
        let text = read_text(&path)?;
        if !module::is_uri(&text) && !key_text::is_sealed(&text) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn read_text(path: &Path) -> Result<Zeroizing<String>, TsaError> {
    fs::read_to_string(path).map(Zeroizing::new).map_err(|source| TsaError::Io { path: path.to_owned(), source })
}

/// A fresh folder beside `folder`, under a fixed name; what a crash left there was never read.
fn building_folder(folder: &Path) -> Result<PathBuf, TsaError> {
    let mut name = folder.file_name().ok_or(TsaError::Authority("folder has no name"))?.to_owned();
    name.push(".new");
    let building = folder.with_file_name(name);
    let failed = |source| TsaError::Io { path: building.clone(), source };
    match fs::remove_dir_all(&building) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    fs::create_dir(&building).map_err(failed)?;
    Ok(building)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TsaError> {
    file::create(path, bytes, mode).map_err(|source| TsaError::Io { path: path.to_owned(), source })
}
