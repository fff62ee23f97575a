//! `zegel mutations …` as it is typed.

use super::Server;
use clap::{Subcommand, value_parser};
use std::path::PathBuf;

/// `zegel mutations …`.
#[derive(Debug, Subcommand)]
pub enum Mutations {
    /// Begin (or with --withdraw end) following persons: lines of SSIN from a file or standard input
    #[command(after_help = "Example:\n  zegel mutations inscribe CBE:0123456749 patients.txt --from 2026-01-01")]
    Inscribe {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// Who follows
        #[arg(value_name = "ADDRESS")]
        organisation: String,
        /// File with one SSIN a line; - is standard input, so that no number stands in the shell's history
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// First day, YYYY-MM-DD
        #[arg(long, value_name = "DAY")]
        from: String,
        /// Last day, YYYY-MM-DD
        #[arg(long, value_name = "DAY")]
        until: Option<String>,
        /// End the inscription now
        #[arg(long)]
        withdraw: bool,
    },
    /// Hand the registry's events over: NDJSON from a file or standard input
    #[command(after_help = "Example:\n  zegel mutations feed events.ndjson")]
    Feed {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// File with one event a line; - is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Pull notifications after a number; whom they are about stands in --json only
    #[command(after_help = "Example:\n  zegel mutations pull CBE:0123456749 --after 41")]
    Pull {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// Whose feed
        #[arg(value_name = "ADDRESS")]
        organisation: String,
        /// The last number that is known already
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        after: u64,
        /// At most so many, up to 100
        #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = value_parser!(u64).range(1..=100))]
        limit: u64,
    },
    /// Acknowledge everything up to a number
    #[command(after_help = "Example:\n  zegel mutations ack CBE:0123456749 42")]
    Ack {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// Whose feed
        #[arg(value_name = "ADDRESS")]
        organisation: String,
        /// The last number taken
        #[arg(value_name = "NUMBER")]
        up_to: u64,
    },
}
