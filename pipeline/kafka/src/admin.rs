//! The topics that the topology asks for: what differs, creating what is missing, refusing what may not be changed.
//!
//! Failure behaviour: a topic with other partitions, settings or fewer replicas is named and left alone: changing the number
//! of partitions moves keys, and a shorter retention deletes what nobody has read.

use crate::error::{KafkaError, words};
use crate::names;
use crate::options::Options;
use crate::shared::{ASK, Shared};
use rdkafka::admin::{AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::metadata::{Metadata, MetadataTopic};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Log segments: what is deleted leaves the disk in pieces of this size.
const SEGMENT_BYTES: &str = "67108864";
/// How long new topics may take to be known to every broker.
const APPEAR: Duration = Duration::from_secs(20);

/// Something that the topology asks for and the broker has not, or has otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// There is no such topic; [`Kafka::apply`](crate::Kafka::apply) creates it.
    Missing {
        /// Its name.
        topic: String,
        /// How many partitions it will have.
        partitions: u16,
        /// How many replicas each will have.
        replicas: u16,
    },
    /// The topic has another number of partitions: keys would go elsewhere.
    Partitions {
        /// Its name.
        topic: String,
        /// What it has.
        found: usize,
        /// What the topology says.
        wanted: u16,
    },
    /// A partition of the topic has fewer replicas.
    Replicas {
        /// Its name.
        topic: String,
        /// The fewest.
        found: usize,
        /// What is asked for.
        wanted: u16,
    },
    /// A setting of the topic is another one.
    Setting {
        /// The topic's name.
        topic: String,
        /// The setting.
        name: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        wanted: String,
    },
}

impl Difference {
    /// Whether applying makes it go away; everything else is refused.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Difference::Missing { .. })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Missing { topic, partitions, replicas } => {
                write!(f, "{topic} is missing ({partitions} partitions, {replicas} replicas)")
            }
            Difference::Partitions { topic, found, wanted } => {
                write!(f, "{topic} has {found} partitions, not {wanted}")
            }
            Difference::Replicas { topic, found, wanted } => write!(f, "{topic} has {found} replicas, not {wanted}"),
            Difference::Setting { topic, name, found, wanted } => write!(f, "{topic} has {name}={found}, not {wanted}"),
        }
    }
}

/// How a setting of a topic is compared.
#[derive(Clone, Copy)]
enum Must {
    Equal,
    AtLeast,
}

