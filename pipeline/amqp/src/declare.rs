//! The topology's objects at the broker: what differs, making what is missing, refusing what is wrong.
//!
//! AMQP has no way to read an object's arguments, but declaring one that exists changes nothing and fails if it differs. So
//! each object is looked for passively first, on a channel of its own, since a refusal closes the channel; only what
//! exists is declared again to compare. A binding cannot be looked for at all: making it again changes nothing, so
//! verifying makes the bindings of what exists.
//! `x-delivery-limit = -1` means "no limit" from RabbitMQ 4 on, whose default is 20. Earlier versions have no limit unless
//! told so, and 3.10.8 takes -1 as one: it drops whatever a reader gives back. They are not told.

use crate::endpoint::{self, Endpoint};
use crate::error::{AmqpError, refusal, why};
use crate::names::{self, Queue};
use crate::options::Options;
use futures_util::{StreamExt, TryStreamExt, stream};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::protocol::AMQPSoftError;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use std::fmt;
use std::future::Future;

/// Objects that are looked at in the same time: enough to hide the round trips, few for the broker.
const AT_ONCE: usize = 8;
/// Objects that an error's text names.
const NAMED: usize = 5;
/// The first major version that has a delivery limit by default, and understands -1 as none.
const LIMITED_FROM: u32 = 4;

/// An object that exists and is not as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// `queue …` or `exchange …`.
    pub object: String,
    /// The property that differs, as the broker names it.
    pub property: String,
}

/// What differs between the topology and the broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What applying makes.
    pub missing: Vec<String>,
    /// What nobody but an operator may change: messages may be inside.
    pub wrong: Vec<Wrong>,
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.wrong.is_empty()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wrong = self.wrong.iter().map(|wrong| format!("{} has another {}", wrong.object, wrong.property));
        let missing = self.missing.iter().map(|object| format!("{object} is missing"));
        let all: Vec<String> = wrong.chain(missing).collect();
        f.write_str(&all[..all.len().min(NAMED)].join("; "))?;
        match all.len() {
            0 => f.write_str("nothing differs"),
            count if count > NAMED => write!(f, "; and {} more", count - NAMED),
            _ => Ok(()),
        }
    }
}

enum Object {
    Exchange(String),
    Queue(Queue),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::Exchange(name) => write!(f, "exchange {name}"),
            Object::Queue(queue) => write!(f, "queue {}", queue.name),
        }
    }
}

enum State {
    Same,
    Missing(String),
    Wrong(Wrong),
}

/// A connection for looking at the broker's objects and making them; nothing is sent through it.
pub struct Topology {
    connection: Connection,
    options: Options,
    major: u32,
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topology")
            .field("prefix", &self.options.prefix)
            .field("major", &self.major)
            .finish_non_exhaustive()
    }
}

