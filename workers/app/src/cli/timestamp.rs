//! `zegel timestamp …` as it is typed.

use super::Server;
use clap::Subcommand;
use std::path::PathBuf;

/// `zegel timestamp …`.
#[derive(Debug, Subcommand)]
pub enum Timestamp {
    /// Begin a hospital's windows
    #[command(after_help = "Example:\n  zegel timestamp enrol NIHII-HOSPITAL:71000436")]
    Enrol {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// Which hospital
        #[arg(value_name = "ADDRESS")]
        hospital: String,
    },
    /// Have hashes stamped: lines of `REF,SHA-256` from a file or standard input
    #[command(
        after_help = "Example:\n  sha256sum rx-*.xml | awk '{print NR\",\"$1}' | zegel timestamp add NIHII-HOSPITAL:71000436 -"
    )]
    Add {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// Which hospital
        #[arg(value_name = "ADDRESS")]
        hospital: String,
        /// File with lines of REF,HEX; - is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// List a hospital's bags
    #[command(after_help = "Example:\n  zegel timestamp bags NIHII-HOSPITAL:71000436")]
    Bags {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// Which hospital
        #[arg(value_name = "ADDRESS")]
        hospital: String,
    },
    /// Write a hospital's bags, tokens and listing, and the authority's certificate, into a folder
    #[command(after_help = "Example:\n  zegel timestamp fetch NIHII-HOSPITAL:71000436 --out bags/")]
    Fetch {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// Which hospital
        #[arg(value_name = "ADDRESS")]
        hospital: String,
        /// Where to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Verify bags and tokens in a folder offline: every signature, and the chain
    #[command(
        after_help = "Example:\n  zegel timestamp verify NIHII-HOSPITAL:71000436 bags/ --ca bags/ca.pem --listing bags/bags.ndjson"
    )]
    Verify {
        /// Whose bags they are
        #[arg(value_name = "ADDRESS")]
        hospital: String,
        /// Folder with N.xml and N.tsr
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// The authority's certificate
        #[arg(long, value_name = "FILE")]
        ca: PathBuf,
        /// What the platform listed (bags.ndjson of `fetch`): with it windows and chain are followed too
        #[arg(long, value_name = "FILE")]
        listing: Option<PathBuf>,
    },
}
