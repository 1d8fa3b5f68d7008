//! A database that answers, but not as wished: each kind of trouble is told, tried again at
//! growing intervals, and over when its cause is gone, with nothing sent twice.

use crate::channels::{Gate, Recorder};
use crate::common::{DELIVERED, Fixture, PATIENCE, Running, any, fan_out, open, options, spec};
use crate::log::Log;
use outbox_engine::{Health, Router, Worker, WorkerOptions};
use outbox_store::NewEvent;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::time::{Duration, Instant};

pub(crate) fn patient() -> WorkerOptions {
    WorkerOptions {
        poll_interval: Duration::from_millis(200),
        lease: Duration::from_secs(60),
        ..options()
    }
}

/// A worker on `url` with one channel, for everything.
pub(crate) async fn worker_on(url: &str, gate: &Gate) -> Running {
    let router = Router::new(vec![fan_out("*", &["email"])]);
    let channels = vec![spec("email", gate.clone())];
    Running::start(Worker::new(open(url).await, router, channels, patient()))
}

/// Waits until the worker says that the database is in trouble, in these words.
pub(crate) async fn until_trouble(running: &Running, words: &str) {
    let mut health = running.worker.health();
    let is_it = |health: &Health| matches!(health, Health::DatabaseTrouble(w) if w.contains(words));
    let told = tokio::time::timeout(PATIENCE, health.wait_for(is_it)).await;
    let told = told.map(|health| health.map(drop));
    told.unwrap_or_else(|_| panic!("not `{words}`, but {:?}", *running.worker.health().borrow()))
        .unwrap();
}

pub(crate) async fn until_well(running: &Running) {
    let mut health = running.worker.health();
    let well = health.wait_for(|health| *health == Health::Working);
    let well = tokio::time::timeout(PATIENCE, well).await;
    drop(well.expect("the worker does not get well").unwrap());
}

/// Waits that double from 100 ms to five seconds leave room for no more failures of two duties.
pub(crate) fn most_failures(lasting: Duration) -> usize {
    let (mut wait, mut waited, mut failures) = (Duration::from_millis(100), Duration::ZERO, 2);
    while waited < lasting {
        waited += wait;
        wait = (wait * 2).min(Duration::from_secs(5));
        failures += 1;
    }
    2 * failures
}

impl Fixture {
    /// For sessions that begin from now on.
    async fn set(&self, setting: &str) {
        let name: String = sqlx::query_scalar("SELECT current_database()")
            .fetch_one(&self.pool)
            .await
            .unwrap();
        let set = AssertSqlSafe(format!("ALTER DATABASE {name} SET {setting}"));
        sqlx::raw_sql(set).execute(&self.pool).await.unwrap();
    }

    /// Ends the workers' sessions.
    async fn end_sessions(&self) {
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'outbox'",
        )
        .await;
    }
}

/// A worker that has delivered one event, and has a second one under way.
async fn at_work(fixture: &Fixture, gate: &Gate) -> Running {
    let running = worker_on(fixture.url(), gate).await;
    gate.let_go(1);
    fixture.event("email", any()).await;
    fixture.until_settled().await;
    fixture.event("email", any()).await;
    gate.arrived(2).await;
    running
}

/// Everything was delivered, at the first attempt.
async fn assert_sent_once(fixture: &Fixture, gate: &Gate, events: usize) {
    let attempts: Vec<_> = gate
        .attempts()
        .iter()
        .map(|(_, attempt)| *attempt)
        .collect();
    assert_eq!(attempts, vec![1; events]);
    assert_eq!(
        fixture.count(DELIVERED).await,
        i64::try_from(events).unwrap()
    );
}

#[tokio::test]
async fn statements_that_take_too_long() {
    let (fixture, log) = (Fixture::new().await, Log::start());
    fixture.set("statement_timeout = '300ms'").await;
    let gate = Gate::new();
    let running = at_work(&fixture, &gate).await;
    let lock = fixture.locked("outbox_deliveries").await;
    let begun = Instant::now();
    gate.open();
    log.until("57014", 4).await;
    lock.rollback().await.unwrap();
    let lasted = begun.elapsed();
    until_well(&running).await;
    fixture.until_settled().await;
    running.stop().await;
    assert_sent_once(&fixture, &gate, 2).await;
    let failures = log.lines("again_in").len();
    assert!(
        failures <= most_failures(lasted),
        "{failures} in {lasted:?}"
    );
}

#[tokio::test]
async fn a_database_that_is_read_only_for_a_while() {
    let (fixture, log) = (Fixture::new().await, Log::start());
    let gate = Gate::new();
    let running = at_work(&fixture, &gate).await;
    fixture.set("default_transaction_read_only = on").await;
    fixture.end_sessions().await;
    let begun = Instant::now();
    gate.open();
    until_trouble(&running, "25006").await;
    log.until("25006", 6).await;
    // Sessions keep what they began with: the worker has to make new ones.
    let mut superuser = PgConnection::connect(fixture.url()).await.unwrap();
    let name: String = sqlx::query_scalar("SELECT current_database()")
        .fetch_one(&mut superuser)
        .await
        .unwrap();
    let reset = format!("ALTER DATABASE {name} RESET default_transaction_read_only");
    for statement in ["SET default_transaction_read_only = off", &reset] {
        let statement = sqlx::raw_sql(AssertSqlSafe(statement));
        statement.execute(&mut superuser).await.unwrap();
    }
    let lasted = begun.elapsed();
    until_well(&running).await;
    fixture.until_settled().await;
    running.stop().await;
    assert_sent_once(&fixture, &gate, 2).await;
    let failures = log.lines("again_in").len();
    assert!(
        failures <= most_failures(lasted),
        "{failures} in {lasted:?}"
    );
}

