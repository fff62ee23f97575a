//! The composition root: the only place that knows every kind. One process runs all roles over one data folder.
//!
//! Order of a start: open the port, take the folder's lock, read or make keys and authority, open the store, read the projects,
//! start the workers, serve. Whatever is wrong is said before the first request is taken.
//! Order of a stop: take no more requests, finish those in flight, drain the stages, close the store; all within the
//! drain time. What is cut off is done again at the next start (I1, I2).

use crate::config::Config;
use crate::failed::{Failed, at};
use crate::folder::{Folder, write_private};
use schemas::{MailboxAddress, Millis};
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use zegel_core::clock::SystemClock;
use zegel_core::replies::Replies;
use zegel_core::{Clock, Keys, Metrics, OwnerId, Ports, Runner, RunnerConfig};
use zegel_crypto::Keyring;
use zegel_crypto::bag::Form;
use zegel_crypto::tsa::Authority;
use zegel_embedded::{Embedded, Lock, Options};
use zegel_gateway::{FileTokens, GatewayConfig, Grant, Platform, Tokens};
use zegel_mailbox::{Boxes, Submissions};
use zegel_mutations::{FanOut, Feed};
use zegel_objects::EncryptedObjects;
use zegel_receipts::{Alerts, Receipts};
use zegel_timestamp::{Aggregator, OwnAuthority, Schedule, Sealer, Windows};
use zegel_ttp::{CompiledProject, ProjectDocument, Ttp};

/// Who stands in the certificates of our own authority.
const ORGANISATION: &str = "Zegel";

/// Threads that run steps and requests: as many as the aimed-at machine has cores. Heavy work has threads of its own.
const THREADS: usize = 2;

/// A platform that runs.
pub struct Running {
    address: SocketAddr,
    folder: Folder,
    embedded: Arc<Embedded>,
    runner: Runner,
    shutdown: oneshot::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
}

/// The runtime that a platform runs on.
///
/// # Errors
/// When the system gives no threads.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failed> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?)
}

/// Starts everything; on return requests are served.
///
/// # Errors
/// When the port is taken, or something in the data folder cannot be used.
pub async fn start(config: &Config, schedule: Schedule) -> Result<Running, Failed> {
    let begun = Instant::now();
    let listener = TcpListener::bind(config.listen).await.map_err(|error| {
        Failed::Failure(format!("cannot listen on {} (choose with --listen): {error}", config.listen))
    })?;
    let address = listener.local_addr()?;
    let folder = Folder::at(&config.data);
    folder.create()?;
    let ttp = config.ttp_address()?;

    // Keys, files and the authority's first keys block for a while.
    let (place, runtime) = (folder.clone(), Handle::current());
    let opened = tokio::task::spawn_blocking(move || open(&place, runtime)).await.map_err(failure)??;
    let metrics = Arc::new(Metrics::new().map_err(failure)?);
    let ports = ports(&opened, &metrics);
    let (embedded, tokens, ca_pem) = (opened.embedded.clone(), opened.tokens.clone(), opened.ca_pem.clone());
    let runner = run_stages(config, opened, schedule, ports.clone(), ttp.clone())?;
    let platform = front(config, tokens, ports, ttp, ca_pem, &embedded);
    let (shutdown, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(zegel_gateway::serve(listener, platform, async {
        // A dropped sender is a wish to stop as well.
        let _told = stopped.await;
    }));
    write_private(&folder.address(), &format!("http://{address}\n"))?;
    tracing::info!(ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX), "ready");
    Ok(Running { address, folder, embedded, runner, shutdown, server })
}

impl Running {
    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops within the drain time; whether everything in flight had ended by then.
    pub async fn drain(self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let _already_gone = self.shutdown.send(());
        let served = tokio::time::timeout(within, self.server).await.is_ok();
        let drained = self.runner.drain(deadline.saturating_duration_since(Instant::now())).await;
        self.embedded.close().await;
        let _already_gone = fs::remove_file(self.folder.address());
        served && drained
    }
}

/// What a data folder holds, opened.
struct Opened {
    keys: Arc<Keyring>,
    embedded: Arc<Embedded>,
    objects: Arc<EncryptedObjects>,
    authority: Authority,
    ca_pem: Vec<u8>,
    ttp: Ttp,
    tokens: Arc<FileTokens>,
}

fn open(folder: &Folder, runtime: Handle) -> Result<Opened, Failed> {
    // Before anything is made: of two processes that start at once in a new folder, only one makes keys.
    let lock = Lock::take(&folder.database()).map_err(failure)?;
    let keys = Arc::new(open_keys(folder)?);
    let authority = open_authority(folder)?;
    let embedded = Embedded::open_locked(folder.database(), lock, store_options()).map_err(failure)?;
    let objects = EncryptedObjects::open_local(&folder.objects(), keys.clone(), runtime).map_err(failure)?;
    // Nothing is in the making yet: what lies there was left by a crash.
    objects.sweep_uploads(Millis::NEVER).map_err(failure)?;
    let ttp = open_ttp(folder, &keys)?;
    let tokens = FileTokens::open(&folder.tokens(), keys.clone()).map_err(failure)?;
    if !folder.has_operator_token() {
        folder.keep_operator_token(&tokens.issue(Grant::Operator).map_err(failure)?)?;
    }
    let ca_pem = authority.ca_pem().as_bytes().to_vec();
    Ok(Opened { keys, embedded, objects: Arc::new(objects), authority, ca_pem, ttp, tokens: Arc::new(tokens) })
}

