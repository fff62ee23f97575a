//! What operators and their tools ask: alive, ready, metrics, numbers per channel, and the API's own description.

use crate::auth::Caller;
use crate::platform::Front;
use crate::problem::{Answer, Problem, no_room};
use crate::publish::readable;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use schemas::{Key, MessageId, Millis};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use zegel_core::Read;
use zegel_core::slot::spaces;
use zegel_receipts::rows::AlertRow;
use zegel_receipts::{INCIDENT_OVERDUE, queries};

/// Affected items shown with an alert.
const ITEMS_SHOWN: usize = 100;

/// The hand-kept description of this API; a test compares it with the routes.
pub(crate) const OPENAPI: &str = include_str!("../openapi.json");

/// How full one channel is.
#[derive(Serialize, Default)]
struct ChannelStats {
    channel: &'static str,
    group: &'static str,
    published: u64,
    waiting: u64,
    parked: u64,
    dead: u64,
    timers: u64,
}

/// `GET /healthz`: the process answers.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the clock is followed, and the store can be read and has room.
pub(crate) async fn readyz(State(front): State<Arc<Front>>) -> Answer<&'static str> {
    if !front.clock.is_steady() {
        return Err(Problem::new("ZGL-CLOCK", "clock: time goes on without the machine's clock"));
    }
    let read = Read::One { space: spaces::BOXES, owner: Key([0; 16]), sub: Bytes::new() };
    front.store.read(vec![read]).await?;
    if !front.store.has_room() {
        return Err(no_room());
    }
    Ok("ready\n")
}

/// `GET /metrics`: Prometheus text.
pub(crate) async fn metrics(State(front): State<Arc<Front>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], (front.metrics)()).into_response()
}

/// `GET /openapi.json`.
pub(crate) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// `GET /v1/stats`.
pub(crate) async fn stats(State(front): State<Arc<Front>>, caller: Caller) -> Answer<Response> {
    caller.operator()?;
    let mut channels: BTreeMap<(u16, u16), ChannelStats> = BTreeMap::new();
    for channel in topology::CHANNELS {
        for group in channel.groups {
            let empty = ChannelStats { channel: channel.name, group: group.name, ..ChannelStats::default() };
            channels.insert((channel.code, group.code), empty);
        }
    }
    for slot in front.store.stats().await? {
        if let Some(sum) = channels.get_mut(&(slot.slot.channel, slot.slot.group)) {
            sum.published += slot.last;
            sum.waiting += slot.last.saturating_sub(slot.position);
            sum.parked += slot.parked;
            sum.dead += slot.dead;
            sum.timers += slot.timers;
        }
    }
    let channels: Vec<ChannelStats> = channels.into_values().collect();
    Ok(axum::Json(serde_json::json!({ "channels": channels })).into_response())
}

/// An incident and what it affects.
#[derive(Serialize)]
struct Alert {
    incident: String,
    open: bool,
    count: u64,
    opened_at: Millis,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_at: Option<Millis>,
    opened_times: u64,
    /// The first hundred.
    items: Vec<MessageId>,
}

/// `GET /v1/alerts`.
pub(crate) async fn alerts(State(front): State<Arc<Front>>, caller: Caller) -> Answer<Response> {
    caller.operator()?;
    let reads = vec![
        queries::alert(&*front.keys, INCIDENT_OVERDUE),
        queries::affected(&*front.keys, INCIDENT_OVERDUE, None, ITEMS_SHOWN),
    ];
    let mut found = front.all_rows(reads).await?;
    let items = readable(queries::alert_items(&found.pop().unwrap_or_default()))?;
    let row: Option<AlertRow> = readable(queries::row(&found.pop().unwrap_or_default()))?;
    let alerts: Vec<Alert> = row
        .map(|AlertRow { incident, open, count, opened_at, closed_at, opened_times, .. }| Alert {
            incident,
            open,
            count,
            opened_at,
            closed_at,
            opened_times,
            items,
        })
        .into_iter()
        .collect();
    Ok(axum::Json(serde_json::json!({ "alerts": alerts })).into_response())
}
