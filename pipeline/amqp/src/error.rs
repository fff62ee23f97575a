//! Why the broker could not be used. Texts name our objects and rules, never a user, a password or a message.

use crate::declare::Plan;
use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

/// Errors of opening, declaring and verifying.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AmqpError {
    /// The URL cannot be used.
    #[error("broker URL: {0}")]
    Url(&'static str),
    /// The options cannot be used.
    #[error("broker options: {0}")]
    Options(&'static str),
    /// No host of the URL let us in.
    #[error("broker cannot be reached: {0}")]
    Connect(String),
    /// The broker did not answer in time.
    #[error("broker did not answer within {0} ms while {1}")]
    Silent(u128, &'static str),
    /// The broker refused to look at or make an object.
    #[error("{object}: {why}")]
    Refused {
        /// `queue …` or `exchange …`.
        object: String,
        /// The broker's reason.
        why: String,
    },
    /// The broker's objects are not those of the topology.
    #[error("broker differs from the topology: {0}")]
    Differs(Plan),
}

/// What lapin's error says, without the text of the broker, which may name users and addresses.
pub(crate) fn why(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::IOError(error) => format!("connection: {}", error.kind()),
        ErrorKind::ProtocolError(error) => match error.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => "object does not exist or is down".into(),
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => {
                "access refused".into()
            }
            kind => format!("broker refused, code {}", kind.get_id()),
        },
        ErrorKind::MissingHeartbeatError => "connection is silent".into(),
        ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidConnectionState(_) => "connection is lost".into(),
        ErrorKind::ParsingError(_) => "broker does not speak AMQP 0.9.1".into(),
        _ => "client failed".into(),
    }
}

/// The text that the broker sent with a refusal of this code.
pub(crate) fn refusal(error: &lapin::Error, code: AMQPSoftError) -> Option<&str> {
    match error.kind() {
        ErrorKind::ProtocolError(error) if *error.kind() == AMQPErrorKind::Soft(code.clone()) => {
            Some(error.get_message().as_str())
        }
        _ => None,
    }
}
