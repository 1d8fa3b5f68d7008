//! A worker in this process, and how quickly it drains a queue.

use crate::database::Database;
use crate::meter;
use crate::null::{Null, spec};
use anyhow::Context;
use outbox_engine::{ChannelSpec, Route, Router, Targets, Worker, WorkerOptions};
use outbox_store::{Store, StoreError, StoreOptions};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How a worker is set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tuning {
    pub(crate) batch_size: usize,
    /// Sends under way at once, of the process and of each channel.
    pub(crate) concurrency: usize,
    pub(crate) connections: u32,
}

impl Tuning {
    /// For rushes: what the drain targets are measured with.
    pub(crate) const RUSH: Self = Self {
        batch_size: 1_000,
        concurrency: 1_000,
        connections: 4,
    };
    /// As a worker is set by default.
    pub(crate) const DEFAULT: Self = Self {
        batch_size: 100,
        concurrency: 256,
        connections: 10,
    };

    /// Connected as a worker would be.
    pub(crate) async fn connect(self, url: &str) -> anyhow::Result<Store> {
        let mut options = StoreOptions::new(url);
        options.max_connections = self.connections;
        Ok(Store::connect(&options).await?)
    }

    fn options(self) -> WorkerOptions {
        WorkerOptions {
            name: "bench".to_owned(),
            batch_size: self.batch_size,
            concurrency: self.concurrency,
            ..WorkerOptions::default()
        }
    }
}

impl std::fmt::Display for Tuning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            batch_size,
            concurrency,
            connections,
        } = self;
        write!(
            f,
            "batch {batch_size}, concurrency {concurrency}, {connections} connections"
        )
    }
}

/// A worker at work in this process.
pub(crate) struct Working {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), StoreError>>,
}

impl Working {
    /// Starts one over `channels`; an event goes to the channel of its type's name if there is
    /// one, and to all of them otherwise.
    pub(crate) fn start(
        store: Store,
        tuning: Tuning,
        channels: Vec<ChannelSpec>,
    ) -> anyhow::Result<Self> {
        let names: Vec<_> = channels.iter().map(|spec| spec.name.clone()).collect();
        let own = names.iter().map(|name| (name.as_str(), vec![name.clone()]));
        let routes = own
            .chain([("*", names.clone())])
            .map(|(pattern, names)| Route::new(pattern, Targets::FanOut(names), BTreeMap::new()));
        let router = Router::new(routes.collect::<Result<_, _>>()?);
        let worker = Worker::new(store, router, channels, tuning.options());
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            // A sender that is gone stops it as well.
            let _ = stopped.await;
        };
        let task = tokio::spawn(async move { worker.run(shutdown).await });
        Ok(Self { stop, task })
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        drop(self.stop);
        Ok(self.task.await??)
    }

    /// Whether the worker has ended although nobody asked it to.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.task.is_finished(), "the worker ended before its work");
        Ok(())
    }
}

/// When a drain ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    /// So many deliveries are settled, and nothing is left.
    Empty(u64),
    /// So many deliveries have been made, however many are left.
    Sent(u64),
}

/// What a drain came to.
pub(crate) struct Drained {
    pub(crate) deliveries: u64,
    pub(crate) seconds: f64,
    pub(crate) wal_bytes: f64,
    pub(crate) own_cpu: Option<f64>,
    pub(crate) server_cpu: Option<f64>,
    /// Seconds, and deliveries so far.
    pub(crate) curve: Vec<(f64, f64)>,
}

impl Drained {
    pub(crate) fn rate(&self) -> f64 {
        self.count() / self.seconds
    }

    pub(crate) fn wal_per_delivery(&self) -> f64 {
        self.wal_bytes / self.count()
    }

    /// Seconds of the worker's CPU per 100,000 deliveries.
    pub(crate) fn own_cpu_per_100k(&self) -> Option<f64> {
        Some(self.own_cpu? / self.count() * 1e5)
    }

    /// Seconds of the server's CPU per 100,000 deliveries.
    pub(crate) fn server_cpu_per_100k(&self) -> Option<f64> {
        Some(self.server_cpu? / self.count() * 1e5)
    }

    #[expect(clippy::cast_precision_loss, reason = "far less than 2^52 of them")]
    fn count(&self) -> f64 {
        self.deliveries as f64
    }
}

/// Drains what was filled in through one `null` channel.
pub(crate) async fn drain(
    database: &Database,
    tuning: Tuning,
    until: Until,
) -> anyhow::Result<Drained> {
    let null = Null::default();
    let channels = vec![spec("null", null.clone(), tuning.concurrency)?];
    drain_through(database, tuning, channels, until, || null.sent()).await
}

/// Drains through `channels`, of which `sent` tells how many deliveries they have made.
pub(crate) async fn drain_through(
    database: &Database,
    tuning: Tuning,
    channels: Vec<ChannelSpec>,
    until: Until,
    sent: impl Fn() -> u64,
) -> anyhow::Result<Drained> {
    const LOOK: Duration = Duration::from_millis(2);
    const POINT: f64 = 0.1;
    let wal = database.wal().await?;
    let store = tuning.connect(&database.url).await?;
    let (own, server) = (meter::own_cpu(), database.server_cpu().await?);
    let begun = Instant::now();
    let working = Working::start(store, tuning, channels)?;
    let (Until::Empty(deliveries) | Until::Sent(deliveries)) = until;
    let mut curve = vec![(0.0, 0.0)];
    let mut looked = Progress::new();
    loop {
        let (so_far, seconds) = (sent(), begun.elapsed().as_secs_f64());
        if seconds >= curve.last().map_or(0.0, |(at, _)| at + POINT) {
            #[expect(clippy::cast_precision_loss, reason = "far less than 2^52 of them")]
            curve.push((seconds, so_far as f64));
        }
        let is_empty = || async {
            anyhow::Ok(matches!(until, Until::Sent(_)) || database.is_drained().await?)
        };
        if so_far >= deliveries && is_empty().await? {
            break;
        }
        working.check()?;
        looked.check(so_far)?;
        tokio::time::sleep(LOOK).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let drained = Drained {
        deliveries,
        seconds,
        wal_bytes: database.wal().await? - wal,
        own_cpu: meter::own_cpu().zip(own).map(|(now, before)| now - before),
        server_cpu: database
            .server_cpu()
            .await?
            .zip(server)
            .map(|(now, before)| now - before),
        curve,
    };
    working.stop().await?;
    Ok(drained)
}

/// Notices when nothing moves any more.
pub(crate) struct Progress {
    reached: u64,
    since: Instant,
}

impl Progress {
    const PATIENCE: Duration = Duration::from_secs(120);

    pub(crate) fn new() -> Self {
        Self {
            reached: 0,
            since: Instant::now(),
        }
    }

    /// An error after two minutes without progress.
    pub(crate) fn check(&mut self, reached: u64) -> anyhow::Result<()> {
        if reached != self.reached {
            *self = Self {
                reached,
                since: Instant::now(),
            };
        }
        let is_stuck = self.since.elapsed() > Self::PATIENCE;
        (!is_stuck)
            .then_some(())
            .with_context(|| format!("stuck after {reached} deliveries"))
    }
}
