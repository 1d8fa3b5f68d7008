//! A worker at work: from registering to the last outcome written.

use crate::delivery::{Item, Part, deliver};
use crate::lease::Lease;
use crate::outlet::Outlet;
use crate::router::{Plan, Router};
use crate::settler::{Finished, settle_all};
use crate::shared::Shared;
use crate::summary::{Counters, Summary};
use crate::worker::WorkerOptions;
use outbox_channel::ChannelName;
use outbox_store::{Claimed, Claimer, Lane, ResultStatus, Store, StoreError, Wanted};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) struct Shift {
    pub(crate) shared: Arc<Shared>,
    pub(crate) claimer: Claimer,
    batch_size: usize,
    /// Rows claimed and not settled, at most.
    max_unsettled: usize,
    finished: mpsc::Sender<Finished>,
    deliveries: TaskTracker,
    settler: JoinHandle<()>,
    heartbeat: JoinHandle<()>,
    channels_read: Option<Instant>,
    last_claim: Instant,
}

/// What a claim brought.
pub(crate) struct Haul {
    /// How many rows.
    pub(crate) rows: usize,
    /// There may be more of the same.
    pub(crate) is_full: bool,
}

impl Shift {
    /// With little room, claims are put off for so long: they bring more at once.
    pub(crate) const GATHER: Duration = Duration::from_millis(10);
    /// What other workers did to channels is known after so long at the latest.
    const CHANNELS_FRESH: Duration = Duration::from_secs(1);

