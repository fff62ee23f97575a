//! Tokens a second, one core, for each kind of key: requests answered from DER to DER, beside the bare signing speed of the
//! library and beside `openssl ts -reply`, a process a token, in the same run.
//!
//! Goal: at least 80 % of the bare signing speed. Ours and the bare signatures take turns in short slices, so that a
//! machine that is busy with something else slows both.

use crate::deadline;
use crate::stats::Report;
use anyhow::{Result, anyhow};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use zegel_core::Clock;
use zegel_core::clock::SystemClock;
use zegel_crypto::hash::sha256;
use zegel_crypto::tsa::{Algorithm, Authority, Digest, Moment, Request, token_of};

/// Length of a turn.
const SLICE: Duration = Duration::from_millis(100);
/// Share of the bare signing speed that is aimed at.
const SHARE: f64 = 0.8;
/// Tokens of `openssl ts -reply` that are timed.
const PROCESSES: u32 = 20;

/// Runs every kind of key.
///
/// # Errors
/// When an authority cannot be made, or gives no token.
pub fn run(folder: &Path, seconds: u64) -> Result<Vec<Report>> {
    Algorithm::ALL.into_iter().map(|algorithm| one(folder, seconds, algorithm)).collect()
}

fn one(folder: &Path, seconds: u64, algorithm: Algorithm) -> Result<Report> {
    let name = format!("tsa, {algorithm}");
    deadline::part(&name);
    fs::create_dir_all(folder)?;
    let place = folder.join(algorithm.to_string());
    let fail = |error: zegel_crypto::tsa::TsaError| anyhow!("{error}");
    let authority = Authority::create_with(&place, "Load", SystemClock.now(), algorithm).map_err(fail)?;
    let request = Request::over(Digest::Sha256, &sha256(b"bag").0, Some(77)).map_err(|error| anyhow!("{error}"))?;
    let request = request.encode();
    let answer = || authority.answer(&request, Some(Moment { now: SystemClock.now(), accuracy_ms: Some(1_000) }));
    let size = token_of(&answer()).map_err(fail)?.len();
    let (mut tokens, mut bare) = (Pace::default(), Pace::default());
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        tokens.turn(|| answer().len() > size);
        bare.turn(|| authority.bare_signature().is_ok());
    }
    let mut report = Report::named(&name);
    report.msg_per_s = tokens.per_second();
    report.mb_per_s = tokens.per_second() * size as f64 / 1e6;
    report.goal = "at least 80 % of the library's bare signing speed".to_owned();
    report.met = tokens.per_second() >= SHARE * bare.per_second();
    report.extra.insert("bare_signatures_per_s".to_owned(), bare.per_second().round().into());
    report.extra.insert("of_bare".to_owned(), (tokens.per_second() / bare.per_second()).into());
    report.extra.insert("token_bytes".to_owned(), size.into());
    if let Some(pace) = openssl(&place, &request)? {
        report.extra.insert("openssl_ts_reply_per_s".to_owned(), pace.round().into());
    }
    Ok(report)
}

/// What was done, and how long it took.
#[derive(Default)]
struct Pace {
    done: u32,
    took: Duration,
}

impl Pace {
    fn turn(&mut self, mut each: impl FnMut() -> bool) {
        let begun = Instant::now();
        while begun.elapsed() < SLICE {
            assert!(each(), "no token was given");
            self.done += 1;
        }
        self.took += begun.elapsed();
    }

    fn per_second(&self) -> f64 {
        f64::from(self.done) / self.took.as_secs_f64()
    }
}

/// Tokens a second of `openssl ts -reply` with the same key; none where openssl is absent.
fn openssl(place: &Path, request: &[u8]) -> Result<Option<f64>> {
    fs::write(place.join("query.tsq"), request)?;
    fs::write(
        place.join("tsa.cnf"),
        "[tsa]\ndefault_tsa = t\n[t]\nserial = serial\ndefault_policy = 1.2.3.4.1\ndigests = sha256\n\
         signer_digest = sha256\naccuracy = secs:1\ness_cert_id_alg = sha256\n",
    )?;
    fs::write(place.join("serial"), "01\n")?;
    let arguments =
        "ts -reply -queryfile query.tsq -config tsa.cnf -signer tsa.pem -inkey tsa.key -chain ca.pem -out r.tsr";
    let begun = Instant::now();
    for _ in 0..PROCESSES {
        let mut command = Command::new("openssl");
        command.args(arguments.split(' ')).current_dir(place).stdout(Stdio::null()).stderr(Stdio::null());
        match command.status() {
            Err(_) => return Ok(None),
            Ok(status) if !status.success() => return Err(anyhow!("openssl ts gives no token")),
            Ok(_) => {}
        }
    }
    Ok(Some(f64::from(PROCESSES) / begun.elapsed().as_secs_f64()))
}
