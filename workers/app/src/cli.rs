//! The command line: one executable, its work by subcommand. Every command has `--json` and an example in its help.

mod audit;
mod backends;
pub mod hospital;
mod keys;
mod mutations;
mod projects;
mod quarantine;
mod returns;
mod seals;
mod timestamp;
pub mod witness;

pub use audit::Audit;
pub use backends::{Backends, Migrate, Topology, TopologyAction, TopologyFormat};
pub use keys::Keys;
pub use mutations::Mutations;
pub use projects::{Decode, Draft, Encode, IdentityFiles, OptionalIdentity, Project, Rotate};
pub use quarantine::Quarantine;
pub use returns::{InboxGet, Return};
pub use seals::{Call, Seals};
pub use timestamp::{RehashIn, Renew, Side, Timestamp};

use crate::failed::EXIT_HELP;
use crate::roles::Role;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum, value_parser};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Zegel: the asynchronous spine of a health-data platform.
#[derive(Debug, Parser)]
#[command(name = "zegel", version, about, after_help = EXIT_HELP, arg_required_else_help = true)]
pub struct Cli {
    /// Print one JSON object instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Settings file (default: zegel.toml in the data folder, when there is one)
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data folder (default: $ZEGEL_DATA, or zegel-data)
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the platform: all roles in one process
    #[command(after_help = "Examples:\n  zegel up --data /var/lib/zegel\n  \
        zegel up --data /var/lib/zegel --store postgres://zegel@db/zegel --broker amqp://zegel@mq --roles gateway,relays")]
    Up(Up),
    /// Run a whole day in seconds: batches, receipts, stamps, mutations; then check every invariant
    #[command(after_help = "Example:\n  zegel demo --data /tmp/zegel-demo --window 3\n  \
        zegel demo --data /tmp/d --project lab.toml --batch patients.csv")]
    Demo(Demo),
    /// Send files to mailboxes or to a TTP project, once or from a drop folder
    #[command(
        after_help = "Example:\n  zegel send --sender NIHII-HOSPITAL:71000436 --project lab-registry batch.csv\n  \
        zegel send --sender NIHII-HOSPITAL:71000436 --project lab-registry --dry-run batch.csv\n  \
        zegel send --sender NIHII-HOSPITAL:71000436 --project lab-registry --folder /srv/outbox"
    )]
    Send(Send),
    /// Draft, sign, activate, amend, retire TTP projects; preview what a recipient would get
    #[command(
        subcommand,
        after_help = "Example:\n  zegel project activate lab.toml --trial\n  zegel project try --project lab.toml --batch patients.csv --out preview.csv"
    )]
    Project(Project),
    /// See which batches stand still and why; release or drop them
    #[command(subcommand, after_help = "Example:\n  zegel quarantine show lab-registry/3")]
    Quarantine(Quarantine),
    /// Code single identifiers and decode them, under a project that allows it
    #[command(
        subcommand,
        after_help = "Example:\n  zegel seals encode invoices --caller NIHII-HOSPITAL:71000436 patients.txt"
    )]
    Seals(Seals),
    /// List a mailbox, read, move and delete its messages
    #[command(
        args_conflicts_with_subcommands = true,
        subcommand_negates_reqs = true,
        after_help = "Example:\n  zegel inbox CBE:0123456749 --read 6f0c…e1 --out received/\n  \
        zegel inbox get 6f0c…e1 --out received/"
    )]
    Inbox(Inbox),
    /// Send back what was delivered for a TTP project, enriched, to the sender whom you do not know
    #[command(after_help = "Example:\n  zegel return 6f0c…e1 --batch scored.csv --wait 60\n  \
        zegel return 6f0c…e1 --batch scored.csv --address CBE:0123456749 --project lab-registry")]
    Return(Return),
    /// Show the acknowledgements and errors in a sender's mailbox, or the life of one submission
    #[command(after_help = "Example:\n  zegel receipts NIHII-HOSPITAL:71000436")]
    Receipts(Receipts),
    /// Enrol a hospital, stamp hashes, fetch and verify bags
    #[command(subcommand, after_help = "Example:\n  zegel timestamp bags NIHII-HOSPITAL:71000436")]
    Timestamp(Timestamp),
    /// Audit archives of time stamps offline: every byte, every bag, the chain, and the documents that are asked for
    #[command(after_help = audit::HELP)]
    Audit(Audit),
    /// Follow persons, feed the registry's mutations, pull and acknowledge a feed
    #[command(subcommand, after_help = "Example:\n  zegel mutations pull CBE:0123456749")]
    Mutations(Mutations),
    /// Open mailboxes, renew a token, and list the mailboxes whose tokens this data folder holds
    #[command(subcommand, after_help = "Example:\n  zegel mailbox open NIHII-HOSPITAL:71000436")]
    Mailbox(Mailbox),
    /// Look at messages that were given up, replay or drop them
    #[command(subcommand, after_help = "Example:\n  zegel dead replay ttp.inbound/3/17 --dry-run")]
    Dead(Dead),
    /// Seal the key file under a passphrase, exchange it, and see how it stands
    #[command(subcommand, after_help = "Example:\n  zegel keys status --data /var/lib/zegel")]
    Keys(Keys),
    /// Check a data folder and its store while no platform runs, invariant by invariant; both are only read
    #[command(
        after_help = "Examples:\n  zegel check --data /var/lib/zegel\n  zegel check --data /var/lib/zegel --store postgres://zegel@db/zegel"
    )]
    Check,
    /// Print every channel, or compare the channels with a foreign broker and declare what is missing
    #[command(
        after_help = "Examples:\n  zegel topology --format mermaid\n  zegel topology plan --broker amqp://zegel@mq"
    )]
    Topology(Topology),
    /// Move an embedded store's whole content into PostgreSQL, offline; go on with the same command after a cut
    #[command(
        after_help = "Example:\n  zegel migrate --data /var/lib/zegel --store postgres://zegel@db/zegel --dry-run"
    )]
    Migrate(Migrate),
    /// Show the settings in force, the commented defaults, or check a settings file
    #[command(subcommand, after_help = "Example:\n  zegel config default > zegel.toml")]
    Config(Config),
}

