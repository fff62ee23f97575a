//! TimeStampConsult over HTTP: which time stamps a hospital lacks, and bags to fill the gaps.
//!
//! `consult` and `retrieve` take and give the XML of the eHealth schema, so that a client of that service, or a SOAP face in
//! front, uses them as they are; a refusal of what was asked is `ERROR` in that XML, with status 400. `stream` gives whole
//! bags without any limit, a JSON line each, read one after the other while the client takes them.
//! Memory: one bag of a stream, at most [`RETRIEVE_BYTES`] of a retrieval, identifications of at most [`PERIOD_BAGS`] bags.

use crate::auth::Caller;
use crate::body::{self, blocking};
use crate::input::{At, Params};
use crate::platform::Front;
use crate::problem::{Answer, Problem};
use crate::timestamp::hospital;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use schemas::messages::Content;
use schemas::{Key, MailboxAddress, Millis};
use serde_json::json;
use std::io::Read as _;
use std::sync::Arc;
use zegel_crypto::tsa::{serial, token_of};
use zegel_timestamp::consult::{self, BagRequest, ConsultError, ConsultRequest, Identification};
use zegel_timestamp::queries::{self, BAGS_MAX};
use zegel_timestamp::rows::{ArchivedBag, OwnBagRow};

const XML: &str = "application/xml";
const LINES: &str = "application/x-ndjson";
/// Bags of one period: a month of five-minute windows.
const PERIOD_BAGS: usize = 10_000;
/// XML of one retrieval; larger bags are streamed.
const RETRIEVE_BYTES: u64 = 32 << 20;

/// `POST /v1/timestamp/consult`: `TSConsultRequest`, answered by `TSConsultResponse`.
pub(crate) async fn consult(
    State(front): State<Arc<Front>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let whole = body::whole(&front, &headers, body).await?;
    let request = match ConsultRequest::from_xml(&whole.bytes) {
        Ok(request) => request,
        Err(error) => return Ok(refused(&error, false)),
    };
    let key = caller.owner_or_operator(&front, &of_hospital(&request.hospital)?)?;
    let ours = identifications(&front, key, request.start, request.end).await?;
    let theirs = own_identifications(&front, key, request.start, request.end).await?;
    let both = ours.zip(theirs).map(|(mut ours, theirs)| {
        ours.extend(theirs);
        ours.sort_by_key(|one| one.at);
        ours
    });
    match both {
        Some(platform) => Ok(xml(StatusCode::OK, consult::consult(&request, platform).to_xml())),
        None => Ok(refused(&ConsultError::Size("a period of more than 10,000 bags"), false)),
    }
}

/// `POST /v1/timestamp/retrieve`: `TSConsultTSBagRequest`, answered by `TSConsultTSBagResponse`. What is not in the archive is
/// left out.
pub(crate) async fn retrieve(
    State(front): State<Arc<Front>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let whole = body::whole(&front, &headers, body).await?;
    let request = match BagRequest::from_xml(&whole.bytes) {
        Ok(request) => request,
        Err(error) => return Ok(refused(&error, true)),
    };
    let key = caller.owner_or_operator(&front, &of_hospital(&request.hospital)?)?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    for wanted in &request.list {
        let found_here = match identified(&front, key, wanted).await? {
            Some((bag, tsr)) => Some((bag.xml, bag.xml_size, tsr)),
            None => own_identified(&front, key, wanted).await?.map(|(bag, tsr)| (bag.content, bag.size, tsr)),
        };
        let Some((place, size, tsr)) = found_here else { continue };
        bytes += size;
        if bytes > RETRIEVE_BYTES {
            return Ok(refused(&ConsultError::Size("bags of more than 32 MiB: stream them"), true));
        }
        let token = token_of(&tsr).map_err(|_| damaged())?;
        found.push((content(&front, &place, size).await?, token));
    }
    Ok(xml(StatusCode::OK, consult::bags_xml(&found)))
}

/// `GET /v1/timestamp/stream/{hospital}`: every bag from a sequence on, a line of JSON each.
pub(crate) async fn stream(
    State(front): State<Arc<Front>>,
    caller: Caller,
    At(named): At<String>,
    uri: Uri,
) -> Answer<Response> {
    let params = Params::read(&uri, &["from", "to"])?;
    let from = params.number("from", 1, 1..=u64::MAX)?;
    let to = params.number("to", u64::MAX, 1..=u64::MAX)?;
    let key = caller.owner_or_operator(&front, &hospital(&named)?)?;
    let place = front.streams.clone().try_acquire_owned();
    let place = place.map_err(|_| Problem::new("ZGL-HTTP-BUSY", "too much content is being read at a time"))?;
    let lines = futures_util::stream::try_unfold((front, place, from), move |(front, place, next)| async move {
        if next > to {
            return Ok(None);
        }
        let line = line(&front, key, next).await.map_err(|_| std::io::Error::other("a bag could not be read"))?;
        Ok::<_, std::io::Error>(line.map(|line| (line, (front, place, next.saturating_add(1)))))
    });
    Ok(([(header::CONTENT_TYPE, LINES)], Body::from_stream(lines)).into_response())
}

/// One bag of a stream; none after the last one.
async fn line(front: &Front, key: Key, sequence: u64) -> Answer<Option<Bytes>> {
    let Some(bag) = front.query(queries::bag(key, sequence)).await? else { return Ok(None) };
    let tsr = front.query(queries::token(key, sequence)).await?.ok_or_else(damaged)?;
    let xml = content(front, &bag.xml, bag.xml_size).await?;
    let [header, tsr, xml] = [&bag.header, tsr.as_ref(), &xml].map(|bytes| STANDARD.encode(bytes));
    let mut line = json!({ "sequence": sequence, "header": header, "tsr": tsr, "xml": xml }).to_string();
    line.push('\n');
    Ok(Some(Bytes::from(line)))
}

