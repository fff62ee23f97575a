//! `zegel timestamp agent`: the front on loopback, the drop folder, and round after round until somebody stops it.

use super::desk::{ADDRESS, Opened, TOKEN};
use super::remote::Remote;
use super::{sentence, status_of};
use crate::cli::hospital::Agent as Wanted;
use crate::commands::{Place, address};
use crate::failed::{Failed, at};
use crate::folder::write_private;
use crate::term::{self, Report};
use crate::{signals, telemetry};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use zegel_archive::trust::Trust;
use zegel_core::Keys;
use zegel_crypto::Keyring;
use zegel_gateway::hospital::{Hatch, serve};
use zegel_hospital::drop_folder::{DropFolder, Look};
use zegel_hospital::journal::Begin;
use zegel_hospital::{Agent, Round};

/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(250);

/// Runs the agent.
///
/// # Errors
/// The folder is in use or cannot be used; the address is not on loopback.
pub fn run(place: &Place, wanted: &Wanted) -> Result<Report, Failed> {
    if !wanted.listen.ip().is_loopback() {
        return Err(Failed::Usage("--listen: documents are taken on loopback only".to_owned()));
    }
    telemetry::start(&place.config()?.log);
    let hospital = address(&wanted.hospital)?;
    let trust = wanted.trust.as_deref().map(Trust::read).transpose()?;
    let salted = wanted.plain.then_some(false);
    let begin = Begin { hospital: Some(hospital.clone()), salted, first: wanted.first_ref };
    let in_use = || Failed::Failure(format!("{}: another agent has this journal", wanted.journal.display()));
    let opened = Opened::open(&wanted.journal, &begin)?.ok_or_else(in_use)?;
    let folder = place.folder()?;
    let (server, of) = (wanted.server.clone(), hospital.clone());
    let remote = Remote::new(hospital, Box::new(move || folder.owner(&server, &of)));
    let agent = Agent::new(opened.journal.clone(), remote, &wanted.journal, trust)?;
    let front = Front::open(&opened, wanted)?;
    let said = json!({ "listening": front.url });
    term::line(&if place.json { said.to_string() } else { format!("listening on {}", front.url) });
    let outcome = work(agent, &opened, wanted);
    front.close(&opened);
    let tally = serde_json::to_value(opened.journal.tally())?;
    opened.close();
    let ended = outcome?;
    if !ended {
        return Err(Failed::Unreachable(format!("not everything was stamped in time: {}", sentence(&tally))));
    }
    let status = if wanted.once { status_of(&tally) } else { 0 };
    Ok(Report { text: sentence(&tally), json: tally, status })
}

/// Rounds until somebody stops them, or, with `once`, until nothing is on its way; false when the time for that is over.
fn work(mut agent: Agent<Remote>, opened: &Opened, wanted: &Wanted) -> Result<bool, Failed> {
    let stop = signals::flag()?;
    let mut folder = wanted.folder.as_deref().map(DropFolder::new);
    let deadline = Instant::now() + Duration::from_secs(wanted.wait);
    let mut told = Told::default();
    loop {
        let look = folder.as_mut().map(|folder| folder.look(&opened.journal)).transpose()?.unwrap_or_default();
        let round = agent.round()?;
        told.tell(&round);
        if stop.load(Ordering::Relaxed) {
            return Ok(true);
        }
        if wanted.once {
            if let Some(code) = &round.denied {
                return Err(Failed::refused(code, "the platform does not take the token of this hospital's mailbox"));
            }
            let tally = opened.journal.tally();
            if is_done(&look, &round) && (tally.waiting + tally.owed == 0 || tally.halted.is_some()) {
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Ok(false);
            }
        }
        pause(&stop);
    }
}

fn is_done(look: &Look, round: &Round) -> bool {
    look.growing == 0 && (look.waiting == 0 || round.rejected.is_some())
}

fn pause(stop: &AtomicBool) {
    if !stop.load(Ordering::Relaxed) {
        term::pause(PAUSE);
    }
}

/// Each outage and each fault is logged once.
#[derive(Default)]
struct Told {
    away: Option<String>,
    rejected: Option<String>,
}

impl Told {
    fn tell(&mut self, round: &Round) {
        if round.sent + round.bags > 0 {
            tracing::info!(sent = round.sent, bags = round.bags, "time stamps");
            self.away = None;
        }
        if let Some(why) = round.away.as_ref().filter(|why| self.away.as_ref() != Some(*why)) {
            tracing::warn!(why, "the platform cannot be used; what is handed in is kept, and it is asked again");
            self.away = Some(why.clone());
        }
        if let Some(why) = round.rejected.as_ref().filter(|why| self.rejected.as_ref() != Some(*why)) {
            tracing::error!(why, "a bag was not taken; it lies in rejected/");
            self.rejected = Some(why.clone());
        }
        if round.lost > 0 {
            tracing::error!(lost = round.lost, "entries that the platform accepted are not in their bag");
        }
    }
}

/// The front on loopback.
struct Front {
    url: String,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
    address: std::path::PathBuf,
}

impl Front {
    fn open(opened: &Opened, wanted: &Wanted) -> Result<Front, Failed> {
        let folder = &wanted.journal;
        let token = token(folder)?;
        let listen = wanted.listen;
        let listener = opened
            .runtime
            .block_on(TcpListener::bind(listen))
            .map_err(|error| Failed::Failure(format!("cannot listen on {listen} (choose with --listen): {error}")))?;
        let url = format!("http://{}", listener.local_addr()?);
        let hatch = Hatch::new(opened.journal.clone(), &token, opened.journal.tally().hospital);
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = opened.runtime.spawn(serve(listener, hatch, async move {
            let _stopped_or_gone = stopped.await;
        }));
        let address = folder.join(ADDRESS);
        write_private(&address, &url)?;
        Ok(Front { url, stop, serving, address })
    }

    fn close(self, opened: &Opened) {
        let _gone = self.stop.send(());
        if let Ok(Err(error)) = opened.runtime.block_on(self.serving) {
            tracing::warn!(%error, "the front ended");
        }
        let _killed_agents_leave_it_too = fs::remove_file(self.address);
    }
}

/// The folder's token, made once, so that the hospital's systems keep theirs.
fn token(folder: &Path) -> Result<String, Failed> {
    let path = folder.join(TOKEN);
    if path.exists() {
        return Ok(fs::read_to_string(&path).map_err(at(&path))?.trim().to_owned());
    }
    let mut bytes = [0; 32];
    Keyring::generate_in_memory().random(&mut bytes);
    let token = hex::encode(bytes);
    write_private(&path, &token)?;
    Ok(token)
}
