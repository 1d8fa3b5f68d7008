//! Drains a queue with somebody else's worker and prints how long that took, as one line of
//! JSON: `outbox-bench` runs it as a child process and compares.

mod apalis;
mod graphile;

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// As in the `outbox` binary: nobody is slower here for the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Arguments {
    /// Whose worker.
    peer: Peer,
    /// An empty database.
    #[arg(long)]
    database_url: String,
    /// How many jobs.
    #[arg(long)]
    events: u64,
    /// How large each payload is, in bytes.
    #[arg(long, default_value_t = 300)]
    payload_bytes: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Peer {
    Graphile,
    Apalis,
}

/// What every job carries.
#[derive(Clone, Serialize, Deserialize)]
struct Payload {
    n: u64,
    text: String,
}

/// What was measured.
#[derive(Serialize)]
struct Drained {
    peer: &'static str,
    settings: &'static str,
    events: u64,
    seconds: f64,
}

/// Jobs handled so far.
static HANDLED: AtomicU64 = AtomicU64::new(0);

/// Jobs are written this many at a time.
const CHUNK: u64 = 5_000;

/// Database connections of each worker process, ours and theirs.
const CONNECTIONS: u32 = 4;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let drained = match arguments.peer {
        Peer::Graphile => graphile::drain(&arguments).await?,
        Peer::Apalis => apalis::drain(&arguments).await?,
    };
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&drained)?)?;
    Ok(())
}

/// The payloads of all jobs, a chunk at a time.
fn chunks(arguments: &Arguments) -> impl Iterator<Item = Vec<Payload>> {
    let events = arguments.events;
    // The braces, names and the number take about as much.
    let text = "x".repeat(arguments.payload_bytes.saturating_sub(24));
    (0..events).step_by(CHUNK as usize).map(move |from| {
        let payload = |n| Payload {
            n,
            text: text.clone(),
        };
        (from..events.min(from + CHUNK)).map(payload).collect()
    })
}

/// Waits until all jobs are handled and `left` tells that all of that is written down; returns
/// the time since `begun`.
async fn until_done(
    pool: &sqlx::PgPool,
    events: u64,
    begun: Instant,
    left: &'static str,
) -> anyhow::Result<f64> {
    while HANDLED.load(Ordering::Relaxed) < events {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while sqlx::query_scalar(left).fetch_one(pool).await? {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(begun.elapsed().as_secs_f64())
}
