//! Workers that are told to stop while there is work, and others that take their place.

use crate::support::{PATIENCE, Providers, Scene, Shop};
use nix::sys::signal::Signal;
use outbox_sandbox::webhook::{WebhookFault, WebhookReceiver};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// An application that writes all the time, and what its receiver has had of it.
struct Traffic<'a> {
    shop: &'a Shop,
    receiver: &'a WebhookReceiver,
    /// Numbers of what was committed, per key, in order.
    committed: BTreeMap<String, Vec<u64>>,
    /// The same of what came.
    came: BTreeMap<String, Vec<u64>>,
    numbers: u64,
    known: BTreeSet<u64>,
}

/// What has no key, and so no order.
const NO_KEY: &str = "";

impl<'a> Traffic<'a> {
    /// Committed and not yet arrived, at most: far fewer than the receiver keeps.
    const AHEAD: usize = 100;

    fn new(shop: &'a Shop, receiver: &'a WebhookReceiver) -> Self {
        Self {
            shop,
            receiver,
            committed: BTreeMap::new(),
            came: BTreeMap::new(),
            numbers: 0,
            known: BTreeSet::new(),
        }
    }

    /// Some transactions, of which one is rolled back.
    async fn write(&mut self) {
        for is_committed in [true, false, true] {
            let mut transaction = self.shop.pool.begin().await.unwrap();
            for key in [NO_KEY, "a", "a", "b", NO_KEY, "c", "a", NO_KEY] {
                self.numbers += 1;
                let payload = json!({ "channels": ["webhook"], "n": self.numbers, "of": key });
                sqlx::query(
                    "INSERT INTO outbox_events (event_type, payload, key)
                     VALUES ('traffic', $1, nullif($2, ''))",
                )
                .bind(payload)
                .bind(key)
                .execute(&mut *transaction)
                .await
                .unwrap();
                if is_committed {
                    let of_key = self.committed.entry(key.to_owned()).or_default();
                    of_key.push(self.numbers);
                }
            }
            if is_committed {
                transaction.commit().await.unwrap();
            } else {
                transaction.rollback().await.unwrap();
            }
        }
    }

    /// Waits until no more than so many are to come.
    async fn until_left(&mut self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.left() > count {
            assert!(Instant::now() < deadline, "{} do not come", self.left());
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.read();
        }
    }

    fn left(&self) -> usize {
        self.committed.values().map(Vec::len).sum::<usize>() - self.known.len()
    }

    fn read(&mut self) {
        for message in self.receiver.messages() {
            let body: Value = serde_json::from_slice(&message.body).unwrap();
            let number = body["data"]["n"].as_u64().unwrap();
            if self.known.insert(number) {
                let key = body["data"]["of"].as_str().unwrap();
                self.came.entry(key.to_owned()).or_default().push(number);
            }
        }
    }
}

#[tokio::test]
async fn a_rolling_restart_under_load_loses_nothing_and_sends_nothing_twice() {
    let shop = Shop::migrated().await;
    let providers = Providers::start().await;
    let receiver = &providers.webhook;
    // Some answers take a while, so that every worker has something under way when it is told.
    let pause = Duration::from_millis(2);
    receiver.faults().every(5, WebhookFault::SlowBody { pause });
    let scene = providers
        .scene(&shop)
        .set("OUTBOX_WORKER__SHUTDOWN_GRACE", "50s");
    let mut traffic = Traffic::new(&shop, receiver);
    let restarts = async {
        let mut workers = std::collections::VecDeque::new();
        for _ in 0..4 {
            workers.push_back(scene.worker().await);
        }
        for _ in 0..8 {
            let oldest = workers.pop_front().unwrap();
            let before = receiver.total();
            receiver.wait_for(before + 20).await;
            oldest.stop().await;
            workers.push_back(scene.worker().await);
        }
        workers
    };
    let mut restarts = std::pin::pin!(restarts);
    let workers = loop {
        traffic.write().await;
        tokio::select! {
            workers = &mut restarts => break workers,
            () = traffic.until_left(Traffic::AHEAD) => {}
        }
    };
    traffic.until_left(0).await;
    for worker in workers {
        worker.stop().await;
    }

    let times = receiver.times_by_id();
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let mut came = traffic.came;
    // Without a key, in any order.
    came.get_mut(NO_KEY).unwrap().sort_unstable();
    assert_eq!(came, traffic.committed);
    assert_eq!(receiver.total(), traffic.known.len() as u64);
    // Nobody was charged for being given back.
    for nothing in [
        "SELECT count(*) FROM outbox_queue",
        "SELECT count(*) FROM outbox_attempts",
        "SELECT count(*) FROM outbox_deliveries WHERE attempts <> 1 OR status <> 'delivered'",
        "SELECT count(*) FROM outbox_workers",
    ] {
        assert_eq!(shop.count(nothing).await, 0, "{nothing}");
    }
}

const WITH_A_WORKER: &str = "SELECT count(*) FROM outbox_queue WHERE worker IS NOT NULL";

#[tokio::test]
async fn after_a_signal_nothing_more_is_claimed() {
    let shop = Shop::migrated().await;
    let providers = Providers::start().await;
    // A hundred times: the answer takes a second.
    let pause = Duration::from_millis(10);
    providers
        .webhook
        .faults()
        .next(WebhookFault::SlowBody { pause });
    let worker = providers.scene(&shop).worker().await;
    let first = shop.insert("a", json!({ "channels": ["webhook"] })).await;
    providers.webhook.wait_for(1).await;
    worker.signal(Signal::SIGTERM);
    worker.line("stopping").await;
    let late = shop.insert("a", json!({ "channels": ["webhook"] })).await;
    assert_eq!(worker.end().await.code, Some(0));
    assert_eq!(shop.status(first).await, "processed");
    assert_eq!(shop.status(late).await, "pending");
    assert_eq!(providers.webhook.total(), 1);
    assert_eq!(shop.count(WITH_A_WORKER).await, 0);
}

/// Ten events, of which two are under way without an answer, and a worker that has been told to
/// stop.
async fn stopping(shop: &Shop, providers: &Providers) -> (Scene, crate::support::Running) {
    for _ in 0..2 {
        providers.webhook.faults().next(WebhookFault::Stall);
    }
    let scene = providers
        .scene(shop)
        .set("OUTBOX_CHANNELS__WEBHOOK__CONCURRENCY", "2")
        .set("OUTBOX_WORKER__LEASE", "2s")
        .set("OUTBOX_WORKER__SHUTDOWN_GRACE", "10m");
    let worker = scene.worker().await;
    for _ in 0..10 {
        shop.insert("a", json!({ "channels": ["webhook"] })).await;
    }
    providers.webhook.wait_for(2).await;
    worker.signal(Signal::SIGTERM);
    worker.line("stopping").await;
    (scene, worker)
}

#[tokio::test]
async fn a_second_signal_loses_nothing() {
    let shop = Shop::migrated().await;
    let providers = Providers::start().await;
    let (scene, worker) = stopping(&shop, &providers).await;
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.end().await.code, Some(1));

    let successor = scene.worker().await;
    for id in 1..=10 {
        assert_eq!(shop.settled(id).await.status, "processed");
    }
    successor.stop().await;
    // What was under way comes again, under the same id; the rest once.
    let mut times: Vec<u64> = providers.webhook.times_by_id().into_values().collect();
    times.sort_unstable();
    assert_eq!(times, [1, 1, 1, 1, 1, 1, 1, 1, 2, 2]);
}
