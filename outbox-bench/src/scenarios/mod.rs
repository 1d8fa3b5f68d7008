//! What is measured: one module per scenario.

mod backlog;
mod down;
mod drain;
mod enqueue;
mod fan_out;
mod idle;
mod intents;
mod kept;
mod keyed;
mod latency;
mod memory;
mod payload;
mod scaling;
mod snapshot;
mod webhook;

use crate::bench::Bench;
use crate::cli::Run;
use crate::database::{Fill, PAYLOAD_BYTES};
use crate::drain::{Drained, Tuning, Until};
use crate::machine::Machine;
use crate::report::{self, Section};
use crate::stats::Spread;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::io::Write;
use std::time::Instant;

struct Scenario {
    name: &'static str,
    run: for<'a> fn(&'a Bench) -> BoxFuture<'a, anyhow::Result<Section>>,
}

/// In the order of the target table, then the rest.
const ALL: &[Scenario] = &[
    Scenario {
        name: "drain",
        run: |bench| drain::run(bench).boxed(),
    },
    Scenario {
        name: "enqueue",
        run: |bench| enqueue::run(bench).boxed(),
    },
    Scenario {
        name: "latency",
        run: |bench| latency::run(bench).boxed(),
    },
    Scenario {
        name: "kept",
        run: |bench| kept::run(bench).boxed(),
    },
    Scenario {
        name: "snapshot",
        run: |bench| snapshot::run(bench).boxed(),
    },
    Scenario {
        name: "keyed",
        run: |bench| keyed::run(bench).boxed(),
    },
    Scenario {
        name: "webhook",
        run: |bench| webhook::run(bench).boxed(),
    },
    Scenario {
        name: "memory",
        run: |bench| memory::run(bench).boxed(),
    },
    Scenario {
        name: "idle",
        run: |bench| idle::run(bench).boxed(),
    },
    Scenario {
        name: "scaling",
        run: |bench| scaling::run(bench).boxed(),
    },
    Scenario {
        name: "backlog",
        run: |bench| backlog::run(bench).boxed(),
    },
    Scenario {
        name: "payload",
        run: |bench| payload::run(bench).boxed(),
    },
    Scenario {
        name: "fan_out",
        run: |bench| fan_out::run(bench).boxed(),
    },
    Scenario {
        name: "intents",
        run: |bench| intents::run(bench).boxed(),
    },
    Scenario {
        name: "down",
        run: |bench| down::run(bench).boxed(),
    },
];

/// Where a scenario stands among all.
pub(crate) fn position(name: &str) -> usize {
    ALL.iter()
        .position(|scenario| scenario.name == name)
        .unwrap_or(ALL.len())
}

/// Runs what was asked for, and reports as it goes.
pub(crate) async fn run(run: Run) -> anyhow::Result<()> {
    let run = run.settled();
    let mut out = std::io::stdout();
    let names: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
    if run.list {
        return Ok(writeln!(out, "{}", names.join("\n"))?);
    }
    if let Some(unknown) = run
        .scenarios
        .iter()
        .find(|name| position(name) == ALL.len())
    {
        anyhow::bail!(
            "there is no scenario `{unknown}`; there are {}",
            names.join(", ")
        );
    }
    let is_wanted = |scenario: &&Scenario| {
        run.scenarios.is_empty() || run.scenarios.iter().any(|name| name == scenario.name)
    };
    let wanted: Vec<_> = ALL.iter().filter(is_wanted).collect();
    let bench = Bench::start(run).await?;
    let machine = Machine::look(&bench).await?;
    writeln!(out, "{machine}")?;
    let (mut met, mut targets) = (0, 0);
    for scenario in wanted {
        let section = measure(&bench, scenario).await?;
        write!(out, "{}", report::show(&section))?;
        report::write(&bench, &machine, &section)?;
        targets += section
            .rows
            .iter()
            .filter(|row| row.is_met.is_some())
            .count();
        met += section
            .rows
            .iter()
            .filter(|row| row.is_met == Some(true))
            .count();
    }
    writeln!(
        out,
        "\n{met} of {targets} targets met; written to {}",
        bench.output().display()
    )?;
    Ok(())
}

/// Runs a scenario, and notes how much others have disturbed it.
async fn measure(bench: &Bench, scenario: &Scenario) -> anyhow::Result<Section> {
    let (begun, before) = (Instant::now(), bench.others_cpu().await?);
    let mut section = (scenario.run)(bench).await?;
    let used = bench
        .others_cpu()
        .await?
        .zip(before)
        .map(|(now, before)| now - before);
    section.others_cores = used.map(|used| used / begun.elapsed().as_secs_f64());
    Ok(section)
}

/// Drains `fill` from a database of its own through the null channel.
async fn fresh_drain(bench: &Bench, fill: &Fill, tuning: Tuning) -> anyhow::Result<Drained> {
    let database = bench.database().await?;
    database.fill(fill).await?;
    let drained = crate::drain::drain(&database, tuning, Until::Empty(fill.count)).await?;
    database.finish().await?;
    Ok(drained)
}

/// As many plain events as one drain has.
fn plain(bench: &Bench) -> Fill {
    Fill::new(bench.run.events, PAYLOAD_BYTES)
}

fn rates(drained: &[Drained]) -> Option<Spread> {
    Spread::of(drained.iter().map(Drained::rate))
}

/// Deliveries per second over time, from how many there were so far.
fn speed(curve: &[(f64, f64)], window: f64) -> Vec<(f64, f64)> {
    let mut points = Vec::new();
    let mut from = (0.0, 0.0);
    for &(seconds, sent) in curve {
        if seconds - from.0 >= window {
            points.push((seconds, (sent - from.1) / (seconds - from.0)));
            from = (seconds, sent);
        }
    }
    points
}
