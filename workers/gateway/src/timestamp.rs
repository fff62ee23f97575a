//! The time-stamp calls: enrolment, entries, bags with their tokens, and the authority's certificate.

use crate::auth::Caller;
use crate::body::{self, Json};
use crate::content;
use crate::input::{At, Params, address};
use crate::platform::Front;
use crate::problem::{Answer, Problem};
use crate::publish::{Reply, pending, stored};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use schemas::messages::{Enrol, Entries, Entry, EntryAnswer};
use schemas::{MailboxAddress, Millis, Sha256};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use zegel_timestamp::queries::{self, Query};
use zegel_timestamp::rows::{self, ArchivedBag, RECORD, REQUEST_MAX};

/// The body of an enrolment.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Enrolment {
    hospital: String,
    #[serde(default)]
    salted: Option<bool>,
}

/// The body of a request for stamps.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Offered {
    hospital: String,
    entries: Vec<Entry>,
}

/// One entry's answer.
#[derive(Serialize)]
struct Answered {
    r#ref: u64,
    #[serde(flatten)]
    answer: EntryAnswer,
}

/// All answers, in the order of the entries.
#[derive(Serialize)]
struct Answers {
    answers: Vec<Answered>,
}

/// A bag in a listing.
#[derive(Serialize)]
struct BagView {
    sequence: u64,
    start: Millis,
    end: Millis,
    count: u64,
    header_hash: Sha256,
    previous: Sha256,
    imprint: Sha256,
    stamped: Millis,
    late: bool,
    xml: String,
    tsr: String,
    header: String,
}

/// A page of bags.
#[derive(Serialize)]
struct Bags {
    bags: Vec<BagView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// `POST /v1/timestamp/hospitals`.
pub(crate) async fn enrol(
    State(front): State<Arc<Front>>,
    caller: Caller,
    headers: HeaderMap,
    Json(enrolment): Json<Enrolment>,
) -> Answer<Response> {
    let hospital = hospital(&enrolment.hospital)?;
    let key = caller.owner_or_operator(&front, &hospital)?;
    let envelope = front.envelope(front.new_id(), key, &Enrol { hospital, salted: enrolment.salted }, &headers)?;
    match front.ask(front.channel("timestamp.entries")?, &envelope).await? {
        Reply::Now(reply) => Ok(axum::Json(stored::<rows::Enrolled>(&reply)?).into_response()),
        Reply::Later => Ok(pending()),
    }
}

/// `POST /v1/timestamp/entries`: as JSON, or as records of 40 bytes with the hospital in the query.
pub(crate) async fn offer(
    State(front): State<Arc<Front>>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let binary = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == b"application/octet-stream");
    let params = Params::read(&uri, &["hospital"])?;
    let whole = body::whole(&front, &headers, body).await?;
    let (named, records) = if binary {
        let named = params.text("hospital").ok_or_else(|| Problem::field("hospital", "is required"))?;
        (named.to_owned(), whole.bytes)
    } else {
        let offered: Offered = body::parse_json(&whole.bytes, 1)?;
        (offered.hospital, rows::encode_entries(&offered.entries))
    };
    let hospital = hospital(&named)?;
    let key = caller.owner(&front, &hospital)?;
    let count = records.len() / RECORD;
    if records.len() % RECORD != 0 || !(1..=REQUEST_MAX).contains(&count) {
        return Err(Problem::field("entries", "must be 1 to 1,000 entries"));
    }
    if rows::records(&records).any(|(reference, ..)| (rows::OWN_REFERENCES..=rows::REFERENCE_MAX).contains(&reference))
    {
        return Err(Problem::field("entries", "references from 2^62 on are the platform's own"));
    }
    let payload = Entries { hospital, count: u32::try_from(count).unwrap_or(u32::MAX) };
    let mut envelope = front.envelope(front.new_id(), key, &payload, &headers)?;
    envelope.attachment = records.clone();
    match front.ask(front.channel("timestamp.entries")?, &envelope).await? {
        Reply::Now(reply) => answer(&records, &reply),
        Reply::Later => Ok(pending()),
    }
}

