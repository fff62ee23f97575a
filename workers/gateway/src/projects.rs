//! The register of TTP projects over HTTP: what holds, the papers of one project, and decisions of officers.
//!
//! The officer's key never comes here: an entry is signed where the key is, and handed in with its signature. A party of a
//! project may read its document; everything else is the operator's.

use crate::auth::{Caller, Grant};
use crate::body::Json;
use crate::input::At;
use crate::platform::Front;
use crate::problem::{Answer, Problem};
use crate::publish::stored;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::borrow::Cow;
use std::sync::Arc;
use zegel_core::names;
use zegel_ttp::ProjectDocument;
use zegel_ttp::pool::{self, ReleaseReport};
use zegel_ttp::project::desk::{Desk, DeskError, Details, Filing};

/// `GET /v1/projects`.
pub(crate) async fn list(State(front): State<Arc<Front>>, caller: Caller) -> Answer<Response> {
    caller.operator()?;
    let projects = front.desk(|desk| desk.list()).await?;
    Ok(axum::Json(serde_json::json!({ "projects": projects })).into_response())
}

/// A project, and how its batches were released.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    details: Details,
    #[serde(skip_serializing_if = "Option::is_none")]
    releases: Option<ReleaseReport>,
}

/// `GET /v1/projects/{name}`.
pub(crate) async fn show(State(front): State<Arc<Front>>, caller: Caller, At(name): At<String>) -> Answer<Response> {
    let owner = names::project_key(&*front.keys, &name);
    let details = front.desk(move |desk| desk.show(&name)).await?;
    let is_operator = matches!(caller.0, Grant::Operator);
    if !front.may_read(caller, &details) {
        return Err(unknown());
    }
    // Among how few senders batches were released is for the officer, not for the recipient.
    let rows = if is_operator { front.rows(pool::report_read(owner)).await? } else { Vec::new() };
    let releases = rows.first().map(|(_, row)| stored::<ReleaseReport>(row)).transpose()?;
    Ok(axum::Json(Shown { details, releases }).into_response())
}

/// `POST /v1/projects/{name}/root`: the commitment to the key root, which is made if there is none.
pub(crate) async fn root(State(front): State<Arc<Front>>, caller: Caller, At(name): At<String>) -> Answer<Response> {
    caller.operator()?;
    let root = front.desk(move |desk| desk.root(&name)).await?;
    Ok(axum::Json(serde_json::json!({ "root": root })).into_response())
}

/// `POST /v1/projects`.
pub(crate) async fn file(
    State(front): State<Arc<Front>>,
    caller: Caller,
    Json(filing): Json<Filing>,
) -> Answer<Response> {
    caller.operator()?;
    Ok(axum::Json(front.desk(move |desk| desk.file(&filing)).await?).into_response())
}

impl Front {
    /// Asks the desk on a thread that may block.
    async fn desk<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Desk) -> Result<T, DeskError> + Send + 'static,
    ) -> Answer<T> {
        let desk = self.projects.clone();
        let asked = tokio::task::spawn_blocking(move || ask(&*desk)).await;
        asked.map_err(|_| Problem::new("ZGL-INTERNAL", "the register broke off"))?.map_err(Problem::from)
    }

    /// The operator, and the parties of the document.
    fn may_read(&self, caller: Caller, details: &Details) -> bool {
        let Grant::Mailbox(own) = caller.0 else { return true };
        let document = details.document.as_deref().and_then(|text| ProjectDocument::parse(text).ok());
        let is_own = |party: &&schemas::MailboxAddress| names::address_key(&*self.keys, party) == own;
        document.is_some_and(|document| document.parties().iter().any(is_own))
    }
}

impl From<DeskError> for Problem {
    fn from(error: DeskError) -> Problem {
        match error {
            DeskError::Unknown => unknown(),
            DeskError::Refused { place, rule: Cow::Borrowed(rule) } => Problem::new("ZGL-TTP-FILING", rule).at(place),
            // Not a text of this program: it might quote what was handed in.
            DeskError::Refused { place, .. } => Problem::new("ZGL-TTP-FILING", "a rule is broken").at(place),
            DeskError::Failed(_) => Problem::new("ZGL-INTERNAL", "the register could not be read or written"),
        }
    }
}

/// Whether it is there is nobody's business but the parties'.
fn unknown() -> Problem {
    Problem::not_found("no such project, or none of yours")
}
