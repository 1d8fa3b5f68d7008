//! A database, a worker, channels that do as told, and the server over them.

use async_trait::async_trait;
use outbox_admin::{Admin, AdminOptions, serve};
use outbox_channel::{Channel, Delivery, MockChannel, Receipt, SendError};
use outbox_engine::{
    ChannelSpec, OnAmbiguous, OnDead, RetryPolicy, Route, Router, Targets, Worker, WorkerOptions,
};
use outbox_sandbox::log::every_thread_is_heard;
use outbox_sandbox::postgres::TestDatabase;
use outbox_store::{Store, StoreOptions};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const KEY: &str = "full-key-4f1c";
pub(crate) const READ_KEY: &str = "read-key-93ab";

/// With both keys.
pub(crate) fn options() -> AdminOptions {
    AdminOptions {
        api_key: Some(KEY.into()),
        read_only_api_key: Some(READ_KEY.into()),
        ..AdminOptions::default()
    }
}

/// A migrated database of the test's own.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    _database: TestDatabase,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        every_thread_is_heard();
        let database = TestDatabase::for_this_test().await.unwrap();
        let store = Store::connect(&StoreOptions::new(database.url()))
            .await
            .unwrap();
        store.migrate().await.unwrap();
        Self {
            store,
            _database: database,
        }
    }

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

    /// A worker with one channel, `email`, to which events of that type go.
    pub(crate) fn worker(&self, channel: impl Channel) -> Arc<Worker> {
        self.worker_named("email", channel)
    }

    /// A worker with one channel, to which events of the type of its name go.
    pub(crate) fn worker_named(&self, name: &str, channel: impl Channel) -> Arc<Worker> {
        let name: outbox_channel::ChannelName = name.parse().unwrap();
        let targets = Targets::FanOut(vec![name.clone()]);
        let route = Route::new(name.as_str(), targets, BTreeMap::new()).unwrap();
        let spec = ChannelSpec {
            name,
            kind: "test".to_owned(),
            channel: Box::new(channel),
            concurrency: 16,
            timeout: Duration::from_secs(60),
            retry: RetryPolicy {
                // Later than any test lasts.
                fixed_delay: Some(Duration::from_secs(3600)),
                max_retries: 3,
                ..RetryPolicy::default()
            },
            on_ambiguous: OnAmbiguous::Retry,
            on_dead: OnDead::Skip,
            rate_limit: None,
        };
        let router = Router::new(vec![route]);
        let options = WorkerOptions::default();
        Arc::new(Worker::new(self.store.clone(), router, vec![spec], options))
    }

    pub(crate) fn admin(&self) -> Admin {
        Admin::new(&options(), self.store.clone())
    }

    /// The server with both keys and a worker over `channel`.
    pub(crate) async fn serve(&self, channel: impl Channel) -> Server {
        Server::start(self.admin().with_dispatcher(self.worker(channel))).await
    }

    /// One number.
    pub(crate) async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query)
            .fetch_one(self.store.pool())
            .await
            .unwrap()
    }

    /// Waits until everything is settled and every dispatch has ended as it should: with its
    /// lease given back.
    pub(crate) async fn until_settled(&self) {
        let left = "SELECT (SELECT count(*) FROM outbox_queue)
                         + (SELECT count(*) FROM outbox_workers)";
        let waiting = async {
            while self.count(left).await > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting)
            .await
            .unwrap();
    }
}

/// The server under test, stopped when the test is over.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(admin: Admin) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self::on(listener, admin)
    }

    pub(crate) fn on(listener: TcpListener, admin: Admin) -> Self {
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, admin, stop.clone().cancelled_owned()));
        Self {
            address,
            stop,
            task,
        }
    }
}

/// A mocked channel that must be asked to send exactly so often.
pub(crate) fn delivering(times: usize) -> MockChannel {
    let mut channel = MockChannel::new();
    let expected = channel.expect_send().times(times);
    expected.returning(|_| Ok(Receipt::new()));
    channel
}

/// A channel whose deliveries last until the test lets them go.
pub(crate) struct Gate {
    begun: mpsc::UnboundedSender<i64>,
    open: Arc<Semaphore>,
}

/// The test's side of a [`Gate`].
pub(crate) struct Keeper {
    begun: mpsc::UnboundedReceiver<i64>,
    open: Arc<Semaphore>,
}

pub(crate) fn gate() -> (Gate, Keeper) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let open = Arc::new(Semaphore::new(0));
    let gate = Gate {
        begun: sender,
        open: Arc::clone(&open),
    };
    (
        gate,
        Keeper {
            begun: receiver,
            open,
        },
    )
}

impl Keeper {
    /// Waits until one more delivery has begun.
    pub(crate) async fn begun(&mut self) {
        tokio::time::timeout(Duration::from_secs(30), self.begun.recv())
            .await
            .unwrap()
            .unwrap();
    }

    /// How many further deliveries have begun.
    pub(crate) fn more_begun(&mut self) -> usize {
        std::iter::from_fn(|| self.begun.try_recv().ok()).count()
    }

    pub(crate) fn open(&self) {
        self.open.close();
    }
}

#[async_trait]
impl Channel for Gate {
    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
        let _ = self.begun.send(delivery.event().id);
        // An error is the gate opening.
        let _ = self.open.acquire().await;
        Ok(Receipt::new())
    }
}
