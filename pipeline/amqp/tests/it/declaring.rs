//! Planning, applying, verifying; and that nothing is sent before.

use crate::place::Place;
use crate::{node, place_or_skip};
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use std::time::Duration;
use zegel_amqp::{Amqp, AmqpError, Topology, Wrong, names};
use zegel_core::transport::{Lane, Transport};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applying_makes_what_is_missing_and_then_nothing_differs() {
    let Some(url) = tokio::task::spawn_blocking(node::shared).await.unwrap() else { return };
    let place = Place::bare(url);
    let refused = Amqp::connect(&place.url, place.options.clone()).await;
    assert!(matches!(refused, Err(AmqpError::Differs(_))), "connected to a topology that is not there");
    let topology = place.topology().await;
    let plan = topology.plan().await.unwrap();
    let objects = names::queues(&place.options).len() + names::exchanges(&place.options).len();
    assert_eq!((plan.missing.len(), plan.wrong.len()), (objects, 0));
    assert_eq!(topology.plan().await.unwrap(), plan, "planning changed something");
    assert_eq!(topology.apply().await.unwrap(), plan);
    assert!(topology.plan().await.unwrap().is_empty());
    topology.verify().await.unwrap();
    assert!(topology.apply().await.unwrap().is_empty(), "applying again did something");
    topology.close().await;
    place.connect().await.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_another_kind_is_refused_with_its_name_and_property() {
    let Some(url) = tokio::task::spawn_blocking(node::shared).await.unwrap() else { return };
    let place = Place::bare(url);
    let channel = place.bare_client().await.create_channel().await.unwrap();
    let prefix = place.options.prefix.clone();
    let quorum = ("x-queue-type", AMQPValue::LongString("quorum".into()));
    let limited = ("x-max-length", AMQPValue::LongInt(5));
    let dropping = ("x-delivery-limit", AMQPValue::LongInt(20));
    let queues: [(&str, Vec<_>, &str); 3] = [
        ("mailbox.submitted.submission.0", vec![], "x-queue-type"),
        ("mailbox.submitted.submission.1", vec![quorum.clone(), limited], "x-max-length"),
        ("mailbox.submitted.intake.0", vec![quorum, dropping], "x-delivery-limit"),
    ];
    let mut expected = Vec::new();
    for (name, arguments, property) in queues {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert(name.into(), value);
        }
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let name = format!("{prefix}.{name}");
        channel.queue_declare(name.as_str().into(), durable, table).await.unwrap();
        expected.push(Wrong { object: format!("queue {name}"), property: property.into() });
    }
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let name = format!("{prefix}.mailbox.deliver");
    channel.exchange_declare(name.as_str().into(), ExchangeKind::Fanout, durable, FieldTable::default()).await.unwrap();
    expected.push(Wrong { object: format!("exchange {name}"), property: "type".into() });

    let topology = place.topology().await;
    let mut plan = topology.plan().await.unwrap();
    let by_name = |wrong: &Wrong| wrong.object.clone();
    plan.wrong.sort_by_key(by_name);
    expected.sort_by_key(by_name);
    assert_eq!(plan.wrong, expected);
    for refused in [topology.apply().await.map(|_| ()), topology.verify().await] {
        let error = refused.unwrap_err();
        assert!(matches!(error, AmqpError::Differs(_)), "{error}");
        assert!(error.to_string().contains("x-max-length"), "{error}");
    }
    let missing = topology.plan().await.unwrap().missing.len();
    assert_eq!(missing, plan.missing.len(), "applying made something although it had to refuse");
    assert!(Amqp::connect(&place.url, place.options.clone()).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_that_is_lost_is_made_again_and_a_queue_that_is_lost_stops_sending() {
    let place = place_or_skip!();
    let amqp = place.connect().await;
    let channel = place.bare_client().await.create_channel().await.unwrap();
    let queue = names::queue_of(&place.options, crate::load::single()).unwrap();
    let (exchange, key) = queue.bound.clone().unwrap();
    let lane = Lane::of(crate::load::single());
    assert!(amqp.send(lane, vec![crate::load::parcel(1)]).await[0].is_ok());

    channel.queue_unbind(queue.name.as_str().into(), exchange.into(), key.into(), FieldTable::default()).await.unwrap();
    let several = amqp.send(lane, (2..=50).map(crate::load::parcel).collect()).await;
    assert!(several.iter().any(Result::is_err), "nobody is told that no queue takes the messages");
    // While some are still unanswered the binding may be made again, and they are published again.
    let durable = several.iter().filter(|outcome| outcome.is_ok()).count() as u64;
    let depth = amqp.depth(crate::load::single()).await.unwrap();
    assert!(depth > durable, "what no queue took was reported as durable: {durable} with the first, {depth} there");
    let mut tries = 0;
    while amqp.send(lane, vec![crate::load::parcel(2)]).await[0].is_err() {
        tries += 1;
        assert!(tries < 200, "a lost binding is not made again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    channel.queue_delete(queue.name.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    assert!(amqp.send(lane, vec![crate::load::parcel(3)]).await[0].is_err(), "sent to a queue that is gone");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let error = amqp.send(lane, vec![crate::load::parcel(3)]).await.remove(0).unwrap_err().to_string();
    assert!(error.contains(&queue.name), "the object that is missing is not named: {error}");
    amqp.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_and_a_closed_port_are_refused_without_naming_the_password() {
    let Some(url) = tokio::task::spawn_blocking(node::shared).await.unwrap() else { return };
    let place = Place::bare(url);
    let host = url.rsplit_once('@').unwrap().1;
    for url in [format!("amqp://guest:geheim@{host}"), "amqp://guest:geheim@127.0.0.1:1/%2f".to_owned()] {
        let error = Topology::open(&url, place.options.clone()).await.unwrap_err();
        assert!(matches!(error, AmqpError::Connect(_)), "{error}");
        assert!(!format!("{error:?} {error}").contains("geheim"));
    }
}
