//! `zegel mailbox`. It talks to a running platform over HTTP, like any client.

use super::{Place, address};
use crate::cli::Mailbox;
use crate::client::text;
use crate::failed::Failed;
use crate::folder::{Folder, shown};
use crate::term::Report;
use schemas::MailboxAddress;
use serde_json::json;

/// Opens a mailbox, renews its token, or lists the known ones.
///
/// # Errors
/// The platform refuses or is away.
pub fn run(place: &Place, wanted: &Mailbox) -> Result<Report, Failed> {
    let folder = place.folder()?;
    match wanted {
        Mailbox::List => {
            let names = folder.kept_tokens()?;
            let text = if names.is_empty() { "no mailbox is known here".to_owned() } else { names.join("\n") };
            Ok(Report::new(json!({ "mailboxes": names }), text))
        }
        Mailbox::Open { server, address: owner, max_bytes, print_token } => {
            let owner = address(owner)?;
            let max_bytes = max_bytes.unwrap_or(place.config()?.mailbox.capacity);
            let body = json!({ "address": owner, "max_bytes": max_bytes });
            let answer = folder.operator(server)?.post("/v1/boxes", &body)?;
            if answer.get("token").is_none() {
                // Whoever asked for a token to print must not go on with an empty one.
                let hint = "`zegel mailbox token` gives a new token and ends the earlier ones";
                if *print_token {
                    return Err(Failed::refused(
                        "token-given",
                        format!("the mailbox was open and has a token: {hint}"),
                    ));
                }
                let told = format!("mailbox {} was open already; its tokens stay as they are ({hint})", shown(&owner));
                return Ok(Report::new(json!({ "address": shown(&owner), "was_open": true }), told));
            }
            keep(&folder, &owner, text(&answer, "token"), *print_token)
        }
        Mailbox::Token { server, address: owner, print_token } => {
            let owner = address(owner)?;
            let path = format!("/v1/boxes/{owner}/token");
            let answer = folder.operator(server)?.post(&path, &json!({}))?;
            keep(&folder, &owner, text(&answer, "token"), *print_token)
        }
    }
}

/// Prints a token, or keeps it in the data folder's credentials.
fn keep(folder: &Folder, owner: &MailboxAddress, token: &str, print: bool) -> Result<Report, Failed> {
    if print {
        return Ok(Report::new(json!({ "address": owner, "token": token }), token));
    }
    let path = folder.keep_token(owner, token)?;
    let told = format!("mailbox {} is open; its token is in {}", shown(owner), path.display());
    Ok(Report::new(json!({ "address": shown(owner), "token_file": path }), told))
}
