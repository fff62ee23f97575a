//! One connection: what the URL may say, how a session is set up, and what is checked each time, since a server may come
//! back with other settings than it went with.

use crate::error::{Fault, OpenError, meaning};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Config, NoTls, Statement};

/// A connection that is not made by then will not be made.
const CONNECT: Duration = Duration::from_secs(5);
/// The oldest server that is tested.
const OLDEST: i32 = 15;

/// Where and how to connect. Has no `Debug`: it holds the password.
pub(crate) struct Dialer {
    config: Config,
    setup: String,
}

impl Dialer {
    /// Takes the URL apart.
    pub(crate) fn new(url: &str, schema: &str, statement: Duration) -> Result<Dialer, OpenError> {
        let mut config: Config = url.parse().map_err(|_| OpenError::Url)?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(OpenError::Tls);
        }
        let plain = schema.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !plain || !schema.starts_with(|first: char| first.is_ascii_lowercase()) || schema.len() > 50 {
            return Err(OpenError::SchemaName);
        }
        config.connect_timeout(CONNECT).keepalives_idle(Duration::from_secs(10));
        // A peer that stays silent for so long while something is on its way to it is gone.
        config.tcp_user_timeout(statement * 2).application_name("zegel");
        // With several hosts, the one that takes writes.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_hosts().iter().any(is_far) {
            tracing::warn!("postgresql is reached over a network without tls: bodies are sealed, the rest is in clear");
        }
        let (statement, lock) = (statement.as_millis(), statement.as_millis() / 2);
        // The server asks after us too: by its own settings it would keep the sessions of a lost process for two hours, and
        // refuse new ones when it has too many.
        // Every statement of this crate walks along an index. The planner is told so, because the statistics of a table
        // that was empty a minute ago say that scanning it costs nothing, and a prepared plan lives long.
        let setup = format!(
            "SET search_path = {schema}; SET statement_timeout = {statement}; SET lock_timeout = {lock};
             SET idle_in_transaction_session_timeout = {statement}; SET client_connection_check_interval = 2000;
             SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
             SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off;
             SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off; SET client_min_messages = error"
        );
        Ok(Dialer { config, setup })
    }

    /// Connects, sets the session up and checks the server.
    pub(crate) async fn dial(&self) -> Result<Connection, OpenError> {
        let all = async {
            let (client, driver) = self.config.connect(NoTls).await.map_err(refused)?;
            let driver = tokio::spawn(async move {
                // How a connection ends is told to whoever uses it.
                let _ = driver.await;
            });
            let connection = Connection { session: Arc::new(Session { client, statements: Mutex::default() }), driver };
            connection.session.client.batch_execute(&self.setup).await.map_err(refused)?;
            connection.session.check().await?;
            Ok(connection)
        };
        let too_long = |_| OpenError::Refused("connecting took too long".to_owned());
        tokio::time::timeout(CONNECT * 2, all).await.map_err(too_long)?
    }
}

fn is_far(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name != "localhost" && !name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
        Host::Unix(_) => false,
    }
}

pub(crate) fn refused(error: tokio_postgres::Error) -> OpenError {
    OpenError::Refused(meaning(&error))
}

/// A connection. Dropping it closes the socket; the server rolls back what it has not committed.
pub(crate) struct Connection {
    pub(crate) session: Arc<Session>,
    driver: JoinHandle<()>,
}

/// What calls work with.
pub(crate) struct Session {
    pub(crate) client: Client,
    statements: Mutex<HashMap<&'static str, Statement>>,
}

impl Session {
    /// The prepared statement of a text, prepared at its first use.
    pub(crate) async fn statement(&self, sql: &'static str) -> Result<Statement, Fault> {
        let known = self.statements.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.lock().unwrap_or_else(PoisonError::into_inner).insert(sql, statement.clone());
        Ok(statement)
    }

    async fn check(&self) -> Result<(), OpenError> {
        let sql = "SELECT current_setting('server_version_num')::integer / 10000, current_setting('fsync'),
            current_setting('full_page_writes'), current_setting('synchronous_commit'),
            current_setting('server_encoding')";
        let row = self.client.query_one(sql, &[]).await.map_err(refused)?;
        let get = |column: usize| row.try_get::<_, String>(column).map_err(refused);
        let found: i32 = row.try_get(0).map_err(refused)?;
        if found < OLDEST {
            return Err(OpenError::Server { found });
        }
        for (column, setting) in [(1, "fsync"), (2, "full_page_writes"), (3, "synchronous_commit")] {
            if get(column)? == "off" {
                return Err(OpenError::Unsafe { setting });
            }
        }
        if get(4)? == "UTF8" { Ok(()) } else { Err(OpenError::Encoding) }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn open(url: &str, schema: &str) -> Result<(), OpenError> {
        Dialer::new(url, schema, Duration::from_secs(1)).map(drop)
    }

    #[test]
    fn a_url_that_is_refused_is_not_repeated_with_its_password() {
        for url in ["postgres://u:secret-word@h:notaport/d", "mysql://u:secret-word@h/d", "secret-word"] {
            let error = open(url, "zegel").unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret-word"), "{error}");
        }
        assert!(matches!(open("postgres://u@h/d?sslmode=require", "zegel"), Err(OpenError::Tls)));
    }

    #[test]
    fn a_schema_whose_name_needs_quotes_is_refused() {
        for name in ["", "Zegel", "1a", "a b", "a\"; DROP", "x\u{e9}"] {
            assert!(matches!(open("postgres://u@h/d", name), Err(OpenError::SchemaName)), "{name}");
        }
        assert!(open("postgres://u@h/d", "zegel_test_1").is_ok());
    }
}
