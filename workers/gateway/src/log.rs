//! The append-only log over HTTP: the static resources of C2SP tlog-tiles, and where witnesses hand in cosignatures.
//!
//! `/log/checkpoint` is the newest checkpoint that the quorum of the settings cosigned, `/log/latest` the newest that is
//! signed, for witnesses to look at. Tiles are put together from rows and served up to the signed size only. Nothing in the
//! log names anybody, so it is public; a cosignature says itself who made it, and is verified before it goes any further.

use crate::body;
use crate::input::{At, Params};
use crate::platform::Front;
use crate::problem::{Answer, Problem};
use crate::publish::{Reply, pending, stored};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use schemas::messages::Cosigned;
use std::sync::Arc;
use zegel_core::names::{log_key, log_stamp_key};
use zegel_crypto::log::note::SignatureLine;
use zegel_crypto::log::tiles::{Tile, encode_bundle};
use zegel_crypto::log::{Note, Policy, Resource};
use zegel_timestamp::log::{CosignedAnswer, LogHead};
use zegel_timestamp::queries;

const TEXT: &str = "text/plain; charset=utf-8";
/// What is complete never changes, and a partial tile of a size neither.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// A checkpoint is a few seconds old at most.
const SHORTLY: &str = "public, max-age=5";
/// Largest body of cosignatures: sixteen lines of a hundred and fifty bytes, and long names.
const LINES_BYTES: u64 = 8 * 1024;
/// Most cosignatures in one call.
const LINES_MAX: usize = 16;

/// `GET /log/checkpoint`.
pub(crate) async fn checkpoint(State(front): State<Arc<Front>>) -> Answer<Response> {
    let size = head(&front).await?.published;
    note(&front, size).await
}

/// `GET /log/latest`.
pub(crate) async fn latest(State(front): State<Arc<Front>>) -> Answer<Response> {
    let size = head(&front).await?.signed;
    note(&front, size).await
}

async fn note(front: &Front, size: u64) -> Answer<Response> {
    let row = front.query(queries::log_checkpoint(log_key(&*front.keys), size)).await?;
    let row = row.ok_or_else(|| Problem::not_found("the log has no such checkpoint yet"))?;
    Ok(([(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, SHORTLY)], row.note).into_response())
}

/// `GET /log/stamps/{size}`: the external authority's response over the checkpoint's note, cosignatures left out.
pub(crate) async fn stamp(State(front): State<Arc<Front>>, At(size): At<u64>) -> Answer<Response> {
    let found = front.query(queries::log_stamp(log_stamp_key(&*front.keys), size)).await?;
    let response =
        found.ok_or_else(|| Problem::not_found("no external authority stamped a checkpoint of this size"))?;
    Ok(([(header::CONTENT_TYPE, "application/timestamp-reply")], response).into_response())
}

/// `GET /log/tile/…`.
pub(crate) async fn tile(State(front): State<Arc<Front>>, At(path): At<String>) -> Answer<Response> {
    let missing = || Problem::not_found("the log has no such tile");
    let resource: Resource = format!("tile/{path}").parse().map_err(|_| missing())?;
    let (Resource::Hashes(tile) | Resource::Entries(tile)) = resource;
    let signed = head(&front).await?.signed;
    if Tile::of(tile.level, tile.index, signed).is_none_or(|there| there.width < tile.width) {
        return Err(missing());
    }
    let owner = log_key(&*front.keys);
    let bytes = match resource {
        Resource::Entries(tile) => encode_bundle(&front.query(queries::log_entries(owner, &tile)).await?),
        Resource::Hashes(tile) => front.query(queries::log_hashes(owner, &tile)).await?,
    };
    Ok(([(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, FOR_EVER)], bytes).into_response())
}

/// `POST /log/cosignatures`: signature lines of witnesses for the checkpoint of a size.
pub(crate) async fn cosign(
    State(front): State<Arc<Front>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let size = Params::read(&uri, &["size"])?.number("size", 0, 0..=u64::MAX)?;
    let whole = body::whole_up_to(&front, &headers, body, LINES_BYTES).await?;
    let policy = front.config.log.as_ref().ok_or_else(|| Problem::not_found("this platform keeps no log"))?;
    let owner = log_key(&*front.keys);
    let row = front.query(queries::log_checkpoint(owner, size)).await?;
    let row = row.ok_or_else(|| Problem::not_found("the checkpoint of this size is not there, or no longer"))?;
    let lines = cosignatures(policy, &row.note, &whole.bytes)?;
    let payload = Cosigned { size, lines };
    let envelope = front.envelope(front.new_id(), owner, &payload, &headers)?;
    match front.ask(front.channel("timestamp.logged")?, &envelope).await? {
        Reply::Now(reply) => Ok(axum::Json(stored::<CosignedAnswer>(&reply)?).into_response()),
        Reply::Later => Ok(pending()),
    }
}

/// The lines, when each is a known witness's over this very checkpoint.
fn cosignatures(policy: &Policy, note: &str, body: &[u8]) -> Answer<Vec<String>> {
    let wrong = || Problem::new("ZGL-TS-WITNESS", "must be signature lines of known witnesses over the checkpoint");
    let text = std::str::from_utf8(body).map_err(|_| wrong())?;
    let lines: Vec<&str> = text.lines().collect();
    if !(1..=LINES_MAX).contains(&lines.len()) {
        return Err(wrong());
    }
    let text =
        note.parse::<Note>().map_err(|_| Problem::new("ZGL-STATE-READ", "a stored value has another format"))?.text;
    for line in &lines {
        let line: SignatureLine = line.parse().map_err(|_| wrong())?;
        let witness = policy.witness(&line).ok_or_else(wrong)?;
        let alone = Note { text: text.clone(), signatures: vec![line] };
        if !matches!(alone.signed_by(witness), Ok(Some(_))) {
            return Err(wrong());
        }
    }
    Ok(lines.into_iter().map(str::to_owned).collect())
}

async fn head(front: &Front) -> Answer<LogHead> {
    let head = front.query(queries::log_head(log_key(&*front.keys))).await?;
    head.ok_or_else(|| Problem::not_found("the log is empty"))
}
