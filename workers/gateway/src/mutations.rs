//! The mutation calls: who follows whom, what changed, and each subscriber's feed.
//!
//! Events come as NDJSON, or one as JSON; all are checked before the first is published, so a refused body has published
//! nothing. An event's id is derived from feed and event, its idempotency key: after a 429 or 503 the same body is sent
//! again, and what was taken already is recognised.

use crate::auth::Caller;
use crate::body::{self, Json};
use crate::input::{At, Params, address, is_day};
use crate::platform::Front;
use crate::problem::{Answer, Problem};
use crate::publish::{Reply, pending, readable, stored};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use schemas::messages::{FeedAck, Inscription, Mutation};
use schemas::{Millis, Ssin};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use zegel_core::names;
use zegel_core::sealing::seal_message;
use zegel_mutations::queries;
use zegel_mutations::rows::{FeedAcked, FeedRow, NotificationRow};

/// Messages in one call of the broker.
const BATCH: usize = 500;
/// Longest feed name and event id, in characters.
const ID_MAX: usize = 100;
/// Longest kind, in characters.
const KIND_MAX: usize = 64;
/// Most details, and the longest of them in characters.
const DETAILS_MAX: usize = 100;
const DETAIL_MAX: usize = 1_000;

/// The body of an inscription.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    organisation: String,
    ssin: String,
    from: String,
    #[serde(default)]
    until: Option<String>,
    #[serde(default)]
    withdraw: bool,
}

/// How many were taken.
#[derive(Serialize)]
struct Accepted {
    accepted: usize,
}

/// One notification.
#[derive(Serialize)]
struct Told {
    number: u64,
    mutation: Mutation,
    at: Millis,
}

impl From<NotificationRow> for Told {
    fn from(row: NotificationRow) -> Told {
        Told { number: row.sequence, mutation: row.mutation, at: row.at }
    }
}

/// A page of a feed. Numbers have no gaps: a subscriber that misses one has missed a notification.
#[derive(Serialize)]
struct Page {
    /// Everything up to this number was acknowledged.
    acked: u64,
    /// The feed's last number.
    last: u64,
    notifications: Vec<Told>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// `POST /v1/inscriptions`.
pub(crate) async fn inscribe(
    State(front): State<Arc<Front>>,
    caller: Caller,
    headers: HeaderMap,
    Json(wanted): Json<Wanted>,
) -> Answer<Response> {
    let organisation = address(&wanted.organisation, || "organisation".to_owned())?;
    caller.owner_or_operator(&front, &organisation)?;
    let ssin = ssin(&wanted.ssin, "ssin")?;
    day(&wanted.from, "from")?;
    if let Some(until) = &wanted.until {
        day(until, "until")?;
        if *until < wanted.from {
            return Err(Problem::field("until", "must not be before from"));
        }
    }
    let key = names::ssin_key(&*front.keys, &ssin);
    let Wanted { from, until, withdraw, .. } = wanted;
    let payload = Inscription { organisation, ssin, from, until, withdraw };
    let envelope = front.envelope(front.new_id(), key, &payload, &headers)?;
    front.publish(front.channel("mutations.registry")?, &envelope).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(Accepted { accepted: 1 })).into_response())
}

/// `POST /v1/mutations`.
pub(crate) async fn feed_in(
    State(front): State<Arc<Front>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    caller.operator()?;
    let whole = body::whole(&front, &headers, body).await?;
    let one = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let mut events = Vec::new();
    if one {
        events.push(checked(&whole.bytes, 1)?);
    } else {
        for (index, line) in whole.bytes.split(|byte| *byte == b'\n').enumerate() {
            if !line.trim_ascii().is_empty() {
                events.push(checked(line, index + 1)?);
            }
        }
    }
    if events.is_empty() {
        return Err(Problem::new("ZGL-HTTP-BODY", "the body has no event"));
    }
    let channel = front.channel("mutations.registry")?;
    for batch in events.chunks(BATCH) {
        let sealed = batch.iter().map(|event| {
            let id = names::event_id(&*front.keys, &event.feed, &event.event);
            let key = names::ssin_key(&*front.keys, &event.ssin);
            let envelope = front.envelope(id, key, event, &headers)?;
            Ok(seal_message(&*front.keys, channel, &envelope)?)
        });
        front.publish_all(sealed.collect::<Answer<Vec<_>>>()?).await?;
    }
    Ok((StatusCode::ACCEPTED, axum::Json(Accepted { accepted: events.len() })).into_response())
}

