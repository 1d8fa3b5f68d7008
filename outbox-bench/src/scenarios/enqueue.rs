//! What an event costs the application that writes it.

use crate::bench::Bench;
use crate::database::{PAYLOAD_BYTES, payload};
use crate::report::{Row, Section};
use crate::stats::Spread;
use outbox_store::Listener;
use sqlx::postgres::PgPool;
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const CONNECTIONS: [u32; 3] = [1, 4, 16];
/// Rows per statement.
const BULK: f64 = 1_000.0;

/// The same table without our trigger.
const PLAIN: &str = "CREATE TABLE plain_events (LIKE outbox_events INCLUDING ALL)";
const INTO_PLAIN: &str =
    "INSERT INTO plain_events (event_type, payload) VALUES ('bench', $1::jsonb)";
const INTO_OURS: &str =
    "INSERT INTO outbox_events (event_type, payload) VALUES ('bench', $1::jsonb)";
const BULK_INTO_PLAIN: &str = "INSERT INTO plain_events (event_type, payload)
     SELECT 'bench', $1::jsonb FROM generate_series(1, 1000)";
const BULK_INTO_OURS: &str = "INSERT INTO outbox_events (event_type, payload)
     SELECT 'bench', $1::jsonb FROM generate_series(1, 1000)";

/// Each is measured so often per repeat, in turn, for all grow slower with their tables.
const ROUNDS: usize = 4;

#[derive(Default)]
struct Rates {
    plain: Vec<f64>,
    awake: Vec<f64>,
    asleep: Vec<f64>,
}

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Section> {
    let mut single: [Rates; 3] = Default::default();
    let (mut bulk_plain, mut bulk_ours) = (Vec::new(), Vec::new());
    let time = Duration::from_secs_f64(bench.run.seconds / 10.0);
    for _ in 0..bench.run.repeat {
        let database = bench.database().await?;
        database.run(PLAIN).await?;
        let store = database.store(1).await?;
        let mut listener = store.listen().await?;
        for (rates, connections) in single.iter_mut().zip(CONNECTIONS) {
            let pool = crate::pool::connect(&database.url, connections).await?;
            for _ in 0..ROUNDS {
                rates.plain.push(insert(&pool, INTO_PLAIN, time).await?);
                rates.awake.push(insert(&pool, INTO_OURS, time).await?);
                let inserts = insert(&pool, INTO_OURS, time);
                rates.asleep.push(asleep(&mut listener, inserts).await?);
            }
            pool.close().await;
        }
        let pool = crate::pool::connect(&database.url, 1).await?;
        for _ in 0..ROUNDS {
            bulk_plain.push(insert(&pool, BULK_INTO_PLAIN, time).await? * BULK);
            bulk_ours.push(insert(&pool, BULK_INTO_OURS, time).await? * BULK);
        }
        pool.close().await;
        database.finish().await?;
    }
    Ok(section(single, bulk_plain, bulk_ours))
}

fn section(single: [Rates; 3], bulk_plain: Vec<f64>, bulk_ours: Vec<f64>) -> Section {
    let mut section = Section::new(
        "enqueue",
        "What an event costs the producer",
        format!(
            "INSERT into outbox_events, one row per transaction, against the same INSERT into a \
             table that lacks only our trigger; a worker listens, and is awake or asleep (then each \
             commit notifies). Bulk: {BULK} rows per statement."
        ),
    );
    let rate = |what: String, rates: Vec<f64>| Row::new(what, "events/s", Spread::of(rates));
    for (rates, connections) in single.into_iter().zip(CONNECTIONS) {
        let plain = Spread::of(rates.plain);
        let row = |who, rates| rate(format!("{who}, connections: {connections}"), rates);
        section.add(
            row("worker awake", rates.awake)
                .against("without trigger", plain)
                .at_least(0.8),
        );
        section.add(row("worker asleep", rates.asleep).against("without trigger", plain));
    }
    let plain = Spread::of(bulk_plain);
    section.add(
        rate("bulk".to_owned(), bulk_ours)
            .against("without trigger", plain)
            .at_least(0.5),
    );
    section
}

/// What comes of `work` while a worker sleeps, which hears all calls and goes on sleeping.
async fn asleep<T>(
    listener: &mut Listener,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    listener.set_asleep(true).await?;
    let mut work = pin!(work);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            heard = listener.heard() => heard?,
        }
    };
    listener.set_asleep(false).await?;
    done
}

/// How often per second a statement runs over all of the pool's connections.
async fn insert(pool: &PgPool, statement: &'static str, time: Duration) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let mut producers = JoinSet::new();
    for _ in 0..pool.size() {
        let (pool, payload) = (pool.clone(), payload(PAYLOAD_BYTES));
        producers.spawn(async move {
            let mut connection = pool.acquire().await?;
            let mut count = 0_u32;
            while begun.elapsed() < time {
                sqlx::query(statement)
                    .bind(&*payload)
                    .execute(&mut *connection)
                    .await?;
                count += 1;
            }
            anyhow::Ok(f64::from(count))
        });
    }
    let mut count = 0.0;
    while let Some(producer) = producers.join_next().await {
        count += producer??;
    }
    Ok(count / begun.elapsed().as_secs_f64())
}
