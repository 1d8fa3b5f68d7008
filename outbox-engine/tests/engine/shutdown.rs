//! The end of a worker.

use crate::channels::{Gate, accepting};
use crate::common::{
    ASLEEP, DELIVERED, Fixture, PATIENCE, Running, any, fan_out, open, options, spec,
    without_polling,
};
use outbox_engine::{Health, OnAmbiguous, Router, Worker, WorkerOptions};
use outbox_sandbox::proxy::{Direction, TcpProxy};
use std::time::{Duration, Instant};

const WORKERS: &str = "SELECT count(*) FROM outbox_workers";

#[tokio::test]
async fn what_is_under_way_is_finished_and_the_rest_given_back_uncharged() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 20).await;
    let gate = Gate::new();
    let two_at_once = WorkerOptions {
        concurrency: 2,
        ..options()
    };
    let channels = vec![spec("email", gate.clone())];
    let mut running = Running::start(fixture.worker_with(two_at_once, channels));
    gate.arrived(2).await;
    running.shut_down();
    // What it had claimed ahead is free at once.
    fixture
        .until("SELECT count(*) = 2 FROM outbox_queue WHERE worker IS NOT NULL")
        .await;
    gate.open();
    running.ended().await;
    assert_eq!(*running.worker.health().borrow(), Health::Stopped);
    assert_eq!(gate.attempts().len(), 2);
    assert_eq!(fixture.count(DELIVERED).await, 2);
    let queue = fixture.queue().await;
    assert_eq!(queue.len(), 18);
    let is_untouched =
        |row: &crate::common::Row| (row.attempt, row.takeovers, row.worker) == (0, 0, None);
    assert!(queue.iter().all(is_untouched), "{queue:?}");
    assert_eq!(fixture.count(WORKERS).await, 0);
}

const LEASED_BEYOND: &str = "SELECT count(*) > 2 FROM outbox_queue WHERE worker IS NOT NULL";
const TWO_LEASED: &str = "SELECT count(*) = 2 FROM outbox_queue WHERE worker IS NOT NULL";

/// A channel that takes two at once hangs in the middle of a rush, with work claimed ahead for it.
async fn hanging(fixture: &Fixture) -> (Gate, Running) {
    fixture.enqueue("email", 200).await;
    let gate = Gate::new();
    let mut two_at_once = spec("email", gate.clone());
    two_at_once.concurrency = 2;
    let channels = vec![two_at_once, spec("sms", accepting())];
    let running = Running::start(fixture.worker_with(without_polling(), channels));
    gate.let_go(50);
    gate.arrived(52).await;
    fixture.until(LEASED_BEYOND).await;
    (gate, running)
}

#[tokio::test]
async fn what_waits_for_a_channel_that_hangs_is_free_at_once() {
    let fixture = Fixture::new().await;
    let (gate, mut running) = hanging(&fixture).await;
    running.shut_down();
    fixture.until(TWO_LEASED).await;
    assert_eq!(gate.inside(), 2);
    gate.open();
    running.ended().await;
    assert_eq!(gate.attempts().len(), 52);
    assert_eq!(fixture.count(DELIVERED).await, 52);
    assert_eq!(
        fixture.count("SELECT count(*) FROM outbox_queue").await,
        148
    );
}

#[tokio::test]
async fn a_claim_that_hangs_too_does_not_keep_it() {
    let fixture = Fixture::new().await;
    let (gate, mut running) = hanging(&fixture).await;
    // Claims ask which channels are paused, and nobody else has to.
    let lock = fixture.locked("outbox_channels").await;
    fixture.enqueue("sms", 1).await;
    assert!(fixture.waiting().await.starts_with("-- Leases due rows"));
    let begun = Instant::now();
    running.shut_down();
    fixture.until(TWO_LEASED).await;
    let took = begun.elapsed();
    assert!(took < options().shutdown_grace / 2, "{took:?}");
    lock.rollback().await.unwrap();
    gate.open();
    running.ended().await;
    assert_eq!(gate.attempts().len(), 52);
}

