//! A leased row at work, and what each of its deliveries adds to its settlement.

use crate::lease::Tenure;
use crate::router::Router;
use chrono::{DateTime, Utc};
use outbox_channel::{ChannelName, Event, Receipt};
use outbox_store::{ClaimId, FailedAttempt, Lane, Left, Outcome, ResultStatus, Wait};
use std::sync::Arc;
use std::time::Duration;

/// A leased row at work: shared by the deliveries that it consists of.
#[derive(Debug)]
pub(crate) struct Item {
    /// Tells it from all others of this process.
    pub(crate) serial: u64,
    pub(crate) event: Arc<Event>,
    /// The event lacks its payload and headers: about so many bytes.
    pub(crate) left_behind: Option<u64>,
    pub(crate) lane: Lane,
    pub(crate) tenure: Arc<Tenure>,
    pub(crate) attempts: u32,
    pub(crate) takeovers: u32,
    pub(crate) claim: ClaimId,
    /// An attempt began then, and nobody knows its outcome.
    pub(crate) began_at: Option<DateTime<Utc>>,
    /// The channels it goes to; empty for what is settled without any.
    pub(crate) channels: Vec<ChannelName>,
    /// Channels that an earlier event of the same key still waits for.
    pub(crate) behind: Vec<ChannelName>,
    /// Not now: see [`Part::put_off`].
    pub(crate) is_put_off: bool,
    /// Among the rows of its key that were claimed together.
    pub(crate) place: Option<Place>,
}

impl Item {
    /// What has to be written one after the other has this in common: the rows of a run, and a
    /// row with those that it is split into. `None`: it may be written at any time.
    pub(crate) fn sequence(&self) -> Option<u64> {
        let is_many = self.channels.len() > 1;
        self.place
            .map(|place| place.run)
            .or_else(|| is_many.then_some(self.serial))
    }
}

/// Where a row stands in a run: the rows of one key, claimed together, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Tells the run from all others of this process, and from the serials of rows.
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
    /// How long something is put off.
    pub(crate) const WHILE: Duration = Duration::from_secs(1);

    /// So many attempts are spent, and it is not over.
    pub(crate) fn left(channel: &ChannelName, attempts: u32, wait: Wait) -> Self {
        Self::left_in(Some(channel), attempts, wait)
    }

    fn left_in(channel: Option<&ChannelName>, attempts: u32, wait: Wait) -> Self {
        Self {
            left: Some(Left {
                channel: channel.cloned(),
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

    /// Not routed: back as it was, or only after a while.
    pub(crate) fn unrouted(item: &Item, wait: Wait) -> Self {
        Self::left_in(None, item.attempts, wait)
    }

    /// Not tried, and not to be tried at once: the database is in trouble, or it was claimed
    /// together with another that workers died with.
    pub(crate) fn put_off(item: &Item, channel: &ChannelName) -> Self {
        let mut part = Self::given_back(item, channel);
        let wait = Wait::For(Self::WHILE);
        part.left.iter_mut().for_each(|left| left.wait = wait);
        part
    }

    /// It is over for this channel, and the next of the key may go at once. Behind a dead letter
    /// it may once that is written: should this worker die before, the letter is sent once more,
    /// and who took none of it the first time may take it then.
    pub(crate) fn lets_the_next_go(&self) -> bool {
        let outcome = self.outcome.as_ref();
        outcome.is_some_and(|outcome| outcome.status != ResultStatus::Dead)
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
