//! One event, one channel: what is written for each kind of outcome.

use crate::channels::{Gate, Outcome, Recorder, accepting, mock};
use crate::common::{DELIVERED, Fixture, Running, any, spec};
use outbox_engine::{
    Channel, ChannelSpec, Delivery, MessageTemplate, OnAmbiguous, Receipt, RetryPolicy, Route,
    SendError, Summary, Targets, async_trait,
};
use outbox_store::NewEvent;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// Retries come in an hour.
fn slow_retries(spec: ChannelSpec) -> ChannelSpec {
    ChannelSpec {
        retry: RetryPolicy {
            fixed_delay: Some(HOUR),
            ..spec.retry
        },
        ..spec
    }
}

#[tokio::test]
async fn one_batch_delivers_and_settles() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 25).await;
    let channel = mock(|channel| {
        channel
            .expect_send()
            .times(10)
            .returning(|_| Ok(Receipt::new()));
    });
    let worker = fixture.worker(vec![spec("email", channel)]);
    let summary = worker.dispatch(10).await.unwrap();
    let expected = Summary {
        processed: 10,
        ..Summary::default()
    };
    assert_eq!(summary, expected);
    assert_eq!(fixture.count("SELECT count(*) FROM outbox_queue").await, 15);
    assert_eq!(fixture.count(DELIVERED).await, 10);
    let workers = "SELECT count(*) FROM outbox_workers";
    assert_eq!(fixture.count(workers).await, 0);
}

#[tokio::test]
async fn a_batch_of_more_than_fits_into_memory_at_once_is_worked_off_bit_by_bit() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 3_000).await;
    let worker = fixture.worker(vec![spec("email", accepting())]);
    let summary = worker.dispatch(2_500).await.unwrap();
    assert_eq!(summary.processed, 2_500);
    assert_eq!(fixture.count(DELIVERED).await, 2_500);
}

#[tokio::test]
async fn a_running_worker_drains_retries_and_stops() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 500).await;
    let channel = mock(|channel| {
        channel.expect_send().returning(|delivery| {
            if delivery.event().id % 10 == 0 && delivery.attempt() < 3 {
                return Err(SendError::transient("503", "busy"));
            }
            Ok(Receipt::new().with_provider_id("p"))
        });
    });
    let running = Running::start(fixture.worker(vec![spec("email", channel)]));
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(fixture.count(DELIVERED).await, 500);
    let three = "SELECT count(*) FROM outbox_deliveries WHERE attempts = 3";
    assert_eq!(fixture.count(three).await, 50);
    let failed = "SELECT count(*) FROM outbox_attempts";
    assert_eq!(fixture.count(failed).await, 100);
    let workers = "SELECT count(*) FROM outbox_workers";
    assert_eq!(fixture.count(workers).await, 0);
}

#[tokio::test]
async fn what_the_provider_said_is_kept() {
    let fixture = Fixture::new().await;
    let event = fixture.event("sms", any()).await;
    let channel = Recorder::new(|delivery| match delivery.attempt() {
        1 => Err(SendError::transient("429", "slow down").with_answer("too many requests")),
        _ => Ok(Receipt::new().with_provider_id("SM7")),
    });
    let running = Running::start(fixture.worker(vec![spec("sms", channel)]));
    fixture.until_settled().await;
    running.stop().await;
    let attempt = fixture.attempts().await.remove(0);
    assert_eq!(
        (attempt.event_id, attempt.channel.as_str(), attempt.attempt),
        (event, "sms", 1)
    );
    assert_eq!(
        (
            attempt.class.as_str(),
            attempt.code.as_str(),
            attempt.message.as_str()
        ),
        ("transient", "429", "slow down")
    );
    assert_eq!(attempt.answer.as_deref(), Some("too many requests"));
    let result = fixture.results().await.remove(0);
    assert_eq!((result.status.as_str(), result.attempts), ("delivered", 2));
    assert_eq!(result.provider_id.as_deref(), Some("SM7"));
    let status = fixture.status(event).await;
    assert_eq!(
        (status.status.as_str(), status.retry_count),
        ("processed", Some(1))
    );
}

