//! Whatever becomes of rows, in the end none counts as unsettled.

use super::*;
use crate::health::{Health, Pulse};
use crate::large::LargePayloads;
use crate::options::WorkerOptions;
use crate::part::{Item, Part};
use crate::router::Router;
use outbox_channel::{ChannelName, Receipt};
use outbox_sandbox::postgres::TestDatabase;
use outbox_store::{Claimer, NewEvent, Store, StoreOptions, Wanted, enqueue_many};
use std::collections::BTreeMap;
use tokio::sync::watch;
use tokio::task::JoinHandle;

struct Desk {
    shared: Arc<Shared>,
    items: Vec<Arc<Item>>,
    finished: mpsc::UnboundedSender<Finished>,
    settling: JoinHandle<()>,
    database: TestDatabase,
}

fn names(channels: &[&str]) -> Vec<ChannelName> {
    channels.iter().map(|name| name.parse().unwrap()).collect()
}

impl Desk {
    /// Claimed rows, each going to `channels`, and a settler that waits for what becomes of them.
    async fn new(rows: u64, channels: &[&str]) -> Self {
        let database = TestDatabase::for_this_test().await.unwrap();
        let store = Store::connect(&StoreOptions::new(database.url()))
            .await
            .unwrap();
        store.migrate().await.unwrap();
        let pulse = Pulse::new(watch::Sender::new(Health::Starting));
        let (router, outlets) = (Arc::new(Router::default()), Arc::new(BTreeMap::new()));
        let options = WorkerOptions::default();
        let large = Arc::new(LargePayloads::new());
        let shared = Shared::begin(store, router, outlets, large, pulse, &options)
            .await
            .unwrap();
        let events: Vec<_> = (0..rows).map(|n| NewEvent::new("e", n.into())).collect();
        enqueue_many(shared.store.pool(), &events).await.unwrap();
        let items = Self::claim(&shared, channels).await;
        let (finished, outcomes) = mpsc::unbounded_channel();
        shared.unsettled.store(items.len(), Ordering::Relaxed);
        let settling = tokio::spawn(settle_all(Arc::clone(&shared), outcomes));
        Self {
            shared,
            items,
            finished,
            settling,
            database,
        }
    }

    async fn claim(shared: &Shared, channels: &[&str]) -> Vec<Arc<Item>> {
        let tenure = shared.lease.current();
        let wanted = Wanted {
            lane: Lane::Unrouted,
            room: 100,
        };
        let mut claimer = Claimer::default();
        let (store, worker) = (&shared.store, tenure.worker);
        let leased = claimer.claim(store, worker, &[wanted]).await.unwrap();
        let claimed = store.read_events(worker, &leased).await;
        let item = |(serial, row): (u64, outbox_store::Claimed)| {
            Arc::new(Item {
                serial,
                event: row.event,
                left_behind: row.left_behind,
                lane: row.lease.lane,
                tenure: Arc::clone(&tenure),
                attempts: row.lease.attempts,
                takeovers: row.lease.takeovers,
                claim: row.lease.claim,
                began_at: row.lease.began_at,
                channels: names(channels),
                behind: row.lease.behind,
                is_put_off: false,
                place: None,
            })
        };
        (0..).zip(claimed.unwrap()).map(item).collect()
    }

    async fn deliver(&self, item: usize, channel: &str) {
        let channel: ChannelName = channel.parse().unwrap();
        let finished = Finished {
            item: Arc::clone(&self.items[item]),
            part: Part::delivered(&channel, 1, &Receipt::new()),
            channel: Some(channel),
        };
        self.finished.send(finished).unwrap();
    }

    async fn count(&self, query: &'static str) -> i64 {
        let pool = sqlx::PgPool::connect(self.database.url()).await.unwrap();
        sqlx::query_scalar(query).fetch_one(&pool).await.unwrap()
    }

    fn unsettled(&self) -> usize {
        self.shared.unsettled.load(Ordering::Relaxed)
    }

