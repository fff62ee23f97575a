//! Commands about batches that stand still.

use super::Server;
use clap::Subcommand;

/// `zegel quarantine …`. A batch is named PROJECT/NUMBER.
#[derive(Debug, Subcommand)]
pub enum Quarantine {
    /// List the batches that were refused and stand still, with the code that their sender was told
    #[command(after_help = "Example:\n  zegel quarantine list --project lab-registry")]
    List {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// Only this project
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
    },
    /// Show why one stands still and what helps: never its content
    #[command(after_help = "Example:\n  zegel quarantine show lab-registry/3")]
    Show {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// PROJECT/NUMBER
        batch: String,
    },
    /// Have one judged anew, as a new submission of its sender, when its reason is gone
    #[command(after_help = "Example:\n  zegel quarantine release lab-registry/3")]
    Release {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// PROJECT/NUMBER
        batch: String,
    },
    /// Remove one, and its content; after 30 days that happens by itself
    #[command(after_help = "Example:\n  zegel quarantine drop lab-registry/3")]
    Drop {
        /// Which platform
        #[command(flatten)]
        server: Server,
        /// PROJECT/NUMBER
        batch: String,
    },
}
