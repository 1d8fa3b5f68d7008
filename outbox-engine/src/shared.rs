//! What the parts of one worker have in common.

use crate::breaker::Leave;
use crate::disposition::Disposition;
use crate::health::Pulse;
use crate::intents::Intents;
use crate::large::LargePayloads;
use crate::lease::Lease;
use crate::options::WorkerOptions;
use crate::outlet::Outlet;
use crate::router::Router;
use crate::summary::Counters;
use crate::trouble::{Trouble, within};
use crate::wake::{Alarm, Freed};
use outbox_channel::{ChannelName, ErrorClass, SendError};
use outbox_store::{Store, StoreError};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) router: Arc<Router>,
    pub(crate) outlets: Arc<BTreeMap<ChannelName, Arc<Outlet>>>,
    pub(crate) large: Arc<LargePayloads>,
    pub(crate) installation: String,
    pub(crate) lease: Lease,
    /// A statement that takes longer has failed.
    pub(crate) patience: Duration,
    /// Sends under way at once, over all channels.
    pub(crate) permits: Semaphore,
    /// Rows claimed and not settled.
    pub(crate) unsettled: AtomicUsize,
    /// Of those, rows whose deliveries have not begun: their channels do not know of them yet.
    pub(crate) in_hand: AtomicUsize,
    /// Why somebody's batch could not be read.
    pub(crate) unread: Unread,
    /// Rows are settled, or their deliveries have begun: there may be room for more.
    pub(crate) progress: Notify,
    pub(crate) alarm: Alarm,
    pub(crate) freed: Freed,
    pub(crate) intents: Intents,
    pub(crate) counters: Counters,
    pub(crate) pulse: Pulse,
    /// Begin nothing more.
    pub(crate) stopping: CancellationToken,
    /// When what is under way has to have ended; known from `stopping` on.
    pub(crate) stop_by: OnceLock<Instant>,
    /// End what is under way.
    pub(crate) giving_up: CancellationToken,
    /// Stop trying to write down what could not be written.
    pub(crate) abandoning: CancellationToken,
    /// When the channels' states were last asked for.
    pub(crate) channels_asked: Mutex<Option<Instant>>,
    /// One asks, the others wait for the answer.
    pub(crate) asking: tokio::sync::Mutex<()>,
}

/// The error of the last attempt to read what a batch had claimed.
#[derive(Default)]
pub(crate) struct Unread(Mutex<Option<StoreError>>);

impl Unread {
    pub(crate) fn set(&self, error: StoreError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// # Errors
    /// When there was one since the last call.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let error = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        error.map_or(Ok(()), Err)
    }
}

/// A channel's availability has changed.
pub(crate) enum Turn {
    /// For so long at least, and why.
    Down(Duration, String),
    Up,
}

impl Shared {
    /// What an operator or another worker did to a channel is known here after so long.
    const CHANNELS_FRESH: Duration = Duration::from_millis(500);
    /// Beside the work, so it must not hold it up for long.
    const ASIDE: Duration = Duration::from_secs(2);
    /// Statements take milliseconds; a slow server deserves a chance.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Makes the channels known, and registers a worker.
    pub(crate) async fn begin(
        store: Store,
        router: Arc<Router>,
        outlets: Arc<BTreeMap<ChannelName, Arc<Outlet>>>,
        large: Arc<LargePayloads>,
        pulse: Pulse,
        options: &WorkerOptions,
    ) -> Result<Arc<Self>, StoreError> {
        for outlet in outlets.values() {
            let spec = &outlet.spec;
            store
                .declare_channel(&spec.name, &spec.kind, spec.retry.max_retries)
                .await?;
        }
        let patience = options.lease.max(Self::PATIENCE);
        Ok(Arc::new(Self {
            installation: store.installation().await?,
            lease: Lease::begin(store.clone(), &options.name, options.lease).await?,
            intents: Intents::start(store.clone(), patience),
            store,
            router,
            outlets,
            large,
            patience,
            permits: Semaphore::new(options.concurrency),
            unsettled: AtomicUsize::new(0),
            in_hand: AtomicUsize::new(0),
            unread: Unread::default(),
            progress: Notify::new(),
            alarm: Alarm::default(),
            freed: Freed::default(),
            counters: Counters::default(),
            pulse,
            stopping: CancellationToken::new(),
            stop_by: OnceLock::new(),
            giving_up: CancellationToken::new(),
            abandoning: CancellationToken::new(),
            channels_asked: Mutex::new(None),
            asking: tokio::sync::Mutex::new(()),
        }))
    }

    /// Begins nothing more, and ends what is under way within `grace`.
    pub(crate) fn stop(&self, grace: Duration) -> Instant {
        let stop_by = *self.stop_by.get_or_init(|| Instant::now() + grace);
        self.stopping.cancel();
        stop_by
    }

    /// Opens or closes the channel's breaker after an outcome. Returns what other workers should
    /// [be told](Self::tell).
    pub(crate) fn note_availability(
        &self,
        outlet: &Outlet,
        leave: Leave,
        disposition: Disposition,
        error: Option<&SendError>,
    ) -> Option<Turn> {
        let name = &outlet.spec.name;
        match (disposition, error) {
            (Disposition::Postpone, Some(error)) => {
                let pause = outlet.unavailable(leave, error)?;
                tracing::error!(
                    channel = %name, error = %error, again_in = ?pause,
                    "channel unavailable, left alone for a while; no attempt is charged"
                );
                Some(Turn::Down(pause, error.message().to_owned()))
            }
            // A timeout says nothing about the channel.
            (_, Some(error)) if error.class() == ErrorClass::Ambiguous => {
                outlet.unknown(leave);
                None
            }
            _ => outlet.answered(leave).then(|| {
                tracing::info!(channel = %name, "channel available again");
                Turn::Up
            }),
        }
    }

    /// Tells all workers.
    pub(crate) async fn tell(&self, outlet: &Outlet, turn: Turn) {
        let name = &outlet.spec.name;
        let told = match turn {
            Turn::Down(pause, reason) => {
                within(Self::ASIDE, self.store.channel_down(name, pause, &reason)).await
            }
            Turn::Up => within(Self::ASIDE, self.store.channel_up(name)).await,
        };
        if let Err(trouble) = told {
            tracing::warn!(channel = %name, error = trouble.sentence(), "cannot tell other workers");
        }
    }

    /// Learns, if it has not just been done, which channels an operator has paused or another
    /// worker has found down.
    pub(crate) async fn look_at_channels(&self) {
        if !self.knows_channels() {
            // On the heap: every delivery would carry room for it.
            Box::pin(self.ask_for_channels()).await;
        }
    }

    async fn ask_for_channels(&self) {
        let _one = self.asking.lock().await;
        if self.knows_channels() {
            return;
        }
        if let Err(trouble) = self.refresh_channels().await {
            tracing::warn!(
                error = trouble.sentence(),
                "cannot learn which channels are paused, going by what was known"
            );
        }
        *self.channels_asked() = Some(Instant::now());
    }

    fn knows_channels(&self) -> bool {
        self.channels_asked()
            .is_some_and(|asked| asked.elapsed() < Self::CHANNELS_FRESH)
    }

    fn channels_asked(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.channels_asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn refresh_channels(&self) -> Result<(), Trouble> {
        for state in within(Self::ASIDE, self.store.channels()).await? {
            if let Some(outlet) = self.outlets.get(state.name.as_str()) {
                outlet.set_closed(state.closed);
            }
        }
        Ok(())
    }
}
