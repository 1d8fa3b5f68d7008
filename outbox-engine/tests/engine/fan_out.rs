//! One event, several channels.

use crate::channels::{Gate, Recorder, accepting};
use crate::common::{Fixture, Running, any, fallback, fan_out, name, spec};
use outbox_engine::{ChannelSpec, Receipt, RetryPolicy, Route, SendError, Summary, Targets};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[tokio::test]
async fn each_channel_has_an_outcome_of_its_own() {
    let fixture = Fixture::new().await;
    let event = fixture.event("invoice.paid", any()).await;
    let busy = Recorder::new(|_| Err(SendError::transient("503", "busy")));
    let busy = ChannelSpec {
        retry: RetryPolicy {
            fixed_delay: Some(Duration::from_secs(3600)),
            ..RetryPolicy::default()
        },
        ..spec("busy", busy)
    };
    let refusing = Recorder::new(|_| Err(SendError::permanent("410", "gone")));
    let channels = vec![spec("fine", accepting()), busy, spec("refusing", refusing)];
    let route = fan_out("invoice.*", &["fine", "busy", "refusing"]);
    let worker = fixture.routed(vec![route], channels);
    let summary = worker.dispatch(10).await.unwrap();
    let expected = Summary {
        errors: 2,
        requeued: 1,
        failed: 1,
        ..Summary::default()
    };
    assert_eq!(summary, expected);
    let results = fixture.results().await;
    let endings: Vec<_> = results
        .iter()
        .map(|r| {
            (
                r.channel.as_str(),
                r.status.as_str(),
                r.attempts,
                r.code.as_deref(),
            )
        })
        .collect();
    let expected = [
        ("fine", "delivered", 1, None),
        ("refusing", "dead", 1, Some("410")),
    ];
    assert_eq!(endings, expected);
    let queue = fixture.queue().await;
    assert_eq!(queue.len(), 1);
    assert_eq!((queue[0].channel.as_str(), queue[0].attempt), ("busy", 1));
    let mut failed: Vec<_> = fixture
        .attempts()
        .await
        .into_iter()
        .map(|a| a.channel)
        .collect();
    failed.sort();
    assert_eq!(failed, ["busy", "refusing"]);
    assert_eq!(fixture.status(event).await.status, "pending");
}

#[tokio::test]
async fn a_slow_channel_does_not_hold_back_the_result_of_a_fast_one() {
    let fixture = Fixture::new().await;
    let event = fixture.event("invoice.paid", any()).await;
    let slow = Gate::new();
    let channels = vec![spec("fast", accepting()), spec("slow", slow.clone())];
    let route = fan_out("invoice.*", &["fast", "slow"]);
    let running = Running::start(fixture.routed(vec![route], channels));
    slow.arrived(1).await;
    let begun = Instant::now();
    fixture
        .until("SELECT EXISTS (SELECT FROM outbox_deliveries WHERE channel = 'fast')")
        .await;
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    let row = fixture.queue().await.remove(0);
    assert_eq!(row.channel, "slow");
    assert!(row.worker.is_some(), "it is still being sent");
    assert_eq!(fixture.status(event).await.status, "pending");
    slow.open();
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(slow.attempts(), [(event, 1)]);
    assert_eq!(fixture.status(event).await.status, "processed");
}

#[tokio::test]
async fn a_split_row_fails_and_is_retried_like_any_other() {
    let fixture = Fixture::new().await;
    fixture.event("invoice.paid", any()).await;
    let slow = Gate::answering(|delivery| match delivery.attempt() {
        1 => Err(SendError::transient("503", "busy")),
        _ => Ok(Receipt::new()),
    });
    let channels = vec![spec("fast", accepting()), spec("slow", slow.clone())];
    let worker = fixture.routed(vec![fan_out("*", &["fast", "slow"])], channels);
    let running = Running::start(worker);
    slow.arrived(1).await;
    fixture
        .until("SELECT EXISTS (SELECT FROM outbox_deliveries WHERE channel = 'fast')")
        .await;
    slow.open();
    fixture.until_settled().await;
    running.stop().await;
    let attempts: Vec<_> = fixture.results().await.iter().map(|r| r.attempts).collect();
    assert_eq!(attempts, [1, 2]);
}

