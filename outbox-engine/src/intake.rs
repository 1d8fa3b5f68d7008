//! From a claimed row to its deliveries.

mod load;
mod queue;
mod runners;

use crate::assembly::Finished;
use crate::large::{Unread, named_channels};
use crate::part::{Item, Part, Place};
use crate::router::{Plan, Router};
use crate::shared::Shared;
use outbox_channel::ChannelName;
use outbox_store::{Claimed, Lane, Leased, NamedChannels, ResultStatus, Wait};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use load::Terms;
use runners::Line;

pub(crate) use load::Load;

/// Begins deliveries, and has every one of them tell how it ended.
pub(crate) struct Intake {
    shared: Arc<Shared>,
    /// Without a bound of its own: it holds no more than the rows that are not settled, one entry
    /// for each of their channels, and of those there are only so many.
    finished: mpsc::UnboundedSender<Finished>,
    lines: BTreeMap<ChannelName, Arc<Line>>,
    deliveries: TaskTracker,
    batch_size: usize,
    last_serial: AtomicU64,
}

/// What becomes of a row first.
enum Fate {
    Goes(Plan),
    /// Back as it was, or only after a while.
    GoesBack(Wait),
    /// A dead letter: a code, and a sentence that says why.
    IsDead(&'static str, String),
    /// Somebody has deleted its event.
    IsGone,
}

impl Intake {
    pub(crate) fn new(
        shared: Arc<Shared>,
        finished: mpsc::UnboundedSender<Finished>,
        batch_size: usize,
    ) -> Self {
        let lines = shared.outlets.iter();
        let lines = lines.map(|(name, outlet)| (name.clone(), Arc::new(Line::new(outlet))));
        Self {
            lines: lines.collect(),
            shared,
            finished,
            deliveries: TaskTracker::new(),
            batch_size,
            last_serial: AtomicU64::new(0),
        }
    }

    /// Begins what arrives. Returns the deliveries that are under way then, to wait for.
    pub(crate) async fn run(self, mut arriving: mpsc::Receiver<Load>) -> TaskTracker {
        let intake = Arc::new(self);
        while let Some(load) = intake.next(&mut arriving).await {
            let (shared, count) = (&intake.shared, load.rows.len());
            let terms = load.terms();
            match load.read(shared).await {
                Some(rows) => {
                    let deleted = count - rows.len();
                    shared.unsettled.fetch_sub(deleted, Ordering::Relaxed);
                    intake.start(rows, &terms);
                }
                None => load
                    .rows
                    .iter()
                    .for_each(|row| intake.give_back(row, &terms)),
            }
            shared.in_hand.fetch_sub(count, Ordering::Relaxed);
            shared.progress.notify_one();
        }
        intake.let_go();
        intake.deliveries.close();
        intake.deliveries.clone()
    }

    /// Does not wait for the last load with what the end of the worker lets go: the claim that
    /// brings it may hang.
    async fn next(self: &Arc<Self>, arriving: &mut mpsc::Receiver<Load>) -> Option<Load> {
        tokio::select! {
            load = arriving.recv() => load,
            () = self.shared.stopping.cancelled() => {
                self.let_go();
                arriving.recv().await
            }
        }
    }

    fn start(self: &Arc<Self>, rows: Vec<Claimed>, terms: &Terms) {
        let (mut keyed, unkeyed): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| row.event.key.is_some());
        for row in unkeyed {
            self.start_in_time([row], terms);
        }
        keyed.sort_unstable_by(|one, other| {
            let runs = run_of(one).cmp(&run_of(other));
            runs.then(one.event.id.cmp(&other.event.id))
        });
        let mut keyed = keyed.into_iter().peekable();
        while let Some(first) = keyed.next() {
            let mut run = vec![first];
            while let Some(next) = keyed.next_if(|next| run_of(next) == run_of(&run[0])) {
                run.push(next);
            }
            self.start_in_time(run, terms);
        }
    }

    /// What could not be read. In its lane it holds back those behind it all the while.
    fn give_back(&self, row: &Leased, terms: &Terms) {
        let item = Arc::new(self.item(load::unread(row), None, terms));
        let part = match row.lane.channel() {
            Some(channel) => Part::given_back(&item, channel),
            None => Part::unrouted(&item, Wait::Unchanged),
        };
        self.report(&item, row.lane.channel(), part);
    }

    /// Rows of one key and lane, in order; or a single row. Where it has to be looked into a
    /// large payload first, nobody waits for that.
    fn start_in_time<I>(self: &Arc<Self>, rows: I, terms: &Terms)
    where
        I: IntoIterator<Item = Claimed, IntoIter: ExactSizeIterator>,
    {
        let (items, within_room) = (self.items(rows.into_iter(), terms), terms.within_room);
        if !items.iter().any(|item| self.has_to_look_into(item)) {
            return self.start_run(items, HashMap::new(), within_room);
        }
        let intake = Arc::clone(self);
        self.deliveries.spawn(async move {
            let looked = intake.look_into_all(&items).await;
            intake.start_run(items, looked, within_room);
        });
    }

    fn items(&self, rows: impl ExactSizeIterator<Item = Claimed>, terms: &Terms) -> Vec<Item> {
        let (run, of) = (self.next_serial(), rows.len());
        let item = |(at, row)| {
            let place = (of > 1).then_some(Place { run, at, of });
            self.item(row, place, terms)
        };
        rows.enumerate().map(item).collect()
    }

