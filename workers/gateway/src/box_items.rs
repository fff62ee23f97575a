//! The messages in a mailbox, for its owner: list, read, download, move, delete.
//!
//! What is shown is built field by field, so nothing that the platform remembers for its answers (`Hidden`) gets out;
//! for what the TTP delivered, that would name the sender (I4).
//! Listing and reading tell the box's worker, who sends the wanted acknowledgements. When that message cannot be
//! published the owner gets the answer all the same, and the next listing or reading tells it.

use crate::auth::Caller;
use crate::body::Json;
use crate::content;
use crate::input::{At, Params, address};
use crate::platform::Front;
use crate::problem::{Answer, Problem};
use crate::publish::{Reply, pending, readable, stored};
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use schemas::messages::{BoxCommand, CommandReply, ContentType, Folder, From, Notice, Part};
use schemas::{Key, MailboxAddress, MessageId, Millis, Sha256};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use zegel_mailbox::queries::{self, PAGE_MAX};
use zegel_mailbox::rows::{ItemRow, PlaceRow, SentRow, Shelf};

/// How far `start` reaches: what lies before it is read page by page and thrown away. Further back, `before` costs
/// nothing.
const START_MAX: u64 = 10_000;

/// A page of the inbox or the bin.
#[derive(Serialize)]
struct ItemPage<'a> {
    items: Vec<ItemView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// A page of the sent folder.
#[derive(Serialize)]
struct SentPage {
    items: Vec<SentView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// A message as its owner sees it.
#[derive(Serialize)]
struct ItemView<'a> {
    id: MessageId,
    sequence: u64,
    from: &'a From,
    content_type: ContentType,
    title: &'a str,
    parts: Vec<PartView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notice: Option<&'a Notice>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    meta: &'a BTreeMap<String, String>,
    received: Millis,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<Millis>,
}

/// A document, without where it lies.
#[derive(Serialize)]
struct PartView<'a> {
    file_name: &'a str,
    mime: &'a str,
    size: u64,
    digest: Sha256,
}

/// A message that was sent.
#[derive(Serialize)]
struct SentView {
    submission: MessageId,
    publication_id: String,
    title: String,
    recipients: Vec<MailboxAddress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<String>,
    file_name: String,
    size: u64,
    accepted: Millis,
    status: String,
}

/// The body of a move.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Move {
    items: Vec<MessageId>,
    to: Folder,
}

/// The body of a deletion.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Delete {
    items: Vec<MessageId>,
}

