//! `zegel up`: the platform, until somebody stops it.

use super::Place;
use crate::failed::Failed;
use crate::passphrase::Source;
use crate::platform;
use crate::term::{self, Report};
use crate::{backend, roles, signals, telemetry};
use serde_json::json;
use std::time::{Duration, Instant};

/// Runs until Ctrl-C or SIGTERM, then drains.
///
/// # Errors
/// Something cannot be opened; [`Failed::Undrained`] when the drain time was over first.
pub fn run(place: &Place) -> Result<Report, Failed> {
    let config = place.config()?;
    if !backend::is_shared(&config) && roles::ALL.iter().any(|role| !config.roles.contains(role)) {
        let text = "the embedded store serves one process with all roles; --roles needs the PostgreSQL store";
        return Err(Failed::refused("roles-embedded", text));
    }
    telemetry::start(&config.log);
    if config.keys.passphrase == Source::Nowhere && config.keys.module.is_empty() {
        tracing::warn!(
            "the key file is not sealed: whoever has it has every key (settings keys.passphrase, keys.module)"
        );
    }
    let begun = Instant::now();
    platform::runtime()?.block_on(async {
        let running = platform::start(&config, platform::schedule(&config)?).await?;
        let listening = format!("listening on {}", running.url());
        term::line(&if place.json { json!({ "listening": running.url() }).to_string() } else { listening });
        signals::wait().await?;
        tracing::info!("stopping");
        if running.drain(Duration::from_secs(config.drain_s)).await {
            let seconds = begun.elapsed().as_secs();
            Ok(Report::new(json!({ "stopped": true, "seconds": seconds }), "stopped"))
        } else {
            Err(Failed::Undrained)
        }
    })
}
