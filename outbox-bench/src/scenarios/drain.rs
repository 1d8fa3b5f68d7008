//! How fast a backlog goes, beside the bare loop and other queues.

use super::{fresh_drain, plain, rates};
use crate::bare;
use crate::bench::Bench;
use crate::database::{Fill, PAYLOAD_BYTES};
use crate::drain::{Drained, Tuning, Until, drain};
use crate::peers;
use crate::report::{Row, Section};
use crate::stats::Spread;

const SMALL: Tuning = Tuning {
    batch_size: 100,
    concurrency: 256,
    connections: 4,
};

#[derive(Default)]
struct Rates {
    large: Vec<Drained>,
    small: Vec<Drained>,
    bare: [Vec<f64>; 3],
    graphile: Vec<peers::Drained>,
    apalis: Vec<peers::Drained>,
}

const BARE_BATCHES: [i64; 3] = [1_000, 100, 1];

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Section> {
    let mut all = Rates::default();
    for _ in 0..bench.run.repeat {
        all.large
            .push(fresh_drain(bench, &plain(bench), Tuning::RUSH).await?);
        for (rates, batch) in all.bare.iter_mut().zip(BARE_BATCHES) {
            rates.push(bare_rate(bench, batch).await?);
        }
        all.small
            .push(fresh_drain(bench, &plain(bench), SMALL).await?);
        all.graphile.extend(peers::drain(bench, "graphile").await?);
        all.apalis.extend(peers::drain(bench, "apalis").await?);
    }
    let mut section = section(&all);
    section.statements = statements(bench).await?;
    Ok(section)
}

/// Single events take so long that fewer have to do.
async fn bare_rate(bench: &Bench, batch: i64) -> anyhow::Result<f64> {
    let count = if batch == 1 {
        bench.events(0.1)
    } else {
        bench.run.events
    };
    let database = bench.empty_database().await?;
    bare::fill(&database, &Fill::new(count, PAYLOAD_BYTES)).await?;
    let seconds = bare::drain(&database, batch).await?;
    database.finish().await?;
    #[expect(clippy::cast_precision_loss, reason = "far less than 2^52 of them")]
    Ok(count as f64 / seconds)
}

/// One more drain, to see where the server's time goes.
async fn statements(bench: &Bench) -> anyhow::Result<Vec<crate::database::Statement>> {
    let database = bench.database().await?;
    database.fill(&plain(bench)).await?;
    database.profile().await?;
    drain(&database, Tuning::RUSH, Until::Empty(bench.run.events)).await?;
    let statements = database.statements().await?;
    database.finish().await?;
    Ok(statements)
}

fn section(all: &Rates) -> Section {
    let peer_rates =
        |drained: &[peers::Drained]| Spread::of(drained.iter().map(peers::Drained::rate));
    let (graphile, apalis) = (peer_rates(&all.graphile), peer_rates(&all.apalis));
    let bare = all
        .bare
        .each_ref()
        .map(|rates| Spread::of(rates.iter().copied()));
    let large = rates(&all.large);
    let mut section = Section::new(
        "drain",
        "Drain through the null channel",
        format!(
            "One worker, a result per event recorded; {}, and {SMALL}. The bare loop: {} \
             connections, two UPDATEs per batch on one wide row.",
            Tuning::RUSH,
            bare::CONNECTIONS
        ),
    );
    let rate = |what: &str, spread| Row::new(what, "events/s", spread);
    let ours = || rate("outbox, batch 1,000", large);
    section.add(ours().against("graphile_worker", graphile).at_least(2.5));
    section.add(ours().against("bare loop × 1,000", bare[0]).at_least(1.0));
    section.add(rate("outbox, batch 100", rates(&all.small)).against("bare loop × 100", bare[1]));
    section.add(rate("bare loop × 1,000", bare[0]));
    section.add(rate("bare loop × 100", bare[1]));
    section.add(rate("bare loop × 1", bare[2]));
    section.add(rate(&named("graphile_worker", &all.graphile), graphile));
    section.add(rate(&named("apalis-postgres", &all.apalis), apalis));
    costs(&mut section, "batch 1,000", &all.large, true);
    costs(&mut section, "batch 100", &all.small, false);
    section
}

fn named(name: &str, drained: &[peers::Drained]) -> String {
    drained.first().map_or_else(
        || format!("{name} (not built)"),
        |drained| format!("{}: {}", drained.peer, drained.settings),
    )
}

fn costs(section: &mut Section, what: &str, drained: &[Drained], is_target: bool) {
    let wal = Spread::of(drained.iter().map(Drained::wal_per_delivery));
    let wal = Row::new(format!("WAL per event, {what}"), "B", wal);
    section.add(if is_target { wal.at_most(600.0) } else { wal });
    let cpu = |who: &str, spread| Row::new(format!("{who} CPU per 100,000, {what}"), "s", spread);
    let own = Spread::of_all(drained.iter().map(Drained::own_cpu_per_100k));
    let server = Spread::of_all(drained.iter().map(Drained::server_cpu_per_100k));
    section.add(cpu("worker", own));
    section.add(cpu("server", server));
}