    pub(crate) async fn begin(
        store: Store,
        router: Arc<Router>,
        outlets: Arc<BTreeMap<ChannelName, Arc<Outlet>>>,
        options: &WorkerOptions,
    ) -> Result<Self, StoreError> {
        for outlet in outlets.values() {
            let spec = &outlet.spec;
            store
                .declare_channel(&spec.name, &spec.kind, spec.retry.max_retries)
                .await?;
        }
        let shared = Arc::new(Shared {
            installation: store.installation().await?,
            lease: Lease::begin(&store, &options.name, options.lease).await?,
            store,
            router,
            outlets,
            permits: Semaphore::new(options.concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            unsettled: AtomicUsize::new(0),
            progress: Notify::new(),
            counters: Counters::default(),
            stopping: CancellationToken::new(),
            giving_up: CancellationToken::new(),
        });
        let max_unsettled = options.concurrency + 4 * options.batch_size;
        let (finished, outcomes) = mpsc::channel(max_unsettled);
        let keeping = Arc::clone(&shared);
        Ok(Self {
            settler: tokio::spawn(settle_all(Arc::clone(&shared), outcomes)),
            heartbeat: tokio::spawn(async move { keeping.lease.keep_up(&keeping.store).await }),
            shared,
            claimer: Claimer::default(),
            batch_size: options.batch_size,
            max_unsettled,
            finished,
            deliveries: TaskTracker::new(),
            channels_read: None,
            last_claim: Instant::now(),
        })
    }

    /// Claims for every lane that has room and begins to deliver. `None` when there is so little
    /// room that a claim is better put off.
    pub(crate) async fn claim(&mut self) -> Result<Option<Haul>, StoreError> {
        let unsettled = self.shared.unsettled.load(Ordering::Relaxed);
        let budget = self
            .max_unsettled
            .saturating_sub(unsettled)
            .min(self.batch_size);
        let mut wanted = Vec::with_capacity(self.shared.outlets.len() + 1);
        // Events that find their channel closed or full are passed on to its lane, so that one
        // broken channel does not keep the others waiting.
        let all_closed = self
            .shared
            .outlets
            .values()
            .all(|outlet| outlet.is_closed());
        let mut unrouted = if all_closed { budget } else { 0 };
        let mut is_worth_it = all_closed || self.last_claim.elapsed() >= Self::GATHER;
        for (name, outlet) in self.shared.outlets.iter() {
            let room = outlet.room(self.batch_size).min(budget);
            is_worth_it |= outlet.is_worth_claiming(room);
            unrouted = unrouted.max(room);
            wanted.push(Wanted {
                lane: Lane::Channel(name.clone()),
                room,
            });
        }
        wanted.push(Wanted {
            lane: Lane::Unrouted,
            room: unrouted,
        });
        if unrouted == 0 || !is_worth_it {
            return Ok(None);
        }
        self.last_claim = Instant::now();
        self.claim_lanes(&wanted, true).await.map(Some)
    }

    /// Claims up to `limit` rows over all lanes, retries first, and begins to deliver.
    pub(crate) async fn claim_up_to(&mut self, limit: usize) -> Result<usize, StoreError> {
        let mut left = limit;
        let lanes: Vec<Lane> = self
            .shared
            .outlets
            .keys()
            .cloned()
            .map(Lane::Channel)
            .chain([Lane::Unrouted])
            .collect();
        for lane in lanes {
            while left > 0 {
                self.claimer = Claimer::default();
                let wanted = [Wanted {
                    lane: lane.clone(),
                    room: left,
                }];
                let haul = self.claim_lanes(&wanted, false).await?;
                left = left.saturating_sub(haul.rows);
                if haul.rows == 0 {
                    break;
                }
            }
        }
        Ok(limit - left)
    }

    async fn claim_lanes(
        &mut self,
        wanted: &[Wanted],
        within_room: bool,
    ) -> Result<Haul, StoreError> {
        let worker = self.shared.lease.worker();
        if !self.shared.lease.is_held_by(worker) {
            return Ok(Haul {
                rows: 0,
                is_full: false,
            });
        }
        let claimed = self
            .claimer
            .claim(&self.shared.store, worker, wanted)
            .await?;
        self.learn_about_channels(&claimed).await?;
        let rows = claimed.len();
        let took_all = |wanted: &Wanted| {
            let taken = claimed.iter().filter(|row| row.lane == wanted.lane).count();
            wanted.room > 0 && taken >= wanted.room.min(1_000)
        };
        let is_full = rows > 0 && (wanted.iter().any(took_all) || rows >= 1_000);
        self.shared.unsettled.fetch_add(rows, Ordering::Relaxed);
        for row in claimed {
            self.start(worker, row, within_room).await;
        }
        Ok(Haul { rows, is_full })
    }

    /// Rows of a channel's lane are given out only while it is open; whether the channels of
    /// unrouted events are, has to be asked.
    async fn learn_about_channels(&mut self, claimed: &[Claimed]) -> Result<(), StoreError> {
        let is_stale = self
            .channels_read
            .is_none_or(|read| read.elapsed() >= Self::CHANNELS_FRESH);
        if is_stale && claimed.iter().any(|row| row.lane == Lane::Unrouted) {
            self.shared.refresh_channels().await?;
            self.channels_read = Some(Instant::now());
        }
        for row in claimed {
            if let Lane::Channel(name) = &row.lane
                && let Some(outlet) = self.shared.outlets.get(name)
            {
                outlet.set_closed(false);
            }
        }
        Ok(())
    }

    async fn start(&self, worker: outbox_store::WorkerId, row: Claimed, within_room: bool) {
        let mut item = Item {
            event: Arc::new(row.event),
            lane: row.lane,
            worker,
            attempts: row.attempts,
            takeovers: row.takeovers,
            channels: Vec::new(),
        };
        let refusal = match self.plan(&item) {
            Plan::Channels(channels) => {
                item.channels = channels;
                return self.start_deliveries(Arc::new(item), within_room).await;
            }
            Plan::NoRoute => {
                let (event_id, event_type) = (item.event.id, &item.event.event_type);
                tracing::info!(event_id, event_type, "no route, skipped");
                let message =
                    "no route matches the event's type, and its payload names no channels";
                (ResultStatus::Skipped, "no_route", message.to_owned())
            }
            Plan::Malformed(reason) => {
                tracing::warn!(event_id = item.event.id, reason, "delivery given up");
                (ResultStatus::Dead, "channels", reason)
            }
        };
        let part = Part::refused(None, refusal.0, 0, refusal.1, refusal.2);
        self.report(Finished {
            item: Arc::new(item),
            channel: None,
            part,
        })
        .await;
    }

    fn plan(&self, item: &Item) -> Plan {
        match &item.lane {
            Lane::Channel(channel) => Plan::Channels(vec![channel.clone()]),
            Lane::Unrouted => self.shared.router.plan(&item.event),
        }
    }

    async fn start_deliveries(&self, item: Arc<Item>, within_room: bool) {
        for channel in &item.channels {
            let Some(outlet) = self.shared.outlets.get(channel) else {
                let part = unknown_channel(&item, channel, &self.shared.outlets);
                let (item, channel) = (Arc::clone(&item), Some(channel.clone()));
                self.report(Finished {
                    item,
                    channel,
                    part,
                })
                .await;
                continue;
            };
            let is_new = item.lane == Lane::Unrouted;
            if is_new && within_room && outlet.room(self.batch_size) == 0 {
                let part = Part::given_back(channel, item.attempts);
                let (item, channel) = (Arc::clone(&item), Some(channel.clone()));
                self.report(Finished {
                    item,
                    channel,
                    part,
                })
                .await;
                continue;
            }
            self.start_delivery(Arc::clone(&item), Arc::clone(outlet));
        }
    }

    fn start_delivery(&self, item: Arc<Item>, outlet: Arc<Outlet>) {
        let (shared, finished) = (Arc::clone(&self.shared), self.finished.clone());
        outlet.take();
        self.deliveries.spawn(async move {
            let part = deliver(&shared, &item, &outlet).await;
            let channel = Some(outlet.spec.name.clone());
            // The place is free once the outcome is in the queue: a full queue holds back claims.
            let sent = finished
                .send(Finished {
                    item,
                    channel,
                    part,
                })
                .await;
            outlet.finish();
            shared.progress.notify_one();
            if sent.is_err() {
                tracing::error!("an outcome came after the last ones were written");
            }
        });
    }

    async fn report(&self, finished: Finished) {
        if self.finished.send(finished).await.is_err() {
            tracing::error!("an outcome came after the last ones were written");
        }
    }

    /// Waits until everything that was claimed is settled.
    pub(crate) async fn drain(&self) {
        loop {
            let progress = self.shared.progress.notified();
            if self.shared.unsettled.load(Ordering::Relaxed) == 0 {
                return;
            }
            progress.await;
        }
    }

    /// Finishes what is under way within `grace`, gives the rest back, writes everything down.
    pub(crate) async fn end(self, grace: Duration) -> Summary {
        self.shared.stopping.cancel();
        self.deliveries.close();
        drop(self.finished);
        if tokio::time::timeout(grace, self.deliveries.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                ?grace,
                "some deliveries did not end in time, their outcome is unknown"
            );
            self.shared.giving_up.cancel();
            self.deliveries.wait().await;
        }
        // What is written last may meet a database in trouble; it gets a while, then it is over.
        let giving_up = self.shared.giving_up.clone();
        let deadline = tokio::spawn(async move {
            tokio::time::sleep(grace.max(Duration::from_secs(1))).await;
            giving_up.cancel();
        });
        if self.settler.await.is_err() {
            tracing::error!("outcomes could not be written down");
        }
        deadline.abort();
        self.heartbeat.abort();
        let worker = self.shared.lease.worker();
        if let Err(error) = self.shared.store.deregister_worker(worker).await {
            tracing::warn!(
                error = error.sentence(),
                "the worker's lease has to run out by itself"
            );
        }
        self.shared.counters.take()
    }
}

fn unknown_channel(
    item: &Item,
    channel: &ChannelName,
    outlets: &BTreeMap<ChannelName, Arc<Outlet>>,
) -> Part {
    let known: Vec<&str> = outlets.keys().map(ChannelName::as_str).collect();
    let message = format!(
        "there is no channel `{channel}`; configured: {}",
        if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        }
    );
    tracing::warn!(event_id = item.event.id, %channel, "delivery given up: no such channel");
    Part::refused(
        Some(channel),
        ResultStatus::Dead,
        item.attempts,
        "unknown_channel",
        message,
    )
}
