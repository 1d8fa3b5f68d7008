//! Taking work, without ever walking the same dead rows twice.

use crate::error::StoreError;
use crate::store::Store;
use crate::worker::WorkerId;
use chrono::{DateTime, Utc};
use outbox_channel::{ChannelName, Event};
use serde_json::value::RawValue;
use sqlx::types::Json;
use std::collections::{BTreeMap, HashMap};
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

/// A leased row with its event.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// What it is about.
    pub lane: Lane,
    /// The event.
    pub event: Event,
    /// Attempts already spent.
    pub attempts: u32,
    /// How often a worker died, or lost its lease, while it had this row.
    pub takeovers: u32,
}

/// Claims for one worker and remembers, per lane and priority, how far it has come.
///
/// Most claims go on from there. A sweep from the start finds what lies behind: rows that
/// committed late, came due again, or lost their worker. It runs when a claim comes back short,
/// and now and then while claims come back full; never for more than a tenth of the time, since
/// it may have to walk over many dead rows while an old snapshot is open.
#[derive(Debug)]
pub struct Claimer {
    positions: HashMap<(String, i16), (DateTime<Utc>, i64)>,
    next_sweep: Instant,
    sweep_allowed: Instant,
    /// The last claim took all that it was to take from some lane.
    was_full: bool,
}

impl Default for Claimer {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            positions: HashMap::new(),
            next_sweep: now,
            sweep_allowed: now,
            was_full: false,
        }
    }
}

/// A row as the claim statements return it.
struct Row {
    event_id: i64,
    channel: String,
    priority: i16,
    due_at: DateTime<Utc>,
    attempt: i32,
    takeovers: i16,
    event_type: Option<String>,
    payload: Option<Json<Box<RawValue>>>,
    headers: Option<Json<Box<RawValue>>>,
    key: Option<String>,
    max_retries: Option<i32>,
    expires_at: Option<DateTime<Utc>>,
    created_at: Option<DateTime<Utc>>,
}

impl Claimer {
    /// While claims come back full, a sweep at least this often.
    const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
    /// A sweep that took a millisecond is not repeated within ten.
    const SWEEP_SHARE: u32 = 10;

    /// Leases due rows for `worker`, the urgent first, the oldest first among equals.
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
    ) -> Result<Vec<Claimed>, StoreError> {
        let mut channels: Vec<String> = Vec::with_capacity(wanted.len());
        let mut rooms: Vec<i32> = Vec::with_capacity(wanted.len());
        for Wanted { lane, room } in wanted.iter().filter(|wanted| wanted.room > 0) {
            channels.push(lane.as_str().to_owned());
            rooms.push(i32::try_from(*room).unwrap_or(i32::MAX));
        }
        if channels.is_empty() {
            return Ok(Vec::new());
        }

        let mut rows = Vec::new();
        let now = Instant::now();
        let goes_on = self.was_full && now < self.next_sweep;
        if !self.positions.is_empty() && (goes_on || now < self.sweep_allowed) {
            rows = self.claim_next(store, worker, &channels, &rooms).await?;
            for row in &rows {
                if let Some(at) = channels.iter().position(|channel| *channel == row.channel) {
                    rooms[at] -= 1;
                }
            }
        }
        self.was_full = rooms.iter().any(|room| *room <= 0);
        if !self.was_full && Instant::now() >= self.sweep_allowed {
            let swept = self.sweep(store, worker, &channels, &rooms).await?;
            self.was_full = is_full(&swept, &channels, &rooms);
            rows.extend(swept);
        }
        // The statements return them as they lie on the disk.
        rows.sort_unstable_by_key(|row| (row.priority, row.due_at, row.event_id));
        into_claimed(store, worker, rows).await
    }

    /// How long until the next sweep is allowed; zero when it is.
    #[must_use]
    pub fn sweep_due_in(&self) -> Duration {
        self.sweep_allowed.saturating_duration_since(Instant::now())
    }

    async fn sweep(
        &mut self,
        store: &Store,
        worker: WorkerId,
        channels: &[String],
        rooms: &[i32],
    ) -> Result<Vec<Row>, StoreError> {
        let begun = Instant::now();
        let rows = sqlx::query_file_as!(Row, "sql/claim_sweep.sql", worker.0, channels, rooms)
            .fetch_all(&store.pool)
            .await
            .map_err(StoreError::during("claim events"))?;
        let now = Instant::now();
        self.sweep_allowed = now + (now - begun) * Self::SWEEP_SHARE;
        self.next_sweep = self.sweep_allowed.max(now + Self::SWEEP_INTERVAL);
        for row in &rows {
            self.remember(row);
        }
        Ok(rows)
    }

    async fn claim_next(
        &mut self,
        store: &Store,
        worker: WorkerId,
        channels: &[String],
        rooms: &[i32],
    ) -> Result<Vec<Row>, StoreError> {
        let mut lanes: Vec<_> = self.positions.iter().collect();
        lanes.sort_unstable_by_key(|((_, priority), _)| *priority);
        let mut lane_channels = Vec::with_capacity(lanes.len());
        let mut lane_priorities = Vec::with_capacity(lanes.len());
        let mut due_times = Vec::with_capacity(lanes.len());
        let mut event_ids = Vec::with_capacity(lanes.len());
        for ((channel, priority), (due_at, event_id)) in lanes {
            lane_channels.push(channel.clone());
            lane_priorities.push(*priority);
            due_times.push(*due_at);
            event_ids.push(*event_id);
        }
        let rows = sqlx::query_file_as!(
            Row,
            "sql/claim_next.sql",
            worker.0,
            channels,
            rooms,
            &lane_channels,
            &lane_priorities,
            &due_times,
            &event_ids,
        )
        .fetch_all(&store.pool)
        .await
        .map_err(StoreError::during("claim events"))?;
        for row in &rows {
            self.remember(row);
        }
        Ok(rows)
    }

    /// A sweep may find rows far behind; they do not move the position back.
    fn remember(&mut self, row: &Row) {
        let reached = (row.due_at, row.event_id);
        let position = self
            .positions
            .entry((row.channel.clone(), row.priority))
            .or_insert(reached);
        *position = reached.max(*position);
    }
}

