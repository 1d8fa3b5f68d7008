//! One delivery: from a permit to a part of a settlement.

use crate::breaker::Leave;
use crate::disposition::{Disposition, OnDead, decide};
use crate::large::whole;
use crate::outlet::Outlet;
use crate::part::{Item, Part};
use crate::shared::Shared;
use crate::unknown::{self, resolve};
use futures_util::FutureExt;
use outbox_channel::{Delivery, DeliveryBuilder, Event, Receipt, SendError};
use outbox_store::fault::{Step, around};
use outbox_store::{ResultStatus, Wait};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::SemaphorePermit;

/// A row that its worker died with so often is taken for the cause.
const MAX_TAKEOVERS: u32 = 5;

/// Takes `item` through `outlet`, within all limits.
pub(crate) async fn deliver(shared: &Shared, item: &Item, outlet: &Outlet) -> Part {
    let part = deliver_once(shared, item, outlet).await;
    match outlet.spec.on_dead {
        OnDead::Block if item.event.key.is_some() => part.held_if_dead(&outlet.spec.name),
        OnDead::Block | OnDead::Skip => part,
    }
}

async fn deliver_once(shared: &Shared, item: &Item, outlet: &Outlet) -> Part {
    let channel = &outlet.spec.name;
    let given_back = || Part::given_back(item, channel);
    if item.takeovers >= MAX_TAKEOVERS {
        let deaths = item.takeovers;
        let message =
            format!("given up: {deaths} workers died, or lost their lease, while they had it");
        tracing::warn!(event_id = item.event.id, %channel, deaths, "delivery given up");
        return Part::dead(
            &shared.router,
            item,
            channel,
            item.attempts,
            "crash",
            message,
        );
    }
    let Some(_permits) = permits(shared, outlet).await else {
        return given_back();
    };
    shared.look_at_channels().await;
    if !may_begin(shared, item, outlet) {
        return given_back();
    }
    if let Some(began) = item.began_at {
        // On the heap, as it is rare and large.
        return Box::pin(resolve(shared, item, outlet, began)).await;
    }
    if let Some(expired) = expired(shared, item, outlet) {
        return expired;
    }
    let whole = match whole(shared, item, outlet).await {
        Ok(whole) if whole.was_read() && !may_begin(shared, item, outlet) => return given_back(),
        Ok(whole) => whole,
        Err(unread) => return unread.part(&shared.router, item, channel),
    };
    let delivery = match prepare(shared, item, &whole.event, outlet) {
        Ok(delivery) => delivery,
        Err(error) => {
            return conclude(shared, item, outlet, Err(error), Duration::ZERO, None).await;
        }
    };
    let Some(leave) = outlet.begin() else {
        return given_back();
    };
    if !announce(shared, item, outlet).await {
        outlet.unknown(leave);
        return given_back();
    }
    // That may have taken a while.
    if let Some(expired) = expired(shared, item, outlet) {
        outlet.unknown(leave);
        return expired;
    }
    let started = Instant::now();
    // Dropped at its deadline, a channel's future may panic too.
    let sending = AssertUnwindSafe(send(shared, outlet, &delivery)).catch_unwind();
    let outcome = sending.await.unwrap_or_else(|_panic| Err(panicked()));
    conclude(
        shared,
        item,
        outlet,
        outcome,
        started.elapsed(),
        Some(leave),
    )
    .await
}

fn may_begin(shared: &Shared, item: &Item, outlet: &Outlet) -> bool {
    !outlet.is_closed() && !shared.stopping.is_cancelled() && item.tenure.is_held()
}

fn expired(shared: &Shared, item: &Item, outlet: &Outlet) -> Option<Part> {
    let expires_at = item.event.expires_at?;
    let message = "it was not delivered before its expires_at";
    let (channel, status) = (Some(&outlet.spec.name), ResultStatus::Expired);
    (expires_at <= shared.lease.now())
        .then(|| Part::refused(channel, status, item.attempts, "expired", message))
}

/// Writes down, where that is wanted, that an attempt begins. False: it must not.
async fn announce(shared: &Shared, item: &Item, outlet: &Outlet) -> bool {
    if !outlet.spec.on_ambiguous.needs_to_know() {
        return true;
    }
    tokio::select! {
        is_written = Box::pin(shared.intents.announce(item)) => is_written,
        () = shared.giving_up.cancelled() => false,
    }
}

