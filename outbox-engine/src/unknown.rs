//! An attempt began, and nobody knows how it ended: the worker died with it, or its answer never
//! came.

use crate::delivery::prepare;
use crate::disposition::OnAmbiguous;
use crate::large::{Unread, whole};
use crate::outlet::Outlet;
use crate::part::{Item, Part};
use crate::shared::Shared;
use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use outbox_channel::{ErrorClass, Event, SendError, Verdict};
use outbox_store::fault::{Step, around};
use outbox_store::{FailedAttempt, Wait};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A provider may take a moment to know what it has taken.
pub(crate) const ASK_AFTER: Duration = Duration::from_secs(10);
/// It could not be asked, or was asked too early.
const ASK_AGAIN: Duration = Duration::from_secs(15);

/// Finds out what became of the attempt of `item` that began at `began`, or leaves it to a human.
pub(crate) async fn resolve(
    shared: &Shared,
    item: &Item,
    outlet: &Outlet,
    began: DateTime<Utc>,
) -> Part {
    let channel = &outlet.spec.name;
    // A row that its worker died with: the attempt is spent, and not yet told about.
    let is_news = item.takeovers > 0;
    let spent = item.attempts.saturating_add(is_news.into());
    let mut part = match outlet.spec.on_ambiguous {
        OnAmbiguous::Verify => match whole(shared, item, outlet).await {
            Ok(whole) => verified(shared, item, &whole.event, outlet, began, spent).await,
            Err(Unread::NotNow | Unread::Trouble) => {
                Part::unknown(channel, spent, Wait::For(ASK_AGAIN))
            }
            Err(Unread::Hopeless(..)) => Part::unknown(channel, spent, Wait::Held),
            Err(Unread::Deleted) => return Part::default(),
        },
        OnAmbiguous::Hold | OnAmbiguous::Retry => Part::unknown(channel, spent, Wait::Held),
    };
    if is_news && part.failed.is_none() {
        let error = SendError::ambiguous(
            "worker_lost",
            "the worker died, or lost its lease, while it was sending; whether the message went \
             out is unknown",
        );
        part.failed = Some(failed(channel, spent, Duration::ZERO, &error));
    }
    if let Some(left) = part.left.as_ref().filter(|left| left.wait == Wait::Held) {
        tracing::warn!(
            event_id = item.event.id, %channel, attempts = left.attempts,
            "outcome unknown, held for a human"
        );
    }
    part
}

async fn verified(
    shared: &Shared,
    item: &Item,
    event: &Arc<Event>,
    outlet: &Outlet,
    began: DateTime<Utc>,
    spent: u32,
) -> Part {
    let spec = &outlet.spec;
    let delivery = match prepare(shared, item, event, outlet) {
        Ok(delivery) => delivery,
        Err(_) => return Part::unknown(&spec.name, spent, Wait::Held),
    };
    let asked = Instant::now();
    let panicked = || Err(SendError::transient("panic", "the channel panicked"));
    let verifying = async {
        // Called inside: it may panic before it has made its future.
        let verifying = around(Step::Verify, async {
            spec.channel.verify(&delivery, began).await
        });
        let verifying = AssertUnwindSafe(verifying).catch_unwind();
        match tokio::time::timeout(spec.timeout, verifying).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(_panic)) => panicked(),
            Err(_elapsed) => Err(SendError::transient("deadline", "no answer in time")),
        }
    };
    // Dropped at its deadline, a channel's future may panic too.
    let verifying = AssertUnwindSafe(verifying).catch_unwind();
    let verdict = verifying.await.unwrap_or_else(|_panic| panicked());
    match verdict {
        Ok(Verdict::Delivered(receipt)) => Part::delivered(&spec.name, spent.max(1), &receipt),
        Ok(Verdict::NotDelivered) => {
            let most = item.event.max_retries.unwrap_or(spec.retry.max_retries);
            if spent > most {
                let message = "the provider never saw it, and no attempt is left";
                let (router, code) = (&shared.router, "not_delivered");
                return Part::dead(router, item, &spec.name, spent, code, message);
            }
            Part::left(&spec.name, spent, Wait::For(Duration::ZERO))
        }
        Ok(Verdict::Unknown) => Part::unknown(&spec.name, spent, Wait::Held),
        Err(error) => {
            tracing::info!(
                event_id = item.event.id, channel = %spec.name, error = %error,
                "the provider cannot be asked what became of an attempt, asking again"
            );
            let wait = error.retry_after().unwrap_or(ASK_AGAIN);
            let mut part = Part::unknown(&spec.name, spent, Wait::For(wait));
            // Being asked too early is no failure.
            if error.class() != ErrorClass::Transient {
                part.failed = Some(failed(&spec.name, spent, asked.elapsed(), &error));
            }
            part
        }
    }
}

pub(crate) fn failed(
    channel: &outbox_channel::ChannelName,
    attempt: u32,
    duration: Duration,
    error: &SendError,
) -> FailedAttempt {
    FailedAttempt {
        channel: channel.clone(),
        attempt,
        duration,
        finished: Instant::now(),
        class: error.class(),
        code: error.code().to_owned(),
        message: error.message().to_owned(),
        answer: error.answer().map(str::to_owned),
    }
}
