//! Mutations: who follows a person is told of each change once, in order, without a gap.
//!
//! Purpose: two pure workers. [`FanOut`] keeps the inscriptions and finds who is to be told. [`Feed`] numbers the
//! notifications of each subscriber and removes what the subscriber has acknowledged.
//! Invariants kept here: I2 (an event once, a number once), I3 (per person and per subscriber in order), numbers without a
//! gap. I4: a person's number is blinded in keys and stands only inside sealed rows and messages.
//! Must not know: where a feed comes from, how a subscriber pulls.

#![forbid(unsafe_code)]

pub mod fan_out;
pub mod feed;
pub mod queries;
pub mod rows;

pub use fan_out::FanOut;
pub use feed::Feed;
pub use rows::{EventRow, FeedAcked, FeedRow, InscriptionRow, NotificationRow};

use topology::{CHANNELS, Channel};

const SOURCE: &str = "/zegel/mutations";
const REGISTRY: &Channel = &CHANNELS[6];
const NOTIFY: &Channel = &CHANNELS[7];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_to_the_channels_that_are_meant() {
        assert_eq!([REGISTRY, NOTIFY].map(|channel| channel.name), ["mutations.registry", "mutations.notify"]);
    }
}
