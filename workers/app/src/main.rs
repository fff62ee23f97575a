//! The program `zegel`: one executable, its work by subcommand.
//!
//! [`platform`] is the composition root, the only place that knows every kind of part. Commands that ask a running
//! platform go over HTTP with [`client`]; `audit`, `check`, `config`, `topology` and `timestamp verify` need none.

#![forbid(unsafe_code)]

mod agent;
mod backend;
mod bags;
mod check;
mod cli;
mod client;
mod commands;
mod config;
#[cfg(feature = "failpoints")]
mod crash;
mod declare;
mod demo;
mod endpoint;
mod external;
mod failed;
mod folder;
mod keeping;
mod module;
mod passphrase;
mod platform;
mod register;
mod roles;
mod signals;
mod split;
mod stamping;
mod store_metrics;
mod submit;
mod telemetry;
mod term;
mod time_sources;

use clap::Parser;
use cli::{Backends, Cli, Command};
use commands::Place;
use config::Overrides;
use failed::Failed;
use std::process::ExitCode;
use term::Report;

fn main() -> ExitCode {
    // FAILPOINTS in the environment says where this process stops or dies.
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    #[cfg(feature = "failpoints")]
    crash::arm();
    // What this program writes is for its owner alone, also what libraries write.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let cli = Cli::parse();
    let json = cli.json;
    ExitCode::from(term::finish(run(cli), json))
}

fn run(cli: Cli) -> Result<Report, Failed> {
    let mut overrides = Overrides { file: cli.config, data: cli.data, ..Overrides::default() };
    let backends = match &cli.command {
        Command::Up(up) => {
            overrides.listen = up.listen;
            overrides.roles = Some(up.roles.clone()).filter(|roles| !roles.is_empty());
            Some(&up.backends)
        }
        Command::Demo(demo) => Some(&demo.backends),
        _ => None,
    };
    if let Some(Backends { store, broker, objects }) = backends.cloned() {
        (overrides.store, overrides.broker, overrides.objects) = (store, broker, objects);
    }
    let place = Place { overrides, json: cli.json };
    match &cli.command {
        Command::Up(_) => commands::up::run(&place),
        Command::Demo(wanted) => demo::run(&place, wanted),
        Command::Seals(wanted) => commands::seals::run(&place, wanted),
        Command::Project(wanted) => commands::project::run(&place, wanted),
        Command::Quarantine(wanted) => commands::quarantine::run(&place, wanted),
        Command::Send(wanted) => commands::send::run(&place, wanted),
        Command::Inbox(wanted) => commands::inbox::run(&place, wanted),
        Command::Return(wanted) => commands::give_back::run(&place, wanted),
        Command::Receipts(wanted) => commands::inbox::receipts(&place, wanted),
        Command::Timestamp(wanted) => commands::timestamp::run(&place, wanted),
        Command::Audit(wanted) => commands::audit::run(&place, wanted),
        Command::Mutations(wanted) => commands::mutations::run(&place, wanted),
        Command::Mailbox(wanted) => commands::mailbox::run(&place, wanted),
        Command::Dead(wanted) => commands::dead::run(&place, wanted),
        Command::Keys(wanted) => commands::keys::run(&place, wanted),
        Command::Check => check::run(&place),
        Command::Topology(wanted) => commands::topology::run(&place, wanted),
        Command::Migrate(wanted) => commands::migrate::run(&place, wanted),
        Command::Config(wanted) => commands::settings::run(&place, wanted),
    }
}
