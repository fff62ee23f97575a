//! S3-compatible servers for tests: the one that all share, and ones that a test may kill.

#![allow(dead_code)] // two test programs use it, each a part

use zegel_conformance::service::{self, Services};

pub(crate) use zegel_conformance::service::Variables;

const NAMES: &[&str] = &["s3"];

/// A server of one test's own.
pub(crate) struct Server(Services);

impl Server {
    /// Starts one; none where that is not possible and not required.
    pub(crate) fn start() -> Option<Server> {
        Services::start(NAMES).map(Server)
    }

    /// What a client has to know.
    pub(crate) fn variables(&self) -> &Variables {
        self.0.variables()
    }

    /// `kill -9` of the whole server.
    pub(crate) fn kill(&self) {
        self.0.kill("s3");
    }

    /// Starts it again in its folder and on its ports, and returns when it answers.
    pub(crate) fn restart(&self) {
        self.0.restart();
    }
}

/// The server that tests share; none where there is none and none is required.
pub(crate) fn shared() -> Option<&'static Variables> {
    service::shared("S3_URL", NAMES)
}

/// The address of a prefix in the server's bucket.
pub(crate) fn url(variables: &Variables, prefix: &str) -> String {
    format!("{}/{prefix}", service::find(variables, "S3_URL").unwrap())
}
