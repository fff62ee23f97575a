//! Tokens that hospitals asked for by themselves and had archived: kept, listed, given back.
//!
//! The response is durable in the platform's queue before it is given; where its worker is slow the archive has it later.

use crate::auth::Caller;
use crate::input::{At, Params, next_page};
use crate::platform::Front;
use crate::problem::{Answer, Problem};
use crate::timestamp::hospital;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use schemas::messages::ArchiveToken;
use schemas::{Key, MailboxAddress, Sha256};
use serde_json::json;
use std::sync::Arc;
use zegel_crypto::hash::sha256;
use zegel_crypto::tsa::{Digest, Request, token_of};
use zegel_timestamp::queries;

/// The SHA-256 that a request wants stamped.
///
/// # Errors
/// When it is no request, or over another digest.
pub(crate) fn imprint(request: &[u8]) -> Answer<Sha256> {
    let read = Request::read(request).ok().and_then(|request| request.imprint());
    let sha256 = read.filter(|(digest, _)| *digest == Digest::Sha256);
    let hash = sha256.and_then(|(_, hash)| <[u8; 32]>::try_from(hash).ok());
    hash.map(Sha256).ok_or_else(|| Problem::field("archive", "takes time-stamp requests over SHA-256"))
}

/// Has a response archived; where it will be. None where it holds no token.
pub(crate) async fn keep(
    front: &Front,
    (key, hospital, imprint): (Key, MailboxAddress, Sha256),
    response: &[u8],
    headers: &HeaderMap,
) -> Answer<Option<String>> {
    let Ok(token) = token_of(response) else { return Ok(None) };
    let token = sha256(&token);
    let place = format!("/v1/timestamp/tokens/{hospital}/{token}.tsr");
    let order = ArchiveToken { hospital, imprint, token };
    let mut envelope = front.envelope(front.new_id(), key, &order, headers)?;
    envelope.attachment = Bytes::copy_from_slice(response);
    // Now or later: it is durable.
    let _reply = front.ask(front.channel("timestamp.sealed")?, &envelope).await?;
    Ok(Some(place))
}

/// `GET /v1/timestamp/tokens/{hospital}`: by their time, a page at a time.
pub(crate) async fn list(
    State(front): State<Arc<Front>>,
    caller: Caller,
    At(named): At<String>,
    uri: Uri,
) -> Answer<Response> {
    let params = Params::read(&uri, &["after", "limit"])?;
    let limit = params.limit()?;
    let hospital = hospital(&named)?;
    let key = caller.owner_or_operator(&front, &hospital)?;
    let found = front.query(queries::kept_tokens(key, params.after()?, limit)).await?;
    let mut tokens = Vec::with_capacity(found.len());
    for (stamped, token) in &found {
        let row = front.query(queries::kept_token(key, token)).await?.ok_or_else(damaged)?;
        let tsr = format!("/v1/timestamp/tokens/{hospital}/{token}.tsr");
        tokens.push(json!({ "imprint": row.imprint, "token": token, "stamped": stamped, "tsr": tsr }));
    }
    Ok(axum::Json(json!({ "tokens": tokens, "next": next_page(&found, limit) })).into_response())
}

/// `GET /v1/timestamp/tokens/{hospital}/{token}.tsr`.
pub(crate) async fn file(
    State(front): State<Arc<Front>>,
    caller: Caller,
    At((named, file)): At<(String, String)>,
) -> Answer<Response> {
    let key = caller.owner_or_operator(&front, &hospital(&named)?)?;
    let missing = || Problem::not_found("no such token");
    let token: Sha256 = file.strip_suffix(".tsr").and_then(|name| name.parse().ok()).ok_or_else(missing)?;
    let row = front.query(queries::kept_token(key, &token)).await?.ok_or_else(missing)?;
    Ok(([(header::CONTENT_TYPE, "application/timestamp-reply")], row.tsr).into_response())
}

fn damaged() -> Problem {
    Problem::new("ZGL-STORE-DAMAGED", "a token of the archive cannot be read")
}
