//! `zegel mailbox`. It talks to a running platform over HTTP, like any client.

use super::{Place, address};
use crate::cli::Mailbox;
use crate::client::text;
use crate::failed::Failed;
use crate::folder::shown;
use crate::term::Report;
use serde_json::json;

/// Opens a mailbox, or lists the known ones.
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
            let token = text(&answer, "token");
            if *print_token {
                return Ok(Report::new(json!({ "address": owner, "token": token }), token));
            }
            let path = folder.keep_token(&owner, token)?;
            let told = format!("mailbox {} is open; its token is in {}", shown(&owner), path.display());
            Ok(Report::new(json!({ "address": shown(&owner), "token_file": path }), told))
        }
    }
}
