//! The data folder: what lies where, who may read it, and how commands find the platform and its tokens.
//!
//! ```text
//! zegel.db …          messages and state (embedded store)          keys.toml    keys, mode 0600
//! objects/            content over 64 KiB, encrypted               tokens       hashes of tokens, mode 0600
//! projects/           papers of TTP projects, see `register`       tsa/         the time-stamp authority
//! credentials/*.token tokens, mode 0600                            zegel.toml   settings, when there are any
//! zegel.moved         where its embedded store has gone, if it was moved
//! zegel.address       where the running platform listens          scratch/     encrypted buckets of batches at work
//! ```
//! Invariant I4: no file name or content here shows a person's number; a person's token file is named by a blinded key.

use crate::cli::Server;
use crate::client::Client;
use crate::config::Config;
use crate::failed::{Failed, at};
use crate::module;
use crate::passphrase::Source;
use schemas::MailboxAddress;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zegel_core::{Keys, names};
use zegel_crypto::tsa::Place;
use zegel_crypto::{Keyring, Openers, SealUnder};

/// The name of the operator's token file.
const OPERATOR: &str = "operator";

/// A data folder.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    passphrase: Source,
    module: String,
}

impl Folder {
    /// A folder without settings, for tests.
    #[cfg(test)]
    pub fn at(path: &Path) -> Folder {
        Folder { root: path.to_owned(), passphrase: Source::Nowhere, module: String::new() }
    }

    /// The folder of the settings; nothing is touched.
    pub fn of(config: &Config) -> Folder {
        Folder {
            root: config.data.clone(),
            passphrase: config.keys.passphrase.clone(),
            module: config.keys.module.clone(),
        }
    }

    /// What the settings have to open its key file with.
    fn openers(&self) -> Result<Openers, Failed> {
        Ok(Openers { passphrase: self.passphrase.settled()?, module: module::settled(&self.module)? })
    }

    /// What the settings want its key file sealed under: a module rather than a passphrase.
    ///
    /// # Errors
    /// When the passphrase cannot be read, or the module does not open.
    pub fn seal_under(&self) -> Result<Option<SealUnder>, Failed> {
        let Openers { passphrase, module } = self.openers()?;
        Ok(module.map(SealUnder::Module).or(passphrase.map(SealUnder::Passphrase)))
    }

    /// Whether the settings name a module.
    pub fn is_guarded(&self) -> bool {
        !self.module.is_empty()
    }

    /// The time-stamp authority, with what guards its keys.
    ///
    /// # Errors
    /// When the module or the key file does not open.
    pub fn authority(&self) -> Result<Place, Failed> {
        let keys = self.keys().exists().then(|| self.open_keys()).transpose()?;
        self.authority_under(keys.map(Arc::new).as_ref())
    }

    /// The same with keys that are open already. They seal its key files where they are sealed themselves.
    ///
    /// # Errors
    /// When the module does not open.
    pub fn authority_under(&self, keys: Option<&Arc<Keyring>>) -> Result<Place, Failed> {
        let place = Place::new(&self.tsa(), module::settled(&self.module)?);
        Ok(match keys.and_then(sealing) {
            Some(keys) => place.sealed_with(keys),
            None => place,
        })
    }

    /// The keys, which must be there.
    ///
    /// # Errors
    /// When they cannot be read, or are sealed under something else.
    pub fn open_keys(&self) -> Result<Keyring, Failed> {
        let opened = Keyring::load_with(&self.keys(), self.openers()?);
        opened.map_err(|error| Failed::Failure(error.to_string()))
    }

    /// Makes it, for its owner only, with the folders in it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn create(&self) -> Result<(), Failed> {
        for folder in [&self.root, &self.projects(), &self.credentials(), &self.scratch()] {
            private_folder(folder)?;
        }
        Ok(())
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The database of the embedded store.
    pub fn database(&self) -> PathBuf {
        self.root.join("zegel.db")
    }

    /// The mark of a folder whose store was moved elsewhere: where to.
    pub fn moved(&self) -> PathBuf {
        self.root.join("zegel.moved")
    }

    /// Where the folder's store was moved to, if it was.
    pub fn moved_to(&self) -> Option<String> {
        fs::read_to_string(self.moved()).ok().map(|text| text.trim().to_owned())
    }

