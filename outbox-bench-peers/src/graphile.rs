//! `graphile_worker`, with the local queue and batched completion: the quickest of its modes.

use crate::{Arguments, CONNECTIONS, Drained, HANDLED, Payload, chunks, until_done};
use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext,
    WorkerOptions,
};
use sqlx::postgres::PgPoolOptions;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

impl TaskHandler for Payload {
    const IDENTIFIER: &'static str = "nothing";

    async fn run(self, _: WorkerContext) -> impl IntoTaskHandlerResult {
        HANDLED.fetch_add(1, Ordering::Relaxed);
        Ok::<(), String>(())
    }
}

pub(crate) async fn drain(arguments: &Arguments) -> anyhow::Result<Drained> {
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS + 1)
        .connect(&arguments.database_url)
        .await?;
    let worker = WorkerOptions::default()
        .concurrency(100)
        .poll_interval(Duration::from_millis(100))
        .complete_job_batch_delay(Duration::from_millis(5))
        .local_queue(
            LocalQueueConfig::default()
                .with_size(1_000)
                .with_queue_count(CONNECTIONS as usize),
        )
        .define_job::<Payload>()
        .pg_pool(pool.clone())
        .init()
        .await?;
    let utils = worker.create_utils();
    for chunk in chunks(arguments) {
        let job = |payload| {
            Ok(RawJobSpec {
                identifier: Payload::IDENTIFIER.to_owned(),
                payload: serde_json::to_value(payload)?,
                spec: JobSpec::default(),
            })
        };
        let jobs: Vec<_> = chunk.into_iter().map(job).collect::<anyhow::Result<_>>()?;
        utils.add_raw_jobs(&jobs).await?;
    }

    sqlx::query("ANALYZE").execute(&pool).await?;

    let begun = Instant::now();
    let left = "SELECT EXISTS (SELECT FROM graphile_worker._private_jobs)";
    let work = async { worker.run().await.map_err(anyhow::Error::from) };
    let seconds = tokio::select! {
        ended = work => {
            ended?;
            anyhow::bail!("the worker ended before its work");
        }
        seconds = until_done(&pool, arguments.events, begun, left) => seconds?,
    };
    Ok(Drained {
        peer: "graphile_worker 0.14",
        settings: "local queue 4 × 1,000, completions batched over 5 ms, concurrency 100, 5 connections",
        events: arguments.events,
        seconds,
    })
}
