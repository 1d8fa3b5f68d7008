//! The settle statement and its parameters: a column each, a row an element.

use super::{FailedAttempt, Left, Outcome, Settlement, Wait};
use crate::fault::{Step, around};
use crate::worker::WorkerId;
use outbox_channel::ChannelName;
use sqlx::postgres::PgExecutor;
use std::time::Duration;

/// More than anybody waits, and less than what PostgreSQL cannot add to a time any more: one
/// provider's absurd `Retry-After` must not fail a batch.
const LONGEST_WAIT: Duration = Duration::from_hours(24 * 365);

/// The statement's parameters: a column each, a row an element.
#[derive(Default)]
pub(super) struct Columns {
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
    pub(super) fn new(settlements: &[Settlement], is_repeated: bool) -> Self {
        let mut columns = Self {
            is_repeated,
            ..Self::default()
        };
        for settlement in settlements {
            columns.add(settlement);
        }
        columns
    }

    fn add(&mut self, settlement: &Settlement) {
        let lane = settlement.lane.as_str();
        self.done.0.push(settlement.event_id);
        self.done.1.push(lane.to_owned());
        self.done.2.push(settlement.claim.0);
        let moves = |left: &Left| settlement.lane.channel() != left.channel.as_ref();
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
        let channel = left.channel.as_ref().map(ChannelName::as_str);
        self.left_channel
            .push(channel.unwrap_or_default().to_owned());
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

/// A row that was the worker's and is gone.
pub(super) struct Removed {
    pub(super) event_id: i64,
    pub(super) channel: String,
    pub(super) key: Option<String>,
}

pub(super) async fn settle_columns(
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