    /// The key file.
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys.toml")
    }

    /// Large content.
    pub fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    /// The time-stamp authority.
    pub fn tsa(&self) -> PathBuf {
        self.root.join("tsa")
    }

    /// Project documents.
    pub fn projects(&self) -> PathBuf {
        self.root.join("projects")
    }

    /// Encrypted buckets of batches at work.
    pub fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// Hashes of tokens.
    pub fn tokens(&self) -> PathBuf {
        self.root.join("tokens")
    }

    /// Tokens in clear, for the commands of this machine.
    pub fn credentials(&self) -> PathBuf {
        self.root.join("credentials")
    }

    /// Where the running platform says its address.
    pub fn address(&self) -> PathBuf {
        self.root.join("zegel.address")
    }

    /// Whether a platform answers at the address that the folder says. A killed one leaves its address behind.
    pub fn is_served(&self) -> bool {
        let address = fs::read_to_string(self.address()).unwrap_or_default();
        !address.is_empty() && Client::new(address.trim(), None).status("GET", "/healthz", &[]).is_ok()
    }

    /// A client for the operator.
    ///
    /// # Errors
    /// When no address or token is known.
    pub fn operator(&self, server: &Server) -> Result<Client, Failed> {
        let base = self.base(server)?;
        let token = given_token(server).map_or_else(|| self.read_token(OPERATOR), Ok)?;
        Ok(Client::new(&base, Some(token)))
    }

    /// A client for the owner of a mailbox.
    ///
    /// # Errors
    /// When no address or token is known.
    pub fn owner(&self, server: &Server, address: &MailboxAddress) -> Result<Client, Failed> {
        // Whether anybody is there comes first: without a platform there is no folder to look for tokens in.
        let base = self.base(server)?;
        let token = match given_token(server) {
            Some(token) => token,
            None => self.read_token(&self.credential_name(address)?)?,
        };
        Ok(Client::new(&base, Some(token)))
    }

    /// A client without a token, for what is public.
    ///
    /// # Errors
    /// When no address is known.
    pub fn anybody(&self, server: &Server) -> Result<Client, Failed> {
        Ok(Client::new(&self.base(server)?, None))
    }

    /// A client of the owner where the folder has the owner's token, else of the operator.
    ///
    /// # Errors
    /// When no address or token is known.
    pub fn owner_or_operator(&self, server: &Server, address: &MailboxAddress) -> Result<Client, Failed> {
        self.owner(server, address).or_else(|_| self.operator(server))
    }

    /// Keeps the operator's token.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn keep_operator_token(&self, token: &str) -> Result<(), Failed> {
        write_private(&self.credentials().join(format!("{OPERATOR}.token")), token)
    }

    /// Whether the operator's token is there.
    pub fn has_operator_token(&self) -> bool {
        self.credentials().join(format!("{OPERATOR}.token")).exists()
    }

    /// The operator's token, for what this platform asks of itself.
    ///
    /// # Errors
    /// When it is not there.
    pub fn operator_token(&self) -> Result<String, Failed> {
        let path = self.credentials().join(format!("{OPERATOR}.token"));
        Ok(fs::read_to_string(&path).map_err(at(&path))?.trim().to_owned())
    }

    /// Keeps a mailbox owner's token.
    ///
    /// # Errors
    /// When the system refuses, or the key file is needed and cannot be read.
    pub fn keep_token(&self, address: &MailboxAddress, token: &str) -> Result<PathBuf, Failed> {
        private_folder(&self.credentials())?;
        let path = self.credentials().join(format!("{}.token", self.credential_name(address)?));
        write_private(&path, token)?;
        Ok(path)
    }

    /// The addresses of the mailboxes whose tokens are kept; of a person's, the blinded key.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn kept_tokens(&self) -> Result<Vec<String>, Failed> {
        let entries = match fs::read_dir(self.credentials()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(at(&self.credentials()))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            match name.strip_suffix(".token") {
                Some(OPERATOR) | None => {}
                Some(name) => names.push(address_of(name).unwrap_or_else(|| name.to_owned())),
            }
        }
        names.sort();
        Ok(names)
    }

    fn base(&self, server: &Server) -> Result<String, Failed> {
        if let Some(url) = server.url.clone().or_else(|| std::env::var("ZEGEL_URL").ok()) {
            return Ok(url);
        }
        let path = self.address();
        fs::read_to_string(&path).map(|text| text.trim().to_owned()).map_err(|_| {
            Failed::Unreachable(format!(
                "no platform runs in {}: start it with `zegel up`, or say --url",
                self.root.display()
            ))
        })
    }

    fn read_token(&self, name: &str) -> Result<String, Failed> {
        let path = self.credentials().join(format!("{name}.token"));
        fs::read_to_string(&path).map(|text| text.trim().to_owned()).map_err(|_| {
            let folder = self.credentials();
            let text = format!(
                "no token for this in {}: open the mailbox with `zegel mailbox open`, say --token or set ZEGEL_TOKEN",
                folder.display()
            );
            Failed::refused("ZGL-AUTH-TOKEN", text)
        })
    }

    fn credential_name(&self, address: &MailboxAddress) -> Result<String, Failed> {
        if !address.is_person() {
            return Ok(folder_name(address));
        }
        let keys = self.open_keys()?;
        Ok(names::address_key(&keys as &dyn Keys, address).to_string())
    }
}

