//! A database, and workers on it.

use outbox_engine::{
    Channel, ChannelName, ChannelSpec, OnAmbiguous, OnDead, RetryPolicy, Route, Router, Targets,
    Worker, WorkerOptions,
};
use outbox_sandbox::log::every_thread_is_heard;
use outbox_sandbox::postgres::TestDatabase;
use outbox_sandbox::proxy::TcpProxy;
use outbox_store::{NewEvent, Store, StoreOptions, enqueue};
use serde_json::{Value, json};
use sqlx::postgres::{PgPool, PgTransaction};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything takes here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A migrated database of the test's own.
pub(crate) struct Fixture {
    /// The workers' connections.
    pub(crate) store: Store,
    /// The test's own.
    pub(crate) pool: PgPool,
    database: TestDatabase,
}

/// A row of `outbox_deliveries`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Result {
    pub(crate) event_id: i64,
    pub(crate) channel: String,
    pub(crate) status: String,
    pub(crate) attempts: i32,
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) provider_id: Option<String>,
    pub(crate) fell_back_to: Option<String>,
}

/// A row of `outbox_attempts`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Attempt {
    pub(crate) event_id: i64,
    pub(crate) channel: String,
    pub(crate) attempt: i32,
    pub(crate) class: String,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) answer: Option<String>,
}

/// A row of `outbox_queue`.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub(crate) struct Row {
    pub(crate) event_id: i64,
    pub(crate) channel: String,
    pub(crate) attempt: i32,
    pub(crate) takeovers: i16,
    pub(crate) worker: Option<i32>,
    /// Null when held.
    pub(crate) due_in: Option<f64>,
}

