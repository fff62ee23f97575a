//! The command line of what a TTP project delivers and takes back.

use super::Server;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `zegel inbox get`.
#[derive(Debug, Subcommand)]
pub enum InboxGet {
    /// Write a message's documents into a folder; of a TTP project's delivery, say the handle to answer to
    #[command(after_help = "Example:\n  zegel inbox get 6f0c…e1 --out received/\n  \
        zegel inbox get 6f0c…e1 --out received/ --key registry.key --certificate registry.pem")]
    Get {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// Which message
        #[arg(value_name = "ID")]
        id: String,
        /// Where its documents are written
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Whose mailbox (default: the one whose token the data folder holds, if it is one)
        #[arg(long, value_name = "ADDRESS")]
        address: Option<String>,
        /// Of a split project: the private key that the sealed part opens with; both parts are joined in joined.csv
        #[arg(long, value_name = "FILE", requires = "certificate")]
        key: Option<PathBuf>,
        /// The certificate that goes with it
        #[arg(long, value_name = "FILE", requires = "key")]
        certificate: Option<PathBuf>,
    },
}

/// `zegel return`.
#[derive(Debug, Args)]
pub struct Return {
    /// Which platform
    #[command(flatten)]
    pub server: Server,
    /// The handle of the delivery, as `zegel inbox get` says it
    #[arg(value_name = "HANDLE")]
    pub handle: String,
    /// The rows that go back, each with its row number and tokens
    #[arg(long, value_name = "FILE")]
    pub batch: PathBuf,
    /// Who sends back (default: the one whose token the data folder holds, if it is one)
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<String>,
    /// The project (default: what the delivery in the mailbox says)
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
    /// Wait so many seconds for the TTP's answer
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<u64>,
}
