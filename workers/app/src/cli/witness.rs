//! `zegel timestamp witness …`: the hospital's or the auditor's watch over the platform's log.

use super::Server;
use clap::Subcommand;
use std::path::PathBuf;

/// Printed under `zegel timestamp witness sign --help`.
pub const SIGN_HELP: &str = "\
A witness signs a checkpoint of the platform's log only when the log that it saw last is the beginning of it, and keeps what it saw
before its signature leaves the folder. A platform that shows two histories needs two witnesses who never compare.

Exit status:
  0  cosigned, and handed in (or written, with --request)
  1  ALARM: the log does not continue what this witness saw; both checkpoints are kept in the folder as evidence
  3  refused: not signed by this log, not the size that was seen last, or the platform does not know this witness
  4  the platform cannot be reached

Examples:
  zegel timestamp witness sign --state witness --log platform.vkey
  zegel timestamp witness sign --state witness --log platform.vkey --every 60
  zegel timestamp witness sign --state witness --log platform.vkey --request add-checkpoint.txt";

/// `zegel timestamp witness …`.
#[derive(Debug, Subcommand)]
pub enum Witness {
    /// Make the witness's key; its public half is for the platform's settings and the auditor's trust file
    #[command(after_help = "Example:\n  zegel timestamp witness key hospital.example/witness --state witness")]
    Key {
        /// The witness's name, in every signature: no spaces, no plus signs
        #[arg(value_name = "NAME")]
        name: String,
        /// The witness's folder; made if it is not there
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
    },
    /// Cosign the newest checkpoint, if it continues what was seen last
    #[command(after_help = SIGN_HELP)]
    Sign {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// The witness's folder
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// The log's verifier key (name+id+key), in a file; obtained from elsewhere than the log
        #[arg(long, value_name = "FILE")]
        log: PathBuf,
        /// Go on, so many seconds apart
        #[arg(long, value_name = "SECONDS", conflicts_with = "request", value_parser = clap::value_parser!(u64).range(1..=86_400))]
        every: Option<u64>,
        /// Answer an add-checkpoint request (C2SP tlog-witness) of a file, - for standard input; no platform is needed
        #[arg(long, value_name = "FILE")]
        request: Option<PathBuf>,
    },
}
