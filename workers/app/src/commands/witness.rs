//! `zegel timestamp witness`: a key, what was seen last, and cosignatures over what continues it.
//!
//! | file of the folder | what |
//! | --- | --- |
//! | `witness.key`, `witness.vkey` | the Ed25519 key (PKCS#8, PEM), and its public half |
//! | `seen-ID` | the checkpoint of the log with this key id that was cosigned last, as the log signed it |
//! | `fork-ID-SIZE` | a checkpoint that does not continue it: together with `seen-ID`, evidence against the log |
//!
//! Order (C2SP tlog-witness): judge, keep what was seen durably, then sign; under a lock of the folder, so that two runs cannot
//! sign two histories between them.
//! Failure behaviour: whatever cannot be checked is not signed.

use super::archive::fetched;
use super::archive_log::Tiles;
use super::{Place, read_text};
use crate::cli::witness::Witness;
use crate::client::Client;
use crate::failed::{Failed, at};
use crate::folder::{private_folder, write_private};
use crate::signals;
use crate::term::{self, Report};
use serde_json::json;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;
use zegel_core::clock::{Clock, SystemClock};
use zegel_crypto::log::proof::Prover;
use zegel_crypto::log::witness::{AddCheckpoint, Refusal, Seen, judge};
use zegel_crypto::log::{Checkpoint, LogError, Note, NoteKey, NoteSigner, Policy, Purpose};

const KEY: &str = "witness.key";
const PUBLIC: &str = "witness.vkey";
/// A stop is seen within this.
const SLICE: Duration = Duration::from_millis(250);

/// Makes a key, or cosigns.
///
/// # Errors
/// See the command's help.
pub fn run(place: &Place, wanted: &Witness) -> Result<Report, Failed> {
    match wanted {
        Witness::Key { name, state } => key(name, state),
        Witness::Sign { state, log, request: Some(request), .. } => {
            let signed = Watch::open(state, log)?.answer(&read_text(request)?)?;
            Ok(Report::new(json!({ "size": signed.size, "cosignature": signed.line }), signed.line))
        }
        Witness::Sign { server, state, log, every, request: None } => {
            let client = || place.folder()?.anybody(server);
            match every {
                Some(seconds) => watch(state, log, *seconds, client),
                None => Watch::open(state, log)?.visit(&client()?),
            }
        }
    }
}

fn key(name: &str, state: &Path) -> Result<Report, Failed> {
    private_folder(state)?;
    if state.join(KEY).exists() {
        return Err(Failed::Usage(format!("{}: there is a witness in it already", state.display())));
    }
    let signer = NoteSigner::generate(name, Purpose::Witness).map_err(|error| Failed::Usage(error.to_string()))?;
    let public = signer.public().to_string();
    write_private(&state.join(PUBLIC), &format!("{public}\n"))?;
    write_private(&state.join(KEY), &signer.to_pem().map_err(unusable)?)?;
    let told = format!("{public}\n\nfor the platform's setting timestamp.witnesses, and for trust files");
    Ok(Report::new(json!({ "key": public }), told))
}

/// Looks at the log until somebody stops it. A platform that is away is asked again; a second history ends it.
fn watch(
    state: &Path,
    log: &Path,
    seconds: u64,
    client: impl Fn() -> Result<Client, Failed>,
) -> Result<Report, Failed> {
    let stop = signals::flag()?;
    loop {
        match Watch::open(state, log)?.visit(&client()?) {
            Ok(report) => term::line(&report.text),
            Err(Failed::Unreachable(why)) => tracing::warn!(why, "the log cannot be read; it is asked again"),
            Err(other) => return Err(other),
        }
        for _ in 0..seconds * 4 {
            if stop.load(Ordering::Relaxed) {
                return Ok(Report::new(json!({ "stopped": true }), "stopped"));
            }
            term::pause(SLICE);
        }
    }
}

/// A witness at one log, with its folder locked.
struct Watch {
    signer: NoteSigner,
    policy: Policy,
    state: PathBuf,
    seen: Seen,
    _lock: File,
}

/// A cosignature that may leave the folder.
struct Signed {
    size: u64,
    line: String,
}

