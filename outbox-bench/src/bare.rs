//! The baseline for drains: what most outboxes do, and nothing else. One wide row per event,
//! claimed by an UPDATE with SKIP LOCKED and finished by another.

use crate::database::{Database, Fill};
use sqlx::postgres::PgPool;
use std::time::Instant;
use tokio::task::JoinSet;

/// As many as the worker's in the drain.
pub(crate) const CONNECTIONS: u32 = 4;

const TABLE: &str = "
    CREATE TABLE wide (
        id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        event_type text        NOT NULL,
        payload    jsonb       NOT NULL,
        status     smallint    NOT NULL DEFAULT 0,
        attempts   int         NOT NULL DEFAULT 0,
        due_at     timestamptz NOT NULL DEFAULT now(),
        locked_by  int,
        locked_at  timestamptz,
        done_at    timestamptz
    );
    CREATE INDEX wide_due ON wide (due_at, id) WHERE status = 0";

const CLAIM: &str = "
    UPDATE wide SET status = 1, attempts = attempts + 1, locked_by = $1, locked_at = now()
    WHERE id = ANY (ARRAY(
        SELECT id FROM wide WHERE status = 0 AND due_at <= now()
        ORDER BY due_at, id LIMIT $2 FOR UPDATE SKIP LOCKED))
    RETURNING id, event_type, payload::text";

const FINISH: &str =
    "UPDATE wide SET status = 2, done_at = now() WHERE id = ANY ($1) AND locked_by = $2";

/// Fills the table in an empty database.
pub(crate) async fn fill(database: &Database, fill: &Fill) -> anyhow::Result<()> {
    database.run(TABLE).await?;
    database.run("CHECKPOINT").await?;
    let insert = "INSERT INTO wide (event_type, payload)
                  SELECT $1, $2::jsonb FROM generate_series(1, $3::bigint)";
    sqlx::query(insert)
        .bind(fill.event_type)
        .bind(&*fill.payload)
        .bind(i64::try_from(fill.count)?)
        .execute(&database.pool)
        .await?;
    database.run("ANALYZE").await?;
    Ok(())
}

/// Drains it; returns the seconds that took.
pub(crate) async fn drain(database: &Database, batch: i64) -> anyhow::Result<f64> {
    let pool = crate::pool::connect(&database.url, CONNECTIONS).await?;
    let begun = Instant::now();
    let mut loops = JoinSet::new();
    for worker in 0..CONNECTIONS {
        loops.spawn(work(pool.clone(), worker.cast_signed(), batch));
    }
    while let Some(ended) = loops.join_next().await {
        ended??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    pool.close().await;
    Ok(seconds)
}

async fn work(pool: PgPool, worker: i32, batch: i64) -> Result<(), sqlx::Error> {
    loop {
        let rows: Vec<(i64, String, String)> = sqlx::query_as(CLAIM)
            .bind(worker)
            .bind(batch)
            .fetch_all(&pool)
            .await?;
        if rows.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = rows.iter().map(|(id, ..)| *id).collect();
        sqlx::query(FINISH)
            .bind(ids)
            .bind(worker)
            .execute(&pool)
            .await?;
    }
}
