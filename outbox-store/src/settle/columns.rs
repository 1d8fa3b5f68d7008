//! The settle statement and its parameters: a column each, a row an element.

use super::{FailedAttempt, Left, Outcome, ResultStatus, Settlement, Wait};
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
pub(super) struct Columns<'a> {
    done: (Vec<i64>, Vec<&'a str>, Vec<i16>, Vec<bool>),
    pub(super) is_repeated: bool,
    delivered: (Vec<i64>, Vec<&'a str>, Vec<&'a str>, Vec<i32>),
    result_event: Vec<i64>,
    result_lane: Vec<&'a str>,
    result_channel: Vec<&'a str>,
    result_status: Vec<&'a str>,
    result_attempts: Vec<i32>,
    result_code: Vec<Option<&'a str>>,
    result_message: Vec<Option<&'a str>>,
    result_provider_id: Vec<Option<&'a str>>,
    result_fell_back_to: Vec<Option<&'a str>>,
    left_event: Vec<i64>,
    left_lane: Vec<&'a str>,
    left_channel: Vec<&'a str>,
    left_attempts: Vec<i32>,
    left_wait: Vec<Option<f64>>,
    left_keep: Vec<bool>,
    left_unknown: Vec<bool>,
    failed_event: Vec<i64>,
    failed_channel: Vec<&'a str>,
    failed_attempt: Vec<i32>,
    failed_duration: Vec<i32>,
    failed_class: Vec<&'a str>,
    failed_code: Vec<&'a str>,
    failed_message: Vec<&'a str>,
    failed_answer: Vec<Option<&'a str>>,
    failed_age: Vec<f64>,
}

impl<'a> Columns<'a> {
    pub(super) fn new(settlements: &'a [Settlement], is_repeated: bool) -> Self {
        let mut columns = Self {
            is_repeated,
            ..Self::default()
        };
        for settlement in settlements {
            columns.add(settlement);
        }
        let Self {
            done, delivered, ..
        } = &mut columns;
        one_for_all(&mut done.1);
        one_for_all(&mut done.2);
        one_for_all(&mut done.3);
        one_for_all(&mut delivered.1);
        one_for_all(&mut delivered.2);
        one_for_all(&mut delivered.3);
        columns
    }

    fn add(&mut self, settlement: &'a Settlement) {
        let lane = settlement.lane.as_str();
        self.done.0.push(settlement.event_id);
        self.done.1.push(lane);
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

    fn add_outcome(&mut self, event_id: i64, lane: &'a str, outcome: &'a Outcome) {
        let channel = outcome.channel.as_ref().map_or("", ChannelName::as_str);
        if is_plain(outcome) {
            self.delivered.0.push(event_id);
            self.delivered.1.push(lane);
            self.delivered.2.push(channel);
            self.delivered.3.push(to_int(outcome.attempts));
            return;
        }
        self.result_event.push(event_id);
        self.result_lane.push(lane);
        self.result_channel.push(channel);
        self.result_status.push(outcome.status.as_str());
        self.result_attempts.push(to_int(outcome.attempts));
        self.result_code.push(outcome.code.as_deref());
        self.result_message.push(outcome.message.as_deref());
        self.result_provider_id.push(outcome.provider_id.as_deref());
        self.result_fell_back_to
            .push(outcome.fell_back_to.as_ref().map(ChannelName::as_str));
    }

    fn add_left(&mut self, event_id: i64, lane: &'a str, left: &'a Left) {
        self.left_event.push(event_id);
        self.left_lane.push(lane);
        self.left_channel
            .push(left.channel.as_ref().map_or("", ChannelName::as_str));
        self.left_attempts.push(to_int(left.attempts));
        self.left_wait.push(match left.wait {
            Wait::Unchanged => None,
            Wait::For(wait) => Some(wait.min(LONGEST_WAIT).as_secs_f64()),
            Wait::Held => Some(f64::INFINITY),
        });
        self.left_keep.push(left.keep);
        self.left_unknown.push(left.unknown);
    }

    fn add_failed(&mut self, event_id: i64, failed: &'a FailedAttempt) {
        self.failed_event.push(event_id);
        self.failed_channel.push(failed.channel.as_str());
        self.failed_attempt.push(to_int(failed.attempt));
        let millis = failed.duration.as_millis();
        self.failed_duration
            .push(i32::try_from(millis).unwrap_or(i32::MAX));
        self.failed_class.push(failed.class.as_str());
        self.failed_code.push(&failed.code);
        self.failed_message.push(&failed.message);
        self.failed_answer.push(failed.answer.as_deref());
        self.failed_age
            .push(failed.finished.elapsed().as_secs_f64());
    }
}

/// A column of which all rows have the same says it once, and the statement understands.
fn one_for_all<T: PartialEq>(column: &mut Vec<T>) {
    if column.iter().all(|value| *value == column[0]) {
        column.truncate(1);
    }
}

/// Delivered, and nothing more to say, as nearly all are: a column less to send and take apart for
/// each thing that is not said.
fn is_plain(outcome: &Outcome) -> bool {
    let Outcome {
        channel: _,
        status,
        attempts: _,
        code,
        message,
        provider_id,
        fell_back_to,
    } = outcome;
    *status == ResultStatus::Delivered
        && [code, message, provider_id]
            .iter()
            .all(|said| said.is_none())
        && fell_back_to.is_none()
}

fn to_int(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// A row that was not the worker's any more, or one that may go now.
pub(super) struct Notice {
    pub(super) is_lost: bool,
    pub(super) event_id: i64,
    pub(super) channel: String,
}

pub(super) async fn settle_columns(
    connection: impl PgExecutor<'_>,
    worker: WorkerId,
    c: &Columns<'_>,
) -> Result<Vec<Notice>, sqlx::Error> {
    let settle = sqlx::query_file_as!(
        Notice,
        "sql/settle.sql",
        worker.0,
        &c.done.0,
        &c.done.1 as &[&str],
        &c.done.2,
        &c.done.3,
        c.is_repeated,
        &c.delivered.0,
        &c.delivered.1 as &[&str],
        &c.delivered.2 as &[&str],
        &c.delivered.3,
        &c.result_event,
        &c.result_lane as &[&str],
        &c.result_channel as &[&str],
        &c.result_status as &[&str],
        &c.result_attempts,
        &c.result_code as &[Option<&str>],
        &c.result_message as &[Option<&str>],
        &c.result_provider_id as &[Option<&str>],
        &c.result_fell_back_to as &[Option<&str>],
        &c.left_event,
        &c.left_lane as &[&str],
        &c.left_channel as &[&str],
        &c.left_attempts,
        &c.left_wait as &[Option<f64>],
        &c.left_keep,
        &c.left_unknown,
        &c.failed_event,
        &c.failed_channel as &[&str],
        &c.failed_attempt,
        &c.failed_duration,
        &c.failed_class as &[&str],
        &c.failed_code as &[&str],
        &c.failed_message as &[&str],
        &c.failed_answer as &[Option<&str>],
        &c.failed_age,
    );
    around(Step::Settle, settle.fetch_all(connection)).await
}
