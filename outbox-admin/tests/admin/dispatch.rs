//! `POST …/dispatch`.

use crate::client::{Call, DISPATCH, dispatch};
use crate::fixture::{Fixture, KEY, Server, delivering, gate, options};
use axum::http::Method;
use outbox_admin::{Admin, AdminOptions, router};
use outbox_channel::{MockChannel, Receipt, SendError};
use serde_json::json;
use std::time::Duration;
use tower::ServiceExt;

const DELIVERED: &str = "SELECT count(*) FROM outbox_deliveries WHERE status = 'delivered'";

#[tokio::test]
async fn it_delivers_at_most_so_many_and_tells_what_it_did() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 5).await;
    let server = fixture.serve(delivering(2)).await;
    let answer = dispatch(r#"{"limit": 2}"#).send(server.address).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(
        answer.json(),
        json!({"processed": 2, "skipped": 0, "errors": 0, "requeued": 0})
    );
    assert_eq!(fixture.count(DELIVERED).await, 2);
    assert_eq!(
        fixture.count("SELECT count(*) FROM outbox_queue").await,
        3,
        "the rest waits"
    );
}

#[tokio::test]
async fn everything_that_can_happen_is_counted() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 4).await;
    fixture.enqueue("unknown", 3).await;
    let mut channel = MockChannel::new();
    channel
        .expect_send()
        .times(4)
        .returning(|delivery| match delivery.event().id {
            1 => Err(SendError::transient("503", "busy")),
            2 => Err(SendError::permanent("550", "no such user")),
            _ => Ok(Receipt::new()),
        });
    let server = fixture.serve(channel).await;
    let answer = dispatch("{}").send(server.address).await;
    assert_eq!(
        answer.json(),
        json!({"processed": 2, "skipped": 3, "errors": 2, "requeued": 1})
    );
}

#[tokio::test]
async fn without_a_limit_it_takes_a_hundred() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 301).await;
    let server = fixture.serve(delivering(300)).await;
    let bare = Call::new(Method::POST, DISPATCH).key(KEY);
    for call in [bare, dispatch("{}"), dispatch(r#"{"limit": null}"#)] {
        let answer = call.send(server.address).await;
        assert_eq!(answer.json()["processed"], 100, "{answer:?}");
    }
}

#[tokio::test]
async fn the_limit_has_limits() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 1).await;
    let server = fixture.serve(delivering(1)).await;
    for limit in ["0", "-1", "1001", "9223372036854775807"] {
        let answer = dispatch(&format!(r#"{{"limit": {limit}}}"#))
            .send(server.address)
            .await;
        answer.assert_problem(422, "it must be from 1 to 1000");
        answer.assert_problem(422, limit);
    }
    let answer = dispatch(r#"{"limit": 1000}"#).send(server.address).await;
    assert_eq!(answer.json()["processed"], 1, "{answer:?}");
}

#[tokio::test]
async fn several_at_once_share_the_work() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 60).await;
    let server = fixture.serve(delivering(60)).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..6 {
        calls.spawn(dispatch(r#"{"limit": 10}"#).send(server.address));
    }
    let answers = calls.join_all().await;
    for answer in &answers {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let processed: i64 = answers
        .iter()
        .map(|answer| answer.json()["processed"].as_i64().unwrap())
        .sum();
    // One that comes while others hold the rows at the front may find fewer, none finds more.
    let rest = fixture.count("SELECT count(*) FROM outbox_queue").await;
    assert_eq!(processed + rest, 60);
    if rest > 0 {
        dispatch("{}").send(server.address).await;
    }
    assert_eq!(fixture.count(DELIVERED).await, 60, "each once");
}

#[tokio::test]
async fn only_so_many_run_at_once() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 8).await;
    let (channel, mut keeper) = gate();
    let server = fixture.serve(channel).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        calls.spawn(dispatch(r#"{"limit": 1}"#).send(server.address));
    }
    for _ in 0..4 {
        keeper.begun().await;
    }
    assert_eq!(
        fixture.count("SELECT count(*) FROM outbox_workers").await,
        4
    );
    keeper.open();
    for answer in calls.join_all().await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_stop_it() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 3).await;
    let (channel, mut keeper) = gate();
    let admin = fixture.admin().with_dispatcher(fixture.worker(channel));
    // What the server does when the connection breaks: it drops the future.
    let request = dispatch("{}").request();
    let call = tokio::spawn(router(admin).oneshot(request));
    for _ in 0..3 {
        keeper.begun().await;
    }
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    keeper.open();
    fixture.until_settled().await;
    assert_eq!(fixture.count(DELIVERED).await, 3);
    assert_eq!(keeper.more_begun(), 0, "each was sent once");
}

#[tokio::test]
async fn one_that_takes_too_long_goes_on_behind_a_504() {
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
    answer.assert_problem(504, "a dispatch that has begun goes on");
    keeper.begun().await;
    keeper.open();
    fixture.until_settled().await;
    assert_eq!(fixture.count(DELIVERED).await, 1);
}

#[tokio::test]
async fn a_process_without_channels_says_so() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 1).await;
    let server = Server::start(fixture.admin()).await;
    let answer = dispatch("{}").send(server.address).await;
    answer.assert_problem(503, "no channels");
    assert_eq!(fixture.count("SELECT count(*) FROM outbox_queue").await, 1);
}
