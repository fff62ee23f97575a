//! Seals over HTTP: the synchronous coding service, with the members of the public interface's types.
//!
//! A batch is coded here, and answered only after the keeper has counted it durably: a caller whose quota is used up gets
//! nothing of it. No message carries what was coded; the keeper sees counts and a sketch.

use crate::auth::{Caller, Grant as Token};
use crate::body::Json;
use crate::input::{At, Params};
use crate::platform::Front;
use crate::problem::{Answer, Problem};
use crate::publish::{Reply, readable, stored};
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use schemas::messages::{SealsOperation, SealsUsed};
use schemas::{MailboxAddress, Millis};
use std::sync::Arc;
use zegel_core::names;
use zegel_ttp::seals::wire::{DecodeRequest, EncodeRequest};
use zegel_ttp::seals::worker::{Grant, LogLine, log_read};
use zegel_ttp::seals::{self, Application, ITEMS_MAX, Use};

/// `POST /v1/seals/encode`.
pub(crate) async fn encode(
    State(front): State<Arc<Front>>,
    caller: Caller,
    headers: HeaderMap,
    Json(request): Json<EncodeRequest>,
) -> Answer<Response> {
    check_count(request.original_data.len(), "OriginalData")?;
    let name = request.application_name.clone();
    let (mut application, who) = front.application(caller, &name, SealsOperation::Encode)?;
    let keys = front.keys.clone();
    let (response, used) = blocking(move || {
        let mut random = |bytes: &mut [u8]| keys.random(bytes);
        seals::encode(&mut application, request, &mut random)
    })
    .await?;
    front.charge(&headers, name, who, SealsOperation::Encode, &used).await?;
    Ok(axum::Json(response).into_response())
}

/// `POST /v1/seals/decode`.
pub(crate) async fn decode(
    State(front): State<Arc<Front>>,
    caller: Caller,
    headers: HeaderMap,
    Json(request): Json<DecodeRequest>,
) -> Answer<Response> {
    check_count(request.encoded_data.len(), "EncodedData")?;
    let name = request.application_name.clone();
    let (mut application, who) = front.application(caller, &name, SealsOperation::Decode)?;
    let (response, used) = blocking(move || seals::decode(&mut application, request)).await?;
    front.charge(&headers, name, who, SealsOperation::Decode, &used).await?;
    Ok(axum::Json(response).into_response())
}

/// `GET /v1/seals/{application}/log`: calls to decode, and calls that were refused, oldest first from an instant on.
pub(crate) async fn log(
    State(front): State<Arc<Front>>,
    caller: Caller,
    At(name): At<String>,
    uri: Uri,
) -> Answer<Response> {
    caller.operator()?;
    let params = Params::read(&uri, &["from", "limit"])?;
    let from = params.number("from", 0, 0..=u64::MAX >> 1)?;
    let read =
        log_read(names::project_key(&*front.keys, &name), Millis(i64::try_from(from).unwrap_or(0)), params.limit()?);
    let rows = front.rows(read).await?;
    let lines = rows.iter().map(|(_, row)| readable(zegel_core::rows::decode::<LogLine>(row)));
    let lines = lines.collect::<Answer<Vec<LogLine>>>()?;
    Ok(axum::Json(serde_json::json!({ "log": lines })).into_response())
}

fn check_count(items: usize, field: &'static str) -> Answer<()> {
    if (1..=ITEMS_MAX).contains(&items) {
        return Ok(());
    }
    Err(Problem::field(field, "must be 1 to 10,000 items"))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Problem::new("ZGL-INTERNAL", "the coding broke off"))
}

impl Front {
    /// The application as it holds now, and the caller as its terms name it.
    fn application(
        &self,
        caller: Caller,
        name: &str,
        operation: SealsOperation,
    ) -> Answer<(Application, MailboxAddress)> {
        let Token::Mailbox(own) = caller.0 else { return Err(no_right()) };
        let application = self.book.application(name, self.clock.now()).map_err(|_| no_right())?;
        let is_own = |address: &&MailboxAddress| names::address_key(&*self.keys, address) == own;
        let terms = application.terms().ok_or_else(no_right)?;
        let callers = match operation {
            SealsOperation::Encode => &terms.encode,
            SealsOperation::Decode => &terms.decode,
        };
        let who = callers.iter().find(is_own).cloned().ok_or_else(no_right)?;
        Ok((application, who))
    }

    /// Has a call counted; nothing is answered with values before.
    async fn charge(
        &self,
        headers: &HeaderMap,
        application: String,
        caller: MailboxAddress,
        operation: SealsOperation,
        used: &Use,
    ) -> Answer<()> {
        let key = names::project_key(&*self.keys, &application);
        let values = BASE64_STANDARD.encode(used.values.encode());
        let message = SealsUsed { application, caller, operation, items: used.items, errors: used.errors, values };
        let envelope = self.envelope(self.new_id(), key, &message, headers)?;
        match self.ask(self.channel("seals.used")?, &envelope).await? {
            Reply::Now(reply) => match stored::<Grant>(&reply)? {
                Grant::Granted => Ok(()),
                Grant::NoRight => Err(no_right()),
                Grant::UsedUp => Err(Problem::new("ZGL-SEALS-QUOTA", "the caller's quota of this day is used up")),
            },
            Reply::Later => Err(Problem::new("ZGL-HTTP-BUSY", "the call could not be counted in time")),
        }
    }
}

/// Which applications there are is nobody's business but their callers'.
fn no_right() -> Problem {
    Problem::new("ZGL-SEALS-RIGHT", "no such application for this caller, or none that holds today")
}