#[tokio::test]
async fn an_event_without_a_route_is_skipped() {
    let fixture = Fixture::new().await;
    let event = fixture.event("nobody.cares", any()).await;
    let worker = fixture.worker(vec![spec("email", accepting())]);
    let summary = worker.dispatch(10).await.unwrap();
    let expected = Summary {
        skipped: 1,
        ..Summary::default()
    };
    assert_eq!(summary, expected);
    assert_eq!(fixture.status(event).await.status, "skipped");
    let result = fixture.results().await.remove(0);
    assert_eq!(result.code.as_deref(), Some("no_route"));
}

#[tokio::test]
async fn malformed_channels_in_the_payload_fail_with_a_reason() {
    let fixture = Fixture::new().await;
    let event = fixture.event("adhoc", json!({"channels": "email"})).await;
    let worker = fixture.worker(vec![spec("email", accepting())]);
    let summary = worker.dispatch(10).await.unwrap();
    assert_eq!((summary.failed, summary.processed), (1, 0));
    let status = fixture.status(event).await;
    assert_eq!(status.status, "failed");
    let reason = status.last_error.unwrap();
    assert!(reason.contains("`channels` must be a list"), "{reason}");
}

#[tokio::test]
async fn templates_make_the_message() {
    let fixture = Fixture::new().await;
    fixture
        .event("invoice.paid", json!({"number": 7, "to": "a@example.org"}))
        .await;
    let subject = [(
        "subject".to_owned(),
        "Invoice {{ payload.number }}".to_owned(),
    )];
    let template = MessageTemplate::new(BTreeMap::from(subject)).unwrap();
    let email = crate::common::name("email");
    let route = Route::new(
        "invoice.*",
        Targets::FanOut(vec![email.clone()]),
        BTreeMap::from([(email, template)]),
    );
    let channel = Recorder::accepting();
    let worker = fixture.routed(vec![route.unwrap()], vec![spec("email", channel.clone())]);
    worker.dispatch(10).await.unwrap();
    let (_, delivery) = channel.sent().remove(0);
    let message: Value = serde_json::from_str(delivery.payload().get()).unwrap();
    assert_eq!(message["subject"], "Invoice 7");
    assert_eq!(message["to"], "a@example.org");
}

#[tokio::test]
async fn a_template_that_fails_is_a_dead_letter_and_sends_nothing() {
    let fixture = Fixture::new().await;
    let event = fixture.event("invoice.paid", any()).await;
    let subject = [("subject".to_owned(), "{{ payload.nummer }}".to_owned())];
    let template = MessageTemplate::new(BTreeMap::from(subject)).unwrap();
    let email = crate::common::name("email");
    let route = Route::new(
        "invoice.*",
        Targets::FanOut(vec![email.clone()]),
        BTreeMap::from([(email, template)]),
    );
    let channel = Recorder::accepting();
    let worker = fixture.routed(vec![route.unwrap()], vec![spec("email", channel.clone())]);
    worker.dispatch(10).await.unwrap();
    assert!(channel.sent().is_empty());
    assert_eq!(fixture.status(event).await.status, "failed");
    assert_eq!(fixture.attempts().await[0].code, "template");
}

#[tokio::test]
async fn the_id_is_the_same_on_each_attempt_and_different_per_channel_and_event() {
    let fixture = Fixture::new().await;
    for _ in 0..2 {
        fixture
            .event("adhoc", json!({"channels": ["email", "sms"]}))
            .await;
    }
    let twice = Recorder::new(|delivery| match delivery.attempt() {
        1 => Err(SendError::transient("503", "busy")),
        _ => Ok(Receipt::new()),
    });
    let once = Recorder::accepting();
    let channels = vec![spec("email", twice.clone()), spec("sms", once.clone())];
    let running = Running::start(fixture.worker(channels));
    fixture.until_settled().await;
    running.stop().await;
    let ids = |recorder: &Recorder| {
        let mut ids: Vec<_> = recorder
            .sent()
            .iter()
            .map(|(_, sent)| (sent.id().to_string(), sent.attempt()))
            .collect();
        ids.sort();
        ids
    };
    let (email, sms) = (ids(&twice), ids(&once));
    let attempts: Vec<_> = email.iter().map(|(_, attempt)| *attempt).collect();
    assert_eq!(attempts, [1, 2, 1, 2]);
    assert_eq!((&email[0].0, &email[2].0), (&email[1].0, &email[3].0));
    let distinct: std::collections::BTreeSet<_> =
        email.iter().chain(&sms).map(|(id, _)| id).collect();
    assert_eq!(distinct.len(), 4);
}

