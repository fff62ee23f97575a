//! `zegel timestamp …`: enrolment, hashes, bags, archives and evidence.

use super::{Server, hospital, witness};
use clap::{Args, Subcommand, ValueEnum, value_parser};
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
    /// Run the hospital's agent: journal documents, have them stamped through any outage, verify and archive every bag
    #[command(after_help = hospital::AGENT_HELP)]
    Agent(hospital::Agent),
    /// Have documents stamped by the hospital's agent, or send lines of `REF,SHA-256` straight to the platform
    #[command(after_help = hospital::ADD_HELP)]
    Add(hospital::Add),
    /// Have a bag that the hospital made itself (TimeStampBag XML) stamped; the platform keeps it byte for byte
    #[command(after_help = "Example:\n  zegel timestamp own-bag NIHII-HOSPITAL:71000436 bag-17.xml --out bag-17.tsr")]
    OwnBag {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// Which hospital
        #[arg(value_name = "ADDRESS")]
        hospital: String,
        /// The bag
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Where the RFC 3161 response goes
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Write the evidence file of a document, its salt included, out of the hospital's journal and archive
    #[command(after_help = "Example:\n  zegel timestamp prove --journal stamps rx-17.xml --out rx-17.tar")]
    Prove(hospital::Prove),
    /// Say how many documents of the hospital's journal are where
    #[command(
        after_help = "Exit status: 0; 1 when the platform broke its word; 3 when it refused an entry\n\nExample:\n  \
        zegel timestamp status --journal stamps"
    )]
    Status {
        /// The hospital's journal folder
        #[arg(long, value_name = "DIR")]
        journal: PathBuf,
    },
    /// Watch over the platform's log: cosign its checkpoints while they continue each other
    #[command(subcommand, after_help = "Example:\n  zegel timestamp witness sign --state witness --log platform.vkey")]
    Witness(witness::Witness),
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
    /// Write a hospital's bags as an archive, or go on with the one that is there: what `zegel audit` checks
    #[command(after_help = "Examples:\n  zegel timestamp export NIHII-HOSPITAL:71000436 --out archive/\n  \
        zegel timestamp export NIHII-HOSPITAL:71000436 --side hospital --out own-archive/\n  \
        zegel timestamp export --journal stamps --out own-archive/ --list documents.csv")]
    Export {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// Which hospital
        #[arg(value_name = "ADDRESS", required_unless_present = "journal", conflicts_with = "journal")]
        hospital: Option<String>,
        /// Where to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// From the platform's archive, or from the copies in the hospital's mailbox
        #[arg(long, value_enum, default_value = "platform", conflicts_with = "journal")]
        side: Side,
        /// From the archive of the hospital's agent; no platform is needed
        #[arg(long, value_name = "DIR")]
        journal: Option<PathBuf>,
        /// Also write the journal's documents as `zegel audit --documents` takes them: REF,SHA-256,SALT
        #[arg(long, value_name = "FILE", requires = "journal")]
        list: Option<PathBuf>,
    },
    /// Delete the oldest segments of an archive whose windows all ended so many years ago
    #[command(after_help = "Example:\n  zegel timestamp expire archive/ --years 30 --dry-run")]
    Expire {
        /// The archive
        #[arg(value_name = "DIR")]
        archive: PathBuf,
        /// How long bags are kept
        #[arg(long, value_parser = value_parser!(u32).range(1..=1_000))]
        years: u32,
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
    },
    /// Renew time stamps whose certificates end soon, or hash all evidence anew: one token for a thousand bags (RFC 4998)
    #[command(after_help = RENEW_HELP)]
    Renew(Renew),
    /// Revoke a time-stamping unit of this platform's own authority: a new list names it, and another unit takes over
    #[command(
        after_help = "A platform that runs on the folder notices within a minute. With key-compromise none of the unit's tokens \
        counts by itself\nany more; with another reason those made before --since still do.\n\nExample:\n  \
        zegel timestamp revoke --reason key-compromise\n  \
        zegel timestamp revoke --unit 1 --reason superseded --since 2026-03-01T12:00:00Z"
    )]
    Revoke {
        /// Its number (default: the active one)
        #[arg(long, value_name = "NUMBER")]
        unit: Option<u32>,
        /// Why: key-compromise, superseded, cessation or unspecified
        #[arg(long, value_name = "REASON")]
        reason: String,
        /// From when on, YYYY-MM-DD or RFC 3339 (default: now)
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Only say what would be revoked
        #[arg(long)]
        dry_run: bool,
    },
    /// Put all evidence about one document into a file that can be checked without the archive
    #[command(
        after_help = "Example:\n  zegel timestamp evidence --archive archive/ --document rx-17.xml --trust trust.toml \
        --out rx-17.tar"
    )]
    Evidence {
        /// The archive
        #[arg(long, value_name = "DIR")]
        archive: PathBuf,
        /// Its reference; found by the document where it is not given
        #[arg(long = "ref", value_name = "NUMBER", required_unless_present = "document")]
        reference: Option<u64>,
        /// The document; its bytes go into the file, unless --digest-only
        #[arg(long, value_name = "FILE")]
        document: Option<PathBuf>,
        /// Leave the document out: its SHA-256 alone goes into the file
        #[arg(long, requires = "document")]
        digest_only: bool,
        /// The salt of its hash, 32 hexadecimal digits, where the hospital salts
        #[arg(long, value_name = "HEX")]
        salt: Option<String>,
        /// Certificates that go into the file
        #[arg(long, value_name = "FILE")]
        trust: PathBuf,
        /// Where to
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

const RENEW_HELP: &str = "May be run by cron. --digest is for the years before SHA-256 weakens: whoever has the documents runs it over \
    them, since\nthe bags alone name them by their SHA-256. The list is that of `zegel timestamp export --list`; it holds the \
    salts.\n\nExamples:\n  zegel timestamp renew archive/ --tsa https://tsa.example/ --trust trust.toml --within-days 400\n  \
    zegel timestamp renew archive/ --tsa https://tsa.example/ --trust trust.toml --digest sha-512 \
    --documents prescriptions/ --list documents.csv --dry-run";

/// `zegel timestamp renew`.
#[derive(Debug, Args)]
pub struct Renew {
    /// The archive
    #[arg(value_name = "DIR")]
    pub archive: PathBuf,
    /// The time-stamp authority (RFC 3161 over HTTP) that stamps anew
    #[arg(long, value_name = "URL")]
    pub tsa: String,
    /// What it stamps must count under this trust file
    #[arg(long, value_name = "FILE")]
    pub trust: PathBuf,
    /// Renew what would end within so many days
    #[arg(long, default_value_t = 400, value_parser = value_parser!(u32).range(1..=36_500))]
    pub within_days: u32,
    /// Hash everything anew in this digest, before the present one weakens (hash-tree renewal)
    #[arg(long, value_enum, conflicts_with = "within_days")]
    pub digest: Option<RehashIn>,
    /// The documents whose hashes are in the bags, one file each: they are hashed anew with their bags
    #[arg(long, value_name = "DIR", requires = "digest")]
    pub documents: Option<PathBuf>,
    /// The salts of the documents: REF,SHA-256,SALT
    #[arg(long, value_name = "FILE", requires = "documents")]
    pub list: Option<PathBuf>,
    /// Only say what is due
    #[arg(long)]
    pub dry_run: bool,
}

/// A digest to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RehashIn {
    /// SHA-384
    #[value(name = "sha-384")]
    Sha384,
    /// SHA-512
    #[value(name = "sha-512")]
    Sha512,
}

/// Whose copies an archive is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// The platform's archive
    Platform,
    /// What the hospital got in its mailbox
    Hospital,
}
