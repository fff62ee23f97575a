//! The composition root: the only place that knows every kind. One process runs all roles over one data folder, or some
//! roles where several processes share a store.
//!
//! Order of a start: open the port, take the folder's lock, read or make keys and authority, open the store, read the projects,
//! start the workers, serve. Whatever is wrong is said before the first request is taken.
//! Order of a stop: take no more requests, finish those in flight, drain the stages, close the store; all within the
//! drain time. What is cut off is done again at the next start (I1, I2).

use crate::backend::{self, Backend};
use crate::config::Config;
use crate::failed::Failed;
use crate::folder::{Folder, private_folder, write_private};
use crate::keeping::{Keeping, Kept};
use crate::register::FileRegister;
use crate::roles::Role;
use crate::stamping::{self, Stamping, Upkeep};
use crate::store_metrics;
use schemas::{MailboxAddress, Millis};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use zegel_core::clock::{JUMP_MS, SystemClock};
use zegel_core::replies::Replies;
use zegel_core::{Clock, ClockGuard, Keys, Metrics, Ports, Runner, RunnerConfig, Worker};
use zegel_crypto::bag::Form;
use zegel_crypto::log::NoteSigner;
use zegel_crypto::tsa::Authority;
use zegel_crypto::{Guard, Keyring, SealUnder};
use zegel_embedded::Lock;
use zegel_gateway::{FileTokens, GatewayConfig, Grant, Platform, Tokens};
use zegel_mailbox::{Boxes, Submissions};
use zegel_mutations::{FanOut, Feed};
use zegel_objects::EncryptedObjects;
use zegel_receipts::{Alerts, Receipts};
use zegel_timestamp::{Aggregator, Log, Schedule, Sealer, Windows};
use zegel_ttp::Ttp;
use zegel_ttp::seals::worker::SealsKeeper;

/// Threads that run steps and requests: as many as the aimed-at machine has cores. Heavy work has threads of its own.
const THREADS: usize = 2;

/// How long a start waits while another process makes the keys of a folder.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
const DAY_MS: i64 = 24 * 3_600_000;

/// Between two looks at the papers of projects: an officer who looks at once sees what was decided, and a look costs a listing.
const WATCH: Duration = Duration::from_secs(2);

/// A platform that runs.
pub struct Running {
    address: SocketAddr,
    folder: Folder,
    scratch: PathBuf,
    backend: Backend,
    runner: Runner,
    shutdown: oneshot::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
    _upkeep: Option<Upkeep>,
    _kept: Option<Kept>,
    watch: JoinHandle<()>,
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
    let folder = Folder::of(config);
    folder.create()?;
    let ttp = config.ttp_address()?;

    backend::check(config)?;
    let lock = lock(config, &folder).await?;
    // Keys, files and the authority's first keys block for a while.
    let (place, settings, runtime) = (folder.clone(), config.clone(), Handle::current());
    let opened = tokio::task::spawn_blocking(move || open(&place, &settings, runtime)).await.map_err(failure)??;
    // A store that is shared has no lock: what was made in the folder is complete, and others may start now.
    let lock = if backend::is_shared(config) { None } else { Some(lock) };
    let backend = Backend::open(config, &folder, lock, &*opened.keys).await?;
    let metrics = Arc::new(Metrics::new().map_err(failure)?);
    let ports = ports(&opened, &backend, &metrics);
    let (tokens, scratch, register) = (opened.tokens.clone(), opened.scratch.clone(), opened.register.clone());
    let stamping = stamping::open(opened.authority, &config.timestamp, &metrics)?;
    let upkeep = config.roles.contains(&Role::Timestamp).then(|| stamping.keep_up());
    let mut gateway = gateway(config, &backend, ttp.clone(), &stamping)?;
    gateway.log = Some(stamping::policy(&opened.log, &config.timestamp)?);
    let keeper = SealsKeeper::new(opened.register.book());
    let url = format!("http://{address}");
    let keeping = Keeping::open(&config.timestamp, &folder, url, stamping.stamper.clone())?;
    let stages = Stages { keeper, ttp: opened.ttp, log: opened.log, stamping, schedule };
    let runner = run_stages(config, stages, &backend, ports.clone(), ttp)?;
    let watch = tokio::spawn(watch(register.clone()));
    let platform = front(gateway, (tokens, register), ports, &backend);
    let (shutdown, stopped) = oneshot::channel::<()>();
    let stopped = async {
        // A dropped sender is a wish to stop as well.
        let _told = stopped.await;
    };
    let server = tokio::spawn(zegel_gateway::serve(listener, platform, stopped));
    if config.roles.contains(&Role::Gateway) {
        write_private(&folder.address(), &format!("http://{address}\n"))?;
    }
    // It asks this platform for new bags, so it begins when requests are served.
    let serves = config.roles.contains(&Role::Timestamp) && config.roles.contains(&Role::Gateway);
    let kept = keeping.filter(|_| serves).map(Keeping::start);
    tracing::info!(ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX), "ready");
    Ok(Running { address, folder, scratch, backend, runner, shutdown, server, _upkeep: upkeep, _kept: kept, watch })
}

