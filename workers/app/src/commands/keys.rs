//! `zegel keys`: the key file under its passphrase.

use super::Place;
use crate::cli::Keys;
use crate::failed::Failed;
use crate::folder::Folder;
use crate::term::Report;
use serde_json::json;
use zegel_crypto::{Keyring, Passphrase};
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
            let (sealed, version, projects) = (keys.is_sealed(), keys.current_version(), keys.project_roots());
            let how =
                if sealed { "sealed under a passphrase" } else { "not sealed: whoever has the file has every key" };
            let told = format!("{how}\nmaster key {version} seals; {projects} project roots");
            Ok(Report::new(json!({ "sealed": sealed, "master": version, "project_roots": projects }), told))
        }
        Keys::Seal => {
            let passphrase = config.keys.passphrase.settled()?;
            let passphrase = passphrase.ok_or_else(|| {
                Failed::Usage(
                    "say in the setting keys.passphrase where the passphrase is, like file:/run/secrets/zegel"
                        .to_owned(),
                )
            })?;
            seal(&folder, &passphrase, "sealed; copies of the file that were made before are not")
        }
        Keys::Passphrase { new } => {
            let passphrase = new.read()?;
            let passphrase = passphrase.ok_or_else(|| Failed::Usage("--new names no place".to_owned()))?;
            seal(
                &folder,
                &passphrase,
                "sealed under the new passphrase: let the setting keys.passphrase name its place",
            )
        }
    }
}

fn seal(folder: &Folder, passphrase: &Passphrase, told: &str) -> Result<Report, Failed> {
    // A platform that was started with the old passphrase could not read the file any more.
    let _nobody_else = Lock::take(&folder.database()).map_err(|error| Failed::Failure(error.to_string()))?;
    let keys: Keyring = folder.open_keys()?;
    keys.seal_file(passphrase).map_err(|error| Failed::Failure(error.to_string()))?;
    let told = format!("{} is {told}", folder.keys().display());
    Ok(Report::new(json!({ "sealed": true }), told))
}
