//! What the front stands on: the ports, the tokens and the limits, handed in by the composition root.

use crate::auth::Tokens;
use crate::gather::Gather;
use crate::recent::{BoxesSeen, Recent};
use schemas::MailboxAddress;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use zegel_core::replies::Replies;
use zegel_core::{Broker, Clock, Keys, Objects, Store};
use zegel_crypto::log::Policy;
use zegel_timestamp::Answerer;
use zegel_ttp::ProjectBook;
use zegel_ttp::project::desk::Desk;

/// Limits and constants of the front. Each has a default that fits one machine.
#[derive(Clone)]
pub struct GatewayConfig {
    /// The TTP's own address: always a valid recipient, and the only one of a batch for a project.
    pub ttp: MailboxAddress,
    /// Largest message for a mailbox in bytes (code 801 above it).
    pub message_max: u64,
    /// Largest batch for a TTP project in bytes.
    pub batch_max: u64,
    /// Largest JSON, NDJSON or binary body of any other call, in bytes.
    pub body_max: usize,
    /// Requests in flight, their answers included; more are refused with 503.
    pub in_flight_max: usize,
    /// Open connections; more wait in the listener's queue.
    pub connections_max: usize,
    /// Transfers over 64 KiB and bulk bodies in flight; each holds up to 1 MiB, or one body.
    pub bulk_max: usize,
    /// Large content that is read at a time; each holds a quarter of a MiB at most. More are refused with 503.
    pub streams_max: usize,
    /// How long the headers of a request may take.
    pub header_timeout: Duration,
    /// How long a body may take before its first byte counts; each 64 KiB received gives a second more.
    pub body_timeout: Duration,
    /// How long a client may take no byte of an answer before its connection is closed.
    pub write_timeout: Duration,
    /// How long an answer of a worker is waited for.
    pub reply_timeout: Duration,
    /// Whether other processes serve the stages too, so that a reply may lie in the store.
    pub shared: bool,
    /// Whether calls are served; without them there are health, readiness and metrics only.
    pub calls: bool,
    /// How long open connections may go on after the shutdown began.
    pub drain_timeout: Duration,
    /// Certificate of the time-stamp authority's CA, PEM.
    pub ca_pem: Vec<u8>,
    /// Who answers time-stamp requests; none: they are refused, in the way of their standard.
    pub authority: Option<Arc<dyn Answerer>>,
    /// The log's key and the witnesses that may cosign its checkpoints; none: cosignatures are not taken.
    pub log: Option<Policy>,
    /// Whether time-stamp requests need a token of the platform.
    pub stamps_need_token: bool,
    /// Time-stamp requests that are signed at a time; each fills a core while it is. More wait for their turn, within
    /// `in_flight_max`.
    pub stamps_max: usize,
}

impl GatewayConfig {
    /// The defaults, around the one address that has none.
    #[must_use]
    pub fn new(ttp: MailboxAddress) -> GatewayConfig {
        GatewayConfig {
            ttp,
            message_max: 10 * 1024 * 1024, // the eHealthBox limit
            batch_max: 10_000_000_000,     // limits.batch of the design
            body_max: 8 * 1024 * 1024,     // about 40,000 mutation events
            in_flight_max: 1024,           // four times the 256 connections that the aim names
            connections_max: 4096,         // one file descriptor each
            bulk_max: 32,                  // 32 MiB of transfer buffers
            streams_max: 256,              // 64 MiB of pieces on their way out
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            reply_timeout: Duration::from_secs(10),
            shared: false,
            calls: true,
            drain_timeout: Duration::from_secs(10),
            ca_pem: Vec::new(),
            authority: None,
            log: None,
            stamps_need_token: false,
            stamps_max: 2, // as many as the aimed-at machine has cores
        }
    }
}

/// Everything that a handler may use.
pub struct Platform {
    /// Where messages go.
    pub broker: Arc<dyn Broker>,
    /// Where state is read.
    pub store: Arc<dyn Store>,
    /// Where large content is.
    pub objects: Arc<dyn Objects>,
    /// Blinding, sealing, randomness.
    pub keys: Arc<dyn Keys>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Answers of workers in this process.
    pub replies: Arc<Replies>,
    /// Who may call.
    pub tokens: Arc<dyn Tokens>,
    /// The register of TTP projects.
    pub projects: Arc<dyn Desk>,
    /// What of it holds now.
    pub book: Arc<ProjectBook>,
    /// Prints the metrics of the process.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Limits.
    pub config: GatewayConfig,
}

/// What the handlers share: the platform and what the front itself remembers, all of it bounded.
pub(crate) struct Front {
    pub(crate) platform: Arc<Platform>,
    pub(crate) gather: Arc<Gather>,
    pub(crate) recent: Recent,
    pub(crate) boxes: BoxesSeen,
    pub(crate) in_flight: Arc<Semaphore>,
    pub(crate) bulk: Semaphore,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) stamps: Arc<Semaphore>,
    /// Blinded key of the TTP's address.
    pub(crate) ttp: schemas::Key,
}

impl Front {
    pub(crate) fn new(platform: Arc<Platform>) -> Front {
        let ttp = zegel_core::names::address_key(&*platform.keys, &platform.config.ttp);
        Front {
            in_flight: Arc::new(Semaphore::new(platform.config.in_flight_max.max(1))),
            bulk: Semaphore::new(platform.config.bulk_max.max(1)),
            streams: Arc::new(Semaphore::new(platform.config.streams_max.max(1))),
            stamps: Arc::new(Semaphore::new(platform.config.stamps_max.max(1))),
            gather: Gather::new(platform.store.clone()),
            recent: Recent::default(),
            boxes: BoxesSeen::default(),
            ttp,
            platform,
        }
    }
}

impl std::ops::Deref for Front {
    type Target = Platform;
    fn deref(&self) -> &Platform {
        &self.platform
    }
}
