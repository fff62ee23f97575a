//! `zegel timestamp revoke`: a time-stamping unit of our own authority is put on the revocation list.
//!
//! The list is written into the authority's folder, under its lock; a platform that runs there serves it at once and replaces
//! the unit within a minute. Nothing on a list is ever taken back.

use crate::failed::Failed;
use crate::folder::Folder;
use crate::term::Report;
use serde_json::json;
use zegel_archive::finding::utc;
use zegel_archive::trust::instant;
use zegel_core::clock::{Clock, SystemClock};
use zegel_crypto::tsa::{Authority, Crl, Reason, TrustAnchor, TsaError};

/// Revokes.
///
/// # Errors
/// [`Failed::Usage`] for a reason, a time or a unit that is none; the folder cannot be read or written.
pub fn run(
    folder: &Folder,
    unit: Option<u32>,
    reason: &str,
    since: Option<&str>,
    dry_run: bool,
) -> Result<Report, Failed> {
    let failure = |error: TsaError| Failed::Failure(error.to_string());
    let why: Reason = reason.parse().map_err(|error: TsaError| Failed::Usage(error.to_string()))?;
    let now = SystemClock.now();
    let wrong = || Failed::Usage("--since is YYYY-MM-DD or RFC 3339, and not in the future".to_owned());
    let at = since.map(|text| instant(text).ok_or_else(wrong)).transpose()?.unwrap_or(now);
    if at > now {
        return Err(wrong());
    }
    let place = folder.tsa();
    let units = Authority::units(&place).map_err(failure)?;
    let active = units.last().copied().unwrap_or_default();
    let unit = unit.unwrap_or(active);
    if !units.contains(&unit) {
        return Err(Failed::Usage(format!("there is no unit {unit}: units 1 to {active} have been made")));
    }
    if dry_run {
        let told = format!("unit {unit} would be revoked from {} on ({reason})", utc(at));
        return Ok(Report::new(json!({ "unit": unit, "since": at, "revoked": false }), told));
    }
    let list = Authority::revoke(folder.authority()?, unit, at, why, now).map_err(failure)?;
    let path = place.join("ca.pem");
    let pem = std::fs::read_to_string(&path).map_err(crate::failed::at(&path))?;
    let list = TrustAnchor::from_pem(&pem).and_then(|anchor| Crl::read(&list, &anchor)).map_err(failure)?;
    let next = if unit == active { "; another unit takes over within a minute, or at the next start" } else { "" };
    let told = format!("unit {unit} is revoked from {} on ({reason}), by list {}{next}", utc(at), list.number());
    Ok(Report::new(json!({ "unit": unit, "since": at, "revoked": true, "list": list.number() }), told))
}
