//! Events that go to three channels.

use super::{fresh_drain, plain, rates};
use crate::bench::Bench;
use crate::drain::{Drained, Tuning, Until, drain_through};
use crate::null::{Null, spec};
use crate::report::{Row, Section};
use crate::stats::Spread;

const CHANNELS: [&str; 3] = ["first", "second", "third"];

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Section> {
    let (mut three, mut one) = (Vec::new(), Vec::new());
    for _ in 0..bench.run.repeat {
        three.push(measure(bench).await?);
        one.push(fresh_drain(bench, &plain(bench), Tuning::RUSH).await?);
    }
    let mut section = Section::new(
        "fan_out",
        "Fan-out to three channels",
        format!(
            "Three null channels, a result per event and channel; {}.",
            Tuning::RUSH
        ),
    );
    let row = Row::new("three channels", "deliveries/s", rates(&three));
    section.add(row.against("one channel", rates(&one)));
    section.add(Row::new("one channel", "deliveries/s", rates(&one)));
    let wal = Spread::of(three.iter().map(Drained::wal_per_delivery));
    section.add(Row::new("WAL per delivery", "B", wal));
    Ok(section)
}

async fn measure(bench: &Bench) -> anyhow::Result<Drained> {
    let database = bench.database().await?;
    let fill = plain(bench);
    database.fill(&fill).await?;
    let null = Null::default();
    let channel = |name| spec(name, null.clone(), Tuning::RUSH.concurrency);
    let channels = CHANNELS
        .into_iter()
        .map(channel)
        .collect::<anyhow::Result<_>>()?;
    let until = Until::Empty(3 * fill.count);
    let drained = drain_through(&database, Tuning::RUSH, channels, until, || null.sent()).await?;
    database.finish().await?;
    Ok(drained)
}
