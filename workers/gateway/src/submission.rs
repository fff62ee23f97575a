//! `POST /v1/messages`: a sender hands over a message; 202 means it is durable. `POST /v1/returns/{handle}`: a recipient sends
//! back what it was handed for a project; the same in every other respect.
//!
//! Order of the checks: token, fields (801 to 805 and our own), recipients' boxes, then the body while it streams (801),
//! its digest (816), the PublicationId (`ZGL-PUB-REUSED`), and at last the channel (429, 503). Whatever is refused leaves
//! nothing behind. The same PublicationId with the same content gets the first answer again and publishes nothing; of
//! several at the same time one is published, and the others are answered when it is durable.
//! Another process, or a publish whose outcome is unknown, may have put the same PublicationId on its way without this
//! process knowing. Then the mailbox's worker decides: what is the same is dropped, and other content is answered with an
//! error message of its own in the sender's box, after a 202.

use crate::auth::{Caller, Grant};
use crate::body::{self, Upload};
use crate::fields::{self, Fields};
use crate::input::{self, At};
use crate::platform::Front;
use crate::problem::{Answer, Problem};
use crate::publish::{readable, stored};
use crate::recent::{Claim, Taken};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use schemas::messages::{Content, Part, Submission};
use schemas::{Key, MessageId, Millis};
use serde::Serialize;
use std::sync::Arc;
use zegel_core::{Read, names};
use zegel_mailbox::ANSWER_WITHIN_MS;
use zegel_mailbox::queries;
use zegel_mailbox::rows::PublicationRow;
use zegel_receipts::rows::{LifeEvent, RecipientRow, SubmissionRow};

/// The body of the 202.
#[derive(Serialize)]
struct Accepted<'a> {
    submission: MessageId,
    publication_id: &'a str,
    status: String,
}

/// `POST /v1/messages`.
pub(crate) async fn submit(
    State(front): State<Arc<Front>>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let fields = Fields::parse(input::pairs(&uri)?)?;
    take_in(&front, &caller, fields, &headers, body).await
}

/// `POST /v1/returns/{handle}`: what a recipient sends back to the sender whom it does not know.
pub(crate) async fn give_back(
    State(front): State<Arc<Front>>,
    caller: Caller,
    At(handle): At<MessageId>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let fields = Fields::of_return(input::pairs(&uri)?, handle, &front.config.ttp)?;
    take_in(&front, &caller, fields, &headers, body).await
}