/// What the view tells about an event.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Status {
    pub(crate) status: String,
    pub(crate) retry_count: Option<i32>,
    pub(crate) last_error: Option<String>,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        every_thread_is_heard();
        let database = TestDatabase::for_this_test().await.unwrap();
        let store = open(database.url()).await;
        store.migrate().await.unwrap();
        let pool = PgPool::connect(database.url()).await.unwrap();
        Self {
            store,
            pool,
            database,
        }
    }

    pub(crate) fn url(&self) -> &str {
        self.database.url()
    }

    /// Where the server is.
    pub(crate) fn address(&self) -> SocketAddr {
        let (_, rest) = self.url().split_once('@').unwrap();
        rest.split('/').next().unwrap().parse().unwrap()
    }

    /// The same database behind a proxy.
    pub(crate) fn url_through(&self, proxy: &TcpProxy) -> String {
        let (server, proxy) = (self.address().to_string(), proxy.address().to_string());
        self.url().replace(&server, &proxy)
    }

    /// Writes `count` events of a type, in one transaction.
    pub(crate) async fn enqueue(&self, event_type: &str, count: i32) {
        sqlx::query(
            "INSERT INTO outbox_events (event_type, payload)
             SELECT $1, jsonb_build_object('n', n) FROM generate_series(1, $2) AS n",
        )
        .bind(event_type)
        .bind(count)
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// Writes an event, and returns its id.
    pub(crate) async fn event(&self, event_type: &str, payload: Value) -> i64 {
        self.write(&NewEvent::new(event_type, payload)).await
    }

    pub(crate) async fn write(&self, event: &NewEvent) -> i64 {
        enqueue(&self.pool, event).await.unwrap()
    }

    /// A worker over these channels; each channel has a route of its own name.
    pub(crate) fn worker(&self, channels: Vec<ChannelSpec>) -> Worker {
        self.worker_with(options(), channels)
    }

    pub(crate) fn worker_with(&self, options: WorkerOptions, channels: Vec<ChannelSpec>) -> Worker {
        let routes = channels
            .iter()
            .map(|spec| fan_out(spec.name.as_str(), &[spec.name.as_str()]))
            .collect();
        Worker::new(self.store.clone(), Router::new(routes), channels, options)
    }

    pub(crate) fn routed(&self, routes: Vec<Route>, channels: Vec<ChannelSpec>) -> Worker {
        Worker::new(self.store.clone(), Router::new(routes), channels, options())
    }

    /// One number.
    pub(crate) async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    pub(crate) async fn execute(&self, statement: &'static str) -> u64 {
        sqlx::query(statement)
            .execute(&self.pool)
            .await
            .unwrap()
            .rows_affected()
    }

    pub(crate) async fn results(&self) -> Vec<Result> {
        sqlx::query_as("SELECT * FROM outbox_deliveries ORDER BY event_id, channel")
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    pub(crate) async fn attempts(&self) -> Vec<Attempt> {
        sqlx::query_as("SELECT * FROM outbox_attempts ORDER BY id")
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    pub(crate) async fn queue(&self) -> Vec<Row> {
        sqlx::query_as(
            "SELECT event_id, channel, attempt, takeovers, worker,
                    CASE WHEN due_at < 'infinity'
                         THEN extract(epoch FROM due_at - now())::float8 END AS due_in
             FROM outbox_queue ORDER BY event_id, channel",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    pub(crate) async fn status(&self, event_id: i64) -> Status {
        sqlx::query_as(
            "SELECT status, retry_count, last_error FROM outbox_event_status WHERE id = $1",
        )
        .bind(event_id)
        .fetch_one(&self.pool)
        .await
        .unwrap()
    }

    /// A transaction that keeps everybody else from `table`.
    pub(crate) async fn locked(&self, table: &str) -> PgTransaction<'static> {
        let mut transaction = self.pool.begin().await.unwrap();
        let lock = sqlx::AssertSqlSafe(format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"));
        sqlx::query(lock).execute(&mut *transaction).await.unwrap();
        transaction
    }

    /// The text of the statement that is the first to wait for a lock.
    pub(crate) async fn waiting(&self) -> String {
        let waiting = "SELECT query FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let caught = async {
            loop {
                let caught = sqlx::query_scalar(waiting).fetch_optional(&self.pool);
                match caught.await.unwrap() {
                    Some(query) => break query,
                    None => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        let caught = tokio::time::timeout(PATIENCE, caught).await;
        caught.expect("no statement waits for a lock")
    }

    /// Waits until the worker's statement with `marker` at its beginning waits for `table`, which
    /// the transaction that is returned has locked. For statements that come again and again.
    pub(crate) async fn caught(&self, table: &str, marker: &str) -> PgTransaction<'static> {
        let catching = async {
            loop {
                let transaction = self.locked(table).await;
                if self.waiting().await.contains(marker) {
                    return transaction;
                }
                // Something else came first.
                transaction.rollback().await.unwrap();
            }
        };
        let caught = tokio::time::timeout(PATIENCE, catching).await;
        caught.expect("the statement does not wait for the table")
    }

    /// Waits until no event is left to do.
    pub(crate) async fn until_settled(&self) {
        self.until("SELECT NOT EXISTS (SELECT FROM outbox_queue)")
            .await;
    }

    /// Waits until a query says true.
    pub(crate) async fn until(&self, query: &'static str) {
        self.until_within(PATIENCE, query).await;
    }

    pub(crate) async fn until_within(&self, patience: Duration, query: &'static str) {
        let waiting = async {
            loop {
                // The server may be on its way down or up.
                let is_so = sqlx::query_scalar(query).fetch_one(&self.pool).await;
                if is_so.unwrap_or(false) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(patience, waiting).await.expect(query);
    }
}

/// One connection, so that after the first event every statement is prepared: from then on each
/// is one request.
pub(crate) async fn open_narrowly(url: &str) -> Store {
    let options = StoreOptions {
        max_connections: 1,
        ..StoreOptions::new(url)
    };
    Store::connect(&options).await.unwrap()
}

pub(crate) async fn open(url: &str) -> Store {
    Store::connect(&StoreOptions::new(url)).await.unwrap()
}

pub(crate) const DELIVERED: &str =
    "SELECT count(*) FROM outbox_deliveries WHERE status = 'delivered'";

/// Whether producers would call anybody.
pub(crate) const ASLEEP: &str = "SELECT EXISTS (SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND classid = 1868722040 AND mode = 'ShareLock' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";

/// A worker that runs until it is told to stop; it stops when this is dropped.
pub(crate) struct Running {
    pub(crate) worker: Arc<Worker>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(worker: Worker) -> Self {
        let (worker, stop) = (Arc::new(worker), CancellationToken::new());
        let (running, stopped) = (Arc::clone(&worker), stop.clone());
        let task = tokio::spawn(async move { running.run(stopped.cancelled()).await.unwrap() });
        Self { worker, stop, task }
    }

    /// Tells it to stop.
    pub(crate) fn shut_down(&self) {
        self.stop.cancel();
    }

    /// Waits until it has stopped.
    pub(crate) async fn ended(&mut self) {
        let ended = tokio::time::timeout(PATIENCE, &mut self.task).await;
        ended.expect("the worker does not stop").unwrap();
    }

    pub(crate) async fn stop(mut self) {
        self.shut_down();
        self.ended().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn options() -> WorkerOptions {
    WorkerOptions {
        shutdown_grace: Duration::from_secs(5),
        ..WorkerOptions::default()
    }
}

/// Nothing happens by polling.
pub(crate) fn without_polling() -> WorkerOptions {
    WorkerOptions {
        poll_interval: Duration::from_secs(60),
        ..options()
    }
}

pub(crate) fn name(name: &str) -> ChannelName {
    name.parse().unwrap()
}

pub(crate) fn fan_out(pattern: &str, channels: &[&str]) -> Route {
    let targets = Targets::FanOut(channels.iter().map(|n| name(n)).collect());
    Route::new(pattern, targets, BTreeMap::new()).unwrap()
}

pub(crate) fn fallback(pattern: &str, channels: &[&str]) -> Route {
    let targets = Targets::Fallback(channels.iter().map(|n| name(n)).collect());
    Route::new(pattern, targets, BTreeMap::new()).unwrap()
}

pub(crate) fn spec(channel_name: &str, channel: impl Channel) -> ChannelSpec {
    ChannelSpec {
        name: name(channel_name),
        kind: "test".to_owned(),
        channel: Box::new(channel),
        concurrency: 16,
        timeout: Duration::from_secs(60),
        retry: RetryPolicy {
            fixed_delay: Some(Duration::from_millis(20)),
            max_retries: 3,
            ..RetryPolicy::default()
        },
        on_ambiguous: OnAmbiguous::Retry,
        on_dead: OnDead::Skip,
        rate_limit: None,
    }
}

/// A payload that matters to nobody.
pub(crate) fn any() -> Value {
    json!({})
}
