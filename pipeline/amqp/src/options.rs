//! What can be chosen about the transport; every bound has a default with its reason.

use std::time::Duration;
use topology::Channel;

/// Bounds and names of one [`Amqp`](crate::Amqp).
#[derive(Debug, Clone)]
pub struct Options {
    /// Prefix of every name at the broker, so that installations can share one. Up to 50 letters, digits and `-`.
    pub prefix: String,
    /// The channels that are declared, verified and served.
    pub channels: &'static [Channel],
    /// Unconfirmed messages per lane. 100 is the knee of the curve; 1,000 costs latency nothing and is a tenth faster.
    pub window_messages: usize,
    /// Bytes of unconfirmed messages per lane, above which publishing waits; one larger message goes alone.
    pub window_bytes: usize,
    /// How long a call of `send` may take before it answers that the outcome is unknown. Longer than a quorum queue
    /// needs to elect another leader.
    pub send_within: Duration,
    /// How long one exchange of frames may take: opening, declaring, subscribing, acknowledging.
    pub answer_within: Duration,
    /// How long a reader waits for the last one of its queue to be gone. A node that is lost leaves its consumers in the
    /// count until it is back, so a reader goes on after this; its messages were given back when the node was lost. Longer
    /// than the difference between the broker's and a client's notice of one silent connection.
    pub alone_within: Duration,
    /// Seconds between heartbeats; a connection that is silent for twice as long is lost.
    pub heartbeat: u16,
    /// Messages that the broker hands to one reader before it settles.
    pub prefetch: u16,
    /// Bytes that one reader holds; above them it starts again with fewer messages at a time.
    pub held_bytes: usize,
    /// The largest body; RabbitMQ 4 refuses more than 16 MiB, and earlier versions suffer from them.
    pub body_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            prefix: "zegel".into(),
            channels: topology::CHANNELS,
            window_messages: 1_000,
            window_bytes: 8 << 20,
            send_within: Duration::from_secs(10),
            answer_within: Duration::from_secs(5),
            alone_within: Duration::from_secs(6),
            heartbeat: 5,
            prefetch: 500,
            held_bytes: 64 << 20,
            body_bytes: 16 << 20,
        }
    }
}
