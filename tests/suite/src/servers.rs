//! Real servers of one test's own, through `deploy/dev/services`, that the test may kill, stop and start again.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)] // a test without its servers is a failed test

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// PostgreSQL and RabbitMQ with data in a temporary folder. Dropping it takes them down.
pub struct Servers(TempDir);

impl Servers {
    /// Starts them; none where they cannot be started and need not.
    #[must_use]
    pub fn start() -> Option<Servers> {
        let folder = tempfile::tempdir().unwrap();
        // The servers' own users have to reach their folders.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let servers = Servers(folder);
        if servers.services("up", Stdio::null()).is_some() {
            return Some(servers);
        }
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "the servers cannot be started");
        println!("SKIPPED: no PostgreSQL and RabbitMQ can be started here");
        None
    }

    /// Where one of them is: `POSTGRES_URL`, `AMQP_URL`.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        let status = self.services("status", Stdio::piped()).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap().to_owned()
    }

    /// Starts what is down, on its old port and data, and waits until it answers.
    pub fn restart(&self) {
        assert!(self.services("up", Stdio::null()).is_some(), "a server does not start again");
    }

    /// Sends a signal to a server and all its processes.
    pub fn signal(&self, server: &str, signal: &str) {
        let pid_file = match server {
            "postgres" => "services/postgres/data/postmaster.pid",
            _ => "services/rabbitmq/pid",
        };
        let text = fs::read_to_string(self.0.path().join(pid_file)).unwrap();
        let first = text.lines().next().unwrap().trim().to_owned();
        // Stopped first, so that it starts no further child while they are looked for.
        let _some_may_be_gone = Command::new("kill").args(["-STOP", &first]).stderr(Stdio::null()).status();
        let mut all = vec![first.clone()];
        all.extend(children(&first));
        let _some_may_be_gone = Command::new("kill").arg(signal).args(&all).stderr(Stdio::null()).status();
        // Until nothing is left of it: PostgreSQL takes a dead process that nobody has asked for yet for a rival.
        while signal == "-KILL" && all.iter().any(|pid| Path::new("/proc").join(pid).exists()) {
            std::thread::yield_now();
        }
    }

    fn services(&self, what: &str, out: Stdio) -> Option<String> {
        let output = Command::new(crate::root().join("deploy/dev/services"))
            .args([what, "postgres", "rabbitmq"])
            .env("ZEGEL_SERVICES_DIR", self.0.path().join("services"))
            .stdout(out)
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _down = self.services("down", Stdio::null());
    }
}

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
