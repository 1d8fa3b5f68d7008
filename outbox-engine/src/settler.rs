//! Writes outcomes down: one queue, two writers, statements as large as what came together
//! while the last batches were written.

use crate::assembly::{Assembly, Finished};
use crate::health::Duty;
use crate::shared::Shared;
use crate::summary::Summary;
use crate::trouble::{Backoff, within};
use crate::waiting::Waiting;
use outbox_store::{Lane, Settlement, Wait, WorkerId};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::{self, JoinSet};
use tokio::time::MissedTickBehavior;

const BATCH: usize = 1_000;
/// So many statements are written at once, when there is enough for more than one, or when one
/// takes unusually long.
const WRITERS: usize = 2;
const LONG: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// Works until all senders are gone and everything is written, or the worker abandons it.
pub(crate) async fn settle_all(
    shared: Arc<Shared>,
    mut finished: mpsc::UnboundedReceiver<Finished>,
) {
    let (mut assembly, mut waiting) = (Assembly::default(), Waiting::default());
    let mut writers: JoinSet<Vec<u64>> = JoinSet::new();
    let mut begun: HashMap<task::Id, Instant> = HashMap::new();
    // One timer that stays: to make one anew for each outcome would wake who waits for timers.
    let mut looks = tokio::time::interval(LONG);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut incoming = Vec::with_capacity(BATCH);
    let mut is_open = true;
    while is_open || !waiting.ready.is_empty() || !writers.is_empty() {
        // What cannot be written stays in the queue of outcomes, and holds back claims.
        let is_reading = is_open && waiting.ready.len() < BATCH;
        tokio::select! {
            received = finished.recv_many(&mut incoming, BATCH), if is_reading => {
                is_open = received > 0;
            }
            Some(written) = writers.join_next_with_id() => match written {
                Ok((writer, sequences)) => {
                    begun.remove(&writer);
                    waiting.is_over(&sequences);
                }
                Err(error) => return tracing::error!(%error, "outcomes could not be written"),
            },
            () = sleep_until(assembly.next_split()) => {}
            _ = looks.tick(), if !writers.is_empty() => {}
        }
        let now = Instant::now();
        for finished in incoming.drain(..) {
            assembly.add(finished, now, &mut waiting.ready);
        }
        assembly.split(now, &mut waiting.ready);
        if !is_open && !assembly.is_empty() {
            tracing::error!("some deliveries ended without telling how");
            assembly.give_up(&mut waiting.ready);
        }
        let takes_long = begun.values().any(|begun| now >= *begun + LONG);
        while (writers.is_empty() || takes_long || waiting.ready.len() >= BATCH)
            && writers.len() < WRITERS
            && let Some(batch) = waiting.next_batch(BATCH)
        {
            let shared = Arc::clone(&shared);
            let writer = writers.spawn(async move {
                write(&shared, batch.tenure.worker, batch.rows).await;
                batch.sequences
            });
            begun.insert(writer.id(), now);
        }
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// What is written in one statement.
struct Statement {
    rows: Vec<Settlement>,
    /// An earlier try may have arrived, only its answer did not.
    is_repeated: bool,
    /// Without what providers said.
    is_plain: bool,
}

/// Writes a batch, again and again while the database is in trouble: an outcome that is not
/// written would be a message sent twice.
async fn write(shared: &Shared, worker: WorkerId, rows: Vec<Settlement>) {
    let mut backoff = Backoff::up_to(LONGEST_RETRY);
    let mut statements = vec![Statement {
        rows,
        is_repeated: false,
        is_plain: false,
    }];
    while let Some(mut statement) = statements.pop() {
        let settling = shared
            .store
            .settle(worker, &statement.rows, statement.is_repeated);
        let settling = within(shared.patience, settling);
        let settled = tokio::select! {
            biased;
            settled = settling => settled,
            () = shared.abandoning.cancelled() => {
                statements.push(statement);
                return abandon(shared, &statements);
            }
        };
        match settled {
            Ok(settled) => {
                shared.pulse.fine(Duty::Outcomes);
                shared.freed.add(settled.freed);
                account(shared, &statement, &settled.lost);
                backoff.reset();
            }
            // Something in it cannot be stored: find out what, and store the rest.
            Err(trouble) if !trouble.is_transient() && statement.rows.len() > 1 => {
                statements.extend(statement.in_halves());
            }
            Err(trouble) if !trouble.is_transient() && !statement.is_plain => {
                tracing::error!(
                    event_id = statement.rows[0].event_id,
                    error = trouble.sentence(),
                    "an outcome cannot be stored, trying without what the provider said"
                );
                statements.push(statement.in_plain_words());
            }
            Err(trouble) => {
                let (again_in, error) = (backoff.next(), trouble.sentence());
                tracing::warn!(
                    error,
                    rows = statement.rows.len(),
                    ?again_in,
                    "cannot write outcomes down, trying again"
                );
                shared.pulse.trouble(Duty::Outcomes, error);
                statement.is_repeated = true;
                statements.push(statement);
                tokio::select! {
                    biased;
                    () = shared.abandoning.cancelled() => return abandon(shared, &statements),
                    () = tokio::time::sleep(again_in) => {}
                }
            }
        }
    }
}

impl Statement {
    fn in_halves(mut self) -> [Self; 2] {
        let rows = self.rows.split_off(self.rows.len() / 2);
        [Self { rows, ..self }, self]
    }

    fn in_plain_words(mut self) -> Self {
        const CODE: &str = "unstorable";
        const MESSAGE: &str = "what was said about this attempt cannot be stored";
        for row in &mut self.rows {
            for outcome in &mut row.outcomes {
                outcome.provider_id = None;
                outcome.code = outcome.code.is_some().then(|| CODE.to_owned());
                outcome.message = outcome.message.is_some().then(|| MESSAGE.to_owned());
            }
            for failed in &mut row.failed {
                failed.code = CODE.to_owned();
                failed.message = MESSAGE.to_owned();
                failed.answer = None;
            }
        }
        self.is_plain = true;
        self
    }
}

fn account(shared: &Shared, statement: &Statement, lost: &[(i64, Lane)]) {
    for settlement in &statement.rows {
        let is_it = |(event_id, lane): &(i64, Lane)| {
            *event_id == settlement.event_id && *lane == settlement.lane
        };
        let is_lost = lost.iter().any(is_it);
        if is_lost && !statement.is_repeated {
            tracing::warn!(
                event_id = settlement.event_id, lane = ?settlement.lane,
                outcomes = ?settlement.outcomes.iter().map(|o| o.status.as_str()).collect::<Vec<_>>(),
                "the lease was lost before the outcome was written; whoever has the event now \
                 may send it again, with the same id"
            );
            continue;
        }
        if is_lost {
            tracing::info!(
                event_id = settlement.event_id, lane = ?settlement.lane,
                "the row is gone: the outcome was written by the try before, or the lease was lost"
            );
        }
        shared.counters.add(Summary::of(settlement));
    }
    shared.settled(&statement.rows);
}

fn abandon(shared: &Shared, statements: &[Statement]) {
    let rows: usize = statements
        .iter()
        .map(|statement| statement.rows.len())
        .sum();
    tracing::error!(
        rows,
        "stopped before these outcomes could be written; their messages may be sent twice, \
         with the same id"
    );
    for statement in statements {
        shared.settled(&statement.rows);
    }
}

impl Shared {
    fn settled(&self, rows: &[Settlement]) {
        let left = rows.iter().flat_map(|settlement| &settlement.left);
        // A split row has become as many rows as are kept.
        let kept = left.clone().filter(|left| left.keep).count();
        self.unsettled.fetch_add(kept, Ordering::Relaxed);
        self.unsettled.fetch_sub(rows.len(), Ordering::Relaxed);
        self.progress.notify_one();

        // Written rows of a key let the next ones go.
        let is_keyed = rows.iter().any(|settlement| settlement.is_keyed);
        let freed = is_keyed.then_some(Duration::ZERO);
        let waits = left
            .filter(|left| !left.keep)
            .filter_map(|left| match left.wait {
                Wait::Unchanged => Some(Duration::ZERO),
                Wait::For(wait) => Some(wait),
                Wait::Held => None,
            });
        if let Some(due) = waits
            .chain(freed)
            .min()
            .and_then(|wait| Instant::now().checked_add(wait))
        {
            self.alarm.set(due);
        }
    }
}

#[cfg(test)]
mod tests;
