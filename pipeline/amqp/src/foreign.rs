//! Messages in our queues that are not ours: kept for an operator in the queue `foreign`, out of everyone's way.
//!
//! Order of the two steps: the copy is confirmed first, then the original is acknowledged, so that a crash between them
//! leaves two and never none.

use crate::error::why;
use crate::link::Link;
use crate::names;
use crate::options::Options;
use crate::wire::Foreign;
use lapin::message::Delivery;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation};
use zegel_core::BrokerError;

/// Copies a message to the queue of foreign ones, with where it was found and why it is foreign.
///
/// # Errors
/// The copy is not confirmed: the original has to stay where it is.
pub(crate) async fn keep(
    publish: &Link,
    options: &Options,
    queue: &str,
    delivery: &Delivery,
    reason: Foreign,
) -> Result<(), BrokerError> {
    let within = options.answer_within;
    let copying = async {
        let channel = publish.wait(within).await?.channel(within).await?;
        let properties = properties(&delivery.properties, queue, reason);
        let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sent = async {
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let to = names::foreign(&options.prefix).into();
            let confirm = channel.basic_publish("".into(), to, mandatory, &delivery.data, properties).await?.await?;
            let _ = channel.close(200, "done".into()).await;
            Ok(confirm)
        };
        sent.await.map_err(|error: lapin::Error| BrokerError::Unavailable(why(&error)))
    };
    match tokio::time::timeout(within * 2, copying).await {
        Ok(Ok(Confirmation::Ack(None))) => {
            tracing::error!(queue, because = reason.0, "a foreign message was moved out of a queue");
            Ok(())
        }
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Err(BrokerError::Unavailable("a foreign message cannot be moved".into())),
    }
}

/// The message's properties without those that would send the copy elsewhere, let it expire, or name another user.
fn properties(of: &BasicProperties, queue: &str, reason: Foreign) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in of.headers().iter().flat_map(FieldTable::inner) {
        if !matches!(name.as_str(), "CC" | "BCC") {
            headers.insert(name.clone(), value.clone());
        }
    }
    headers.insert("zegel-found-in".into(), AMQPValue::LongString(queue.into()));
    headers.insert("zegel-foreign-because".into(), AMQPValue::LongString(reason.0.into()));
    let mut kept = BasicProperties::default().with_headers(headers).with_delivery_mode(2);
    if let Some(content_type) = of.content_type() {
        kept = kept.with_content_type(content_type.clone());
    }
    if let Some(id) = of.message_id() {
        kept = kept.with_message_id(id.clone());
    }
    if let Some(app) = of.app_id() {
        kept = kept.with_app_id(app.clone());
    }
    kept
}
