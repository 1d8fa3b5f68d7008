//! Writing down what became of leased rows, in batches.

mod columns;

use crate::claim::{ClaimId, Lane};
use crate::error::StoreError;
use crate::fault::{Step, around};
use crate::store::Store;
use crate::worker::WorkerId;
use columns::{Columns, settle_columns};
use outbox_channel::{ChannelName, ErrorClass};
use sqlx::postgres::PgExecutor;
use std::collections::BTreeMap;
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

/// What is left to do: a row for one channel, or for an event that is not routed yet.
#[derive(Debug, Clone)]
pub struct Left {
    /// The channel; `None` for what is not routed yet.
    pub channel: Option<ChannelName>,
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

/// What came of settling.
#[derive(Debug, Default)]
pub struct Written {
    /// Rows that the worker no longer held: their lease had run out and another worker took them,
    /// so nothing was written for them but their failed attempts.
    pub lost: Vec<(i64, Lane)>,
    /// Rows that waited for others of their key and are the first now: the next claim may
    /// [look at them](crate::Claimer::look_at).
    pub freed: Vec<(i64, Lane)>,
}

impl Store {
    /// Settles leased rows in one statement, all or none. `is_repeated` says that an earlier try
    /// may have been written, and only its answer was lost: its rows come back as no longer held.
    ///
    /// # Errors
    /// When the statement fails. Either all of it is written or nothing, which nobody knows when
    /// only the answer was lost; the call may be repeated.
    pub async fn settle(
        &self,
        worker: WorkerId,
        settlements: &[Settlement],
        is_repeated: bool,
    ) -> Result<Written, StoreError> {
        let mut columns = Columns::new(settlements, is_repeated);
        let mut notices = settle_columns(&self.pool, worker, &columns).await;
        if notices.as_ref().is_err_and(is_there_already) {
            columns.is_repeated = true;
            notices = settle_columns(&self.pool, worker, &columns).await;
        }
        let mut written = Written::default();
        for notice in notices.map_err(StoreError::during("settle deliveries"))? {
            // A lane whose name nobody can have claimed for is nobody's to know of.
            let Some(lane) = Lane::named(notice.channel) else {
                continue;
            };
            let rows = if notice.is_lost {
                &mut written.lost
            } else {
                &mut written.freed
            };
            rows.push((notice.event_id, lane));
        }
        Ok(written)
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
        self.pool
            .begin_with(include_str!("../sql/begin_planned.sql"))
            .await
    }
}

/// A result of the same event and channel: replaying takes them away, so only somebody who writes
/// to the tables by hand can have left one.
fn is_there_already(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

/// Lets the next row of each (lane, key) go, after these rows (lane, key, event) were removed.
pub(crate) async fn unblock(
    connection: impl PgExecutor<'_>,
    removed: impl Iterator<Item = (String, String, i64)>,
) -> Result<(), sqlx::Error> {
    let mut firsts = BTreeMap::new();
    for (lane, key, event_id) in removed {
        let first = firsts.entry((lane, key)).or_insert(event_id);
        *first = event_id.min(*first);
    }
    if firsts.is_empty() {
        return Ok(());
    }
    let (keys, firsts): (Vec<_>, Vec<i64>) = firsts.into_iter().unzip();
    let (lanes, keys): (Vec<String>, Vec<String>) = keys.into_iter().unzip();
    let unblock = sqlx::query_file!("sql/unblock.sql", &lanes, &keys, &firsts);
    around(Step::Unblock, unblock.fetch_all(connection))
        .await
        .map(drop)
}
