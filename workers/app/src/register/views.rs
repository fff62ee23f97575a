//! What the desk says of a project, made from its papers.

use super::Case;
use chrono::{DateTime, SecondsFormat};
use schemas::Millis;
use zegel_ttp::project::ProjectDocument;
use zegel_ttp::project::agreement::{Agreement, Decided};
use zegel_ttp::project::book::day_of;
use zegel_ttp::project::desk::{Barred, DecisionView, Details, Overview, State};
use zegel_ttp::project::entry::Deed;
use zegel_ttp::project::register::Standing;

pub(super) fn overview(case: &Case, now: Millis) -> Overview {
    let mut overview = Overview {
        name: case.name.clone(),
        state: State::Barred,
        version: 0,
        epoch: 0,
        until: None,
        senders: 0,
        trial: false,
        barred: None,
        warnings: Vec::new(),
    };
    match &case.judged {
        Err((reason, why)) => overview.barred = Some(Barred { code: reason.code.clone(), why: why.clone() }),
        Ok((agreement, _)) => fill(&mut overview, agreement, now),
    }
    overview
}

fn fill(overview: &mut Overview, agreement: &Agreement, now: Millis) {
    let day = day_of(now);
    let last = agreement.register.periods().last();
    let (state, period) = match agreement.register.standing(day) {
        Standing::InForce(period) => (State::InForce, Some(period)),
        Standing::Ahead(_) | Standing::Draft => (State::Ahead, last.copied()),
        Standing::Retired(_) => (State::Retired, last.copied()),
        Standing::Destroyed(_) => (State::KeysDestroyed, last.copied()),
    };
    let Some((period, document)) = period.and_then(|p| Some((p, agreement.documents.get(&p.version)?))) else { return };
    overview.state = match state {
        State::InForce if document.valid.until < day => State::Expired,
        State::InForce if document.valid.from > day => State::Ahead,
        other => other,
    };
    overview.version = period.version;
    overview.epoch = period.epoch;
    overview.until = Some(document.valid.until.to_string());
    overview.senders = document.senders.len();
    overview.trial = agreement.trial;
    overview.warnings = warnings(document, agreement.trial);
}

fn warnings(document: &ProjectDocument, trial: bool) -> Vec<String> {
    let rules = [
        (document.recipient_may_send, "the recipient may learn tokens of numbers of its choice"),
        (trial, "activated for a trial: one person held every key"),
        (document.deliberation.is_none(), "the document cites no deliberation"),
    ];
    let broken = rules.into_iter().filter(|(holds, _)| *holds).map(|(_, text)| text);
    document.exchange_warnings().into_iter().chain(broken).map(str::to_owned).collect()
}

pub(super) fn details(case: &Case, now: Millis) -> Details {
    let overview = overview(case, now);
    let version = overview.version.max(1);
    let signed = case.dossier.documents.get(&version);
    let document = signed.map(|signed| String::from_utf8_lossy(&signed.document).into_owned());
    let agreement = case.judged.as_ref().ok().map(|(agreement, _)| agreement);
    Details {
        overview,
        document,
        head: agreement.and_then(|agreement| agreement.head),
        root: agreement.and_then(|agreement| agreement.register.root()),
        earliest: agreement.and_then(|agreement| agreement.register.earliest()).map(|day| day.to_string()),
        decisions: agreement.map(|agreement| agreement.decisions.iter().map(decision).collect()).unwrap_or_default(),
    }
}

fn decision(decided: &Decided) -> DecisionView {
    let deed = match &decided.entry.deed {
        Deed::Activate { version, .. } => format!("activate version {version}"),
        Deed::Rotate { epoch } => format!("rotate to epoch {epoch}"),
        Deed::Retire { reason } => format!("retire: {reason}"),
        Deed::DestroyKeys { .. } => "destroy keys".to_owned(),
    };
    let at = DateTime::from_timestamp_millis(decided.at.0);
    DecisionView {
        sequence: decided.entry.sequence,
        deed,
        effective: decided.entry.effective.to_string(),
        signed_at: at.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true)).unwrap_or_default(),
        officer: decided.officer,
    }
}
