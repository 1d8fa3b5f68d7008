//! A worker at work: from registering to the last outcome written.

use crate::assembly::Finished;
use crate::intake::{Intake, Load};
use crate::options::WorkerOptions;
use crate::outlet::Outlet;
use crate::settler::settle_all;
use crate::shared::Shared;
use crate::summary::Summary;
use crate::trouble::{Trouble, within};
use outbox_store::{Claimer, Lane, Leased, StoreError, Wanted};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::DropGuard;
use tokio_util::task::TaskTracker;

/// Dropped, it begins nothing more, and what is under way ends by itself.
pub(crate) struct Shift {
    pub(crate) shared: Arc<Shared>,
    /// Begins deliveries, while the next claim is on its way.
    starter: JoinHandle<TaskTracker>,
    loads: mpsc::Sender<Load>,
    claimer: Claimer,
    batch_size: usize,
    /// Rows claimed and not settled, at most; one claim more may come.
    max_unsettled: usize,
    /// Writes outcomes down and keeps the lease up, until there is nothing left to write.
    desk: JoinHandle<()>,
    last_claim: Instant,
    /// The last claim took as much as it could, all of one key, and nothing else was under way.
    took_one_key: bool,
    /// A claim has ended without our knowing what it brought.
    is_claim_lost: bool,
    _stop_when_dropped: DropGuard,
}

/// What came of looking for work.
pub(crate) enum Claim {
    /// There is no room for any, or was not for all that there may be.
    NoRoom,
    /// There is so little room that a claim is better put off.
    PutOff,
    /// There may be more of the same.
    Full,
    /// That was all; but for what a sweep would find, which is put off for so long.
    Short(Option<Duration>),
}

/// How much to claim for each lane.
struct Wishes {
    wanted: Vec<Wanted>,
    /// That is worth a claim at once.
    is_worth_it: bool,
    /// It would be more, were it known where what is in hand goes: no outlet tells when it is.
    is_cut: bool,
}

impl Shift {
    /// After a claim that took as much as it could, and all of one key, so long is waited for that
    /// to be settled: a claim ahead would meet more of the same, which it cannot have.
    const SAME_KEY: Duration = Duration::from_millis(50);
    /// A claim of less costs too little to be spared.
    const MANY: usize = 50;

    pub(crate) fn begin(shared: Arc<Shared>, options: &WorkerOptions) -> Self {
        let max_unsettled = options.concurrency + Outlet::BATCHES_AHEAD * options.batch_size;
        let (finished, outcomes) = mpsc::unbounded_channel();
        let (loads, arriving) = mpsc::channel(1);
        let intake = Intake::new(Arc::clone(&shared), finished, options.batch_size);
        Self {
            desk: tokio::spawn(keep_books(Arc::clone(&shared), outcomes)),
            starter: tokio::spawn(intake.run(arriving)),
            loads,
            claimer: Claimer::default(),
            batch_size: options.batch_size,
            max_unsettled,
            last_claim: Instant::now(),
            is_claim_lost: false,
            took_one_key: false,
            _stop_when_dropped: shared.stopping.clone().drop_guard(),
            shared,
        }
    }

    /// Whether outcomes can no longer be written down, which would be a defect.
    pub(crate) fn is_broken(&self) -> bool {
        self.desk.is_finished() || self.starter.is_finished()
    }

