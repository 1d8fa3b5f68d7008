//! Writing down what became of leased rows, in batches.

use crate::claim::{ClaimId, Lane};
use crate::error::StoreError;
use crate::fault::{Step, around};
use crate::store::Store;
use crate::worker::WorkerId;
use outbox_channel::{ChannelName, ErrorClass};
use sqlx::postgres::PgExecutor;
use std::time::{Duration, Instant};

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResultStatus {
    /// The provider took it.
    Delivered,
    /// Given up: a dead letter.
    Dead,
    /// An operator took it back.
    Cancelled,
    /// Its `expires_at` passed.
    Expired,
    /// No route.
    Skipped,
    /// The recipient must not get it.
    Suppressed,
}

impl ResultStatus {
    /// As stored in `outbox_deliveries.status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Skipped => "skipped",
            Self::Suppressed => "suppressed",
        }
    }
}

/// One final result.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The channel; `None` for an event without a route.
    pub channel: Option<ChannelName>,
    /// How it ended.
    pub status: ResultStatus,
    /// Attempts made, the last one included.
    pub attempts: u32,
    /// What to group by, for what was not delivered.
    pub code: Option<String>,
    /// Why, for what was not delivered.
    pub message: Option<String>,
    /// The provider's name for the message.
    pub provider_id: Option<String>,
    /// The channel that is tried instead.
    pub fell_back_to: Option<ChannelName>,
}

/// When a row is due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wait {
    /// As it was before.
    Unchanged,
    /// So long from now, by the database's clock.
    For(Duration),
    /// Never by itself: a human has to look.
    Held,
}

/// What is left to do: a row for one channel.
#[derive(Debug, Clone)]
pub struct Left {
    /// The channel.
    pub channel: ChannelName,
    /// Attempts spent.
    pub attempts: u32,
    /// When it is due.
    pub wait: Wait,
    /// This worker goes on with it: the new row is leased like the old one.
    pub keep: bool,
    /// Nobody knows whether the last attempt was delivered: it has to be found out, or decided,
    /// before the next.
    pub unknown: bool,
}

/// An attempt that did not succeed.
#[derive(Debug, Clone)]
pub struct FailedAttempt {
    /// Through which channel.
    pub channel: ChannelName,
    /// Which try it was, from 1.
    pub attempt: u32,
    /// How long it took.
    pub duration: Duration,
    /// When it ended.
    pub finished: Instant,
    /// What may be done next.
    pub class: ErrorClass,
    /// What to group by.
    pub code: String,
    /// Why, in a sentence.
    pub message: String,
    /// An excerpt of what the provider answered.
    pub answer: Option<String>,
}

/// What became of one leased row.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The event.
    pub event_id: i64,
    /// The row's lane.
    pub lane: Lane,
    /// By which claim it is leased.
    pub claim: ClaimId,
    /// Whether the event has a key: then the next of the key has to be let go.
    pub is_keyed: bool,
    /// What is final.
    pub outcomes: Vec<Outcome>,
    /// What is left to do.
    pub left: Vec<Left>,
    /// What failed on the way.
    pub failed: Vec<FailedAttempt>,
}

/// More than anybody waits, and less than what PostgreSQL cannot add to a time any more: one
/// provider's absurd `Retry-After` must not fail a batch.
const LONGEST_WAIT: Duration = Duration::from_hours(24 * 365);

/// The statement's parameters: a column each, a row an element.
#[derive(Default)]
struct Columns {
    done: (Vec<i64>, Vec<String>, Vec<i16>, Vec<bool>),
    is_repeated: bool,
    result_event: Vec<i64>,
    result_lane: Vec<String>,
    result_channel: Vec<String>,
    result_status: Vec<String>,
    result_attempts: Vec<i32>,
    result_code: Vec<Option<String>>,
    result_message: Vec<Option<String>>,
    result_provider_id: Vec<Option<String>>,
    result_fell_back_to: Vec<Option<String>>,
    left_event: Vec<i64>,
    left_lane: Vec<String>,
    left_channel: Vec<String>,
    left_attempts: Vec<i32>,
    left_wait: Vec<Option<f64>>,
    left_keep: Vec<bool>,
    left_unknown: Vec<bool>,
    failed_event: Vec<i64>,
    failed_channel: Vec<String>,
    failed_attempt: Vec<i32>,
    failed_duration: Vec<i32>,
    failed_class: Vec<String>,
    failed_code: Vec<String>,
    failed_message: Vec<String>,
    failed_answer: Vec<Option<String>>,
    failed_age: Vec<f64>,
}

