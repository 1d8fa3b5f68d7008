//! Puts the parts of a row's settlement together.

use crate::lease::Tenure;
use crate::part::{Item, Part};
use outbox_channel::ChannelName;
use outbox_store::{Lane, Settlement};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A part of a row's settlement, from one of its deliveries.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) item: Arc<Item>,
    /// `None`: the row is settled without a channel.
    pub(crate) channel: Option<ChannelName>,
    pub(crate) part: Part,
}

/// A settlement that can be written.
#[derive(Debug)]
pub(crate) struct Ready {
    /// The lease under which it is made.
    pub(crate) tenure: Arc<Tenure>,
    /// Those with the same are written one after the other; see [`Item::sequence`].
    pub(crate) sequence: Option<u64>,
    /// The row exists only once the one before it in the sequence is written.
    pub(crate) is_sequel: bool,
    pub(crate) settlement: Settlement,
}

/// A row whose channels differ so much in speed is split: the results that are there are
/// written, and the channels that still send get leased rows of their own.
const SPLIT_AFTER: Duration = Duration::from_millis(500);

/// Rows of which some deliveries have finished and some have not, and settlements that wait for
/// those of earlier rows of their key: were a later row of a key written first, others could take
/// it before the earlier one is back in the queue.
#[derive(Default)]
pub(crate) struct Assembly {
    /// By [`Item::serial`]: the same row may be here twice, when its lease was lost and it was
    /// claimed again.
    rows: HashMap<u64, Partial>,
    /// By [`Place::run`](crate::part::Place).
    runs: HashMap<u64, Run>,
}

struct Partial {
    item: Arc<Item>,
    since: Instant,
    missing: Vec<ChannelName>,
    parts: Vec<Part>,
    /// The channels now have rows of their own.
    is_split: bool,
}

/// The rows of one key that were claimed together.
#[derive(Default)]
struct Run {
    /// The place whose turn it is.
    next: usize,
    waiting: BTreeMap<usize, Ready>,
}

impl Assembly {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.runs.is_empty()
    }

    /// Adds to `ready` what can be written now.
    pub(crate) fn add(&mut self, finished: Finished, now: Instant, ready: &mut VecDeque<Ready>) {
        let Finished {
            item,
            channel,
            part,
        } = finished;
        if item.channels.len() <= 1 {
            let whole = settlement(&item, item.lane.clone(), [part]);
            return self.in_turn(&item, whole, ready);
        }
        let partial = self.rows.entry(item.serial).or_insert_with(|| Partial {
            since: now,
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
            let lane = channel.map_or(Lane::Unrouted, Lane::Channel);
            let mut sequel = settlement(&item, lane, [part]);
            sequel.is_sequel = true;
            ready.push_back(sequel);
        } else {
            partial.parts.push(part);
        }
        if is_complete
            && let Some(row) = self.rows.remove(&item.serial)
            && !row.is_split
        {
            let whole = settlement(&item, item.lane.clone(), row.parts);
            self.in_turn(&item, whole, ready);
        }
    }

    /// When the next row is to be split.
    pub(crate) fn next_split(&self) -> Option<Instant> {
        let waiting = self.rows.values().filter(|row| self.may_be_split(row));
        waiting.map(|row| row.since + SPLIT_AFTER).min()
    }

    /// Splits what has waited for long enough.
    pub(crate) fn split(&mut self, now: Instant, ready: &mut VecDeque<Ready>) {
        loop {
            let due = self
                .rows
                .values()
                .filter(|row| now >= row.since + SPLIT_AFTER);
            let due: Vec<u64> = due
                .filter(|row| self.may_be_split(row))
                .map(|row| row.item.serial)
                .collect();
            if due.is_empty() {
                return;
            }
            for serial in due {
                if let Some(row) = self.rows.get_mut(&serial) {
                    let (item, whole) = (Arc::clone(&row.item), row.split(true));
                    self.in_turn(&item, whole, ready);
                }
            }
        }
    }

    /// No more parts will come: gives back what lacks some, which would be a defect.
    pub(crate) fn give_up(&mut self, ready: &mut VecDeque<Ready>) {
        let rows = self.rows.drain().map(|(_, row)| row);
        let unsplit = rows.filter(|row| !row.is_split);
        ready.extend(unsplit.map(|mut row| row.split(false)));
        let runs = self
            .runs
            .drain()
            .flat_map(|(_, run)| run.waiting.into_values());
        ready.extend(runs);
    }

    /// A row is split once, and not before those ahead of it in its key are written.
    fn may_be_split(&self, row: &Partial) -> bool {
        let is_its_turn = row.item.place.is_none_or(|place| {
            let next = self.runs.get(&place.run).map_or(0, |run| run.next);
            next == place.at
        });
        !row.is_split && is_its_turn
    }

    fn in_turn(&mut self, item: &Item, whole: Ready, ready: &mut VecDeque<Ready>) {
        let Some(place) = item.place else {
            return ready.push_back(whole);
        };
        let run = self.runs.entry(place.run).or_default();
        run.waiting.insert(place.at, whole);
        while let Some(whole) = run.waiting.remove(&run.next) {
            ready.push_back(whole);
            run.next += 1;
        }
        if run.next == place.of {
            self.runs.remove(&place.run);
        }
    }
}

impl Partial {
    /// What is there, and a row of its own for each channel that is missing.
    fn split(&mut self, keep: bool) -> Ready {
        self.is_split = true;
        let mut parts = std::mem::take(&mut self.parts);
        parts.extend(self.missing.iter().map(|channel| {
            let mut part = Part::given_back(&self.item, channel);
            part.left.iter_mut().for_each(|left| left.keep = keep);
            part
        }));
        settlement(&self.item, self.item.lane.clone(), parts)
    }
}

fn settlement<P>(item: &Item, lane: Lane, parts: P) -> Ready
where
    P: IntoIterator<Item = Part, IntoIter: ExactSizeIterator>,
{
    let parts = parts.into_iter();
    let mut settlement = Settlement {
        event_id: item.event.id,
        lane,
        claim: item.claim,
        is_keyed: item.event.key.is_some(),
        outcomes: Vec::with_capacity(parts.len()),
        left: Vec::new(),
        failed: Vec::new(),
    };
    for part in parts {
        settlement.outcomes.extend(part.outcome);
        settlement.left.extend(part.left);
        settlement.failed.extend(part.failed);
    }
    Ready {
        tenure: Arc::clone(&item.tenure),
        sequence: item.sequence(),
        is_sequel: false,
        settlement,
    }
}

#[cfg(test)]
mod properties;
