//! From a producer's commit to the channel's `send`.

use super::plain;
use crate::bench::Bench;
use crate::database::{Database, PAYLOAD_BYTES, payload};
use crate::drain::{Tuning, Working};
use crate::null::{Arrivals, spec};
use crate::report::{Row, Section};
use crate::stats::{Latencies, Spread};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A load: events per second, and whether a backlog is drained meanwhile.
struct Load {
    what: &'static str,
    rate: f64,
    is_rush: bool,
    /// Targets for p50 and p99, in milliseconds.
    targets: Option<(f64, f64)>,
}

const LOADS: [Load; 4] = [
    Load {
        what: "1 event/s",
        rate: 1.0,
        is_rush: false,
        targets: None,
    },
    Load {
        what: "100 events/s",
        rate: 100.0,
        is_rush: false,
        targets: Some((3.0, 15.0)),
    },
    Load {
        what: "1,000 events/s",
        rate: 1_000.0,
        is_rush: false,
        targets: None,
    },
    Load {
        what: "100 urgent events/s in a rush",
        rate: 100.0,
        is_rush: true,
        targets: None,
    },
];

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Section> {
    let mut section = Section::new(
        "latency",
        "From COMMIT to send",
        format!(
            "From the moment a producer sends its COMMIT to the moment the channel is called, one \
             worker ({}) with its defaults. In a rush, the events are of a more urgent priority \
             than a backlog that is drained meanwhile.",
            Tuning::DEFAULT
        ),
    );
    for load in &LOADS {
        let mut all = Vec::new();
        for _ in 0..bench.run.repeat {
            all.extend(Latencies::of(measure(bench, load).await?));
        }
        let row = |what: &str, of: fn(&Latencies) -> f64| {
            Row::new(
                format!("{}: {what}", load.what),
                "ms",
                Spread::of(all.iter().map(of)),
            )
        };
        let (p50, p99) = (row("p50", |all| all.p50), row("p99", |all| all.p99));
        let (p50, p99) = match load.targets {
            Some((most50, most99)) => (p50.at_most(most50), p99.at_most(most99)),
            None => (p50, p99),
        };
        section.add(p50);
        section.add(row("p95", |all| all.p95));
        section.add(p99);
        section.add(row("max", |all| all.max));
    }
    Ok(section)
}

async fn measure(bench: &Bench, load: &Load) -> anyhow::Result<Vec<Duration>> {
    let database = bench.database().await?;
    let backlog = if load.is_rush { bench.events(2.0) } else { 0 };
    if load.is_rush {
        let mut fill = plain(bench);
        fill.count = backlog;
        database.fill(&fill).await?;
    }
    let arrivals = Arrivals::default();
    let channels = vec![spec("null", arrivals.clone(), Tuning::DEFAULT.concurrency)?];
    let store = Tuning::DEFAULT.connect(&database.url).await?;
    let working = Working::start(store, Tuning::DEFAULT, channels)?;
    // Until it sleeps, or until the rush is on.
    let is_on = || !load.is_rush || arrivals.count() > 0;
    tokio::time::sleep(Duration::from_millis(500)).await;
    wait_for(is_on).await?;
    let committed = produce(bench, &database, load, {
        let (arrivals, last) = (arrivals.clone(), usize::try_from(backlog)? / 10 * 9);
        move || backlog > 0 && arrivals.count() > last
    });
    let committed = committed.await?;
    wait_for(|| arrivals.count() >= committed.len() + usize::try_from(backlog).unwrap_or(0))
        .await?;
    working.stop().await?;
    database.finish().await?;
    let latencies = arrivals
        .take()
        .into_iter()
        .filter_map(|(id, arrived)| Some(arrived.saturating_duration_since(*committed.get(&id)?)));
    Ok(latencies.collect())
}

async fn wait_for(is_so: impl Fn() -> bool) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !is_so() {
        anyhow::ensure!(
            begun.elapsed() < Duration::from_secs(300),
            "events do not arrive"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Writes events at the load's rate until the time is over or `is_over`; when each COMMIT was
/// sent, by event id.
async fn produce(
    bench: &Bench,
    database: &Database,
    load: &Load,
    is_over: impl Fn() -> bool + Send + Sync + 'static,
) -> anyhow::Result<HashMap<i64, Instant>> {
    let producers: u32 = if load.rate > 500.0 { 8 } else { 1 };
    let seconds = bench.run.seconds * if load.rate < 10.0 { 3.0 } else { 1.0 };
    let pool = crate::pool::connect(&database.url, producers).await?;
    let (is_over, begun) = (Arc::new(is_over), Instant::now());
    let interval = Duration::from_secs_f64(f64::from(producers) / load.rate);
    let priority: i16 = if load.is_rush { -1 } else { 0 };
    let mut tasks = JoinSet::new();
    for number in 0..producers {
        let (pool, is_over) = (pool.clone(), Arc::clone(&is_over));
        let mut due = begun + interval * number / producers;
        tasks.spawn(async move {
            let mut committed = Vec::new();
            while due.duration_since(begun).as_secs_f64() < seconds && !is_over() {
                tokio::time::sleep_until(due.into()).await;
                committed.push(write_one(&pool, priority).await?);
                due += interval;
            }
            anyhow::Ok(committed)
        });
    }
    let mut all = HashMap::new();
    while let Some(committed) = tasks.join_next().await {
        all.extend(committed??);
    }
    pool.close().await;
    Ok(all)
}

async fn write_one(pool: &sqlx::PgPool, priority: i16) -> anyhow::Result<(i64, Instant)> {
    let insert = "INSERT INTO outbox_events (event_type, payload, priority)
                  VALUES ('bench', $1::jsonb, $2) RETURNING id";
    let mut transaction = pool.begin().await?;
    let id = sqlx::query_scalar(insert)
        .bind(&*payload(PAYLOAD_BYTES))
        .bind(priority)
        .fetch_one(&mut *transaction)
        .await?;
    let committed = Instant::now();
    transaction.commit().await?;
    Ok((id, committed))
}
