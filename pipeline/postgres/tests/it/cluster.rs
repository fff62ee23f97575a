//! PostgreSQL servers for tests: the one that all share, and ones that a test may kill.

use zegel_conformance::service::{Services, shared_url};

const NAMES: &[&str] = &["postgres"];

/// A server of one test's own.
pub(crate) struct Cluster(Services);

impl Cluster {
    /// Starts one; none where that is not possible and not required.
    pub(crate) fn start() -> Option<Cluster> {
        Services::start(NAMES).map(Cluster)
    }

    pub(crate) fn url(&self) -> &str {
        self.0.url("POSTGRES_URL")
    }

    /// `kill -9` of the postmaster and all its children at once, as when the machine stops.
    pub(crate) fn kill(&self) {
        self.0.kill("postgres");
    }

    /// Starts it again in its folder and on its port, and returns when it answers.
    pub(crate) fn restart(&self) {
        self.0.restart();
    }
}

/// The server that tests share; none where there is none and none is required.
pub(crate) fn shared() -> Option<&'static str> {
    shared_url("POSTGRES_URL", NAMES)
}
