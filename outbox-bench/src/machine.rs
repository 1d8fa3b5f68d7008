//! Where and with what a result was measured.

use crate::bench::Bench;
use crate::database::Database;
use crate::stats::Latencies;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Instant;

/// Goes with every result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) outbox: String,
    /// As `git describe` names it.
    pub(crate) commit: String,
    pub(crate) postgresql: String,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) system: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory: String,
    /// What a commit costs here: one small row, over one connection, in milliseconds.
    pub(crate) commit_ms_p50: f64,
    pub(crate) commit_ms_p99: f64,
    /// Runnable processes over the last minute, when the run began.
    pub(crate) load: String,
    pub(crate) optimized: bool,
}

/// What decides how fast a server is, beside what was changed.
const SETTINGS: &str = "
    SELECT name, current_setting(name) FROM pg_settings
    WHERE name IN ('shared_buffers', 'max_wal_size', 'checkpoint_timeout', 'wal_level', 'fsync',
                   'synchronous_commit', 'full_page_writes', 'wal_compression', 'autovacuum',
                   'autovacuum_naptime', 'jit', 'max_connections', 'shared_preload_libraries')
    ORDER BY name";

impl Machine {
    pub(crate) async fn look(bench: &Bench) -> anyhow::Result<Self> {
        let admin = bench.admin();
        let settings: Vec<(String, String)> = sqlx::query_as(SETTINGS).fetch_all(admin).await?;
        let latency = commit_latency(bench).await?;
        let date = "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD')";
        Ok(Self {
            date: sqlx::query_scalar(date).fetch_one(admin).await?,
            outbox: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit(),
            postgresql: sqlx::query_scalar("SHOW server_version")
                .fetch_one(admin)
                .await?,
            settings: settings.into_iter().collect(),
            system: format!(
                "{} {}",
                std::env::consts::OS,
                read("/proc/sys/kernel/osrelease")
            ),
            processor: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism()?.get(),
            memory: field("/proc/meminfo", "MemTotal"),
            commit_ms_p50: latency.p50,
            commit_ms_p99: latency.p99,
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
            optimized: !cfg!(debug_assertions),
        })
    }
}

/// Of the sources that lie here, from which `make bench` builds.
fn commit() -> String {
    let described = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .output();
    let described = described.ok().filter(|output| output.status.success());
    described.map_or_else(
        || "an unknown commit".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// The cost of a commit is that of the disk's `fsync`, plus a round trip.
async fn commit_latency(bench: &Bench) -> anyhow::Result<Latencies> {
    const COMMITS: usize = 300;
    let database = bench.empty_database().await?;
    database.run("CREATE TABLE small (n int)").await?;
    let mut latencies = Vec::with_capacity(COMMITS);
    for _ in 0..COMMITS {
        latencies.push(insert_one(&database).await?);
    }
    database.finish().await?;
    Latencies::of(latencies).ok_or_else(|| anyhow::anyhow!("no commit was measured"))
}

async fn insert_one(database: &Database) -> Result<std::time::Duration, sqlx::Error> {
    let begun = Instant::now();
    sqlx::query("INSERT INTO small VALUES (1)")
        .execute(&database.pool)
        .await?;
    Ok(begun.elapsed())
}

fn read(file: &str) -> String {
    fs::read_to_string(file)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn field(file: &str, name: &str) -> String {
    let text = read(file);
    let line = text
        .lines()
        .find(|line| line.starts_with(name))
        .unwrap_or_default();
    line.split_once(':')
        .map_or("unknown", |(_, value)| value.trim())
        .to_owned()
}
