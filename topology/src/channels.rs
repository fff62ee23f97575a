//! The table of channels: name, key, partitions, groups, message types, retry schedule, limits.

/// What happens to a key after one of its messages is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterDead {
    /// Later messages of the key go on.
    Continue,
    /// Later messages of the key wait, parked, until an operator replays or drops the dead one.
    Hold,
}

/// A consumer group: one stage that reads a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Stable number in stored rows, from 1, unique over the whole table.
    pub code: u16,
    /// The stage's name.
    pub name: &'static str,
    /// Channels that it produces to, its own among them where it sets timers.
    pub produces: &'static [&'static str],
    /// What it leaves outside the channels.
    pub leaves: &'static [&'static str],
}

/// A channel: messages of one or more types, ordered per key, spread over partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel {
    /// Stable number in stored rows, from 1, unique.
    pub code: u16,
    /// The name, `stage.event`.
    pub name: &'static str,
    /// What the key is an HMAC of.
    pub key: &'static str,
    /// Which edges produce to it.
    pub edges: &'static [&'static str],
    /// How many partitions; changing it needs a drained channel.
    pub partitions: u16,
    /// Who reads it.
    pub groups: &'static [Group],
    /// CloudEvents types that may travel on it.
    pub types: &'static [&'static str],
    /// Waiting times in milliseconds between attempts; when they are used up, and `endless` is false, the message is dead.
    pub retry_ms: &'static [i64],
    /// Whether the last waiting time repeats for ever (the channel has no deadline).
    pub endless: bool,
    /// What follows a dead message.
    pub after_dead: AfterDead,
    /// How long an idempotency key is kept, in days.
    pub idempotency_days: u16,
    /// High-water mark: above so many waiting messages a producer at the edge gets 429.
    pub high_water: u64,
    /// One sentence for the documentation.
    pub what: &'static str,
}

/// Waits between attempts of a message with a deadline: 1 s, 10 s, 1 min, 10 min.
const WITH_DEADLINE: &[i64] = &[1_000, 10_000, 60_000, 600_000];
/// Waits of a message without a deadline: the last repeats.
const WITHOUT_DEADLINE: &[i64] = &[1_000, 10_000, 60_000, 300_000];
/// High-water mark of a channel at the edge: a quarter of a million small messages, about 500 MB.
const HIGH_WATER: u64 = 250_000;

