//! Several worker processes on one database.

use super::plain;
use crate::bench::Bench;
use crate::child::WorkerProcess;
use crate::drain::{Progress, Tuning};
use crate::report::{Row, Section};
use crate::stats::Spread;
use std::time::{Duration, Instant};

const PROCESSES: [usize; 3] = [1, 2, 4];

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Section> {
    let mut rates: [Vec<f64>; 3] = Default::default();
    for _ in 0..bench.run.repeat {
        for (rates, processes) in rates.iter_mut().zip(PROCESSES) {
            rates.push(measure(bench, processes).await?);
        }
    }
    let spreads = rates.map(Spread::of);
    let mut section = Section::new(
        "scaling",
        "Several worker processes",
        format!(
            "Each with {}; they share the machine with the server.",
            Tuning::RUSH
        ),
    );
    for (spread, processes) in spreads.into_iter().zip(PROCESSES) {
        let row = Row::new(format!("processes: {processes}"), "events/s", spread);
        section.add(row.against("one process", spreads[0]));
    }
    Ok(section)
}

async fn measure(bench: &Bench, processes: usize) -> anyhow::Result<f64> {
    let database = bench.database().await?;
    let fill = plain(bench);
    database.fill(&fill).await?;
    let begun = Instant::now();
    let start = |_| WorkerProcess::start(&database, Tuning::RUSH);
    let workers: Vec<_> = (0..processes).map(start).collect::<anyhow::Result<_>>()?;
    let sent = || workers.iter().map(WorkerProcess::sent).sum::<u64>();
    let mut progress = Progress::new();
    while sent() < fill.count || !database.is_drained().await? {
        progress.check(sent())?;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    for worker in workers {
        worker.stop().await?;
    }
    database.finish().await?;
    #[expect(clippy::cast_precision_loss, reason = "far less than 2^52 of them")]
    Ok(fill.count as f64 / seconds)
}
