//! The loop: wake, claim, deliver, settle, sleep.

use crate::outlet::{ChannelSpec, Outlet};
use crate::router::Router;
use crate::shared::Shared;
use crate::shift::{Haul, Shift};
use crate::summary::{Counters, Summary};
use outbox_channel::ChannelName;
use outbox_store::{Lane, Listener, Store, StoreError};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How a worker works.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// Its name for people.
    pub name: String,
    /// How long it sleeps at most when nothing wakes it.
    pub poll_interval: Duration,
    /// Rows per claim, from 1 to 1,000.
    pub batch_size: usize,
    /// Sends under way at once, over all channels; at least 1.
    pub concurrency: usize,
    /// After so long without a heartbeat its work goes to others; at least a second.
    pub lease: Duration,
    /// How long a stopping worker waits for sends under way.
    pub shutdown_grace: Duration,
    /// What is forgotten when.
    pub retention: Retention,
}

/// When settled events are forgotten.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// So long after they were settled.
    pub days: f64,
    /// At most so many at once; 0 keeps everything.
    pub limit: u32,
    /// In every so manieth cycle; 0 never.
    pub every_cycles: u32,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            name: "outbox".to_owned(),
            poll_interval: Duration::from_secs(2),
            batch_size: 100,
            concurrency: 256,
            lease: Duration::from_secs(30),
            shutdown_grace: Duration::from_secs(20),
            retention: Retention {
                days: 30.0,
                limit: 10_000,
                every_cycles: 1_000,
            },
        }
    }
}

/// How a worker is doing, for readiness probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It has not begun.
    Starting,
    /// It claims.
    Working,
    /// The database is in trouble; a sentence that says how.
    DatabaseTrouble(String),
    /// It has ended.
    Stopped,
}

/// Delivers the events of one database through a set of channels.
///
/// Any number of workers, in one process or many, share the work.
pub struct Worker {
    store: Store,
    router: Arc<Router>,
    outlets: Arc<BTreeMap<ChannelName, Arc<Outlet>>>,
    options: WorkerOptions,
    health: watch::Sender<Health>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let channels: Vec<_> = self.outlets.keys().collect();
        f.debug_struct("Worker")
            .field("options", &self.options)
            .field("channels", &channels)
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// While claims come back full, so many in a row, producers need not wake this worker.
    const BUSY_AFTER: u32 = 3;
    const FIRST_RETRY: Duration = Duration::from_millis(100);
    const LONGEST_RETRY: Duration = Duration::from_secs(10);

    /// A worker over `channels`, which `router` leads to.
    #[must_use]
    pub fn new(
        store: Store,
        router: Router,
        channels: Vec<ChannelSpec>,
        options: WorkerOptions,
    ) -> Self {
        let outlet = |spec: ChannelSpec| (spec.name.clone(), Arc::new(Outlet::new(spec)));
        Self {
            store,
            router: Arc::new(router),
            outlets: Arc::new(channels.into_iter().map(outlet).collect()),
            options,
            health: watch::Sender::new(Health::Starting),
        }
    }

    /// How the worker is doing.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Asks every channel whether it could deliver now, as [`Channel::check`] does.
    ///
    /// [`Channel::check`]: outbox_channel::Channel::check
    pub async fn check_channels(
        &self,
    ) -> Vec<(ChannelName, Result<(), outbox_channel::SendError>)> {
        let checks = self.outlets.iter().map(|(name, outlet)| async {
            let check = outlet.spec.channel.check();
            let checked = tokio::time::timeout(outlet.spec.timeout, check).await;
            let late = |_| {
                Err(outbox_channel::SendError::unavailable(
                    "deadline",
                    "no answer in time",
                ))
            };
            (name.clone(), checked.unwrap_or_else(late))
        });
        futures_util::future::join_all(checks).await
    }

