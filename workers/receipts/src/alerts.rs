//! Incidents: one alert when the first item is affected, closed when the last one no longer is.
//!
//! A repeated change of an item changes nothing, so counts stay right whatever is delivered twice. Whoever shows alerts to
//! operators reads the incident's row; [`AlertRow::opened_times`] counts the alerts.

use crate::ALERTS;
use crate::rows::{AlertItemRow, AlertRow};
use bytes::Bytes;
use schemas::messages::AlertChange;
use topology::Channel;
use zegel_core::rows::V1;
use zegel_core::slot::spaces;
use zegel_core::{Context, Decision, Effects, Interrupt, Message, Read, View, Worker};

/// The worker of `alerts.raised`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alerts;

impl Worker for Alerts {
    fn channel(&self) -> &'static Channel {
        ALERTS
    }

    fn reads(&self, message: &Message, _: &Context<'_>) -> Vec<Read> {
        let owner = message.key();
        let incident = Read::One { space: spaces::ALERTS, owner, sub: Bytes::new() };
        let item = message.payload::<AlertChange>().ok().map(|change| Read::One {
            space: spaces::ALERT_ITEMS,
            owner,
            sub: Bytes::copy_from_slice(&change.item.0),
        });
        std::iter::once(incident).chain(item).collect()
    }

    fn decide(&self, message: &Message, view: &View, _: &Context<'_>) -> Result<Decision, Interrupt> {
        let change: AlertChange = message.payload()?;
        let owner = message.key();
        let item = Bytes::copy_from_slice(&change.item.0);
        let known: Option<AlertItemRow> = view.get(spaces::ALERT_ITEMS, owner, item.clone())?;
        let mut effects = Effects::default();
        if known.is_some() == change.raised {
            return Ok(Decision::Done(effects));
        }
        let row: Option<AlertRow> = view.get(spaces::ALERTS, owner, Bytes::new())?;
        let mut row = row.unwrap_or_else(|| never_opened(&change));
        if change.raised {
            effects.put(spaces::ALERT_ITEMS, owner, item, &AlertItemRow { v: V1, at: change.at })?;
            join(&mut row, &change);
        } else {
            effects.delete(spaces::ALERT_ITEMS, owner, item);
            leave(&mut row, &change);
        }
        effects.put(spaces::ALERTS, owner, Bytes::new(), &row)?;
        Ok(Decision::Done(effects))
    }
}

fn join(row: &mut AlertRow, change: &AlertChange) {
    row.count += 1;
    if !row.open {
        row.open = true;
        row.opened_at = change.at;
        row.closed_at = None;
        row.opened_times += 1;
    }
}

fn leave(row: &mut AlertRow, change: &AlertChange) {
    row.count = row.count.saturating_sub(1);
    if row.count == 0 {
        row.open = false;
        row.closed_at = Some(change.at);
    }
}

fn never_opened(change: &AlertChange) -> AlertRow {
    AlertRow {
        v: V1,
        incident: change.incident.clone(),
        open: false,
        count: 0,
        opened_at: change.at,
        closed_at: None,
        opened_times: 0,
    }
}