impl Columns {
    fn add(&mut self, settlement: &Settlement) {
        let lane = settlement.lane.as_str();
        self.done.0.push(settlement.event_id);
        self.done.1.push(lane.to_owned());
        self.done.2.push(settlement.claim.0);
        let moves = |left: &Left| settlement.lane.channel() != Some(&left.channel);
        self.done.3.push(settlement.left.iter().any(moves));
        for outcome in &settlement.outcomes {
            self.add_outcome(settlement.event_id, lane, outcome);
        }
        for left in &settlement.left {
            self.add_left(settlement.event_id, lane, left);
        }
        for failed in &settlement.failed {
            self.add_failed(settlement.event_id, failed);
        }
    }

    fn add_outcome(&mut self, event_id: i64, lane: &str, outcome: &Outcome) {
        let name = |channel: &ChannelName| channel.as_str().to_owned();
        self.result_event.push(event_id);
        self.result_lane.push(lane.to_owned());
        self.result_channel
            .push(outcome.channel.as_ref().map(name).unwrap_or_default());
        self.result_status.push(outcome.status.as_str().to_owned());
        self.result_attempts.push(to_int(outcome.attempts));
        self.result_code.push(outcome.code.clone());
        self.result_message.push(outcome.message.clone());
        self.result_provider_id.push(outcome.provider_id.clone());
        self.result_fell_back_to
            .push(outcome.fell_back_to.as_ref().map(name));
    }

    fn add_left(&mut self, event_id: i64, lane: &str, left: &Left) {
        self.left_event.push(event_id);
        self.left_lane.push(lane.to_owned());
        self.left_channel.push(left.channel.as_str().to_owned());
        self.left_attempts.push(to_int(left.attempts));
        self.left_wait.push(match left.wait {
            Wait::Unchanged => None,
            Wait::For(wait) => Some(wait.min(LONGEST_WAIT).as_secs_f64()),
            Wait::Held => Some(f64::INFINITY),
        });
        self.left_keep.push(left.keep);
        self.left_unknown.push(left.unknown);
    }

    fn add_failed(&mut self, event_id: i64, failed: &FailedAttempt) {
        self.failed_event.push(event_id);
        self.failed_channel.push(failed.channel.as_str().to_owned());
        self.failed_attempt.push(to_int(failed.attempt));
        let millis = failed.duration.as_millis();
        self.failed_duration
            .push(i32::try_from(millis).unwrap_or(i32::MAX));
        self.failed_class.push(failed.class.as_str().to_owned());
        self.failed_code.push(failed.code.clone());
        self.failed_message.push(failed.message.clone());
        self.failed_answer.push(failed.answer.clone());
        self.failed_age
            .push(failed.finished.elapsed().as_secs_f64());
    }
}

