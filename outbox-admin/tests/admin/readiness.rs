//! `/healthz` and `/readyz`.

use crate::client::get;
use crate::fixture::{Fixture, Server, delivering, options};
use outbox_admin::Admin;
use outbox_engine::Health;
use outbox_sandbox::postgres::{Cluster, ClusterOptions, StopMode};
use outbox_store::{Store, StoreOptions};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_living_process_says_ok() {
    let fixture = Fixture::new().await;
    let server = Server::start(fixture.admin()).await;
    let answer = get("/healthz").send(server.address).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "ok"));
    let answer = get("/readyz").send(server.address).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "ok"));
}

#[tokio::test]
async fn each_state_of_the_worker_but_working_is_not_ready() {
    let fixture = Fixture::new().await;
    let health = watch::Sender::new(Health::Starting);
    let admin = fixture.admin().with_readiness_of(health.subscribe());
    let server = Server::start(admin).await;
    let secret_cause = "role \"payments\" is not allowed";
    for (state, part) in [
        (Health::Starting, "has not begun"),
        (
            Health::DatabaseTrouble(secret_cause.to_owned()),
            "waits for the database",
        ),
        (Health::Stopped, "has ended"),
    ] {
        health.send_replace(state);
        let answer = get("/readyz").send(server.address).await;
        answer.assert_problem(503, part);
        assert!(!answer.body.contains("payments"), "{answer:?}");
        assert_eq!(get("/healthz").send(server.address).await.status, 200);
    }
    health.send_replace(Health::Working);
    assert_eq!(get("/readyz").send(server.address).await.status, 200);
}

#[tokio::test]
async fn a_real_worker_is_followed() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker(delivering(0));
    let mut health = worker.health();
    let admin = fixture.admin().with_readiness_of(worker.health());
    let server = Server::start(admin).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (worker, stop) = (Arc::clone(&worker), stop.clone());
        async move { worker.run(stop.cancelled()).await }
    });
    health
        .wait_for(|health| *health == Health::Working)
        .await
        .unwrap();
    assert_eq!(get("/readyz").send(server.address).await.status, 200);
    stop.cancel();
    running.await.unwrap().unwrap();
    let answer = get("/readyz").send(server.address).await;
    answer.assert_problem(503, "has ended");
}

#[tokio::test]
async fn a_database_that_is_away_is_told_and_its_return_too() {
    let start = || {
        Cluster::start(ClusterOptions {
            durable: false,
            ..ClusterOptions::default()
        })
    };
    let mut cluster = spawn_blocking(start).await.unwrap().unwrap();
    let store_options = StoreOptions {
        acquire_timeout: Duration::from_secs(30),
        ..StoreOptions::new(cluster.url("postgres"))
    };
    let store = Store::connect(&store_options).await.unwrap();
    let server = Server::start(Admin::new(&options(), store)).await;
    assert_eq!(get("/readyz").send(server.address).await.status, 200);

    let mut cluster = spawn_blocking(move || {
        cluster.stop(StopMode::Immediate).unwrap();
        cluster
    })
    .await
    .unwrap();
    let answer = get("/readyz").send(server.address).await;
    answer.assert_problem(503, "the database did not answer within 2s");
    assert_eq!(get("/healthz").send(server.address).await.status, 200);

    let cluster = spawn_blocking(move || {
        cluster.restart().unwrap();
        cluster
    })
    .await
    .unwrap();
    let answer = get("/readyz").send(server.address).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    spawn_blocking(move || drop(cluster)).await.unwrap();
}
