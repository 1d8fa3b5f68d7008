//! What an operator decides about single events: send again, do not send, it was sent.
//!
//! Row locks decide every race with a worker: a row is either the worker's, and then nobody else
//! settles it, or it is settled here, and then no worker has begun with it.

use crate::error::StoreError;
use crate::events::EventStatus;
use crate::fault::{Step, around};
use crate::settle::{ResultStatus, unblock};
use crate::store::Store;
use outbox_channel::ChannelName;
use serde::Serialize;
use sqlx::PgTransaction;
use std::collections::BTreeMap;
use std::time::Duration;

/// What became of an operator's wish for one event. Nothing in either list: there was nothing to
/// do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Operated {
    /// The event.
    pub event_id: i64,
    /// The channels for which it was done; empty for an event that is not routed yet.
    pub channels: Vec<String>,
    /// The channels for which it cannot be done now.
    pub in_flight: Vec<InFlight>,
}

/// A delivery that a worker has this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InFlight {
    /// The channel; empty for an event that is not routed yet.
    pub channel: String,
    /// The worker's name; `None` when the row kept changing while it was tried.
    pub worker: Option<String>,
}

/// Which deliveries of an event are to be made again.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    /// Only this channel's.
    pub channel: Option<ChannelName>,
    /// Only those that make an event's status this. `None`: all that were not delivered and
    /// might have been.
    pub status: Option<EventStatus>,
    /// Also those that were delivered. They keep their id, so a receiver that looks at it drops
    /// them.
    pub delivered: bool,
}

impl Replay {
    /// The results that become work again. What is suppressed never does.
    fn results(&self) -> Vec<&'static str> {
        let mut results = match self.status {
            None => vec!["dead", "cancelled", "expired", "skipped"],
            Some(EventStatus::Failed) => vec!["dead"],
            Some(EventStatus::Cancelled) => vec!["cancelled"],
            Some(EventStatus::Expired) => vec!["expired"],
            Some(EventStatus::Skipped) => vec!["skipped"],
            Some(EventStatus::Pending | EventStatus::Held | EventStatus::Processed) => Vec::new(),
        };
        if self.delivered {
            results.push(ResultStatus::Delivered.as_str());
        }
        results
    }

    fn is_for_held(&self) -> bool {
        matches!(self.status, None | Some(EventStatus::Held))
    }
}

/// How rows are settled by hand.
struct Verdict {
    status: ResultStatus,
    code: Option<&'static str>,
    /// Only what waits for a human.
    only_held: bool,
}

/// Events in one transaction.
const BATCH: usize = 500;

/// A row that is free and yet locked is being claimed or given back, which takes milliseconds.
const ROUNDS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(25);

type Rows = Vec<(i64, String)>;

impl Store {
    /// Takes back what no worker has: it will not be sent, and the next of its key may go. With a
    /// `channel`, only what goes through that one. Events that do not exist are not in the
    /// answer.
    ///
    /// What a worker has this moment is left alone and reported as in flight. A worker whose
    /// lease ran out counts as gone, as it does for other workers.
    ///
    /// # Errors
    /// When a statement fails; events of batches before may have been cancelled then, and the
    /// call may be repeated.
    pub async fn cancel(
        &self,
        event_ids: &[i64],
        channel: Option<&ChannelName>,
    ) -> Result<Vec<Operated>, StoreError> {
        let verdict = Verdict {
            status: ResultStatus::Cancelled,
            code: None,
            only_held: false,
        };
        self.settle_by_hand(event_ids, channel, &verdict)
            .await
            .map_err(StoreError::during("cancel events"))
    }

