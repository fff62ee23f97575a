//! One function per command: what the command line said in, a report or a failure out.

pub mod archive;
pub mod archive_log;
pub mod audit;
pub mod dead;
pub mod give_back;
pub mod hospital;
pub mod inbox;
pub mod keys;
pub mod mailbox;
pub mod migrate;
pub mod mutations;
pub mod project;
pub mod quarantine;
pub mod renew;
pub mod revoke;
pub mod seals;
pub mod send;
pub mod settings;
pub mod timestamp;
pub mod topology;
pub mod up;
pub mod witness;

use crate::client::{Client, list, number};
use crate::config::{Config, Overrides};
use crate::failed::{Failed, at};
use crate::folder::Folder;
use schemas::MailboxAddress;
use serde_json::Value;
use std::io::Read;
use std::path::Path;

/// What every command knows: where settings and data are, and how to print.
pub struct Place {
    /// From the command line.
    pub overrides: Overrides,
    /// Whether JSON is wanted, so that nothing else is printed.
    pub json: bool,
}

impl Place {
    /// The settings in force.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn config(&self) -> Result<Config, Failed> {
        Ok(Config::load(&self.overrides)?)
    }

    /// The data folder.
    ///
    /// # Errors
    /// When the settings cannot be used.
    pub fn folder(&self) -> Result<Folder, Failed> {
        Ok(Folder::of(&self.config()?))
    }
}

/// Reads an address of the command line.
///
/// # Errors
/// [`Failed::Usage`] with the rule that it breaks; its value is not repeated.
pub fn address(text: &str) -> Result<MailboxAddress, Failed> {
    text.parse().map_err(|error| Failed::Usage(format!("{error}: say TYPE[-SUBTYPE]:ID, like NIHII-HOSPITAL:71000436")))
}

/// The address that is given, or else the one mailbox whose token the data folder holds.
///
/// # Errors
/// [`Failed::Usage`] when none is given and the folder holds several, or none.
pub fn own_address(folder: &Folder, given: Option<&str>) -> Result<MailboxAddress, Failed> {
    if let Some(given) = given {
        return address(given);
    }
    match &folder.kept_tokens()?[..] {
        [only] => address(only),
        _ => Err(Failed::Usage("say whose mailbox: --address ADDRESS (zegel mailbox list shows them)".to_owned())),
    }
}

/// Reads a small text file, or standard input for `-`.
///
/// # Errors
/// When it cannot be read, or is no text.
pub fn read_text(path: &Path) -> Result<String, Failed> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        text
    } else {
        std::fs::read_to_string(path).map_err(at(path))?
    };
    // A byte order mark is an editor's, not a part of the first value.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Messages of one page.
const PAGE: usize = 100;

/// Gives every message in a folder of a box to `each`, newest first. New ones that arrive meanwhile are not among them.
///
/// # Errors
/// The platform refuses or is away, or `each` fails.
pub fn every_item(
    client: &Client,
    owner: &MailboxAddress,
    folder: &str,
    mut each: impl FnMut(&Value) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let limit = PAGE.to_string();
    let mut before: Option<String> = None;
    loop {
        let mut pairs = vec![("limit", limit.as_str())];
        pairs.extend(before.iter().map(|before| ("before", before.as_str())));
        let page = client.get(&format!("/v1/boxes/{owner}/{folder}"), &pairs)?;
        let items = list(&page, "items");
        items.iter().try_for_each(&mut each)?;
        match items.last() {
            Some(last) if items.len() == PAGE => before = Some(number(last, "sequence").to_string()),
            _ => return Ok(()),
        }
    }
}

/// Follows `next` from page to page and gives every element of a list to `each`.
///
/// # Errors
/// The platform refuses or is away, or `each` fails.
pub fn every(
    client: &Client,
    path: &str,
    field: &str,
    cursor: &str,
    each: impl FnMut(&Value) -> Result<(), Failed>,
) -> Result<(), Failed> {
    every_after(client, path, field, (cursor, None), each)
}

/// The same from a cursor's value on.
///
/// # Errors
/// As [`every`].
pub fn every_after(
    client: &Client,
    path: &str,
    field: &str,
    (cursor, first): (&str, Option<String>),
    mut each: impl FnMut(&Value) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let mut after = first;
    loop {
        let pairs: Vec<(&str, &str)> = after.iter().map(|after| (cursor, after.as_str())).collect();
        let page = client.get(path, &pairs)?;
        for item in list(&page, field) {
            each(item)?;
        }
        after = match page.get("next") {
            Some(Value::String(next)) => Some(next.clone()),
            Some(Value::Number(next)) => Some(next.to_string()),
            _ => return Ok(()),
        };
    }
}
