//! The topology's objects at a foreign broker, whichever it is: what differs, making it, making sure.

use crate::endpoint::Endpoint;
use crate::failed::Failed;

/// What differs between the topology and a broker, as sentences.
#[derive(Debug, Default)]
pub struct Differences {
    /// What applying makes.
    pub missing: Vec<String>,
    /// What applying refuses to change: messages may be inside.
    pub wrong: Vec<String>,
}

impl Differences {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.wrong.is_empty()
    }
}

/// A broker that can be compared with the topology.
pub enum Declared {
    Amqp(Box<zegel_amqp::Topology>),
    #[cfg(feature = "kafka")]
    Kafka(std::sync::Arc<zegel_kafka::Kafka>),
}

impl Declared {
    /// Connects to look; nothing is sent or read.
    ///
    /// # Errors
    /// [`Failed::Usage`] when it is no foreign broker; when it cannot be reached.
    pub async fn open(broker: &Endpoint, installation: &str) -> Result<Declared, Failed> {
        let prefix = installation.to_owned();
        match broker.scheme() {
            "amqp" | "amqps" => {
                let options = zegel_amqp::Options { prefix, ..Default::default() };
                let opened = zegel_amqp::Topology::open(broker.expose(), options).await;
                Ok(Declared::Amqp(Box::new(opened.map_err(failure)?)))
            }
            #[cfg(feature = "kafka")]
            "kafka" => {
                let options = zegel_kafka::Options { prefix, ..Default::default() };
                let opened = zegel_kafka::Kafka::connect(broker.expose(), options);
                Ok(Declared::Kafka(opened.map_err(failure)?))
            }
            _ => Err(Failed::Usage("a topology is declared at amqp://… or kafka://…: say --broker".to_owned())),
        }
    }

    /// What differs; nothing is changed.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn plan(&self) -> Result<Differences, Failed> {
        match self {
            Declared::Amqp(topology) => {
                let plan = topology.plan().await.map_err(failure)?;
                let wrong = plan.wrong.iter().map(|one| format!("{} has another {}", one.object, one.property));
                Ok(Differences { wrong: wrong.collect(), missing: plan.missing })
            }
            #[cfg(feature = "kafka")]
            Declared::Kafka(kafka) => {
                let found = kafka.plan().await.map_err(failure)?;
                let (missing, wrong): (Vec<_>, Vec<_>) = found.iter().partition(|one| one.is_missing());
                let say = |all: Vec<&zegel_kafka::Difference>| all.iter().map(ToString::to_string).collect();
                Ok(Differences { missing: say(missing), wrong: say(wrong) })
            }
        }
    }

    /// Makes what is missing; refuses when something is there and different, and then makes nothing.
    ///
    /// # Errors
    /// See above; when the broker does not answer.
    pub async fn apply(&self) -> Result<(), Failed> {
        match self {
            Declared::Amqp(topology) => topology.apply().await.map(drop).map_err(failure),
            #[cfg(feature = "kafka")]
            Declared::Kafka(kafka) => kafka.apply().await.map(drop).map_err(failure),
        }
    }
}

fn failure(error: impl std::fmt::Display) -> Failed {
    Failed::Failure(error.to_string())
}