#[tokio::test]
async fn an_event_may_have_a_number_of_retries_of_its_own() {
    let fixture = Fixture::new().await;
    let none = fixture
        .write(&NewEvent::new("email", any()).max_retries(0))
        .await;
    let five = fixture
        .write(&NewEvent::new("email", any()).max_retries(5))
        .await;
    let usual = fixture.event("email", any()).await;
    let channel = Recorder::new(|_| Err(SendError::transient("503", "busy")));
    let running = Running::start(fixture.worker(vec![spec("email", channel)]));
    fixture.until_settled().await;
    running.stop().await;
    let results = fixture.results().await;
    let attempts: Vec<_> = results.iter().map(|r| (r.event_id, r.attempts)).collect();
    assert_eq!(attempts, [(none, 1), (five, 6), (usual, 4)]);
    assert!(results.iter().all(|result| result.status == "dead"));
    assert_eq!(fixture.status(none).await.status, "failed");
}

#[tokio::test]
async fn a_fixed_delay_is_kept() {
    let fixture = Fixture::new().await;
    let event = fixture.event("email", any()).await;
    let channel = Recorder::new(|_| Err(SendError::transient("503", "busy")));
    let worker = fixture.worker(vec![slow_retries(spec("email", channel))]);
    let summary = worker.dispatch(10).await.unwrap();
    let expected = Summary {
        errors: 1,
        requeued: 1,
        ..Summary::default()
    };
    assert_eq!(summary, expected);
    let row = fixture.queue().await.remove(0);
    assert_eq!(
        (row.event_id, row.channel.as_str(), row.attempt),
        (event, "email", 1)
    );
    assert_eq!(row.worker, None);
    let due_in = row.due_in.unwrap();
    assert!((3_500.0..=3_600.0).contains(&due_in), "{due_in}");
    assert_eq!(fixture.status(event).await.status, "pending");
}

#[tokio::test]
async fn a_provider_is_left_alone_for_as_long_as_it_asks() {
    let fixture = Fixture::new().await;
    fixture.event("email", any()).await;
    let channel =
        Recorder::new(|_| Err(SendError::transient("503", "busy").with_retry_after(2 * HOUR)));
    let worker = fixture.worker(vec![slow_retries(spec("email", channel))]);
    worker.dispatch(10).await.unwrap();
    let due_in = fixture.queue().await[0].due_in.unwrap();
    assert!((7_100.0..=7_200.0).contains(&due_in), "{due_in}");
}

#[tokio::test]
async fn what_has_expired_is_not_sent() {
    let fixture = Fixture::new().await;
    let past = chrono::Utc::now() - Duration::from_secs(1);
    let event = fixture
        .write(&NewEvent::new("email", any()).expires_at(past))
        .await;
    let channel = Recorder::accepting();
    let worker = fixture.worker(vec![spec("email", channel.clone())]);
    let summary = worker.dispatch(10).await.unwrap();
    let expected = Summary {
        skipped: 1,
        ..Summary::default()
    };
    assert_eq!(summary, expected);
    assert!(channel.sent().is_empty());
    assert_eq!(fixture.status(event).await.status, "expired");
}

