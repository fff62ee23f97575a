//! Names of topics and groups, and which lanes there are.

use topology::{CHANNELS, Channel};
use zegel_core::slot::INTAKE;
use zegel_core::transport::Lane;
use zegel_core::{BrokerError, Slot};

/// The channel of a lane that the topology has.
pub(crate) fn channel(lane: Lane) -> Result<&'static Channel, BrokerError> {
    topology::channels::by_code(lane.channel)
        .filter(|channel| lane.partition < channel.partitions && (!lane.intake || !channel.edges.is_empty()))
        .ok_or(BrokerError::UnknownChannel(lane.channel))
}

/// `{prefix}.{channel}` or `{prefix}.{channel}.intake`.
pub(crate) fn topic(prefix: &str, channel: &Channel, intake: bool) -> String {
    format!("{prefix}.{}{}", channel.name, if intake { ".intake" } else { "" })
}

/// Every topic with its number of partitions.
pub(crate) fn topics(prefix: &str) -> Vec<(String, u16)> {
    let of = |channel: &'static Channel, intake| (topic(prefix, channel, intake), channel.partitions);
    let edges = CHANNELS.iter().filter(|channel| !channel.edges.is_empty());
    CHANNELS.iter().map(|channel| of(channel, false)).chain(edges.map(|channel| of(channel, true))).collect()
}

/// `{prefix}.{group}`: the consumer group in which a slot's progress is committed.
pub(crate) fn group(prefix: &str, slot: Slot) -> Result<String, BrokerError> {
    let channel = channel(Lane::of(slot))?;
    if slot.group == INTAKE {
        return Ok(format!("{prefix}.intake"));
    }
    let group = channel.groups.iter().find(|group| group.code == slot.group);
    group.map(|group| format!("{prefix}.{}", group.name)).ok_or(BrokerError::UnknownChannel(slot.channel))
}

/// Every slot that reads the slot's lane.
pub(crate) fn readers(slot: Slot) -> Vec<Slot> {
    match channel(Lane::of(slot)) {
        Ok(channel) if slot.group != INTAKE => {
            channel.groups.iter().map(|group| Slot { group: group.code, ..slot }).collect()
        }
        _ => vec![slot],
    }
}