/// `IDHospital` is the hospital's number, or its whole address.
fn of_hospital(id: &str) -> Answer<MailboxAddress> {
    hospital(&if id.contains(':') { id.to_owned() } else { format!("NIHII-HOSPITAL:{id}") })
}

/// The stamps of a period, oldest first; none when there are too many.
async fn identifications(front: &Front, key: Key, start: Millis, end: Millis) -> Answer<Option<Vec<Identification>>> {
    let mut found = Vec::new();
    let mut next = first_from(front, key, start).await?;
    loop {
        let page = front.query(queries::bags(key, next, BAGS_MAX)).await?;
        let full = page.len() == BAGS_MAX;
        let within: Vec<&ArchivedBag> = page.iter().take_while(|bag| bag.stamped <= end).collect();
        let ended = !full || within.len() < page.len();
        let reads = within.iter().map(|bag| queries::token(key, bag.sequence));
        for (bag, query) in within.iter().zip(reads) {
            let tsr = front.query(query).await?.ok_or_else(damaged)?;
            found.push(Identification { at: bag.stamped, serial: serial(&tsr).map_err(|_| damaged())? });
        }
        if found.len() > PERIOD_BAGS {
            return Ok(None);
        }
        match within.last() {
            Some(last) if !ended => next = last.sequence + 1,
            _ => return Ok(Some(found)),
        }
    }
}

/// The stamps of a period over bags that the hospital made itself; none when there are too many.
async fn own_identifications(
    front: &Front,
    key: Key,
    start: Millis,
    end: Millis,
) -> Answer<Option<Vec<Identification>>> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = front.query(queries::own_bags(key, start, after, BAGS_MAX)).await?;
        let full = page.len() == BAGS_MAX;
        for (at, digest) in page.iter().take_while(|(at, _)| *at <= end) {
            let tsr = front.query(queries::own_token(key, digest)).await?.ok_or_else(damaged)?;
            found.push(Identification { at: *at, serial: serial(&tsr).map_err(|_| damaged())? });
        }
        after = page.last().copied();
        if found.len() > PERIOD_BAGS {
            return Ok(None);
        }
        if !full || after.is_some_and(|(at, _)| at > end) {
            return Ok(Some(found));
        }
    }
}

/// The bag of the hospital's own with this stamp.
async fn own_identified(front: &Front, key: Key, wanted: &Identification) -> Answer<Option<(OwnBagRow, Bytes)>> {
    let mut after = None;
    loop {
        let page = front.query(queries::own_bags(key, wanted.at, after, BAGS_MAX)).await?;
        for (_, digest) in page.iter().take_while(|(at, _)| *at == wanted.at) {
            let tsr = front.query(queries::own_token(key, digest)).await?.ok_or_else(damaged)?;
            if serial(&tsr).map_err(|_| damaged())? == wanted.serial {
                let row = front.query(queries::own_bag(key, digest)).await?.ok_or_else(damaged)?;
                return Ok(Some((row, tsr)));
            }
        }
        after = page.last().copied();
        if page.len() < BAGS_MAX || after.is_some_and(|(at, _)| at != wanted.at) {
            return Ok(None);
        }
    }
}

/// The bag with this stamp.
async fn identified(front: &Front, key: Key, wanted: &Identification) -> Answer<Option<(ArchivedBag, Bytes)>> {
    let mut next = first_from(front, key, wanted.at).await?;
    // Times of tokens never fall, and few bags share one.
    while let Some(bag) = front.query(queries::bag(key, next)).await?.filter(|bag| bag.stamped == wanted.at) {
        let tsr = front.query(queries::token(key, next)).await?.ok_or_else(damaged)?;
        if serial(&tsr).map_err(|_| damaged())? == wanted.serial {
            return Ok(Some((bag, tsr)));
        }
        next += 1;
    }
    Ok(None)
}

/// The first bag whose token is of this time or later; one behind the last bag when there is none.
async fn first_from(front: &Front, key: Key, at: Millis) -> Answer<u64> {
    let last = front.query(queries::head(key)).await?.map_or(0, |head| head.sequence);
    let (mut low, mut high) = (1, last + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let bag = front.query(queries::bag(key, middle)).await?.ok_or_else(damaged)?;
        if bag.stamped < at { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

/// A bag's XML, whole.
async fn content(front: &Front, place: &Content, size: u64) -> Answer<Vec<u8>> {
    match place {
        Content::Attached => Err(damaged()),
        Content::Stored(id) => Ok(front.query(queries::stored_xml(*id)).await?.ok_or_else(damaged)?.to_vec()),
        Content::Object(object) => {
            let (objects, object) = (front.objects.clone(), object.clone());
            blocking(move || {
                let mut bytes = Vec::new();
                let reader = objects.open(&object).map_err(Problem::from)?;
                reader.take(size).read_to_end(&mut bytes).map_err(|_| damaged())?;
                Ok(bytes)
            })
            .await
        }
    }
}

fn damaged() -> Problem {
    Problem::new("ZGL-STORE-DAMAGED", "a bag of the archive cannot be read")
}

fn refused(error: &ConsultError, retrieval: bool) -> Response {
    xml(StatusCode::BAD_REQUEST, consult::error_xml(error, retrieval))
}

fn xml(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, XML)], text).into_response()
}
