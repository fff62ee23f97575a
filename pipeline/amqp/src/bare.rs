//! What a bare client of the same library reaches with the same guarantees, for load tests to compare the port with.
//!
//! The same: a quorum queue, persistent messages, mandatory publishing with every confirm awaited, a window of unconfirmed
//! messages, manual acknowledgements, two connections. What the port does beside it (marks, verified objects, publishing
//! again after a loss, bounds in bytes, foreign messages) is what the ratio prices.

use crate::error::{AmqpError, why};
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};
use std::time::{Duration, Instant};

/// How a run is made.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Messages published and consumed.
    pub messages: u64,
    /// Bytes of each body.
    pub bytes: usize,
    /// Messages published and not confirmed.
    pub window: usize,
    /// Messages handed out and not acknowledged.
    pub prefetch: u16,
    /// Messages between two acknowledgements.
    pub acknowledge_every: u64,
}

/// Publishes and consumes at the same time through a queue of this name, which it makes and deletes, and returns how long
/// it took from the first publish to the last acknowledgement.
///
/// # Errors
/// The broker refuses anything, or does not confirm a message.
pub async fn publish_and_consume(url: &str, queue: &str, run: Run) -> Result<Duration, AmqpError> {
    let failed = |error: lapin::Error| AmqpError::Connect(why(&error));
    let one = Connection::connect(url, ConnectionProperties::default()).await.map_err(failed)?;
    let two = Connection::connect(url, ConnectionProperties::default()).await.map_err(failed)?;
    let declaring = one.create_channel().await.map_err(failed)?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    declaring.queue_declare(queue.into(), durable, arguments).await.map_err(failed)?;
    let since = Instant::now();
    let consumed = consume(&two, queue, run);
    let published = publish(&one, queue, run);
    let (published, consumed) = futures_util::future::join(published, consumed).await;
    let took = since.elapsed();
    declaring.queue_delete(queue.into(), QueueDeleteOptions::default()).await.map_err(failed)?;
    published.and(consumed).map_err(failed)?;
    Ok(took)
}

async fn publish(connection: &Connection, queue: &str, run: Run) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let body = vec![7; run.bytes];
    let mut confirms = FuturesUnordered::new();
    for n in 0..run.messages {
        while confirms.len() >= run.window {
            confirmed(confirms.next().await)?;
        }
        let properties = BasicProperties::default().with_delivery_mode(2).with_message_id(n.to_string().into());
        let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        confirms.push(channel.basic_publish("".into(), queue.into(), mandatory, &body, properties).await?);
    }
    while !confirms.is_empty() {
        confirmed(confirms.next().await)?;
    }
    Ok(())
}

fn confirmed(confirm: Option<lapin::Result<Confirmation>>) -> lapin::Result<()> {
    match confirm {
        Some(Ok(Confirmation::Ack(None))) | None => Ok(()),
        Some(Err(error)) => Err(error),
        Some(Ok(_)) => Err(std::io::Error::other("not confirmed").into()),
    }
}

async fn consume(connection: &Connection, queue: &str, run: Run) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(run.prefetch, BasicQosOptions::default()).await?;
    let (options, nothing) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer = channel.basic_consume(queue.into(), "bare".into(), options, nothing).await?;
    let mut count = 0;
    while count < run.messages {
        let Some(delivery) = consumer.next().await else { return Err(std::io::Error::other("reader ended").into()) };
        let tag = delivery?.delivery_tag;
        count += 1;
        if count % run.acknowledge_every == 0 || count == run.messages {
            channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
        }
    }
    Ok(())
}
