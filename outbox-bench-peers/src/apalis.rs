//! `apalis-postgres`: four workers in one process, fetching in batches.

use crate::{Arguments, CONNECTIONS, Drained, HANDLED, Payload, chunks, until_done};
use apalis::prelude::*;
use apalis_postgres::{Config, PgTask, PostgresStorage, queries};
use sqlx::postgres::PgPoolOptions;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::task::JoinSet;

const QUEUE: &str = "bench";

async fn handle(_: Payload) -> Result<(), BoxDynError> {
    HANDLED.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

pub(crate) async fn drain(arguments: &Arguments) -> anyhow::Result<Drained> {
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS + 1)
        .connect(&arguments.database_url)
        .await?;
    PostgresStorage::<()>::setup(&pool).await?;
    for chunk in chunks(arguments) {
        let task = |payload| Ok(TaskBuilder::new(serde_json::to_vec(&payload)?).build());
        let tasks: Vec<PgTask> = chunk.into_iter().map(task).collect::<anyhow::Result<_>>()?;
        let mut connection = pool.acquire().await?;
        queries::push_tasks(&mut *connection, QUEUE, tasks).await?;
    }
    sqlx::query("ANALYZE").execute(&pool).await?;

    let begun = Instant::now();
    let mut workers = JoinSet::new();
    for number in 0..CONNECTIONS {
        let config = Config::default().queue(QUEUE).batch_size(1_000);
        let backend = PostgresStorage::<Payload>::new(&pool).with_config(config);
        let worker = WorkerBuilder::new(format!("worker-{number}"))
            .backend(backend)
            .build(handle);
        workers.spawn(worker.run());
    }
    let left = "SELECT EXISTS (SELECT FROM apalis.jobs WHERE status <> 'Done')";
    let seconds = tokio::select! {
        ended = workers.join_next() => anyhow::bail!("a worker ended before its work: {ended:?}"),
        seconds = until_done(&pool, arguments.events, begun, left) => seconds?,
    };
    Ok(Drained {
        peer: "apalis-postgres 1.0",
        settings: "4 workers, batches of 1,000, 5 connections",
        events: arguments.events,
        seconds,
    })
}
