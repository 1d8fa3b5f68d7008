//! Leases: of workers that died, of workers that lost theirs, and of claims without an answer.

use crate::channels::{Gate, Recorder, accepting};
use crate::common::{
    ASLEEP, DELIVERED, Fixture, Running, any, fan_out, name, open_narrowly, options, spec,
    without_polling,
};
use outbox_engine::{Receipt, Router, SendError, Worker, WorkerOptions};
use outbox_sandbox::proxy::{Direction, TcpProxy};
use outbox_store::{Claimer, Lane, NewEvent, Wanted, enqueue};
use std::time::Duration;

/// Claims everything for a worker that is never heard of again.
async fn die_with_everything(fixture: &Fixture, lane: Lane) {
    let lease = Duration::from_millis(200);
    let (worker, _) = fixture.store.register_worker("late", lease).await.unwrap();
    let wanted = [Wanted { lane, room: 1_000 }];
    let claimed = Claimer::default()
        .claim(&fixture.store, worker, &wanted)
        .await
        .unwrap();
    assert!(!claimed.is_empty());
    fixture
        .until("SELECT NOT EXISTS (SELECT FROM outbox_workers WHERE alive_until > now())")
        .await;
}

fn short_lease() -> WorkerOptions {
    WorkerOptions {
        lease: Duration::from_secs(2),
        poll_interval: Duration::from_millis(200),
        ..options()
    }
}

#[tokio::test]
async fn what_a_dead_worker_had_is_taken_over() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 20).await;
    die_with_everything(&fixture, Lane::Unrouted).await;
    let gate = Gate::new();
    let running = Running::start(fixture.worker(vec![spec("email", gate.clone())]));
    gate.arrived(16).await;
    let taken_over = "SELECT count(*) FROM outbox_queue WHERE takeovers = 1";
    assert!(fixture.count(taken_over).await >= 16);
    gate.open();
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(fixture.count(DELIVERED).await, 20);
    let attempts = "SELECT max(attempts)::bigint FROM outbox_deliveries";
    assert_eq!(fixture.count(attempts).await, 1);
}

#[tokio::test]
async fn a_row_that_workers_keep_dying_with_is_a_dead_letter() {
    let fixture = Fixture::new().await;
    let event = fixture.event("email", any()).await;
    fixture
        .execute("UPDATE outbox_queue SET takeovers = 4")
        .await;
    die_with_everything(&fixture, Lane::Unrouted).await;
    let email = Recorder::accepting();
    let worker = fixture.worker(vec![spec("email", email.clone())]);
    assert_eq!(worker.dispatch(10).await.unwrap().failed, 1);
    assert!(email.sent().is_empty());
    let result = fixture.results().await.remove(0);
    assert_eq!((result.event_id, result.status.as_str()), (event, "dead"));
    assert_eq!(result.code.as_deref(), Some("crash"));
    assert!(result.message.unwrap().contains("5 workers"));
}

/// Only one of them is the cause: the others are not tried together with it, and not charged.
#[tokio::test]
async fn rows_that_workers_died_with_are_not_tried_together() {
    let fixture = Fixture::new().await;
    for _ in 0..3 {
        fixture.event("email", any()).await;
    }
    fixture
        .execute("UPDATE outbox_queue SET takeovers = CASE event_id WHEN 2 THEN 3 ELSE 1 END")
        .await;
    die_with_everything(&fixture, Lane::Unrouted).await;
    let gate = Gate::new();
    let running = Running::start(fixture.worker(vec![spec("email", gate.clone())]));
    gate.arrived(1).await;
    fixture
        .until("SELECT count(*) = 2 FROM outbox_queue WHERE takeovers = 0 AND worker IS NULL")
        .await;
    assert_eq!(gate.attempts(), [(2, 1)]);
    gate.open();
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(fixture.count(DELIVERED).await, 3);
}