fn to_int(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

impl Store {
    /// Settles leased rows in one statement, all or none, and returns the rows that the worker
    /// no longer held: their lease had run out and another worker took them, so nothing was
    /// written for them but their failed attempts. `is_repeated` says that an earlier try may have
    /// been written, and only its answer was lost: its rows come back as no longer held.
    ///
    /// # Errors
    /// When the statement fails; nothing is written then, and the call may be repeated.
    pub async fn settle(
        &self,
        worker: WorkerId,
        settlements: &[Settlement],
        is_repeated: bool,
    ) -> Result<Vec<(i64, Lane)>, StoreError> {
        let mut columns = Columns {
            is_repeated,
            ..Columns::default()
        };
        for settlement in settlements {
            columns.add(settlement);
        }
        let during = StoreError::during("settle deliveries");
        let removed = if settlements.iter().any(|settlement| settlement.is_keyed) {
            self.settle_in_order(worker, &columns).await
        } else {
            settle_columns(&self.pool, worker, &columns).await
        };
        let removed: Vec<_> = removed
            .map_err(during)?
            .into_iter()
            .map(|row| (row.event_id, row.channel))
            .collect();
        if removed.len() == settlements.len() {
            return Ok(Vec::new());
        }
        let removed: std::collections::HashSet<_> = removed.into_iter().collect();
        Ok(settlements
            .iter()
            .map(|settlement| (settlement.event_id, settlement.lane.clone()))
            .filter(|(id, lane)| !removed.contains(&(*id, lane.as_str().to_owned())))
            .collect())
    }

    /// Also lets the next row of each key go, in the same transaction.
    async fn settle_in_order(
        &self,
        worker: WorkerId,
        columns: &Columns,
    ) -> Result<Vec<Removed>, sqlx::Error> {
        let mut transaction = self.begin_read_committed().await?;
        let removed = settle_columns(&mut *transaction, worker, columns).await?;
        let keys = removed
            .iter()
            .filter_map(|row| Some((row.channel.clone(), row.key.clone()?)));
        unblock(&mut *transaction, keys).await?;
        around(Step::Commit, transaction.commit()).await?;
        Ok(removed)
    }

    /// Each statement must see what the one before it waited for, whatever the role's default
    /// isolation is.
    pub(crate) async fn begin_read_committed(
        &self,
    ) -> Result<sqlx::PgTransaction<'static>, sqlx::Error> {
        let begin = self.pool.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED");
        around(Step::Begin, begin).await
    }

    /// As [`begin_read_committed`](Self::begin_read_committed), for statements whose best plan
    /// depends on what is asked.
    pub(crate) async fn begin_planned(&self) -> Result<sqlx::PgTransaction<'static>, sqlx::Error> {
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED;
                     SET LOCAL plan_cache_mode = force_custom_plan;
                     SET LOCAL enable_seqscan = on;
                     SET LOCAL enable_bitmapscan = on";
        self.pool.begin_with(begin).await
    }
}

/// Lets the next row of each (lane, key) go, after the first has been removed.
pub(crate) async fn unblock(
    connection: impl PgExecutor<'_>,
    keys: impl Iterator<Item = (String, String)>,
) -> Result<(), sqlx::Error> {
    let keys: std::collections::BTreeSet<_> = keys.collect();
    if keys.is_empty() {
        return Ok(());
    }
    let (lanes, keys): (Vec<String>, Vec<String>) = keys.into_iter().unzip();
    let unblock = sqlx::query_file!("sql/unblock.sql", &lanes, &keys);
    around(Step::Unblock, unblock.execute(connection))
        .await
        .map(drop)
}

/// A row that was the worker's and is gone.
struct Removed {
    event_id: i64,
    channel: String,
    key: Option<String>,
}

async fn settle_columns(
    connection: impl PgExecutor<'_>,
    worker: WorkerId,
    c: &Columns,
) -> Result<Vec<Removed>, sqlx::Error> {
    let settle = sqlx::query_file_as!(
        Removed,
        "sql/settle.sql",
        worker.0,
        &c.done.0,
        &c.done.1,
        &c.done.2,
        &c.done.3,
        c.is_repeated,
        &c.result_event,
        &c.result_lane,
        &c.result_channel,
        &c.result_status,
        &c.result_attempts,
        &c.result_code as &[Option<String>],
        &c.result_message as &[Option<String>],
        &c.result_provider_id as &[Option<String>],
        &c.result_fell_back_to as &[Option<String>],
        &c.left_event,
        &c.left_lane,
        &c.left_channel,
        &c.left_attempts,
        &c.left_wait as &[Option<f64>],
        &c.left_keep,
        &c.left_unknown,
        &c.failed_event,
        &c.failed_channel,
        &c.failed_attempt,
        &c.failed_duration,
        &c.failed_class,
        &c.failed_code,
        &c.failed_message,
        &c.failed_answer as &[Option<String>],
        &c.failed_age,
    );
    around(Step::Settle, settle.fetch_all(connection)).await
}