    /// Claims for every lane that has room and begins to deliver.
    pub(crate) async fn claim(&mut self) -> Result<Claim, Trouble> {
        let Wishes {
            wanted,
            is_worth_it,
            is_cut,
        } = self.wishes();
        if wanted.iter().all(|wanted| wanted.room == 0) {
            return Ok(Claim::NoRoom);
        }
        if !is_worth_it && self.last_claim.elapsed() < Outlet::GATHER {
            return Ok(Claim::PutOff);
        }
        let is_under_way = self.shared.unsettled.load(Ordering::Relaxed) > 0;
        if self.took_one_key && is_under_way && self.last_claim.elapsed() < Self::SAME_KEY {
            return Ok(Claim::PutOff);
        }
        self.last_claim = Instant::now();
        let is_sweep_put_off = !self.claimer.sweep_due_in().is_zero();
        let load = within(self.shared.patience, self.claim_rows(&wanted, true)).await?;
        let count = load.rows.len();
        let took_all = |wanted: &Wanted| {
            let rows = load.rows.iter();
            let taken = rows.filter(|row| row.lane == wanted.lane).count();
            wanted.room > 0 && taken >= wanted.room.min(1_000)
        };
        let is_full = wanted.iter().any(took_all) || count >= 1_000 || self.claimer.was_cut();
        self.took_one_key =
            !is_under_way && is_full && count >= Self::MANY && is_one_key(&load.rows);
        self.take_in(load).await;
        if is_full {
            return Ok(Claim::Full);
        }
        if is_cut {
            return Ok(Claim::NoRoom);
        }
        let sweep_due_in = self.claimer.sweep_due_in();
        Ok(Claim::Short(is_sweep_put_off.then_some(sweep_due_in)))
    }

