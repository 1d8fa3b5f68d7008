//! What it costs that an attempt is written down before it begins.

use super::{fresh_drain, plain, rates};
use crate::bench::Bench;
use crate::drain::{Drained, Tuning, Until, drain_through};
use crate::null::{Null, spec};
use crate::report::{Row, Section};
use crate::stats::Spread;
use outbox_engine::OnAmbiguous;

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Section> {
    let (mut hold, mut retry) = (Vec::new(), Vec::new());
    for _ in 0..bench.run.repeat {
        hold.push(measure(bench).await?);
        retry.push(fresh_drain(bench, &plain(bench), Tuning::RUSH).await?);
    }
    let mut section = Section::new(
        "intents",
        "Attempts written down first",
        format!(
            "The same drain with `on_ambiguous = \"hold\"`: each event comes to its channel's own \
             lane, and its attempt is written down before it begins; {}.",
            Tuning::RUSH
        ),
    );
    let row = Row::new("hold", "events/s", rates(&hold));
    section.add(row.against("retry", rates(&retry)));
    section.add(Row::new("retry", "events/s", rates(&retry)));
    for (what, drained) in [("hold", &hold), ("retry", &retry)] {
        let wal = Spread::of(drained.iter().map(Drained::wal_per_delivery));
        section.add(Row::new(format!("WAL per event, {what}"), "B", wal));
    }
    Ok(section)
}

async fn measure(bench: &Bench) -> anyhow::Result<Drained> {
    let database = bench.database().await?;
    let fill = plain(bench);
    database.fill(&fill).await?;
    let null = Null::default();
    let mut channel = spec("null", null.clone(), Tuning::RUSH.concurrency)?;
    channel.on_ambiguous = OnAmbiguous::Hold;
    let until = Until::Empty(fill.count);
    let channels = vec![channel];
    let drained = drain_through(&database, Tuning::RUSH, channels, until, || null.sent()).await?;
    database.finish().await?;
    Ok(drained)
}