    /// Only the payload, which was left behind, says where the event goes.
    fn has_to_look_into(&self, item: &Item) -> bool {
        let is_unrouted = item.left_behind.is_some() && item.lane == Lane::Unrouted;
        is_unrouted && self.shared.router.looks_into(&item.event)
    }

    /// By serial, as far as it has to be known: those behind one that goes back have to wait for it.
    async fn look_into_all(&self, items: &[Item]) -> HashMap<u64, Fate> {
        let mut looked = HashMap::new();
        for item in items.iter().filter(|item| self.has_to_look_into(item)) {
            let fate = self.look_into(item).await;
            let goes_back = matches!(fate, Fate::GoesBack(_));
            looked.insert(item.serial, fate);
            if goes_back {
                break;
            }
        }
        looked
    }

    fn start_run(
        self: &Arc<Self>,
        items: Vec<Item>,
        mut looked: HashMap<u64, Fate>,
        within_room: bool,
    ) {
        let mut going = Vec::with_capacity(items.len());
        let mut goes_back = false;
        for item in items {
            let routed = || Fate::Goes(self.shared.router.plan(&item.event));
            let fate = match &item.lane {
                Lane::Unrouted if goes_back => Fate::GoesBack(Wait::Unchanged),
                Lane::Unrouted => looked.remove(&item.serial).unwrap_or_else(routed),
                Lane::Channel(channel) => Fate::Goes(Plan::Channels(vec![channel.clone()])),
            };
            goes_back |= matches!(fate, Fate::GoesBack(_));
            going.extend(self.follow(item, fate));
        }
        let mut started: Vec<&ChannelName> = Vec::with_capacity(1);
        for channel in going.iter().flat_map(|item| &item.channels) {
            if !started.contains(&channel) {
                started.push(channel);
                let its_own = |item: &&Arc<Item>| item.channels.contains(channel);
                let its_own = going.iter().filter(its_own).cloned().collect();
                self.start_channel(channel, its_own, within_room);
            }
        }
    }

    fn next_serial(&self) -> u64 {
        self.last_serial.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn item(&self, row: Claimed, place: Option<Place>, terms: &Terms) -> Item {
        let lease = row.lease;
        Item {
            serial: self.next_serial(),
            event: row.event,
            left_behind: row.left_behind,
            lane: lease.lane,
            tenure: Arc::clone(&terms.tenure),
            attempts: lease.attempts,
            takeovers: lease.takeovers,
            claim: lease.claim,
            began_at: lease.began_at,
            channels: Vec::new(),
            behind: lease.behind,
            is_put_off: terms.put_off(lease.event_id, lease.takeovers),
            place,
        }
    }

    async fn look_into(&self, item: &Item) -> Fate {
        match named_channels(&self.shared, item).await {
            Ok(NamedChannels::Named(named)) => Fate::Goes(Router::follow(Some(&named))),
            Ok(_) => Fate::Goes(Plan::NoRoute),
            Err(Unread::Hopeless(code, reason)) => Fate::IsDead(code, reason),
            Err(Unread::NotNow) => Fate::GoesBack(Wait::Unchanged),
            Err(Unread::Trouble) => Fate::GoesBack(Wait::For(Part::WHILE)),
            Err(Unread::Deleted) => Fate::IsGone,
        }
    }

    /// `None` when the row is over before it has begun.
    fn follow(&self, mut item: Item, fate: Fate) -> Option<Arc<Item>> {
        let part = match fate {
            Fate::Goes(Plan::Channels(channels)) => {
                item.channels = channels;
                return Some(Arc::new(item));
            }
            Fate::Goes(Plan::NoRoute) => {
                let (event_id, event_type) = (item.event.id, &item.event.event_type);
                tracing::info!(event_id, event_type, "no route, skipped");
                let message =
                    "no route matches the event's type, and its payload names no channels";
                Part::refused(None, ResultStatus::Skipped, 0, "no_route", message)
            }
            Fate::Goes(Plan::Malformed(reason)) => dead(&item, "channels", reason),
            Fate::IsDead(code, reason) => dead(&item, code, reason),
            Fate::GoesBack(wait) => Part::unrouted(&item, wait),
            Fate::IsGone => Part::default(),
        };
        self.report(&Arc::new(item), None, part);
        None
    }

    /// The rows of a run that go through one channel.
    fn start_channel(
        self: &Arc<Self>,
        channel: &ChannelName,
        mut items: Vec<Arc<Item>>,
        within_room: bool,
    ) {
        let Some(line) = self.lines.get(channel) else {
            for item in &items {
                let part = self.unknown_channel(item, channel);
                self.report(item, Some(channel), part);
            }
            return;
        };
        let outlet = &line.outlet;
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
            self.report(&item, Some(channel), part);
        }
        if !items.is_empty() {
            self.start_deliveries(items, line);
        }
    }

    fn report(&self, item: &Arc<Item>, channel: Option<&ChannelName>, part: Part) {
        let (item, channel) = (Arc::clone(item), channel.cloned());
        let finished = self.finished.send(Finished {
            item,
            channel,
            part,
        });
        if finished.is_err() {
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

/// Rows that have this in common are delivered one after the other.
fn run_of(row: &Claimed) -> (Option<&str>, Option<&ChannelName>) {
    (row.event.key.as_deref(), row.lease.lane.channel())
}

fn dead(item: &Item, code: &str, reason: String) -> Part {
    tracing::warn!(event_id = item.event.id, reason, "delivery given up");
    Part::refused(None, ResultStatus::Dead, 0, code, reason)
}
