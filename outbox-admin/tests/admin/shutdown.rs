//! How the server ends.

use crate::client::{DISPATCH, dispatch, get};
use crate::fixture::{Fixture, KEY, Server, delivering, gate, options};
use outbox_admin::{Admin, AdminOptions};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
async fn a_dispatch_that_has_not_begun_is_refused() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 5).await;
    let (channel, mut keeper) = gate();
    let server = fixture.serve(channel).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..4 {
        calls.spawn(dispatch(r#"{"limit": 1}"#).send(server.address));
        keeper.begun().await;
    }
    let mut fifth = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST {DISPATCH} HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\nexpect: 100-continue\r\n\
         content-type: application/json\r\ncontent-length: 2\r\n\r\n"
    );
    fifth.write_all(head.as_bytes()).await.unwrap();
    // This answer comes when the body is asked for: the request has arrived.
    let mut go_on = [0; 25];
    fifth.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    server.stop.cancel();
    fifth.write_all(b"{}").await.unwrap();
    let mut answer = String::new();
    timeout(LONG, fifth.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("this process is stopping"), "{answer}");
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
    let health = get("/healthz").send(server.address).await;
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
