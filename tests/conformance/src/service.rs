//! Real servers for tests, through `deploy/dev/services`: one of a kind that all tests share, and ones that a test may
//! kill, stop and start again.
//!
//! The environment names a shared one (`POSTGRES_URL`, `AMQP_URL`, …). When it does not, one is started and ends with this
//! process. Where none can be started a test says SKIPPED and passes, except with `ZEGEL_ORACLES=1`, where it fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)] // a test without its servers is a failed test
#![allow(clippy::print_stdout)] // a test tells what it skips

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A killed process that is still there after this long is one that nobody will reap.
const REAPED: Duration = Duration::from_secs(10);

/// Takes servers up, says so, and waits until its input ends, which it does when the test process ends in whatever way;
/// then it takes them down.
const KEEPER: &str = r#"
"$0" up "$@" && echo && exec >/dev/null && cat
"$0" down "$@"
rmdir "${ZEGEL_SERVICES_DIR%/*}" 2>/dev/null
"#;

/// What a server says of itself: `POSTGRES_URL`, `AMQP_URL`, `KAFKA_URL`, `S3_URL` with the variables a client takes.
pub type Variables = Vec<(String, String)>;

/// Whether this run must find every server and tool that its tests compare with.
#[must_use]
pub fn required() -> bool {
    std::env::var("ZEGEL_ORACLES").is_ok_and(|value| value == "1")
}

/// Servers of one test's own, with data in a temporary folder. Dropping them takes them down.
pub struct Services {
    names: &'static [&'static str],
    settings: Variables,
    variables: Variables,
    folder: TempDir,
    keeper: Mutex<(Child, Option<ChildStdin>)>,
}

impl Services {
    /// Starts the services with these names; none where that is not possible and not required.
    #[must_use]
    pub fn start(names: &'static [&'static str]) -> Option<Services> {
        Services::start_with(names, &[])
    }

    /// Starts them with these variables set.
    #[must_use]
    pub fn start_with(names: &'static [&'static str], settings: &[(&str, String)]) -> Option<Services> {
        let settings: Variables = settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let folder = tempfile::tempdir().unwrap();
        // The servers' own users have to reach their folders.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new("bash");
        command.args(["-c", KEEPER]).arg(script()).args(names).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.env("ZEGEL_SERVICES_DIR", folder.path().join("services")).envs(settings.iter().cloned());
        let mut keeper = command.spawn().unwrap();
        let input = keeper.stdin.take();
        // An empty line ends what they say of themselves; without it they did not come up.
        let (mut variables, mut ready) = (Variables::new(), false);
        for line in BufReader::new(keeper.stdout.take().unwrap()).lines().map_while(Result::ok) {
            match line.split_once('=') {
                Some((name, value)) => variables.push((name.to_owned(), value.to_owned())),
                None if line.is_empty() => {
                    ready = true;
                    break;
                }
                None => {}
            }
        }
        let services = Services { names, settings, variables, folder, keeper: Mutex::new((keeper, input)) };
        if ready {
            return Some(services);
        }
        assert!(!required(), "no {} can be started here", names.join(", "));
        println!("SKIPPED: no {} can be started here", names.join(", "));
        None
    }

    /// What they say of themselves.
    #[must_use]
    pub fn variables(&self) -> &Variables {
        &self.variables
    }

    /// One of the variables: `POSTGRES_URL`, …
    #[must_use]
    pub fn url(&self, variable: &str) -> &str {
        find(&self.variables, variable).unwrap_or_else(|| panic!("the servers do not say {variable}"))
    }

    /// The folder of one of them.
    #[must_use]
    pub fn home(&self, name: &str) -> PathBuf {
        self.folder.path().join("services").join(name)
    }

    /// `kill -9` of a server and all its processes at once, as when the machine stops; returns when they are gone.
    pub fn kill(&self, name: &str) {
        self.signal(name, "-KILL");
    }

    /// Sends a signal to a server and all its processes.
    pub fn signal(&self, name: &str, signal: &str) {
        let pid_file = if name == "postgres" { "data/postmaster.pid" } else { "pid" };
        let text = fs::read_to_string(self.home(name).join(pid_file)).unwrap();
        let first = text.lines().next().unwrap().trim().to_owned();
        // PostgreSQL is many processes: stopped first, so that it starts no further one while they are looked for. The
        // others are one each, whose helpers end with it.
        let mut all = vec![first];
        if name == "postgres" {
            send("-STOP", &all);
            all = family(all.remove(0));
        }
        send(signal, &all);
        // Until nothing is left: PostgreSQL takes a dead process that nobody has asked for yet for a rival.
        let sent = Instant::now();
        let left = || all.iter().any(|pid| Path::new("/proc").join(pid).exists());
        while signal == "-KILL" && left() && sent.elapsed() < REAPED {
            std::thread::yield_now();
        }
    }

    /// Starts what is down, with its data and on its old port, and returns when it answers.
    pub fn restart(&self) {
        let mut command = Command::new(script());
        command.arg("up").args(self.names).env("ZEGEL_SERVICES_DIR", self.folder.path().join("services"));
        let status = command.envs(self.settings.iter().cloned()).stdout(Stdio::null()).status();
        assert!(status.unwrap().success(), "{} does not start again", self.names.join(", "));
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        drop(keeper.1.take());
        let _ended = keeper.0.wait();
    }
}

/// What the servers that tests share say of themselves; none where there are none and none are required. Started when the
/// environment does not hold `variable`, and ended with this process.
#[must_use]
pub fn shared(variable: &str, names: &'static [&'static str]) -> Option<&'static Variables> {
    static SHARED: OnceLock<Option<Variables>> = OnceLock::new();
    let found = SHARED.get_or_init(|| {
        if std::env::var(variable).is_ok_and(|url| !url.is_empty()) {
            return Some(std::env::vars().collect());
        }
        // Never dropped: their keeper sees this process end.
        Services::start(names).map(|services| Box::leak(Box::new(services)).variables.clone())
    });
    found.as_ref()
}

/// [`shared`], of which only the URL is wanted.
#[must_use]
pub fn shared_url(variable: &str, names: &'static [&'static str]) -> Option<&'static str> {
    shared(variable, names).and_then(|variables| find(variables, variable))
}

/// The value of a variable.
#[must_use]
pub fn find<'a>(variables: &'a Variables, name: &str) -> Option<&'a str> {
    variables.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

/// Sends a signal to processes; some may be gone.
pub fn send(signal: &str, pids: &[String]) {
    let _some_may_be_gone = Command::new("kill").arg(signal).args(pids).stderr(Stdio::null()).status();
}

fn script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/dev/services")
}

/// A process and all its descendants.
fn family(first: String) -> Vec<String> {
    let mut found = vec![first];
    let mut looked_at = 0;
    while let Some(parent) = found.get(looked_at) {
        let children = children(parent);
        found.extend(children);
        looked_at += 1;
    }
    found
}

/// Process ids whose parent this is.
fn children(parent: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // pid (name) state parent ...; the name may hold anything.
        if stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)) == Some(parent) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}