async fn take_in(
    front: &Front,
    caller: &Caller,
    mut fields: Fields,
    headers: &HeaderMap,
    body: Body,
) -> Answer<Response> {
    let sender = caller.owner(front, &fields.sender)?;
    fields.check_route(&front.config.ttp)?;
    let mime = mime_of(fields.mime.take(), headers)?;
    body::plain(headers)?;
    let wanted = match fields.digest {
        Some(digest) => Some(digest),
        None => body::content_digest(headers)?,
    };
    let submission = names::submission_id(&*front.keys, &fields.sender, &fields.publication_id);
    let known = front.look_up(sender, submission, &fields).await?;

    let limit = if fields.project.is_some() { front.config.batch_max } else { front.config.message_max };
    let upload = Upload::receive(front, body, limit).await?;
    if wanted.is_some_and(|wanted| wanted != upload.digest) {
        return Err(Problem::new("816", "SHA-256 of the content as it came differs from the one given"));
    }
    let payload = payload(submission, &fields, mime, &upload, front.clock.now());
    let fingerprint = queries::fingerprint(&*front.keys, &payload);
    let first = match known {
        Some(first) => Some(first),
        None => front.publish_once(sender, payload, fingerprint, headers, upload).await?,
    };
    if first.is_some_and(|first| first != fingerprint) {
        let reused = Problem::new("ZGL-PUB-REUSED", "choose a new publication id").at("publication_id");
        return Err(reused.known_as(submission));
    }
    let status = format!("/v1/submissions/{submission}");
    let answer = Accepted { submission, publication_id: &fields.publication_id, status };
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

impl Front {
    /// Checks that every recipient has a box, and says which content the PublicationId stands for already. One read.
    async fn look_up(&self, sender: Key, submission: MessageId, fields: &Fields) -> Answer<Option<Key>> {
        let known = self.recent.get(submission).map(|taken| taken.fingerprint);
        let mut unseen = Vec::new();
        for (index, recipient) in fields.recipients.iter().enumerate() {
            let owner = names::address_key(&*self.keys, recipient);
            if owner != self.ttp && !self.boxes.has(owner) {
                unseen.push((index, owner));
            }
        }
        let mut reads: Vec<Read> = unseen.iter().map(|(_, owner)| queries::mailbox(*owner)).collect();
        if known.is_none() {
            reads.push(queries::publication(sender, submission));
        }
        if reads.is_empty() {
            return Ok(known);
        }
        let found = self.all_rows(reads).await?;
        for ((index, owner), rows) in unseen.iter().zip(&found) {
            if rows.is_empty() {
                return Err(Problem::new("802", "has no mailbox").at(format!("to[{index}]")));
            }
            self.boxes.add(*owner);
        }
        match found.get(unseen.len()).and_then(|rows| rows.first()) {
            Some((_, row)) => Ok(Some(stored::<PublicationRow>(row)?.fingerprint)),
            None => Ok(known),
        }
    }

    /// Publishes, unless another request did so under the same id since; then says for which content.
    async fn publish_once(
        &self,
        sender: Key,
        payload: Submission,
        fingerprint: Key,
        headers: &HeaderMap,
        upload: Upload<'_>,
    ) -> Answer<Option<Key>> {
        match self.recent.claim(payload.submission).await {
            Claim::Taken(taken) => Ok(Some(taken.fingerprint)),
            Claim::Mine(claimed) => {
                let accepted = payload.accepted;
                self.take(sender, payload, headers, upload).await?;
                claimed.keep(Taken { sender, fingerprint, accepted });
                Ok(None)
            }
        }
    }

    /// Makes content and message durable.
    async fn take(&self, sender: Key, mut payload: Submission, headers: &HeaderMap, upload: Upload<'_>) -> Answer<()> {
        let channel = self.channel("mailbox.submitted")?;
        let (content, attachment) = upload.keep().await?;
        let object = match &content {
            Content::Object(object) => Some(object.name),
            _ => None,
        };
        payload.part.content = content;
        let mut envelope = self.envelope(payload.submission, sender, &payload, headers)?;
        envelope.deadline = Some(payload.accepted.plus(ANSWER_WITHIN_MS));
        envelope.attachment = attachment;
        let outcome = self.publish(channel, &envelope).await;
        if let (Err(problem), Some(name)) = (&outcome, object) {
            // Where there was no room nothing was kept; after anything else the message may still appear.
            if matches!(problem.code(), "ZGL-CHANNEL-FULL" | "ZGL-STORE-FULL") {
                let objects = self.objects.clone();
                let _swept_later = body::blocking(move || objects.delete(&name).map_err(Problem::from)).await;
            }
        }
        outcome
    }
}

/// The message as the sender wants it; where its content lies is not known yet.
fn payload(submission: MessageId, fields: &Fields, mime: String, upload: &Upload<'_>, accepted: Millis) -> Submission {
    let (size, digest, content) = (upload.size, upload.digest, Content::Attached);
    Submission {
        submission,
        sender: fields.sender.clone(),
        recipients: fields.recipients.clone(),
        publication_id: fields.publication_id.clone(),
        title: fields.title.clone(),
        part: Part { file_name: fields.file_name.clone(), mime, size, digest, content },
        receipts: fields.receipts,
        meta: fields.meta.clone(),
        project: fields.project.clone(),
        handle: fields.handle,
        accepted,
    }
}

fn mime_of(given: Option<String>, headers: &HeaderMap) -> Answer<String> {
    if let Some(mime) = given {
        return Ok(mime);
    }
    match headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) {
        // What curl sends when nobody said anything says nothing about the content.
        Some("application/x-www-form-urlencoded") | None => Ok("application/octet-stream".to_owned()),
        Some(mime) => fields::mime(mime.to_owned()),
    }
}

/// A submission's life as its sender sees it.
#[derive(Serialize)]
struct Life {
    submission: MessageId,
    publication_id: String,
    accepted: Millis,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<Millis>,
    r#final: bool,
    recipients: Vec<RecipientRow>,
    life: Vec<LifeEvent>,
}

/// `GET /v1/submissions/{id}`: for the sender and the operator; for anybody else it is not there.
pub(crate) async fn life(State(front): State<Arc<Front>>, caller: Caller, At(id): At<MessageId>) -> Answer<Response> {
    let allowed = |sender: Key| matches!(caller.0, Grant::Operator) || caller.0 == Grant::Mailbox(sender);
    let rows = front.rows(zegel_receipts::queries::submission(id)).await?;
    let row: Option<SubmissionRow> = readable(zegel_receipts::queries::row(&rows))?;
    // A row without a sender holds an answer that came before the submission was opened.
    if let Some((row, sender)) = row.and_then(|row| row.sender.clone().map(|sender| (row, sender))) {
        if !allowed(names::address_key(&*front.keys, &sender)) {
            return Err(no_submission());
        }
        let (is_final, SubmissionRow { submission, publication_id, accepted, deadline, recipients, life, .. }) =
            (row.is_final(), row);
        let known = Life {
            submission,
            publication_id,
            accepted,
            deadline: Some(deadline),
            r#final: is_final,
            recipients,
            life,
        };
        return Ok(Json(known).into_response());
    }
    let taken = front.recent.get(id).filter(|taken| allowed(taken.sender)).ok_or_else(no_submission)?;
    let accepted = serde_json::json!({
        "submission": id, "accepted": taken.accepted, "final": false, "recipients": [],
        "life": [{ "at": taken.accepted, "what": "accepted" }],
    });
    Ok(Json(accepted).into_response())
}

fn no_submission() -> Problem {
    Problem::not_found("no such submission of yours, or no stage has worked on it yet")
}
