//! One delivery: from a permit to a part of a settlement.

use crate::disposition::{Disposition, decide};
use crate::outlet::Outlet;
use crate::shared::Shared;
use futures_util::FutureExt;
use outbox_channel::{ChannelName, DeliveryBuilder, Event, Receipt, SendError};
use outbox_store::{FailedAttempt, Lane, Left, Outcome, ResultStatus, Wait, WorkerId};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A leased row at work: shared by the deliveries that it consists of.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) event: Arc<Event>,
    pub(crate) lane: Lane,
    pub(crate) worker: WorkerId,
    pub(crate) attempts: u32,
    pub(crate) takeovers: u32,
    /// The channels it goes to; empty for what is settled without any.
    pub(crate) channels: Vec<ChannelName>,
}

/// What one delivery adds to its row's settlement.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) outcome: Option<Outcome>,
    pub(crate) left: Option<Left>,
    pub(crate) failed: Option<FailedAttempt>,
}

impl Part {
    /// Not tried: back as it was, for whoever is able to.
    pub(crate) fn given_back(channel: &ChannelName, attempts: u32) -> Self {
        Self {
            left: Some(Left {
                channel: channel.clone(),
                attempts,
                wait: Wait::Unchanged,
                keep: false,
            }),
            ..Self::default()
        }
    }

    /// Final without an attempt.
    pub(crate) fn refused(
        channel: Option<&ChannelName>,
        status: ResultStatus,
        attempts: u32,
        code: &str,
        message: String,
    ) -> Self {
        Self {
            outcome: Some(Outcome {
                channel: channel.cloned(),
                status,
                attempts,
                code: Some(code.to_owned()),
                message: Some(message),
                provider_id: None,
                fell_back_to: None,
            }),
            ..Self::default()
        }
    }
}

/// A row that its worker died with so often is taken for the cause.
const MAX_TAKEOVERS: u32 = 5;

/// Takes `item` through `outlet`, within all limits.
pub(crate) async fn deliver(shared: &Shared, item: &Item, outlet: &Outlet) -> Part {
    let channel = &outlet.spec.name;
    if item.takeovers >= MAX_TAKEOVERS {
        let message = format!(
            "given up: {} workers died, or lost their lease, while they had it",
            item.takeovers
        );
        return Part::refused(
            Some(channel),
            ResultStatus::Dead,
            item.attempts,
            "crash",
            message,
        );
    }
    let Some(_permits) = permits(shared, outlet).await else {
        return Part::given_back(channel, item.attempts);
    };
    if outlet.is_closed() || !shared.lease.is_held_by(item.worker) {
        return Part::given_back(channel, item.attempts);
    }
    if item
        .event
        .expires_at
        .is_some_and(|at| at <= shared.lease.now())
    {
        let message = "it was not delivered before its expires_at".to_owned();
        let (status, attempts) = (ResultStatus::Expired, item.attempts);
        return Part::refused(Some(channel), status, attempts, "expired", message);
    }
    let started = Instant::now();
    let outcome = attempt(shared, item, outlet).await;
    conclude(shared, item, outlet, outcome, started.elapsed()).await
}

/// A place in the channel and in the process, and the rate limit's leave; `None` when the worker
/// stops first.
async fn permits<'a>(
    shared: &'a Shared,
    outlet: &'a Outlet,
) -> Option<[tokio::sync::SemaphorePermit<'a>; 2]> {
    let acquire = async {
        let mine = outlet.permits.acquire().await.ok()?;
        outlet.until_allowed().await;
        Some([mine, shared.permits.acquire().await.ok()?])
    };
    tokio::select! {
        biased;
        () = shared.stopping.cancelled() => None,
        permits = acquire => permits,
    }
}

/// One attempt, which ends by its deadline whatever the channel does.
async fn attempt(shared: &Shared, item: &Item, outlet: &Outlet) -> Result<Receipt, SendError> {
    let rendered = match shared.router.message(&item.event, &outlet.spec.name) {
        Some(template) => Some(template.render(&item.event)?),
        None => None,
    };
    let (event, channel) = (Arc::clone(&item.event), outlet.spec.name.clone());
    let delivery = DeliveryBuilder::new(&shared.installation, event, channel)
        .rendered(rendered)
        .attempt(item.attempts.saturating_add(1))
        .timeout(outlet.spec.timeout)
        .build();
    let sending = AssertUnwindSafe(async { outlet.spec.channel.send(&delivery).await });
    tokio::select! {
        sent = tokio::time::timeout(outlet.spec.timeout, sending.catch_unwind()) => match sent {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panic)) => Err(SendError::ambiguous(
                "panic",
                "the channel panicked; whether the message went out is unknown",
            )),
            Err(_elapsed) => Err(SendError::ambiguous(
                "deadline",
                format!("no outcome within {:?}", outlet.spec.timeout),
            )),
        },
        () = shared.giving_up.cancelled() => Err(SendError::ambiguous(
            "shutdown",
            "the worker had to stop before the outcome was known",
        )),
    }
}

