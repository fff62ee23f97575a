//! Makes the schema and brings it to this program's version, once, whoever comes first; and compares the topology with
//! what is stored.
//!
//! All of it is one transaction under an advisory lock of the schema's name, so that of many processes that start at the
//! same time one migrates and the others find it done.

use crate::connect::refused;
use crate::error::OpenError;
use tokio_postgres::Client;
use topology::Channel;
use zegel_core::Slot;
use zegel_core::packed::{partition_code, slot_code};
use zegel_core::slot::{INTAKE, RELAY};

/// Each version's statements, in order: version n is the n-th.
const MIGRATIONS: &[&str] = &[include_str!("../migrations/0001.sql"), include_str!("../migrations/0002.sql")];

/// Brings the schema up to date and returns when that is durable. After an error the connection is to be dropped, which
/// rolls everything back.
pub(crate) async fn migrate(client: &Client, schema: &str) -> Result<(), OpenError> {
    let known = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
    client.batch_execute("BEGIN").await.map_err(refused)?;
    // Others that migrate the same schema are waited for; the statement's time limit bounds that.
    client
        .batch_execute(&format!("SELECT pg_advisory_xact_lock(hashtextextended('zegel {schema}', 0))"))
        .await
        .map_err(refused)?;
    let row = client
        .query_one("SELECT to_regnamespace($1) IS NULL, to_regclass($1 || '.format') IS NULL", &[&schema])
        .await
        .map_err(refused)?;
    if row.try_get(0).map_err(refused)? {
        client.batch_execute(&format!("CREATE SCHEMA {schema}")).await.map_err(refused)?;
    }
    if row.try_get(1).map_err(refused)? {
        let sql = "CREATE TABLE format(version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())";
        client.batch_execute(sql).await.map_err(refused)?;
    }
    let row = client.query_one("SELECT coalesce(max(version), 0) FROM format", &[]).await.map_err(refused)?;
    let found: i32 = row.try_get(0).map_err(refused)?;
    if found > known {
        return Err(OpenError::Version { found, known });
    }
    for (version, sql) in (1..).zip(MIGRATIONS).filter(|(version, _)| *version > found) {
        client.batch_execute(sql).await.map_err(refused)?;
        client.execute("INSERT INTO format(version) VALUES ($1)", &[&version]).await.map_err(refused)?;
        tracing::info!(version, "the schema was brought to this version");
    }
    topology(client).await?;
    client.batch_execute("COMMIT").await.map_err(refused)
}

/// Refuses a schema that holds no store of this version, and changes nothing.
pub(crate) async fn is_known(client: &Client, schema: &str) -> Result<(), OpenError> {
    let known = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
    let row = client.query_one("SELECT to_regclass($1 || '.format') IS NULL", &[&schema]).await.map_err(refused)?;
    if row.try_get(0).map_err(refused)? {
        return Err(OpenError::Nothing);
    }
    let row = client.query_one("SELECT coalesce(max(version), 0) FROM format", &[]).await.map_err(refused)?;
    let found: i32 = row.try_get(0).map_err(refused)?;
    if found == known { Ok(()) } else { Err(OpenError::Version { found, known }) }
}

/// Records channels, partitions and slots that are new, and refuses a channel whose partitions are others than stored:
/// its messages and its keys' rows would be looked for in other places than they are.
async fn topology(client: &Client) -> Result<(), OpenError> {
    let codes: Vec<i32> = topology::CHANNELS.iter().map(|channel| i32::from(channel.code)).collect();
    let counts: Vec<i32> = topology::CHANNELS.iter().map(|channel| i32::from(channel.partitions)).collect();
    let sql = "INSERT INTO channels SELECT * FROM unnest($1::integer[], $2::integer[]) ON CONFLICT DO NOTHING";
    client.execute(sql, &[&codes, &counts]).await.map_err(refused)?;
    for row in client.query("SELECT channel, partitions FROM channels", &[]).await.map_err(refused)? {
        let (code, stored): (i32, i32) = (row.try_get(0).map_err(refused)?, row.try_get(1).map_err(refused)?);
        let declared = u16::try_from(code).ok().and_then(topology::channels::by_code);
        if let Some(channel) = declared.filter(|channel| i32::from(channel.partitions) != stored) {
            return Err(OpenError::Partitions { channel: channel.name, stored, declared: channel.partitions });
        }
    }
    let (partitions, slots): (Vec<_>, Vec<_>) = topology::CHANNELS.iter().map(places).unzip();
    let (partitions, slots): (Vec<i64>, Vec<i64>) = (partitions.concat(), slots.concat());
    for (sql, codes) in [
        ("INSERT INTO partitions SELECT unnest($1::bigint[]), 0 ON CONFLICT DO NOTHING", &partitions),
        ("INSERT INTO trims SELECT unnest($1::bigint[]), 0 ON CONFLICT DO NOTHING", &partitions),
        ("INSERT INTO slots(slot) SELECT unnest($1::bigint[]) ON CONFLICT DO NOTHING", &slots),
    ] {
        client.execute(sql, &[codes]).await.map_err(refused)?;
    }
    Ok(())
}

/// A channel's partitions, and its slots: those of its groups, of the relay and of the intake.
fn places(channel: &Channel) -> (Vec<i64>, Vec<i64>) {
    let partitions = (0..channel.partitions).map(|number| partition_code(channel.code, number)).collect();
    let groups = channel.groups.iter().map(|group| group.code).chain([RELAY, INTAKE]);
    let slots = groups.flat_map(|group| {
        (0..channel.partitions).map(move |partition| slot_code(Slot { channel: channel.code, group, partition }))
    });
    (partitions, slots.collect())
}