    /// Writes down that what is held was delivered, as a human has found out. It will not be sent
    /// again, and the next of its key may go. The result has the code `by_hand`.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub async fn confirm_delivered(
        &self,
        event_ids: &[i64],
        channel: Option<&ChannelName>,
    ) -> Result<Vec<Operated>, StoreError> {
        let verdict = Verdict {
            status: ResultStatus::Delivered,
            code: Some("by_hand"),
            only_held: true,
        };
        self.settle_by_hand(event_ids, channel, &verdict)
            .await
            .map_err(StoreError::during("write down that events were delivered"))
    }

    /// Puts to work again what was given up, cancelled, expired, skipped or is held: due now,
    /// with all its attempts before it and the same delivery id. Events that do not exist are not
    /// in the answer.
    ///
    /// Within its key, an event goes out before younger ones that still wait; it may come after
    /// others that were sent meanwhile.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub async fn replay(
        &self,
        event_ids: &[i64],
        replay: &Replay,
    ) -> Result<Vec<Operated>, StoreError> {
        let mut all = Vec::new();
        for batch in event_ids.chunks(BATCH) {
            let replayed = self.replay_batch(batch, replay).await;
            all.extend(replayed.map_err(StoreError::during("replay events"))?);
        }
        Ok(all)
    }

    async fn replay_batch(
        &self,
        event_ids: &[i64],
        replay: &Replay,
    ) -> Result<Vec<Operated>, sqlx::Error> {
        let mut transaction = around(Step::Begin, self.begin_planned()).await?;
        let lock = sqlx::query_file_scalar!("sql/lock_events.sql", event_ids);
        let known = around(Step::LockEvents, lock.fetch_all(&mut *transaction)).await?;
        let replay = sqlx::query_file!(
            "sql/replay.sql",
            &known,
            replay.channel.as_ref().map(ChannelName::as_str),
            &replay.results() as &[&str],
            replay.is_for_held(),
        );
        let replayed = around(Step::Replay, replay.fetch_all(&mut *transaction)).await?;
        wake_workers(&mut transaction).await?;
        around(Step::Commit, transaction.commit()).await?;
        let rows = replayed.into_iter().map(|row| (row.event_id, row.channel));
        Ok(operated(known, rows, Vec::new()))
    }

    async fn settle_by_hand(
        &self,
        event_ids: &[i64],
        channel: Option<&ChannelName>,
        verdict: &Verdict,
    ) -> Result<Vec<Operated>, sqlx::Error> {
        let mut all = Vec::new();
        for batch in event_ids.chunks(BATCH) {
            let mut settled = Rows::new();
            let mut round = 0;
            loop {
                round += 1;
                match self.settle_free(batch, channel, verdict).await {
                    Ok(rows) => settled.extend(rows),
                    Err(error) if is_deadlock(&error) && round < ROUNDS => continue,
                    Err(error) => return Err(error),
                }
                let (known, left) = self.undelivered(batch, channel, verdict).await?;
                let is_done = left.iter().all(|(_, row)| row.worker.is_some());
                if is_done || round == ROUNDS {
                    all.extend(operated(known, settled, left));
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(all)
    }

    /// Settles what can be had this moment.
    async fn settle_free(
        &self,
        event_ids: &[i64],
        channel: Option<&ChannelName>,
        verdict: &Verdict,
    ) -> Result<Rows, sqlx::Error> {
        let mut transaction = around(Step::Begin, self.begin_planned()).await?;
        let lock = sqlx::query_file!(
            "sql/lock_undelivered.sql",
            event_ids,
            channel.map(ChannelName::as_str),
            verdict.only_held,
        );
        let locked = around(Step::LockUndelivered, lock.fetch_all(&mut *transaction)).await?;
        let locked = locked.into_iter().map(|row| (row.event_id, row.channel));
        let (ids, lanes): (Vec<i64>, Vec<String>) = locked.unzip();
        let settle = sqlx::query_file!(
            "sql/settle_by_hand.sql",
            &ids,
            &lanes,
            verdict.status.as_str(),
            verdict.code,
        );
        let settled = around(Step::SettleByHand, settle.fetch_all(&mut *transaction)).await?;
        let keyed = settled
            .iter()
            .filter_map(|row| Some((row.channel.clone(), row.key.clone()?, row.event_id)));
        unblock(&mut *transaction, keyed).await?;
        wake_workers(&mut transaction).await?;
        around(Step::Commit, transaction.commit()).await?;
        let rows = settled.into_iter().map(|row| (row.event_id, row.channel));
        Ok(rows.collect())
    }

    /// Which of these events there are, and what is left of them.
    async fn undelivered(
        &self,
        event_ids: &[i64],
        channel: Option<&ChannelName>,
        verdict: &Verdict,
    ) -> Result<(Vec<i64>, Vec<(i64, InFlight)>), sqlx::Error> {
        let undelivered = sqlx::query_file!(
            "sql/undelivered.sql",
            event_ids,
            channel.map(ChannelName::as_str),
            verdict.only_held,
        );
        let rows = around(Step::Undelivered, undelivered.fetch_all(&self.pool)).await?;
        let known = rows.iter().map(|row| row.event_id).collect();
        let left = rows.into_iter().filter_map(|row| {
            let in_flight = InFlight {
                channel: row.channel?,
                worker: row.worker,
            };
            Some((row.event_id, in_flight))
        });
        Ok((known, left.collect()))
    }
}

/// A worker that settles others of the same keys waited for us, and we for it.
fn is_deadlock(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == "40P01")
}

/// What was done for each of the events that there are.
fn operated(
    known: Vec<i64>,
    done: impl IntoIterator<Item = (i64, String)>,
    left: Vec<(i64, InFlight)>,
) -> Vec<Operated> {
    let nothing_yet = |event_id| Operated {
        event_id,
        channels: Vec::new(),
        in_flight: Vec::new(),
    };
    let mut events: BTreeMap<i64, Operated> = known
        .into_iter()
        .map(|event_id| (event_id, nothing_yet(event_id)))
        .collect();
    for (event_id, channel) in done {
        let event = events.entry(event_id);
        event
            .or_insert_with(|| nothing_yet(event_id))
            .channels
            .push(channel);
    }
    for (event_id, row) in left {
        let event = events.entry(event_id);
        event
            .or_insert_with(|| nothing_yet(event_id))
            .in_flight
            .push(row);
    }
    events.into_values().collect()
}

/// There is something for workers that sleep.
pub(crate) async fn wake_workers(
    transaction: &mut PgTransaction<'static>,
) -> Result<(), sqlx::Error> {
    let wake = sqlx::query_file!("sql/wake_workers.sql");
    around(Step::WakeWorkers, wake.fetch_one(&mut **transaction))
        .await
        .map(drop)
}
