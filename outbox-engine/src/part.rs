//! A leased row at work, and what each of its deliveries adds to its settlement.

use crate::lease::Tenure;
use crate::router::Router;
use chrono::{DateTime, Utc};
use outbox_channel::{ChannelName, Event, Receipt};
use outbox_store::{FailedAttempt, Lane, Left, Outcome, ResultStatus, Wait};
use std::sync::Arc;
use std::time::Duration;

/// A leased row at work: shared by the deliveries that it consists of.
#[derive(Debug)]
pub(crate) struct Item {
    /// Tells it from all others of this process.
    pub(crate) serial: u64,
    pub(crate) event: Arc<Event>,
    pub(crate) lane: Lane,
    pub(crate) tenure: Arc<Tenure>,
    pub(crate) attempts: u32,
    pub(crate) takeovers: u32,
    /// An attempt began then, and nobody knows its outcome.
    pub(crate) began_at: Option<DateTime<Utc>>,
    /// The channels it goes to; empty for what is settled without any.
    pub(crate) channels: Vec<ChannelName>,
    /// Channels that an earlier event of the same key still waits for.
    pub(crate) behind: Vec<ChannelName>,
    /// Among the rows of its key that were claimed together.
    pub(crate) place: Option<Place>,
}

/// Where a row stands in a run: the rows of one key, claimed together, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Tells the run from all others of this process.
    pub(crate) run: u64,
    /// From 0.
    pub(crate) at: usize,
    /// How many there are.
    pub(crate) of: usize,
}

/// What one delivery adds to its row's settlement.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) outcome: Option<Outcome>,
    pub(crate) left: Option<Left>,
    pub(crate) failed: Option<FailedAttempt>,
}

impl Part {
    /// So many attempts are spent, and it is not over.
    pub(crate) fn left(channel: &ChannelName, attempts: u32, wait: Wait) -> Self {
        Self {
            left: Some(Left {
                channel: channel.clone(),
                attempts,
                wait,
                keep: false,
                unknown: false,
            }),
            ..Self::default()
        }
    }

    /// Nobody knows whether the last attempt was delivered: to be found out after `wait`.
    pub(crate) fn unknown(channel: &ChannelName, attempts: u32, wait: Wait) -> Self {
        let mut part = Self::left(channel, attempts, wait);
        part.left.iter_mut().for_each(|left| left.unknown = true);
        part
    }

    /// Not tried: back as it was, for whoever is able to.
    pub(crate) fn given_back(item: &Item, channel: &ChannelName) -> Self {
        let mut part = Self::left(channel, item.attempts, Wait::Unchanged);
        let unknown = item.began_at.is_some();
        part.left.iter_mut().for_each(|left| left.unknown = unknown);
        part
    }

    /// It is over for this channel, and the next of the key may go.
    pub(crate) fn is_final(&self) -> bool {
        self.outcome.is_some()
    }

    /// A dead letter that blocks its key waits for a human instead.
    pub(crate) fn held_if_dead(mut self, channel: &ChannelName) -> Self {
        let is_dead = |outcome: &Outcome| {
            outcome.status == ResultStatus::Dead && outcome.fell_back_to.is_none()
        };
        if let Some(dead) = self.outcome.take_if(|outcome| is_dead(outcome)) {
            self.left = Self::left(channel, dead.attempts, Wait::Held).left;
        }
        self
    }

    /// The provider took it.
    pub(crate) fn delivered(channel: &ChannelName, attempts: u32, receipt: &Receipt) -> Self {
        let mut outcome = outcome(Some(channel), ResultStatus::Delivered, attempts);
        outcome.provider_id = receipt.provider_id().map(str::to_owned);
        Self {
            outcome: Some(outcome),
            ..Self::default()
        }
    }

    /// Final without an attempt.
    pub(crate) fn refused(
        channel: Option<&ChannelName>,
        status: ResultStatus,
        attempts: u32,
        code: &str,
        message: impl Into<String>,
    ) -> Self {
        let mut outcome = outcome(channel, status, attempts);
        outcome.code = Some(code.to_owned());
        outcome.message = Some(message.into());
        Self {
            outcome: Some(outcome),
            ..Self::default()
        }
    }

    /// A dead letter; the route's next channel, if it has one to fall back to, takes over.
    pub(crate) fn dead(
        router: &Router,
        item: &Item,
        channel: &ChannelName,
        attempts: u32,
        code: &str,
        message: impl Into<String>,
    ) -> Self {
        let status = ResultStatus::Dead;
        let mut part = Self::refused(Some(channel), status, attempts, code, message);
        let next = router.fallback_after(&item.event, channel);
        if let Some(outcome) = &mut part.outcome {
            outcome.fell_back_to = next.cloned();
        }
        part.left = next.and_then(|next| Self::left(next, 0, Wait::For(Duration::ZERO)).left);
        part
    }
}

fn outcome(channel: Option<&ChannelName>, status: ResultStatus, attempts: u32) -> Outcome {
    Outcome {
        channel: channel.cloned(),
        status,
        attempts,
        code: None,
        message: None,
        provider_id: None,
        fell_back_to: None,
    }
}
