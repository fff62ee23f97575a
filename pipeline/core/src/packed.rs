//! How places are packed into integers, the same way in every store that keeps tables, so that rows can be moved between
//! them as they are.
//!
//! - `messages.id` = channel << 48 | partition << 40 | number: a partition is one ascending run of the primary key.
//!   It holds channels up to 32,767, 256 partitions each and 2^40 messages in each.
//! - `slot` = channel << 32 | group << 16 | partition, and `partition` = channel << 8 | partition.

use crate::slot::Slot;
use topology::Channel;

/// Bits of a message's number within its partition.
pub const NUMBER_BITS: u32 = 40;
/// The largest number a partition may reach: over a trillion, a billion messages a day for three years in one partition.
pub const MAX_NUMBER: u64 = (1 << NUMBER_BITS) - 1;

/// `messages.id` of a place.
#[must_use]
pub fn message_id(channel: u16, partition: u16, number: u64) -> i64 {
    (partition_code(channel, partition) << NUMBER_BITS) | number.min(MAX_NUMBER).cast_signed()
}

/// The number in a `messages.id`.
#[must_use]
pub fn number_of(id: i64) -> u64 {
    id.cast_unsigned() & MAX_NUMBER
}

/// A partition without a number.
#[must_use]
pub fn partition_code(channel: u16, partition: u16) -> i64 {
    (i64::from(channel) << 8) | i64::from(partition)
}

/// The channel and partition of an integer.
#[must_use]
pub fn partition_of_code(code: i64) -> (u16, u16) {
    let part = |value: i64| u16::try_from(value).unwrap_or(u16::MAX);
    (part(code >> 8), part(code & 0xFF))
}

/// A slot as one integer.
#[must_use]
pub fn slot_code(slot: Slot) -> i64 {
    (i64::from(slot.channel) << 32) | (i64::from(slot.group) << 16) | i64::from(slot.partition)
}

/// The slot of an integer.
#[must_use]
pub fn slot_of(code: i64) -> Slot {
    let part = |shift: u32| u16::try_from((code >> shift) & 0xFFFF).unwrap_or(0);
    Slot { channel: part(32), group: part(16), partition: part(0) }
}

/// A channel of the topology that does not fit into the integers, if there is one.
#[must_use]
pub fn misfit() -> Option<&'static str> {
    let fits = |channel: &Channel| channel.code < 1 << 15 && channel.partitions <= 1 << 8;
    topology::CHANNELS.iter().find(|channel| !fits(channel)).map(|channel| channel.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_place_comes_apart_again_and_keeps_the_order() {
        let slot = Slot { channel: 0x7FFF, group: 0xFFFF, partition: 0xFF };
        assert_eq!(slot_of(slot_code(slot)), slot);
        let last = message_id(0x7FFF, 0xFF, u64::MAX);
        assert!(last > 0 && number_of(last) == MAX_NUMBER);
        assert!(message_id(1, 0, MAX_NUMBER) < message_id(1, 1, 1));
        assert!(message_id(1, 0xFF, MAX_NUMBER) < message_id(2, 0, 1));
        assert_eq!(partition_of_code(partition_code(9, 7)), (9, 7));
    }

    #[test]
    fn every_channel_of_the_topology_fits() {
        assert_eq!(misfit(), None);
    }
}