#[tokio::test]
async fn a_fallback_is_tried_when_the_first_has_given_up() {
    let fixture = Fixture::new().await;
    let event = fixture.event("login.code", any()).await;
    let sms = Recorder::new(|_| Err(SendError::permanent("21211", "no such number")));
    let email = Recorder::accepting();
    let channels = vec![spec("sms", sms), spec("email", email.clone())];
    let route = fallback("login.*", &["sms", "email"]);
    let running = Running::start(fixture.routed(vec![route], channels));
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(email.event_ids(), [event]);
    assert_eq!(fixture.status(event).await.status, "processed");
    let results = fixture.results().await;
    let sms = results.iter().find(|r| r.channel == "sms").unwrap();
    assert_eq!(
        (sms.status.as_str(), sms.fell_back_to.as_deref()),
        ("dead", Some("email"))
    );
}

#[tokio::test]
async fn a_fallback_is_left_alone_when_the_first_delivers() {
    let fixture = Fixture::new().await;
    fixture.event("login.code", any()).await;
    let email = Recorder::accepting();
    let channels = vec![spec("sms", accepting()), spec("email", email.clone())];
    let worker = fixture.routed(vec![fallback("*", &["sms", "email"])], channels);
    assert_eq!(worker.dispatch(10).await.unwrap().processed, 1);
    assert!(email.sent().is_empty());
}

#[tokio::test]
async fn when_the_last_fallback_has_given_up_the_event_has_failed() {
    let fixture = Fixture::new().await;
    let event = fixture.event("login.code", any()).await;
    let dead = || Recorder::new(|_| Err(SendError::permanent("no", "never")));
    let channels = vec![spec("sms", dead()), spec("email", dead())];
    let worker = fixture.routed(vec![fallback("*", &["sms", "email"])], channels);
    let running = Running::start(worker);
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(fixture.status(event).await.status, "failed");
    assert_eq!(fixture.results().await.len(), 2);
}

#[tokio::test]
async fn a_fallback_takes_over_from_a_channel_that_is_not_configured() {
    let fixture = Fixture::new().await;
    let event = fixture.event("login.code", any()).await;
    let channels = vec![spec("email", accepting())];
    let worker = fixture.routed(vec![fallback("*", &["sms", "email"])], channels);
    let running = Running::start(worker);
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(fixture.status(event).await.status, "processed");
}

#[tokio::test]
async fn an_unknown_channel_in_the_payload_does_not_hold_back_the_others() {
    let fixture = Fixture::new().await;
    let payload = json!({"channels": ["email", "pigeon", "sms"]});
    let event = fixture.event("adhoc", payload).await;
    let channels = vec![spec("email", accepting()), spec("sms", accepting())];
    let summary = fixture.worker(channels).dispatch(10).await.unwrap();
    assert_eq!((summary.failed, summary.processed), (1, 0));
    let results = fixture.results().await;
    let endings: Vec<_> = results
        .iter()
        .map(|r| (r.channel.as_str(), r.status.as_str()))
        .collect();
    let expected = [
        ("email", "delivered"),
        ("pigeon", "dead"),
        ("sms", "delivered"),
    ];
    assert_eq!(endings, expected);
    let reason = results[1].message.clone().unwrap();
    assert!(
        reason.contains("`pigeon`") && reason.contains("email, sms"),
        "{reason}"
    );
    assert_eq!(fixture.status(event).await.status, "failed");
}

#[tokio::test]
async fn a_channel_named_twice_gets_one_message() {
    let fixture = Fixture::new().await;
    fixture
        .event("adhoc", json!({"channels": ["email", "email"]}))
        .await;
    fixture.event("routed", any()).await;
    let email = Recorder::accepting();
    let twice = Targets::FanOut(vec![name("email"), name("email")]);
    let route = Route::new("routed", twice, BTreeMap::new()).unwrap();
    let worker = fixture.routed(vec![route], vec![spec("email", email.clone())]);
    assert_eq!(worker.dispatch(10).await.unwrap().processed, 2);
    assert_eq!(email.sent().len(), 2);
}

#[tokio::test]
async fn many_events_to_three_channels_leave_nothing_behind() {
    let fixture = Fixture::new().await;
    fixture.enqueue("order.placed", 300).await;
    let flaky =
        Recorder::new(
            |delivery| match (delivery.event().id + i64::from(delivery.attempt())) % 3 {
                0 => Err(SendError::transient("503", "busy")),
                _ => Ok(Receipt::new()),
            },
        );
    let channels = vec![
        spec("a", accepting()),
        spec("b", flaky),
        ChannelSpec {
            concurrency: 2,
            ..spec("c", accepting())
        },
    ];
    let running = Running::start(fixture.routed(vec![fan_out("*", &["a", "b", "c"])], channels));
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(fixture.count(crate::common::DELIVERED).await, 900);
    let processed = "SELECT count(*) FROM outbox_event_status WHERE status = 'processed'";
    assert_eq!(fixture.count(processed).await, 300);
}
