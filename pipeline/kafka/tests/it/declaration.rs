//! Topics follow the topology, and nothing goes to topics that do not.

use crate::broker::{self, Place, admin, parcels};
use rdkafka::admin::{AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use zegel_conformance::fixture::{SINGLE, SPREAD, slot};
use zegel_core::BrokerError;
use zegel_core::transport::{Lane, Transport};
use zegel_kafka::{Difference, Kafka, KafkaError};

#[tokio::test]
async fn nothing_is_sent_or_read_before_the_topics_were_verified() {
    let Some(url) = broker::shared() else { return };
    let place = Place::new(url);
    let kafka = Kafka::connect(url, place.options.clone()).unwrap();
    let slot = slot(SINGLE, 0);
    let sent = kafka.send(Lane::of(slot), parcels(1..=1)).await;
    assert!(matches!(sent[..], [Err(BrokerError::Unavailable(_))]), "sent to topics that nobody verified: {sent:?}");
    assert!(matches!(kafka.receive(slot, 0).await.err(), Some(BrokerError::Unavailable(_))), "read unverified topics");
    let planned = kafka.plan().await.unwrap();
    let edges = topology::CHANNELS.iter().filter(|channel| !channel.edges.is_empty()).count();
    assert_eq!(planned.len(), topology::CHANNELS.len() + edges, "not every topic is planned: {planned:?}");
    assert!(matches!(kafka.verify().await, Err(KafkaError::Differs(_))), "missing topics were taken for verified");
    assert_eq!(kafka.apply().await.unwrap(), planned, "something else was created than planned");
    assert_eq!(kafka.plan().await.unwrap(), [], "something differs after applying");
    let sent = kafka.send(Lane::of(slot), parcels(1..=1)).await;
    assert!(matches!(sent[..], [Err(_)]), "applying is not verifying");
    kafka.verify().await.unwrap();
    assert!(kafka.send(Lane::of(slot), parcels(1..=1)).await[0].is_ok());
    kafka.close().await;
}

#[tokio::test]
async fn another_partition_count_or_retention_is_refused_by_name_and_nothing_is_created() {
    let Some(url) = broker::shared() else { return };
    let place = Place::new(url);
    let (admin, limits) = admin(url);
    let [few, short] = [SPREAD, SINGLE].map(|channel| format!("{}.{channel}", place.options.prefix));
    let few_topic = NewTopic::new(&few, 3, TopicReplication::Fixed(1))
        .set("retention.ms", "-1")
        .set("compression.type", "uncompressed")
        .set("max.message.bytes", "16777216")
        .set("flush.messages", "1");
    admin.create_topics(&[few_topic], &limits).await.unwrap();
    let kafka = Kafka::connect(url, place.options.clone()).unwrap();
    while kafka.plan().await.unwrap().iter().all(|one| matches!(one, Difference::Missing { .. })) {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let Err(KafkaError::Differs(found)) = kafka.apply().await else { panic!("3 partitions were taken for 8") };
    assert_eq!(found, [Difference::Partitions { topic: few.clone(), found: 3, wanted: 8 }]);
    assert!(kafka.plan().await.unwrap().len() > 10, "topics were created although something was refused");
    admin.delete_topics(&[&few], &limits).await.unwrap();
    while kafka.plan().await.unwrap().iter().any(|one| !matches!(one, Difference::Missing { .. })) {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let verified = place.verified().await;
    let hour = AlterConfig::new(ResourceSpecifier::Topic(&short)).set("retention.ms", "3600000");
    admin.alter_configs(&[hour], &limits).await.unwrap();
    let refused = loop {
        match kafka.verify().await {
            Err(error) => break error.to_string(),
            Ok(()) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    };
    assert!(refused.contains(&format!("{short} has retention.ms=3600000, not -1")), "not named: {refused}");
    verified.close().await;
}