    async fn until_unsettled(&self, count: usize) {
        let waiting = async {
            while self.unsettled() != count {
                self.shared.progress.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting)
            .await
            .unwrap();
    }

    /// No delivery tells any more.
    async fn end(self) -> (Arc<Shared>, TestDatabase) {
        drop(self.finished);
        let ended = tokio::time::timeout(Duration::from_secs(20), self.settling);
        ended.await.expect("the settler does not end").unwrap();
        assert_eq!(self.shared.unsettled.load(Ordering::Relaxed), 0);
        (self.shared, self.database)
    }
}

const RESULTS: &str = "SELECT count(*) FROM outbox_deliveries";
const QUEUE: &str = "SELECT count(*) FROM outbox_queue";

#[tokio::test]
async fn each_row_once_all_its_channels_are_done() {
    let desk = Desk::new(3, &["a", "b"]).await;
    for item in 0..3 {
        desk.deliver(item, "a").await;
        desk.deliver(item, "b").await;
    }
    desk.until_unsettled(0).await;
    assert_eq!((desk.count(RESULTS).await, desk.count(QUEUE).await), (6, 0));
    let (shared, _database) = desk.end().await;
    assert_eq!(shared.counters.take().processed, 3);
}

#[tokio::test]
async fn a_split_row_counts_for_each_channel_that_is_missing() {
    let desk = Desk::new(1, &["a", "b", "c"]).await;
    desk.deliver(0, "a").await;
    desk.until_unsettled(2).await;
    assert_eq!((desk.count(RESULTS).await, desk.count(QUEUE).await), (1, 2));
    desk.deliver(0, "b").await;
    desk.until_unsettled(1).await;
    desk.deliver(0, "c").await;
    desk.until_unsettled(0).await;
    assert_eq!((desk.count(RESULTS).await, desk.count(QUEUE).await), (3, 0));
    drop(desk.end().await);
}

#[tokio::test]
async fn a_row_that_was_lost_is_settled_for_us() {
    let desk = Desk::new(2, &["a", "b"]).await;
    let free = "WITH free AS (UPDATE outbox_queue SET worker = NULL RETURNING 1)
                SELECT count(*) FROM free";
    assert_eq!(desk.count(free).await, 2);
    desk.deliver(0, "a").await;
    desk.deliver(0, "b").await;
    // This one is split first: its own row for `b` does not exist.
    desk.deliver(1, "a").await;
    desk.until_unsettled(1).await;
    desk.deliver(1, "b").await;
    desk.until_unsettled(0).await;
    assert_eq!((desk.count(RESULTS).await, desk.count(QUEUE).await), (0, 2));
    let (shared, _database) = desk.end().await;
    assert!(shared.counters.take().is_empty());
}

#[tokio::test]
async fn what_never_tells_is_given_back_at_the_end() {
    let desk = Desk::new(1, &["a", "b"]).await;
    desk.deliver(0, "a").await;
    let (shared, database) = desk.end().await;
    let pool = sqlx::PgPool::connect(database.url()).await.unwrap();
    let free = "SELECT channel FROM outbox_queue WHERE worker IS NULL";
    let channels: Vec<String> = sqlx::query_scalar(free).fetch_all(&pool).await.unwrap();
    assert_eq!(channels, ["b"]);
    drop(shared);
}

#[tokio::test]
async fn what_cannot_be_written_is_tried_until_it_is_abandoned() {
    let desk = Desk::new(2, &["a"]).await;
    desk.shared.store.close().await;
    desk.deliver(0, "a").await;
    desk.deliver(1, "a").await;
    assert_eq!(desk.unsettled(), 2);
    desk.shared.abandoning.cancel();
    desk.until_unsettled(0).await;
    drop(desk.end().await);
}

#[tokio::test]
async fn the_same_row_claimed_twice_is_put_together_twice() {
    let desk = Desk::new(1, &["a", "b"]).await;
    let again = Item {
        serial: 77,
        event: Arc::clone(&desk.items[0].event),
        left_behind: None,
        lane: Lane::Unrouted,
        tenure: Arc::clone(&desk.items[0].tenure),
        attempts: 0,
        takeovers: 1,
        claim: desk.items[0].claim,
        began_at: None,
        channels: names(&["a", "b"]),
        behind: Vec::new(),
        is_put_off: false,
        place: None,
    };
    let mut desk = desk;
    desk.items.push(Arc::new(again));
    desk.shared.unsettled.fetch_add(1, Ordering::Relaxed);
    for (item, channel) in [(0, "a"), (1, "a"), (0, "b"), (1, "b")] {
        desk.deliver(item, channel).await;
    }
    desk.until_unsettled(0).await;
    assert_eq!((desk.count(RESULTS).await, desk.count(QUEUE).await), (2, 0));
    drop(desk.end().await);
}
