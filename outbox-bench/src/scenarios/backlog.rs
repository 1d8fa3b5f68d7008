//! Claims from a deep backlog.

use super::{fresh_drain, plain, rates};
use crate::bench::Bench;
use crate::drain::{Tuning, Until, drain};
use crate::report::{Row, Section};

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Section> {
    let depth = bench.run.backlog();
    let deep = bench.database().await?;
    let mut fill = plain(bench);
    fill.count = depth;
    deep.fill(&fill).await?;
    let (mut from_deep, mut from_shallow) = (Vec::new(), Vec::new());
    for _ in 0..bench.run.repeat {
        from_deep.push(drain(&deep, Tuning::RUSH, Until::Sent(bench.run.events)).await?);
        from_shallow.push(fresh_drain(bench, &plain(bench), Tuning::RUSH).await?);
    }
    deep.finish().await?;
    let mut section = Section::new(
        "backlog",
        "Claims from a deep backlog",
        format!(
            "The first {} of {depth} waiting events, the next as many, and so on; {}.",
            bench.run.events,
            Tuning::RUSH
        ),
    );
    let row = Row::new(format!("{depth} waiting"), "events/s", rates(&from_deep));
    section.add(row.against("no more than that", rates(&from_shallow)));
    section.add(Row::new(
        "no more than that",
        "events/s",
        rates(&from_shallow),
    ));
    Ok(section)
}
