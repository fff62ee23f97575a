//! `zegel config`. No platform is needed, and nothing is changed.

use super::Place;
use crate::cli::Config as Wanted;
use crate::config::DEFAULT;
use crate::failed::Failed;
use crate::term::Report;
use serde_json::json;

/// Shows or checks the settings.
///
/// # Errors
/// When they cannot be used.
pub fn run(place: &Place, wanted: &Wanted) -> Result<Report, Failed> {
    match wanted {
        Wanted::Default => Ok(Report::new(json!({ "toml": DEFAULT }), DEFAULT)),
        Wanted::Show => {
            let config = place.config()?;
            Ok(Report::new(serde_json::to_value(&config)?, config.to_toml()?))
        }
        Wanted::Check => {
            place.config()?;
            Ok(Report::new(json!({ "ok": true }), "settings are good"))
        }
    }
}
