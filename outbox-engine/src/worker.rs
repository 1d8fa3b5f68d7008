//! What a program embeds: a worker, to run until it is told to stop, or for one batch.

use crate::health::{Health, Pulse};
use crate::large::LargePayloads;
use crate::options::WorkerOptions;
use crate::outlet::{ChannelSpec, Outlet};
use crate::rounds::{log_summary, work};
use crate::router::Router;
use crate::shared::Shared;
use crate::shift::Shift;
use crate::summary::Summary;
use crate::trouble::{Backoff, Trouble, within};
use outbox_channel::ChannelName;
use outbox_store::{Store, StoreError};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Delivers the events of one database through a set of channels.
///
/// Any number of workers, in one process or many, share the work.
pub struct Worker {
    store: Store,
    router: Arc<Router>,
    outlets: Arc<BTreeMap<ChannelName, Arc<Outlet>>>,
    large: Arc<LargePayloads>,
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
    /// Registering takes milliseconds; a connection may be dead without anybody noticing.
    const PATIENCE: Duration = Duration::from_secs(10);
    const LONGEST_RETRY: Duration = Duration::from_secs(10);
    /// A batch that somebody waits for does not try again.
    const BATCH_PATIENCE: Duration = Duration::from_secs(30);

    /// A worker over `channels`, which `router` leads to.
    #[must_use]
    pub fn new(
        store: Store,
        router: Router,
        channels: Vec<ChannelSpec>,
        options: WorkerOptions,
    ) -> Self {
        let of = channels.len();
        let outlet = |spec: ChannelSpec| (spec.name.clone(), Arc::new(Outlet::new(spec, of)));
        Self {
            store,
            router: Arc::new(router),
            outlets: Arc::new(channels.into_iter().map(outlet).collect()),
            large: Arc::new(LargePayloads::new()),
            options: options.within_range(),
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
    /// When the worker cannot register, for a reason that does not pass.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) -> Result<(), StoreError> {
        let mut shutdown = pin!(shutdown);
        let mut shift = tokio::select! {
            shift = self.begin_patiently() => shift?,
            () = &mut shutdown => {
                self.health.send_replace(Health::Stopped);
                return Ok(());
            }
        };
        self.health.send_replace(Health::Working);
        let grace = self.options.shutdown_grace;
        let shared = Arc::clone(&shift.shared);
        let stop = async {
            (&mut shutdown).await;
            tracing::info!(?grace, "stopping");
            // A statement under way may hang; an answered one leaves no row leased for nothing.
            tokio::time::sleep_until(shared.stop(grace).into()).await;
        };
        tokio::select! {
            () = stop => {}
            () = work(&mut shift, &self.options) => {}
        }
        log_summary(shift.end(grace).await, Duration::ZERO);
        self.health.send_replace(Health::Stopped);
        Ok(())
    }

    /// One batch: claims up to `limit` rows, delivers them, writes down what became of them.
    ///
    /// Dropped before it is ready, it begins nothing more; what is under way is finished and
    /// written down all the same.
    ///
    /// # Errors
    /// When the worker cannot register, or the claim or reading the events fails or gets no answer in
    /// time. What was claimed by then is delivered, or given back.
    pub async fn dispatch(&self, limit: usize) -> Result<Summary, StoreError> {
        let begun = Instant::now();
        let nobodys_health = watch::Sender::new(Health::Starting);
        let store = self.store.clone().within(Self::BATCH_PATIENCE);
        let mut shift = self.begin_shift(store, nobodys_health).await?;
        let claimed = shift.claim_up_to(limit).await;
        shift.drain().await;
        let read = shift.shared.unread.check();
        let summary = shift.end(self.options.shutdown_grace).await;
        claimed.and(read)?;
        log_summary(summary, begun.elapsed());
        Ok(summary)
    }

    /// Forgets settled events that are old enough, at most the configured limit; says how many.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn prune(&self) -> Result<u64, StoreError> {
        Ok(self.options.retention.prune(&self.store).await?)
    }

    /// As [`begin_shift`](Self::begin_shift), through trouble that passes.
    async fn begin_patiently(&self) -> Result<Shift, StoreError> {
        let mut backoff = Backoff::up_to(Self::LONGEST_RETRY);
        loop {
            let beginning = self.begin_shift(self.store.clone(), self.health.clone());
            let error = match within(Self::PATIENCE, beginning).await {
                Ok(shift) => return Ok(shift),
                Err(Trouble::Store(error)) if !error.is_transient() => return Err(error),
                Err(trouble) => trouble.sentence(),
            };
            let again_in = backoff.next();
            tracing::warn!(error, ?again_in, "cannot begin to work, trying again");
            self.health.send_replace(Health::DatabaseTrouble(error));
            tokio::time::sleep(again_in).await;
        }
    }

    async fn begin_shift(
        &self,
        store: Store,
        health: watch::Sender<Health>,
    ) -> Result<Shift, StoreError> {
        let router = Arc::clone(&self.router);
        let (outlets, large) = (Arc::clone(&self.outlets), Arc::clone(&self.large));
        let pulse = Pulse::new(health);
        let shared = Shared::begin(store, router, outlets, large, pulse, &self.options);
        Ok(Shift::begin(shared.await?, &self.options))
    }
}
