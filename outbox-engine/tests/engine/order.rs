//! Events of one key, in order, per channel.

use crate::channels::{Gate, Recorder};
use crate::common::{DELIVERED, Fixture, Running, any, fan_out, spec};
use outbox_engine::{ChannelSpec, OnDead, Receipt, RetryPolicy, Route, SendError};
use outbox_store::{NewEvent, enqueue_many};
use std::collections::HashMap;
use std::time::Duration;

async fn enqueue(fixture: &Fixture, key: &str, count: usize) -> Vec<i64> {
    let events = vec![NewEvent::new("both", any()).key(key); count];
    enqueue_many(fixture.store.pool(), &events).await.unwrap()
}

/// Event ids by key, in the order in which they were sent.
fn delivered(recorder: &Recorder) -> HashMap<String, Vec<i64>> {
    let mut orders: HashMap<String, Vec<i64>> = HashMap::new();
    for (_, delivery) in recorder.sent() {
        let event = delivery.event();
        let key = event.key.clone().unwrap_or_default();
        let order = orders.entry(key).or_default();
        // A repeated attempt follows the one that failed, with nothing of the key between them.
        if order.last() != Some(&event.id) {
            order.push(event.id);
        }
    }
    orders
}

fn both() -> Vec<Route> {
    vec![fan_out("*", &["email", "crm"])]
}

fn failing_now_and_then(period: u64) -> Recorder {
    let count = std::sync::atomic::AtomicU64::new(0);
    Recorder::new(move |_| {
        let count = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if count.is_multiple_of(period) {
            return Err(SendError::transient("503", "busy"));
        }
        Ok(Receipt::new())
    })
}

fn patient(spec: ChannelSpec) -> ChannelSpec {
    ChannelSpec {
        retry: RetryPolicy {
            max_retries: 1_000,
            ..spec.retry
        },
        ..spec
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_and_several_workers_do_not_change_the_order() {
    let fixture = Fixture::new().await;
    let (email, crm) = (failing_now_and_then(5), failing_now_and_then(3));
    let mut workers = Vec::new();
    for _ in 0..3 {
        let specs = vec![
            patient(spec("email", email.clone())),
            patient(spec("crm", crm.clone())),
        ];
        workers.push(Running::start(fixture.routed(both(), specs)));
    }
    let mut expected: HashMap<String, Vec<i64>> = HashMap::new();
    for round in 0..20 {
        for key in ["hot", "hot", "cold", &format!("k{}", round % 4)] {
            let ids = enqueue(&fixture, key, 3).await;
            expected.entry(key.to_owned()).or_default().extend(ids);
        }
    }
    fixture.until_settled().await;
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(delivered(&email), expected);
    assert_eq!(delivered(&crm), expected);
    assert_eq!(fixture.count(DELIVERED).await, 2 * 240);
}

#[tokio::test]
async fn a_channel_that_is_behind_holds_up_itself_and_no_other() {
    let fixture = Fixture::new().await;
    let crm = Recorder::new(|_| {
        Err(SendError::transient("503", "busy").with_retry_after(Duration::from_secs(3600)))
    });
    let email = Recorder::accepting();
    let specs = vec![spec("email", email.clone()), spec("crm", crm.clone())];
    let running = Running::start(fixture.routed(both(), specs));
    let ids = enqueue(&fixture, "a", 5).await;
    let later = enqueue(&fixture, "a", 5).await;
    let all: Vec<i64> = ids.iter().chain(&later).copied().collect();
    fixture
        .until("SELECT count(*) = 10 FROM outbox_deliveries WHERE channel = 'email'")
        .await;
    fixture
        .until("SELECT count(*) = 10 FROM outbox_queue WHERE channel = 'crm' AND worker IS NULL")
        .await;
    running.stop().await;
    assert_eq!(delivered(&email)["a"], all);
    // Only the first has been tried.
    assert_eq!(crm.sent().len(), 1);
}

#[tokio::test]
async fn a_dead_letter_lets_the_next_go_or_blocks_it() {
    for (on_dead, reach) in [(OnDead::Skip, 3), (OnDead::Block, 1)] {
        let fixture = Fixture::new().await;
        let email = Recorder::new(|delivery| match delivery.event().id {
            1 => Err(SendError::permanent("550", "no such user")),
            _ => Ok(Receipt::new()),
        });
        let channel = ChannelSpec {
            on_dead,
            ..spec("email", email.clone())
        };
        let running = Running::start(fixture.worker(vec![channel]));
        let events = vec![NewEvent::new("email", any()).key("a"); 3];
        enqueue_many(fixture.store.pool(), &events).await.unwrap();
        let other = NewEvent::new("email", any()).key("b");
        enqueue_many(fixture.store.pool(), &[other]).await.unwrap();
        // The other key is not held up.
        fixture
            .until("SELECT EXISTS (SELECT FROM outbox_deliveries WHERE event_id = 4)")
            .await;
        match on_dead {
            OnDead::Skip => fixture.until_settled().await,
            OnDead::Block => {
                let held = "SELECT due_at = 'infinity' FROM outbox_queue WHERE event_id = 1";
                fixture.until(held).await;
            }
        }
        running.stop().await;
        let tried: Vec<i64> = email.sent().iter().map(|(_, d)| d.event().id).collect();
        assert_eq!(
            tried.iter().filter(|id| **id <= 3).count(),
            reach,
            "{tried:?}"
        );
        if on_dead == OnDead::Block {
            assert_eq!(fixture.status(1).await.status, "held");
            assert_eq!(fixture.status(2).await.status, "pending");
        }
    }
}

/// Were it sent before, and the worker died: the dead letter would come once more, behind it.
#[tokio::test]
async fn behind_a_dead_letter_nothing_goes_before_that_is_written() {
    let fixture = Fixture::new().await;
    let gate = Gate::answering(|delivery| match delivery.event().id {
        1 => Err(SendError::permanent("550", "no such user")),
        _ => Ok(Receipt::new()),
    });
    let events = vec![NewEvent::new("email", any()).key("a"); 2];
    enqueue_many(fixture.store.pool(), &events).await.unwrap();
    let running = Running::start(fixture.worker(vec![spec("email", gate.clone())]));
    gate.arrived(1).await;
    let transaction = fixture.locked("outbox_deliveries").await;
    gate.open();
    let waiting = fixture.waiting().await;
    assert!(waiting.contains("Writes down"), "{waiting}");
    assert_eq!(gate.attempts(), [(1, 1)]);
    transaction.rollback().await.unwrap();
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(gate.attempts(), [(1, 1), (2, 1)]);
}
