//! Writes outcomes down: one bounded queue, one writer, batches as large as what came together
//! while the last batch was written.

use crate::delivery::{Item, Part};
use crate::shared::Shared;
use crate::summary::Summary;
use outbox_channel::ChannelName;
use outbox_store::{Lane, Settlement, WorkerId};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A part of a row's settlement, from one of its deliveries.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) item: Arc<Item>,
    /// `None`: the row is settled without a channel.
    pub(crate) channel: Option<ChannelName>,
    pub(crate) part: Part,
}

const BATCH: usize = 500;
/// A row whose channels differ so much in speed is split: the results that are there are
/// written, and the channels that still send get leased rows of their own.
const SPLIT_AFTER: Duration = Duration::from_millis(500);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// Works until all senders are gone and everything is written, or the worker gives up.
pub(crate) async fn settle_all(shared: Arc<Shared>, mut finished: mpsc::Receiver<Finished>) {
    let mut assembly = Assembly::default();
    let mut incoming = Vec::with_capacity(BATCH);
    let mut is_open = true;
    while is_open || !assembly.is_empty() {
        let next_split = assembly.next_split();
        tokio::select! {
            received = finished.recv_many(&mut incoming, BATCH), if is_open => {
                is_open = received > 0;
            }
            () = sleep_until(next_split) => {}
        }
        let mut ready: Vec<Ready> = Vec::with_capacity(incoming.len());
        for finished in incoming.drain(..) {
            ready.extend(assembly.add(finished));
        }
        ready.extend(assembly.split(Instant::now(), !is_open));
        for (worker, batch) in by_worker(ready) {
            write(&shared, worker, batch).await;
        }
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// Writes a batch, again and again while the database is in trouble: an outcome that is not
/// written would be a message sent twice.
async fn write(shared: &Shared, worker: WorkerId, batch: Vec<Settlement>) {
    let mut wait = FIRST_RETRY;
    let mut batches = vec![batch];
    while let Some(batch) = batches.pop() {
        match shared.store.settle(worker, &batch).await {
            Ok(lost) => {
                account(shared, &batch, &lost);
                wait = FIRST_RETRY;
            }
            Err(error) if error.is_transient() => {
                tracing::warn!(
                    error = error.sentence(), rows = batch.len(), again_in = ?wait,
                    "cannot write outcomes down, trying again"
                );
                batches.push(batch);
                tokio::select! {
                    () = tokio::time::sleep(wait) => wait = (wait * 2).min(LONGEST_RETRY),
                    () = shared.giving_up.cancelled() => return forget(shared, &batches),
                }
            }
            // Something in it cannot be stored: find out what, and store the rest.
            Err(_) if batch.len() > 1 => {
                let half = batch.len() / 2;
                batches.push(batch[half..].to_vec());
                batches.push(batch[..half].to_vec());
            }
            Err(error) => {
                tracing::error!(
                    event_id = batch[0].event_id,
                    error = error.sentence(),
                    "the outcome cannot be stored; the event stays with this worker until its \
                     lease ends"
                );
                shared.settled(&batch);
            }
        }
    }
}

fn account(shared: &Shared, batch: &[Settlement], lost: &[(i64, Lane)]) {
    for settlement in batch {
        let is_it = |(event_id, lane): &(i64, Lane)| {
            *event_id == settlement.event_id && *lane == settlement.lane
        };
        if lost.iter().any(is_it) {
            tracing::warn!(
                event_id = settlement.event_id, lane = ?settlement.lane,
                outcomes = ?settlement.outcomes.iter().map(|o| o.status.as_str()).collect::<Vec<_>>(),
                "the lease was lost before the outcome was written; whoever has the event now \
                 may send it again, with the same id"
            );
        } else {
            shared.counters.add(Summary::of(settlement));
        }
    }
    shared.settled(batch);
}

fn forget(shared: &Shared, batches: &[Vec<Settlement>]) {
    let rows: usize = batches.iter().map(Vec::len).sum();
    tracing::error!(
        rows,
        "stopped before these outcomes could be written; their messages may be sent twice, \
         with the same id"
    );
    for batch in batches {
        shared.settled(batch);
    }
}

impl Shared {
    fn settled(&self, batch: &[Settlement]) {
        // A split row has become as many rows as are kept.
        let kept = batch
            .iter()
            .flat_map(|settlement| &settlement.left)
            .filter(|left| left.keep);
        let kept = kept.count();
        self.unsettled.fetch_add(kept, Ordering::Relaxed);
        self.unsettled.fetch_sub(batch.len(), Ordering::Relaxed);
        self.progress.notify_one();
    }
}

/// A settlement and the lease under which it is made.
type Ready = (WorkerId, Settlement);

/// Rows of which some deliveries have finished and some have not.
#[derive(Default)]
struct Assembly(HashMap<(i64, Lane), Partial>);

struct Partial {
    item: Arc<Item>,
    since: Instant,
    missing: Vec<ChannelName>,
    parts: Vec<Part>,
    /// The channels now have rows of their own.
    is_split: bool,
}

impl Assembly {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The settlement, if this was what its row still lacked.
    fn add(&mut self, finished: Finished) -> Option<Ready> {
        let Finished {
            item,
            channel,
            part,
        } = finished;
        if item.channels.len() <= 1 {
            return Some(settlement(&item, item.lane.clone(), vec![part]));
        }
        let key = (item.event.id, item.lane.clone());
        let partial = self.0.entry(key.clone()).or_insert_with(|| Partial {
            since: Instant::now(),
            missing: item.channels.clone(),
            parts: Vec::new(),
            is_split: false,
            item: Arc::clone(&item),
        });
        partial
            .missing
            .retain(|missing| Some(missing) != channel.as_ref());
        let is_complete = partial.missing.is_empty();
        if partial.is_split {
            if is_complete {
                self.0.remove(&key);
            }
            let lane = channel.map_or(Lane::Unrouted, Lane::Channel);
            return Some(settlement(&item, lane, vec![part]));
        }
        partial.parts.push(part);
        if !is_complete {
            return None;
        }
        let parts = self
            .0
            .remove(&key)
            .map(|partial| partial.parts)
            .unwrap_or_default();
        Some(settlement(&item, key.1, parts))
    }

    fn next_split(&self) -> Option<Instant> {
        let waiting = self.0.values().filter(|partial| !partial.is_split);
        waiting.map(|partial| partial.since + SPLIT_AFTER).min()
    }

    /// Splits what has waited for long enough; at the end, everything, and for good.
    fn split(&mut self, now: Instant, at_end: bool) -> Vec<Ready> {
        let is_due = |partial: &&mut Partial| {
            !partial.is_split && (at_end || now >= partial.since + SPLIT_AFTER)
        };
        let ready = self.0.values_mut().filter(is_due).map(|partial| {
            partial.is_split = true;
            let mut parts = std::mem::take(&mut partial.parts);
            parts.extend(partial.missing.iter().map(|channel| {
                let mut part = Part::given_back(channel, partial.item.attempts);
                part.left.iter_mut().for_each(|left| left.keep = !at_end);
                part
            }));
            settlement(&partial.item, partial.item.lane.clone(), parts)
        });
        let ready = ready.collect();
        if at_end {
            self.0.clear();
        }
        ready
    }
}

fn settlement(item: &Item, lane: Lane, parts: Vec<Part>) -> Ready {
    let mut settlement = Settlement {
        event_id: item.event.id,
        lane,
        outcomes: Vec::with_capacity(parts.len()),
        left: Vec::new(),
        failed: Vec::new(),
    };
    for part in parts {
        settlement.outcomes.extend(part.outcome);
        settlement.left.extend(part.left);
        settlement.failed.extend(part.failed);
    }
    (item.worker, settlement)
}

/// Nearly always one batch: a process has one lease at a time.
fn by_worker(ready: Vec<Ready>) -> Vec<(WorkerId, Vec<Settlement>)> {
    let mut batches: Vec<(WorkerId, Vec<Settlement>)> = Vec::with_capacity(1);
    for (worker, settlement) in ready {
        match batches.iter_mut().find(|(other, _)| *other == worker) {
            Some((_, batch)) => batch.push(settlement),
            None => batches.push((worker, vec![settlement])),
        }
    }
    batches
}
