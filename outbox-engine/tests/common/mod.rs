//! A database, a worker, and channels that do as told.

use outbox_engine::{
    Channel, ChannelName, ChannelSpec, MockChannel, OnAmbiguous, RetryPolicy, Route, Router,
    Targets, Worker, WorkerOptions,
};
use outbox_sandbox::postgres::TestDatabase;
use outbox_store::{Store, StoreOptions};
use std::collections::BTreeMap;
use std::time::Duration;

/// A migrated database of the test's own.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) database: TestDatabase,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::for_this_test().await.unwrap();
        let store = Store::connect(&StoreOptions::new(database.url()))
            .await
            .unwrap();
        store.migrate().await.unwrap();
        Self { store, database }
    }

    /// Writes `count` events of a type.
    pub(crate) async fn enqueue(&self, event_type: &str, count: i32) {
        sqlx::query(
            "INSERT INTO outbox_events (event_type, payload)
             SELECT $1, jsonb_build_object('n', n) FROM generate_series(1, $2) AS n",
        )
        .bind(event_type)
        .bind(count)
        .execute(self.store.pool())
        .await
        .unwrap();
    }

    /// A worker over these channels; each channel has a route of its own name.
    pub(crate) fn worker(&self, channels: Vec<ChannelSpec>) -> Worker {
        let routes = channels
            .iter()
            .map(|spec| {
                let targets = Targets::FanOut(vec![spec.name.clone()]);
                Route::new(spec.name.as_str(), targets, BTreeMap::new()).unwrap()
            })
            .collect();
        self.worker_with(Router::new(routes), channels)
    }

    pub(crate) fn worker_with(&self, router: Router, channels: Vec<ChannelSpec>) -> Worker {
        Worker::new(self.store.clone(), router, channels, options())
    }

    /// One number.
    pub(crate) async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query)
            .fetch_one(self.store.pool())
            .await
            .unwrap()
    }

    /// Event id and status of all events, as the view tells them.
    pub(crate) async fn statuses(&self) -> Vec<(i64, String)> {
        sqlx::query_as("SELECT id, status FROM outbox_event_status ORDER BY id")
            .fetch_all(self.store.pool())
            .await
            .unwrap()
    }

    /// Waits until no event is left to do.
    pub(crate) async fn until_settled(&self) {
        self.until("SELECT NOT EXISTS (SELECT FROM outbox_queue)")
            .await;
    }

    /// Waits until a query says true.
    pub(crate) async fn until(&self, query: &'static str) {
        let waiting = async {
            loop {
                let is_so: bool = sqlx::query_scalar(query)
                    .fetch_one(self.store.pool())
                    .await
                    .unwrap();
                if is_so {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting)
            .await
            .expect(query);
    }
}

pub(crate) fn options() -> WorkerOptions {
    WorkerOptions {
        shutdown_grace: Duration::from_secs(5),
        ..WorkerOptions::default()
    }
}

pub(crate) fn name(name: &str) -> ChannelName {
    name.parse().unwrap()
}

pub(crate) fn spec(channel_name: &str, channel: impl Channel) -> ChannelSpec {
    ChannelSpec {
        name: name(channel_name),
        kind: "test".to_owned(),
        channel: Box::new(channel),
        concurrency: 16,
        timeout: Duration::from_secs(10),
        retry: RetryPolicy {
            fixed_delay: Some(Duration::from_millis(20)),
            max_retries: 3,
            ..RetryPolicy::default()
        },
        on_ambiguous: OnAmbiguous::Retry,
        rate_limit: None,
    }
}

/// A mocked channel with one expectation.
pub(crate) fn mock(expect: impl FnOnce(&mut MockChannel)) -> MockChannel {
    let mut channel = MockChannel::new();
    expect(&mut channel);
    channel
}
