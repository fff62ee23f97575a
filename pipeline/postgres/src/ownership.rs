//! Who owns what: claims, renewals, releases, attempts on record, who is alive, and dead letters that operators resolve.
//! Each is one statement.

use crate::connect::Session;
use crate::error::Fault;
use crate::queries::{get, id, unsigned};
use crate::shared::Partition;
use schemas::Millis;
use std::sync::Arc;
use zegel_core::packed::{partition_code, slot_code};
use zegel_core::store::Claim;
use zegel_core::{Outgoing, OwnerId, Slot, StoreError};

type Result<T> = std::result::Result<T, Fault>;

/// See [`zegel_core::Store::claim`].
pub(crate) async fn claim(
    session: Arc<Session>,
    slot: Slot,
    owner: OwnerId,
    now: Millis,
    until: Millis,
) -> Result<Option<Claim>> {
    const SQL: &str = "UPDATE slots SET owner = $2, epoch = slots.epoch + 1, until = $4, clean = false
        FROM (SELECT slot, clean FROM slots WHERE slot = $1 FOR UPDATE) AS before
        WHERE slots.slot = before.slot AND (slots.owner IS NULL OR slots.owner = $2 OR slots.until <= $3)
        RETURNING slots.epoch, slots.position, before.clean";
    let statement = session.statement(SQL).await?;
    let found = session.client.query_opt(&statement, &[&slot_code(slot), &&owner.0[..], &now.0, &until.0]).await?;
    let Some(row) = found else { return Ok(None) };
    Ok(Some(Claim { slot, epoch: unsigned(&row, 0)?, position: unsigned(&row, 1)?, clean: get(&row, 2)? }))
}

/// Runs a statement that changes the slot's row for its owner only.
async fn as_owner(
    session: &Session,
    sql: &'static str,
    slot: Slot,
    parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<()> {
    let statement = session.statement(sql).await?;
    match session.client.execute(&statement, parameters).await? {
        0 => Err(Fault::Refused(StoreError::Fenced { slot })),
        _ => Ok(()),
    }
}

/// See [`zegel_core::Store::renew`].
pub(crate) async fn renew(session: Arc<Session>, slot: Slot, epoch: u64, until: Millis) -> Result<()> {
    const SQL: &str = "UPDATE slots SET until = $3 WHERE slot = $1 AND owner IS NOT NULL AND epoch = $2";
    as_owner(&session, SQL, slot, &[&slot_code(slot), &epoch.cast_signed(), &until.0]).await
}

/// See [`zegel_core::Store::release`].
pub(crate) async fn release(session: Arc<Session>, slot: Slot, epoch: u64, clean: bool) -> Result<()> {
    const SQL: &str = "WITH released AS (
            UPDATE slots SET owner = NULL, clean = $3 WHERE slot = $1 AND owner IS NOT NULL AND epoch = $2 RETURNING slot),
          forgotten AS (DELETE FROM attempts USING released WHERE attempts.slot = released.slot AND number = 0 AND $3)
        SELECT slot FROM released";
    as_owner(&session, SQL, slot, &[&slot_code(slot), &epoch.cast_signed(), &clean]).await
}

/// See [`zegel_core::Store::begin_attempt`].
pub(crate) async fn begin_attempt(session: Arc<Session>, slot: Slot, epoch: u64, number: u64) -> Result<u32> {
    const SQL: &str = "INSERT INTO attempts AS a (slot, number, count)
        SELECT slot, $3, 1 FROM slots WHERE slot = $1 AND owner IS NOT NULL AND epoch = $2 FOR UPDATE
        ON CONFLICT (slot, number) DO UPDATE SET count = a.count + 1 RETURNING count";
    let statement = session.statement(SQL).await?;
    let parameters = (slot_code(slot), epoch.cast_signed(), number.cast_signed());
    let found = session.client.query_opt(&statement, &[&parameters.0, &parameters.1, &parameters.2]).await?;
    let Some(row) = found else { return Err(Fault::Refused(StoreError::Fenced { slot })) };
    Ok(u32::try_from(get::<i64>(&row, 0)?).unwrap_or(u32::MAX))
}

/// See [`zegel_core::Store::announce`].
pub(crate) async fn announce(
    session: Arc<Session>,
    group: u16,
    owner: OwnerId,
    now: Millis,
    until: Millis,
) -> Result<Vec<OwnerId>> {
    const SQL: &str = "SELECT announce($1, $2, $3, $4)";
    let statement = session.statement(SQL).await?;
    let rows = session.client.query(&statement, &[&i32::from(group), &&owner.0[..], &now.0, &until.0]).await?;
    rows.iter().map(|row| id(row, 0).map(OwnerId)).collect()
}

/// See [`zegel_core::Store::resolve_dead`]. Returns whether it was there, and the target's last number.
pub(crate) async fn resolve_dead(
    session: Arc<Session>,
    slot: Slot,
    number: u64,
    again: Option<(&Outgoing, &Partition)>,
) -> Result<(bool, Option<u64>)> {
    const SQL: &str = "SELECT resolved, last FROM resolve_dead($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let statement = session.statement(SQL).await?;
    let (channel, partition, group) = (i32::from(slot.channel), i32::from(slot.partition), i32::from(slot.group));
    let target = again.map(|(_, to)| partition_code(to.channel.code, to.number));
    let message = again.map(|(message, _)| message);
    let row = session
        .client
        .query_one(
            &statement,
            &[
                &slot_code(slot),
                &channel,
                &partition,
                &number.cast_signed(),
                &group,
                &target,
                &message.map(|one| &one.key.0[..]),
                &message.map(|one| &one.id.0[..]),
                &message.map(|one| &one.body.bytes()[..]),
            ],
        )
        .await?;
    Ok((get(&row, 0)?, get::<Option<i64>>(&row, 1)?.map(i64::cast_unsigned)))
}
