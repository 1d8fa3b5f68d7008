//! Traffic whose order matters.

use super::{fresh_drain, plain, rates};
use crate::bench::Bench;
use crate::database::{Fill, PAYLOAD_BYTES};
use crate::drain::{Drained, Tuning, Until, drain_through};
use crate::null::{Null, spec};
use crate::report::{Row, Section};
use crate::stats::Spread;

/// What the keys are, as SQL over `n`, and the least share of the unkeyed rate.
const KEYS: [(&str, &str, f64); 4] = [
    ("all keys distinct", "'key-' || n", 0.8),
    ("1,000 keys", "'key-' || n % 1000", 0.4),
    ("10 hot keys", "'key-' || n % 10", 0.4),
    ("1 hot key", "'hot'", 0.2),
];

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Section> {
    let mut unkeyed = Vec::new();
    let mut keyed: [Vec<Drained>; KEYS.len()] = Default::default();
    let (mut alone, mut behind) = (Vec::new(), Vec::new());
    for _ in 0..bench.run.repeat {
        unkeyed.push(fresh_drain(bench, &plain(bench), Tuning::RUSH).await?);
        for (drained, (_, key, _)) in keyed.iter_mut().zip(KEYS) {
            drained.push(fresh_drain(bench, &plain(bench).keyed(key), Tuning::RUSH).await?);
        }
        alone.push(unkeyed_seconds(bench, false).await?);
        behind.push(unkeyed_seconds(bench, true).await?);
    }
    let mut section = Section::new(
        "keyed",
        "Keyed traffic",
        format!(
            "The same drain with keys; {}. Behind: {} unkeyed events were written after as many \
             of one key, and the time is until the last unkeyed one is sent.",
            Tuning::RUSH,
            bench.events(0.5)
        ),
    );
    for (drained, (what, _, least)) in keyed.iter().zip(KEYS) {
        let row = Row::new(what, "events/s", rates(drained));
        section.add(row.against("unkeyed", rates(&unkeyed)).at_least(least));
    }
    section.add(Row::new("unkeyed", "events/s", rates(&unkeyed)));
    let row = Row::new("unkeyed behind a hot key", "s", Spread::of(behind));
    section.add(row.against("alone", Spread::of(alone)).at_most(3.0));
    Ok(section)
}

/// How long it takes until all unkeyed events are sent.
async fn unkeyed_seconds(bench: &Bench, is_behind: bool) -> anyhow::Result<f64> {
    let database = bench.database().await?;
    let fill = Fill::new(bench.events(0.5), PAYLOAD_BYTES);
    if is_behind {
        database.fill(&fill.clone().keyed("'hot'")).await?;
    }
    database.fill(&fill).await?;
    let null = Null::default();
    let channels = vec![spec("null", null.clone(), Tuning::RUSH.concurrency)?];
    let until = Until::Sent(fill.count);
    let drained =
        drain_through(&database, Tuning::RUSH, channels, until, || null.unkeyed()).await?;
    database.finish().await?;
    Ok(drained.seconds)
}
