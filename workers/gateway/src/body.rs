//! Bodies: streamed into an attachment or an object with flat memory, or read whole up to a limit.
//!
//! A body gets [`GatewayConfig::body_timeout`](crate::GatewayConfig) and a second more for each 64 KiB received, so a
//! client that drips bytes is let go. Up to 64 KiB stays in memory; from there on pieces of [`PIECE`] bytes are handed to
//! a blocking thread one at a time, so a client that stalls holds no thread, and the next piece is not read before the
//! last one is written.
//! An [`Upload`] that is dropped, at any point, leaves nothing behind: the object exists only after [`Upload::keep`].

use crate::platform::Front;
use crate::problem::{Answer, Problem};
use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use schemas::Sha256;
use schemas::envelope::ATTACHMENT_MAX;
use schemas::messages::Content;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};
use zegel_core::objects::ObjectSink;
use zegel_crypto::hash::{Hasher, sha256};

/// Bytes handed to a blocking thread at once: a millisecond of hashing, encrypting and writing.
const PIECE: usize = 1024 * 1024;

/// A body is let go when it comes more slowly than so many bytes a second (after its first allowance).
const SLOWEST: u64 = 64 * 1024;

/// How long a large transfer waits for its turn.
const TURN: Duration = Duration::from_secs(10);

/// A body that was received: its length, its digest, and where it is.
pub(crate) struct Upload<'f> {
    pub(crate) size: u64,
    pub(crate) digest: Sha256,
    held: Held,
    _turn: Option<SemaphorePermit<'f>>,
}

enum Held {
    Small(Bytes),
    Large(Box<dyn ObjectSink>),
}

impl<'f> Upload<'f> {
    /// Receives a body of at most `limit` bytes; a longer one is refused with 801 as soon as that is known.
    pub(crate) async fn receive(front: &'f Front, body: Body, limit: u64) -> Answer<Upload<'f>> {
        if body.size_hint().lower() > limit {
            return Err(too_large());
        }
        let mut frames = Frames::new(body, front.config.body_timeout);
        let mut head = BytesMut::new();
        while let Some(data) = frames.next().await? {
            if frames.received > limit {
                return Err(too_large());
            }
            if head.is_empty() && frames.ended() && data.len() <= ATTACHMENT_MAX {
                return Ok(Upload::small(data)); // one frame: not copied
            }
            head.extend_from_slice(&data);
            if head.len() > ATTACHMENT_MAX {
                return Upload::large(front, frames, head, limit).await;
            }
        }
        Ok(Upload::small(head.freeze()))
    }

    fn small(bytes: Bytes) -> Upload<'f> {
        Upload { size: bytes.len() as u64, digest: sha256(&bytes), held: Held::Small(bytes), _turn: None }
    }

    async fn large(front: &'f Front, mut frames: Frames, head: BytesMut, limit: u64) -> Answer<Upload<'f>> {
        let turn = bulk_turn(front).await?;
        let objects = front.objects.clone();
        let sink = blocking(move || objects.create().map_err(Problem::from)).await?;
        let mut state = (sink, Hasher::new());
        let mut piece = head;
        while let Some(data) = frames.next().await? {
            if frames.received > limit {
                return Err(too_large());
            }
            piece.extend_from_slice(&data);
            if piece.len() >= PIECE {
                state = write(state, piece.split().freeze()).await?;
            }
        }
        let (sink, hasher) = write(state, piece.freeze()).await?;
        Ok(Upload { size: frames.received, digest: hasher.finish(), held: Held::Large(sink), _turn: Some(turn) })
    }

    /// Makes the content durable where it belongs: in the message's attachment, or as an object.
    pub(crate) async fn keep(self) -> Answer<(Content, Bytes)> {
        match self.held {
            Held::Small(bytes) => Ok((Content::Attached, bytes)),
            Held::Large(sink) => {
                let object = blocking(move || sink.finish().map_err(Problem::from)).await?;
                Ok((Content::Object(object), Bytes::new()))
            }
        }
    }
}

async fn write(
    (mut sink, mut hasher): (Box<dyn ObjectSink>, Hasher),
    piece: Bytes,
) -> Answer<(Box<dyn ObjectSink>, Hasher)> {
    blocking(move || {
        hasher.update(&piece);
        match sink.write_all(&piece) {
            Ok(()) => Ok((sink, hasher)),
            Err(_) => Err(Problem::new("ZGL-OBJECTS-AWAY", "nothing was kept").retry_after_ms(1000)),
        }
    })
    .await
}

/// Waits for one of the few places for large transfers.
pub(crate) async fn bulk_turn(front: &Front) -> Answer<SemaphorePermit<'_>> {
    match timeout(TURN, front.bulk.acquire()).await {
        Ok(Ok(turn)) => Ok(turn),
        _ => Err(Problem::new("ZGL-HTTP-BUSY", "too many large transfers at a time").retry_after_ms(5_000)),
    }
}

/// Runs what blocks on a blocking thread.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Answer<T> + Send + 'static) -> Answer<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(Problem::new("ZGL-INTERNAL", "the work was interrupted")),
    }
}