/// The folder's lock, held by whoever makes keys in it, and for good by the one process of an embedded store.
async fn lock(config: &Config, folder: &Folder) -> Result<Lock, Failed> {
    let patience = Instant::now();
    loop {
        match Lock::take(&folder.database()) {
            Ok(lock) => return Ok(lock),
            // Another process of a shared store is making its keys: not for long.
            Err(_) if backend::is_shared(config) && patience.elapsed() < LOCK_PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(failure(error)),
        }
    }
}

impl Running {
    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops within the drain time; whether everything in flight had ended by then.
    pub async fn drain(self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let own = format!("{}\n", self.url());
        let _already_gone = self.shutdown.send(());
        self.watch.abort();
        let served = tokio::time::timeout(within, self.server).await.is_ok();
        let drained = self.runner.drain(deadline.saturating_duration_since(Instant::now())).await;
        self.backend.close().await;
        if fs::read_to_string(self.folder.address()).is_ok_and(|said| said == own) {
            let _already_gone = fs::remove_file(self.folder.address());
        }
        if self.backend.is_shared() {
            let _already_gone = fs::remove_dir_all(&self.scratch);
        }
        served && drained
    }
}

/// What a data folder holds, opened.
struct Opened {
    keys: Arc<Keyring>,
    objects: Arc<EncryptedObjects>,
    authority: Authority,
    log: NoteSigner,
    register: Arc<FileRegister>,
    ttp: Ttp,
    scratch: PathBuf,
    tokens: Arc<FileTokens>,
}

fn open(folder: &Folder, config: &Config, runtime: Handle) -> Result<Opened, Failed> {
    let shared = backend::is_shared(config);
    match (shared, folder.moved_to()) {
        (false, Some(target)) => {
            let text = format!("the store of this folder was moved to {target}: start with --store");
            return Err(Failed::refused("folder-moved", text));
        }
        (true, None) if folder.database().exists() => {
            let text = "this folder holds an embedded store: zegel migrate takes it along";
            return Err(Failed::refused("folder-embedded", text));
        }
        _ => {}
    }
    let keys = Arc::new(open_keys(folder)?);
    let (wanted, is) = (folder.seal_under()?, keys.sealed_under());
    let file = folder.keys();
    match (wanted, is) {
        (Some(_), None) => {
            tracing::warn!(file = %file.display(), "the key file is not sealed as the settings say: run zegel keys seal");
        }
        (Some(SealUnder::Module(_)), Some(Guard::Passphrase)) => {
            tracing::warn!(file = %file.display(), "the key file is sealed under a passphrase, not the module: run zegel keys seal");
        }
        _ => {}
    }
    let authority = stamping::open_authority(folder, &config.timestamp, &keys)?;
    let log = stamping::open_log_key(folder, &config.timestamp, crate::folder::sealing(&keys))?;
    let objects = backend::objects(config, folder, keys.clone(), runtime)?;
    // What lies in the making was left by a crash; where others work in the folder, what is a day old.
    let abandoned = if shared { SystemClock.now().plus(-DAY_MS) } else { Millis::NEVER };
    objects.sweep_uploads(abandoned).map_err(failure)?;
    let scratch = if shared { folder.scratch().join(hex::encode(keys.random16())) } else { folder.scratch() };
    private_folder(&scratch)?;
    let register = FileRegister::new(folder.projects(), keys.clone(), Arc::new(SystemClock));
    let register =
        Arc::new(register.with_decode_keys(crate::commands::project::decode_role::read_all(&config.keys.decode)?));
    register.refresh()?;
    let ttp = Ttp::with_book(register.book(), scratch.clone());
    let tokens = FileTokens::open(&folder.tokens(), keys.clone()).map_err(failure)?;
    if !folder.has_operator_token() {
        folder.keep_operator_token(&tokens.issue(Grant::Operator).map_err(failure)?)?;
    }
    let (objects, tokens) = (Arc::new(objects), Arc::new(tokens));
    Ok(Opened { keys, objects, authority, log, register, ttp, scratch, tokens })
}

/// The keys of a data folder, made if it is new.
///
/// # Errors
/// When they cannot be read, or are missing beside a database.
pub fn open_keys(folder: &Folder) -> Result<Keyring, Failed> {
    if folder.keys().exists() {
        return folder.open_keys();
    }
    // Fresh keys beside an old database would make everything in it unreadable, silently.
    if folder.database().exists() {
        return Err(Failed::Failure(format!("{} is missing, but there is a database", folder.keys().display())));
    }
    match folder.seal_under()? {
        Some(under) => Keyring::create_sealed(&folder.keys(), &under),
        None => Keyring::create(&folder.keys()),
    }
    .map_err(failure)
}

/// Reads the papers of projects again when they have changed: another process, or an officer's command, may have written some.
async fn watch(register: Arc<FileRegister>) {
    loop {
        tokio::time::sleep(WATCH).await;
        let register = register.clone();
        match tokio::task::spawn_blocking(move || register.refresh()).await {
            Ok(Ok(true)) => tracing::info!("papers of TTP projects were read again"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "papers of TTP projects could not be read: those read before hold");
            }
            Err(error) => tracing::error!(%error, "reading the papers of TTP projects broke off"),
        }
    }
}

