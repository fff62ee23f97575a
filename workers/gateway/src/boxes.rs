//! The calls about a whole mailbox: opening it, its owner's token, its capacity and counters.
//!
//! The first opening gives the owner's token. Opening again gives none, so that nobody gets at the post unseen: a new
//! token is a call of its own, ends all old ones, and is told in the log and in the box before it exists.

use crate::auth::{Caller, Grant};
use crate::body::{Json, blocking};
use crate::input::{At, address};
use crate::platform::Front;
use crate::problem::{Answer, Problem};
use crate::publish::{Reply, pending, readable};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use schemas::messages::{ContentType, Deliver, From, OpenBox, ReceiptsWanted};
use schemas::{MailboxAddress, MessageId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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

/// A mailbox that is open; with its owner's token when one was made.
#[derive(Serialize)]
struct Opened {
    address: MailboxAddress,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
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

/// `POST /v1/boxes`. Opening an open mailbox changes its capacity and nothing else.
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
        tokens.issue_first(key).map_err(|error| {
            tracing::error!(%error, "a token could not be issued");
            Problem::new("ZGL-STORE-AWAY", "the mailbox is open, but no token could be made; open it again")
        })
    });
    let token = token.await?;
    let status = if token.is_some() { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, axum::Json(Opened { address, token })).into_response())
}

/// `POST /v1/boxes/{address}/token`: a new token, and the end of all old ones.
pub(crate) async fn token(
    State(front): State<Arc<Front>>,
    caller: Caller,
    headers: HeaderMap,
    At(named): At<String>,
) -> Answer<Response> {
    let address = address(&named, || "address".to_owned())?;
    let key = caller.owner_or_operator(&front, &address)?;
    let rows = front.rows(queries::mailbox(key)).await?;
    let _open: BoxRow = readable(queries::row(&rows))?.ok_or_else(|| Problem::not_found("no such mailbox"))?;
    let by_owner = caller.0 == Grant::Mailbox(key);
    // Told first: there may be a notice without a token, never a token without a notice.
    let notice = notice(front.new_id(), address.clone(), by_owner);
    let envelope = front.envelope(notice.item, key, &notice, &headers)?;
    front.publish(front.channel("mailbox.deliver")?, &envelope).await?;
    let shown = if address.is_person() { "SSIN:***".to_owned() } else { address.to_string() };
    tracing::warn!(address = shown, by_owner, "all tokens of a mailbox are revoked and a new one is issued");
    let tokens = front.tokens.clone();
    let token = blocking(move || {
        tokens.reissue(key).map_err(|error| {
            tracing::error!(%error, "a token could not be issued");
            Problem::new("ZGL-STORE-AWAY", "no token could be made; the old ones are valid still")
        })
    });
    Ok((StatusCode::CREATED, axum::Json(Opened { address, token: Some(token.await?) })).into_response())
}

/// What the owner finds in the box.
fn notice(item: MessageId, owner: MailboxAddress, by_owner: bool) -> Deliver {
    let who = if by_owner { "its owner" } else { "the operator" };
    Deliver {
        item,
        recipient: owner,
        from: From::Platform,
        content_type: ContentType::Document,
        title: format!("A new access token of this mailbox was asked for by {who}; all earlier ones end"),
        parts: Vec::new(),
        notice: None,
        meta: BTreeMap::new(),
        answers: None,
        answers_for: None,
        receipts: ReceiptsWanted::default(),
    }
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
