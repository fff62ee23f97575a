//! Publishing and asking: how a handler hands a message to a channel, waits for a worker's reply, and reads state.

use crate::platform::Front;
use crate::problem::{Answer, Problem};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use schemas::envelope::Envelope;
use schemas::{Key, MessageId, Payload, TraceParent};
use tokio::sync::oneshot;
use topology::Channel;
use zegel_core::replies::Elsewhere;
use zegel_core::rows::RowError;
use zegel_core::sealing::{open_value, seal_message};
use zegel_core::{Outgoing, Read, Space};

/// CloudEvents `source` of everything that enters here.
pub(crate) const SOURCE: &str = "/zegel/gateway";

/// What a worker answered, or that it did not in time; the command is durable and will be applied all the same.
pub(crate) enum Reply {
    Now(Bytes),
    Later,
}

impl Front {
    /// The channel with this name.
    pub(crate) fn channel(&self, name: &'static str) -> Answer<&'static Channel> {
        topology::channels::by_name(name).ok_or_else(|| Problem::new("ZGL-INTERNAL", "the topology lacks a channel"))
    }

    /// 16 random bytes as an id.
    pub(crate) fn new_id(&self) -> MessageId {
        MessageId(self.keys.random16())
    }

    /// An envelope that begins here: the caller's trace goes on, or a new one begins.
    pub(crate) fn envelope<P: Payload>(
        &self,
        id: MessageId,
        key: Key,
        payload: &P,
        headers: &HeaderMap,
    ) -> Answer<Envelope> {
        let mut envelope = Envelope::new(id, SOURCE, key, self.clock.now(), payload)?;
        envelope.traceparent = Some(self.trace(headers));
        Ok(envelope)
    }

    fn trace(&self, headers: &HeaderMap) -> TraceParent {
        let given = headers.get("traceparent").and_then(|value| value.to_str().ok());
        given.and_then(|text| text.parse().ok()).unwrap_or_else(|| {
            let mut trace = TraceParent { trace_id: self.keys.random16(), span_id: [0; 8], flags: 0 };
            trace.span_id.copy_from_slice(&self.keys.random16()[..8]);
            trace
        })
    }

    /// Publishes one message; durable on return.
    pub(crate) async fn publish(&self, channel: &Channel, envelope: &Envelope) -> Answer<()> {
        self.publish_all(vec![seal_message(&*self.keys, channel, envelope)?]).await
    }

    /// Publishes several; all durable on return, or an error, after which any of them may be repeated.
    pub(crate) async fn publish_all(&self, batch: Vec<Outgoing>) -> Answer<()> {
        let wanted = batch.len();
        let results = self.broker.publish(batch).await;
        if results.len() != wanted {
            return Err(Problem::new("ZGL-INTERNAL", "the broker answered for another number of messages"));
        }
        results.into_iter().collect::<Result<(), _>>().map_err(Problem::from)
    }

    /// Publishes a command and waits for its worker's reply.
    pub(crate) async fn ask(&self, channel: &'static Channel, envelope: &Envelope) -> Answer<Reply> {
        let id = envelope.id;
        let Some(waiter) = self.replies.expect(id) else {
            return Err(Problem::new("ZGL-HTTP-BUSY", "too many commands wait for their answers"));
        };
        if let Err(problem) = self.publish(channel, envelope).await {
            self.replies.forget(id);
            return Err(problem);
        }
        match tokio::time::timeout(self.config.reply_timeout, self.reply(channel, envelope.partitionkey, id, waiter))
            .await
        {
            Ok(Some(reply)) => Ok(Reply::Now(reply)),
            _ => {
                self.replies.forget(id);
                Ok(Reply::Later)
            }
        }
    }

    /// The reply, given in this process or, where stages are shared, left in the store by another.
    async fn reply(
        &self,
        channel: &'static Channel,
        key: Key,
        id: MessageId,
        waiter: oneshot::Receiver<Bytes>,
    ) -> Option<Bytes> {
        if !self.config.shared {
            return waiter.await.ok();
        }
        let elsewhere = Elsewhere { store: &*self.store, keys: &*self.keys, channel, key };
        tokio::select! {
            Ok(reply) = waiter => Some(reply),
            reply = elsewhere.wait(id) => {
                self.replies.forget(id);
                Some(reply)
            }
        }
    }

    /// Reads rows and opens them.
    pub(crate) async fn rows(&self, read: Read) -> Answer<Vec<(Bytes, Bytes)>> {
        let mut found = self.all_rows(vec![read]).await?;
        Ok(found.pop().unwrap_or_default())
    }

    /// Answers several reads from one consistent state, opened. Reads of requests at the same time go together.
    pub(crate) async fn all_rows(&self, reads: Vec<Read>) -> Answer<Vec<Vec<(Bytes, Bytes)>>> {
        let places: Vec<(Space, Key)> = reads
            .iter()
            .map(|read| match read {
                Read::One { space, owner, .. } | Read::Range { space, owner, .. } => (*space, *owner),
            })
            .collect();
        let is_point = reads.iter().all(|read| matches!(read, Read::One { .. }));
        // A range may hold many rows: it goes alone, so that nobody else waits for it.
        let found = if is_point { self.gather.read(reads).await? } else { self.store.read(reads).await? };
        let mut opened = Vec::with_capacity(found.len());
        for ((space, owner), rows) in places.into_iter().zip(found) {
            let mut clear = Vec::with_capacity(rows.len());
            for (sub, value) in rows {
                let plain = open_value(&*self.keys, space, owner, &sub, &value)?;
                clear.push((sub, Bytes::from(plain)));
            }
            opened.push(clear);
        }
        Ok(opened)
    }
}

/// Reads a stored JSON value, or a worker's reply.
pub(crate) fn stored<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    readable(zegel_core::rows::decode(bytes))
}

/// What a stored row says, when this program knows its format.
pub(crate) fn readable<T>(row: Result<T, RowError>) -> Answer<T> {
    row.map_err(|_| Problem::new("ZGL-STATE-READ", "a stored value has another format"))
}

/// 202 for a command that is durable and whose worker has not answered in time; repeating it is safe.
pub(crate) fn pending() -> Response {
    (StatusCode::ACCEPTED, axum::Json(serde_json::json!({ "pending": true }))).into_response()
}