/// The keys that seal the private keys in other files: those of a key file that is sealed itself. Under a plain one it would only
/// look safer.
pub fn sealing(keys: &Arc<Keyring>) -> Option<Arc<dyn Keys>> {
    keys.sealed_under().map(|_| Arc::clone(keys) as Arc<dyn Keys>)
}

/// An address as people and files may see it: a person's number is masked.
pub fn shown(address: &MailboxAddress) -> String {
    if address.is_person() { "SSIN:***".to_owned() } else { address.to_string() }
}

/// An address as the name of a folder: `NIHII-HOSPITAL-71000436`. Only for owners that are no persons, and for the
/// hospitals' own folders.
pub fn folder_name(address: &MailboxAddress) -> String {
    address.to_string().replace(':', "-")
}

/// The address that [`folder_name`] made this name of; none when it is no such name.
fn address_of(name: &str) -> Option<String> {
    let (kind, rest) = name.split_at(name.find(|letter: char| letter.is_ascii_digit())?);
    let text = format!("{}:{}", kind.strip_suffix('-')?, rest.replacen('-', ":", 1));
    text.parse().ok().map(|address: MailboxAddress| address.to_string())
}

/// Makes a folder and those above it, each new one for its owner only.
///
/// # Errors
/// When the system refuses.
pub fn private_folder(path: &Path) -> Result<(), Failed> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}

/// Writes a file that only its owner may read, durable on return; what was there is replaced at once or not at all.
///
/// # Errors
/// When the system refuses.
pub fn write_private(path: &Path, text: &str) -> Result<(), Failed> {
    write_private_bytes(path, text.as_bytes())
}

/// As [`write_private`], any bytes.
///
/// # Errors
/// When the system refuses.
pub fn write_private_bytes(path: &Path, bytes: &[u8]) -> Result<(), Failed> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        // A bare file name has the empty path for a parent, which is the working folder.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    };
    write().map_err(at(path))
}

fn given_token(server: &Server) -> Option<String> {
    server.token.clone().or_else(|| std::env::var("ZEGEL_TOKEN").ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_persons_number_stands_in_no_file_name_and_is_masked_where_people_look() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::at(&temporary.path().join("data"));
        folder.create().unwrap();
        Keyring::create(&folder.keys()).unwrap();
        let person: MailboxAddress = "SSIN:85061511796".parse().unwrap();
        let path = folder.keep_token(&person, "secret").unwrap();
        assert!(!path.to_string_lossy().contains("85061511796"));
        assert!(!shown(&person).contains("85061511796"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(folder.root()).unwrap().permissions().mode() & 0o777, 0o700);
        let server = Server { url: Some("http://127.0.0.1:1".to_owned()), token: None };
        assert!(folder.owner(&server, &person).is_ok());
        let hospital: MailboxAddress = "NIHII-HOSPITAL:71000436".parse().unwrap();
        assert_eq!(folder_name(&hospital), "NIHII-HOSPITAL-71000436");
        assert!(folder.owner(&server, &hospital).is_err());
        assert_eq!(folder.kept_tokens().unwrap().len(), 1);
        for address in ["NIHII-HOSPITAL:71000436", "CBE:0123456749", "CBE-TREATMENT_CENTER:0123456749"] {
            let name = folder_name(&address.parse().unwrap());
            assert_eq!(address_of(&name).as_deref(), Some(address));
        }
    }
}
