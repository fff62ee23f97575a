//! What an officer sees of batches over HTTP: those that stand still in quarantine, and what small cells held back.
//!
//! A listing shows who sent which batch when, and what the sender was told; never the batch, nor its file name. Releasing and
//! dropping are orders to the owner of the project's rows.

use crate::auth::Caller;
use crate::input::{At, Params};
use crate::platform::Front;
use crate::problem::{Answer, Problem};
use crate::publish::{Reply, readable, stored};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use schemas::messages::{Content, QuarantineOrder, QuarantineReply, Reason};
use schemas::{MailboxAddress, MessageId, Millis, Sha256};
use serde::Serialize;
use std::sync::Arc;
use zegel_core::names;
use zegel_ttp::ledger::{self, ReportRow};
use zegel_ttp::quarantine::{self, Head, HeldRow};

/// One project's quarantine at a glance.
#[derive(Serialize)]
struct Count {
    project: String,
    held: u64,
    refused: u64,
}

/// One batch that stands still.
#[derive(Serialize)]
struct Held {
    number: u64,
    at: Millis,
    sender: MailboxAddress,
    publication_id: String,
    submission: MessageId,
    size: u64,
    digest: Sha256,
    kept: bool,
    /// Whether a recipient sent it back.
    is_return: bool,
    reason: Reason,
}

/// One batch's report on small cells.
#[derive(Serialize)]
struct Cells {
    number: u64,
    #[serde(flatten)]
    report: ReportRow,
}

/// `GET /v1/quarantine`: the projects of which batches stand still.
pub(crate) async fn list(State(front): State<Arc<Front>>, caller: Caller) -> Answer<Response> {
    caller.operator()?;
    let mut counts = Vec::new();
    for project in front.book.names() {
        let row = front.rows(quarantine::head(names::project_key(&*front.keys, &project))).await?;
        if let Some((_, row)) = row.first() {
            let head: Head = readable(zegel_core::rows::decode(row))?;
            counts.push(Count { project, held: head.held, refused: head.last });
        }
    }
    Ok(axum::Json(serde_json::json!({ "projects": counts })).into_response())
}

/// `GET /v1/quarantine/{project}`: its batches, newest first, below a number.
pub(crate) async fn show(
    State(front): State<Arc<Front>>,
    caller: Caller,
    At(project): At<String>,
    uri: Uri,
) -> Answer<Response> {
    caller.operator()?;
    let params = Params::read(&uri, &["below", "limit"])?;
    let below = params.number("below", u64::MAX, 1..=u64::MAX)?;
    let limit = params.limit()?;
    let rows = front.rows(quarantine::newest(names::project_key(&*front.keys, &project), below, limit)).await?;
    let batches = rows.iter().map(|(sub, row)| held(sub, row)).collect::<Answer<Vec<Held>>>()?;
    let next = batches.last().filter(|_| batches.len() == limit).map(|last| last.number.to_string());
    Ok(axum::Json(serde_json::json!({ "batches": batches, "next": next })).into_response())
}

/// `GET /v1/quarantine/{project}/{number}`.
pub(crate) async fn one(
    State(front): State<Arc<Front>>,
    caller: Caller,
    At((project, number)): At<(String, u64)>,
) -> Answer<Response> {
    caller.operator()?;
    let rows = front.rows(quarantine::one(names::project_key(&*front.keys, &project), number)).await?;
    let (sub, row) = rows.first().ok_or_else(gone)?;
    Ok(axum::Json(held(sub, row)?).into_response())
}

/// `POST /v1/quarantine/{project}/{number}/release`.
pub(crate) async fn release(
    State(front): State<Arc<Front>>,
    caller: Caller,
    headers: HeaderMap,
    At((project, number)): At<(String, u64)>,
) -> Answer<Response> {
    caller.operator()?;
    match front.order(&headers, &project, QuarantineOrder::Release { number }).await? {
        Some(QuarantineReply::Released { submission }) => {
            Ok(axum::Json(serde_json::json!({ "submission": submission })).into_response())
        }
        Some(QuarantineReply::Empty) => Err(Problem::new(
            "ZGL-TTP-SENDER",
            "a stranger sent it, or it names an exchange that is none, so its content was not kept",
        )),
        Some(_) => Err(gone()),
        None => Ok(crate::publish::pending()),
    }
}

/// `DELETE /v1/quarantine/{project}/{number}`.
pub(crate) async fn drop(
    State(front): State<Arc<Front>>,
    caller: Caller,
    headers: HeaderMap,
    At((project, number)): At<(String, u64)>,
) -> Answer<Response> {
    caller.operator()?;
    match front.order(&headers, &project, QuarantineOrder::Drop { number }).await? {
        Some(QuarantineReply::Dropped { content }) => {
            if let Content::Object(object) = content {
                let objects = front.objects.clone();
                let removed = tokio::task::spawn_blocking(move || objects.delete(&object.name)).await;
                removed.map_err(|_| Problem::new("ZGL-INTERNAL", "the removal broke off"))??;
            }
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Some(_) => Err(gone()),
        None => Ok(crate::publish::pending()),
    }
}

/// `GET /v1/projects/{name}/cells`: what small cells held back, batch by batch, oldest first after a number.
pub(crate) async fn cells(
    State(front): State<Arc<Front>>,
    caller: Caller,
    At(project): At<String>,
    uri: Uri,
) -> Answer<Response> {
    caller.operator()?;
    let params = Params::read(&uri, &["after", "limit"])?;
    let after = params.number("after", 0, 0..=u64::MAX - 1)?;
    let limit = params.limit()?;
    let rows = front.rows(ledger::reports(names::project_key(&*front.keys, &project), after, limit)).await?;
    let one = |(sub, row): &(bytes::Bytes, bytes::Bytes)| {
        let number = ledger::report_number(sub).ok_or_else(unreadable)?;
        Ok(Cells { number, report: readable(zegel_core::rows::decode(row))? })
    };
    let reports = rows.iter().map(one).collect::<Answer<Vec<Cells>>>()?;
    let next = reports.last().filter(|_| reports.len() == limit).map(|last| last.number.to_string());
    Ok(axum::Json(serde_json::json!({ "reports": reports, "next": next })).into_response())
}

impl Front {
    /// Gives an order to the owner of the project's rows; none when it has not answered in time.
    async fn order(
        &self,
        headers: &HeaderMap,
        project: &str,
        order: QuarantineOrder,
    ) -> Answer<Option<QuarantineReply>> {
        let key = names::project_key(&*self.keys, project);
        let envelope = self.envelope(self.new_id(), key, &order, headers)?;
        match self.ask(self.channel("ttp.inbound")?, &envelope).await? {
            Reply::Now(reply) => stored(&reply).map(Some),
            Reply::Later => Ok(None),
        }
    }
}

fn held(sub: &[u8], row: &[u8]) -> Answer<Held> {
    let number = quarantine::number(sub).ok_or_else(unreadable)?;
    let row: HeldRow = readable(zegel_core::rows::decode(row))?;
    Ok(Held {
        number,
        at: row.at,
        sender: row.sender,
        publication_id: row.publication_id,
        submission: row.submission,
        size: row.part.size,
        digest: row.part.digest,
        kept: row.kept,
        is_return: row.handle.is_some(),
        reason: row.reason,
    })
}

fn unreadable() -> Problem {
    Problem::new("ZGL-STATE-READ", "a stored row has another form")
}

fn gone() -> Problem {
    Problem::not_found("no such batch stands still (any more)")
}
