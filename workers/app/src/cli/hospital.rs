//! `zegel timestamp agent|add|prove|status`: the hospital's own side, over a journal folder of its own.

use super::Server;
use clap::{Args, value_parser};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Printed under `zegel timestamp agent --help`.
pub const AGENT_HELP: &str = "\
The journal folder holds the journal (journal.db, keys.toml: keep copies of both, together), the archive (archive/), the pinned
certificate (ca.pem), bags that did not verify (rejected/), and the address and the token of the agent's own front.

What the agent serves on its address, with `Authorization: Bearer $(cat DIR/agent.token)`:
  POST /v1/documents[?ref=N]   a document as the body; 202: it is durable in the journal
  POST /v1/hashes              {\"entries\":[{\"hash\":HEX,\"ref\":N}]}, ref may be left out
  GET  /v1/documents/{SHA-256} what became of a document; /v1/entries?from=N, /v1/status

Exit status with --once:
  0  every document stands in a bag that verified
  1  the platform broke its word: a bag does not verify, or lacks an entry that was accepted
  3  the platform refused an entry
  4  not everything was stamped within --wait

Examples:
  zegel timestamp agent NIHII-HOSPITAL:71000436 --journal /var/lib/stamps --folder /srv/prescriptions
  zegel timestamp agent NIHII-HOSPITAL:71000436 --journal stamps --trust trust.toml --listen 127.0.0.1:9480
  zegel timestamp agent NIHII-HOSPITAL:71000436 --journal stamps --folder outbox --once --wait 600";

/// Printed under `zegel timestamp add --help`.
pub const ADD_HELP: &str = "\
With --journal, documents are durable in the hospital's journal, salted, before the command ends, whether the platform can be
reached or not; an agent over the same folder sends them. Without it, lines of REF,SHA-256 go to the platform at once.

Examples:
  zegel timestamp add NIHII-HOSPITAL:71000436 --journal stamps rx-17.xml rx-18.xml
  produce-prescription | zegel timestamp add NIHII-HOSPITAL:71000436 --journal stamps --ref 17 -
  zegel timestamp add NIHII-HOSPITAL:71000436 --journal stamps --hashes list.csv
  sha256sum rx-*.xml | awk '{print NR\",\"$1}' | zegel timestamp add NIHII-HOSPITAL:71000436 -";

/// `zegel timestamp agent`.
#[derive(Debug, Args)]
pub struct Agent {
    /// Which platform
    #[command(flatten)]
    pub server: Server,
    /// Which hospital
    #[arg(value_name = "ADDRESS")]
    pub hospital: String,
    /// The hospital's journal folder; made if it is not there
    #[arg(long, value_name = "DIR")]
    pub journal: PathBuf,
    /// Take every complete file of this folder; answers are written beside the files
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Where documents are taken over HTTP; loopback only, port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Whose tokens count (as for `zegel audit`); default: the authority that the platform shows first, from then on
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
    /// A new journal does not salt: hashes of documents that could be guessed are then open to guessing
    #[arg(long)]
    pub plain: bool,
    /// The first reference that a new journal gives
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = value_parser!(u64).range(1..=1 << 60))]
    pub first_ref: u64,
    /// End when everything is stamped
    #[arg(long)]
    pub once: bool,
    /// With --once: give up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 900, requires = "once")]
    pub wait: u64,
}

/// `zegel timestamp add`.
#[derive(Debug, Args)]
pub struct Add {
    /// Which platform
    #[command(flatten)]
    pub server: Server,
    /// Which hospital
    #[arg(value_name = "ADDRESS")]
    pub hospital: String,
    /// Documents (with --journal), or one file with lines of REF,HEX; - is standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Into the hospital's journal instead of straight to the platform
    #[arg(long, value_name = "DIR")]
    pub journal: Option<PathBuf>,
    /// The hospital's number for the one document
    #[arg(long = "ref", value_name = "NUMBER", requires = "journal", conflicts_with = "hashes")]
    pub reference: Option<u64>,
    /// The files are lists with a line [REF,]SHA-256 a document
    #[arg(long, requires = "journal")]
    pub hashes: bool,
}

/// `zegel timestamp prove`.
#[derive(Debug, Args)]
pub struct Prove {
    /// The hospital's journal folder
    #[arg(long, value_name = "DIR")]
    pub journal: PathBuf,
    /// The document
    #[arg(value_name = "DOCUMENT")]
    pub document: PathBuf,
    /// Its reference, where it was stamped under several
    #[arg(long = "ref", value_name = "NUMBER")]
    pub reference: Option<u64>,
    /// Leave the document out: its SHA-256 alone goes into the file
    #[arg(long)]
    pub digest_only: bool,
    /// Certificates that go into the file; default: the one that the agent holds to
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
    /// Where to
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}
