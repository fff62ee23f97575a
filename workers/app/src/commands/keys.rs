//! `zegel keys`: the key file under its passphrase or its module.

use super::Place;
use crate::cli::Keys;
use crate::failed::Failed;
use crate::folder::Folder;
use crate::stamping;
use crate::term::Report;
use serde_json::json;
use std::sync::Arc;
use zegel_crypto::tsa::Authority;
use zegel_crypto::{Keyring, SealUnder};
use zegel_embedded::Lock;

/// Shows, seals, or exchanges the passphrase.
///
/// # Errors
/// The file cannot be read or written, there is no passphrase, or a platform works in the folder.
pub fn run(place: &Place, wanted: &Keys) -> Result<Report, Failed> {
    let config = place.config()?;
    let folder = Folder::of(&config);
    match wanted {
        Keys::Status => {
            let keys = folder.open_keys()?;
            let under = keys.sealed_under().map(|guard| guard.to_string());
            let (version, projects) = (keys.current_version(), keys.project_roots());
            let how = match &under {
                Some(under) => format!("sealed under {under}"),
                None => "not sealed: whoever has the file has every key".to_owned(),
            };
            let told = format!("{how}\nmaster key {version} seals; {projects} project roots");
            let sealed = under.is_some();
            Ok(Report::new(
                json!({ "sealed": sealed, "under": under, "master": version, "project_roots": projects }),
                told,
            ))
        }
        Keys::Seal => {
            let under = folder.seal_under()?.ok_or_else(|| {
                Failed::Usage(
                    "say in the setting keys.passphrase where the passphrase is, like file:/run/secrets/zegel, or name \
                     a security module in keys.module"
                        .to_owned(),
                )
            })?;
            seal(&folder, &under, "sealed; copies of the file that were made before are not")
        }
        Keys::Passphrase { new } => {
            let passphrase = new.read()?;
            let passphrase = passphrase.ok_or_else(|| Failed::Usage("--new names no place".to_owned()))?;
            seal(
                &folder,
                &SealUnder::Passphrase(passphrase),
                "sealed under the new passphrase: let the setting keys.passphrase name its place",
            )
        }
    }
}

fn seal(folder: &Folder, under: &SealUnder, told: &str) -> Result<Report, Failed> {
    // A platform that was started with the old passphrase could not read the file any more.
    let _nobody_else = Lock::take(&folder.database()).map_err(|error| Failed::Failure(error.to_string()))?;
    let keys: Keyring = folder.open_keys()?;
    let failure = |error: String| Failed::Failure(error);
    keys.seal_file(under).map_err(|error| failure(error.to_string()))?;
    let keys = Arc::new(keys);
    if folder.tsa().join("ca.pem").exists() {
        let place = folder.authority_under(Some(&keys))?;
        Authority::keep_keys(place).map_err(|error| failure(error.to_string()))?;
    }
    stamping::keep_log_key(folder, crate::folder::sealing(&keys).as_deref())?;
    let told = format!("{} is {told}", folder.keys().display());
    Ok(Report::new(json!({ "sealed": true }), told))
}