#[tokio::test]
async fn what_expires_while_it_waits_for_its_turn_is_not_sent() {
    let fixture = Fixture::new().await;
    let first = fixture.event("email", any()).await;
    let soon = chrono::Utc::now() + Duration::from_secs(2);
    let second = fixture
        .write(&NewEvent::new("email", any()).expires_at(soon))
        .await;
    let gate = Gate::new();
    let one_at_a_time = ChannelSpec {
        concurrency: 1,
        ..spec("email", gate.clone())
    };
    let worker = fixture.worker(vec![one_at_a_time]);
    let dispatch = tokio::spawn(async move { worker.dispatch(10).await.unwrap() });
    gate.arrived(1).await;
    fixture
        .until(
            "SELECT bool_and(now() > expires_at + interval '1 s') FROM outbox_events \
             WHERE expires_at IS NOT NULL",
        )
        .await;
    gate.open();
    dispatch.await.unwrap();
    assert_eq!(gate.attempts(), [(first, 1)]);
    assert_eq!(fixture.status(first).await.status, "processed");
    assert_eq!(fixture.status(second).await.status, "expired");
}

#[tokio::test]
async fn a_panic_is_one_failed_delivery() {
    let fixture = Fixture::new().await;
    let bad = fixture.event("email", json!({"n": 1})).await;
    fixture.enqueue("email", 20).await;
    let channel = Recorder::new(move |delivery| {
        assert!(
            delivery.event().id != bad || delivery.attempt() > 1,
            "on purpose"
        );
        Ok(Receipt::new())
    });
    let running = Running::start(fixture.worker(vec![spec("email", channel)]));
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(fixture.count(DELIVERED).await, 21);
    let attempts = fixture.attempts().await;
    assert_eq!(attempts.len(), 1);
    assert_eq!(
        (attempts[0].class.as_str(), attempts[0].code.as_str()),
        ("ambiguous", "panic")
    );
    assert_eq!(attempts[0].event_id, bad);
}

/// Panics before it has even made a future.
struct Hasty;

impl Channel for Hasty {
    fn send<'channel, 'delivery, 'future>(
        &'channel self,
        _: &'delivery Delivery,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'future>>
    where
        'channel: 'future,
        'delivery: 'future,
        Self: 'future,
    {
        panic!("on purpose")
    }
}

#[tokio::test]
async fn a_panic_outside_of_the_channels_future_is_one_too() {
    let fixture = Fixture::new().await;
    fixture.event("email", any()).await;
    let worker = fixture.worker(vec![slow_retries(spec("email", Hasty))]);
    assert_eq!(worker.dispatch(10).await.unwrap().errors, 1);
    assert_eq!(fixture.attempts().await[0].code, "panic");
}

/// Its future hangs, and panics when nobody waits for it any more.
struct Hanging;

struct Clinging;

