//! What a worker costs when there is nothing to do.

use crate::bench::Bench;
use crate::child::WorkerProcess;
use crate::drain::Tuning;
use crate::meter;
use crate::report::{Row, Section};
use crate::stats::Spread;
use std::time::{Duration, Instant};

/// Per second of idling.
struct Idle {
    statements: f64,
    worker_cpu: Option<f64>,
    server_cpu: Option<f64>,
}

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Section> {
    let mut all = Vec::new();
    for _ in 0..bench.run.repeat {
        all.push(measure(bench).await?);
    }
    let time = 2.0 * bench.run.seconds;
    let mut section = Section::new(
        "idle",
        "An idle worker",
        format!(
            "A worker process with its defaults ({}) on empty tables, for {time} s after it has \
             come to rest.",
            Tuning::DEFAULT
        ),
    );
    let statements = Spread::of(all.iter().map(|idle| idle.statements));
    section.add(Row::new("statements", "statements/s", statements).at_most(1.0));
    let percent = |of: fn(&Idle) -> Option<f64>| {
        Spread::of_all(all.iter().map(|idle| of(idle).map(|share| 100.0 * share)))
    };
    let worker = percent(|idle| idle.worker_cpu);
    section.add(Row::new("worker's CPU, of a core", "%", worker).at_most(0.5));
    section.add(Row::new(
        "server's CPU, of a core",
        "%",
        percent(|idle| idle.server_cpu),
    ));
    Ok(section)
}

async fn measure(bench: &Bench) -> anyhow::Result<Idle> {
    /// Two questions of our own are within the time.
    const OURS: f64 = 2.0;
    let database = bench.database().await?;
    let worker = WorkerProcess::start(&database, Tuning::DEFAULT)?;
    tokio::time::sleep(Duration::from_secs_f64(bench.run.seconds.min(5.0))).await;
    let server = database.server_cpu().await?;
    let (statements, cpu) = (database.statements_run().await?, meter::cpu(worker.pid()));
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs_f64(2.0 * bench.run.seconds)).await;
    let seconds = begun.elapsed().as_secs_f64();
    let per_second = |now: Option<f64>, before: Option<f64>| Some((now? - before?) / seconds);
    let worker_cpu = per_second(meter::cpu(worker.pid()), cpu);
    let server_cpu = per_second(database.server_cpu().await?, server);
    let statements = (database.statements_run().await? - statements - OURS).max(0.0) / seconds;
    worker.stop().await?;
    database.finish().await?;
    Ok(Idle {
        statements,
        worker_cpu,
        server_cpu,
    })
}
