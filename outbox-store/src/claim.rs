//! Taking work, without ever walking the same dead rows twice.

mod answer;
mod facts;
mod lanes;
mod leased;
mod run;

use crate::error::StoreError;
use crate::fault::{Step, around};
use crate::store::Store;
use crate::worker::WorkerId;
use answer::{Answer, Row};
use chrono::{DateTime, Utc};
use lanes::Lanes;
use outbox_channel::{ChannelName, Event};
use run::Run;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a queue row is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Lane {
    /// An event that has not been routed: all its channels are still to come.
    Unrouted,
    /// One channel of an event.
    Channel(ChannelName),
}

impl Lane {
    /// The channel, of a row that is about one.
    #[must_use]
    pub fn channel(&self) -> Option<&ChannelName> {
        match self {
            Self::Unrouted => None,
            Self::Channel(name) => Some(name),
        }
    }

    /// `None` when no channel can have that name.
    pub(crate) fn named(name: String) -> Option<Self> {
        if name.is_empty() {
            return Some(Self::Unrouted);
        }
        ChannelName::try_from(name).ok().map(Self::Channel)
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Unrouted => "",
            Self::Channel(name) => name.as_str(),
        }
    }
}

/// How many rows to take from a lane.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The lane.
    pub lane: Lane,
    /// At most this many; a claim takes no more than 1,000 over all lanes.
    pub room: usize,
}

/// Tells the claims of a row from each other: what one worker writes about a row under an earlier
/// claim, because the answer of the first try was lost, must not touch the row that it has claimed
/// again since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimId(pub(crate) i16);

impl ClaimId {
    /// That of a row which has never been claimed before.
    pub const FIRST: Self = Self(1);
}

/// A leased row.
#[derive(Debug, Clone)]
pub struct Leased {
    /// The event.
    pub event_id: i64,
    /// What it is about.
    pub lane: Lane,
    /// Rows with the same key have the same hash of it, and those with another key nearly always
    /// another. `None`: the event has no key.
    pub key_hash: Option<i64>,
    /// Attempts already spent.
    pub attempts: u32,
    /// How often a worker died, or lost its lease, while it had this row.
    pub takeovers: u32,
    /// Tells this claim of the row from those before and after it.
    pub claim: ClaimId,
    /// An attempt began then, by the database's clock, and nobody knows its outcome.
    pub began_at: Option<DateTime<Utc>>,
    /// Of an unrouted row: channels that an earlier event of the same key still waits for.
    pub behind: Vec<ChannelName>,
}

/// A leased row with its event.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The row.
    pub lease: Leased,
    /// The event.
    pub event: Arc<Event>,
    /// The event's payload and headers are large, about so many bytes, and were left behind: see
    /// [`Store::contents`]. Here the payload is `null`, and there are no headers.
    pub left_behind: Option<u64>,
}

/// Claims for one worker and remembers, per lane and priority, how far it has come.
///
/// Most claims go on from there. A sweep from the start finds what lies behind: rows that
/// committed late, came due again, or lost their worker. It runs when a claim comes back short,
/// and now and then while claims come back full; never for more than a tenth of the time, since
/// it may have to walk over many dead rows while an old snapshot is open.
#[derive(Debug)]
pub struct Claimer {
    positions: HashMap<(Lane, i16), (DateTime<Utc>, i64)>,
    next_sweep: Instant,
    sweep_allowed: Instant,
    /// The last claim took all that it was to take from some lane.
    was_full: bool,
    /// It had no room to look further.
    was_cut: bool,
    /// What the next is to take of one key.
    run: Run,
    /// Where the next looks first.
    freed: Vec<(i64, Lane)>,
}

impl Default for Claimer {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            positions: HashMap::new(),
            next_sweep: now,
            sweep_allowed: now,
            was_full: false,
            was_cut: false,
            run: Run::default(),
            freed: Vec::new(),
        }
    }
}

impl Claimer {
    /// While claims come back full, a sweep at least this often.
    const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
    /// A sweep that took a millisecond is not repeated within ten.
    const SWEEP_SHARE: u32 = 10;
    /// But for this: a server that has just restarted, or a disk that is busy for a moment, must
    /// not keep what lies behind from being found for minutes.
    const LONGEST_PAUSE: Duration = Duration::from_secs(5);
    /// What is freed beyond this is for a sweep to find.
    const LOOKED_AT: usize = 1_000;

