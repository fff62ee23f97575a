//! Where decisions go: to the running platform, or, while none runs, into the data folder itself.

use crate::cli::Server;
use crate::client::Client;
use crate::commands::Place;
use crate::failed::Failed;
use crate::folder::Folder;
use crate::platform::open_keys;
use crate::register::FileRegister;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use zegel_core::clock::SystemClock;
use zegel_embedded::Lock;
use zegel_ttp::project::desk::{Desk, DeskError, Details, Filing, Overview};

/// See the module's header.
pub enum Target {
    /// A platform, by HTTP, as its operator.
    Remote(Client),
    /// A data folder that nobody serves.
    Local(Box<Local>),
}

/// A data folder's register, and the lock that keeps a platform from starting meanwhile.
pub struct Local {
    desk: FileRegister,
    _lock: Lock,
}

impl Target {
    /// The platform that is named, or that runs in the data folder; else the folder.
    ///
    /// # Errors
    /// When it can be neither asked nor opened.
    pub fn choose(place: &Place, server: &Server) -> Result<Target, Failed> {
        let folder = place.folder()?;
        let is_named = server.url.is_some() || std::env::var_os("ZEGEL_URL").is_some();
        if is_named || folder.is_served() {
            return Ok(Target::Remote(folder.operator(server)?));
        }
        Ok(Target::Local(Box::new(Local::open(&folder)?)))
    }

    /// Every project.
    ///
    /// # Errors
    /// As [`Desk::list`].
    pub fn list(&self) -> Result<Vec<Overview>, Failed> {
        match self {
            Target::Remote(client) => {
                let mut answer = client.get("/v1/projects", &[])?;
                read(answer["projects"].take())
            }
            Target::Local(local) => local.desk.list().map_err(failed),
        }
    }

    /// One project; none when it is unknown.
    ///
    /// # Errors
    /// As [`Desk::show`].
    pub fn find(&self, name: &str) -> Result<Option<Details>, Failed> {
        let found = match self {
            Target::Remote(client) => client.get(&path(name), &[]).and_then(read),
            Target::Local(local) => local.desk.show(name).map_err(failed),
        };
        match found {
            Err(Failed::Refused { code, .. }) if code == "ZGL-NOT-FOUND" => Ok(None),
            other => other.map(Some),
        }
    }

    /// One project.
    ///
    /// # Errors
    /// As [`Desk::show`].
    pub fn show(&self, name: &str) -> Result<Details, Failed> {
        self.find(name)?.ok_or_else(|| failed(DeskError::Unknown))
    }

    /// The commitment to a key root.
    ///
    /// # Errors
    /// As [`Desk::root`].
    pub fn root(&self, root_name: &str) -> Result<schemas::Sha256, Failed> {
        match self {
            Target::Remote(client) => {
                let mut answer = client.post(&format!("{}/root", path(root_name)), &json!({}))?;
                read(answer["root"].take())
            }
            Target::Local(local) => local.desk.root(root_name).map_err(failed),
        }
    }

    /// Hands a decision in.
    ///
    /// # Errors
    /// As [`Desk::file`].
    pub fn file(&self, filing: &Filing) -> Result<Overview, Failed> {
        match self {
            Target::Remote(client) => read(client.post("/v1/projects", &serde_json::to_value(filing)?)?),
            Target::Local(local) => local.desk.file(filing).map_err(failed),
        }
    }
}

impl Local {
    /// Opens a folder's register, and its keys, made where there are none.
    ///
    /// # Errors
    /// When something there cannot be used, or a platform is using it.
    pub fn open(folder: &Folder) -> Result<Local, Failed> {
        folder.create()?;
        let lock = Lock::take(&folder.database()).map_err(|error| Failed::Failure(error.to_string()))?;
        let keys = Arc::new(open_keys(folder)?);
        let desk = FileRegister::new(folder.projects(), keys, Arc::new(SystemClock));
        Ok(Local { desk, _lock: lock })
    }
}

fn path(name: &str) -> String {
    format!("/v1/projects/{}", crate::client::escape(name))
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, Failed> {
    Ok(serde_json::from_value(value)?)
}

fn failed(error: DeskError) -> Failed {
    match error {
        DeskError::Unknown => Failed::refused("ZGL-NOT-FOUND", "there is no such project"),
        DeskError::Refused { .. } => Failed::refused("ZGL-TTP-FILING", error.to_string()),
        DeskError::Failed(text) => Failed::Failure(text),
    }
}
