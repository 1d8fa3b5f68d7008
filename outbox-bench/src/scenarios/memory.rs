//! A worker's memory over a long drain.

use super::plain;
use crate::bench::Bench;
use crate::child::WorkerProcess;
use crate::drain::{Progress, Tuning};
use crate::meter;
use crate::report::{Curve, Row, Section};
use crate::stats::Spread;
use std::time::{Duration, Instant};

/// Resident memory in MiB over time, and at its highest.
#[derive(Default)]
struct Memory {
    curve: Vec<(f64, f64)>,
    peak: Option<f64>,
}

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Section> {
    let mut rush = Vec::new();
    let mut default = Vec::new();
    for _ in 0..bench.run.repeat {
        rush.push(measure(bench, Tuning::RUSH).await?);
        default.push(measure(bench, Tuning::DEFAULT).await?);
    }
    let mut section = Section::new(
        "memory",
        "A worker's memory over a long drain",
        format!(
            "A worker process drains {} events of 300 bytes; resident memory, read every 100 ms. \
             {}; and with defaults: {}.",
            bench.events(5.0),
            Tuning::RUSH,
            Tuning::DEFAULT
        ),
    );
    let peak = |all: &[Memory]| Spread::of_all(all.iter().map(|memory| memory.peak));
    section.add(Row::new("peak, batch 1,000", "MiB", peak(&rush)).at_most(80.0));
    section.add(Row::new("peak, defaults", "MiB", peak(&default)).at_most(80.0));
    let flat = Spread::of_all(rush.iter().map(Memory::growth));
    section.add(Row::new("growth over the last three quarters", "×", flat).at_most(1.1));
    let curve = |what: &str, all: &mut Vec<Memory>| Curve {
        what: what.to_owned(),
        points: all.pop().unwrap_or_default().curve,
    };
    let curves = vec![
        curve("batch 1,000", &mut rush),
        curve("defaults", &mut default),
    ];
    section.curves("seconds", "MiB", curves);
    Ok(section)
}

impl Memory {
    /// The last value to that after the first quarter.
    fn growth(&self) -> Option<f64> {
        let (_, early) = self.curve.get(self.curve.len() / 4)?;
        let (_, last) = self.curve.last()?;
        Some(last / early)
    }
}

async fn measure(bench: &Bench, tuning: Tuning) -> anyhow::Result<Memory> {
    const LOOK: Duration = Duration::from_millis(100);
    let database = bench.database().await?;
    let mut fill = plain(bench);
    fill.count = bench.events(5.0);
    database.fill(&fill).await?;
    let worker = WorkerProcess::start(&database, tuning)?;
    let begun = Instant::now();
    let mut memory = Memory::default();
    let mut progress = Progress::new();
    while worker.sent() < fill.count || !database.is_drained().await? {
        progress.check(worker.sent())?;
        tokio::time::sleep(LOOK).await;
        if let Some((now, highest)) = meter::memory(worker.pid()) {
            memory.curve.push((begun.elapsed().as_secs_f64(), now));
            memory.peak = Some(highest);
        }
    }
    worker.stop().await?;
    database.finish().await?;
    Ok(memory)
}