#[tokio::test]
async fn a_send_that_outlasts_the_grace_period_is_ambiguous() {
    let fixture = Fixture::new().await;
    let event = fixture.event("email", any()).await;
    let gate = Gate::new();
    let hurried = WorkerOptions {
        shutdown_grace: Duration::from_millis(200),
        ..options()
    };
    let mut holding = spec("email", gate.clone());
    holding.on_ambiguous = OnAmbiguous::Hold;
    let running = Running::start(fixture.worker_with(hurried, vec![holding]));
    gate.arrived(1).await;
    running.stop().await;
    assert_eq!(gate.inside(), 0);
    let attempt = fixture.attempts().await.remove(0);
    assert_eq!(
        (attempt.class.as_str(), attempt.code.as_str()),
        ("ambiguous", "shutdown")
    );
    assert_eq!(fixture.status(event).await.status, "held");
    assert_eq!(fixture.count(WORKERS).await, 0);
}

#[tokio::test]
async fn an_event_of_which_one_channel_is_done_keeps_that_result() {
    let fixture = Fixture::new().await;
    fixture.event("both", any()).await;
    let gate = Gate::new();
    let hurried = WorkerOptions {
        shutdown_grace: Duration::from_millis(100),
        ..options()
    };
    let channels = vec![spec("fast", accepting()), spec("slow", gate.clone())];
    let router = Router::new(vec![fan_out("both", &["fast", "slow"])]);
    let worker = Worker::new(fixture.store.clone(), router, channels, hurried);
    let running = Running::start(worker);
    gate.arrived(1).await;
    running.stop().await;
    let results = fixture.results().await;
    assert_eq!(results.len(), 1);
    assert_eq!(results[0].channel, "fast");
    let queue = fixture.queue().await;
    assert_eq!(queue.len(), 1);
    assert_eq!((queue[0].channel.as_str(), queue[0].attempt), ("slow", 1));
    assert_eq!(queue[0].worker, None);
}

#[tokio::test]
async fn an_idle_worker_stops_at_once() {
    let fixture = Fixture::new().await;
    let channels = vec![spec("email", accepting())];
    let running = Running::start(fixture.worker_with(without_polling(), channels));
    fixture.until(ASLEEP).await;
    let begun = Instant::now();
    running.stop().await;
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(fixture.count(WORKERS).await, 0);
}

#[tokio::test]
async fn a_batch_that_nobody_waits_for_any_more_is_finished_all_the_same() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 5).await;
    let gate = Gate::new();
    let worker = fixture.worker(vec![spec("email", gate.clone())]);
    tokio::select! {
        _ = worker.dispatch(5) => panic!("nothing can have been delivered"),
        () = gate.arrived(5) => {}
    }
    gate.open();
    fixture.until_settled().await;
    fixture
        .until("SELECT NOT EXISTS (SELECT FROM outbox_workers)")
        .await;
    assert_eq!(fixture.count(DELIVERED).await, 5);
}

#[tokio::test]
async fn a_dead_database_does_not_hold_up_the_end() {
    let fixture = Fixture::new().await;
    fixture.event("email", any()).await;
    let address = fixture.address();
    let proxy = TcpProxy::start(address).await.unwrap();
    let store = open(&fixture.url_through(&proxy)).await;
    let gate = Gate::new();
    let hurried = WorkerOptions {
        shutdown_grace: Duration::from_millis(200),
        ..options()
    };
    let router = Router::new(vec![fan_out("*", &["email"])]);
    let worker = Worker::new(store, router, vec![spec("email", gate.clone())], hurried);
    let running = Running::start(worker);
    gate.arrived(1).await;
    // Not refused: nobody ever answers.
    proxy.stall(Direction::ToTarget);
    gate.open();
    let begun = Instant::now();
    running.stop().await;
    assert!(begun.elapsed() < PATIENCE);
    assert_eq!(fixture.queue().await.len(), 1, "it was never written down");
}
