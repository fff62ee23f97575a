//! Options and commands about where the platform keeps what: stores, brokers, objects, and moving between them.

use crate::endpoint::Endpoint;
use clap::{Args, Subcommand, ValueEnum};

/// Where the platform keeps what.
#[derive(Debug, Clone, Default, Args)]
pub struct Backends {
    /// Where state is kept: embedded, or postgres://user:password@host/database
    #[arg(long, value_name = "URL")]
    pub store: Option<Endpoint>,
    /// Where messages travel: store, amqp://user:password@host, or kafka://host:port
    #[arg(long, value_name = "URL")]
    pub broker: Option<Endpoint>,
    /// Where large content is kept: folder, or s3://bucket/prefix
    #[arg(long, value_name = "URL")]
    pub objects: Option<Endpoint>,
}

/// `zegel migrate`.
#[derive(Debug, Args)]
pub struct Migrate {
    /// The empty store that everything goes to: postgres://user:password@host/database
    #[arg(long, value_name = "URL")]
    pub store: Endpoint,
    /// Copy large content too, to s3://bucket/prefix (default: it stays in the data folder)
    #[arg(long, value_name = "URL")]
    pub objects: Option<Endpoint>,
    /// Count what would move; nothing is changed
    #[arg(long)]
    pub dry_run: bool,
}

/// `zegel topology`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Topology {
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    pub format: TopologyFormat,
    /// At a broker
    #[command(subcommand)]
    pub action: Option<TopologyAction>,
}

/// What to do with a broker's queues or topics.
#[derive(Debug, Subcommand)]
pub enum TopologyAction {
    /// Show what differs between the topology and the broker; nothing is changed
    #[command(after_help = "Example:\n  zegel topology plan --broker kafka://127.0.0.1:9092")]
    Plan(AtBroker),
    /// Declare what is missing; what is there and different is refused, and then nothing is declared
    #[command(after_help = "Example:\n  zegel topology apply --broker amqp://zegel@mq")]
    Apply(AtBroker),
    /// Like plan, with exit status 1 when anything differs
    #[command(after_help = "Example:\n  zegel topology verify --broker amqp://zegel@mq")]
    Verify(AtBroker),
}

/// Which broker.
#[derive(Debug, Args)]
pub struct AtBroker {
    /// Which broker (default: that of the settings)
    #[arg(long, value_name = "URL")]
    pub broker: Option<Endpoint>,
}

/// How the topology is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TopologyFormat {
    /// One line a channel
    Table,
    /// A Mermaid flowchart
    Mermaid,
    /// AsyncAPI 3, JSON
    Asyncapi,
}