    fn wishes(&self) -> Wishes {
        let shared = &self.shared;
        let unsettled = shared.unsettled.load(Ordering::Relaxed);
        let budget = self.max_unsettled.saturating_sub(unsettled);
        let budget = budget.min(self.batch_size);
        // Events that find their channel closed or full are passed on to its lane, so that one
        // broken channel does not keep the others waiting.
        let all_closed = shared.outlets.values().all(|outlet| outlet.is_closed());
        let mut unrouted = if all_closed { budget } else { 0 };
        let (mut is_worth_it, mut is_cut) = (all_closed, false);
        let in_hand = shared.in_hand.load(Ordering::Relaxed);
        let mut wanted = Vec::with_capacity(shared.outlets.len() + 1);
        for (name, outlet) in shared.outlets.iter() {
            let free = outlet.room_to_claim(self.batch_size);
            let room = free.saturating_sub(in_hand).min(budget);
            is_cut |= room < free.min(budget);
            is_worth_it |= outlet.is_worth_claiming(room, self.batch_size);
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
        Wishes {
            wanted,
            is_worth_it,
            is_cut,
        }
    }

    /// Claims up to `limit` rows over all lanes, retries first, and begins to deliver.
    pub(crate) async fn claim_up_to(&mut self, limit: usize) -> Result<(), StoreError> {
        let mut left = limit;
        for lane in self.lanes() {
            left = self.claim_lane(&lane, left).await?;
        }
        // Where attempts are written down first, an unrouted event has only come to its
        // channel's own lane so far.
        for lane in self.lanes() {
            let outlet = lane
                .channel()
                .and_then(|name| self.shared.outlets.get(name));
            if outlet.is_some_and(|outlet| outlet.spec.on_ambiguous.needs_to_know()) {
                self.drain().await;
                self.claim_lane(&lane, limit).await?;
            }
        }
        Ok(())
    }

    /// Claims up to `limit` rows of a lane; returns how many fewer it were.
    async fn claim_lane(&mut self, lane: &Lane, limit: usize) -> Result<usize, StoreError> {
        let mut left = limit;
        while left > 0 && !self.is_broken() {
            self.shared.unread.check()?;
            let unsettled = self.shared.unsettled.load(Ordering::Relaxed);
            let room = self.max_unsettled.saturating_sub(unsettled).min(left);
            if room == 0 {
                self.shared.progress.notified().await;
                continue;
            }
            self.claimer = Claimer::default();
            let load = self.claim_rows(&self.only(lane, room), false).await?;
            if load.rows.is_empty() && !self.claimer.was_cut() {
                break;
            }
            left = left.saturating_sub(load.rows.len());
            self.take_in(load).await;
        }
        Ok(left)
    }

    /// Room for one lane, and none for the others.
    fn only(&self, lane: &Lane, room: usize) -> Vec<Wanted> {
        let wanted = |other: Lane| Wanted {
            room: if other == *lane { room } else { 0 },
            lane: other,
        };
        self.lanes().into_iter().map(wanted).collect()
    }

    /// All that this worker claims for.
    pub(crate) fn lanes(&self) -> Vec<Lane> {
        let channels = self.shared.outlets.keys().cloned();
        channels
            .map(Lane::Channel)
            .chain([Lane::Unrouted])
            .collect()
    }

    async fn claim_rows(
        &mut self,
        wanted: &[Wanted],
        within_room: bool,
    ) -> Result<Load, StoreError> {
        if self.is_claim_lost {
            // Rows that the server leased, but whose names we never heard, would be ours for as
            // long as that lease is kept up.
            self.shared.lease.replace().await?;
        }
        let tenure = self.shared.lease.current();
        if !tenure.is_held() {
            return Ok(Load {
                rows: Vec::new(),
                tenure,
                within_room,
            });
        }
        // Also when this future is dropped before the answer is there.
        self.is_claim_lost = true;
        let store = &self.shared.store;
        self.claimer.look_at(self.shared.freed.take());
        let rows = self.claimer.claim(store, tenure.worker, wanted).await?;
        self.is_claim_lost = false;
        Ok(Load {
            rows,
            tenure,
            within_room,
        })
    }

    async fn take_in(&self, load: Load) {
        let count = load.rows.len();
        self.shared.unsettled.fetch_add(count, Ordering::Relaxed);
        self.shared.in_hand.fetch_add(count, Ordering::Relaxed);
        if self.loads.send(load).await.is_err() {
            tracing::error!("what was claimed cannot be begun");
        }
    }

    /// Waits until everything that was claimed is settled.
    pub(crate) async fn drain(&self) {
        while !self.is_broken() && self.shared.unsettled.load(Ordering::Relaxed) > 0 {
            self.shared.progress.notified().await;
        }
    }

    /// Finishes what is under way within `grace`, or within what is left of it, gives the rest
    /// back, writes everything down.
    pub(crate) async fn end(self, grace: Duration) -> Summary {
        let stop_by = self.shared.stop(grace);
        drop(self.loads);
        let deliveries = async {
            if let Ok(deliveries) = self.starter.await {
                deliveries.wait().await;
            }
        };
        if tokio::time::timeout_at(stop_by.into(), deliveries)
            .await
            .is_err()
        {
            tracing::warn!(
                ?grace,
                "some deliveries did not end in time, their outcome is unknown"
            );
            self.shared.giving_up.cancel();
        }
        let write_by = stop_by.max(Instant::now() + WorkerOptions::LAST_WRITES);
        let mut desk = self.desk;
        let mut ended = tokio::time::timeout_at(write_by.into(), &mut desk).await;
        if ended.is_err() {
            self.shared.abandoning.cancel();
            ended = tokio::time::timeout(WorkerOptions::LAST_WRITES, &mut desk).await;
        }
        if !matches!(ended, Ok(Ok(()))) {
            tracing::error!("outcomes could not be written down");
            desk.abort();
        }
        self.shared.counters.take()
    }
}

fn is_one_key(rows: &[Leased]) -> bool {
    let first = rows.first().and_then(|row| row.key_hash);
    first.is_some() && rows.iter().all(|row| row.key_hash == first)
}

/// Until all outcomes are written, keeps up the lease under which they are; then ends it.
async fn keep_books(shared: Arc<Shared>, outcomes: mpsc::UnboundedReceiver<Finished>) {
    tokio::select! {
        () = settle_all(Arc::clone(&shared), outcomes) => {}
        () = shared.lease.keep_up(&shared.alarm, &shared.pulse) => {}
    }
    shared.lease.end().await;
}
