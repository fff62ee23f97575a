//! Bags that hospitals made themselves: taken, stamped, kept byte for byte, listed and given back.
//!
//! A bag is checked against the schema's rules before anything is kept; the answer comes when it is stamped, or says that it will
//! be. Memory: one bag of at most [`OWN_MAX`] bytes for each call, and those are a few at a time.

use crate::auth::Caller;
use crate::body::{self, blocking};
use crate::content;
use crate::input::{At, Params, next_page};
use crate::platform::Front;
use crate::problem::{Answer, Problem};
use crate::publish::{Reply, pending, stored};
use crate::timestamp::hospital;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use schemas::envelope::ATTACHMENT_MAX;
use schemas::messages::{Content, OwnBag};
use schemas::{MailboxAddress, Millis, Sha256};
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;
use zegel_crypto::hash::sha256;
use zegel_timestamp::own_bag::{OWN_MAX, check};
use zegel_timestamp::queries;
use zegel_timestamp::rows::OwnBagRow;

/// A hospital's own bag, as it is shown.
#[derive(Serialize)]
struct View {
    digest: Sha256,
    sequence: i64,
    entries: u64,
    size: u64,
    /// Under which its hash stands in a bag of the platform.
    r#ref: u64,
    stamped: Millis,
    xml: String,
    tsr: String,
}

/// `POST /v1/timestamp/own-bags/{hospital}`: the bag as the body.
pub(crate) async fn take(
    State(front): State<Arc<Front>>,
    caller: Caller,
    At(named): At<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let hospital = hospital(&named)?;
    let key = caller.owner(&front, &hospital)?;
    let whole = body::whole_up_to(&front, &headers, body, OWN_MAX as u64).await?;
    let bytes = whole.bytes.clone();
    let shape = check(&bytes).map_err(|error| Problem::new("ZGL-TS-BAG", error.0))?;
    let (digest, size) = (sha256(&bytes), bytes.len() as u64);
    let content = if bytes.len() <= ATTACHMENT_MAX { Content::Attached } else { kept(&front, bytes.clone()).await? };
    let is_attached = content == Content::Attached;
    let bag =
        OwnBag { hospital: hospital.clone(), sequence: shape.sequence, entries: shape.entries, digest, size, content };
    let mut envelope = front.envelope(front.new_id(), key, &bag, &headers)?;
    if is_attached {
        envelope.attachment = bytes;
    }
    match front.ask(front.channel("timestamp.sealed")?, &envelope).await? {
        Reply::Now(reply) => {
            let row = stored::<OwnBagRow>(&reply)?;
            Ok((StatusCode::OK, axum::Json(view(&hospital, &row))).into_response())
        }
        Reply::Later => Ok(pending()),
    }
}

/// Content that is too large for a message.
async fn kept(front: &Front, bytes: Bytes) -> Answer<Content> {
    let objects = front.objects.clone();
    blocking(move || {
        let mut sink = objects.create().map_err(Problem::from)?;
        sink.write_all(&bytes)
            .map_err(|_| Problem::new("ZGL-OBJECTS-AWAY", "nothing was kept").retry_after_ms(1_000))?;
        sink.finish().map(Content::Object).map_err(Problem::from)
    })
    .await
}

/// `GET /v1/timestamp/own-bags/{hospital}`: by the time of their tokens, a page at a time.
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
    let found = front.query(queries::own_bags(key, Millis(0), params.after()?, limit)).await?;
    let mut bags = Vec::with_capacity(found.len());
    for (_, digest) in &found {
        let row = front.query(queries::own_bag(key, digest)).await?.ok_or_else(damaged)?;
        bags.push(view(&hospital, &row));
    }
    Ok(axum::Json(json!({ "bags": bags, "next": next_page(&found, limit) })).into_response())
}

/// `GET /v1/timestamp/own-bags/{hospital}/{digest}.xml` and `.tsr`.
pub(crate) async fn file(
    State(front): State<Arc<Front>>,
    caller: Caller,
    At((named, file)): At<(String, String)>,
) -> Answer<Response> {
    let key = caller.owner_or_operator(&front, &hospital(&named)?)?;
    let missing = || Problem::not_found("no such bag");
    let (digest, kind) = file.split_once('.').ok_or_else(missing)?;
    let digest: Sha256 = digest.parse().map_err(|_| missing())?;
    let row = front.query(queries::own_bag(key, &digest)).await?.ok_or_else(missing)?;
    match kind {
        "xml" => content::document(&front, &row.content, "application/xml", row.size, Some(row.digest)).await,
        "tsr" => {
            let token = front.query(queries::own_token(key, &digest)).await?.ok_or_else(damaged)?;
            Ok(([(header::CONTENT_TYPE, "application/timestamp-reply")], token).into_response())
        }
        _ => Err(missing()),
    }
}

fn view(hospital: &MailboxAddress, row: &OwnBagRow) -> View {
    let place = format!("/v1/timestamp/own-bags/{hospital}/{}", row.digest);
    View {
        digest: row.digest,
        sequence: row.sequence,
        entries: row.entries,
        size: row.size,
        r#ref: row.reference,
        stamped: row.stamped,
        xml: format!("{place}.xml"),
        tsr: format!("{place}.tsr"),
    }
}

fn damaged() -> Problem {
    Problem::new("ZGL-STORE-DAMAGED", "a bag of the archive cannot be read")
}