/// What every topic must be like.
struct Wanted {
    replicas: u16,
    settings: Vec<(&'static str, String, Must)>,
}

impl Wanted {
    fn new(options: &Options, brokers: usize) -> Wanted {
        let replicas = options.replicas.unwrap_or(if brokers >= 3 { 3 } else { 1 });
        let in_sync = if replicas >= 3 { replicas - 1 } else { 1 };
        let mut settings = vec![
            ("cleanup.policy", "delete".to_owned(), Must::Equal),
            ("retention.ms", "-1".to_owned(), Must::Equal),
            ("retention.bytes", "-1".to_owned(), Must::Equal),
            // The broker unpacks what a stranger packs: this client is built without compression.
            ("compression.type", "uncompressed".to_owned(), Must::Equal),
            ("unclean.leader.election.enable", "false".to_owned(), Must::Equal),
            ("min.insync.replicas", in_sync.to_string(), Must::AtLeast),
            ("max.message.bytes", options.record_bytes().to_string(), Must::AtLeast),
        ];
        if options.fsync.unwrap_or(replicas == 1) {
            settings.push(("flush.messages", "1".to_owned(), Must::Equal));
        }
        Wanted { replicas, settings }
    }
}

pub(crate) async fn plan(shared: &Arc<Shared>) -> Result<Vec<Difference>, KafkaError> {
    let (mut differences, present, wanted) = shared
        .blocking("listing topics", |shared| {
            let metadata = metadata(shared)?;
            let wanted = Wanted::new(&shared.options, metadata.brokers().len());
            let mut differences = Vec::new();
            let mut present = Vec::new();
            for (topic, partitions) in names::topics(&shared.options.prefix) {
                match metadata.topics().iter().find(|found| found.name() == topic && !found.partitions().is_empty()) {
                    Some(found) => {
                        differences.extend(compare(found, partitions, wanted.replicas));
                        present.push(topic);
                    }
                    None => differences.push(Difference::Missing { topic, partitions, replicas: wanted.replicas }),
                }
            }
            Ok((differences, present, wanted))
        })
        .await?;
    let specifiers: Vec<_> = present.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    if !specifiers.is_empty() {
        let answer = shared.admin.describe_configs(&specifiers, &limits()).await;
        let configs = answer.map_err(|error| KafkaError::client("reading settings of topics", &error))?;
        for (topic, config) in present.iter().zip(configs) {
            let failed = |code| KafkaError::Client { what: "reading a topic's settings", code: format!("{code:?}") };
            differences.extend(settings(topic, &config.map_err(failed)?, &wanted));
        }
    }
    Ok(differences)
}

pub(crate) async fn apply(shared: &Arc<Shared>) -> Result<Vec<Difference>, KafkaError> {
    let differences = plan(shared).await?;
    refuse(&differences)?;
    create(shared, &differences).await?;
    let since = Instant::now();
    while !differences.is_empty() {
        let left = plan(shared).await?;
        refuse(&left)?;
        if left.is_empty() {
            break;
        }
        if since.elapsed() > APPEAR {
            return Err(KafkaError::TimedOut("waiting for new topics"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(differences)
}

/// Everything but a missing topic is left alone, and named.
fn refuse(differences: &[Difference]) -> Result<(), KafkaError> {
    let fixed: Vec<_> = differences.iter().filter(|one| !one.is_missing()).cloned().collect();
    if fixed.is_empty() { Ok(()) } else { Err(KafkaError::Differs(fixed)) }
}

async fn create(shared: &Arc<Shared>, missing: &[Difference]) -> Result<(), KafkaError> {
    let brokers = shared.blocking("counting brokers", |shared| Ok(metadata(shared)?.brokers().len())).await?;
    let wanted = Wanted::new(&shared.options, brokers);
    let topics: Vec<NewTopic<'_>> = missing
        .iter()
        .filter_map(|one| match one {
            Difference::Missing { topic, partitions, replicas } => {
                let replicas = TopicReplication::Fixed(i32::from(*replicas));
                let topic = NewTopic::new(topic, i32::from(*partitions), replicas).set("segment.bytes", SEGMENT_BYTES);
                Some(wanted.settings.iter().fold(topic, |topic, (name, value, _)| topic.set(name, value)))
            }
            _ => None,
        })
        .collect();
    if topics.is_empty() {
        return Ok(());
    }
    let answer = shared.admin.create_topics(&topics, &limits()).await;
    for outcome in answer.map_err(|error| KafkaError::client("creating topics", &error))? {
        match outcome {
            // Another process that starts at the same time.
            Ok(_) | Err((_, rdkafka::types::RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(KafkaError::Client { what: "creating a topic", code: format!("{code:?}") }),
        }
    }
    Ok(())
}

fn limits() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ASK)).operation_timeout(Some(ASK))
}

fn metadata(shared: &Shared) -> Result<Metadata, KafkaError> {
    // All topics: asking for one by name may create it where the broker is set so.
    let metadata = shared.admin.inner().fetch_metadata(None, ASK);
    metadata.map_err(|error| KafkaError::Client { what: "listing topics", code: words(&error) })
}

fn compare(found: &MetadataTopic, partitions: u16, replicas: u16) -> Vec<Difference> {
    let mut differences = Vec::new();
    let topic = || found.name().to_owned();
    if found.partitions().len() != usize::from(partitions) {
        let count = found.partitions().len();
        differences.push(Difference::Partitions { topic: topic(), found: count, wanted: partitions });
    }
    let fewest = found.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or(0);
    if fewest < usize::from(replicas) {
        differences.push(Difference::Replicas { topic: topic(), found: fewest, wanted: replicas });
    }
    differences
}

fn settings(topic: &str, config: &ConfigResource, wanted: &Wanted) -> Vec<Difference> {
    let value = |name: &str| config.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default();
    let number = |text: &str| text.parse::<i64>().unwrap_or(0);
    let differs = wanted.settings.iter().filter(|(name, wanted, must)| match must {
        Must::Equal => value(name) != *wanted,
        Must::AtLeast => number(&value(name)) < number(wanted),
    });
    differs
        .map(|(name, wanted, _)| Difference::Setting {
            topic: topic.to_owned(),
            name,
            found: value(name),
            wanted: wanted.clone(),
        })
        .collect()
}
