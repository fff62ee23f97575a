//! A connection that a supervisor keeps: made again after each loss, verified before anybody sends through it, watched.
//!
//! Invariant: a [`Live`] that a link gives has been verified against the topology since it was opened (for the link that
//! publishes). Failure behaviour: attempts go round the hosts, with a growing pause after each round; why the last one
//! failed is kept for whoever waits.

use crate::declare;
use crate::endpoint::Endpoint;
use crate::error::{AmqpError, why};
use crate::metrics::{Metrics, add};
use crate::options::Options;
use futures_util::StreamExt;
use lapin::{Connection, Event};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use zegel_core::BrokerError;

/// First and longest pause between two rounds of attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How often the connection's own state is looked at, beside its events.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// An open connection.
pub(crate) struct Live {
    connection: Connection,
    /// Whether it was made after a loss.
    again: bool,
    blocked: AtomicBool,
    suspect: Notify,
}

impl Live {
    /// Opens a channel within the time for an answer.
    pub(crate) async fn channel(&self, within: Duration) -> Result<lapin::Channel, BrokerError> {
        match tokio::time::timeout(within, self.connection.create_channel()).await {
            Ok(opened) => opened.map_err(|error| BrokerError::Unavailable(why(&error))),
            Err(_) => Err(BrokerError::Unavailable("broker does not open a channel".into())),
        }
    }

    /// Whether it was made after a loss: a node may be gone, and queues without a leader.
    pub(crate) fn is_again(&self) -> bool {
        self.again
    }

    /// Whether the broker has stopped reading from us, for want of memory or disk.
    pub(crate) fn blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Gives the connection up: its objects are not as verified, or it does not answer. It is made and verified again.
    pub(crate) fn suspect(&self) {
        self.suspect.notify_one();
    }
}

/// How a link stands. Receivers are woken by each change, of being blocked too.
#[derive(Clone)]
pub(crate) enum State {
    /// There is no connection, for this reason.
    Down(String),
    /// There is one, verified where that is asked.
    Up(Arc<Live>),
    /// There is none, and there will be none.
    Closed,
}

impl State {
    /// The open connection, or why there is none.
    pub(crate) fn live(&self) -> Result<Arc<Live>, BrokerError> {
        match self {
            State::Up(live) => Ok(Arc::clone(live)),
            State::Down(why) => Err(BrokerError::Unavailable(why.clone())),
            State::Closed => Err(BrokerError::Closed),
        }
    }
}

/// See the module.
pub(crate) struct Link {
    state: watch::Receiver<State>,
    stop: Arc<Notify>,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

/// What a supervisor needs to know.
#[derive(Clone)]
pub(crate) struct Purpose {
    pub(crate) endpoint: Endpoint,
    pub(crate) options: Arc<Options>,
    pub(crate) role: &'static str,
    /// Whether each new connection verifies the topology first.
    pub(crate) verified: bool,
    pub(crate) metrics: Arc<Metrics>,
}

impl Link {
    /// Opens the connection, and keeps it open from then on.
    ///
    /// # Errors
    /// No host can be reached now, or the topology differs: then nothing goes on trying.
    pub(crate) async fn open(purpose: Purpose) -> Result<Link, AmqpError> {
        let mut opened = Err(AmqpError::Url("names no host"));
        for attempt in 0..purpose.endpoint.hosts() {
            opened = connect(&purpose, attempt, false).await;
            // A topology that differs is the same at every host.
            if matches!(opened, Ok(_) | Err(AmqpError::Differs(_))) {
                break;
            }
        }
        let live = Arc::new(opened?);
        let (sender, state) = watch::channel(State::Up(Arc::clone(&live)));
        let stop = Arc::new(Notify::new());
        let supervisor = tokio::spawn(supervise(purpose, live, sender, Arc::clone(&stop)));
        Ok(Link { state, stop, supervisor: Mutex::new(Some(supervisor)) })
    }

    /// How it stands, for waiting on changes.
    pub(crate) fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// The open connection, waiting for it at most so long.
    pub(crate) async fn wait(&self, within: Duration) -> Result<Arc<Live>, BrokerError> {
        let mut state = self.state();
        let _ = tokio::time::timeout(within, state.wait_for(|state| !matches!(state, State::Down(_)))).await;
        state.borrow().live()
    }

    /// Whether the broker blocks what we publish.
    pub(crate) fn blocked(&self) -> bool {
        self.state.borrow().live().is_ok_and(|live| live.blocked())
    }

    /// Closes the connection and ends the supervisor.
    pub(crate) async fn close(&self) {
        self.stop.notify_one();
        let supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(supervisor) = supervisor {
            let _ = supervisor.await;
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}

async fn connect(purpose: &Purpose, attempt: usize, again: bool) -> Result<Live, AmqpError> {
    let (connection, major) = declare::connect(&purpose.endpoint, attempt, &purpose.options, purpose.role).await?;
    if purpose.verified {
        declare::verify(&connection, &purpose.options, major).await?;
    }
    Ok(Live { connection, again, blocked: AtomicBool::new(false), suspect: Notify::new() })
}

enum Ended {
    Lost(String),
    Stopped,
}

async fn supervise(purpose: Purpose, mut live: Arc<Live>, state: watch::Sender<State>, stop: Arc<Notify>) {
    loop {
        let ended = watch_over(&live, &state, &stop).await;
        let _ = tokio::time::timeout(purpose.options.answer_within, live.connection.close(200, "done".into())).await;
        let Ended::Lost(why) = ended else { break };
        add(&purpose.metrics.lost, 1);
        tracing::warn!(role = purpose.role, why, "connection to the broker is lost");
        state.send_replace(State::Down(why));
        let again = tokio::select! {
            again = reconnect(&purpose, &state) => again,
            () = stop.notified() => break,
        };
        tracing::info!(role = purpose.role, "connection to the broker is made again");
        live = Arc::new(again);
        state.send_replace(State::Up(Arc::clone(&live)));
    }
    state.send_replace(State::Closed);
}

async fn reconnect(purpose: &Purpose, state: &watch::Sender<State>) -> Live {
    let mut pause = PAUSE.0;
    for attempt in 1.. {
        match connect(purpose, attempt, true).await {
            Ok(live) => return live,
            Err(error) => {
                tracing::debug!(role = purpose.role, %error, "broker cannot be used yet");
                state.send_replace(State::Down(error.to_string()));
            }
        }
        if attempt % purpose.endpoint.hosts() == 0 {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }
    std::future::pending().await
}

/// Returns when the connection is no longer good.
async fn watch_over(live: &Live, state: &watch::Sender<State>, stop: &Notify) -> Ended {
    // lapin gives each event to one listener only; this is the only one.
    let mut events = Box::pin(live.connection.events_listener());
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Event::Error(error)) => return Ended::Lost(why(&error)),
                None => return Ended::Lost("connection is closed".into()),
                Some(_) => {}
            },
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = live.suspect.notified() => return Ended::Lost("objects have to be verified again".into()),
            () = stop.notified() => return Ended::Stopped,
        }
        let status = live.connection.status();
        if !status.connected() {
            return Ended::Lost("connection is closed".into());
        }
        if live.blocked.swap(status.blocked(), Ordering::Relaxed) != status.blocked() {
            tracing::warn!(blocked = status.blocked(), "broker blocks or unblocks publishing");
            state.send_modify(|_| {});
        }
    }
}