impl Watch {
    fn open(state: &Path, log: &Path) -> Result<Watch, Failed> {
        let read = |path: PathBuf| fs::read_to_string(&path).map_err(at(&path));
        let lock = File::open(state).map_err(at(state))?;
        lock.lock().map_err(at(state))?;
        let public: NoteKey = read(state.join(PUBLIC))?.trim().parse().map_err(unusable)?;
        let signer =
            NoteSigner::from_pem(public.name(), Purpose::Witness, &read(state.join(KEY))?).map_err(unusable)?;
        let log: NoteKey = read(log.to_owned())?
            .trim()
            .parse()
            .map_err(|error: LogError| Failed::Usage(format!("{}: {error}", log.display())))?;
        let policy = Policy::new(log, Vec::new(), 0).map_err(|error| Failed::Usage(error.to_string()))?;
        let kept = state.join(format!("seen-{}", hex::encode(policy.log().id())));
        let seen = match kept.exists() {
            false => Seen::default(),
            true => {
                let opened = policy.open(&read(kept)?).map_err(unusable)?;
                Seen { size: opened.checkpoint.size, root: opened.checkpoint.root }
            }
        };
        Ok(Watch { signer, policy, state: state.to_owned(), seen, _lock: lock })
    }

    /// Fetches the newest checkpoint and what connects it with the last one, cosigns it, and hands the cosignature in.
    fn visit(&mut self, client: &Client) -> Result<Report, Failed> {
        let checkpoint = String::from_utf8(fetched(client, "/log/latest")?)
            .map_err(|_| Failed::Failure("the log's checkpoint is no text".to_owned()))?;
        let stated: Checkpoint = checkpoint.parse::<Note>().and_then(|note| note.text.parse()).map_err(unusable)?;
        let mut request = AddCheckpoint { old: self.seen.size, path: Vec::new(), checkpoint };
        // A log that shrank is judged as it is: nothing connects it.
        if stated.size >= self.seen.size {
            request.path = Prover::new(Tiles(client), stated.size).consistency(self.seen.size)?.path;
        } else {
            return Err(self.alarm(&request));
        }
        let signed = self.sign(&request)?;
        let path = format!("/log/cosignatures?size={}", signed.size);
        let answer = client.post_bytes(&path, &[], "text/plain", signed.line.as_bytes())?;
        let told = format!("cosigned the log at {} entries; witnesses so far: {}", signed.size, answer["witnesses"]);
        Ok(Report::new(json!({ "size": signed.size, "witnesses": answer["witnesses"] }), told))
    }

    /// Answers a request that came another way.
    fn answer(&mut self, request: &str) -> Result<Signed, Failed> {
        let request = request.parse().map_err(|error: LogError| Failed::Usage(error.to_string()))?;
        self.sign(&request)
    }

    fn sign(&mut self, request: &AddCheckpoint) -> Result<Signed, Failed> {
        let (seen, text) = match judge(&self.policy, &self.seen, request) {
            Ok(judged) => judged,
            Err(Refusal::Fork) => return Err(self.alarm(request)),
            Err(refusal) => return Err(Failed::refused(&format!("witness-{}", refusal.status()), refusal.to_string())),
        };
        // Durable before the signature exists.
        write_private(&self.kept("seen"), &request.checkpoint)?;
        self.seen = seen;
        let now = u64::try_from(SystemClock.now().0 / 1_000).unwrap_or(0);
        Ok(Signed { size: seen.size, line: self.signer.sign(&text, now).to_string() })
    }

    /// Keeps a checkpoint that the log signed and that does not continue what was seen.
    fn alarm(&self, request: &AddCheckpoint) -> Failed {
        let Ok(opened) = self.policy.open(&request.checkpoint) else {
            return Failed::refused("witness-403", Refusal::Signature.to_string());
        };
        let place = self.kept(&format!("fork-{}", opened.checkpoint.size));
        let kept = write_private(&place, &request.checkpoint);
        Failed::Failure(format!(
            "ALARM: {}: it shows {} entries that do not continue the {} that this witness cosigned; {}",
            Refusal::Fork,
            opened.checkpoint.size,
            self.seen.size,
            kept.map_or_else(|error| error.to_string(), |()| format!("see {}", place.display())),
        ))
    }

    fn kept(&self, what: &str) -> PathBuf {
        self.state.join(format!("{what}-{}", hex::encode(self.policy.log().id())))
    }
}

fn unusable(error: LogError) -> Failed {
    Failed::Failure(error.to_string())
}
