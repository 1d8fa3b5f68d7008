//! A database in trouble.

use crate::channels::{Gate, Recorder};
use crate::common::{
    DELIVERED, Fixture, PATIENCE, Running, any, fan_out, open, open_narrowly, options, spec,
};
use outbox_engine::{Health, Router, Worker, WorkerOptions};
use outbox_sandbox::postgres::{Cluster, ClusterOptions, StopMode};
use outbox_sandbox::proxy::{Direction, TcpProxy};
use outbox_store::{NewEvent, enqueue_many};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::task::spawn_blocking;

fn polling_often() -> WorkerOptions {
    WorkerOptions {
        poll_interval: Duration::from_millis(200),
        lease: Duration::from_secs(3),
        ..options()
    }
}

#[tokio::test]
async fn cut_connections_lose_nothing() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 1_000).await;
    let email = Recorder::accepting();
    let worker = fixture.worker_with(polling_often(), vec![spec("email", email.clone())]);
    let running = Running::start(worker);
    for progress in [
        "SELECT count(*) > 50 FROM outbox_deliveries",
        "SELECT count(*) > 300 FROM outbox_deliveries",
        "SELECT count(*) > 600 FROM outbox_deliveries",
        "SELECT count(*) > 900 FROM outbox_deliveries",
    ] {
        fixture.until(progress).await;
        fixture
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = 'outbox'",
            )
            .await;
    }
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(fixture.count(DELIVERED).await, 1_000);
    let sent: BTreeSet<_> = email.event_ids().into_iter().collect();
    assert_eq!(sent.len(), 1_000);
}

#[tokio::test]
async fn an_outcome_whose_writing_got_no_answer_is_not_sent_again() {
    let fixture = Fixture::new().await;
    fixture.event("email", any()).await;
    let proxy = TcpProxy::start(fixture.address()).await.unwrap();
    let store = open_narrowly(&fixture.url_through(&proxy)).await;
    let gate = Gate::new();
    let router = Router::new(vec![fan_out("*", &["email"])]);
    let channels = vec![spec("email", gate.clone())];
    let running = Running::start(Worker::new(store, router, channels, polling_often()));
    gate.let_go(1);
    fixture.until_settled().await;
    fixture.event("email", any()).await;
    gate.arrived(2).await;
    // Locked before the send ends, or its outcome would slip by.
    let transaction = fixture.locked("outbox_deliveries").await;
    gate.open();
    let outcome = fixture.waiting().await;
    assert!(
        outcome.contains("-- Writes down what became of leased rows"),
        "{outcome}"
    );
    // The outcome waits for this transaction, and its answer for ever.
    proxy.stall(Direction::ToClient);
    transaction.commit().await.unwrap();
    fixture.until_settled().await;
    proxy.cut();
    proxy.heal();
    fixture.event("email", any()).await;
    fixture.until_settled().await;
    running.stop().await;
    let attempts: Vec<_> = gate
        .attempts()
        .into_iter()
        .map(|(_, attempt)| attempt)
        .collect();
    assert_eq!(attempts, [1, 1, 1]);
    assert_eq!(fixture.count(DELIVERED).await, 3);
    assert_eq!(
        fixture.count("SELECT count(*) FROM outbox_workers").await,
        0
    );
}

#[tokio::test]
async fn outcomes_wait_for_a_database_that_is_away() {
    let fixture = Fixture::new().await;
    let event = fixture.event("email", any()).await;
    let proxy = TcpProxy::start(fixture.address()).await.unwrap();
    let store = open(&fixture.url_through(&proxy)).await;
    let gate = Gate::new();
    let router = Router::new(vec![fan_out("*", &["email"])]);
    let channels = vec![spec("email", gate.clone())];
    let options = WorkerOptions {
        lease: Duration::from_secs(60),
        ..polling_often()
    };
    let running = Running::start(Worker::new(store, router, channels, options));
    let mut health = running.worker.health();
    gate.arrived(1).await;
    proxy.refuse(true);
    proxy.cut();
    gate.open();
    until_health(&mut health, |health| {
        matches!(health, Health::DatabaseTrouble(_))
    })
    .await;
    proxy.heal();
    until_health(&mut health, |health| *health == Health::Working).await;
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(gate.attempts(), [(event, 1)]);
    assert_eq!(fixture.count(DELIVERED).await, 1);
}

