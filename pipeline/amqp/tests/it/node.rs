//! Real RabbitMQ nodes, through `deploy/dev/services`: one that all tests share, and ones that a test may kill.
//!
//! `AMQP_URL` names the shared one. When it is not set, one is started and ends with this process. Where none can be
//! started a test says SKIPPED and passes, except with `ZEGEL_ORACLES=1`, where it fails.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use tempfile::TempDir;

fn services() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/dev/services")
}

/// A node of one test's own.
pub(crate) struct Node {
    folder: TempDir,
    url: String,
    settings: Vec<(&'static str, String)>,
    /// Waits for its input to end, which it does when this process ends in whatever way, and takes the node down.
    keeper: Mutex<Child>,
}

impl Node {
    /// Starts one; none where that is not possible and not required.
    pub(crate) fn start(settings: Vec<(&'static str, String)>) -> Option<Node> {
        let folder = tempfile::tempdir().unwrap();
        // The server's own user has to reach its folder.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let script = r#""$0" up rabbitmq && exec >/dev/null && cat >/dev/null; "$0" down rabbitmq"#;
        let mut keeper = Command::new("bash")
            .args(["-c", script])
            .arg(services())
            .env("ZEGEL_SERVICES_DIR", folder.path().join("services"))
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        match line.trim().strip_prefix("AMQP_URL=") {
            Some(url) => Some(Node { url: url.to_owned(), keeper: Mutex::new(keeper), folder, settings }),
            None => {
                let required = std::env::var("ZEGEL_ORACLES").is_ok_and(|value| value == "1");
                assert!(!required, "no RabbitMQ can be started here");
                println!("SKIPPED: no RabbitMQ can be started here");
                None
            }
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// `127.0.0.1:port`.
    pub(crate) fn address(&self) -> &str {
        self.url.rsplit_once('@').unwrap().1.split('/').next().unwrap()
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("services/rabbitmq")
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.home().join(file)).unwrap().trim().to_owned()
    }

    /// Its name, for others to join.
    pub(crate) fn name(&self) -> String {
        self.read("node")
    }

    /// The port of Erlang's name server, for others to use.
    pub(crate) fn epmd(&self) -> String {
        self.read("epmd")
    }

    /// `kill -9` of the whole server.
    pub(crate) fn kill(&self) {
        let pid = self.read("pid");
        let _may_be_gone = Command::new("kill").args(["-KILL", &pid]).stderr(Stdio::null()).status();
        while Path::new(&format!("/proc/{pid}")).exists() {
            std::thread::yield_now();
        }
    }

    /// Starts it again in its folder and on its port, and returns when it answers.
    pub(crate) fn restart(&self) {
        let done = Command::new(services())
            .args(["up", "rabbitmq"])
            .env("ZEGEL_SERVICES_DIR", self.folder.path().join("services"))
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .status();
        assert!(done.unwrap().success(), "the node does not start again");
    }

    /// Its `rabbitmqctl`.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> String {
        let script = self.home().join("ctl");
        let as_owner =
            std::fs::metadata("/proc/self").map(|meta| std::os::unix::fs::MetadataExt::uid(&meta)).unwrap() == 0;
        let mut command = Command::new(if as_owner { "setpriv" } else { "env" });
        if as_owner {
            command.args(["--reuid=rabbitmq", "--regid=rabbitmq", "--clear-groups"]);
        }
        let output = command.arg(script).args(arguments).output().unwrap();
        assert!(output.status.success(), "rabbitmqctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let mut keeper = self.keeper.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(keeper.stdin.take());
        let _ended = keeper.wait();
    }
}

/// The node that tests share; none where there is none and none is required.
pub(crate) fn shared() -> Option<&'static str> {
    static URL: OnceLock<Option<String>> = OnceLock::new();
    URL.get_or_init(|| {
        if let Ok(url) = std::env::var("AMQP_URL") {
            return Some(url);
        }
        // Never dropped: its keeper sees this process end.
        Node::start(Vec::new()).map(|node| Box::leak(Box::new(node)).url().to_owned())
    })
    .as_deref()
}
