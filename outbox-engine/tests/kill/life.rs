//! The life of a process that is killed: this very program, started again for its one ignored
//! test. It works, or does what an operator asks for.

use chrono::{DateTime, Utc};
use outbox_engine::{
    Channel, ChannelSpec, Delivery, OnAmbiguous, OnDead, Receipt, Retention, RetryPolicy, Route,
    Router, SendError, Targets, Verdict, Worker, WorkerOptions, async_trait,
};
use outbox_store::{Replay, Store, StoreOptions};
use std::collections::BTreeMap;
use std::env;
use std::io::Read;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const DATABASE: &str = "KILL_TEST_DATABASE";
const LEDGER: &str = "KILL_TEST_LEDGER";
const LEASE: &str = "KILL_TEST_LEASE_SECONDS";
const BATCH: &str = "KILL_TEST_BATCH";
const DEED: &str = "KILL_TEST_DEED";
const PRUNE: &str = "KILL_TEST_PRUNE";

/// How a process is started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recipe {
    pub(crate) lease_seconds: u64,
    pub(crate) batch: usize,
    pub(crate) deed: Deed,
    /// How many cycles there are from one pruning to the next.
    pub(crate) prune_every: u32,
}

/// What a process is there for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deed {
    Work,
    /// These are done to the first event.
    Cancel,
    Replay,
    Confirm,
}

impl Deed {
    const fn name(self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::Cancel => "cancel",
            Self::Replay => "replay",
            Self::Confirm => "confirm",
        }
    }
}

/// Starts a process, which stops when its standard input ends.
pub(crate) fn start(recipe: Recipe, database: &str, ledger: SocketAddr, kill_at: &str) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "worker_process", "--ignored", "--nocapture"])
        .env(DATABASE, database)
        .env(LEDGER, ledger.to_string())
        .env(LEASE, recipe.lease_seconds.to_string())
        .env(BATCH, recipe.batch.to_string())
        .env(DEED, recipe.deed.name())
        .env(PRUNE, recipe.prune_every.to_string())
        .env("OUTBOX_KILL_AT", kill_at)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// What such a process does.
pub(crate) async fn live() {
    let Ok(database) = env::var(DATABASE) else {
        return;
    };
    let store = Store::open(&StoreOptions::new(database)).await.unwrap();
    let done = match env::var(DEED).unwrap().as_str() {
        "cancel" => store.cancel(&[1], None).await,
        "replay" => store.replay(&[1], &Replay::default()).await,
        "confirm" => store.confirm_delivered(&[1], None).await,
        _ => return work(store).await,
    };
    done.unwrap();
}

async fn work(store: Store) {
    let number = |name: &str| env::var(name).unwrap().parse::<u64>().unwrap();
    let options = WorkerOptions {
        lease: Duration::from_secs(number(LEASE)),
        batch_size: usize::try_from(number(BATCH)).unwrap(),
        poll_interval: Duration::from_millis(100),
        // One send at a time: what is under way when it dies depends on no chance.
        concurrency: 1,
        retention: Retention {
            days: 1.0,
            limit: 10,
            every_cycles: u32::try_from(number(PRUNE)).unwrap(),
        },
        ..WorkerOptions::default()
    };
    let worker = Worker::new(store, Router::new(routes()), channels(), options);
    let stop = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
    worker.run(async { drop(stop.await) }).await.unwrap();
}

fn routes() -> Vec<Route> {
    let route = |pattern, channels: &[&str]| {
        let channels = channels.iter().map(|name| name.parse().unwrap()).collect();
        Route::new(pattern, Targets::FanOut(channels), BTreeMap::new()).unwrap()
    };
    vec![
        route("both", &["crm", "mail"]),
        route("hold", &["hold"]),
        route("verify", &["verify"]),
    ]
}

fn channels() -> Vec<ChannelSpec> {
    let ledger: SocketAddr = env::var(LEDGER).unwrap().parse().unwrap();
    let spec = |name: &str, on_ambiguous| ChannelSpec {
        name: name.parse().unwrap(),
        kind: "ledger".to_owned(),
        channel: Box::new(Sender(ledger)),
        concurrency: 1,
        timeout: Duration::from_secs(60),
        retry: RetryPolicy::default(),
        on_ambiguous,
        on_dead: OnDead::Skip,
        rate_limit: None,
    };
    vec![
        spec("crm", OnAmbiguous::Retry),
        spec("mail", OnAmbiguous::Retry),
        spec("hold", OnAmbiguous::Hold),
        spec("verify", OnAmbiguous::Verify),
    ]
}

struct Sender(SocketAddr);

impl Sender {
    async fn request(&self, request: String) -> Result<String, SendError> {
        let unavailable = |_| SendError::unavailable("connect", "no ledger");
        let mut stream = TcpStream::connect(self.0).await.map_err(unavailable)?;
        let ambiguous = |_| SendError::ambiguous("lost", "no answer");
        stream
            .write_all(request.as_bytes())
            .await
            .map_err(ambiguous)?;
        let mut answer = String::new();
        BufReader::new(stream)
            .read_line(&mut answer)
            .await
            .map_err(ambiguous)?;
        Ok(answer.trim().to_owned())
    }
}

#[async_trait]
impl Channel for Sender {
    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
        let (channel, event, id) = (delivery.channel(), delivery.event().id, delivery.id());
        match self
            .request(format!("send {channel} {event} {id}\n"))
            .await?
            .as_str()
        {
            "taken" => Ok(Receipt::new()),
            "unavailable" => Err(SendError::unavailable("closed", "come back later")),
            other => Err(SendError::ambiguous("unread", other.to_owned())),
        }
    }

    fn can_verify(&self) -> bool {
        true
    }

    async fn verify(&self, delivery: &Delivery, _: DateTime<Utc>) -> Result<Verdict, SendError> {
        let answer = self.request(format!("ask {}\n", delivery.id())).await?;
        Ok(match answer.as_str() {
            "taken" => Verdict::Delivered(Receipt::new()),
            _ => Verdict::NotDelivered,
        })
    }
}