async fn conclude(
    shared: &Shared,
    item: &Item,
    outlet: &Outlet,
    outcome: Result<Receipt, SendError>,
    duration: Duration,
) -> Part {
    let spec = &outlet.spec;
    let disposition = decide(
        outcome.as_ref().map(drop),
        item.attempts,
        item.event.max_retries,
        &spec.retry,
        spec.on_ambiguous,
        rand::random(),
    );
    shared
        .note_availability(outlet, disposition, outcome.as_ref().err())
        .await;
    let attempt = item.attempts.saturating_add(1);
    let error = match outcome {
        Ok(receipt) => return delivered(&spec.name, attempt, &receipt),
        Err(error) => error,
    };
    log_failure(item, outlet, attempt, disposition, &error);
    let left = |attempts, wait| {
        Some(Left {
            channel: spec.name.clone(),
            attempts,
            wait,
            keep: false,
        })
    };
    let fallback = shared.router.fallback_after(&item.event, &spec.name);
    let (outcome, left) = match disposition {
        Disposition::Retry { spent, wait } => (None, left(spent, Wait::For(wait))),
        Disposition::Hold { spent } => (None, left(spent, Wait::Held)),
        Disposition::Postpone => (None, left(item.attempts, Wait::Unchanged)),
        Disposition::Dead | Disposition::Delivered => {
            let next = fallback.map(|next| Left {
                channel: next.clone(),
                attempts: 0,
                wait: Wait::For(Duration::ZERO),
                keep: false,
            });
            (Some(dead(&spec.name, attempt, &error, fallback)), next)
        }
    };
    Part {
        outcome,
        left,
        failed: Some(FailedAttempt {
            channel: spec.name.clone(),
            attempt,
            duration,
            finished: Instant::now(),
            class: error.class(),
            code: error.code().to_owned(),
            message: error.message().to_owned(),
            answer: error.answer().map(str::to_owned),
        }),
    }
}

fn delivered(channel: &ChannelName, attempts: u32, receipt: &Receipt) -> Part {
    Part {
        outcome: Some(Outcome {
            channel: Some(channel.clone()),
            status: ResultStatus::Delivered,
            attempts,
            code: None,
            message: None,
            provider_id: receipt.provider_id().map(str::to_owned),
            fell_back_to: None,
        }),
        ..Part::default()
    }
}

fn dead(
    channel: &ChannelName,
    attempts: u32,
    error: &SendError,
    fallback: Option<&ChannelName>,
) -> Outcome {
    Outcome {
        channel: Some(channel.clone()),
        status: ResultStatus::Dead,
        attempts,
        code: Some(error.code().to_owned()),
        message: Some(error.message().to_owned()),
        provider_id: None,
        fell_back_to: fallback.cloned(),
    }
}

fn log_failure(
    item: &Item,
    outlet: &Outlet,
    attempt: u32,
    disposition: Disposition,
    error: &SendError,
) {
    let (event_id, channel, class) = (item.event.id, &outlet.spec.name, error.class());
    match disposition {
        Disposition::Retry { wait, .. } => tracing::info!(
            event_id, %channel, attempt, %class, error = %error, retry_in = ?wait,
            "delivery failed, will be tried again"
        ),
        Disposition::Hold { .. } => tracing::warn!(
            event_id, %channel, attempt, %class, error = %error,
            "outcome unknown, held for a human"
        ),
        // The channel's pause is logged once, not for each delivery it meets.
        Disposition::Postpone => tracing::debug!(
            event_id, %channel, attempt, %class, error = %error, "channel unavailable"
        ),
        Disposition::Dead | Disposition::Delivered => tracing::warn!(
            event_id, %channel, attempt, %class, error = %error, "delivery given up"
        ),
    }
}
