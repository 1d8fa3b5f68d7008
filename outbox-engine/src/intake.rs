//! From a claimed row to its deliveries.

use crate::assembly::Finished;
use crate::delivery::deliver;
use crate::lease::Tenure;
use crate::outlet::Outlet;
use crate::part::{Item, Part, Place};
use crate::router::Plan;
use crate::shared::Shared;
use outbox_channel::ChannelName;
use outbox_store::{Claimed, Lane, ResultStatus};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

/// A row that its worker died with so often is not tried together with another of its kind: only
/// one of them is the cause, and the others must not be given up with it.
const SUSPICIOUS: u32 = 2;

/// What one claim brought.
pub(crate) struct Load {
    pub(crate) rows: Vec<Claimed>,
    pub(crate) tenure: Arc<Tenure>,
    /// Only those are begun for which their channel has room.
    pub(crate) within_room: bool,
}

/// What holds for all rows of a load.
struct Terms {
    tenure: Arc<Tenure>,
    within_room: bool,
    /// The event that is the most likely to be why workers died.
    suspect: Option<i64>,
}

impl Load {
    fn terms(&self) -> Terms {
        let suspects = self.rows.iter().filter(|row| row.takeovers >= SUSPICIOUS);
        Terms {
            tenure: Arc::clone(&self.tenure),
            within_room: self.within_room,
            suspect: suspects
                .max_by_key(|row| row.takeovers)
                .map(|row| row.event.id),
        }
    }
}

/// Begins deliveries, and has every one of them tell how it ended.
pub(crate) struct Intake {
    shared: Arc<Shared>,
    finished: mpsc::Sender<Finished>,
    deliveries: TaskTracker,
    batch_size: usize,
    last_serial: u64,
}

impl Intake {
    pub(crate) fn new(
        shared: Arc<Shared>,
        finished: mpsc::Sender<Finished>,
        batch_size: usize,
    ) -> Self {
        Self {
            shared,
            finished,
            deliveries: TaskTracker::new(),
            batch_size,
            last_serial: 0,
        }
    }

    /// Begins what arrives. Returns the deliveries that are under way then, to wait for.
    pub(crate) async fn run(mut self, mut arriving: mpsc::Receiver<Load>) -> TaskTracker {
        while let Some(load) = arriving.recv().await {
            let count = load.rows.len();
            self.start(load).await;
            self.shared.in_hand.fetch_sub(count, Ordering::Relaxed);
            self.shared.progress.notify_one();
        }
        self.deliveries.close();
        self.deliveries
    }

    async fn start(&mut self, load: Load) {
        let terms = load.terms();
        let mut runs: BTreeMap<(String, Option<ChannelName>), Vec<Claimed>> = BTreeMap::new();
        for row in load.rows {
            match &row.event.key {
                None => self.start_run(vec![row], &terms).await,
                Some(key) => {
                    let run = (key.clone(), row.lane.channel().cloned());
                    runs.entry(run).or_default().push(row);
                }
            }
        }
        for mut run in runs.into_values() {
            run.sort_unstable_by_key(|row| row.event.id);
            self.start_run(run, &terms).await;
        }
    }

    /// Rows of one key and lane, in order; or a single row.
    async fn start_run(&mut self, rows: Vec<Claimed>, terms: &Terms) {
        self.last_serial += 1;
        let (run, of) = (self.last_serial, rows.len());
        let mut items = Vec::with_capacity(of);
        for (at, row) in rows.into_iter().enumerate() {
            let place = Place { run, at, of };
            let place = (of > 1).then_some(place);
            items.extend(self.route(row, place, terms).await);
        }
        let mut started: Vec<&ChannelName> = Vec::with_capacity(1);
        for channel in items.iter().flat_map(|item| &item.channels) {
            if !started.contains(&channel) {
                started.push(channel);
                let its_own = |item: &&Arc<Item>| item.channels.contains(channel);
                let its_own = items.iter().filter(its_own).cloned().collect();
                self.start_channel(channel, its_own, terms.within_room)
                    .await;
            }
        }
    }

