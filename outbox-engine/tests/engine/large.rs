//! Payloads that are left behind at first.

use crate::channels::{Gate, Outcome, Recorder};
use crate::common::{
    DELIVERED, Fixture, PATIENCE, Running, any, fan_out, name, spec, without_polling,
};
use chrono::{DateTime, Utc};
use outbox_engine::{
    Channel, ChannelSpec, Delivery, LARGEST_PAYLOAD, MessageTemplate, OnAmbiguous, OnDead, Receipt,
    Route, SendError, Targets, Verdict, WorkerOptions, async_trait,
};
use outbox_store::NewEvent;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// More than is read with others.
fn large() -> Value {
    json!({"text": "x".repeat(200_000)})
}

/// Two of these do not fit into the room at once.
const HUGE: i32 = 20_000_000;
/// With what is around it.
#[expect(clippy::cast_possible_truncation, reason = "some megabytes")]
const TOO_LARGE: i32 = LARGEST_PAYLOAD as i32;

/// What an event has beside so much text.
#[derive(Default)]
struct Beside {
    key: Option<&'static str>,
    expires_at: Option<DateTime<Utc>>,
}

/// Writes an event with so much text, which is made where it is stored.
async fn write(fixture: &Fixture, event_type: &str, bytes: i32, beside: Beside) -> i64 {
    sqlx::query_scalar(
        "INSERT INTO outbox_events (event_type, key, expires_at, payload)
         VALUES ($1, $2, $3, jsonb_build_object('text', repeat('x', $4))) RETURNING id",
    )
    .bind(event_type)
    .bind(beside.key)
    .bind(beside.expires_at)
    .bind(bytes)
    .fetch_one(&fixture.pool)
    .await
    .unwrap()
}

/// Holds what is huge, and takes the rest.
#[derive(Clone)]
struct Slow {
    gate: Gate,
    taken: Recorder,
}

impl Slow {
    fn new() -> Self {
        Self {
            gate: Gate::new(),
            taken: Recorder::accepting(),
        }
    }
}

#[async_trait]
impl Channel for Slow {
    async fn send(&self, delivery: &Delivery) -> Outcome {
        if delivery.payload().get().len() > 10_000_000 {
            return self.gate.send(delivery).await;
        }
        self.taken.send(delivery).await
    }
}

/// Waits until a delivery waits for room that another has: it has permits and no statement.
async fn until_claimed(fixture: &Fixture) {
    let claimed = "SELECT bool_and(worker IS NOT NULL) FROM outbox_queue";
    fixture.until(claimed).await;
}

#[tokio::test]
async fn a_run_of_a_key_keeps_its_order() {
    let fixture = Fixture::new().await;
    let mut ids = Vec::new();
    for n in 0..12 {
        let payload = if n % 3 == 0 { large() } else { any() };
        ids.push(
            fixture
                .write(&NewEvent::new("email", payload).key("a"))
                .await,
        );
    }
    let channel = Recorder::new(|delivery| {
        if delivery.event().id % 5 == 0 && delivery.attempt() == 1 {
            return Err(SendError::transient("503", "busy"));
        }
        Ok(Receipt::new())
    });
    let running = Running::start(fixture.worker(vec![spec("email", channel.clone())]));
    fixture.until_settled().await;
    running.stop().await;
    let mut sent = channel.event_ids();
    sent.dedup();
    assert_eq!(sent, ids);
    assert_eq!(fixture.count(DELIVERED).await, 12);
}

#[tokio::test]
async fn a_large_payload_may_name_its_channels() {
    let fixture = Fixture::new().await;
    let mut ids = Vec::new();
    for n in 0..8 {
        let mut payload = if n % 2 == 0 { large() } else { any() };
        payload["channels"] = json!(["email", "crm"]);
        let event = NewEvent::new("adhoc", payload)
            .key("a")
            .header("n", n.to_string());
        ids.push(fixture.write(&event).await);
    }
    let recorder = || {
        Recorder::new(
            |delivery| match (delivery.event().id % 3, delivery.attempt()) {
                (0, 1) => Err(SendError::transient("503", "busy")),
                _ => Ok(Receipt::new()),
            },
        )
    };
    let (email, crm) = (recorder(), recorder());
    let channels = vec![spec("email", email.clone()), spec("crm", crm.clone())];
    let running = Running::start(fixture.routed(Vec::new(), channels));
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(fixture.count(DELIVERED).await, 16);
    for recorder in [email, crm] {
        let mut sent = recorder.event_ids();
        sent.dedup();
        assert_eq!(sent, ids);
        for (_, delivery) in recorder.sent() {
            let n = delivery.event().id - ids[0];
            let length = if n % 2 == 0 { 200_000..201_000 } else { 0..100 };
            assert!(length.contains(&delivery.payload().get().len()));
            assert_eq!(delivery.event().headers["n"], n.to_string());
        }
    }
}

