//! The calls about a whole mailbox: opening it, which gives its owner a token, and its capacity and counters.

use crate::auth::{Caller, Grant};
use crate::body::{Json, blocking};
use crate::input::{At, address};
use crate::platform::Front;
use crate::problem::{Answer, Problem};
use crate::publish::{Reply, pending, readable};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use schemas::MailboxAddress;
use schemas::messages::OpenBox;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use zegel_mailbox::queries;
use zegel_mailbox::rows::BoxRow;

/// The body of an opening.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    address: String,
    max_bytes: u64,
}

/// A mailbox that is open, with a new token for its owner.
#[derive(Serialize)]
struct Opened {
    address: MailboxAddress,
    token: String,
}

/// A mailbox's capacity and counters.
#[derive(Serialize)]
struct Info {
    address: MailboxAddress,
    max_bytes: u64,
    bytes: u64,
    count: u64,
    stand_by_count: u64,
    stand_by_bytes: u64,
}

/// `POST /v1/boxes`. Opening an open mailbox changes its capacity and gives another token.
pub(crate) async fn open(
    State(front): State<Arc<Front>>,
    caller: Caller,
    headers: HeaderMap,
    Json(wanted): Json<Wanted>,
) -> Answer<Response> {
    caller.operator()?;
    let address = address(&wanted.address, || "address".to_owned())?;
    if wanted.max_bytes == 0 {
        return Err(Problem::field("max_bytes", "must be at least 1"));
    }
    let key = zegel_core::names::address_key(&*front.keys, &address);
    let payload = OpenBox { address: address.clone(), max_bytes: wanted.max_bytes };
    let envelope = front.envelope(front.new_id(), key, &payload, &headers)?;
    match front.ask(front.channel("mailbox.deliver")?, &envelope).await? {
        Reply::Now(_) => {}
        Reply::Later => return Ok(pending()),
    }
    front.boxes.add(key);
    let tokens = front.tokens.clone();
    let token = blocking(move || {
        tokens.issue(Grant::Mailbox(key)).map_err(|error| {
            tracing::error!(%error, "a token could not be issued");
            Problem::new("ZGL-STORE-AWAY", "the mailbox is open, but no token could be made; open it again")
        })
    });
    Ok((StatusCode::CREATED, axum::Json(Opened { address, token: token.await? })).into_response())
}

/// `GET /v1/boxes/{address}`.
pub(crate) async fn info(State(front): State<Arc<Front>>, caller: Caller, At(named): At<String>) -> Answer<Response> {
    let key = caller.owner_or_operator(&front, &address(&named, || "address".to_owned())?)?;
    let rows = front.rows(queries::mailbox(key)).await?;
    let row: Option<BoxRow> = readable(queries::row(&rows))?;
    let BoxRow { address, max_bytes, bytes, count, stand_by_count, stand_by_bytes, .. } =
        row.ok_or_else(|| Problem::not_found("no such mailbox"))?;
    Ok(axum::Json(Info { address, max_bytes, bytes, count, stand_by_count, stand_by_bytes }).into_response())
}
