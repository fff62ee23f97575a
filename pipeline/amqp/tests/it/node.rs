//! RabbitMQ nodes for tests: the one that all share, and ones that a test may kill.

use std::process::Command;
use zegel_conformance::service::{Services, shared_url};

const NAMES: &[&str] = &["rabbitmq"];

/// A node of one test's own.
pub(crate) struct Node(Services);

impl Node {
    /// Starts one; none where that is not possible and not required.
    pub(crate) fn start(settings: &[(&str, String)]) -> Option<Node> {
        Services::start_with(NAMES, settings).map(Node)
    }

    pub(crate) fn url(&self) -> &str {
        self.0.url("AMQP_URL")
    }

    /// `127.0.0.1:port`.
    pub(crate) fn address(&self) -> &str {
        self.url().rsplit_once('@').unwrap().1.split('/').next().unwrap()
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.0.home("rabbitmq").join(file)).unwrap().trim().to_owned()
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
        self.0.kill("rabbitmq");
    }

    /// Starts it again in its folder and on its port, and returns when it answers.
    pub(crate) fn restart(&self) {
        self.0.restart();
    }

    /// Its `rabbitmqctl`.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> String {
        let script = self.0.home("rabbitmq").join("ctl");
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

/// The node that tests share; none where there is none and none is required.
pub(crate) fn shared() -> Option<&'static str> {
    shared_url("AMQP_URL", NAMES)
}
