//! Names of places: a partition of a channel as one group reads it, and the spaces of state.

use schemas::Key;
use topology::{Channel, Group};

/// One partition of a channel as read by one group: the unit of ownership, numbering and position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    /// Channel code of the topology.
    pub channel: u16,
    /// Group code of the topology.
    pub group: u16,
    /// 0-based partition.
    pub partition: u16,
}

impl Slot {
    /// Every slot of a channel's group.
    #[must_use]
    pub fn all(channel: &Channel, group: &Group) -> Vec<Slot> {
        (0..channel.partitions).map(|partition| Slot { channel: channel.code, group: group.code, partition }).collect()
    }
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match topology::channels::by_code(self.channel) {
            Some(channel) => write!(f, "{}", channel.name)?,
            None => write!(f, "channel {}", self.channel)?,
        }
        match self.group {
            RELAY => write!(f, "/relay#{}", self.partition),
            INTAKE => write!(f, "/intake#{}", self.partition),
            group => write!(f, "/{group}#{}", self.partition),
        }
    }
}

/// Group code of the relay that carries a partition's messages from the store to a foreign broker. No group of the topology
/// has it.
pub const RELAY: u16 = 0xFFFF;
/// Group code of the intake that numbers what the edge published to a foreign broker. No group of the topology has it.
pub const INTAKE: u16 = 0xFFFE;

/// The partition of a key: its first 8 bytes, big-endian, modulo the count, so that every backend and every program agrees.
/// A [`Key`] is the output of an HMAC, so its bytes are spread evenly already (decision record 2).
#[must_use]
pub fn partition_of(key: Key, partitions: u16) -> u16 {
    let mut head = [0u8; 8];
    head.copy_from_slice(&key.0[..8]);
    let rest = u64::from_be_bytes(head) % u64::from(partitions.max(1));
    u16::try_from(rest).unwrap_or(0)
}

/// A family of state rows, like a table: a stable number and a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Space {
    /// Stable number in stored rows.
    pub code: u16,
    /// The name for documentation and errors.
    pub name: &'static str,
}

/// Every space of state. Codes are part of the stored format: never reuse one.
pub mod spaces {
    use super::Space;

    /// Content of up to 64 KiB, or the reference to an object; owner: the payload's own id.
    pub const PAYLOADS: Space = Space { code: 1, name: "payloads" };
    /// PublicationIds that were taken; owner: sender, sub: PublicationId.
    pub const PUBLICATIONS: Space = Space { code: 2, name: "publications" };
    /// The sent folder; owner: sender, sub: time and id.
    pub const SENT: Space = Space { code: 3, name: "sent" };
    /// One row per box: capacity, size, counters; owner: box.
    pub const BOXES: Space = Space { code: 4, name: "boxes" };
    /// Messages in boxes; owner: box, sub: folder and sequence.
    pub const ITEMS: Space = Space { code: 5, name: "items" };
    /// From an item's id to its place; owner: box, sub: item id.
    pub const ITEM_PLACES: Space = Space { code: 6, name: "item-places" };
    /// The life of a submission; owner: submission.
    pub const SUBMISSIONS: Space = Space { code: 7, name: "submissions" };
    /// Open bags and enrolments; owner: hospital.
    pub const BAGS: Space = Space { code: 8, name: "bags" };
    /// Chunks of accepted entries; owner: hospital, sub: bag sequence and chunk.
    pub const ENTRIES: Space = Space { code: 9, name: "entries" };
    /// References that were taken; owner: hospital, sub: reference.
    pub const REFERENCES: Space = Space { code: 10, name: "references" };
    /// Sealed and stamped bags, and the chain's head; owner: hospital.
    pub const ARCHIVE: Space = Space { code: 11, name: "archive" };
    /// Who follows a person; owner: SSIN, sub: organisation.
    pub const INSCRIPTIONS: Space = Space { code: 12, name: "inscriptions" };
    /// Mutation events that were taken; owner: SSIN, sub: feed and event.
    pub const EVENTS: Space = Space { code: 13, name: "events" };
    /// One row per feed: next number, acknowledged number; owner: organisation.
    pub const FEEDS: Space = Space { code: 14, name: "feeds" };
    /// Notifications that wait for their subscriber; owner: organisation, sub: number.
    pub const NOTIFICATIONS: Space = Space { code: 15, name: "notifications" };
    /// Open and closed alerts; owner: incident.
    pub const ALERTS: Space = Space { code: 16, name: "alerts" };
    /// Items of an incident; owner: incident, sub: item.
    pub const ALERT_ITEMS: Space = Space { code: 17, name: "alert-items" };
    /// What the intake of a partition has taken of each publisher; owner: the partition, sub: publisher's session.
    pub const INTAKES: Space = Space { code: 18, name: "intakes" };
    /// Last replies of a slot, for edges in other processes; owner: slot, sub: two bytes of the message's id.
    pub const REPLIES: Space = Space { code: 19, name: "replies" };
    /// The append-only log of bags and tokens, its checkpoints and their external stamps; owner: the log.
    pub const LOG: Space = Space { code: 20, name: "log" };
    /// Which patients a TTP project showed in which class, for small cells; owner: project, sub: bucket and message number.
    pub const CELLS: Space = Space { code: 24, name: "cells" };
    /// Distinct identifiers that a sender had encoded today; owner: project, sub: sender.
    pub const TTP_QUOTAS: Space = Space { code: 30, name: "ttp-quotas" };
    /// Quotas and log of the coding service; owner: application, sub: caller's day, or instant and id.
    pub const SEALS: Space = Space { code: 31, name: "seals" };
    /// TTP batches that were refused and stand still; owner: project, sub: number.
    pub const QUARANTINE: Space = Space { code: 32, name: "quarantine" };
    /// What a TTP project handed over and may come back, and what it holds until enough senders are together; owner: project,
    /// sub: kind, and handle, instant or message number.
    pub const EXCHANGES: Space = Space { code: 40, name: "exchanges" };
    /// A hospital's own journal of documents; owner: the journal.
    pub const JOURNAL: Space = Space { code: 46, name: "journal" };
    /// For the conformance suites.
    pub const TEST: Space = Space { code: 99, name: "test" };

    /// Every space.
    pub const ALL: &[Space] = &[
        PAYLOADS,
        PUBLICATIONS,
        SENT,
        BOXES,
        ITEMS,
        ITEM_PLACES,
        SUBMISSIONS,
        BAGS,
        ENTRIES,
        REFERENCES,
        ARCHIVE,
        INSCRIPTIONS,
        EVENTS,
        FEEDS,
        NOTIFICATIONS,
        ALERTS,
        ALERT_ITEMS,
        INTAKES,
        REPLIES,
        LOG,
        CELLS,
        TTP_QUOTAS,
        SEALS,
        QUARANTINE,
        EXCHANGES,
        JOURNAL,
        TEST,
    ];
}

/// A process (or a runner in a test) that may own slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OwnerId(pub [u8; 16]);
