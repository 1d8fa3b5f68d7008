//! Workers behind PgBouncer in transaction mode.

use crate::channels::Recorder;
use crate::common::{ASLEEP, DELIVERED, Fixture, Running, any, fan_out, open, options, spec};
use crate::log::Log;
use outbox_engine::{Router, Worker, WorkerOptions};
use outbox_sandbox::postgres::{PgBouncer, SandboxError};
use outbox_store::NewEvent;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::spawn_blocking;

/// Fewer sessions than connections, and a different one each time. `None`, and said so, where
/// there is no PgBouncer.
async fn pooler(fixture: &Fixture) -> Option<PgBouncer> {
    let url = fixture.url().to_owned();
    let settings = &[("default_pool_size", "3"), ("server_round_robin", "1")];
    let started = spawn_blocking(move || PgBouncer::start(&url, settings)).await;
    match started.unwrap() {
        Ok(pooler) => Some(pooler),
        Err(error @ SandboxError::NoPgBouncer) => {
            eprintln!("SKIPPED: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

async fn worker(url: &str, email: &Recorder) -> Running {
    let store = open(url).await;
    let router = Router::new(vec![fan_out("*", &["email"])]);
    let options = WorkerOptions {
        poll_interval: Duration::from_millis(100),
        ..options()
    };
    let channels = vec![spec("email", email.clone())];
    Running::start(Worker::new(store, router, channels, options))
}

#[tokio::test]
async fn workers_share_a_few_sessions() {
    let fixture = Fixture::new().await;
    let Some(pooler) = pooler(&fixture).await else {
        return;
    };
    let log = Log::start();
    let database = fixture.url().rsplit('/').next().unwrap();
    let (url, email) = (pooler.url(database), Recorder::accepting());
    let (one, other) = (worker(&url, &email).await, worker(&url, &email).await);
    fixture.enqueue("email", 300).await;
    for n in 0..100 {
        let event = NewEvent::new("email", any()).key(format!("key-{}", n % 7));
        fixture.write(&event).await;
    }
    fixture.until_settled().await;
    let is_asleep: bool = sqlx::query_scalar(ASLEEP)
        .fetch_one(&fixture.pool)
        .await
        .unwrap();
    assert!(!is_asleep, "nobody would hear a call");
    one.stop().await;
    other.stop().await;
    assert_eq!(fixture.count(DELIVERED).await, 400);
    let mut last_of_key = BTreeMap::new();
    for (_, delivery) in email.sent() {
        let event = delivery.event();
        if let Some(key) = &event.key {
            let before = last_of_key.insert(key.clone(), event.id);
            assert!(
                before < Some(event.id),
                "{key}: {before:?}, then {}",
                event.id
            );
        }
    }
    assert_eq!(email.sent().len(), 400);
    assert_eq!(log.lines("WARN"), Vec::<String>::new());
    assert_eq!(log.lines("ERROR"), Vec::<String>::new());
    let workers = "SELECT count(*) FROM outbox_workers";
    assert_eq!(fixture.count(workers).await, 0);
    spawn_blocking(move || drop(pooler)).await.unwrap();
}

#[tokio::test]
async fn a_batch_goes_through() {
    let fixture = Fixture::new().await;
    let Some(pooler) = pooler(&fixture).await else {
        return;
    };
    let database = fixture.url().rsplit('/').next().unwrap();
    fixture.enqueue("email", 50).await;
    let email = Recorder::accepting();
    let router = Router::new(vec![fan_out("*", &["email"])]);
    let store = open(&pooler.url(database)).await;
    let worker = Worker::new(store, router, vec![spec("email", email)], options());
    assert_eq!(worker.dispatch(100).await.unwrap().processed, 50);
    spawn_blocking(move || drop(pooler)).await.unwrap();
}