fn is_full(rows: &[Row], channels: &[String], rooms: &[i32]) -> bool {
    let taken = |channel: &String| rows.iter().filter(|row| row.channel == *channel).count();
    channels
        .iter()
        .zip(rooms)
        .any(|(channel, room)| i32::try_from(taken(channel)).is_ok_and(|taken| taken >= *room))
}

/// Splits off rows whose event was deleted, and forgets those.
async fn into_claimed(
    store: &Store,
    worker: WorkerId,
    rows: Vec<Row>,
) -> Result<Vec<Claimed>, StoreError> {
    let mut claimed = Vec::with_capacity(rows.len());
    let mut orphans: (Vec<i64>, Vec<String>) = Default::default();
    for row in rows {
        let (event_id, channel) = (row.event_id, row.channel.clone());
        match into_one(row) {
            Some(row) => claimed.push(row),
            None => {
                orphans.0.push(event_id);
                orphans.1.push(channel);
            }
        }
    }
    if !orphans.0.is_empty() {
        tracing::warn!(
            event_ids = ?orphans.0,
            "events were deleted from outbox_events before they were delivered"
        );
        sqlx::query_file!("sql/drop_orphans.sql", worker.0, &orphans.0, &orphans.1)
            .execute(&store.pool)
            .await
            .map_err(StoreError::during("forget deleted events"))?;
    }
    Ok(claimed)
}

/// `None` when there is no event, or a lane whose name nobody can have claimed for.
fn into_one(row: Row) -> Option<Claimed> {
    let lane = if row.channel.is_empty() {
        Lane::Unrouted
    } else {
        Lane::Channel(ChannelName::try_from(row.channel).ok()?)
    };
    let event = Event {
        id: row.event_id,
        event_type: row.event_type?,
        payload: row.payload?.0,
        headers: row
            .headers
            .map(|headers| text_pairs(&headers.0))
            .unwrap_or_default(),
        key: row.key,
        max_retries: row.max_retries.and_then(|n| u32::try_from(n).ok()),
        expires_at: row.expires_at,
        created_at: row.created_at?,
    };
    Some(Claimed {
        lane,
        event,
        attempts: row.attempt.unsigned_abs(),
        takeovers: row.takeovers.unsigned_abs().into(),
    })
}

/// Headers are text; what an application wrote as something else stands as its JSON.
fn text_pairs(headers: &RawValue) -> BTreeMap<String, String> {
    if headers.get() == "{}" {
        return BTreeMap::new();
    }
    let values: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(headers.get()).unwrap_or_default();
    let as_text = |value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    values
        .into_iter()
        .map(|(name, value)| (name, as_text(value)))
        .collect()
}

impl Store {
    /// How long until the earliest row of these lanes that is not due yet; `None` when nothing
    /// waits for a time. By the database's clock.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn next_due(&self, lanes: &[Lane]) -> Result<Option<Duration>, StoreError> {
        let lanes: Vec<String> = lanes.iter().map(|lane| lane.as_str().to_owned()).collect();
        let seconds = sqlx::query_file_scalar!("sql/next_due.sql", &lanes)
            .fetch_one(&self.pool)
            .await
            .map_err(StoreError::during("look when the next event is due"))?;
        Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
    }
}
