//! Channels that are unavailable, and channels that are paused.

use crate::channels::{Gate, Recorder, accepting};
use crate::common::{DELIVERED, Fixture, Running, any, fan_out, name, spec, without_polling};
use outbox_engine::{ChannelSpec, Receipt, RetryPolicy, SendError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A channel whose provider is away until the flag says otherwise.
fn away() -> (Recorder, Arc<AtomicBool>) {
    let is_back = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_back);
    let channel = Recorder::new(move |_| match flag.load(Ordering::SeqCst) {
        true => Ok(Receipt::new()),
        false => Err(SendError::unavailable("401", "the password is wrong")),
    });
    (channel, is_back)
}

fn without_retries(spec: ChannelSpec) -> ChannelSpec {
    ChannelSpec {
        retry: RetryPolicy {
            max_retries: 0,
            ..spec.retry
        },
        ..spec
    }
}

#[tokio::test]
async fn an_unavailable_channel_costs_no_attempt_and_drains_when_it_is_back() {
    let fixture = Fixture::new().await;
    fixture.enqueue("crm", 60).await;
    fixture.enqueue("email", 60).await;
    let (crm, is_back) = away();
    let channels = vec![
        without_retries(spec("crm", crm)),
        spec("email", accepting()),
    ];
    let running = Running::start(fixture.worker_with(without_polling(), channels));
    fixture
        .until("SELECT count(*) = 60 FROM outbox_deliveries WHERE channel = 'email'")
        .await;
    fixture
        .until("SELECT down_until IS NOT NULL FROM outbox_channels WHERE name = 'crm'")
        .await;
    // They wait in rows of their own, and none of them has spent anything.
    fixture
        .until("SELECT count(*) = 60 AND max(attempt) = 0 FROM outbox_queue WHERE channel = 'crm'")
        .await;
    let channels = fixture.store.channels().await.unwrap();
    let crm = channels
        .iter()
        .find(|channel| channel.name == "crm")
        .unwrap();
    assert!(crm.down_since.is_some() && crm.failures > 0, "{crm:?}");
    assert_eq!(crm.last_error.as_deref(), Some("the password is wrong"));
    assert_eq!(
        fixture.results().await.len(),
        60,
        "nothing is a dead letter"
    );
    assert!(
        fixture
            .attempts()
            .await
            .iter()
            .all(|a| a.class == "unavailable")
    );

    is_back.store(true, Ordering::SeqCst);
    fixture.until_settled().await;
    fixture
        .until("SELECT down_since IS NULL FROM outbox_channels WHERE name = 'crm'")
        .await;
    running.stop().await;
    assert_eq!(fixture.count(DELIVERED).await, 120);
    let first = "SELECT count(*) FROM outbox_deliveries WHERE attempts = 1";
    assert_eq!(fixture.count(first).await, 120);
}

#[tokio::test]
async fn an_event_goes_to_its_other_channels_while_one_is_down() {
    let fixture = Fixture::new().await;
    fixture.enqueue("crm", 1).await;
    let (crm, is_back) = away();
    let routes = vec![fan_out("crm", &["crm"]), fan_out("both", &["crm", "email"])];
    let worker = fixture.routed(routes, vec![spec("crm", crm), spec("email", accepting())]);
    let running = Running::start(worker);
    fixture
        .until("SELECT down_until IS NOT NULL FROM outbox_channels WHERE name = 'crm'")
        .await;
    fixture.enqueue("both", 50).await;
    fixture
        .until("SELECT count(*) = 50 FROM outbox_deliveries WHERE channel = 'email'")
        .await;
    is_back.store(true, Ordering::SeqCst);
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(fixture.count(DELIVERED).await, 101);
}

