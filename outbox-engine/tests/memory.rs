//! What a worker process takes at most, while large payloads wait.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use outbox_engine::{
    Channel, ChannelSpec, Delivery, OnAmbiguous, OnDead, Receipt, RetryPolicy, Route, Router,
    SendError, Targets, Worker, WorkerOptions, async_trait,
};
use outbox_sandbox::postgres::TestDatabase;
use outbox_store::{Store, StoreOptions};
use sqlx::postgres::PgPool;
use std::collections::BTreeMap;
use std::env;
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

const DATABASE: &str = "MEMORY_TEST_DATABASE";
const PATIENCE: Duration = Duration::from_secs(60);
/// What docs/guarantees.md promises: a process, and five times what is read at once.
const MOST: u64 = (40 + 5 * 32) << 20;

/// 50 of them have 400 MB, and each is copied by the channel.
#[tokio::test]
async fn large_payloads_take_a_bounded_amount_of_memory() {
    let database = TestDatabase::for_this_test().await.unwrap();
    let store = Store::connect(&StoreOptions::new(database.url())).await;
    store.unwrap().migrate().await.unwrap();
    let pool = PgPool::connect(database.url()).await.unwrap();
    for event in [
        "SELECT 'all', jsonb_build_object('text', repeat('x', 8000000)) FROM generate_series(1, 50)",
        "SELECT 'all', '{}' FROM generate_series(1, 200)",
    ] {
        let insert = format!("INSERT INTO outbox_events (event_type, payload) {event}");
        let insert = sqlx::raw_sql(sqlx::AssertSqlSafe(insert));
        insert.execute(&pool).await.unwrap();
    }
    let mut worker = start(database.url());
    let begun = Instant::now();
    let settled = "SELECT NOT EXISTS (SELECT FROM outbox_queue)";
    while !sqlx::query_scalar::<_, bool>(settled)
        .fetch_one(&pool)
        .await
        .unwrap()
    {
        assert!(begun.elapsed() < PATIENCE, "something is left to do");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let peak = peak(worker.id().unwrap());
    drop(worker.stdin.take());
    assert!(worker.wait().await.unwrap().success());
    let delivered = "SELECT count(*) FROM outbox_deliveries WHERE status = 'delivered'";
    let delivered: i64 = sqlx::query_scalar(delivered)
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(delivered, 250);
    assert!(peak < MOST, "{} MiB", peak >> 20);
}

/// The most memory that a process had, in bytes.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kibibytes.unwrap().parse::<u64>().unwrap() << 10
}

/// Starts a worker, which stops when its standard input ends.
fn start(database: &str) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "worker_process", "--ignored", "--nocapture"])
        .env(DATABASE, database)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Not a test: the process that is looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the worker process of the other test"]
async fn worker_process() {
    let Ok(database) = env::var(DATABASE) else {
        return;
    };
    let store = Store::open(&StoreOptions::new(database)).await.unwrap();
    let name = "copying".parse().unwrap();
    let targets = Targets::FanOut(vec![name]);
    let route = Route::new("all", targets, BTreeMap::new()).unwrap();
    let spec = ChannelSpec {
        name: "copying".parse().unwrap(),
        kind: "test".to_owned(),
        channel: Box::new(Copying),
        concurrency: 64,
        timeout: PATIENCE,
        retry: RetryPolicy::default(),
        on_ambiguous: OnAmbiguous::Retry,
        on_dead: OnDead::Skip,
        rate_limit: None,
    };
    let router = Router::new(vec![route]);
    let worker = Worker::new(store, router, vec![spec], WorkerOptions::default());
    let stop = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
    worker.run(async { drop(stop.await) }).await.unwrap();
}

/// Makes a message of its own, and waits for a provider.
struct Copying;

#[async_trait]
impl Channel for Copying {
    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
        let message = delivery.payload().get().to_owned();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(message.starts_with('{'));
        Ok(Receipt::new())
    }
}