/// A place in the channel and in the process, and the rate limit's leave; `None` when the worker
/// stops first, or the channel is closed by then.
async fn permits<'a>(shared: &'a Shared, outlet: &'a Outlet) -> Option<[SemaphorePermit<'a>; 2]> {
    match permits_at_once(shared, outlet) {
        Some(permits) => Some(permits),
        // On the heap, as it is large.
        None => Box::pin(permits_in_turn(shared, outlet)).await,
    }
}

fn permits_at_once<'a>(shared: &'a Shared, outlet: &'a Outlet) -> Option<[SemaphorePermit<'a>; 2]> {
    if outlet.spec.rate_limit.is_some() || shared.stopping.is_cancelled() {
        return None;
    }
    let mine = outlet.permits.try_acquire().ok()?;
    Some([mine, shared.permits.try_acquire().ok()?])
}

async fn permits_in_turn<'a>(
    shared: &'a Shared,
    outlet: &'a Outlet,
) -> Option<[SemaphorePermit<'a>; 2]> {
    let acquire = async {
        let mine = outlet.permits.acquire().await.ok()?;
        if outlet.is_closed() {
            return None;
        }
        outlet.until_allowed().await;
        Some([mine, shared.permits.acquire().await.ok()?])
    };
    tokio::select! {
        biased;
        () = shared.stopping.cancelled() => None,
        permits = acquire => permits,
    }
}

pub(crate) fn prepare(
    shared: &Shared,
    item: &Item,
    event: &Arc<Event>,
    outlet: &Outlet,
) -> Result<Delivery, SendError> {
    let rendered = match shared.router.message(event, &outlet.spec.name) {
        Some(template) => Some(template.render(event)?),
        None => None,
    };
    let (event, channel) = (Arc::clone(event), outlet.spec.name.clone());
    let delivery = DeliveryBuilder::new(&shared.installation, event, channel)
        .rendered(rendered)
        .attempt(item.attempts.saturating_add(1))
        .timeout(outlet.spec.timeout);
    Ok(delivery.build())
}

/// One attempt, which ends by its deadline whatever the channel does.
async fn send(shared: &Shared, outlet: &Outlet, delivery: &Delivery) -> Result<Receipt, SendError> {
    // Called inside: it may panic before it has made its future.
    let sending = around(Step::Send, async {
        outlet.spec.channel.send(delivery).await
    });
    let sending = AssertUnwindSafe(sending);
    tokio::select! {
        sent = tokio::time::timeout(outlet.spec.timeout, sending.catch_unwind()) => match sent {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panic)) => Err(panicked()),
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

fn panicked() -> SendError {
    let message = "the channel panicked; whether the message went out is unknown";
    SendError::ambiguous("panic", message)
}

/// `leave` is `None` when the channel was not even asked.
async fn conclude(
    shared: &Shared,
    item: &Item,
    outlet: &Outlet,
    outcome: Result<Receipt, SendError>,
    duration: Duration,
    leave: Option<Leave>,
) -> Part {
    let (spec, event) = (&outlet.spec, &item.event);
    let disposition = decide(
        outcome.as_ref().map(drop),
        item.attempts,
        event.max_retries,
        &spec.retry,
        spec.on_ambiguous,
        rand::random(),
    );
    if let Some(leave) = leave {
        let error = outcome.as_ref().err();
        if let Some(turn) = shared.note_availability(outlet, leave, disposition, error) {
            // On the heap, as it is rare and large.
            Box::pin(shared.tell(outlet, turn)).await;
        }
    }
    let attempt = item.attempts.saturating_add(1);
    let error = match outcome {
        Ok(receipt) => return Part::delivered(&spec.name, attempt, &receipt),
        Err(error) => error,
    };
    log_failure(item, outlet, attempt, disposition, &error);
    let mut part = match disposition {
        Disposition::Retry { spent, wait } => Part::left(&spec.name, spent, Wait::For(wait)),
        Disposition::Hold { spent } => Part::unknown(&spec.name, spent, Wait::Held),
        Disposition::Verify { spent } => {
            Part::unknown(&spec.name, spent, Wait::For(unknown::ASK_AFTER))
        }
        Disposition::Postpone => Part::given_back(item, &spec.name),
        Disposition::Dead | Disposition::Delivered => {
            let (code, message) = (error.code(), error.message());
            Part::dead(&shared.router, item, &spec.name, attempt, code, message)
        }
    };
    part.failed = Some(unknown::failed(&spec.name, attempt, duration, &error));
    part
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
        Disposition::Verify { .. } => tracing::info!(
            event_id, %channel, attempt, %class, error = %error,
            "outcome unknown, the provider will be asked"
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
