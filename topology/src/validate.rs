//! What must hold for a table of channels.
//!
//! Failure behaviour: [`TopologyError`] names the channel, group or type and the rule; the first one found is returned.

use crate::channels::{Channel, Group};
use std::collections::BTreeSet;

/// What is wrong with a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// Two entries have the same code or name.
    #[error("{what} {value} stands twice")]
    Twice {
        /// Which column.
        what: &'static str,
        /// The value that is not unique.
        value: String,
    },
    /// A value is outside its range.
    #[error("channel {channel}: {rule}")]
    Value {
        /// Which channel.
        channel: &'static str,
        /// The rule.
        rule: &'static str,
    },
    /// A channel names a message type that `schemas` does not have.
    #[error("channel {channel}: type {kind} has no schema")]
    UnknownType {
        /// Which channel.
        channel: &'static str,
        /// Which type.
        kind: &'static str,
    },
    /// A message type of `schemas` travels on no channel.
    #[error("type {0} travels on no channel")]
    TypeNowhere(&'static str),
    /// A group produces to a channel that does not exist.
    #[error("group {group} produces to {channel}, which does not exist")]
    UnknownChannel {
        /// Which group.
        group: &'static str,
        /// Which channel it names.
        channel: &'static str,
    },
    /// Nobody produces to a channel.
    #[error("nobody produces to channel {0}")]
    NoProducer(&'static str),
    /// A group neither produces nor leaves anything.
    #[error("nothing comes of group {0}")]
    NoResult(&'static str),
}

/// Holds the table against every rule.
///
/// # Errors
/// The first [`TopologyError`] found.
pub fn validate(table: &[Channel]) -> Result<(), TopologyError> {
    let groups = || table.iter().flat_map(|channel| channel.groups);
    unique("channel code", table.iter().map(|channel| channel.code.to_string()))?;
    unique("channel", table.iter().map(|channel| channel.name.to_owned()))?;
    unique("group code", groups().map(|group| group.code.to_string()))?;
    unique("group", groups().map(|group| group.name.to_owned()))?;
    unique("type", table.iter().flat_map(|channel| channel.types).map(|kind| (*kind).to_owned()))?;
    table.iter().try_for_each(values)?;
    types(table)?;
    groups().try_for_each(|group| results(table, group))?;
    producers(table)
}

fn unique(what: &'static str, values: impl Iterator<Item = String>) -> Result<(), TopologyError> {
    let mut seen = BTreeSet::new();
    for value in values {
        if !seen.insert(value.clone()) {
            return Err(TopologyError::Twice { what, value });
        }
    }
    Ok(())
}

fn values(channel: &Channel) -> Result<(), TopologyError> {
    let rules = [
        (channel.code > 0 && channel.groups.iter().all(|group| group.code > 0), "codes count from 1"),
        (is_name(channel.name), "a name is stage.event, in small letters"),
        (!channel.key.is_empty(), "the key must be said"),
        (channel.partitions > 0, "at least one partition"),
        (!channel.groups.is_empty(), "at least one group reads it"),
        (!channel.types.is_empty(), "at least one type travels on it"),
        (!channel.retry_ms.is_empty(), "at least one waiting time"),
        (channel.retry_ms.iter().all(|wait| *wait > 0), "a waiting time is over 0"),
        (channel.retry_ms.is_sorted(), "waiting times do not shrink"),
        (channel.idempotency_days > 0, "idempotency keys are kept at least a day"),
        (channel.high_water > 0, "a high-water mark of 0 refuses everything"),
        (channel.what.ends_with('.'), "one sentence for the documentation"),
    ];
    let broken = rules.iter().find(|(holds, _)| !holds);
    broken.map_or(Ok(()), |(_, rule)| Err(TopologyError::Value { channel: channel.name, rule }))
}

/// Whether it is `stage.event`, both of small letters and dashes.
fn is_name(name: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    name.split_once('.').is_some_and(|(stage, event)| is_word(stage) && is_word(event))
}

fn types(table: &[Channel]) -> Result<(), TopologyError> {
    let known: BTreeSet<_> = schemas::messages::all_schemas().into_iter().map(|(kind, _)| kind).collect();
    for channel in table {
        if let Some(kind) = channel.types.iter().find(|kind| !known.contains(*kind)) {
            return Err(TopologyError::UnknownType { channel: channel.name, kind });
        }
    }
    let used: BTreeSet<_> = table.iter().flat_map(|channel| channel.types).copied().collect();
    known.difference(&used).next().map_or(Ok(()), |kind| Err(TopologyError::TypeNowhere(kind)))
}

fn results(table: &[Channel], group: &Group) -> Result<(), TopologyError> {
    if group.produces.is_empty() && group.leaves.is_empty() {
        return Err(TopologyError::NoResult(group.name));
    }
    let exists = |name: &str| table.iter().any(|channel| channel.name == name);
    let missing = group.produces.iter().find(|name| !exists(name));
    missing.map_or(Ok(()), |channel| Err(TopologyError::UnknownChannel { group: group.name, channel }))
}

/// A channel without an edge needs a group, other than one that reads it, that produces to it.
fn producers(table: &[Channel]) -> Result<(), TopologyError> {
    let is_fed = |channel: &Channel| {
        let others = table.iter().filter(|other| other.name != channel.name);
        !channel.edges.is_empty()
            || others.flat_map(|other| other.groups).any(|group| group.produces.contains(&channel.name))
    };
    table.iter().find(|channel| !is_fed(channel)).map_or(Ok(()), |channel| Err(TopologyError::NoProducer(channel.name)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::CHANNELS;

    #[test]
    fn our_own_table_holds() {
        assert_eq!(validate(CHANNELS), Ok(()));
    }

    /// The error after `spoil` has changed our table.
    fn error_after(spoil: impl FnOnce(&mut Vec<Channel>)) -> TopologyError {
        let mut table = CHANNELS.to_vec();
        spoil(&mut table);
        validate(&table).expect_err("the spoilt table is refused")
    }

    #[test]
    fn what_stands_twice_is_named() {
        let twice = |what, value: &str| TopologyError::Twice { what, value: value.to_owned() };
        assert_eq!(error_after(|t| t[1].code = 1), twice("channel code", "1"));
        assert_eq!(error_after(|t| t[1].name = t[0].name), twice("channel", "mailbox.submitted"));
        assert_eq!(error_after(|t| t[1].groups = t[0].groups), twice("group code", "1"));
        assert_eq!(error_after(|t| t[1].types = t[0].types), twice("type", "be.zegel.mailbox.submitted.v1"));
    }

    #[test]
    fn each_value_out_of_range_is_refused() {
        let spoilers: [fn(&mut Channel); 11] = [
            |channel| channel.code = 0,
            |channel| channel.name = "Mailbox",
            |channel| channel.name = "mailbox.",
            |channel| channel.key = "",
            |channel| channel.partitions = 0,
            |channel| channel.groups = &[],
            |channel| channel.types = &[],
            |channel| channel.retry_ms = &[],
            |channel| channel.retry_ms = &[2, 1],
            |channel| channel.idempotency_days = 0,
            |channel| channel.high_water = 0,
        ];
        for (number, spoil) in spoilers.into_iter().enumerate() {
            let error = error_after(|table| spoil(&mut table[0]));
            assert!(matches!(error, TopologyError::Value { .. }), "{number}: {error}");
        }
    }

    #[test]
    fn a_type_without_schema_or_without_channel_is_named() {
        let unknown = error_after(|table| table[0].types = &["be.zegel.mailbox.submitted.v1", "be.zegel.x.v1"]);
        assert_eq!(unknown, TopologyError::UnknownType { channel: "mailbox.submitted", kind: "be.zegel.x.v1" });
        let nowhere = error_after(|table| table[3].types = &["be.zegel.receipts.opened.v1"]);
        assert!(matches!(nowhere, TopologyError::TypeNowhere(_)), "{nowhere}");
    }

    #[test]
    fn a_loose_end_of_the_picture_is_named() {
        const NOTHING: &[Group] = &[Group { code: 9, name: "alerts", produces: &[], leaves: &[] }];
        const ASTRAY: &[Group] = &[Group { code: 9, name: "alerts", produces: &["x.y"], leaves: &[] }];
        assert_eq!(error_after(|table| table[8].groups = NOTHING), TopologyError::NoResult("alerts"));
        let astray = TopologyError::UnknownChannel { group: "alerts", channel: "x.y" };
        assert_eq!(error_after(|table| table[8].groups = ASTRAY), astray);
        assert_eq!(error_after(|table| table[0].edges = &[]), TopologyError::NoProducer("mailbox.submitted"));
    }
}