fn answer(records: &Bytes, reply: &[u8]) -> Answer<Response> {
    let given: Vec<EntryAnswer> = stored(reply)?;
    if given.len() != records.len() / RECORD {
        return Err(Problem::new("ZGL-INTERNAL", "the worker answered for another number of entries"));
    }
    let conflict = given.iter().all(|answer| *answer == EntryAnswer::Conflict);
    let answers =
        rows::records(records).zip(given).map(|((reference, _, _), answer)| Answered { r#ref: reference, answer });
    let status = if conflict { StatusCode::CONFLICT } else { StatusCode::ACCEPTED };
    Ok((status, axum::Json(Answers { answers: answers.collect() })).into_response())
}

/// `GET /v1/timestamp/bags/{hospital}`.
pub(crate) async fn bags(
    State(front): State<Arc<Front>>,
    caller: Caller,
    At(named): At<String>,
    uri: Uri,
) -> Answer<Response> {
    let params = Params::read(&uri, &["from", "limit"])?;
    let (from, limit) = (params.number("from", 1, 1..=u64::MAX)?, params.limit()?);
    let hospital = hospital(&named)?;
    let key = caller.owner_or_operator(&front, &hospital)?;
    let found = front.query(queries::bags(key, from, limit)).await?;
    let next = found.last().filter(|_| found.len() == limit).map(|bag| bag.sequence + 1);
    let bags = found.iter().map(|bag| view(&hospital, bag)).collect();
    Ok(axum::Json(Bags { bags, next }).into_response())
}

fn view(hospital: &MailboxAddress, bag: &ArchivedBag) -> BagView {
    let place = format!("/v1/timestamp/bags/{hospital}/{}", bag.sequence);
    BagView {
        sequence: bag.sequence,
        start: bag.start,
        end: bag.end,
        count: bag.count,
        header_hash: bag.header_hash,
        previous: bag.previous,
        imprint: bag.imprint,
        stamped: bag.stamped,
        late: bag.late,
        xml: format!("{place}.xml"),
        tsr: format!("{place}.tsr"),
        header: format!("{place}.header"),
    }
}

/// `GET /v1/timestamp/bags/{hospital}/{sequence}.xml`, `.tsr` and `.header`: the exact bytes that were stamped, the response,
/// and the header, of which the XML has the hash.
pub(crate) async fn bag_file(
    State(front): State<Arc<Front>>,
    caller: Caller,
    At((named, file)): At<(String, String)>,
) -> Answer<Response> {
    let key = caller.owner_or_operator(&front, &hospital(&named)?)?;
    let missing = || Problem::not_found("no such bag");
    let (sequence, kind) = file.split_once('.').ok_or_else(missing)?;
    let sequence: u64 = sequence.parse().map_err(|_| missing())?;
    match kind {
        "xml" => {
            let bag = front.query(queries::bag(key, sequence)).await?.ok_or_else(missing)?;
            content::document(&front, &bag.xml, "application/xml", bag.xml_size, Some(bag.imprint)).await
        }
        "tsr" => {
            let token = front.query(queries::token(key, sequence)).await?.ok_or_else(missing)?;
            Ok(([(header::CONTENT_TYPE, "application/timestamp-reply")], token).into_response())
        }
        "header" => {
            let bag = front.query(queries::bag(key, sequence)).await?.ok_or_else(missing)?;
            Ok(([(header::CONTENT_TYPE, "application/cbor")], bag.header).into_response())
        }
        _ => Err(missing()),
    }
}

/// `GET /v1/timestamp/ca.pem`.
pub(crate) async fn ca(State(front): State<Arc<Front>>) -> Response {
    ([(header::CONTENT_TYPE, "application/pem-certificate-chain")], front.config.ca_pem.clone()).into_response()
}

/// Bags are a hospital's.
pub(crate) fn hospital(text: &str) -> Answer<MailboxAddress> {
    let hospital = address(text, || "hospital".to_owned())?;
    if hospital.kind() == "NIHII-HOSPITAL" {
        return Ok(hospital);
    }
    Err(Problem::new("ZGL-TS-HOSPITAL", "must be an address of type NIHII-HOSPITAL").at("hospital"))
}

impl Front {
    pub(crate) async fn query<T>(&self, query: Query<T>) -> Answer<T> {
        let rows = self.rows(query.read.clone()).await?;
        query.answer(rows).map_err(|_| Problem::new("ZGL-STORE-DAMAGED", "a stored value has another format"))
    }
}
