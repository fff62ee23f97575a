//! `zegel audit`: what is audited, whom it trusts, and where the report goes.

use clap::{ArgGroup, Args, value_parser};
use std::path::PathBuf;

/// Printed under `zegel audit --help`.
pub const HELP: &str = "\
Exit status:
  0   everything holds (notices may be there)
  10  altered: content contradicts what was time-stamped
  11  damaged: bytes of an archive are not those that were written
  12  missing: a bag, a window or a document's entry is absent
  13  untrusted: a certificate was not valid or revoked, or its CA is not in the trust file
  14  differs: two archives differ, and neither contradicts itself
  1, 2  the audit could not be made
Of several kinds of findings the first in this order decides.

The trust file (TOML) comes from outside the archive:
  [[ca]]
  file = \"ca.pem\"

Example:
  zegel audit --archive archive/ --trust trust.toml --report audit.json
  zegel audit --archive archive/ --against own-archive/ --trust trust.toml
  zegel audit --archive archive/ --document rx-17.xml --trust trust.toml
  zegel audit --evidence rx-17.tar --trust trust.toml";

/// `zegel audit`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("subject").args(["archive", "evidence"]).required(true)))]
pub struct Audit {
    /// The archive
    #[arg(long, value_name = "DIR")]
    pub archive: Option<PathBuf>,
    /// A second archive of the same hospital: it is audited too, and every difference is named
    #[arg(long, value_name = "DIR", requires = "archive")]
    pub against: Option<PathBuf>,
    /// Documents that must be in the archive: lines of REF,SHA-256 or REF,SHA-256,SALT
    #[arg(long, value_name = "FILE", requires = "archive", conflicts_with = "document")]
    pub documents: Option<PathBuf>,
    /// One document that must be in the archive, or that the evidence is about
    #[arg(long, value_name = "FILE")]
    pub document: Option<PathBuf>,
    /// Its reference, where it is known
    #[arg(long = "ref", value_name = "NUMBER", requires = "document", conflicts_with = "evidence")]
    pub reference: Option<u64>,
    /// The salt of its hash, 32 hexadecimal digits, where the hospital salts
    #[arg(long, value_name = "HEX", requires = "document", conflicts_with = "evidence")]
    pub salt: Option<String>,
    /// An evidence file about one document
    #[arg(long, value_name = "FILE")]
    pub evidence: Option<PathBuf>,
    /// Whom to trust: certificates that were obtained outside the archive
    #[arg(long, value_name = "FILE")]
    pub trust: PathBuf,
    /// Write the report: FILE (JSON), its page (.html), its signature (.sig) and the key to check it with (.pub.pem)
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// The auditor's key (Ed25519, PKCS#8 in PEM); made when it is not there (default: audit-key.pem beside the report)
    #[arg(long, value_name = "FILE", requires = "report")]
    pub key: Option<PathBuf>,
    /// Write XML, token and header of bags with findings (or of the first and last) there, for `openssl`
    #[arg(long, value_name = "DIR", requires = "archive")]
    pub extract: Option<PathBuf>,
    /// Threads (default: one a core)
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
}