impl Topology {
    /// Connects to the first host that lets us in.
    ///
    /// # Errors
    /// A URL or prefix that cannot be used; no host that can be reached.
    pub async fn open(url: &str, options: Options) -> Result<Topology, AmqpError> {
        let endpoint = Endpoint::parse(url, options.heartbeat, options.answer_within)?;
        check_prefix(&options.prefix)?;
        let mut last = AmqpError::Url("names no host");
        for attempt in 0..endpoint.hosts() {
            match connect(&endpoint, attempt, &options, "topology").await {
                Ok((connection, major)) => return Ok(Topology { connection, options, major }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// What differs. Changes nothing. Bindings cannot be seen; [`Topology::verify`] and [`Topology::apply`] make them.
    ///
    /// # Errors
    /// The broker refuses to answer, or is gone.
    pub async fn plan(&self) -> Result<Plan, AmqpError> {
        plan(&self.connection, &self.options, self.major).await
    }

    /// Makes what is missing, and returns what that was.
    ///
    /// # Errors
    /// [`AmqpError::Differs`] if an object is there with another type or other arguments: then nothing is made.
    pub async fn apply(&self) -> Result<Plan, AmqpError> {
        let plan = self.plan().await?;
        if !plan.wrong.is_empty() {
            return Err(AmqpError::Differs(plan));
        }
        let (exchanges, queues): (Vec<Object>, Vec<Object>) =
            objects(&self.options).into_iter().partition(|object| matches!(object, Object::Exchange(_)));
        for group in [exchanges, queues] {
            let making = stream::iter(group.into_iter().map(|object| self.make(object)));
            making.buffered(AT_ONCE).try_collect::<Vec<()>>().await?;
        }
        bind_all(&self.connection, &self.options).await?;
        Ok(plan)
    }

    /// Whether nothing differs, with every binding made.
    ///
    /// # Errors
    /// [`AmqpError::Differs`] with what differs.
    pub async fn verify(&self) -> Result<(), AmqpError> {
        verify(&self.connection, &self.options, self.major).await
    }

    /// Closes the connection.
    pub async fn close(self) {
        let closing = self.connection.close(200, "done".into());
        let _ = tokio::time::timeout(self.options.answer_within, closing).await;
    }

    async fn make(&self, object: Object) -> Result<(), AmqpError> {
        let channel = open(&self.connection, &self.options).await?;
        let made = declare(&channel, &object, self.major, false);
        answered(&self.options, "declaring", made).await?.map_err(|error| refused(&object, &error))?;
        let _ = answered(&self.options, "closing", channel.close(200, "done".into())).await?;
        Ok(())
    }
}

pub(crate) fn check_prefix(prefix: &str) -> Result<(), AmqpError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if prefix.is_empty() || prefix.len() > 50 || !prefix.chars().all(allowed) {
        return Err(AmqpError::Options("the prefix must be 1 to 50 letters, digits, '-' and '.'"));
    }
    Ok(())
}

/// Opens a connection to one host, without lapin's recovery, and asks its version.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    attempt: usize,
    options: &Options,
    role: &'static str,
) -> Result<(Connection, u32), AmqpError> {
    let host = endpoint.host(attempt);
    let properties = ConnectionProperties::default().with_connection_name(format!("zegel {role}").into());
    let opening = async {
        let major =
            endpoint::major_version(&host).await.map_err(|error| AmqpError::Connect(error.kind().to_string()))?;
        let connection = Connection::connect_uri(host, properties).await;
        Ok((connection.map_err(|error| AmqpError::Connect(why(&error)))?, major))
    };
    let within = options.answer_within;
    tokio::time::timeout(within, opening).await.map_err(|_| AmqpError::Silent(within.as_millis(), "connecting"))?
}

/// Verifies over a connection that somebody else holds.
pub(crate) async fn verify(connection: &Connection, options: &Options, major: u32) -> Result<(), AmqpError> {
    let plan = plan(connection, options, major).await?;
    if !plan.is_empty() {
        return Err(AmqpError::Differs(plan));
    }
    bind_all(connection, options).await
}

async fn plan(connection: &Connection, options: &Options, major: u32) -> Result<Plan, AmqpError> {
    let states = objects(options).into_iter().map(|object| state_of(connection, options, object, major));
    let states: Vec<State> = stream::iter(states).buffered(AT_ONCE).try_collect().await?;
    let mut plan = Plan::default();
    for state in states {
        match state {
            State::Same => {}
            State::Missing(object) => plan.missing.push(object),
            State::Wrong(wrong) => plan.wrong.push(wrong),
        }
    }
    Ok(plan)
}

fn objects(options: &Options) -> Vec<Object> {
    let exchanges = names::exchanges(options).into_iter().map(Object::Exchange);
    exchanges.chain(names::queues(options).into_iter().map(Object::Queue)).collect()
}

async fn state_of(connection: &Connection, options: &Options, object: Object, major: u32) -> Result<State, AmqpError> {
    let channel = open(connection, options).await?;
    for passive in [true, false] {
        let declared = answered(options, "comparing", declare(&channel, &object, major, passive)).await?;
        let Err(error) = declared else { continue };
        if passive && refusal(&error, AMQPSoftError::NOTFOUND).is_some_and(is_missing) {
            return Ok(State::Missing(object.to_string()));
        }
        if let Some(text) = refusal(&error, AMQPSoftError::PRECONDITIONFAILED) {
            let property = text.split("inequivalent arg '").nth(1).and_then(|rest| rest.split('\'').next());
            let property = property.unwrap_or("declaration").to_owned();
            return Ok(State::Wrong(Wrong { object: object.to_string(), property }));
        }
        return Err(refused(&object, &error));
    }
    let _ = answered(options, "closing", channel.close(200, "done".into())).await?;
    Ok(State::Same)
}

/// A queue whose members are down is not found either, and must not be taken for one that is missing.
fn is_missing(text: &str) -> bool {
    text.contains("no queue '") || text.contains("no exchange '")
}

async fn declare(channel: &Channel, object: &Object, major: u32, passive: bool) -> lapin::Result<()> {
    match object {
        Object::Exchange(name) => {
            let options = ExchangeDeclareOptions { durable: true, passive, ..ExchangeDeclareOptions::default() };
            let name = name.as_str().into();
            channel.exchange_declare(name, ExchangeKind::Direct, options, FieldTable::default()).await
        }
        Object::Queue(queue) => {
            let options = QueueDeclareOptions { durable: true, passive, ..QueueDeclareOptions::default() };
            channel.queue_declare(queue.name.as_str().into(), options, arguments(major)).await.map(|_| ())
        }
    }
}

fn arguments(major: u32) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    if major >= LIMITED_FROM {
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(-1));
    }
    arguments
}