    /// Works until `shutdown` is ready; then finishes what is under way within the grace
    /// period, gives the rest back, and returns. Trouble with the database is waited out.
    ///
    /// # Errors
    /// When the worker cannot even register.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) -> Result<(), StoreError> {
        let mut shift = self.begin_shift().await?;
        self.health.send_replace(Health::Working);
        let shared = Arc::clone(&shift.shared);
        let stop = async {
            shutdown.await;
            tracing::info!(grace = ?self.options.shutdown_grace, "stopping");
            shared.stopping.cancel();
            // A statement under way may hang; an answered one leaves no row leased for nothing.
            tokio::time::sleep(self.options.shutdown_grace).await;
        };
        tokio::select! {
            () = stop => {}
            () = self.work(&mut shift) => {}
        }
        let rest = shift.end(self.options.shutdown_grace).await;
        log_summary(rest, Duration::ZERO);
        self.health.send_replace(Health::Stopped);
        Ok(())
    }

    /// One batch: claims up to `limit` rows, delivers them, writes down what became of them.
    ///
    /// # Errors
    /// When the worker cannot register, or the claim fails.
    pub async fn dispatch(&self, limit: usize) -> Result<Summary, StoreError> {
        let begun = Instant::now();
        let mut shift = self.begin_shift().await?;
        let claimed = shift.claim_up_to(limit).await;
        shift.drain().await;
        let summary = shift.end(self.options.shutdown_grace).await;
        claimed?;
        log_summary(summary, begun.elapsed());
        Ok(summary)
    }

    /// Forgets settled events that are old enough, at most the configured limit; says how many.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn prune(&self) -> Result<u64, StoreError> {
        prune(&self.store, self.options.retention).await
    }

    async fn begin_shift(&self) -> Result<Shift, StoreError> {
        let (store, router) = (self.store.clone(), Arc::clone(&self.router));
        Shift::begin(store, router, Arc::clone(&self.outlets), &self.options).await
    }

    /// Cycle after cycle until the worker is stopping.
    async fn work(&self, shift: &mut Shift) {
        let shared = Arc::clone(&shift.shared);
        let mut ears = Ears::new(self.store.clone());
        let mut sleep = Sleep::default();
        let mut retry = Self::FIRST_RETRY;
        let mut report = Report::new();
        let mut cycles: u32 = 0;
        while !shared.stopping.is_cancelled() {
            let next = match self.cycle(shift, &mut sleep).await {
                Ok(next) => {
                    retry = Self::FIRST_RETRY;
                    self.set_health(Health::Working);
                    next
                }
                Err(error) => {
                    tracing::warn!(
                        error = error.sentence(), again_in = ?retry,
                        "trouble with the database, trying again"
                    );
                    self.set_health(Health::DatabaseTrouble(error.sentence()));
                    let wait = retry;
                    retry = (retry * 2).min(Self::LONGEST_RETRY);
                    Next::Pause(wait)
                }
            };
            report.cycle(&shared.counters, matches!(next, Next::AtOnce));
            cycles = cycles.wrapping_add(1);
            self.maintain(cycles);
            tokio::select! {
                () = shared.stopping.cancelled() => {}
                () = next.wait(&shared, &mut ears) => {}
            }
        }
    }

    async fn cycle(&self, shift: &mut Shift, sleep: &mut Sleep) -> Result<Next, StoreError> {
        match shift.claim().await? {
            None => Ok(Next::Progress),
            Some(Haul { is_full: true, .. }) => {
                sleep.full_claims += 1;
                if sleep.full_claims >= Self::BUSY_AFTER {
                    sleep.set(shift, false).await?;
                }
                Ok(Next::AtOnce)
            }
            Some(Haul { .. }) => {
                sleep.full_claims = 0;
                if sleep.set(shift, true).await? {
                    // Something may have come between the claim and the word that we sleep.
                    return Ok(Next::AtOnce);
                }
                Ok(Next::Sleep(self.nap(shift).await?))
            }
        }
    }

    fn maintain(&self, cycles: u32) {
        let every = self.options.retention.every_cycles;
        if every == 0 || !cycles.is_multiple_of(every) {
            return;
        }
        let (store, retention) = (self.store.clone(), self.options.retention);
        tokio::spawn(async move {
            if let Err(error) = prune(&store, retention).await {
                tracing::warn!(error = error.sentence(), "pruning failed");
            }
        });
    }

    /// How long there is nothing to do, unless somebody calls.
    async fn nap(&self, shift: &Shift) -> Result<Duration, StoreError> {
        let shared = &shift.shared;
        let lanes: Vec<Lane> = shared
            .outlets
            .keys()
            .cloned()
            .map(Lane::Channel)
            .chain([Lane::Unrouted])
            .collect();
        let mut wait = self.options.poll_interval;
        if let Some(due) = shared.store.next_due(&lanes).await? {
            // The database's clock has more digits than the timer.
            wait = wait.min(due + Duration::from_millis(1));
        }
        let sweep = shift.claimer.sweep_due_in();
        Ok(if sweep.is_zero() {
            wait
        } else {
            wait.min(sweep)
        })
    }

    fn set_health(&self, health: Health) {
        self.health.send_if_modified(|current| {
            let is_new = *current != health;
            *current = health;
            is_new
        });
    }
}