    /// `None` when the row is over before it has begun.
    async fn route(
        &mut self,
        row: Claimed,
        place: Option<Place>,
        terms: &Terms,
    ) -> Option<Arc<Item>> {
        self.last_serial += 1;
        let event_id = row.event.id;
        let mut item = Item {
            serial: self.last_serial,
            event: Arc::new(row.event),
            lane: row.lane,
            tenure: Arc::clone(&terms.tenure),
            attempts: row.attempts,
            takeovers: row.takeovers,
            claim: row.claim,
            began_at: row.began_at,
            channels: Vec::new(),
            behind: row.behind,
            is_put_off: row.takeovers >= SUSPICIOUS && terms.suspect != Some(event_id),
            place,
        };
        let part = match self.plan(&item) {
            Plan::Channels(channels) => {
                item.channels = channels;
                return Some(Arc::new(item));
            }
            Plan::NoRoute => {
                let (event_id, event_type) = (item.event.id, &item.event.event_type);
                tracing::info!(event_id, event_type, "no route, skipped");
                let message =
                    "no route matches the event's type, and its payload names no channels";
                Part::refused(None, ResultStatus::Skipped, 0, "no_route", message)
            }
            Plan::Malformed(reason) => {
                tracing::warn!(event_id = item.event.id, reason, "delivery given up");
                Part::refused(None, ResultStatus::Dead, 0, "channels", reason)
            }
        };
        self.report(&Arc::new(item), None, part).await;
        None
    }

    fn plan(&self, item: &Item) -> Plan {
        match &item.lane {
            Lane::Channel(channel) => Plan::Channels(vec![channel.clone()]),
            Lane::Unrouted => self.shared.router.plan(&item.event),
        }
    }

    /// The rows of a run that go through one channel.
    async fn start_channel(
        &self,
        channel: &ChannelName,
        mut items: Vec<Arc<Item>>,
        within_room: bool,
    ) {
        let Some(outlet) = self.shared.outlets.get(channel) else {
            for item in &items {
                let part = self.unknown_channel(item, channel);
                self.report(item, Some(channel), part).await;
            }
            return;
        };
        let has_to_wait = |item: &Arc<Item>| item.is_put_off || item.behind.contains(channel);
        let first_behind = items.iter().position(has_to_wait);
        let mut can_start = first_behind.unwrap_or(items.len());
        match items.first().map(|item| &item.lane) {
            // An attempt that has to be written down first needs a row of the channel's own.
            Some(Lane::Unrouted)
                if outlet.spec.on_ambiguous.needs_to_know()
                    || within_room && outlet.room(self.batch_size) == 0 =>
            {
                can_start = 0;
            }
            // Its rows are given out only while it is open.
            Some(Lane::Channel(_)) => outlet.set_closed(false),
            _ => {}
        }
        for item in items.drain(can_start..) {
            let part = if item.is_put_off {
                Part::put_off(&item, channel)
            } else {
                Part::given_back(&item, channel)
            };
            self.report(&item, Some(channel), part).await;
        }
        if !items.is_empty() {
            self.start_deliveries(items, Arc::clone(outlet));
        }
    }

    /// One after the other; when one is not over, those behind it have to wait.
    fn start_deliveries(&self, items: Vec<Arc<Item>>, outlet: Arc<Outlet>) {
        let (shared, finished) = (Arc::clone(&self.shared), self.finished.clone());
        let batch_size = self.batch_size;
        items.iter().for_each(|_| outlet.take());
        self.deliveries.spawn(async move {
            let mut is_open = true;
            for item in items {
                let part = if is_open {
                    deliver(&shared, &item, &outlet).await
                } else {
                    Part::given_back(&item, &outlet.spec.name)
                };
                is_open &= part.lets_the_next_go();
                let channel = Some(outlet.spec.name.clone());
                // The place is free once the outcome is in the queue: a full queue holds back
                // claims.
                let finished = finished.send(Finished {
                    item,
                    channel,
                    part,
                });
                if finished.await.is_err() {
                    tracing::error!("an outcome came after the last ones were written");
                }
                // Not each time: at full speed that would be a look for every delivery.
                if let Some(soon) = outlet.finish(batch_size) {
                    shared.alarm.set(Instant::now() + soon);
                }
            }
        });
    }

    async fn report(&self, item: &Arc<Item>, channel: Option<&ChannelName>, part: Part) {
        let (item, channel) = (Arc::clone(item), channel.cloned());
        let finished = self.finished.send(Finished {
            item,
            channel,
            part,
        });
        if finished.await.is_err() {
            tracing::error!("an outcome came after the last ones were written");
        }
    }

    fn unknown_channel(&self, item: &Item, channel: &ChannelName) -> Part {
        let known: Vec<&str> = self
            .shared
            .outlets
            .keys()
            .map(ChannelName::as_str)
            .collect();
        let known = match known.as_slice() {
            [] => "none".to_owned(),
            known => known.join(", "),
        };
        let message = format!("there is no channel `{channel}`; configured: {known}");
        tracing::warn!(event_id = item.event.id, %channel, "delivery given up: no such channel");
        Part::dead(
            &self.shared.router,
            item,
            channel,
            item.attempts,
            "unknown_channel",
            message,
        )
    }
}
