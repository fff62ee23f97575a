//! Why Kafka could not be opened or declared. Texts name topics, settings and error codes, never a key or a content.

use crate::admin::Difference;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use zegel_core::BrokerError;

/// See the variants.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KafkaError {
    /// The URL is not `kafka://host:port[,host:port]`.
    #[error("broker url: {0}")]
    Url(&'static str),
    /// The client or the broker refused something.
    #[error("kafka, {what}: {code}")]
    Client {
        /// What was asked.
        what: &'static str,
        /// The client's error code in words.
        code: String,
    },
    /// No answer within the limit.
    #[error("kafka, {0}: no answer in time")]
    TimedOut(&'static str),
    /// The broker's objects differ from the topology.
    #[error("topics differ from the topology: {}", list(.0))]
    Differs(Vec<Difference>),
}

fn list(differences: &[Difference]) -> String {
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl KafkaError {
    pub(crate) fn client(what: &'static str, error: &ClientError) -> KafkaError {
        KafkaError::Client { what, code: words(error) }
    }
}

impl From<KafkaError> for BrokerError {
    fn from(error: KafkaError) -> BrokerError {
        BrokerError::Unavailable(error.to_string())
    }
}

/// The code of a client's error; its free text may name hosts and configuration and stays out.
pub(crate) fn words(error: &ClientError) -> String {
    match error.rdkafka_error_code() {
        Some(code) => code_words(code),
        None => "client error".to_owned(),
    }
}

pub(crate) fn code_words(code: RDKafkaErrorCode) -> String {
    format!("{code:?}")
}
