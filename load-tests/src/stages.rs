//! The real workers of each stage, composed as the program composes them.

use crate::world::{HOSPITAL, TTP, address};
use anyhow::{Result, anyhow};
use std::path::Path;
use std::sync::Arc;
use zegel_core::Runner;
use zegel_core::clock::{Clock, SystemClock};
use zegel_crypto::bag::Form;
use zegel_crypto::tsa::Authority;
use zegel_timestamp::windows::Windows;
use zegel_timestamp::{Aggregator, OwnAuthority, Schedule, Sealer};
use zegel_ttp::{CompiledProject, ProjectDocument};

/// Reads a project document and makes it ready under a root of its own.
///
/// # Errors
/// When it is not a valid document.
pub fn project(toml: &str) -> Result<CompiledProject> {
    let document = ProjectDocument::parse(toml).map_err(|error| anyhow!("{error}"))?;
    CompiledProject::new(document, &[7; 32]).map_err(|error| anyhow!("{error}"))
}

/// Mailbox, TTP and receipts, with one small project that `senders` may use.
///
/// # Errors
/// When the project is not valid.
pub fn start(runner: &mut Runner, senders: &[String], scratch: &Path) -> Result<()> {
    let mut names: Vec<String> = senders.iter().map(|sender| format!("{sender:?}")).collect();
    names.push(format!("{HOSPITAL:?}"));
    let toml = format!(
        "name = \"load\"\nsenders = [{}]\nrecipient = \"{}\"\nvalid = {{ from = \"2020-01-01\", until = \"2099-12-31\" }}\n\
         unlisted = \"refuse\"\n[[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\n\
         [[fields]]\npath = \"n\"\naction = \"keep\"\n",
        names.join(", "),
        crate::world::REGISTRY
    );
    runner.start(Arc::new(zegel_mailbox::Submissions::new(address(TTP)?)));
    runner.start(Arc::new(zegel_mailbox::Boxes));
    let ttp = zegel_ttp::Ttp::new(vec![project(&toml)?], scratch.to_path_buf()).map_err(|error| anyhow!("{error}"))?;
    runner.start(Arc::new(ttp));
    runner.start(Arc::new(zegel_receipts::Receipts::default()));
    Ok(())
}

/// Aggregator and sealer with an authority of our own.
///
/// # Errors
/// When the authority cannot be made.
pub fn start_timestamp(runner: &mut Runner, folder: &Path, window_ms: i64) -> Result<()> {
    let authority =
        Authority::create(&folder.join("tsa"), "Load", SystemClock.now()).map_err(|error| anyhow!("{error}"))?;
    let stamper = Arc::new(OwnAuthority::new(authority).map_err(|error| anyhow!("{error}"))?);
    let schedule = Schedule::every(window_ms).map_err(|error| anyhow!("{error}"))?;
    runner.start(Arc::new(Aggregator::new(Windows::new(schedule))));
    runner.start(Arc::new(Sealer::new(stamper, Form::Plain)));
    Ok(())
}