async fn bind_all(connection: &Connection, options: &Options) -> Result<(), AmqpError> {
    let channel = open(connection, options).await?;
    for queue in names::queues(options) {
        let Some((exchange, key)) = queue.bound.clone() else { continue };
        let (name, nothing) = (queue.name.as_str().into(), FieldTable::default());
        let bound = channel.queue_bind(name, exchange.into(), key.into(), QueueBindOptions::default(), nothing);
        answered(options, "binding", bound).await?.map_err(|error| refused(&Object::Queue(queue), &error))?;
    }
    let _ = answered(options, "closing", channel.close(200, "done".into())).await?;
    Ok(())
}

async fn open(connection: &Connection, options: &Options) -> Result<Channel, AmqpError> {
    let opened = answered(options, "opening a channel", connection.create_channel()).await?;
    opened.map_err(|error| AmqpError::Connect(why(&error)))
}

async fn answered<T>(options: &Options, what: &'static str, answer: impl Future<Output = T>) -> Result<T, AmqpError> {
    let within = options.answer_within;
    tokio::time::timeout(within, answer).await.map_err(|_| AmqpError::Silent(within.as_millis(), what))
}

fn refused(object: &Object, error: &lapin::Error) -> AmqpError {
    AmqpError::Refused { object: object.to_string(), why: why(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_limit_is_said_only_where_minus_one_means_none() {
        assert!(
            !arguments(3).contains_key("x-delivery-limit"),
            "3.10 drops what a reader gives back with a limit of -1"
        );
        assert_eq!(arguments(4).inner().get("x-delivery-limit"), Some(&AMQPValue::LongInt(-1)));
    }

    #[test]
    fn a_plan_names_the_first_objects_and_counts_the_rest() {
        let plan = Plan {
            missing: (0..10).map(|n| format!("queue {n}")).collect(),
            wrong: vec![Wrong { object: "queue x".into(), property: "x-max-length".into() }],
        };
        let text = plan.to_string();
        assert!(text.starts_with("queue x has another x-max-length; queue 0 is missing"), "{text}");
        assert!(text.ends_with("and 6 more"), "{text}");
        assert_eq!(Plan::default().to_string(), "nothing differs");
    }
}