#[tokio::test]
async fn a_worker_outlives_a_restart_of_the_server() {
    // Durable: nothing that was committed may be lost by the server itself.
    let cluster = spawn_blocking(|| Cluster::start(ClusterOptions::default()).unwrap());
    let mut cluster = cluster.await.unwrap();
    let store = open(&cluster.url("postgres")).await;
    store.migrate().await.unwrap();
    let events = vec![NewEvent::new("email", any()); 300];
    let ids = enqueue_many(store.pool(), &events).await.unwrap();
    let gate = Gate::new();
    let router = Router::new(vec![fan_out("*", &["email"])]);
    let channels = vec![spec("email", gate.clone())];
    let worker = Worker::new(store.clone(), router, channels, polling_often());
    let running = Running::start(worker);
    let mut health = running.worker.health();
    gate.arrived(16).await;
    cluster = spawn_blocking(move || {
        cluster.stop(StopMode::Immediate).unwrap();
        cluster
    })
    .await
    .unwrap();
    until_health(&mut health, |health| {
        matches!(health, Health::DatabaseTrouble(_))
    })
    .await;
    gate.open();
    cluster = spawn_blocking(move || {
        cluster.restart().unwrap();
        cluster
    })
    .await
    .unwrap();
    until_health(&mut health, |health| *health == Health::Working).await;
    let settled = async {
        let unsettled = "SELECT count(*) FROM outbox_queue";
        while sqlx::query_scalar(unsettled)
            .fetch_one(store.pool())
            .await
            .unwrap_or(1_i64)
            > 0
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, settled)
        .await
        .expect("some events are left");
    running.stop().await;
    assert_eq!(*health.borrow(), Health::Stopped);
    let sent: BTreeSet<_> = gate
        .attempts()
        .into_iter()
        .map(|(event, _)| event)
        .collect();
    assert_eq!(sent, ids.into_iter().collect());
    store.close().await;
    drop(spawn_blocking(move || drop(cluster)).await);
}

async fn until_health(
    health: &mut tokio::sync::watch::Receiver<Health>,
    is_it: impl FnMut(&Health) -> bool,
) {
    let reached = tokio::time::timeout(PATIENCE, health.wait_for(is_it)).await;
    drop(reached.expect("the health does not change").unwrap());
}

/// A worker on a connection that `proxy` carries, about to begin.
async fn beginner(fixture: &Fixture, proxy: &TcpProxy) -> Worker {
    let store = open_narrowly(&fixture.url_through(proxy)).await;
    let router = Router::new(vec![fan_out("*", &["email"])]);
    let channels = vec![spec("email", Recorder::accepting())];
    Worker::new(store, router, channels, polling_often())
}

#[tokio::test]
async fn a_worker_that_cannot_begin_yet_can_be_stopped() {
    let fixture = Fixture::new().await;
    let proxy = TcpProxy::start(fixture.address()).await.unwrap();
    let worker = beginner(&fixture, &proxy).await;
    proxy.stall(Direction::ToClient);
    Running::start(worker).stop().await;
}

#[tokio::test]
async fn a_connection_that_breaks_at_the_start_is_no_end() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 3).await;
    let proxy = TcpProxy::start(fixture.address()).await.unwrap();
    let worker = beginner(&fixture, &proxy).await;
    proxy.refuse(true);
    proxy.cut();
    let running = Running::start(worker);
    let mut health = running.worker.health();
    until_health(&mut health, |health| {
        matches!(health, Health::DatabaseTrouble(_))
    })
    .await;
    proxy.heal();
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(fixture.count(DELIVERED).await, 3);
}
