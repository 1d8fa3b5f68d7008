//! Rows that are leased, and whose events cannot be read.

use crate::channels::Gate;
use crate::common::{DELIVERED, Fixture, Running, spec};
use crate::log::Log;
use crate::trouble::{most_failures, patient, until_trouble, until_well, worker_on};
use outbox_engine::{Health, WorkerOptions};
use std::time::{Duration, Instant};

const LEASED: &str = "SELECT EXISTS (SELECT FROM outbox_queue q \
                      JOIN outbox_workers w ON w.id = q.worker WHERE w.alive_until > now())";

impl Fixture {
    /// Nine events that are claimed as soon as nobody can read them.
    async fn unreadable(&self) {
        self.execute(
            "INSERT INTO outbox_events (event_type, payload, key, deliver_at)
             SELECT 'email', '{}', 'k' || n % 2, now() + interval '1 hour'
             FROM generate_series(1, 9) n",
        )
        .await;
        self.execute("ALTER TABLE outbox_events RENAME TO elsewhere")
            .await;
        self.execute("UPDATE outbox_queue SET due_at = now()").await;
    }

    async fn readable(&self) {
        self.execute("ALTER TABLE elsewhere RENAME TO outbox_events")
            .await;
    }

    async fn assert_all_sent_once(&self, gate: &Gate) {
        let mut attempts = gate.attempts();
        attempts.sort_unstable();
        let once: Vec<_> = (1..=9).map(|id| (id, 1)).collect();
        assert_eq!(attempts, once);
        assert_eq!(self.count(DELIVERED).await, 9);
    }
}

#[tokio::test]
async fn they_are_read_later() {
    let (fixture, log) = (Fixture::new().await, Log::start());
    let gate = Gate::new();
    gate.open();
    fixture.unreadable().await;
    let begun = Instant::now();
    let running = worker_on(fixture.url(), &gate).await;
    log.until("42P01", 3).await;
    // Claims go well meanwhile, and do not say that all is well.
    let health = running.worker.health().borrow().clone();
    assert!(matches!(health, Health::DatabaseTrouble(_)), "{health:?}");
    fixture.readable().await;
    let lasted = begun.elapsed();
    until_well(&running).await;
    fixture.until_settled().await;
    running.stop().await;
    fixture.assert_all_sent_once(&gate).await;
    let failures = log.lines("again_in").len();
    assert!(
        failures <= most_failures(lasted),
        "{failures} in {lasted:?}"
    );
}

#[tokio::test]
async fn they_are_given_back_at_the_end() {
    let (fixture, gate) = (Fixture::new().await, Gate::new());
    gate.open();
    fixture.unreadable().await;
    let running = worker_on(fixture.url(), &gate).await;
    until_trouble(&running, "42P01").await;
    let begun = Instant::now();
    running.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(4));
    let as_before = "SELECT count(*) FROM outbox_queue WHERE worker IS NULL AND takeovers = 0";
    assert_eq!(fixture.count(as_before).await, 9);
    fixture.readable().await;
    let next = worker_on(fixture.url(), &gate).await;
    fixture.until_settled().await;
    next.stop().await;
    fixture.assert_all_sent_once(&gate).await;
}

#[tokio::test]
async fn they_are_claimed_again_when_the_lease_is_lost() {
    let (fixture, gate, log) = (Fixture::new().await, Gate::new(), Log::start());
    gate.open();
    fixture.unreadable().await;
    let options = WorkerOptions {
        lease: Duration::from_secs(2),
        concurrency: 1,
        batch_size: 1,
        ..patient()
    };
    let worker = fixture.worker_with(options, vec![spec("email", gate.clone())]);
    let running = Running::start(worker);
    // More rows in all than this worker may have under way.
    for _ in 0..6 {
        fixture.until(LEASED).await;
        fixture
            .execute("UPDATE outbox_workers SET alive_until = now() - interval '1 second'")
            .await;
        fixture
            .execute("UPDATE outbox_queue SET takeovers = 0")
            .await;
    }
    fixture.readable().await;
    fixture.until_settled().await;
    until_well(&running).await;
    running.stop().await;
    fixture.assert_all_sent_once(&gate).await;
    assert!(!log.lines("42P01").is_empty());
}

/// Who waits for a batch is told, and the rows are free again.
#[tokio::test]
async fn a_batch_ends_with_the_error() {
    let (fixture, gate) = (Fixture::new().await, Gate::new());
    gate.open();
    fixture.unreadable().await;
    let worker = fixture.worker(vec![spec("email", gate.clone())]);
    let error = worker.dispatch(5).await.unwrap_err();
    assert!(error.sentence().contains("42P01"), "{}", error.sentence());
    let as_before = "SELECT count(*) FROM outbox_queue WHERE worker IS NULL AND takeovers = 0";
    assert_eq!(fixture.count(as_before).await, 9);
    fixture.readable().await;
    assert_eq!(worker.dispatch(9).await.unwrap().processed, 9);
    fixture.assert_all_sent_once(&gate).await;
}