impl Drop for Clinging {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

#[async_trait]
impl Channel for Hanging {
    async fn send(&self, _: &Delivery) -> Outcome {
        let _clinging = Clinging;
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_panic_when_the_channels_future_is_dropped_is_one_too() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 3).await;
    let hurried = ChannelSpec {
        concurrency: 1,
        timeout: Duration::from_millis(50),
        ..slow_retries(spec("email", Hanging))
    };
    let summary = fixture.worker(vec![hurried]).dispatch(10).await.unwrap();
    assert_eq!(summary.errors, 3);
    let attempts = fixture.attempts().await;
    assert_eq!(attempts.len(), 3);
    assert!(attempts.iter().all(|attempt| attempt.code == "panic"));
}

#[tokio::test]
async fn a_channel_that_hangs_is_ended_by_its_deadline() {
    let fixture = Fixture::new().await;
    fixture.event("email", any()).await;
    let gate = Gate::new();
    let hurried = ChannelSpec {
        timeout: Duration::from_millis(200),
        ..slow_retries(spec("email", gate.clone()))
    };
    fixture.worker(vec![hurried]).dispatch(10).await.unwrap();
    assert_eq!(gate.inside(), 0, "its future was dropped");
    let attempt = fixture.attempts().await.remove(0);
    assert_eq!(
        (attempt.class.as_str(), attempt.code.as_str()),
        ("ambiguous", "deadline")
    );
    assert_eq!(fixture.queue().await[0].attempt, 1);
}

#[tokio::test]
async fn an_unknown_outcome_is_held_where_that_is_wanted_and_never_retried() {
    let fixture = Fixture::new().await;
    let event = fixture.event("sms", any()).await;
    let channel = Recorder::new(|_| Err(SendError::ambiguous("timeout", "no answer")));
    let holding = ChannelSpec {
        on_ambiguous: OnAmbiguous::Hold,
        ..spec("sms", channel.clone())
    };
    let worker = fixture.worker(vec![holding]);
    let summary = worker.dispatch(10).await.unwrap();
    assert_eq!(
        (summary.errors, summary.requeued, summary.failed),
        (1, 1, 0)
    );
    assert_eq!(fixture.status(event).await.status, "held");
    let row = fixture.queue().await.remove(0);
    assert_eq!((row.due_in, row.worker), (None, None));
    assert_eq!(worker.dispatch(10).await.unwrap(), Summary::default());
    assert_eq!(channel.sent().len(), 1);
}

#[tokio::test]
async fn a_large_payload_passes_through() {
    let fixture = Fixture::new().await;
    let text = "x".repeat(10_000_000);
    fixture.event("email", json!({"text": text})).await;
    let channel = Recorder::accepting();
    let worker = fixture.worker(vec![spec("email", channel.clone())]);
    worker.dispatch(10).await.unwrap();
    let (_, delivery) = channel.sent().remove(0);
    let message: Value = serde_json::from_str(delivery.payload().get()).unwrap();
    assert_eq!(message["text"], text);
    assert_eq!(fixture.count(DELIVERED).await, 1);
}

#[tokio::test]
async fn a_payload_that_is_no_object_is_the_channels_to_judge() {
    let fixture = Fixture::new().await;
    for payload in [json!([1, 2]), json!("text"), json!(7), json!(null)] {
        fixture.event("picky", payload.clone()).await;
        fixture.event("tolerant", payload).await;
    }
    let picky = Recorder::new(|delivery| {
        delivery.message::<BTreeMap<String, Value>>()?;
        Ok(Receipt::new())
    });
    let channels = vec![spec("picky", picky), spec("tolerant", accepting())];
    let summary = fixture.worker(channels).dispatch(10).await.unwrap();
    assert_eq!((summary.processed, summary.failed), (4, 4));
    let reason = fixture.results().await[0].message.clone().unwrap();
    assert!(reason.contains("must be a JSON object"), "{reason}");
}

#[tokio::test]
async fn headers_and_key_reach_the_channel() {
    let fixture = Fixture::new().await;
    let event = NewEvent::new("email", any())
        .key("customer-1")
        .header("trace", "abc");
    fixture.write(&event).await;
    let channel = Recorder::accepting();
    let worker = fixture.worker(vec![spec("email", channel.clone())]);
    worker.dispatch(10).await.unwrap();
    let (_, delivery) = channel.sent().remove(0);
    assert_eq!(delivery.event().key.as_deref(), Some("customer-1"));
    assert_eq!(delivery.event().headers["trace"], "abc");
}

#[tokio::test]
async fn an_outcome_that_the_database_refuses_is_stored_in_plain_words() {
    let fixture = Fixture::new().await;
    fixture
        .execute("ALTER TABLE outbox_deliveries ADD CHECK (provider_id <> 'poison')")
        .await;
    fixture.enqueue("email", 40).await;
    let sent = AtomicU32::new(0);
    let channel = Recorder::new(move |_| {
        let id = match sent.fetch_add(1, Ordering::Relaxed) {
            17 => "poison",
            _ => "fine",
        };
        Ok(Receipt::new().with_provider_id(id))
    });
    let worker = fixture.worker(vec![spec("email", channel.clone())]);
    assert_eq!(worker.dispatch(100).await.unwrap().processed, 40);
    let results = fixture.results().await;
    assert_eq!(results.len(), 40);
    assert_eq!(
        results.iter().filter(|r| r.provider_id.is_none()).count(),
        1
    );
    assert_eq!(channel.sent().len(), 40);
}
