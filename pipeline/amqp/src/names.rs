//! The names of our objects at the broker. They are part of the stored format: what is in a queue is found by its name.
//!
//! `{prefix}.{channel}` and `{prefix}.{channel}.intake` are exchanges; `{prefix}.{channel}.{group}.{partition}` and
//! `{prefix}.{channel}.intake.{partition}` are queues; `{prefix}.foreign` is a queue.

use crate::options::Options;
use topology::{Channel, Group};
use zegel_core::Slot;
use zegel_core::slot::INTAKE;
use zegel_core::transport::Lane;

/// A queue, and how it is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// The exchange that it is bound to and the routing key; none for the queue of foreign messages.
    pub bound: Option<(String, String)>,
}

/// The exchange that a lane is published to.
#[must_use]
pub fn exchange(prefix: &str, channel: &Channel, intake: bool) -> String {
    if intake { format!("{prefix}.{}.intake", channel.name) } else { format!("{prefix}.{}", channel.name) }
}

/// The queue of foreign messages.
#[must_use]
pub fn foreign(prefix: &str) -> String {
    format!("{prefix}.foreign")
}

fn group_queue(prefix: &str, channel: &Channel, group: &Group, partition: u16) -> String {
    format!("{prefix}.{}.{}.{partition}", channel.name, group.name)
}

/// Every exchange of the options' channels.
#[must_use]
pub fn exchanges(options: &Options) -> Vec<String> {
    let prefix = &options.prefix;
    let numbered = options.channels.iter().map(|channel| exchange(prefix, channel, false));
    let with_edges = options.channels.iter().filter(|channel| !channel.edges.is_empty());
    numbered.chain(with_edges.map(|channel| exchange(prefix, channel, true))).collect()
}

/// Every queue of the options' channels.
#[must_use]
pub fn queues(options: &Options) -> Vec<Queue> {
    let prefix = &options.prefix;
    let mut queues = vec![Queue { name: foreign(prefix), bound: None }];
    for channel in options.channels {
        for partition in 0..channel.partitions {
            let bound = |intake| Some((exchange(prefix, channel, intake), partition.to_string()));
            for group in channel.groups {
                queues.push(Queue { name: group_queue(prefix, channel, group, partition), bound: bound(false) });
            }
            if !channel.edges.is_empty() {
                let name = format!("{}.{partition}", exchange(prefix, channel, true));
                queues.push(Queue { name, bound: bound(true) });
            }
        }
    }
    queues
}

/// The channel of a lane, if the lane is one that the options serve.
#[must_use]
pub fn channel_of(options: &Options, lane: Lane) -> Option<&'static Channel> {
    let channel = options.channels.iter().find(|channel| channel.code == lane.channel)?;
    let exists = lane.partition < channel.partitions && (!lane.intake || !channel.edges.is_empty());
    exists.then_some(channel)
}

/// The queue that a slot reads, with the exchange and routing key that its messages come by.
#[must_use]
pub fn queue_of(options: &Options, slot: Slot) -> Option<Queue> {
    let lane = Lane::of(slot);
    let channel = channel_of(options, lane)?;
    let from = exchange(&options.prefix, channel, lane.intake);
    let name = if slot.group == INTAKE {
        format!("{from}.{}", slot.partition)
    } else {
        let group = channel.groups.iter().find(|group| group.code == slot.group)?;
        group_queue(&options.prefix, channel, group, slot.partition)
    };
    Some(Queue { name, bound: Some((from, slot.partition.to_string())) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_slot_reads_a_queue_of_its_own_that_is_declared() {
        let options = Options::default();
        let declared: BTreeSet<String> = queues(&options).into_iter().map(|queue| queue.name).collect();
        let groups = topology::CHANNELS.iter().flat_map(|c| c.groups.iter().flat_map(move |g| Slot::all(c, g)));
        let intakes = Lane::all().into_iter().filter(|lane| lane.intake);
        let intakes = intakes.map(|l| Slot { channel: l.channel, group: INTAKE, partition: l.partition });
        let read: Vec<String> = groups.chain(intakes).map(|slot| queue_of(&options, slot).unwrap().name).collect();
        let distinct: BTreeSet<String> = read.iter().cloned().collect();
        assert_eq!(distinct.len(), read.len(), "two slots read one queue");
        assert!(distinct.is_subset(&declared));
        assert_eq!(declared.len(), read.len() + 1, "a queue is declared that nobody reads, beside the foreign one");
        assert!(declared.contains("zegel.mailbox.submitted.submission.7"));
        assert!(declared.contains("zegel.mailbox.submitted.intake.0"));
    }
}
