//! A TCP proxy that fails as networks do: it cuts everything, cuts one exchange on one side of the server, or falls silent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the proxy does to the next request that holds the mark; after that it forwards again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The request never reaches the server.
    Request,
    /// The server does what it was asked, and its answer never comes.
    Answer,
}

struct State {
    armed: Mutex<Option<(Fault, Vec<u8>)>>,
    /// Raised to end every connection that there is.
    cuts: watch::Sender<u64>,
    silent: watch::Sender<bool>,
}

impl State {
    /// Waits while the proxy is silent.
    async fn speaks(&self) {
        let mut silent = self.silent.subscribe();
        let _never_closed = silent.wait_for(|silent| !silent).await;
    }
}

/// See the module's header.
pub(crate) struct Proxy {
    address: SocketAddr,
    server: SocketAddr,
    state: Arc<State>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// A proxy before the server of this URL.
    pub(crate) async fn before(url: &str) -> Proxy {
        let server = server_of(url).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state =
            Arc::new(State { armed: Mutex::default(), cuts: watch::Sender::new(0), silent: watch::Sender::new(false) });
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, server, Arc::clone(&shared)));
            }
        });
        Proxy { address, server, state, accepting }
    }

    /// The URL through the proxy.
    pub(crate) fn url(&self, url: &str) -> String {
        through(url, self.server, self.address)
    }

    /// Fails the next request that holds the mark.
    pub(crate) fn arm(&self, fault: Fault, mark: &[u8]) {
        *self.state.armed.lock().unwrap() = Some((fault, mark.to_vec()));
    }

    /// Whether the armed fault has happened.
    pub(crate) fn has_fired(&self) -> bool {
        self.state.armed.lock().unwrap().is_none()
    }

    /// Ends every connection.
    pub(crate) fn cut(&self) {
        self.state.cuts.send_modify(|count| *count += 1);
    }

    /// Forwards nothing any more, or again. Nobody is told.
    pub(crate) fn silent(&self, silent: bool) {
        self.state.silent.send_replace(silent);
    }
}

/// Where the server of this URL listens.
pub(crate) async fn server_of(url: &str) -> SocketAddr {
    let config: tokio_postgres::Config = url.parse().unwrap();
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let host = match &config.get_hosts()[0] {
        tokio_postgres::config::Host::Tcp(name) => name.clone(),
        other => panic!("the tests need a server on tcp, not {other:?}"),
    };
    tokio::net::lookup_host((host, port)).await.unwrap().next().unwrap()
}

/// The URL with another address for its server's.
pub(crate) fn through(url: &str, server: SocketAddr, other: SocketAddr) -> String {
    let through = url.replace(&format!(":{}/", server.port()), &format!(":{}/", other.port()));
    assert_ne!(through, url, "the tests need a url with a port");
    through
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn forward(client: TcpStream, server: SocketAddr, state: Arc<State>) {
    let mut cuts = state.cuts.subscribe();
    let Ok(upstream) = TcpStream::connect(server).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = upstream.into_split();
    // Raised when the next answer of this connection is not to be delivered.
    let swallow = watch::Sender::new(false);
    let (up, down) =
        (requests(from_client, to_server, &state, &swallow), answers(from_server, to_client, &state, &swallow));
    // Whatever ends first ends all; dropping the sockets closes them.
    tokio::select! {
        _ = up => {}
        _ = down => {}
        _ = cuts.changed() => {}
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: &State,
    swallow: &watch::Sender<bool>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = from.read(&mut buffer).await?;
        state.speaks().await;
        if count == 0 {
            return Ok(());
        }
        let fault = {
            let mut armed = state.armed.lock().unwrap();
            let holds = |mark: &[u8]| buffer[..count].windows(mark.len()).any(|part| part == mark);
            armed.take_if(|(_, mark)| holds(mark)).map(|(fault, _)| fault)
        };
        match fault {
            Some(Fault::Request) => return Ok(()),
            Some(Fault::Answer) => drop(swallow.send_replace(true)),
            None => {}
        }
        to.write_all(&buffer[..count]).await?;
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: &State,
    swallow: &watch::Sender<bool>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = from.read(&mut buffer).await?;
        state.speaks().await;
        if count == 0 || *swallow.borrow() {
            return Ok(());
        }
        to.write_all(&buffer[..count]).await?;
    }
}