/// `GET /v1/feeds/{organisation}`.
pub(crate) async fn feed_out(
    State(front): State<Arc<Front>>,
    caller: Caller,
    At(organisation): At<String>,
    uri: Uri,
) -> Answer<Response> {
    let params = Params::read(&uri, &["after", "limit"])?;
    let (after, limit) = (params.number("after", 0, 0..=u64::MAX - 1)?, params.limit()?);
    let key = caller.owner(&front, &address(&organisation, || "organisation".to_owned())?)?;
    let mut found = front.all_rows(vec![queries::feed(key), queries::pull(key, after, limit)]).await?;
    let told = readable(queries::notifications(&found.pop().unwrap_or_default()))?;
    let feed: Option<FeedRow> = readable(queries::row(&found.pop().unwrap_or_default()))?;
    let next = told.last().filter(|_| told.len() == limit).map(|last| last.sequence);
    let page = Page {
        acked: feed.as_ref().map_or(0, |feed| feed.acked),
        last: feed.map_or(0, |feed| feed.next.saturating_sub(1)),
        notifications: told.into_iter().map(Told::from).collect(),
        next,
    };
    Ok(axum::Json(page).into_response())
}

/// `POST /v1/feeds/{organisation}/ack`.
pub(crate) async fn acknowledge(
    State(front): State<Arc<Front>>,
    caller: Caller,
    At(organisation): At<String>,
    headers: HeaderMap,
    Json(ack): Json<FeedAck>,
) -> Answer<Response> {
    let key = caller.owner(&front, &address(&organisation, || "organisation".to_owned())?)?;
    let envelope = front.envelope(front.new_id(), key, &ack, &headers)?;
    match front.ask(front.channel("mutations.notify")?, &envelope).await? {
        Reply::Now(reply) => Ok(axum::Json(stored::<FeedAcked>(&reply)?).into_response()),
        Reply::Later => Ok(pending()),
    }
}

fn checked(line: &[u8], number: usize) -> Answer<Mutation> {
    let mut event: Mutation = body::parse_json(line, number)?;
    let at = |field: &str| if number == 1 { field.to_owned() } else { format!("line {number} {field}") };
    let name =
        |text: &str, max: usize| (1..=max).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if !name(&event.feed, ID_MAX) {
        return Err(Problem::field(at("feed"), "must have 1 to 100 characters"));
    }
    if !name(&event.event, ID_MAX) {
        return Err(Problem::field(at("event"), "must have 1 to 100 characters"));
    }
    if !name(&event.kind, KIND_MAX) {
        return Err(Problem::field(at("kind"), "must have 1 to 64 characters"));
    }
    day(&event.date, at("date"))?;
    event.ssin = ssin(&event.ssin, at("ssin"))?;
    let long =
        |(key, value): (&String, &String)| key.chars().count() > DETAIL_MAX || value.chars().count() > DETAIL_MAX;
    if event.details.len() > DETAILS_MAX || event.details.iter().any(long) {
        return Err(Problem::field(at("details"), "must be at most 100 of at most 1,000 characters"));
    }
    Ok(event)
}

fn ssin(text: &str, field: impl Into<String>) -> Answer<String> {
    match Ssin::parse(text) {
        Ok(ssin) => Ok(ssin.to_string()),
        Err(_) => Err(Problem::new("802", "must be a person's number of 11 digits with its check digits").at(field)),
    }
}

fn day(text: &str, field: impl Into<String>) -> Answer<()> {
    if is_day(text) { Ok(()) } else { Err(Problem::field(field, "must be a day, YYYY-MM-DD")) }
}