#[tokio::test]
async fn a_large_payload_that_names_no_channels_leads_nowhere() {
    let fixture = Fixture::new().await;
    let with = |channels: Value| {
        let mut payload = large();
        payload["channels"] = channels;
        payload
    };
    let nothing = fixture.event("adhoc", large()).await;
    let text = fixture.event("adhoc", with(json!("email"))).await;
    let long = fixture
        .event("adhoc", with(json!(vec!["email"; 5_000])))
        .await;
    let worker = fixture.worker(vec![spec("email", Recorder::accepting())]);
    let summary = worker.dispatch(10).await.unwrap();
    assert_eq!((summary.skipped, summary.failed), (1, 2));
    let results = fixture.results().await;
    let reasons: Vec<_> = results
        .iter()
        .map(|r| (r.event_id, r.code.as_deref(), r.message.as_deref().unwrap()))
        .collect();
    let told = |event, part: &str| {
        let mut reasons = reasons.iter();
        reasons.any(|(id, _, reason)| *id == event && reason.contains(part))
    };
    assert!(
        told(nothing, "its payload names no channels"),
        "{reasons:?}"
    );
    assert!(told(text, "must be a list"), "{reasons:?}");
    assert!(
        told(long, "has 45000 bytes; no more than 32768"),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn what_is_too_large_is_a_dead_letter_and_hurts_nobody_else() {
    let fixture = Fixture::new().await;
    let bad = write(&fixture, "email", TOO_LARGE, Beside::default()).await;
    fixture.enqueue("email", 50).await;
    let channel = Recorder::accepting();
    let running = Running::start(fixture.worker(vec![spec("email", channel.clone())]));
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(
        (fixture.count(DELIVERED).await, channel.sent().len()),
        (50, 50)
    );
    let result = fixture.results().await.remove(0);
    assert_eq!((result.event_id, result.attempts), (bad, 0));
    assert_eq!(result.code.as_deref(), Some("payload_too_large"));
    let reason = result.message.unwrap();
    assert!(
        reason.contains("have 33554446 bytes; no more than 33554432"),
        "{reason}"
    );
    assert!(fixture.attempts().await.is_empty());
}

#[tokio::test]
async fn many_large_ones_take_turns_and_the_small_ones_pass() {
    let fixture = Fixture::new().await;
    let (email, crm) = (Slow::new(), Slow::new());
    for event_type in ["email", "crm", "email"] {
        write(&fixture, event_type, HUGE, Beside::default()).await;
    }
    fixture.enqueue("email", 50).await;
    fixture.enqueue("crm", 50).await;
    let four = |spec| ChannelSpec {
        concurrency: 4,
        ..spec
    };
    let channels = vec![
        four(spec("email", email.clone())),
        four(spec("crm", crm.clone())),
    ];
    let running = Running::start(fixture.worker_with(without_polling(), channels));
    fixture
        .until("SELECT count(*) = 100 FROM outbox_deliveries")
        .await;
    // Time enough to see that the others wait, with small ones passing all the while.
    for _ in 0..5 {
        fixture.enqueue("email", 100).await;
        fixture.enqueue("crm", 100).await;
        fixture.until("SELECT count(*) = 3 FROM outbox_queue").await;
    }
    // One channel does not wait for what another holds.
    crm.gate.arrived(1).await;
    for _ in 0..2 {
        email.gate.arrived(1).await;
        assert_eq!((email.gate.inside(), crm.gate.inside()), (1, 1));
        email.gate.let_go(1);
    }
    crm.gate.let_go(1);
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!((email.gate.most(), crm.gate.most()), (1, 1));
    assert_eq!(fixture.count(DELIVERED).await, 1103);
}

/// One delivery has the room, and a second waits for it.
async fn one_waits(fixture: &Fixture, second: Beside) -> (Running, Gate, [i64; 2]) {
    let gate = Gate::new();
    let first = write(fixture, "email", HUGE, Beside::default()).await;
    let options = WorkerOptions {
        batch_size: 1,
        ..without_polling()
    };
    let worker = fixture.worker_with(options, vec![spec("email", gate.clone())]);
    let running = Running::start(worker);
    gate.arrived(1).await;
    let second = write(fixture, "email", HUGE, second).await;
    until_claimed(fixture).await;
    (running, gate, [first, second])
}

#[tokio::test]
async fn what_is_deleted_while_it_waits_for_room_is_forgotten() {
    let fixture = Fixture::new().await;
    let second = Beside {
        key: Some("a"),
        ..Beside::default()
    };
    let (running, gate, [_, second]) = one_waits(&fixture, second).await;
    let third = fixture.write(&NewEvent::new("email", any()).key("a")).await;
    sqlx::query("DELETE FROM outbox_events WHERE id = $1")
        .bind(second)
        .execute(&fixture.pool)
        .await
        .unwrap();
    gate.open();
    fixture.until_settled().await;
    running.stop().await;
    let delivered: Vec<_> = fixture.results().await.iter().map(|r| r.event_id).collect();
    assert_eq!(delivered.len(), 2);
    assert!(delivered.contains(&third));
    assert_eq!(gate.attempts().len(), 2);
}

#[tokio::test]
async fn what_expires_while_it_waits_for_room_is_not_sent() {
    let fixture = Fixture::new().await;
    let second = Beside {
        expires_at: Some(Utc::now() + Duration::from_secs(3)),
        ..Beside::default()
    };
    let (running, gate, [first, second]) = one_waits(&fixture, second).await;
    fixture
        .until("SELECT max(expires_at) < now() - interval '1 s' FROM outbox_events")
        .await;
    gate.open();
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(gate.attempts(), [(first, 1)]);
    assert_eq!(fixture.status(second).await.status, "expired");
}

#[tokio::test]
async fn what_waits_for_room_is_given_back_uncharged_when_the_worker_stops() {
    let fixture = Fixture::new().await;
    let second = Beside::default();
    let (mut running, gate, [first, second]) = one_waits(&fixture, second).await;
    running.shut_down();
    fixture
        .until("SELECT count(*) = 1 FROM outbox_queue WHERE worker IS NOT NULL")
        .await;
    gate.open();
    running.ended().await;
    assert_eq!(gate.attempts(), [(first, 1)]);
    let row = fixture.queue().await.remove(0);
    let untouched = (second, 0, 0, None);
    assert_eq!(
        (row.event_id, row.attempt, row.takeovers, row.worker),
        untouched
    );
    assert!(row.due_in.unwrap() < 0.0);
}

#[tokio::test]
async fn trouble_with_the_database_while_reading_is_no_attempt() {
    let fixture = Fixture::new().await;
    let (running, gate, [_, second]) = one_waits(&fixture, Beside::default()).await;
    let lock = fixture.locked("outbox_events").await;
    gate.open();
    fixture
        .until(
            "SELECT coalesce(bool_or(pg_terminate_backend(pid)), false) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'
               AND query LIKE '-- The payload and headers of one event%'",
        )
        .await;
    let is_back = "SELECT bool_and(worker IS NULL AND attempt = 0) FROM outbox_queue";
    fixture.until(is_back).await;
    lock.rollback().await.unwrap();
    fixture.until_settled().await;
    running.stop().await;
    let results = fixture.results().await;
    let second = results
        .iter()
        .find(|result| result.event_id == second)
        .unwrap();
    assert_eq!((second.status.as_str(), second.attempts), ("delivered", 1));
    assert!(fixture.attempts().await.is_empty());
}

#[tokio::test]
async fn trouble_with_the_database_while_looking_for_channels_is_no_attempt() {
    let fixture = Fixture::new().await;
    let channel = Recorder::accepting();
    let channels = vec![spec("email", channel.clone())];
    let running = Running::start(fixture.routed(Vec::new(), channels));
    // It takes a while to look into so much, one after the other; then it is little.
    let catching = async {
        loop {
            fixture
                .execute(
                    "INSERT INTO outbox_events (event_type, key, payload)
                     SELECT 'adhoc', now()::text,
                            jsonb_build_object('channels', '[\"email\"]'::jsonb,
                                               'text', repeat('x', 20000000))
                     FROM generate_series(1, 8)",
                )
                .await;
            fixture
                .until("SELECT count(*) = 0 FROM outbox_queue WHERE worker IS NULL")
                .await;
            let mut lock = fixture.locked("outbox_events").await;
            let is_caught = fixture.waiting().await.contains("What the payload of one");
            sqlx::query("UPDATE outbox_events SET payload = payload - 'text'")
                .execute(&mut *lock)
                .await
                .unwrap();
            if is_caught {
                return lock;
            }
            lock.commit().await.unwrap();
        }
    };
    let lock = tokio::time::timeout(PATIENCE, catching).await.unwrap();
    fixture
        .until(
            "SELECT coalesce(bool_or(pg_terminate_backend(pid)), false) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'
               AND query LIKE '-- What the payload of one event says%'",
        )
        .await;
    lock.commit().await.unwrap();
    fixture.until_settled().await;
    running.stop().await;
    let ids = channel.event_ids();
    assert!(ids.is_sorted(), "{ids:?}");
    let events = fixture.count("SELECT count(*) FROM outbox_events").await;
    assert_eq!(fixture.count(DELIVERED).await, events);
    assert!(fixture.attempts().await.is_empty());
}

/// Knows what it is asked for by its payload.
struct Asked;

#[async_trait]
impl Channel for Asked {
    async fn send(&self, _: &Delivery) -> Outcome {
        Err(SendError::ambiguous("timeout", "no answer"))
    }

    fn can_verify(&self) -> bool {
        true
    }

    async fn verify(&self, delivery: &Delivery, _: DateTime<Utc>) -> Result<Verdict, SendError> {
        let length = delivery.payload().get().len();
        let receipt = Receipt::new().with_provider_id(length.to_string());
        Ok(Verdict::Delivered(receipt))
    }
}

#[tokio::test]
async fn a_provider_is_asked_about_the_whole_payload() {
    let fixture = Fixture::new().await;
    fixture.event("sms", large()).await;
    fixture
        .execute("UPDATE outbox_queue SET channel = 'sms', worker = 0, began_at = now()")
        .await;
    let asking = ChannelSpec {
        on_ambiguous: OnAmbiguous::Verify,
        ..spec("sms", Asked)
    };
    let running = Running::start(fixture.worker(vec![asking]));
    fixture.until_settled().await;
    running.stop().await;
    let result = fixture.results().await.remove(0);
    assert_eq!(result.provider_id.as_deref(), Some("200012"));
}

#[tokio::test]
async fn a_template_sees_the_whole_payload() {
    let fixture = Fixture::new().await;
    let mut payload = large();
    payload["number"] = json!(7);
    fixture.event("invoice.paid", payload).await;
    let subject = [(
        "subject".to_owned(),
        "{{ payload.number }}, {{ payload.text | length }}".to_owned(),
    )];
    let template = MessageTemplate::new(BTreeMap::from(subject)).unwrap();
    let route = Route::new(
        "invoice.*",
        Targets::FanOut(vec![name("email")]),
        BTreeMap::from([(name("email"), template)]),
    );
    let channel = Recorder::accepting();
    let worker = fixture.routed(vec![route.unwrap()], vec![spec("email", channel.clone())]);
    worker.dispatch(10).await.unwrap();
    let (_, delivery) = channel.sent().remove(0);
    let message: Value = serde_json::from_str(delivery.payload().get()).unwrap();
    assert_eq!(message["subject"], "7, 200000");
}

#[tokio::test]
async fn a_large_payload_goes_to_every_channel_whatever_the_channel_asks_for() {
    let fixture = Fixture::new().await;
    let event = fixture.event("all", large()).await;
    let beside = Beside {
        key: Some("a"),
        ..Beside::default()
    };
    let blocking = write(&fixture, "blocking", TOO_LARGE, beside).await;
    let recorder = Recorder::accepting();
    let holding = ChannelSpec {
        on_ambiguous: OnAmbiguous::Hold,
        ..spec("holding", recorder.clone())
    };
    let blocks = ChannelSpec {
        on_dead: OnDead::Block,
        ..spec("blocking", recorder.clone())
    };
    let channels = vec![spec("email", recorder.clone()), holding, blocks];
    let routes = vec![
        fan_out("all", &["email", "holding", "blocking"]),
        fan_out("blocking", &["blocking"]),
    ];
    let worker = fixture.routed(routes, channels);
    let summary = worker.dispatch(10).await.unwrap();
    assert_eq!((summary.failed, summary.errors), (0, 0));
    assert_eq!(recorder.event_ids(), [event, event, event]);
    let lengths = recorder.sent();
    assert!(
        lengths
            .iter()
            .all(|(_, sent)| sent.payload().get().len() > 200_000)
    );
    assert_eq!(fixture.status(blocking).await.status, "held");
}
