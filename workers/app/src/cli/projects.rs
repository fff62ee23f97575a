//! Commands about TTP projects: papers from the first draft to the end, and what runs.

use super::Server;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `zegel project …`.
#[derive(Debug, Subcommand)]
pub enum Project {
    /// Make a private key and a certificate for a party or for an officer, where no other certificate is at hand
    #[command(after_help = "Example:\n  zegel project key \"St Elsewhere\" --out hospital\n  \
        # writes hospital.key (keep it) and hospital.pem (give it to the others)")]
    Key {
        /// Name in the certificate; not a person's number
        #[arg(value_name = "NAME")]
        name: String,
        /// Where to: FILE.key and FILE.pem
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Let whoever holds this certificate's key decide in this installation
    #[command(after_help = "Example:\n  zegel project officer officer.pem --data /var/lib/zegel")]
    Officer {
        /// The officer's certificate, PEM
        #[arg(value_name = "FILE")]
        certificate: PathBuf,
    },
    /// Write a document to work on
    #[command(after_help = "Example:\n  zegel project draft lab-registry --sender NIHII-HOSPITAL:71000436 \\\n      \
        --recipient CBE:0123456749 --batch sample.csv \\\n      \
        --certificate NIHII-HOSPITAL:71000436=hospital.pem --certificate CBE:0123456749=registry.pem > lab.toml")]
    Draft(Draft),
    /// Check a document, and who has signed it
    #[command(after_help = "Example:\n  zegel project check lab.toml")]
    Check {
        /// The document
        #[arg(value_name = "FILE")]
        document: PathBuf,
    },
    /// Sign a document as one of its parties
    #[command(
        after_help = "Examples:\n  zegel project sign lab.toml --party CBE:0123456749 --key registry.key --certificate registry.pem\n  \
        openssl cms -sign -binary -md sha256 -signer registry.pem -inkey registry.key -in lab.toml -outform DER -out lab.toml.2.p7s"
    )]
    Sign {
        /// The document
        #[arg(value_name = "FILE")]
        document: PathBuf,
        /// Who signs
        #[arg(long, value_name = "ADDRESS")]
        party: String,
        /// The party's key and certificate
        #[command(flatten)]
        identity: IdentityFiles,
    },
    /// Countersign a document that every party has signed; it takes effect
    #[command(
        after_help = "Examples:\n  zegel project activate lab.toml --key officer.key --certificate officer.pem --effective 2026-12-01\n  \
        zegel project activate lab.toml --trial     # on a machine of one's own: makes every key, signs for everybody"
    )]
    Activate {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// The document; the signatures lie beside it
        #[arg(value_name = "FILE")]
        document: PathBuf,
        /// The officer's key and certificate
        #[command(flatten)]
        identity: OptionalIdentity,
        /// First day, YYYY-MM-DD, UTC (default: today)
        #[arg(long, value_name = "DAY")]
        effective: Option<String>,
        /// Make a key for every party and for an officer, and sign for all of them: for trying the platform
        #[arg(long, conflicts_with_all = ["key", "certificate"])]
        trial: bool,
    },
    /// Show a project's document, its decisions, and what holds now
    #[command(after_help = "Example:\n  zegel project show lab-registry")]
    Show {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// Which project
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Show what differs between two documents, or between the one in force and a file
    #[command(
        after_help = "Examples:\n  zegel project diff lab-1.toml lab-2.toml\n  zegel project diff lab-registry lab-2.toml"
    )]
    Diff {
        /// Which platform, for a project's name
        #[command(flatten)]
        server: Server,
        /// A document, or the name of a project
        #[arg(value_name = "FILE|NAME")]
        old: String,
        /// A document
        #[arg(value_name = "FILE")]
        new: PathBuf,
    },
    /// End a project
    #[command(
        after_help = "Example:\n  zegel project retire lab-registry --reason \"the study has ended\" --key officer.key --certificate officer.pem"
    )]
    Retire {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// Which project
        #[arg(value_name = "NAME")]
        name: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// The officer's key and certificate
        #[command(flatten)]
        identity: IdentityFiles,
        /// First day without it, YYYY-MM-DD, UTC (default: today)
        #[arg(long, value_name = "DAY")]
        effective: Option<String>,
        /// Destroy the key root too: nobody can resolve the project's tokens any more. Copies of the key file must be
        /// destroyed by who made them
        #[arg(long)]
        destroy_keys: bool,
    },
    /// Make tokens with the next generation of keys
    #[command(
        after_help = "Examples:\n  zegel project rotate lab-registry --key officer.key --certificate officer.pem\n  \
        zegel project rotate lab-registry --convert old.csv --out new.csv --key officer.key --certificate officer.pem"
    )]
    Rotate(Rotate),
    /// Preview what the recipient of a batch would get, under a throw-away key; nothing is sent
    #[command(after_help = "Example:\n  zegel project try --project lab.toml --batch patients.csv --out preview.csv")]
    Try {
        /// The document
        #[arg(long, value_name = "FILE")]
        project: PathBuf,
        /// The batch
        #[arg(long, value_name = "FILE")]
        batch: PathBuf,
        /// Where the preview goes
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Who would send (default: the first sender)
        #[arg(long, value_name = "ADDRESS")]
        sender: Option<String>,
    },
    /// Write keys that encode batches of one sender and cannot decode, for a process of its own; one-way projects only
    #[command(
        after_help = "Example:\n  zegel project encode-keys counts --sender NIHII-HOSPITAL:71000436 --out encode.keys"
    )]
    EncodeKeys {
        /// Which project
        #[arg(value_name = "NAME")]
        name: String,
        /// Whose batches
        #[arg(long, value_name = "ADDRESS")]
        sender: String,
        /// Where the keys go
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Encode a batch with such keys, and nothing else: no data folder, no platform
    #[command(after_help = "Example:\n  zegel project encode --project counts.toml --keys encode.keys \\\n      \
        --sender NIHII-HOSPITAL:71000436 --batch patients.csv --out encoded.csv")]
    Encode(Encode),
    /// Make the key pair of a decode role: OUT.key stays with the role, OUT.pub goes into the document as decode_key
    #[command(after_help = "Example:\n  zegel project decode-key --out tracing-office")]
    DecodeKey {
        /// Where the keys go, without an ending
        #[arg(long, value_name = "OUT")]
        out: PathBuf,
    },
    /// Undo what a project escrows, with the decode role's private key and nothing else: no data folder, no platform
    #[command(after_help = "Example:\n  zegel project decode --project trace.toml --key tracing-office.key \\\n      \
        --batch found.csv --out named.csv")]
    Decode(Decode),
    /// Show what small cells held back, batch by batch
    #[command(after_help = "Example:\n  zegel project cells open-register")]
    Cells {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// Which project
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// List every project with what holds for it now
    #[command(after_help = "Example:\n  zegel project status")]
    Status {
        /// Which platform
        #[command(flatten)]
        server: Server,
    },
}

/// `zegel project draft`.
#[derive(Debug, Args)]
pub struct Draft {
    /// The project's name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Who may send (repeatable)
    #[arg(long, value_name = "ADDRESS", required = true)]
    pub sender: Vec<String>,
    /// Who gets the result
    #[arg(long, value_name = "ADDRESS")]
    pub recipient: String,
    /// The decision that allows it
    #[arg(long, value_name = "TEXT")]
    pub deliberation: Option<String>,
    /// First day (default: today)
    #[arg(long, value_name = "DAY")]
    pub from: Option<String>,
    /// Last day (default: five years later)
    #[arg(long, value_name = "DAY")]
    pub until: Option<String>,
    /// A sample CSV batch, whose columns become fields
    #[arg(long, value_name = "FILE")]
    pub batch: Option<PathBuf>,
    /// The certificate with which a party signs, ADDRESS=FILE.pem (repeatable)
    #[arg(long, value_name = "ADDRESS=FILE")]
    pub certificate: Vec<String>,
}

/// `zegel project encode`.
#[derive(Debug, Args)]
pub struct Encode {
    /// The document
    #[arg(long, value_name = "FILE")]
    pub project: PathBuf,
    /// What `zegel project encode-keys` wrote
    #[arg(long, value_name = "FILE")]
    pub keys: PathBuf,
    /// Whose batch
    #[arg(long, value_name = "ADDRESS")]
    pub sender: String,
    /// The batch
    #[arg(long, value_name = "FILE")]
    pub batch: PathBuf,
    /// Where the result goes
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// `zegel project rotate`.
#[derive(Debug, Args)]
pub struct Rotate {
    /// Which platform
    #[command(flatten)]
    pub server: Server,
    /// Which project
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The officer's key and certificate
    #[command(flatten)]
    pub identity: IdentityFiles,
    /// First day of the new keys, YYYY-MM-DD, UTC (default: today)
    #[arg(long, value_name = "DAY")]
    pub effective: Option<String>,
    /// Decide nothing: make the tokens in this data set of the recipient anew with the keys in force, and sign what was done
    #[arg(long, value_name = "FILE", conflicts_with = "effective")]
    pub convert: Option<PathBuf>,
    /// Where the converted data set goes; FILE.manifest.toml and its signature lie beside it
    #[arg(long, value_name = "FILE", requires = "convert")]
    pub out: Option<PathBuf>,
    /// Only count what would be converted
    #[arg(long, requires = "convert")]
    pub dry_run: bool,
}

/// A private key and its certificate.
#[derive(Debug, Args)]
pub struct IdentityFiles {
    /// Private key, PKCS#8 in PEM, RSA or P-256, readable by its owner only
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Its certificate, PEM
    #[arg(long, value_name = "FILE")]
    pub certificate: PathBuf,
}

/// A private key and its certificate, where a trial needs none.
#[derive(Debug, Args)]
pub struct OptionalIdentity {
    /// Private key, PKCS#8 in PEM, RSA or P-256, readable by its owner only
    #[arg(long, value_name = "FILE", required_unless_present = "trial", requires = "certificate")]
    pub key: Option<PathBuf>,
    /// Its certificate, PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    pub certificate: Option<PathBuf>,
}

/// `zegel project decode`.
#[derive(Debug, Args)]
pub struct Decode {
    /// The document
    #[arg(long, value_name = "FILE")]
    pub project: PathBuf,
    /// The decode role's private key
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// What was delivered, or a part of it with its columns
    #[arg(long, value_name = "FILE")]
    pub batch: PathBuf,
    /// Where the result goes
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}