fn ports(opened: &Opened, backend: &Backend, metrics: &Arc<Metrics>) -> Ports {
    Ports {
        broker: backend.broker.clone(),
        store: backend.store.clone(),
        objects: opened.objects.clone(),
        keys: opened.keys.clone(),
        clock: Arc::new(ClockGuard::system(JUMP_MS, metrics.clock_away.clone())),
        replies: Arc::new(Replies::default()),
        metrics: metrics.clone(),
    }
}

/// What the stages are made of.
struct Stages {
    keeper: Option<SealsKeeper>,
    ttp: Ttp,
    log: NoteSigner,
    stamping: Stamping,
    schedule: Schedule,
}

fn run_stages(
    config: &Config,
    stages: Stages,
    backend: &Backend,
    ports: Ports,
    ttp: MailboxAddress,
) -> Result<Runner, Failed> {
    let runner_config = RunnerConfig {
        owner: backend.owner(&*ports.keys),
        shared: backend.is_shared(),
        stage_concurrency: config.runner.concurrency,
        jobs: config.runner.jobs,
        crash_attempts: config.runner.crash_attempts,
        lease_ms: i64::from(config.runner.lease_ms),
        ..RunnerConfig::default()
    };
    let Stages { keeper, ttp: pseudonymiser, log, stamping, schedule } = stages;
    let policy = stamping::policy(&log, &config.timestamp)?;
    let mut log = Log::new(Arc::new(log), policy, i64::from(config.timestamp.checkpoint_s) * 1_000);
    if let Some(external) = stamping.external {
        log = log.stamped_by(external);
    }
    let mut runner = Runner::new(ports, runner_config);
    let stages: [(Role, Arc<dyn Worker>); 10] = [
        (Role::Mailbox, Arc::new(Submissions::new(ttp))),
        (Role::Mailbox, Arc::new(Boxes)),
        (Role::Ttp, Arc::new(pseudonymiser)),
        (Role::Receipts, Arc::new(Receipts::default())),
        (Role::Receipts, Arc::new(Alerts)),
        (Role::Timestamp, Arc::new(Aggregator::new(Windows::new(schedule)))),
        (Role::Timestamp, Arc::new(Sealer::new(stamping.stamper, Form::Plain))),
        (Role::Timestamp, Arc::new(log)),
        (Role::Mutations, Arc::new(FanOut)),
        (Role::Mutations, Arc::new(Feed)),
    ];
    if let Some(keeper) = keeper.filter(|_| config.roles.contains(&Role::Ttp)) {
        runner.start(Arc::new(keeper));
    }
    for (role, worker) in stages {
        if config.roles.contains(&role) {
            runner.start(worker);
        }
    }
    if let Some(relayed) = backend.relayed.as_ref().filter(|_| config.roles.contains(&Role::Relays)) {
        runner.start_relays(relayed);
    }
    Ok(runner)
}

/// The windows of the settings.
///
/// # Errors
/// [`Failed::Usage`] when they are none.
pub fn schedule(config: &Config) -> Result<Schedule, Failed> {
    Schedule::cron(&config.timestamp.window).map_err(|error| Failed::Usage(error.to_string()))
}

fn gateway(
    config: &Config,
    backend: &Backend,
    ttp: MailboxAddress,
    stamping: &Stamping,
) -> Result<GatewayConfig, Failed> {
    let mut gateway = GatewayConfig::new(ttp);
    gateway.message_max = config.limits.message;
    gateway.batch_max = config.limits.batch;
    gateway.drain_timeout = Duration::from_secs(config.drain_s);
    gateway.ca_pem = stamping.anchor_pem(&config.timestamp)?;
    gateway.authority = stamping.answerer.clone();
    gateway.stamps_need_token = !config.timestamp.open;
    gateway.shared = backend.is_shared();
    gateway.calls = config.roles.contains(&Role::Gateway);
    Ok(gateway)
}

fn front(
    config: GatewayConfig,
    (tokens, projects): (Arc<FileTokens>, Arc<FileRegister>),
    ports: Ports,
    backend: &Backend,
) -> Arc<Platform> {
    let (metrics, backend) = (ports.metrics.clone(), backend.clone());
    let (book, clock) = (projects.book(), ports.clock.clone());
    Arc::new(Platform {
        broker: ports.broker,
        store: ports.store,
        objects: ports.objects,
        keys: ports.keys,
        clock: ports.clock,
        replies: ports.replies,
        tokens,
        book: projects.book(),
        projects,
        metrics: Arc::new(move || {
            let hidden = store_metrics::anonymity(&book.anonymity(clock.now()));
            format!("{}{}{hidden}", metrics.text(), backend.metrics())
        }),
        config,
    })
}

fn failure(error: impl std::fmt::Display) -> Failed {
    Failed::Failure(error.to_string())
}
