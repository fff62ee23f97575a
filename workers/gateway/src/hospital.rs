//! The hospital's own front, on loopback: its systems hand documents to the journal here, and ask what became of them.
//!
//! | call | answer |
//! | --- | --- |
//! | `POST /v1/documents[?ref=N]`, the document as the body | 202: it is durable in the journal |
//! | `POST /v1/hashes`, `{"entries":[{"hash":…,"ref"?:…}]}`, at most 1,000 | 202: all of them are |
//! | `GET /v1/documents/{sha256}` | its entries, salts included |
//! | `GET /v1/entries?from=N` | up to 1,000 entries, salts included |
//! | `GET /v1/status` | how many entries are where |
//!
//! Every call needs the agent's token: a salt opens a document's hash to guessing, and another user of the machine, or a web page
//! in somebody's browser, must not fill a hospital's bags.
//! Memory: one piece of a document, whatever its size. Failure behaviour: an answer other than 202 means that nothing of the call
//! is in the journal.

use crate::body::{Frames, blocking, parse_json};
use crate::input::{At, Params};
use crate::platform::GatewayConfig;
use crate::problem::{Answer, Problem};
use crate::server::serve_router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use schemas::{MailboxAddress, Sha256};
use serde::Deserialize;
use serde_json::json;
use std::future::Future;
use std::io;
use std::sync::Arc;
use tokio::net::TcpListener;
use zegel_crypto::hash::{Hasher, sha256};
use zegel_hospital::journal::ENTRIES_MAX;
use zegel_hospital::{Answer as Journaled, HospitalError, Journal, Offer};

/// Largest body of hashes: a thousand of a hundred bytes each.
const HASHES_BYTES: u64 = 1 << 20;

/// What the front stands on.
pub struct Hatch {
    /// Where documents are written down.
    pub journal: Arc<Journal>,
    /// SHA-256 of the token that callers must have. Of 256 random bits, so timing tells nothing that helps to guess it.
    pub token: Sha256,
    /// Limits.
    pub config: GatewayConfig,
}

impl Hatch {
    /// With the usual limits.
    #[must_use]
    pub fn new(journal: Arc<Journal>, token: &str, hospital: MailboxAddress) -> Hatch {
        Hatch { journal, token: sha256(token.as_bytes()), config: GatewayConfig::new(hospital) }
    }
}

/// Hashes that are handed in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Offered {
    entries: Vec<OfferedHash>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfferedHash {
    r#ref: Option<u64>,
    hash: Sha256,
}

/// Serves until `shutdown` completes, then lets open requests finish.
///
/// # Errors
/// When the listener has no address any more.
pub async fn serve(listener: TcpListener, hatch: Hatch, shutdown: impl Future<Output = ()> + Send) -> io::Result<()> {
    let config = hatch.config.clone();
    serve_router(listener, router(Arc::new(hatch)), &config, shutdown).await
}

/// The routes.
pub fn router(hatch: Arc<Hatch>) -> Router {
    Router::new()
        .route("/v1/documents", post(document))
        .route("/v1/documents/{sha256}", get(found))
        .route("/v1/hashes", post(hashes))
        .route("/v1/entries", get(entries))
        .route("/v1/status", get(status))
        .layer(from_fn_with_state(hatch.clone(), authorised))
        .fallback(|| async { Problem::new("ZGL-HTTP-ROUTE", "see `zegel timestamp agent --help` for what there is") })
        .with_state(hatch)
}

async fn authorised(State(hatch): State<Arc<Hatch>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = given.and_then(|value| value.strip_prefix("Bearer ")).map(|token| sha256(token.trim().as_bytes()));
    match token {
        Some(token) if token == hatch.token => next.run(request).await,
        _ => Problem::new("ZGL-AUTH-TOKEN", "say the token of the agent's folder").into_response(),
    }
}

async fn document(State(hatch): State<Arc<Hatch>>, uri: Uri, body: Body) -> Answer<Response> {
    let reference = match Params::read(&uri, &["ref"])?.number("ref", 0, 1..=u64::MAX)? {
        0 => None,
        given => Some(given),
    };
    if body.size_hint().lower() > hatch.config.batch_max {
        return Err(Problem::new("801", "the content is over the limit"));
    }
    let mut frames = Frames::new(body, hatch.config.body_timeout);
    let mut hasher = Hasher::new();
    while let Some(data) = frames.next().await? {
        if frames.received > hatch.config.batch_max {
            return Err(Problem::new("801", "the content is over the limit"));
        }
        hasher.update(&data);
    }
    add(&hatch, vec![Offer { reference, document: hasher.finish() }]).await
}

async fn hashes(State(hatch): State<Arc<Hatch>>, body: Body) -> Answer<Response> {
    let mut frames = Frames::new(body, hatch.config.body_timeout);
    let mut whole = Vec::new();
    while let Some(data) = frames.next().await? {
        if frames.received > HASHES_BYTES {
            return Err(Problem::new("ZGL-HTTP-SIZE", "the body is over the limit of this call"));
        }
        whole.extend_from_slice(&data);
    }
    let offered: Offered = parse_json(&whole, 1)?;
    if !(1..=ENTRIES_MAX).contains(&offered.entries.len()) {
        return Err(Problem::field("entries", "must be 1 to 1,000 entries"));
    }
    let offers = offered.entries.iter().map(|one| Offer { reference: one.r#ref, document: one.hash });
    add(&hatch, offers.collect()).await
}

async fn add(hatch: &Arc<Hatch>, offers: Vec<Offer>) -> Answer<Response> {
    let journal = hatch.journal.clone();
    let answers = blocking(move || journal.add(&offers).map_err(failed)).await?;
    let refused = answers.iter().all(|answer| matches!(answer, Journaled::Conflict { .. } | Journaled::Invalid));
    let status = if refused { StatusCode::CONFLICT } else { StatusCode::ACCEPTED };
    Ok((status, Json(json!({ "answers": answers }))).into_response())
}

async fn found(State(hatch): State<Arc<Hatch>>, At(digest): At<String>) -> Answer<Response> {
    let digest: Sha256 = digest.parse().map_err(|_| Problem::not_found("not a SHA-256 in hexadecimal"))?;
    let journal = hatch.journal.clone();
    let entries = blocking(move || journal.find(&digest).map_err(failed)).await?;
    Ok(Json(json!({ "entries": entries })).into_response())
}

async fn entries(State(hatch): State<Arc<Hatch>>, uri: Uri) -> Answer<Response> {
    let from = Params::read(&uri, &["from"])?.number("from", 0, 0..=u64::MAX)?;
    let journal = hatch.journal.clone();
    let entries = blocking(move || journal.from(from).map_err(failed)).await?;
    let next = (entries.len() == ENTRIES_MAX).then(|| entries.last().map(|entry| entry.reference + 1)).flatten();
    Ok(Json(json!({ "entries": entries, "next": next })).into_response())
}

async fn status(State(hatch): State<Arc<Hatch>>) -> Answer<Response> {
    Ok(Json(hatch.journal.tally()).into_response())
}

fn failed(error: HospitalError) -> Problem {
    match error {
        HospitalError::Store(error) => Problem::from(error),
        HospitalError::TooMany(_) => Problem::field("entries", "must be 1 to 1,000 entries"),
        other => {
            tracing::error!(error = %other, "the journal failed");
            Problem::new("ZGL-INTERNAL", "the journal failed; nothing was written down")
        }
    }
}
