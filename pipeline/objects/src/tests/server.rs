//! Real S3-compatible servers, through `deploy/dev/services`: one that all tests share, and ones that a test may kill.
//!
//! `S3_URL` and the `AWS_` variables name the shared one. When they are not set, one is started and ends with this process.
//! Where none can be started a test says SKIPPED and passes, except with `ZEGEL_ORACLES=1`, where it fails.

#![allow(dead_code)] // two test programs use it, each a part

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use tempfile::TempDir;

/// What a server says of itself: `S3_URL` and the variables that a client takes.
pub(crate) type Variables = Vec<(String, String)>;

fn services() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/dev/services")
}

/// A server of one test's own.
pub(crate) struct Server {
    folder: TempDir,
    pub(crate) variables: Variables,
    /// Waits for its input to end, which it does when this process ends in whatever way, and takes the server down.
    keeper: Mutex<Child>,
}

impl Server {
    /// Starts one; none where that is not possible and not required.
    pub(crate) fn start() -> Option<Server> {
        let folder = tempfile::tempdir().unwrap();
        let script = r#""$0" up s3 && exec >/dev/null && cat >/dev/null; "$0" down s3"#;
        let mut keeper = Command::new("bash")
            .args(["-c", script])
            .arg(services())
            .env("ZEGEL_SERVICES_DIR", folder.path().join("services"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The script closes its output when the server is up.
        let lines = BufReader::new(keeper.stdout.take().unwrap()).lines().map(Result::unwrap);
        let variables: Variables =
            lines.filter_map(|line| line.split_once('=').map(|(name, value)| (name.into(), value.into()))).collect();
        if variables.iter().any(|(name, _)| name == "S3_URL") {
            return Some(Server { folder, variables, keeper: Mutex::new(keeper) });
        }
        let _ended = keeper.wait();
        let required = std::env::var("ZEGEL_ORACLES").is_ok_and(|value| value == "1");
        assert!(!required, "no S3-compatible server can be started here");
        println!("SKIPPED: no S3-compatible server can be started here");
        None
    }

    /// `kill -9` of the whole server.
    pub(crate) fn kill(&self) {
        let pid = std::fs::read_to_string(self.folder.path().join("services/s3/pid")).unwrap();
        let _may_be_gone = Command::new("kill").args(["-KILL", pid.trim()]).stderr(Stdio::null()).status();
        while Path::new(&format!("/proc/{}", pid.trim())).exists() {
            std::thread::yield_now();
        }
    }

    /// Starts it again in its folder and on its ports, and returns when it answers.
    pub(crate) fn restart(&self) {
        let done = Command::new(services())
            .args(["up", "s3"])
            .env("ZEGEL_SERVICES_DIR", self.folder.path().join("services"))
            .stdout(Stdio::null())
            .status();
        assert!(done.unwrap().success(), "the server does not start again");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut keeper = self.keeper.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(keeper.stdin.take());
        let _ended = keeper.wait();
    }
}

/// The server that tests share; none where there is none and none is required.
pub(crate) fn shared() -> Option<&'static Variables> {
    static SHARED: OnceLock<Option<Variables>> = OnceLock::new();
    SHARED
        .get_or_init(|| {
            if std::env::var_os("S3_URL").is_some() {
                return Some(std::env::vars().collect());
            }
            // Never dropped: its keeper sees this process end.
            Server::start().map(|server| Box::leak(Box::new(server)).variables.clone())
        })
        .as_ref()
}

/// The address of a prefix in the server's bucket.
pub(crate) fn url(variables: &Variables, prefix: &str) -> String {
    let (_, bucket) = variables.iter().find(|(name, _)| name == "S3_URL").unwrap();
    format!("{bucket}/{prefix}")
}
