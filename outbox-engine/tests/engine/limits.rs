//! Concurrency and rate limits, and channels that share a worker.

use crate::channels::{Gate, Recorder, accepting};
use crate::common::{DELIVERED, Fixture, PATIENCE, Running, options, spec, without_polling};
use outbox_engine::{ChannelSpec, RateLimit, WorkerOptions};
use std::num::NonZeroU32;
use std::time::Duration;

fn at_once(concurrency: usize, spec: ChannelSpec) -> ChannelSpec {
    ChannelSpec {
        concurrency,
        ..spec
    }
}

#[tokio::test]
async fn a_channels_concurrency_is_reached_and_never_exceeded() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 60).await;
    let gate = Gate::new();
    let channels = vec![at_once(4, spec("email", gate.clone()))];
    let running = Running::start(fixture.worker_with(without_polling(), channels));
    gate.arrived(4).await;
    for _ in 4..60 {
        gate.let_go(1);
        gate.arrived(1).await;
    }
    gate.open();
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(gate.most(), 4);
}

#[tokio::test]
async fn a_processs_concurrency_is_reached_and_never_exceeded() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 20).await;
    fixture.enqueue("sms", 20).await;
    let gate = Gate::new();
    let channels = vec![spec("email", gate.clone()), spec("sms", gate.clone())];
    let options = WorkerOptions {
        concurrency: 3,
        ..without_polling()
    };
    let running = Running::start(fixture.worker_with(options, channels));
    gate.arrived(3).await;
    for _ in 3..40 {
        gate.let_go(1);
        gate.arrived(1).await;
    }
    gate.open();
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(gate.most(), 3);
}

#[tokio::test]
async fn a_claim_takes_no_more_than_there_is_room_for() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 50).await;
    let gate = Gate::new();
    let channels = vec![at_once(2, spec("email", gate.clone()))];
    let running = Running::start(fixture.worker(channels));
    gate.arrived(2).await;
    let leased = "SELECT count(*) FROM outbox_queue WHERE worker IS NOT NULL";
    assert_eq!(fixture.count(leased).await, 2);
    gate.open();
    fixture.until_settled().await;
    running.stop().await;
}

#[tokio::test]
async fn a_saturated_channel_holds_back_nobody_and_goes_on_when_it_can() {
    let fixture = Fixture::new().await;
    fixture.enqueue("slow", 200).await;
    fixture.enqueue("fast", 200).await;
    let slow = Gate::new();
    let channels = vec![
        at_once(4, spec("slow", slow.clone())),
        spec("fast", accepting()),
    ];
    let running = Running::start(fixture.worker_with(without_polling(), channels));
    slow.arrived(4).await;
    fixture
        .until("SELECT count(*) = 200 FROM outbox_deliveries WHERE channel = 'fast'")
        .await;
    assert_eq!(slow.inside(), 4);
    // What it cannot take waits in rows of its own, with nobody.
    fixture
        .until("SELECT count(*) = 196 FROM outbox_queue WHERE channel = 'slow' AND worker IS NULL")
        .await;
    assert_eq!((slow.inside(), slow.unexpected()), (4, 0));
    slow.open();
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(fixture.count(DELIVERED).await, 400);
    assert_eq!(slow.most(), 4);
}

/// They have claimed ahead as much as they may.
#[tokio::test]
async fn channels_that_hang_in_the_middle_of_a_rush_hold_back_nobody() {
    let fixture = Fixture::new().await;
    let hanging = ["one", "two"].map(|name| (name, Gate::new()));
    for (name, gate) in &hanging {
        fixture.enqueue(name, 700).await;
        gate.let_go(600);
    }
    let channel = |(name, gate): &(&str, Gate)| at_once(5, spec(name, gate.clone()));
    let mut channels: Vec<_> = hanging.iter().map(channel).collect();
    channels.push(spec("third", accepting()));
    let options = WorkerOptions {
        batch_size: 10,
        concurrency: 30,
        ..without_polling()
    };
    let running = Running::start(fixture.worker_with(options, channels));
    fixture
        .until("SELECT count(*) = 1200 FROM outbox_deliveries")
        .await;
    fixture.enqueue("third", 50).await;
    fixture
        .until("SELECT count(*) = 50 FROM outbox_deliveries WHERE channel = 'third'")
        .await;
    for (_, gate) in &hanging {
        assert_eq!(gate.inside(), 5);
        gate.open();
    }
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(fixture.count(DELIVERED).await, 1450);
}

#[tokio::test]
async fn a_rate_limit_is_kept() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 21).await;
    let email = Recorder::accepting();
    let limited = ChannelSpec {
        rate_limit: Some(RateLimit {
            count: NonZeroU32::new(20).unwrap(),
            period: Duration::from_secs(1),
        }),
        ..spec("email", email.clone())
    };
    let running = Running::start(fixture.worker_with(without_polling(), vec![limited]));
    fixture.until_settled().await;
    running.stop().await;
    let sent = email.sent();
    let took = sent[20].0 - sent[0].0;
    assert!(
        (Duration::from_millis(950)..PATIENCE).contains(&took),
        "{took:?}"
    );
    // Evenly spread, so no burst at the beginning.
    let first_half = sent[10].0 - sent[0].0;
    assert!(first_half > Duration::from_millis(450), "{first_half:?}");
}

#[tokio::test]
async fn options_out_of_range_do_not_stop_the_work() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 20).await;
    let options = WorkerOptions {
        batch_size: 0,
        concurrency: 0,
        poll_interval: Duration::MAX,
        lease: Duration::ZERO,
        ..options()
    };
    let channel = ChannelSpec {
        timeout: Duration::MAX,
        ..at_once(0, spec("email", accepting()))
    };
    let running = Running::start(fixture.worker_with(options, vec![channel]));
    fixture.until_settled().await;
    running.stop().await;
}
