//! Commands of Seals, the synchronous coding service.

use super::Server;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `zegel seals …`.
#[derive(Debug, Subcommand)]
pub enum Seals {
    /// Encode the lines of a file or of standard input; one coded value a line
    #[command(
        after_help = "Example:\n  zegel seals encode invoices --caller NIHII-HOSPITAL:71000436 --algorithm SIV patients.txt"
    )]
    Encode {
        /// What and as whom
        #[command(flatten)]
        call: Call,
        /// How: SIV (the same again), HMAC (the same again, nobody can decode it) GCM (never the same) or FF1 (digits
        /// for digits, the same again)
        #[arg(long, value_name = "CODE", default_value = "SIV", value_parser = ["SIV", "HMAC", "GCM", "FF1"])]
        algorithm: String,
    },
    /// Decode coded values, one a line
    #[command(after_help = "Example:\n  zegel seals decode invoices --caller CBE:0123456749 codes.txt")]
    Decode {
        /// What and as whom
        #[command(flatten)]
        call: Call,
        /// The lines are digits, as FF1 makes them
        #[arg(long)]
        digits: bool,
    },
    /// Show who decoded how much, and who was refused
    #[command(after_help = "Example:\n  zegel seals log invoices")]
    Log {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// Which application: the name of its project
        #[arg(value_name = "APPLICATION")]
        application: String,
    },
}

/// A call of the service.
#[derive(Debug, Args)]
pub struct Call {
    /// Which platform
    #[command(flatten)]
    pub server: Server,
    /// Which application: the name of its project
    #[arg(value_name = "APPLICATION")]
    pub application: String,
    /// Who calls
    #[arg(long, value_name = "ADDRESS")]
    pub caller: String,
    /// File with one item a line; - is standard input, so that no number stands in the shell's history
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}
