//! Dead letters for the operator: listed by their outsides, replayed or dropped once.
//!
//! A listing shows no payload: the envelope stays sealed. A replay opens the envelope, gives it a new message id, seals it
//! again and lets the store take the dead letter away and produce the new message in one commit, so that two operators
//! who press the button at once replay it once.

use crate::auth::Caller;
use crate::body::Json;
use crate::input::{At, Params};
use crate::platform::Front;
use crate::problem::{Answer, Problem};
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use schemas::{MessageId, Millis};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use topology::Channel;
use topology::channels::{by_code, by_name};
use zegel_core::Slot;
use zegel_core::sealing::{open_message, seal_message};
use zegel_core::store::{DeadFilter, DeadLetter};

/// A dead letter's outside.
#[derive(Serialize)]
struct Outside {
    channel: &'static str,
    partition: u16,
    number: u64,
    id: MessageId,
    code: String,
    attempts: u32,
    at: Millis,
    bytes: usize,
}

/// A page of dead letters.
#[derive(Serialize)]
struct Page {
    dead: Vec<Outside>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// The body of a replay.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replay {
    #[serde(default)]
    dry_run: bool,
}

/// What a replay did, or would do.
#[derive(Serialize)]
struct Replayed {
    dry_run: bool,
    channel: &'static str,
    r#type: String,
    was: MessageId,
    #[serde(skip_serializing_if = "Option::is_none")]
    becomes: Option<MessageId>,
}

/// `GET /v1/dead`.
pub(crate) async fn list(State(front): State<Arc<Front>>, caller: Caller, uri: Uri) -> Answer<Response> {
    caller.operator()?;
    let params = Params::read(&uri, &["channel", "after", "limit"])?;
    let channel = params.text("channel").map(known).transpose()?;
    let limit = params.limit()?;
    let after = params.text("after").map(cursor).transpose()?;
    let filter = DeadFilter { channel: channel.map(|channel| channel.code), after, limit, ..DeadFilter::default() };
    let found = front.store.dead(filter).await?;
    let next = found
        .last()
        .filter(|_| found.len() == limit)
        .map(|last| format!("{}.{}.{}", last.slot.channel, last.slot.partition, last.number));
    Ok(axum::Json(Page { dead: found.iter().map(outside).collect(), next }).into_response())
}

/// `POST /v1/dead/{channel}/{partition}/{number}/replay`.
pub(crate) async fn replay(
    State(front): State<Arc<Front>>,
    caller: Caller,
    At((channel, partition, number)): At<(String, u16, u64)>,
    Json(order): Json<Replay>,
) -> Answer<Response> {
    caller.operator()?;
    let channel = known(&channel)?;
    let letter = front.dead_letter(channel, partition, number).await?;
    let mut envelope = open_message(&*front.keys, channel.code, letter.key, letter.id, &letter.body)
        .map_err(|_| Problem::new("ZGL-SEAL", "the dead letter could not be opened"))?;
    let mut answer = Replayed {
        dry_run: order.dry_run,
        channel: channel.name,
        r#type: envelope.kind.clone(),
        was: letter.id,
        becomes: None,
    };
    if !order.dry_run {
        envelope.id = front.new_id();
        answer.becomes = Some(envelope.id);
        let again = seal_message(&*front.keys, channel, &envelope)?;
        if !front.store.resolve_dead(letter.slot, number, Some(again)).await? {
            return Err(gone());
        }
    }
    Ok(axum::Json(answer).into_response())
}

/// `DELETE /v1/dead/{channel}/{partition}/{number}`.
pub(crate) async fn drop(
    State(front): State<Arc<Front>>,
    caller: Caller,
    At((channel, partition, number)): At<(String, u16, u64)>,
) -> Answer<StatusCode> {
    caller.operator()?;
    let letter = front.dead_letter(known(&channel)?, partition, number).await?;
    if front.store.resolve_dead(letter.slot, number, None).await? { Ok(StatusCode::NO_CONTENT) } else { Err(gone()) }
}

impl Front {
    /// Finds a dead letter by its place. The store lists in order of the place, so it is the first one after the number
    /// before it.
    async fn dead_letter(&self, channel: &Channel, partition: u16, number: u64) -> Answer<DeadLetter> {
        let after = Some((channel.code, partition, number.checked_sub(1).ok_or_else(gone)?));
        let filter = DeadFilter { channel: Some(channel.code), after, limit: 1, ..DeadFilter::default() };
        let found = self.store.dead(filter).await?.into_iter().next();
        found.filter(|letter| letter.slot.partition == partition && letter.number == number).ok_or_else(gone)
    }
}

fn known(name: &str) -> Answer<&'static Channel> {
    by_name(name).ok_or_else(|| Problem::field("channel", "must be a channel of the topology"))
}

fn gone() -> Problem {
    Problem::not_found("no such dead letter (any more)")
}

fn cursor(text: &str) -> Answer<(u16, u16, u64)> {
    let mut parts = text.split('.');
    let read = || -> Option<(u16, u16, u64)> {
        let place = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next().is_none().then_some(place)
    }();
    read.ok_or_else(|| Problem::field("after", "must be what an earlier page said under next"))
}

fn outside(letter: &DeadLetter) -> Outside {
    let Slot { channel, partition, .. } = letter.slot;
    Outside {
        channel: by_code(channel).map_or("unknown", |channel| channel.name),
        partition,
        number: letter.number,
        id: letter.id,
        code: letter.code.clone(),
        attempts: letter.attempts,
        at: letter.at,
        bytes: letter.body.len(),
    }
}
