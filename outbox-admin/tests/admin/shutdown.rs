//! How the server ends.

use crate::client::dispatch;
use crate::fixture::{Fixture, Server, delivering, gate, options};
use outbox_admin::{Admin, AdminOptions};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than anything here should take.
const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_dispatch_under_way_is_finished_and_answered() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 1).await;
    let (channel, mut keeper) = gate();
    let server = fixture.serve(channel).await;
    let call = tokio::spawn(dispatch("{}").send(server.address));
    keeper.begun().await;
    server.stop.cancel();
    until_closed(&server).await;
    assert!(!server.task.is_finished());
    keeper.open();
    let answer = timeout(LONG, call).await.unwrap().unwrap();
    assert_eq!(answer.json()["processed"], 1, "{answer:?}");
    timeout(LONG, server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_dispatch_whose_client_is_gone_is_waited_for() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 1).await;
    let (channel, mut keeper) = gate();
    let options = AdminOptions {
        request_timeout: Duration::from_millis(200),
        ..options()
    };
    let admin = Admin::new(&options, fixture.store.clone());
    let server = Server::start(admin.with_dispatcher(fixture.worker(channel))).await;
    let answer = dispatch("{}").send(server.address).await;
    answer.assert_problem(504, "goes on");
    keeper.begun().await;
    server.stop.cancel();
    until_closed(&server).await;
    assert!(!server.task.is_finished());
    keeper.open();
    timeout(LONG, server.task).await.unwrap().unwrap();
    assert_eq!(fixture.count("SELECT count(*) FROM outbox_queue").await, 0);
}

#[tokio::test]
async fn a_dispatch_that_waits_its_turn_is_refused() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 5).await;
    let (channel, mut keeper) = gate();
    let server = fixture.serve(channel).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..5 {
        calls.spawn(dispatch(r#"{"limit": 1}"#).send(server.address));
    }
    for _ in 0..4 {
        keeper.begun().await;
    }
    // The fifth has arrived or is refused a connection's first request; the answer is the same.
    server.stop.cancel();
    let first = timeout(LONG, calls.join_next()).await.unwrap().unwrap();
    first.unwrap().assert_problem(503, "stopping");
    keeper.open();
    while let Some(answer) = calls.join_next().await {
        assert_eq!(answer.unwrap().json()["processed"], 1);
    }
    timeout(LONG, server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_does_not_end_in_time_is_left() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 1).await;
    let (channel, mut keeper) = gate();
    let options = AdminOptions {
        shutdown_grace: Duration::from_millis(100),
        ..options()
    };
    let admin = Admin::new(&options, fixture.store.clone());
    let server = Server::start(admin.with_dispatcher(fixture.worker(channel))).await;
    tokio::spawn(dispatch("{}").send(server.address));
    keeper.begun().await;
    server.stop.cancel();
    timeout(LONG, server.task).await.unwrap().unwrap();
    keeper.open();
    fixture.until_settled().await;
}

#[tokio::test]
async fn idle_connections_do_not_hold_it_up() {
    let fixture = Fixture::new().await;
    let server = fixture.serve(delivering(0)).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    let health = crate::client::get("/healthz").send(server.address).await;
    assert_eq!(health.status, 200);
    server.stop.cancel();
    // Shorter than the time an idle connection may have.
    timeout(Duration::from_secs(5), server.task)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
}

/// Until no connection is taken any more.
async fn until_closed(server: &Server) {
    let closing = async { while TcpStream::connect(server.address).await.is_ok() {} };
    timeout(LONG, closing).await.unwrap();
}