/// Every channel. Codes are part of the stored format: never reuse one.
pub const CHANNELS: &[Channel] = &[
    Channel {
        code: 1,
        name: "mailbox.submitted",
        key: "sender",
        edges: &["command line", "drop folder", "HTTP"],
        partitions: 8,
        groups: &[Group {
            code: 1,
            name: "submission",
            produces: &["mailbox.deliver", "ttp.inbound", "receipts.due"],
            leaves: &[],
        }],
        types: &["be.zegel.mailbox.submitted.v1"],
        retry_ms: WITH_DEADLINE,
        endless: false,
        after_dead: AfterDead::Continue,
        idempotency_days: 365,
        high_water: HIGH_WATER,
        what: "A sender hands over a message for one or more boxes, or for the TTP.",
    },
    Channel {
        code: 2,
        name: "mailbox.deliver",
        key: "box",
        edges: &["command line", "HTTP"],
        partitions: 8,
        groups: &[Group { code: 2, name: "box", produces: &["receipts.due"], leaves: &["boxes"] }],
        types: &[
            "be.zegel.mailbox.open.v1",
            "be.zegel.mailbox.deliver.v1",
            "be.zegel.mailbox.command.v1",
            "be.zegel.mailbox.expire.v1",
        ],
        retry_ms: WITH_DEADLINE,
        endless: false,
        after_dead: AfterDead::Continue,
        idempotency_days: 365,
        high_water: HIGH_WATER,
        what: "A message enters a box, or its owner moves, reads or deletes messages.",
    },
    Channel {
        code: 3,
        name: "ttp.inbound",
        key: "project",
        edges: &["HTTP"],
        partitions: 8,
        groups: &[Group {
            code: 3,
            name: "ttp",
            produces: &["mailbox.deliver", "receipts.due", "ttp.inbound"],
            leaves: &["quarantine"],
        }],
        types: &["be.zegel.ttp.inbound.v1", "be.zegel.ttp.quarantine.v1", "be.zegel.ttp.wake.v1"],
        retry_ms: WITH_DEADLINE,
        endless: false,
        after_dead: AfterDead::Continue,
        idempotency_days: 365,
        high_water: HIGH_WATER,
        what: "A batch is pseudonymised for a project and its sender hidden; what comes back is restored.",
    },
    Channel {
        code: 4,
        name: "receipts.due",
        key: "submission",
        edges: &[],
        partitions: 8,
        groups: &[Group {
            code: 4,
            name: "receipts",
            produces: &["receipts.due", "mailbox.deliver", "alerts.raised"],
            leaves: &["submission status"],
        }],
        types: &[
            "be.zegel.receipts.opened.v1",
            "be.zegel.receipts.answered.v1",
            "be.zegel.receipts.seen.v1",
            "be.zegel.receipts.deadline.v1",
        ],
        retry_ms: WITHOUT_DEADLINE,
        endless: true,
        after_dead: AfterDead::Hold,
        idempotency_days: 365,
        high_water: HIGH_WATER,
        what: "Answers are owed, given, and late.",
    },
    Channel {
        code: 5,
        name: "timestamp.entries",
        key: "hospital",
        edges: &["command line", "HTTP"],
        partitions: 8,
        groups: &[Group {
            code: 5,
            name: "aggregator",
            produces: &["timestamp.entries", "timestamp.sealed"],
            leaves: &[],
        }],
        types: &["be.zegel.timestamp.enrol.v1", "be.zegel.timestamp.entries.v1", "be.zegel.timestamp.window-end.v1"],
        retry_ms: WITHOUT_DEADLINE,
        endless: true,
        after_dead: AfterDead::Hold,
        idempotency_days: 36_500,
        high_water: HIGH_WATER,
        what: "Prescription hashes are collected into the hospital's open bag.",
    },
    Channel {
        code: 6,
        name: "timestamp.sealed",
        key: "hospital",
        edges: &["HTTP"],
        partitions: 8,
        groups: &[Group {
            code: 6,
            name: "authority",
            produces: &["mailbox.deliver", "timestamp.entries", "timestamp.logged"],
            leaves: &["platform's archive"],
        }],
        types: &[
            "be.zegel.timestamp.bag-closed.v1",
            "be.zegel.timestamp.own-bag.v1",
            "be.zegel.timestamp.archive-token.v1",
        ],
        retry_ms: WITHOUT_DEADLINE,
        endless: true,
        after_dead: AfterDead::Hold,
        idempotency_days: 36_500,
        high_water: HIGH_WATER,
        what: "A closed bag is bound, chained, stamped and archived; a hospital's own bag is stamped and archived as it came, a token that it asked for archived.",
    },
    Channel {
        code: 7,
        name: "mutations.registry",
        key: "ssin",
        edges: &["command line", "HTTP", "registry feed"],
        partitions: 8,
        groups: &[Group { code: 7, name: "fan-out", produces: &["mutations.notify"], leaves: &[] }],
        types: &["be.zegel.mutations.inscription.v1", "be.zegel.mutations.mutation.v1"],
        retry_ms: WITHOUT_DEADLINE,
        endless: false,
        after_dead: AfterDead::Hold,
        idempotency_days: 365,
        high_water: HIGH_WATER,
        what: "Inscriptions, and mutations from the registry's feed.",
    },
    Channel {
        code: 8,
        name: "mutations.notify",
        key: "organisation",
        edges: &["HTTP"],
        partitions: 8,
        groups: &[Group { code: 8, name: "feed", produces: &[], leaves: &["numbered feeds"] }],
        types: &["be.zegel.mutations.notify.v1", "be.zegel.mutations.feed-ack.v1"],
        retry_ms: WITHOUT_DEADLINE,
        endless: true,
        after_dead: AfterDead::Hold,
        idempotency_days: 365,
        high_water: HIGH_WATER,
        what: "One subscriber is told of one mutation, with the next number of its feed.",
    },
    Channel {
        code: 9,
        name: "alerts.raised",
        key: "incident",
        edges: &[],
        partitions: 1,
        groups: &[Group { code: 9, name: "alerts", produces: &[], leaves: &["alerts"] }],
        types: &["be.zegel.alerts.change.v1"],
        retry_ms: WITHOUT_DEADLINE,
        endless: true,
        after_dead: AfterDead::Continue,
        idempotency_days: 365,
        high_water: HIGH_WATER,
        what: "Items join and leave an incident; the incident opens one alert and closes it.",
    },
    Channel {
        code: 10,
        name: "timestamp.logged",
        key: "log",
        edges: &["HTTP"],
        partitions: 1,
        groups: &[Group { code: 10, name: "log", produces: &["timestamp.logged"], leaves: &["append-only log"] }],
        types: &[
            "be.zegel.timestamp.logged.v1",
            "be.zegel.timestamp.checkpoint-due.v1",
            "be.zegel.timestamp.checkpoint-stamp.v1",
            "be.zegel.timestamp.cosigned.v1",
        ],
        retry_ms: WITHOUT_DEADLINE,
        endless: true,
        after_dead: AfterDead::Hold,
        idempotency_days: 36_500,
        high_water: HIGH_WATER,
        what: "Bags and tokens join the append-only log; checkpoints are signed, cosigned and stamped.",
    },
    Channel {
        code: 20,
        name: "seals.used",
        key: "application",
        edges: &["HTTP"],
        partitions: 8,
        groups: &[Group { code: 20, name: "seals", produces: &[], leaves: &["quotas and log of Seals"] }],
        types: &["be.zegel.seals.used.v1"],
        retry_ms: WITH_DEADLINE,
        endless: false,
        after_dead: AfterDead::Continue,
        idempotency_days: 1,
        high_water: HIGH_WATER,
        what: "A call of the coding service is counted before it is answered.",
    },
];

/// The channel with this name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Channel> {
    CHANNELS.iter().find(|channel| channel.name == name)
}

/// The channel with this stored code.
#[must_use]
pub fn by_code(code: u16) -> Option<&'static Channel> {
    CHANNELS.iter().find(|channel| channel.code == code)
}

/// The channel that the group reads.
#[must_use]
pub fn by_group(group: &str) -> Option<&'static Channel> {
    CHANNELS.iter().find(|channel| channel.groups.iter().any(|g| g.name == group))
}