/// `zegel up`.
#[derive(Debug, Args)]
pub struct Up {
    /// Where HTTP is served (default: 127.0.0.1:8480; port 0 takes a free one)
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Only some roles; possible where the store is PostgreSQL
    #[arg(long, value_delimiter = ',', value_name = "ROLE")]
    pub roles: Vec<Role>,
    /// Which backends
    #[command(flatten)]
    pub backends: Backends,
}

/// `zegel demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// A project document; the next --batch is sent to it by its first sender (repeatable, in pairs)
    #[arg(long, value_name = "FILE.toml")]
    pub project: Vec<PathBuf>,
    /// A CSV or NDJSON batch for the --project of the same position
    #[arg(long, value_name = "FILE")]
    pub batch: Vec<PathBuf>,
    /// Length of a time-stamp window in seconds: 1 to 60, or whole minutes up to an hour
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    pub window: u32,
    /// Makes the generated patients repeatable
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Delete what an earlier demo left in the folder and begin anew
    #[arg(long)]
    pub force: bool,
    /// Which backends; they must be empty, or what a demo left in them
    #[command(flatten)]
    pub backends: Backends,
}

/// Where the platform is, for commands that talk to it.
#[derive(Debug, Clone, Args)]
pub struct Server {
    /// The platform (default: $ZEGEL_URL, or what zegel.address in the data folder says)
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Bearer token (default: $ZEGEL_TOKEN, or the token in the data folder's credentials)
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
}

/// `zegel send`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("destination").args(["to", "project"]).required(true)))]
#[command(group(ArgGroup::new("what").args(["folder", "files"]).required(true)))]
pub struct Send {
    /// Which platform
    #[command(flatten)]
    pub server: Server,
    /// Who sends
    #[arg(long, value_name = "ADDRESS")]
    pub sender: String,
    /// To whom (repeatable)
    #[arg(long, value_name = "ADDRESS")]
    pub to: Vec<String>,
    /// The TTP project that pseudonymises the file
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
    /// Title (default: the file's name)
    #[arg(long)]
    pub title: Option<String>,
    /// 1 to 13 letters and digits; the same again is the same submission (default: made from name, content and
    /// destination)
    #[arg(long, value_name = "ID", conflicts_with = "folder")]
    pub publication_id: Option<String>,
    /// Wanted acknowledgements
    #[arg(long, value_delimiter = ',', default_value = "published", value_parser = ["published", "received", "read"])]
    pub receipts: Vec<String>,
    /// Custom metadata, KEY=VALUE (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub meta: Vec<String>,
    /// Wait so many seconds for the final answer
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<u64>,
    /// Check the files against the project and list every bad row; nothing is sent
    #[arg(long, requires = "project", conflicts_with_all = ["folder", "wait", "to"])]
    pub dry_run: bool,
    /// Watch this folder and send every complete file in it once
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// With --folder: end when every file there has its answer
    #[arg(long, requires = "folder")]
    pub once: bool,
    /// Files to send
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// `zegel inbox`.
#[derive(Debug, Args)]
pub struct Inbox {
    /// Which platform
    #[command(flatten)]
    pub server: Server,
    /// One message instead of a list
    #[command(subcommand)]
    pub get: Option<InboxGet>,
    /// Whose mailbox
    #[arg(value_name = "ADDRESS", required = true)]
    pub address: Option<String>,
    /// Which folder
    #[arg(long, value_enum, default_value = "inbox")]
    pub folder: Folder,
    /// First message, from 1
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = value_parser!(u64).range(1..))]
    pub start: u64,
    /// At most so many, up to 100
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = value_parser!(u64).range(1..=100))]
    pub limit: u64,
    /// Read this message
    #[arg(long, value_name = "ID", conflicts_with_all = ["move_to", "delete"])]
    pub read: Option<String>,
    /// With --read: write its documents into this folder
    #[arg(long, value_name = "DIR", requires = "read")]
    pub out: Option<PathBuf>,
    /// Move --items to this folder
    #[arg(long, value_enum, requires = "items", conflicts_with = "delete")]
    pub move_to: Option<Folder>,
    /// Delete --items for good
    #[arg(long, requires = "items")]
    pub delete: bool,
    /// Which messages to move or delete
    #[arg(long, value_name = "ID", num_args = 1..)]
    pub items: Vec<String>,
}

