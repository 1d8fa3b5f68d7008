//! A drain while another session holds an old snapshot open: no dead row can be removed.

use super::{rates, speed};
use crate::bare;
use crate::bench::Bench;
use crate::database::{Database, Fill, PAYLOAD_BYTES};
use crate::drain::{Drained, Tuning, Until, drain};
use crate::report::{Curve, Row, Section};
use crate::stats::Spread;
use sqlx::postgres::PgPool;

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Section> {
    let fill = Fill::new(bench.events(2.5), PAYLOAD_BYTES);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let (mut bare_with, mut bare_without) = (Vec::new(), Vec::new());
    for _ in 0..bench.run.repeat {
        without.push(ours(bench, &fill, false).await?);
        with.push(ours(bench, &fill, true).await?);
        bare_without.push(bare(bench, false).await?);
        bare_with.push(bare(bench, true).await?);
    }
    let mut section = Section::new(
        "snapshot",
        "Drain while an old snapshot is held open",
        format!(
            "{} events; a REPEATABLE READ transaction is open from before the first to after the \
             last; {}. The bare loop drains {} events in batches of 1,000.",
            fill.count,
            Tuning::RUSH,
            bench.run.events
        ),
    );
    let row = |what: &str, spread| Row::new(what, "events/s", spread);
    let baseline = rates(&without);
    section.add(
        row("snapshot open", rates(&with))
            .against("none open", baseline)
            .at_least(0.9),
    );
    let baseline = Spread::of(bare_without);
    section
        .add(row("bare loop, snapshot open", Spread::of(bare_with)).against("none open", baseline));
    let curve = |what: &str, drained: &[Drained]| {
        let points = drained.last().map(|drained| speed(&drained.curve, 0.5));
        Curve {
            what: what.to_owned(),
            points: points.unwrap_or_default(),
        }
    };
    section.curves(
        "seconds",
        "events/s",
        vec![curve("snapshot open", &with), curve("none open", &without)],
    );
    Ok(section)
}

async fn ours(bench: &Bench, fill: &Fill, is_held: bool) -> anyhow::Result<Drained> {
    let database = bench.database().await?;
    let snapshot = Snapshot::hold(&database, is_held).await?;
    database.fill(fill).await?;
    let drained = drain(&database, Tuning::RUSH, Until::Empty(fill.count)).await?;
    snapshot.release().await?;
    database.finish().await?;
    Ok(drained)
}

async fn bare(bench: &Bench, is_held: bool) -> anyhow::Result<f64> {
    let database = bench.empty_database().await?;
    let snapshot = Snapshot::hold(&database, is_held).await?;
    bare::fill(&database, &Fill::new(bench.run.events, PAYLOAD_BYTES)).await?;
    let seconds = bare::drain(&database, 1_000).await?;
    snapshot.release().await?;
    database.finish().await?;
    #[expect(clippy::cast_precision_loss, reason = "far less than 2^52 of them")]
    Ok(bench.run.events as f64 / seconds)
}

/// A transaction that sees the database as it was.
struct Snapshot(PgPool);

impl Snapshot {
    async fn hold(database: &Database, is_held: bool) -> anyhow::Result<Self> {
        let pool = crate::pool::connect(&database.url, 1).await?;
        if is_held {
            let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ";
            sqlx::raw_sql(begin).execute(&pool).await?;
            sqlx::raw_sql("SELECT txid_current(), count(*) FROM pg_class")
                .execute(&pool)
                .await?;
        }
        Ok(Self(pool))
    }

    async fn release(self) -> anyhow::Result<()> {
        sqlx::raw_sql("ROLLBACK").execute(&self.0).await?;
        self.0.close().await;
        Ok(())
    }
}
