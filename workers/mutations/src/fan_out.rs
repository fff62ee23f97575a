//! Who follows a person, and who is told of a mutation.
//!
//! An inscription has a period in days, both ends included. A mutation is told to the organisations whose period holds
//! *today*, the day on which the registry's event is handled, not the day from which the mutation holds: an organisation
//! may learn of an old change only while it follows the person. Days are UTC days, so a period may begin and end up to two
//! hours late by Belgian time.
//! An event is taken once: (feed, event) is remembered per person.
//! Failure behaviour: an inscription whose days cannot be read is a dead letter; the edge checks them before.

use crate::rows::{EventRow, InscriptionRow};
use crate::{NOTIFY, REGISTRY, SOURCE, queries};
use bytes::Bytes;
use chrono::{DateTime, NaiveDate};
use schemas::Millis;
use schemas::messages::{CommandReply, Inscription, Mutation, Notify};
use topology::Channel;
use zegel_core::rows::V1;
use zegel_core::slot::spaces;
use zegel_core::{Context, Decision, Effects, Failure, Interrupt, Message, Read, View, Worker, names};

/// Inscriptions read at a time: a person is followed by a few organisations, rarely by more than this.
const PAGE: usize = 1_000;

/// The worker of `mutations.registry`.
#[derive(Debug, Clone, Copy, Default)]
pub struct FanOut;

impl Worker for FanOut {
    fn channel(&self) -> &'static Channel {
        REGISTRY
    }

    fn reads(&self, message: &Message, context: &Context<'_>) -> Vec<Read> {
        let owner = message.key();
        if let Ok(mutation) = message.payload::<Mutation>() {
            let event = Read::One { space: spaces::EVENTS, owner, sub: event_sub(&mutation, context) };
            let from = Bytes::new();
            let followers =
                Read::Range { space: spaces::INSCRIPTIONS, owner, from, to: None, limit: PAGE, reverse: false };
            return vec![event, followers];
        }
        let inscription = message.payload::<Inscription>().ok();
        let key = inscription.map(|inscription| names::address_key(context.keys, &inscription.organisation));
        key.map(|organisation| queries::inscription(owner, organisation)).into_iter().collect()
    }

    fn decide(&self, message: &Message, view: &View, context: &Context<'_>) -> Result<Decision, Interrupt> {
        if message.is::<Mutation>() { tell(message, view, context) } else { inscribe(message, view, context) }
    }
}

/// Begins, changes or ends an inscription.
fn inscribe(message: &Message, view: &View, context: &Context<'_>) -> Result<Decision, Interrupt> {
    let inscription: Inscription = message.payload()?;
    let mut effects = Effects::default();
    let reply = CommandReply { applied: Vec::new(), unknown: Vec::new() };
    effects.reply = Some(serde_json::to_vec(&reply).map_err(|_| Failure::permanent("ZGL-MSG-ENCODE"))?.into());
    let sub = Bytes::copy_from_slice(&names::address_key(context.keys, &inscription.organisation).0);
    if inscription.withdraw {
        effects.delete(spaces::INSCRIPTIONS, message.key(), sub);
        return Ok(Decision::Done(effects));
    }
    let until = inscription.until.as_deref();
    let days = is_day(&inscription.from) && until.is_none_or(is_day);
    // In this form days compare as texts.
    if !days || until.is_some_and(|until| until < inscription.from.as_str()) {
        return Err(Failure::permanent("ZGL-IN-FIELD").into());
    }
    let row = InscriptionRow {
        v: V1,
        organisation: inscription.organisation,
        from: inscription.from,
        until: inscription.until,
    };
    let stored: Option<InscriptionRow> = view.get(spaces::INSCRIPTIONS, message.key(), sub.clone())?;
    if stored.as_ref() != Some(&row) {
        effects.put(spaces::INSCRIPTIONS, message.key(), sub, &row)?;
    }
    Ok(Decision::Done(effects))
}

/// Tells every organisation that follows the person today.
fn tell(message: &Message, view: &View, context: &Context<'_>) -> Result<Decision, Interrupt> {
    let mutation: Mutation = message.payload()?;
    let owner = message.key();
    let mut effects = Effects::default();
    let event = event_sub(&mutation, context);
    if view.get::<EventRow>(spaces::EVENTS, owner, event.clone())?.is_some() {
        return Ok(Decision::Done(effects));
    }
    effects.put(spaces::EVENTS, owner, event, &EventRow { v: V1, at: context.now })?;
    let today = day_of(context.now);
    let mut from = Bytes::new();
    loop {
        let page = view.range(spaces::INSCRIPTIONS, owner, from, None, PAGE)?;
        for (_, value) in &page {
            let row: InscriptionRow =
                zegel_core::rows::decode(value).map_err(|_| Failure::permanent("ZGL-STATE-READ"))?;
            if row.from <= today && row.until.as_ref().is_none_or(|until| *until >= today) {
                let key = names::address_key(context.keys, &row.organisation);
                let notify = Notify { organisation: row.organisation, mutation: mutation.clone(), at: context.now };
                effects.produce(NOTIFY, message.follow_up(context, SOURCE, key, &notify)?);
            }
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE => from = [&last[..], &[0]].concat().into(),
            _ => return Ok(Decision::Done(effects)),
        }
    }
}

fn event_sub(mutation: &Mutation, context: &Context<'_>) -> Bytes {
    Bytes::copy_from_slice(&names::event_id(context.keys, &mutation.feed, &mutation.event).0)
}

/// Whether the text is a day of the calendar, written `YYYY-MM-DD`.
fn is_day(text: &str) -> bool {
    text.parse::<NaiveDate>().is_ok_and(|day| day.to_string() == text)
}

/// The UTC day of an instant, written `YYYY-MM-DD`; empty outside the calendar, which no period holds.
fn day_of(instant: Millis) -> String {
    DateTime::from_timestamp_millis(instant.0).map(|at| at.date_naive().to_string()).unwrap_or_default()
}