/// What a worker waits for before its next cycle.
enum Next {
    AtOnce,
    /// There is hardly room for more: something under way has to end.
    Progress,
    /// There is nothing to do for so long, unless somebody calls.
    Sleep(Duration),
    /// Whoever calls.
    Pause(Duration),
}

impl Next {
    async fn wait(self, shared: &Shared, ears: &mut Ears) {
        match self {
            Self::AtOnce => {}
            Self::Progress => {
                let _ = tokio::time::timeout(Shift::GATHER, shared.progress.notified()).await;
            }
            Self::Sleep(time) => {
                tokio::select! {
                    () = tokio::time::sleep(time) => {}
                    () = ears.heard() => {}
                }
            }
            Self::Pause(time) => tokio::time::sleep(time).await,
        }
    }
}

/// Tells what was done: when the worker comes to rest, and every second while it does not.
struct Report {
    since: Instant,
}

impl Report {
    const INTERVAL: Duration = Duration::from_secs(1);

    fn new() -> Self {
        Self {
            since: Instant::now(),
        }
    }

    fn cycle(&mut self, counters: &Counters, goes_on: bool) {
        if !goes_on || self.since.elapsed() >= Self::INTERVAL {
            log_summary(counters.take(), self.since.elapsed());
            self.since = Instant::now();
        }
    }
}

/// Whether producers have been told to wake us.
#[derive(Default)]
struct Sleep {
    is_asleep: bool,
    worker: Option<outbox_store::WorkerId>,
    full_claims: u32,
}

impl Sleep {
    /// True when this changed what producers see.
    async fn set(&mut self, shift: &Shift, asleep: bool) -> Result<bool, StoreError> {
        let worker = shift.shared.lease.worker();
        if self.is_asleep == asleep && self.worker == Some(worker) {
            return Ok(false);
        }
        shift.shared.store.set_asleep(worker, asleep).await?;
        self.is_asleep = asleep;
        self.worker = Some(worker);
        Ok(true)
    }
}

/// Listens for producers' calls, as long as there is a connection for it; without one the poll
/// interval has to do.
struct Ears {
    store: Store,
    listener: Option<Listener>,
    next_try: Instant,
}

impl Ears {
    const RETRY: Duration = Duration::from_secs(5);

    fn new(store: Store) -> Self {
        Self {
            store,
            listener: None,
            next_try: Instant::now(),
        }
    }

    /// Returns when a call came or may have been lost.
    async fn heard(&mut self) {
        if self.listener.is_none() {
            tokio::time::sleep_until(self.next_try.into()).await;
            self.next_try = Instant::now() + Self::RETRY;
            match self.store.listen().await {
                // Calls before this moment were not heard.
                Ok(listener) => {
                    self.listener = Some(listener);
                    return;
                }
                Err(error) => {
                    tracing::warn!(error = error.sentence(), "not listening, polling only");
                    return std::future::pending().await;
                }
            }
        }
        if let Some(listener) = &mut self.listener
            && let Err(error) = listener.heard().await
        {
            tracing::warn!(error = error.sentence(), "not listening, polling only");
            self.listener = None;
        }
    }
}

async fn prune(store: &Store, retention: Retention) -> Result<u64, StoreError> {
    const BATCH: u32 = 1_000;
    let (mut removed, mut from) = (0, Some(0));
    while let Some(start) = from {
        let left = u64::from(retention.limit).saturating_sub(removed);
        if left == 0 {
            break;
        }
        let batch = u32::try_from(left).unwrap_or(BATCH).min(BATCH);
        let pruned = store.prune(retention.days, batch, start).await?;
        removed += pruned.removed;
        from = pruned.next;
    }
    if removed > 0 {
        tracing::info!(removed, "forgot old events");
    }
    Ok(removed)
}

fn log_summary(summary: Summary, duration: Duration) {
    if summary.is_empty() {
        return;
    }
    let Summary {
        processed,
        skipped,
        errors,
        requeued,
        failed,
    } = summary;
    tracing::info!(
        processed,
        skipped,
        errors,
        requeued,
        failed,
        duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        "cycle"
    );
}
