//! Real servers for tests, through `deploy/dev/services`: one that all tests share, and ones that a test may kill.
//!
//! `POSTGRES_URL` names the shared one. When it is not set, one is started and ends with this process. Where none can be
//! started a test says SKIPPED and passes, except with `ZEGEL_ORACLES=1`, where it fails.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use tempfile::TempDir;

fn services() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/dev/services")
}

/// A server of one test's own.
pub(crate) struct Cluster {
    folder: TempDir,
    url: String,
    /// Waits for its input to end, which it does when this process ends in whatever way, and takes the server down.
    keeper: Mutex<Child>,
}

impl Cluster {
    /// Starts one; none where that is not possible and not required.
    pub(crate) fn start() -> Option<Cluster> {
        let folder = tempfile::tempdir().unwrap();
        // The server's own user has to reach its folder.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let script = r#""$0" up postgres && exec >/dev/null && cat >/dev/null; "$0" down postgres; rmdir "$1""#;
        let mut keeper = Command::new("bash")
            .args(["-c", script])
            .args([services().as_path(), folder.path()])
            .env("ZEGEL_SERVICES_DIR", folder.path().join("services"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        match line.trim().strip_prefix("POSTGRES_URL=") {
            Some(url) => Some(Cluster { url: url.to_owned(), keeper: Mutex::new(keeper), folder }),
            None => {
                let required = std::env::var("ZEGEL_ORACLES").is_ok_and(|value| value == "1");
                assert!(!required, "no PostgreSQL server can be started here");
                println!("SKIPPED: no PostgreSQL server can be started here");
                None
            }
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// `kill -9` of the postmaster and all its children at once, as when the machine stops.
    pub(crate) fn kill(&self) {
        let pid_file = self.folder.path().join("services/postgres/data/postmaster.pid");
        let text = std::fs::read_to_string(pid_file).unwrap();
        let postmaster = text.lines().next().unwrap().trim().to_owned();
        // Stopped first, so that it starts no further child while they are looked for.
        send("-STOP", std::slice::from_ref(&postmaster));
        let mut all = children(&postmaster);
        all.push(postmaster);
        send("-KILL", &all);
        while all.iter().any(|pid| std::path::Path::new(&format!("/proc/{pid}")).exists()) {
            std::thread::yield_now();
        }
    }

    /// Starts it again in its folder and on its port, and returns when it answers.
    pub(crate) fn restart(&self) {
        let folder = self.folder.path().join("services");
        let done = Command::new(services())
            .args(["up", "postgres"])
            .env("ZEGEL_SERVICES_DIR", folder)
            .stdout(Stdio::null())
            .status();
        assert!(done.unwrap().success(), "the server does not start again");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut keeper = self.keeper.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(keeper.stdin.take());
        let _ended = keeper.wait();
    }
}

pub(crate) fn send(signal: &str, pids: &[String]) {
    let _some_may_be_gone = Command::new("kill").arg(signal).args(pids).stderr(Stdio::null()).status();
}

/// Process ids whose parent this is.
fn children(parent: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // pid (name) state parent ...; the name may hold anything.
        let of = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        if of == Some(parent) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

/// The server that tests share; none where there is none and none is required.
pub(crate) fn shared() -> Option<&'static str> {
    static URL: OnceLock<Option<String>> = OnceLock::new();
    URL.get_or_init(|| {
        if let Ok(url) = std::env::var("POSTGRES_URL") {
            return Some(url);
        }
        // Never dropped: its keeper sees this process end.
        Cluster::start().map(|cluster| Box::leak(Box::new(cluster)).url().to_owned())
    })
    .as_deref()
}