/// The folders of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Folder {
    /// Received messages
    Inbox,
    /// Sent messages
    Sent,
    /// Received messages thrown away
    Bin,
}

impl Folder {
    /// Its name in a path.
    pub fn name(self) -> &'static str {
        match self {
            Folder::Inbox => "inbox",
            Folder::Sent => "sent",
            Folder::Bin => "bin",
        }
    }
}

/// `zegel receipts`.
#[derive(Debug, Args)]
pub struct Receipts {
    /// Which platform
    #[command(flatten)]
    pub server: Server,
    /// Whose receipts
    #[arg(value_name = "ADDRESS")]
    pub address: String,
    /// The whole life of one submission
    #[arg(long, value_name = "ID")]
    pub submission: Option<String>,
}

/// `zegel mailbox …`.
#[derive(Debug, Subcommand)]
pub enum Mailbox {
    /// Open a mailbox and keep its token in the data folder's credentials
    #[command(after_help = "Example:\n  zegel mailbox open NIHII-HOSPITAL:71000436 --max-bytes 1073741824")]
    Open {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// Whose mailbox
        #[arg(value_name = "ADDRESS")]
        address: String,
        /// Capacity in bytes (default: mailbox.capacity of the settings)
        #[arg(long, value_name = "BYTES")]
        max_bytes: Option<u64>,
        /// Print the token instead of keeping it
        #[arg(long)]
        print_token: bool,
    },
    /// Get a new token in place of all earlier ones, which end; its owner finds a notice in the box
    #[command(after_help = "Example:\n  zegel mailbox token NIHII-HOSPITAL:71000436")]
    Token {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// Whose mailbox
        #[arg(value_name = "ADDRESS")]
        address: String,
        /// Print the token instead of keeping it
        #[arg(long)]
        print_token: bool,
    },
    /// List the mailboxes whose tokens the data folder holds
    #[command(after_help = "Example:\n  zegel mailbox list --data /var/lib/zegel")]
    List,
}