#[tokio::test]
async fn one_delivery_at_a_time_finds_out_whether_it_is_back() {
    let fixture = Fixture::new().await;
    fixture.enqueue("crm", 40).await;
    let is_back = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_back);
    let gate = Gate::answering(move |_| match flag.load(Ordering::SeqCst) {
        true => Ok(Receipt::new()),
        false => Err(SendError::unavailable("503", "closed for today")),
    });
    let crm = ChannelSpec {
        concurrency: 8,
        ..spec("crm", gate.clone())
    };
    let channels = vec![crm, spec("email", accepting())];
    let running = Running::start(fixture.worker_with(without_polling(), channels));
    gate.arrived(8).await;
    gate.let_go(8);
    for probe in 1..=2 {
        gate.arrived(1).await;
        // The worker keeps claiming meanwhile.
        fixture.enqueue("email", 30).await;
        fixture
            .until(
                "SELECT NOT EXISTS (SELECT FROM outbox_queue q JOIN outbox_events e
                    ON e.id = q.event_id WHERE e.event_type = 'email')",
            )
            .await;
        assert_eq!((gate.inside(), gate.unexpected()), (1, 0));
        is_back.store(probe == 2, Ordering::SeqCst);
        gate.let_go(1);
    }
    gate.open();
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(fixture.count(DELIVERED).await, 100);
}

#[tokio::test]
async fn an_unavailable_channel_is_left_alone_for_as_long_as_it_asks() {
    let fixture = Fixture::new().await;
    fixture.event("crm", any()).await;
    let crm = Recorder::new(|_| {
        let hour = Duration::from_secs(3600);
        Err(SendError::unavailable("503", "maintenance").with_retry_after(hour))
    });
    let worker = fixture.worker(vec![spec("crm", crm.clone())]);
    worker.dispatch(10).await.unwrap();
    let minutes = "SELECT (extract(epoch FROM down_until - now()) / 60)::bigint
                   FROM outbox_channels";
    assert!((58..=60).contains(&fixture.count(minutes).await));
    worker.dispatch(10).await.unwrap();
    assert_eq!(crm.sent().len(), 1);
}

#[tokio::test]
async fn nothing_is_sent_through_a_paused_channel() {
    let fixture = Fixture::new().await;
    let crm = Recorder::accepting();
    let channels = vec![spec("crm", crm.clone()), spec("email", accepting())];
    let running = Running::start(fixture.worker(channels));
    fixture
        .until("SELECT count(*) = 2 FROM outbox_channels")
        .await;
    assert!(
        fixture
            .store
            .pause_channel(&name("crm"), true)
            .await
            .unwrap()
    );
    fixture.enqueue("crm", 30).await;
    fixture.enqueue("email", 30).await;
    fixture
        .until("SELECT count(*) = 30 FROM outbox_deliveries WHERE channel = 'email'")
        .await;
    fixture
        .until("SELECT count(*) = 30 FROM outbox_queue WHERE channel = 'crm' AND worker IS NULL")
        .await;
    assert!(crm.sent().is_empty());
    assert!(
        fixture
            .queue()
            .await
            .iter()
            .all(|row| row.attempt == 0 && row.takeovers == 0)
    );

    assert!(
        fixture
            .store
            .pause_channel(&name("crm"), false)
            .await
            .unwrap()
    );
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(fixture.count(DELIVERED).await, 60);
}

#[tokio::test]
async fn a_channel_paused_in_full_swing_stops() {
    let fixture = Fixture::new().await;
    fixture.enqueue("crm", 300).await;
    let gate = Gate::new();
    let crm = ChannelSpec {
        concurrency: 4,
        ..spec("crm", gate.clone())
    };
    let channels = vec![crm, spec("email", accepting())];
    let running = Running::start(fixture.worker(channels));
    gate.arrived(4).await;
    assert!(
        fixture
            .store
            .pause_channel(&name("crm"), true)
            .await
            .unwrap()
    );
    // Those under way end; after half a second at most nothing more begins.
    gate.open();
    fixture
        .until(
            "SELECT NOT EXISTS (SELECT FROM outbox_queue WHERE worker IS NOT NULL OR channel = '')",
        )
        .await;
    let sent = gate.attempts().len();
    fixture.enqueue("email", 30).await;
    fixture
        .until("SELECT count(*) = 30 FROM outbox_deliveries WHERE channel = 'email'")
        .await;
    assert_eq!(gate.attempts().len(), sent);
    running.stop().await;
}
