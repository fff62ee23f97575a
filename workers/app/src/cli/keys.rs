//! Commands about the key file.

use crate::passphrase::Source;
use clap::Subcommand;

/// `zegel keys …`. They change the file of the data folder, while no platform runs on it.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Show whether the key file is sealed, and how many keys it holds; never one of them
    #[command(after_help = "Example:\n  zegel keys status --data /var/lib/zegel")]
    Status,
    /// Seal the key file under the module of the setting keys.module, or else the passphrase of keys.passphrase
    #[command(
        after_help = "Example:\n  ZEGEL_KEYS__PASSPHRASE=file:/run/secrets/zegel zegel keys seal --data /var/lib/zegel"
    )]
    Seal,
    /// Exchange the passphrase; the present one is where the setting keys.passphrase says
    #[command(after_help = "Example:\n  zegel keys passphrase --new file:/run/secrets/zegel-new --data /var/lib/zegel")]
    Passphrase {
        /// Where the new one is: file:PATH, fd:NUMBER or env:NAME
        #[arg(long, value_name = "PLACE")]
        new: Source,
    },
}