/// `GET /v1/boxes/{address}/{folder}`.
pub(crate) async fn list(
    State(front): State<Arc<Front>>,
    caller: Caller,
    At((named, folder)): At<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Answer<Response> {
    let params = Params::read(&uri, &["start", "before", "limit"])?;
    let (start, limit) = (params.number("start", 1, 1..=START_MAX)?, params.limit()?);
    let before = params.text("before").map(|_| params.number("before", 0, 1..=u64::MAX)).transpose()?;
    let owner = caller.owner(&front, &address(&named, || "address".to_owned())?)?;
    let shelf = match folder.as_str() {
        "inbox" => Shelf::Inbox,
        "bin" => Shelf::Bin,
        "sent" => return front.sent(owner, start, limit).await,
        _ => return Err(Problem::not_found("folders are inbox, sent and bin")),
    };
    let found = front.items(owner, shelf, start, before, limit).await?;
    if shelf == Shelf::Inbox {
        front.tell_listed(owner, &found, &headers).await;
    }
    let next = (found.len() == limit).then(|| start + limit as u64);
    let items = found.iter().map(|(sequence, item)| view(*sequence, item)).collect();
    Ok(axum::Json(ItemPage { items, next }).into_response())
}

/// `GET /v1/boxes/{address}/items/{item}`.
pub(crate) async fn read(
    State(front): State<Arc<Front>>,
    caller: Caller,
    At((named, id)): At<(String, MessageId)>,
    headers: HeaderMap,
) -> Answer<Response> {
    let owner = caller.owner(&front, &address(&named, || "address".to_owned())?)?;
    let (sequence, item) = front.item(owner, id).await?;
    if item.read.is_none() {
        front.tell(owner, &BoxCommand::Read { item: id }, &headers).await;
    }
    Ok(axum::Json(view(sequence, &item)).into_response())
}

/// `GET /v1/boxes/{address}/items/{item}/parts/{part}`.
pub(crate) async fn part(
    State(front): State<Arc<Front>>,
    caller: Caller,
    At((named, id, number)): At<(String, MessageId, usize)>,
) -> Answer<Response> {
    let owner = caller.owner(&front, &address(&named, || "address".to_owned())?)?;
    let (_, item) = front.item(owner, id).await?;
    match (item.parts.get(number), item.content(number)) {
        (Some(part), Some(found)) => content::part(&front, part, found).await,
        _ => Err(Problem::not_found("the message has no such document")),
    }
}

/// `POST /v1/boxes/{address}/move`.
pub(crate) async fn move_items(
    State(front): State<Arc<Front>>,
    caller: Caller,
    At(named): At<String>,
    headers: HeaderMap,
    Json(Move { items, to }): Json<Move>,
) -> Answer<Response> {
    if to == Folder::Sent {
        return Err(Problem::field("to", "must be inbox or bin"));
    }
    command(&front, caller, &named, &headers, BoxCommand::Move { items: bounded(items)?, to }).await
}

/// `POST /v1/boxes/{address}/delete`.
pub(crate) async fn delete_items(
    State(front): State<Arc<Front>>,
    caller: Caller,
    At(named): At<String>,
    headers: HeaderMap,
    Json(Delete { items }): Json<Delete>,
) -> Answer<Response> {
    command(&front, caller, &named, &headers, BoxCommand::Delete { items: bounded(items)? }).await
}

fn bounded(items: Vec<MessageId>) -> Answer<Vec<MessageId>> {
    if (1..=PAGE_MAX).contains(&items.len()) { Ok(items) } else { Err(Problem::field("items", "must be 1 to 100 ids")) }
}

async fn command(
    front: &Front,
    caller: Caller,
    named: &str,
    headers: &HeaderMap,
    command: BoxCommand,
) -> Answer<Response> {
    let owner = caller.owner(front, &address(named, || "address".to_owned())?)?;
    let envelope = front.envelope(front.new_id(), owner, &command, headers)?;
    match front.ask(front.channel("mailbox.deliver")?, &envelope).await? {
        Reply::Now(reply) => Ok(axum::Json(stored::<CommandReply>(&reply)?).into_response()),
        Reply::Later => Ok(pending()),
    }
}

impl Front {
    /// A page of a shelf, newest first, from the 1-based position `start` below `before`.
    async fn items(
        &self,
        owner: Key,
        shelf: Shelf,
        start: u64,
        mut before: Option<u64>,
        limit: usize,
    ) -> Answer<Vec<(u64, ItemRow)>> {
        let mut skip = usize::try_from(start - 1).unwrap_or(usize::MAX);
        while skip > 0 {
            let page =
                readable(queries::items(&self.rows(queries::newest(owner, shelf, before, skip.min(PAGE_MAX))).await?))?;
            let Some((last, _)) = page.last() else { return Ok(Vec::new()) };
            before = Some(*last);
            skip -= page.len().min(skip);
        }
        readable(queries::items(&self.rows(queries::newest(owner, shelf, before, limit)).await?))
    }

    /// One message, unless it waits in stand-by, which its owner does not see.
    async fn item(&self, owner: Key, id: MessageId) -> Answer<(u64, ItemRow)> {
        let gone = || Problem::not_found("no such message in this mailbox");
        let rows = self.rows(queries::place(owner, id)).await?;
        let place: PlaceRow = readable(queries::row(&rows))?.ok_or_else(gone)?;
        if place.shelf == Shelf::StandBy {
            return Err(gone());
        }
        let mut found = readable(queries::items(&self.rows(queries::item(owner, place)).await?))?;
        found.pop().filter(|(_, item)| item.item == id).ok_or_else(gone)
    }

    async fn sent(&self, owner: Key, start: u64, limit: usize) -> Answer<Response> {
        let mut skip = usize::try_from(start - 1).unwrap_or(usize::MAX);
        let mut before = None;
        while skip > 0 {
            let page =
                readable(queries::sent_rows(&self.rows(queries::sent(owner, before, skip.min(PAGE_MAX))).await?))?;
            let Some(last) = page.last() else { break };
            before = Some((last.accepted, last.submission));
            skip -= page.len().min(skip);
        }
        let found = match skip {
            0 => readable(queries::sent_rows(&self.rows(queries::sent(owner, before, limit)).await?))?,
            _ => Vec::new(),
        };
        let next = (found.len() == limit).then(|| start + limit as u64);
        Ok(axum::Json(SentPage { items: found.into_iter().map(sent_view).collect(), next }).into_response())
    }

    /// Tells the worker which messages were listed for the first time, of those whose sender wants to know.
    async fn tell_listed(&self, owner: Key, found: &[(u64, ItemRow)], headers: &HeaderMap) {
        let unlisted = found.iter().filter(|(_, item)| item.listed.is_none() && item.hidden.receipts.received);
        let items: Vec<MessageId> = unlisted.map(|(_, item)| item.item).collect();
        if !items.is_empty() {
            self.tell(owner, &BoxCommand::Listed { items }, headers).await;
        }
    }

    async fn tell(&self, owner: Key, command: &BoxCommand, headers: &HeaderMap) {
        let told = async {
            let envelope = self.envelope(self.new_id(), owner, command, headers)?;
            self.publish(self.channel("mailbox.deliver")?, &envelope).await
        };
        if let Err(problem) = told.await {
            tracing::warn!(code = problem.code(), "the box was not told what its owner saw; the next time tells it");
        }
    }
}

fn view(sequence: u64, item: &ItemRow) -> ItemView<'_> {
    ItemView {
        id: item.item,
        sequence,
        from: &item.from,
        content_type: item.content_type,
        title: &item.title,
        parts: item.parts.iter().map(part_view).collect(),
        notice: item.notice.as_ref(),
        meta: &item.meta,
        received: item.received,
        size: item.size,
        read: item.read,
    }
}

fn part_view(part: &Part) -> PartView<'_> {
    PartView { file_name: &part.file_name, mime: &part.mime, size: part.size, digest: part.digest }
}

fn sent_view(row: SentRow) -> SentView {
    SentView {
        submission: row.submission,
        publication_id: row.publication_id,
        title: row.title,
        recipients: row.recipients,
        project: row.project,
        file_name: row.file_name,
        size: row.size,
        accepted: row.accepted,
        status: format!("/v1/submissions/{}", row.submission),
    }
}