    /// Leases due rows for `worker`, the urgent first, the oldest first among equals; of a key,
    /// the first row of a lane and those right behind it. `wanted` names all lanes of the
    /// worker, also those without room.
    ///
    /// Fewer than wanted does not prove that nothing else is due: a sweep may have been put off
    /// (see [`sweep_due_in`](Self::sweep_due_in)), and others may be claiming.
    ///
    /// # Errors
    /// When a statement fails. Rows leased by a statement whose answer was lost come back when
    /// the worker's lease ends.
    pub async fn claim(
        &mut self,
        store: &Store,
        worker: WorkerId,
        wanted: &[Wanted],
    ) -> Result<Vec<Leased>, StoreError> {
        let mut lanes = Lanes::new(wanted);
        let room = wanted.iter().map(|wanted| wanted.room).max();
        if lanes.channels.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = Found::default();
        let now = Instant::now();
        let goes_on = self.was_full && now < self.next_sweep;
        if !self.positions.is_empty() && (goes_on || now < self.sweep_allowed) {
            found = self.claim_rows(store, worker, &lanes, false).await?;
            lanes.take(&found.rows);
        }
        if !lanes.is_full() && Instant::now() >= self.sweep_allowed {
            let begun = Instant::now();
            let swept = self.claim_rows(store, worker, &lanes, true).await?;
            let now = Instant::now();
            let pause = (now - begun) * Self::SWEEP_SHARE;
            self.sweep_allowed = now + pause.min(Self::LONGEST_PAUSE);
            self.next_sweep = self.sweep_allowed.max(now + Self::SWEEP_INTERVAL);
            lanes.take(&swept.rows);
            found.add(swept);
        }
        let Found {
            mut rows,
            has_blocked,
            was_cut,
        } = found;
        self.was_full = lanes.is_full();
        self.was_cut = was_cut;
        let room = room.unwrap_or_default().min(1_000);
        self.run = self.run.after(room, &rows, has_blocked);
        // The statements return them as they lie on the disk.
        rows.sort_unstable_by_key(|row| (row.priority, row.due_at, row.leased.event_id));
        Ok(rows.into_iter().map(|row| row.leased).collect())
    }

    /// The next claim looks at these rows first, which were blocked and are not any more: they lie
    /// behind the position that claims have reached, where only a sweep would find them.
    pub fn look_at(&mut self, freed: impl IntoIterator<Item = (i64, Lane)>) {
        self.freed.extend(freed);
        self.freed.truncate(Self::LOOKED_AT);
    }

    /// Whether the last claim, however little it brought, had no room to look further: rows that
    /// wait for another of their key took it up. They are out of the way now, and there may be
    /// more behind them.
    #[must_use]
    pub fn was_cut(&self) -> bool {
        self.was_cut
    }

    /// How long until the next sweep is allowed; zero when it is.
    #[must_use]
    pub fn sweep_due_in(&self) -> Duration {
        self.sweep_allowed.saturating_duration_since(Instant::now())
    }

    /// One statement: a sweep, or on from where the last claim ended.
    async fn claim_rows(
        &mut self,
        store: &Store,
        worker: WorkerId,
        lanes: &Lanes,
        is_sweep: bool,
    ) -> Result<Found, StoreError> {
        let mut positions: Vec<_> = self.positions.iter().collect();
        positions.sort_unstable_by_key(|((_, priority), _)| *priority);
        let mut columns = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for ((lane, priority), (due_at, event_id)) in positions {
            columns.0.push(lane.as_str());
            columns.1.push(*priority);
            columns.2.push(*due_at);
            columns.3.push(*event_id);
        }
        let has_room = |lane: &Lane| lanes.channels.iter().any(|name| name == lane.as_str());
        let freed: Vec<_> = self
            .freed
            .extract_if(.., |(_, lane)| has_room(lane))
            .collect();
        let (freed_ids, freed_lanes): (Vec<i64>, Vec<&str>) =
            freed.iter().map(|(id, lane)| (*id, lane.as_str())).unzip();
        let claim = sqlx::query_file_as!(
            Answer,
            "sql/claim.sql",
            worker.0,
            &lanes.channels,
            &lanes.rooms,
            is_sweep,
            &columns.0 as &[&str],
            &columns.1,
            &columns.2,
            &columns.3,
            &lanes.all,
            self.run.length(),
            &freed_ids,
            &freed_lanes as &[&str],
        );
        let answers = around(Step::Claim, claim.fetch_all(&store.pool))
            .await
            .map_err(StoreError::during("claim events"))?;
        let mut found = Found::default();
        if let Some(first) = answers.first() {
            found.has_blocked = first.has_blocked == Some(true);
            // One that changed nothing would find the same again.
            found.was_cut =
                first.is_cut == Some(true) && (found.has_blocked || first.event_id.is_some());
        }
        found.rows = answers.into_iter().filter_map(Answer::into_row).collect();
        self.remember(&found.rows, &freed_ids);
        Ok(found)
    }

    /// A sweep may find rows far behind; they do not move the position back.
    fn remember(&mut self, rows: &[Row], freed: &[i64]) {
        for row in self.run.met(rows) {
            // That one was looked for, wherever it is.
            if !freed.contains(&row.leased.event_id) {
                self.reach(row);
            }
        }
    }

    fn reach(&mut self, row: &Row) {
        let reached = (row.due_at, row.leased.event_id);
        let position = self
            .positions
            .entry((row.leased.lane.clone(), row.priority))
            .or_insert(reached);
        *position = reached.max(*position);
    }
}

/// What a claim came to.
#[derive(Default)]
struct Found {
    /// What was leased.
    rows: Vec<Row>,
    /// Some have to wait for another of their key.
    has_blocked: bool,
    /// There was no room to look further.
    was_cut: bool,
}

impl Found {
    fn add(&mut self, more: Self) {
        self.rows.extend(more.rows);
        self.has_blocked |= more.has_blocked;
        self.was_cut |= more.was_cut;
    }
}
