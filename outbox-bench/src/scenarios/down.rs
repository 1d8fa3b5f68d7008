//! One channel is down and has a deep backlog; the others go on.

use super::{plain, rates};
use crate::bench::Bench;
use crate::database::{Database, Fill, PAYLOAD_BYTES};
use crate::drain::{Drained, Tuning, Until, drain_through};
use crate::null::{Down, Null, spec};
use crate::report::{Row, Section};

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Section> {
    let waiting = bench.events(5.0);
    let (mut beside, mut between, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.run.repeat {
        alone.push(measure(bench, Broken::Nothing).await?);
        beside.push(measure(bench, Broken::Waiting(waiting)).await?);
        between.push(measure(bench, Broken::Before(bench.run.events)).await?);
    }
    let mut section = Section::new(
        "down",
        "One channel is down, the others go on",
        format!(
            "{} events for a channel that works, while another channel is down: with {waiting} \
             events in that channel's lane, and with as many new events for it written before \
             those for the channel that works; {}.",
            bench.run.events,
            Tuning::RUSH
        ),
    );
    let row = |what: String, drained: &[Drained]| {
        let row = Row::new(what, "events/s", rates(drained));
        row.against("nothing is down", rates(&alone))
    };
    section.add(row(format!("{waiting} wait in its lane"), &beside).at_least(0.9));
    section.add(row("new events for both".to_owned(), &between));
    Ok(section)
}

/// What there is for the channel that is down.
enum Broken {
    Nothing,
    /// So many were routed to it already.
    Waiting(u64),
    /// So many new ones, before the others.
    Before(u64),
}

async fn measure(bench: &Bench, broken: Broken) -> anyhow::Result<Drained> {
    let database = bench.database().await?;
    match broken {
        Broken::Nothing => {}
        Broken::Waiting(count) => wait_in_lane(&database, count).await?,
        Broken::Before(count) => {
            database
                .fill(&Fill::new(count, PAYLOAD_BYTES).of_type("broken"))
                .await?;
        }
    }
    let fill = plain(bench).of_type("fine");
    database.fill(&fill).await?;
    let fine = Null::default();
    let concurrency = Tuning::RUSH.concurrency;
    let channels = vec![
        spec("fine", fine.clone(), concurrency)?,
        spec("broken", Down, concurrency)?,
    ];
    let until = Until::Sent(fill.count);
    let drained = drain_through(&database, Tuning::RUSH, channels, until, || fine.sent()).await?;
    database.finish().await?;
    Ok(drained)
}

/// Events that wait in the broken channel's own lane, as those do that were put back.
async fn wait_in_lane(database: &Database, count: u64) -> anyhow::Result<()> {
    database
        .fill(&Fill::new(count, PAYLOAD_BYTES).of_type("broken"))
        .await?;
    database
        .run("UPDATE outbox_queue SET channel = 'broken'")
        .await?;
    database.run("VACUUM (ANALYZE) outbox_queue").await?;
    Ok(())
}