fn open_keys(folder: &Folder) -> Result<Keyring, Failed> {
    if folder.keys().exists() {
        return Keyring::load(&folder.keys()).map_err(failure);
    }
    // Fresh keys beside an old database would make everything in it unreadable, silently.
    if folder.database().exists() {
        return Err(Failed::Failure(format!("{} is missing, but there is a database", folder.keys().display())));
    }
    Keyring::create(&folder.keys()).map_err(failure)
}

fn open_authority(folder: &Folder) -> Result<Authority, Failed> {
    let now = SystemClock.now();
    if folder.tsa().join("ca.pem").exists() {
        return Authority::load(&folder.tsa(), now).map_err(failure);
    }
    Authority::create(&folder.tsa(), ORGANISATION, now).map_err(failure)
}

/// The TTP's projects, each with its key root, and its scratch folder.
fn open_ttp(folder: &Folder, keys: &Keyring) -> Result<Ttp, Failed> {
    let compile = |document: ProjectDocument| {
        let root = keys.ensure_project_root(&document.root_name()).map_err(failure)?;
        CompiledProject::new(document, root.expose()).map_err(failure)
    };
    let projects = read_projects(folder)?.into_iter().map(compile).collect::<Result<_, _>>()?;
    Ttp::new(projects, folder.scratch()).map_err(|error| Failed::Usage(error.to_string()))
}

/// Reads every project document; one that is wrong stops the start (I8).
fn read_projects(folder: &Folder) -> Result<Vec<ProjectDocument>, Failed> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder.projects()).map_err(at(&folder.projects()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let text = fs::read_to_string(path).map_err(at(path))?;
        ProjectDocument::parse(&text).map_err(|error| Failed::Usage(format!("{}: {error}", path.display())))
    };
    paths.iter().map(read).collect()
}

fn ports(opened: &Opened, metrics: &Arc<Metrics>) -> Ports {
    Ports {
        broker: opened.embedded.clone(),
        store: opened.embedded.clone(),
        objects: opened.objects.clone(),
        keys: opened.keys.clone(),
        clock: Arc::new(SystemClock),
        replies: Arc::new(Replies::default()),
        metrics: metrics.clone(),
    }
}

fn run_stages(
    config: &Config,
    opened: Opened,
    schedule: Schedule,
    ports: Ports,
    ttp: MailboxAddress,
) -> Result<Runner, Failed> {
    // One process owns the whole folder (the store's lock sees to that), so its owner id is always the same, and a
    // restart after a crash need not wait for its own leases to run out.
    let owner = OwnerId(opened.keys.blind("owner", b"embedded").0);
    let runner_config = RunnerConfig {
        owner,
        stage_concurrency: config.runner.concurrency,
        jobs: config.runner.jobs,
        ..RunnerConfig::default()
    };
    let stamper = Arc::new(OwnAuthority::new(opened.authority).map_err(failure)?);
    let mut runner = Runner::new(ports, runner_config);
    runner.start(Arc::new(Submissions::new(ttp)));
    runner.start(Arc::new(Boxes));
    runner.start(Arc::new(opened.ttp));
    runner.start(Arc::new(Receipts::default()));
    runner.start(Arc::new(Alerts));
    runner.start(Arc::new(Aggregator::new(Windows::new(schedule))));
    runner.start(Arc::new(Sealer::new(stamper, Form::Plain)));
    runner.start(Arc::new(FanOut));
    runner.start(Arc::new(Feed));
    Ok(runner)
}

/// The windows of the settings.
///
/// # Errors
/// [`Failed::Usage`] when they are none.
pub fn schedule(config: &Config) -> Result<Schedule, Failed> {
    Schedule::cron(&config.timestamp.window).map_err(|error| Failed::Usage(error.to_string()))
}

fn front(
    config: &Config,
    tokens: Arc<FileTokens>,
    ports: Ports,
    ttp: MailboxAddress,
    ca_pem: Vec<u8>,
    embedded: &Arc<Embedded>,
) -> Arc<Platform> {
    let mut gateway = GatewayConfig::new(ttp);
    gateway.message_max = config.limits.message;
    gateway.batch_max = config.limits.batch;
    gateway.drain_timeout = Duration::from_secs(config.drain_s);
    gateway.ca_pem = ca_pem;
    let (metrics, store) = (ports.metrics.clone(), embedded.clone());
    Arc::new(Platform {
        broker: ports.broker,
        store: ports.store,
        objects: ports.objects,
        keys: ports.keys,
        clock: ports.clock,
        replies: ports.replies,
        tokens,
        metrics: Arc::new(move || format!("{}{}", metrics.text(), crate::store_metrics::text(store.metrics()))),
        config: gateway,
    })
}

fn failure(error: impl std::fmt::Display) -> Failed {
    Failed::Failure(error.to_string())
}

fn store_options() -> Options {
    #[cfg(feature = "failpoints")]
    if let Some(wal_bytes) = crate::crash::wal_bytes() {
        return Options { wal_bytes, ..Options::default() };
    }
    Options::default()
}
