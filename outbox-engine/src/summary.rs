//! Counts of what a worker did.

use outbox_store::{Left, ResultStatus, Settlement, Wait};
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};

/// What was done in a cycle, or in one dispatch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Events (or the one channel of an event that was left) delivered everywhere.
    pub processed: u64,
    /// Events without a route, and deliveries that expired before they were tried.
    pub skipped: u64,
    /// Attempts that did not succeed.
    pub errors: u64,
    /// Deliveries put back for later.
    pub requeued: u64,
    /// Deliveries given up.
    pub failed: u64,
}

impl Summary {
    /// Nothing was done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What one settled row adds.
    pub(crate) fn of(settlement: &Settlement) -> Self {
        let count = |status| {
            let is_it = |outcome: &&outbox_store::Outcome| outcome.status == status;
            settlement.outcomes.iter().filter(is_it).count() as u64
        };
        let gave_up = |outcome: &&outbox_store::Outcome| {
            outcome.status == ResultStatus::Dead && outcome.fell_back_to.is_none()
        };
        let failed = settlement.outcomes.iter().filter(gave_up).count() as u64;
        // What was not tried, and has only come to its channel's own lane, is not put back.
        let was_tried = |left: &Left| {
            let mut failed = settlement.failed.iter();
            left.wait != Wait::Unchanged
                || failed.any(|f| Some(&f.channel) == left.channel.as_ref())
        };
        let is_put_back = |left: &Left| !left.keep && was_tried(left);
        let is_done = settlement.left.is_empty() && failed == 0;
        Self {
            processed: u64::from(is_done && count(ResultStatus::Delivered) > 0),
            skipped: count(ResultStatus::Skipped) + count(ResultStatus::Expired),
            errors: settlement.failed.len() as u64,
            requeued: settlement
                .left
                .iter()
                .filter(|left| is_put_back(left))
                .count() as u64,
            failed,
        }
    }
}

/// A summary in the making.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    processed: AtomicU64,
    skipped: AtomicU64,
    errors: AtomicU64,
    requeued: AtomicU64,
    failed: AtomicU64,
}

impl Counters {
    pub(crate) fn add(&self, summary: Summary) {
        self.processed
            .fetch_add(summary.processed, Ordering::Relaxed);
        self.skipped.fetch_add(summary.skipped, Ordering::Relaxed);
        self.errors.fetch_add(summary.errors, Ordering::Relaxed);
        self.requeued.fetch_add(summary.requeued, Ordering::Relaxed);
        self.failed.fetch_add(summary.failed, Ordering::Relaxed);
    }

    /// What has come together since the last call.
    pub(crate) fn take(&self) -> Summary {
        Summary {
            processed: self.processed.swap(0, Ordering::Relaxed),
            skipped: self.skipped.swap(0, Ordering::Relaxed),
            errors: self.errors.swap(0, Ordering::Relaxed),
            requeued: self.requeued.swap(0, Ordering::Relaxed),
            failed: self.failed.swap(0, Ordering::Relaxed),
        }
    }
}
