//! A TCP proxy that fails as networks do, for tests of what speaks to a real server.
//!
//! It forwards, holds everything, cuts every connection at once or in the middle of what is being sent, or leaves the
//! connections that there are half open: both ends believe in them and nothing arrives any more, until the server's
//! keepalives end its side.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// After so long a server has given up a client that is gone: its keepalives are not answered.
const NOTICED: Duration = Duration::from_secs(5);
/// No limit on what is still forwarded.
const UNLIMITED: u64 = u64::MAX;

#[derive(Clone, Copy)]
struct Network {
    /// Nothing is delivered; what was sent arrives when it forwards again.
    held: bool,
    /// Connections with a lower number are cut.
    cut_below: u64,
    /// Connections with a lower number deliver nothing, for ever.
    dead_below: u64,
}

struct State {
    network: watch::Sender<Network>,
    connections: AtomicU64,
    /// Bytes towards the server that are forwarded before the connection is cut.
    left: AtomicU64,
}

/// See the module. Dropping it cuts everything.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// A proxy before the server at `host:port`, which is looked up at each connection.
    ///
    /// # Errors
    /// No port of this machine can be bound.
    pub async fn before(server: &str) -> io::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let network = watch::Sender::new(Network { held: false, cut_below: 0, dead_below: 0 });
        let state = Arc::new(State { network, connections: AtomicU64::new(0), left: AtomicU64::new(UNLIMITED) });
        let (shared, server) = (Arc::clone(&state), server.to_owned());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(connection(client, server.clone(), Arc::clone(&shared), number));
            }
        });
        Ok(Proxy { address, state, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were made through it.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Delivers nothing any more, or everything again. Nobody is told.
    pub fn hold(&self, held: bool) {
        self.state.network.send_modify(|network| network.held = held);
    }

    /// Cuts every connection that there is.
    pub fn cut(&self) {
        let now = self.connections();
        self.state.network.send_modify(|network| network.cut_below = now);
    }

    /// Forwards so many bytes towards the server, then cuts every connection: in the middle of a frame, mostly.
    pub fn cut_after(&self, bytes: u64) {
        self.state.left.store(bytes, Ordering::SeqCst);
    }

    /// Leaves the connections that there are half open; new ones are forwarded.
    pub fn half_open(&self) {
        let now = self.connections();
        self.state.network.send_modify(|network| network.dead_below = now);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.state.network.send_modify(|network| network.cut_below = u64::MAX);
    }
}

async fn connection(client: TcpStream, server: String, state: Arc<State>, number: u64) {
    let Ok(upstream) = TcpStream::connect(&server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = upstream.into_split();
    let mut network = state.network.subscribe();
    let mut buried = state.network.subscribe();
    // Whatever ends first ends all; dropping the sockets closes them.
    tokio::select! {
        _ = forward(&mut from_client, &mut to_server, &state, number, true) => return,
        _ = forward(&mut from_server, &mut to_client, &state, number, false) => return,
        _ = network.wait_for(|network| network.cut_below > number) => return,
        _ = async {
            drop(buried.wait_for(|network| network.dead_below > number).await);
            tokio::time::sleep(NOTICED).await;
        } => {}
    }
    drop((from_server, to_server));
    // The client is never told; the sockets are held until the proxy goes.
    drop(network.wait_for(|network| network.cut_below > number).await);
}

async fn forward(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    state: &State,
    number: u64,
    to_server: bool,
) -> io::Result<()> {
    let mut network = state.network.subscribe();
    let mut buffer = vec![0; 1 << 14];
    loop {
        let count = from.read(&mut buffer).await?;
        let now = *network.wait_for(|network| !network.held).await.map_err(io::Error::other)?;
        if now.dead_below > number {
            std::future::pending::<()>().await; // reads no more either, and closes nothing
        }
        if count == 0 {
            return Ok(());
        }
        let allowed = if to_server { spend(state, count) } else { count };
        to.write_all(&buffer[..allowed]).await?;
        if allowed < count {
            to.flush().await?;
            let all = state.connections.load(Ordering::SeqCst);
            state.network.send_modify(|network| network.cut_below = all);
        }
    }
}

/// How many of these bytes may still be forwarded. When they are used up there is no limit any more.
fn spend(state: &State, count: usize) -> usize {
    let wanted = count as u64;
    let left = state.left.load(Ordering::SeqCst);
    if left == UNLIMITED {
        return count;
    }
    let after = if left < wanted { UNLIMITED } else { left - wanted };
    state.left.store(after, Ordering::SeqCst);
    usize::try_from(left.min(wanted)).unwrap_or(count)
}