#[tokio::test]
async fn a_database_that_is_stricter_than_needed() {
    let (fixture, log) = (Fixture::new().await, Log::start());
    fixture
        .set("default_transaction_isolation = 'serializable'")
        .await;
    fixture.enqueue("email", 500).await;
    for n in 0..50 {
        let keyed = NewEvent::new("email", any()).key(format!("key-{}", n % 5));
        fixture.write(&keyed).await;
    }
    let email = Recorder::accepting();
    let router = || Router::new(vec![fan_out("*", &["email"])]);
    let channels = || vec![spec("email", email.clone())];
    let mut workers = Vec::new();
    for _ in 0..3 {
        let store = open(fixture.url()).await;
        let worker = Worker::new(store, router(), channels(), patient());
        workers.push(Running::start(worker));
    }
    fixture.until_settled().await;
    for running in workers {
        running.stop().await;
    }
    assert_eq!(fixture.count(DELIVERED).await, 550);
    assert_eq!(email.sent().len(), 550);
    assert_eq!(log.lines("40001"), Vec::<String>::new());
}

#[tokio::test]
async fn a_deadlock_with_somebody_else() {
    let (fixture, log) = (Fixture::new().await, Log::start());
    // Who waits the longest looks for a deadlock first, and gives way.
    fixture.set("deadlock_timeout = '5s'").await;
    let gate = Gate::new();
    let running = at_work(&fixture, &gate).await;
    let mut other = PgConnection::connect(fixture.url()).await.unwrap();
    let first = "SET deadlock_timeout = '10min'; BEGIN; LOCK TABLE outbox_deliveries";
    sqlx::raw_sql(first).execute(&mut other).await.unwrap();
    gate.open();
    let outcome = fixture.waiting().await;
    assert!(outcome.contains("-- Writes down what became"), "{outcome}");
    // The worker's statement has removed its row of the queue already.
    sqlx::raw_sql("LOCK TABLE outbox_queue; ROLLBACK")
        .execute(&mut other)
        .await
        .unwrap();
    fixture.until_settled().await;
    running.stop().await;
    assert_sent_once(&fixture, &gate, 2).await;
    let told = log.lines("40P01");
    assert!(!told.is_empty(), "no deadlock was told of");
}

#[tokio::test]
async fn a_table_locked_for_longer_than_anybody_waits() {
    let (fixture, log) = (Fixture::new().await, Log::start());
    let gate = Gate::new();
    let running = at_work(&fixture, &gate).await;
    let lock = fixture.locked("outbox_deliveries").await;
    gate.open();
    // The server gives up first, so that the connection stays in order.
    log.until("55P03", 1).await;
    lock.rollback().await.unwrap();
    until_well(&running).await;
    fixture.until_settled().await;
    running.stop().await;
    assert_sent_once(&fixture, &gate, 2).await;
    assert_eq!(log.lines("55P03").len(), 1);
}

#[tokio::test]
async fn sessions_that_are_ended_again_and_again() {
    let (fixture, log) = (Fixture::new().await, Log::start());
    let gate = Gate::new();
    let running = at_work(&fixture, &gate).await;
    for _ in 0..5 {
        fixture.end_sessions().await;
        let id = fixture.event("email", any()).await;
        gate.let_go(2);
        let delivered = async {
            while fixture.status(id).await.status != "processed" {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, delivered).await.unwrap();
    }
    running.stop().await;
    assert_sent_once(&fixture, &gate, 7).await;
    assert!(log.lines("lease ran out").is_empty());
}

#[tokio::test]
async fn outcomes_that_cannot_be_written_make_the_worker_unready() {
    let fixture = Fixture::new().await;
    fixture.set("statement_timeout = '300ms'").await;
    let gate = Gate::new();
    let running = at_work(&fixture, &gate).await;
    let lock = fixture.locked("outbox_deliveries").await;
    gate.open();
    until_trouble(&running, "57014").await;
    lock.rollback().await.unwrap();
    until_well(&running).await;
    fixture.until_settled().await;
    running.stop().await;
    assert_sent_once(&fixture, &gate, 2).await;
}

#[tokio::test]
async fn an_outcome_that_waits_for_a_lock_does_not_hold_up_others() {
    let fixture = Fixture::new().await;
    let gate = Gate::new();
    let running = at_work(&fixture, &gate).await;
    fixture.event("email", any()).await;
    gate.arrived(1).await;
    let mut lock = fixture.pool.begin().await.unwrap();
    let row = "SELECT FROM outbox_queue WHERE event_id = 2 FOR UPDATE";
    sqlx::raw_sql(row).execute(&mut *lock).await.unwrap();
    gate.let_go(1);
    assert!(
        fixture
            .waiting()
            .await
            .contains("-- Writes down what became")
    );
    gate.open();
    fixture
        .until("SELECT EXISTS (SELECT FROM outbox_deliveries WHERE event_id = 3)")
        .await;
    lock.rollback().await.unwrap();
    fixture.until_settled().await;
    running.stop().await;
    assert_sent_once(&fixture, &gate, 3).await;
}