#[tokio::test]
async fn who_has_lost_a_row_does_not_overwrite_what_its_successor_does() {
    let fixture = Fixture::new().await;
    let succeeds = fixture.event("email", any()).await;
    let fails = fixture.event("email", any()).await;
    let gate = Gate::answering(move |delivery| match delivery.event().id == succeeds {
        true => Ok(Receipt::new()),
        false => Err(SendError::transient("503", "busy")),
    });
    let running = Running::start(fixture.worker(vec![spec("email", gate.clone())]));
    gate.arrived(2).await;
    let lease = Duration::from_secs(3600);
    let successor = fixture
        .store
        .register_worker("thief", lease)
        .await
        .unwrap()
        .0;
    fixture
        .execute("UPDATE outbox_queue SET worker = (SELECT max(id) FROM outbox_workers)")
        .await;
    gate.let_go(2);
    running.stop().await;
    assert!(fixture.results().await.is_empty());
    let queue = fixture.queue().await;
    let rows: Vec<_> = queue
        .iter()
        .map(|row| {
            (
                row.event_id,
                row.channel.as_str(),
                row.attempt,
                row.worker.unwrap(),
            )
        })
        .collect();
    let thief: i32 = successor.to_string().parse().unwrap();
    assert_eq!(rows, [(succeeds, "", 0, thief), (fails, "", 0, thief)]);
    let attempts = fixture.attempts().await;
    assert_eq!(attempts.len(), 1, "that it failed is true all the same");
    assert_eq!((attempts[0].event_id, attempts[0].attempt), (fails, 1));
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_goes_on_under_a_new_one() {
    let fixture = Fixture::new().await;
    let options = WorkerOptions {
        lease: Duration::from_secs(2),
        ..without_polling()
    };
    let worker = fixture.worker_with(options, vec![spec("email", accepting())]);
    let running = Running::start(worker);
    fixture.until(ASLEEP).await;
    fixture
        .execute("UPDATE outbox_workers SET alive_until = now() - interval '1 second'")
        .await;
    // With a new name it still hears producers: it does not poll.
    fixture
        .until("SELECT EXISTS (SELECT FROM outbox_workers WHERE alive_until > now())")
        .await;
    fixture.enqueue("email", 10).await;
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(fixture.count(DELIVERED).await, 10);
    assert_eq!(
        fixture.count("SELECT count(*) FROM outbox_workers").await,
        0
    );
}

#[tokio::test]
async fn what_was_claimed_under_a_lost_lease_and_not_sent_is_not_sent() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 4).await;
    let gate = Gate::new();
    let options = WorkerOptions {
        concurrency: 1,
        ..short_lease()
    };
    let running = Running::start(fixture.worker_with(options, vec![spec("email", gate.clone())]));
    gate.arrived(1).await;
    fixture
        .execute("UPDATE outbox_workers SET alive_until = now() - interval '1 second'")
        .await;
    fixture
        .until("SELECT EXISTS (SELECT FROM outbox_workers WHERE alive_until > now())")
        .await;
    gate.open();
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(fixture.results().await.len(), 4);
    let mut sent: Vec<_> = gate
        .attempts()
        .into_iter()
        .map(|(event, _)| event)
        .collect();
    let first = sent.remove(0);
    // The first was under way: it may come twice. The others must not.
    sent.retain(|event| *event != first);
    sent.sort_unstable();
    let before = sent.len();
    sent.dedup();
    assert_eq!((before, sent.len()), (3, 3));
}

/// A worker behind a proxy.
async fn behind_proxy(fixture: &Fixture, gate: &Gate) -> (TcpProxy, Running) {
    let proxy = TcpProxy::start(fixture.address()).await.unwrap();
    let store = open_narrowly(&fixture.url_through(&proxy)).await;
    let router = Router::new(vec![fan_out("*", &["email"])]);
    let channels = vec![spec("email", gate.clone())];
    let running = Running::start(Worker::new(store, router, channels, short_lease()));
    (proxy, running)
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_leaves_no_row_stuck() {
    let fixture = Fixture::new().await;
    let gate = Gate::new();
    gate.open();
    let (proxy, running) = behind_proxy(&fixture, &gate).await;
    fixture.event("email", any()).await;
    fixture.until_settled().await;
    // A claim waits for this transaction, which brings it something to claim.
    let mut transaction = fixture.caught("outbox_queue", "Leases due rows").await;
    let event = NewEvent::new("email", any());
    enqueue(&mut *transaction, &event).await.unwrap();
    proxy.stall(Direction::ToClient);
    transaction.commit().await.unwrap();
    fixture
        .until("SELECT worker IS NOT NULL FROM outbox_queue")
        .await;
    proxy.cut();
    proxy.heal();
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(fixture.count(DELIVERED).await, 2);
    assert_eq!(gate.attempts().len(), 2);
    assert_eq!(
        fixture.count("SELECT count(*) FROM outbox_workers").await,
        0
    );
}

#[tokio::test]
async fn what_is_under_way_when_a_claims_answer_is_lost_keeps_its_lease() {
    let fixture = Fixture::new().await;
    let event = fixture.event("email", any()).await;
    let gate = Gate::new();
    let (proxy, running) = behind_proxy(&fixture, &gate).await;
    gate.arrived(1).await;
    let transaction = fixture.caught("outbox_queue", "Leases due rows").await;
    proxy.cut();
    transaction.rollback().await.unwrap();
    fixture
        .until("SELECT count(*) = 2 FROM outbox_workers WHERE alive_until > now()")
        .await;
    // Far beyond what the old lease had left.
    fixture
        .until(
            "SELECT alive_until > started_at + interval '6 seconds'
                FROM outbox_workers ORDER BY id LIMIT 1",
        )
        .await;
    gate.open();
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(gate.attempts(), [(event, 1)]);
    assert_eq!(fixture.count(DELIVERED).await, 1);
}

#[tokio::test]
async fn what_waits_in_a_channels_lane_is_taken_over_too() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 5).await;
    fixture
        .execute("UPDATE outbox_queue SET channel = 'email', attempt = 2")
        .await;
    die_with_everything(&fixture, Lane::Channel(name("email"))).await;
    let worker = fixture.worker(vec![spec("email", accepting())]);
    assert_eq!(worker.dispatch(10).await.unwrap().processed, 5);
    let third = "SELECT count(*) FROM outbox_deliveries WHERE attempts = 3";
    assert_eq!(fixture.count(third).await, 5);
}
