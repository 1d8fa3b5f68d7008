//! A drain beside millions of settled events that are kept.

use super::{fresh_drain, plain, rates};
use crate::bench::Bench;
use crate::database::{Database, PAYLOAD_BYTES, payload};
use crate::drain::{Tuning, Until, drain};
use crate::report::{Row, Section};

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Section> {
    let kept = bench.run.kept();
    let full = bench.database().await?;
    keep(&full, kept).await?;
    let (mut beside, mut empty) = (Vec::new(), Vec::new());
    for _ in 0..bench.run.repeat {
        empty.push(fresh_drain(bench, &plain(bench), Tuning::RUSH).await?);
        full.fill(&plain(bench)).await?;
        beside.push(drain(&full, Tuning::RUSH, Until::Empty(bench.run.events)).await?);
    }
    full.finish().await?;
    let mut section = Section::new(
        "kept",
        "Drain with settled events kept",
        format!(
            "{kept} settled events are in the tables, vacuumed; {}.",
            Tuning::RUSH
        ),
    );
    let row = Row::new(
        format!("{kept} settled events kept"),
        "events/s",
        rates(&beside),
    );
    section.add(row.against("empty tables", rates(&empty)).at_least(0.9));
    section.add(Row::new("empty tables", "events/s", rates(&empty)));
    Ok(section)
}

/// Events that were delivered an hour ago.
async fn keep(database: &Database, count: u64) -> anyhow::Result<()> {
    let payload = payload(PAYLOAD_BYTES);
    database
        .run(format!(
            "SET session_replication_role = replica; -- without our trigger
             INSERT INTO outbox_events (event_type, payload, deliver_at, created_at)
             SELECT 'bench', '{payload}', now() - interval '1 hour', now() - interval '1 hour'
             FROM generate_series(1, {count});
             INSERT INTO outbox_deliveries (event_id, channel, status, attempts, finished_at)
             SELECT id, 'null', 'delivered', 1, now() - interval '1 hour' FROM outbox_events;
             RESET session_replication_role"
        ))
        .await?;
    for table in ["outbox_events", "outbox_deliveries"] {
        database.run(format!("VACUUM (ANALYZE) {table}")).await?;
    }
    Ok(())
}
