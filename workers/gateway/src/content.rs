//! Content on its way out: small content at once, objects streamed piece by piece.
//!
//! Each piece is read on a blocking thread when the client has taken the one before, so a client that stalls holds no
//! thread and a few pieces of memory, as long as the connection suffers it; and the number of streams is bounded, so that
//! clients who read slowly hold little and leave the other calls alone. An object that fails authentication breaks the connection off before its announced
//! length is reached, so no client takes it for complete (I8).

use crate::body::blocking;
use crate::platform::Front;
use crate::problem::{Answer, Problem};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use schemas::messages::{Content, ObjectRef, Part};
use schemas::{Key, Sha256};
use std::io::Read as _;
use zegel_core::Read;
use zegel_core::slot::spaces;
use zegel_mailbox::PartContent;

/// Bytes read from an object at once: one segment of its encryption, so that no more is held for a slow client.
const PIECE: usize = 64 * 1024;

/// A part of a message, under its own name and type.
pub(crate) async fn part(front: &Front, part: &Part, content: PartContent) -> Answer<Response> {
    let body = match content {
        PartContent::Bytes(bytes) => Body::from(bytes),
        PartContent::Row(read) => row(front, read).await?,
        PartContent::Object(object) => stream(front, object).await?,
    };
    let mut headers = describe(&part.mime, part.size, Some(part.digest));
    let name = format!("attachment; filename*=UTF-8''{}", percent_encode(&part.file_name));
    if let Ok(value) = HeaderValue::try_from(name) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok((headers, body).into_response())
}

/// Other content of a known length.
pub(crate) async fn document(
    front: &Front,
    content: &Content,
    mime: &'static str,
    size: u64,
    digest: Option<Sha256>,
) -> Answer<Response> {
    Ok((describe(mime, size, digest), body_of(front, content).await?).into_response())
}

fn describe(mime: &str, size: u64, digest: Option<Sha256>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let kind = HeaderValue::try_from(mime).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    // What a stranger sent is never run in a browser, nor kept by a proxy.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let digest =
        digest.and_then(|digest| HeaderValue::try_from(format!("sha-256=:{}:", STANDARD.encode(digest.0))).ok());
    if let Some(value) = digest {
        headers.insert("content-digest", value);
    }
    headers
}

async fn body_of(front: &Front, content: &Content) -> Answer<Body> {
    match content {
        Content::Attached => Err(Problem::new("ZGL-STORE-DAMAGED", "a stored document refers to its own attachment")),
        Content::Stored(id) => {
            row(front, Read::One { space: spaces::PAYLOADS, owner: Key(id.0), sub: Bytes::new() }).await
        }
        Content::Object(object) => stream(front, object.clone()).await,
    }
}

async fn row(front: &Front, read: Read) -> Answer<Body> {
    let mut rows = front.rows(read).await?;
    let (_, value) = rows.pop().ok_or_else(|| Problem::not_found("the content is not there any more"))?;
    Ok(Body::from(value))
}

async fn stream(front: &Front, object: ObjectRef) -> Answer<Body> {
    let place = front.streams.clone().try_acquire_owned();
    let place = place.map_err(|_| Problem::new("ZGL-HTTP-BUSY", "too much content is being read at a time"))?;
    let objects = front.objects.clone();
    let reader = blocking(move || objects.open(&object).map_err(Problem::from)).await?;
    let pieces = futures_util::stream::try_unfold((reader, place), |(reader, place)| async move {
        match tokio::task::spawn_blocking(move || read_piece(reader)).await {
            Ok(piece) => Ok(piece?.map(|(bytes, reader)| (bytes, (reader, place)))),
            Err(_) => Err(std::io::Error::other("reading was interrupted")),
        }
    });
    Ok(Body::from_stream(pieces))
}

type Reader = Box<dyn std::io::Read + Send>;

fn read_piece(mut reader: Reader) -> std::io::Result<Option<(Bytes, Reader)>> {
    let mut piece = Vec::with_capacity(PIECE);
    (&mut reader).take(PIECE as u64).read_to_end(&mut piece)?;
    Ok(if piece.is_empty() { None } else { Some((Bytes::from(piece), reader)) })
}

/// RFC 8187: everything but a few harmless characters as percent and two digits.
fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_cannot_break_out_of_its_header() {
        assert_eq!(percent_encode("é\"; x=\r\n.csv"), "%C3%A9%22%3B%20x%3D%0D%0A.csv");
    }
}