/// `zegel dead …`. A dead letter is named CHANNEL/PARTITION/NUMBER.
#[derive(Debug, Subcommand)]
pub enum Dead {
    /// List dead letters
    #[command(after_help = "Example:\n  zegel dead list --channel ttp.inbound")]
    List {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// Only this channel
        #[arg(long)]
        channel: Option<String>,
    },
    /// Show what is known of one: never its content
    #[command(after_help = "Example:\n  zegel dead show ttp.inbound/3/17")]
    Show {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// CHANNEL/PARTITION/NUMBER
        letter: String,
    },
    /// Give one back to its channel, once
    #[command(after_help = "Example:\n  zegel dead replay ttp.inbound/3/17 --dry-run")]
    Replay {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// CHANNEL/PARTITION/NUMBER
        letter: String,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// Take one away for good
    #[command(after_help = "Example:\n  zegel dead drop ttp.inbound/3/17")]
    Drop {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// CHANNEL/PARTITION/NUMBER
        letter: String,
    },
}

/// `zegel config …`.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// The settings in force
    #[command(after_help = "Example:\n  zegel config show --data /var/lib/zegel")]
    Show,
    /// The commented defaults, as a file to begin with
    #[command(after_help = "Example:\n  zegel config default > zegel.toml")]
    Default,
    /// Check the settings without starting anything
    #[command(after_help = "Example:\n  zegel config check --config zegel.toml")]
    Check,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn visit(command: &clap::Command, path: &str, check: &mut impl FnMut(&str, &clap::Command)) {
        let path = format!("{path} {}", command.get_name());
        check(&path, command);
        command.get_subcommands().filter(|sub| sub.get_name() != "help").for_each(|sub| visit(sub, &path, check));
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example_of_itself() {
        visit(&Cli::command(), "", &mut |path, command| {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let words = path.trim().split(' ').next_back().unwrap();
            assert!(help.contains("Example:\n  ") || help.contains("Examples:\n  "), "{path} has no example");
            assert!(path.trim() == "zegel" || help.contains(&format!(" {words} ")) || help.contains(words), "{path}");
        });
    }

    #[test]
    fn a_replay_can_be_tried_dry_and_json_stands_anywhere() {
        let cli = Cli::try_parse_from(["zegel", "dead", "replay", "ttp.inbound/3/17", "--dry-run", "--json"]).unwrap();
        assert!(cli.json);
        assert!(matches!(cli.command, Command::Dead(Dead::Replay { dry_run: true, .. })));
    }

    #[test]
    fn a_file_goes_to_recipients_or_to_a_project_never_both() {
        let parse = |args: &[&str]| {
            let head = ["zegel", "send", "--sender", "CBE:0123456749"];
            Cli::try_parse_from(head.iter().chain(args)).is_ok()
        };
        assert!(parse(&["--project", "p", "f.csv"]));
        assert!(parse(&["--to", "CBE:0199999944", "f.csv"]));
        assert!(parse(&["--project", "p", "--folder", "d", "--once"]));
        assert!(!parse(&["--project", "p", "--to", "CBE:0199999944", "f.csv"]));
        assert!(!parse(&["--project", "p"]));
        assert!(!parse(&["--project", "p", "--folder", "d", "f.csv"]));
        assert!(!parse(&["f.csv"]));
    }

    #[test]
    fn a_demo_takes_projects_and_batches_in_order() {
        let args = ["zegel", "demo", "--project", "a.toml", "--batch", "a", "--project", "b.toml", "--batch", "b"];
        let Command::Demo(demo) = Cli::try_parse_from(args).unwrap().command else { unreachable!() };
        assert_eq!((demo.project.len(), demo.batch[1].to_str()), (2, Some("b")));
    }
}