/// The digest that the sender says the content has: `Content-Digest: sha-256=:<base64>:` (RFC 9530). None when the
/// header is absent or names only other algorithms, which a recipient may ignore.
pub(crate) fn content_digest(headers: &HeaderMap) -> Answer<Option<Sha256>> {
    let wrong = || Problem::new("816", "must be sha-256=:<base64 of 32 bytes>:").at("Content-Digest");
    for value in headers.get_all("content-digest") {
        for member in value.to_str().map_err(|_| wrong())?.split(',') {
            let Some(digest) = member.trim().strip_prefix("sha-256=") else { continue };
            let base64 = digest.strip_prefix(':').and_then(|rest| rest.strip_suffix(':')).ok_or_else(wrong)?;
            let bytes = STANDARD.decode(base64).map_err(|_| wrong())?;
            return Ok(Some(Sha256(bytes.try_into().map_err(|_| wrong())?)));
        }
    }
    Ok(None)
}

/// Refuses a body with a content coding: sizes and digests speak of the bytes as they come.
pub(crate) fn plain(headers: &HeaderMap) -> Answer<()> {
    let coded = headers.get_all(header::CONTENT_ENCODING).iter().any(|value| value.as_bytes() != b"identity");
    if coded { Err(Problem::new("ZGL-HTTP-ENCODING", "send the body without Content-Encoding")) } else { Ok(()) }
}

/// A body in memory; a large one holds one of the few places for large transfers as long as it lives.
pub(crate) struct Whole<'f> {
    pub(crate) bytes: Bytes,
    _turn: Option<SemaphorePermit<'f>>,
}

/// Reads a whole body of at most `body_max` bytes.
pub(crate) async fn whole<'f>(front: &'f Front, headers: &HeaderMap, body: Body) -> Answer<Whole<'f>> {
    whole_up_to(front, headers, body, front.config.body_max as u64).await
}

/// Reads a whole body of at most `limit` bytes.
pub(crate) async fn whole_up_to<'f>(
    front: &'f Front,
    headers: &HeaderMap,
    body: Body,
    limit: u64,
) -> Answer<Whole<'f>> {
    plain(headers)?;
    let too_much = || Problem::new("ZGL-HTTP-SIZE", "the body is over the limit of this call");
    if body.size_hint().lower() > limit {
        return Err(too_much());
    }
    let mut frames = Frames::new(body, front.config.body_timeout);
    let mut turn = None;
    let mut out = BytesMut::new();
    while let Some(data) = frames.next().await? {
        if frames.received > limit {
            return Err(too_much());
        }
        out.extend_from_slice(&data);
        if out.len() > ATTACHMENT_MAX && turn.is_none() {
            turn = Some(bulk_turn(front).await?);
        }
    }
    Ok(Whole { bytes: out.freeze(), _turn: turn })
}

/// A JSON body. Its errors say where, never what: the parser's own text may quote the value.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<Front>> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, front: &Arc<Front>) -> Answer<Json<T>> {
        let (parts, body) = request.into_parts();
        let whole = whole(front, &parts.headers, body).await?;
        parse_json(&whole.bytes, 1).map(Json)
    }
}

/// Reads JSON that begins at a line of the body.
pub(crate) fn parse_json<T: DeserializeOwned>(bytes: &[u8], first_line: usize) -> Answer<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let line = first_line + error.line().saturating_sub(1);
        Problem::new("ZGL-HTTP-BODY", "not the JSON that this call takes")
            .at(format!("line {line} column {}", error.column()))
    })
}

/// A body's data, under its deadline.
pub(crate) struct Frames {
    body: Body,
    begun: Instant,
    allowance: Duration,
    pub(crate) received: u64,
}

impl Frames {
    pub(crate) fn new(body: Body, allowance: Duration) -> Frames {
        Frames { body, begun: Instant::now(), allowance, received: 0 }
    }

    fn ended(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(crate) async fn next(&mut self) -> Answer<Option<Bytes>> {
        let deadline = self.begun + self.allowance + Duration::from_secs(self.received / SLOWEST);
        loop {
            let Ok(frame) = timeout_at(deadline, self.body.frame()).await else {
                return Err(Problem::new("ZGL-HTTP-SLOW", "send at least 64 KiB a second"));
            };
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|_| Problem::new("ZGL-HTTP-BODY", "the body ended before its time"))?;
            if let Ok(data) = frame.into_data() {
                self.received += data.len() as u64;
                return Ok(Some(data));
            }
        }
    }
}

fn too_large() -> Problem {
    Problem::new("801", "the content is over the limit")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn digest_of(value: &str) -> Answer<Option<Sha256>> {
        let mut headers = HeaderMap::new();
        headers.insert("content-digest", value.parse().unwrap());
        content_digest(&headers)
    }

    #[test]
    fn the_example_of_rfc_9530_is_read_also_among_others() {
        // RFC 9530, section 2: the digest of {"hello": "world"} and a line feed.
        let expected = sha256(b"{\"hello\": \"world\"}\n");
        let member = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
        assert_eq!(digest_of(member), Ok(Some(expected)));
        assert_eq!(digest_of(&format!("sha-512=:AAAA:, {member}")), Ok(Some(expected)));
    }

    #[test]
    fn a_digest_that_cannot_be_read_is_a_wrong_one_and_an_unknown_algorithm_is_none() {
        for wrong in ["sha-256=AAAA", "sha-256=:AAAA:", "sha-256=:!!:", "sha-256="] {
            assert_eq!(digest_of(wrong).unwrap_err().code(), "816");
        }
        assert_eq!(digest_of("sha-512=:AAAA:"), Ok(None));
    }
}
