//! When a stand-in misbehaves.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The plan by which a stand-in misbehaves: faults queued for the next requests, and faults
/// that come back every so many requests. Clones share one plan.
///
/// ```
/// # use outbox_sandbox::Faults;
/// let faults = Faults::default();
/// faults.next("down");
/// faults.every(3, "slow");
/// let seen: Vec<_> = (0..4).map(|_| faults.take()).collect();
/// assert_eq!(seen, [Some("down"), None, None, Some("slow")]);
/// ```
#[derive(Debug)]
pub struct Faults<F>(Arc<Mutex<Plan<F>>>);

#[derive(Debug)]
struct Plan<F> {
    queued: VecDeque<F>,
    recurring: Vec<(u64, F)>,
    requests: u64,
}

impl<F: Clone> Faults<F> {
    /// The next request that has no fault yet gets this one.
    pub fn next(&self, fault: F) {
        self.plan().queued.push_back(fault);
    }

    /// Every `period`-th request without a queued fault gets this one. A period of 0 means
    /// never.
    pub fn every(&self, period: u64, fault: F) {
        if period > 0 {
            self.plan().recurring.push((period, fault));
        }
    }

    /// Behave from now on.
    pub fn clear(&self) {
        let mut plan = self.plan();
        plan.queued.clear();
        plan.recurring.clear();
    }

    /// The fault for the request at hand; the stand-in calls this once per request.
    #[must_use]
    pub fn take(&self) -> Option<F> {
        let mut plan = self.plan();
        if let Some(fault) = plan.queued.pop_front() {
            return Some(fault);
        }
        plan.requests += 1;
        let due = |(period, _): &&(u64, F)| plan.requests.is_multiple_of(*period);
        plan.recurring
            .iter()
            .find(due)
            .map(|(_, fault)| fault.clone())
    }

    fn plan(&self) -> MutexGuard<'_, Plan<F>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Default for Faults<F> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Plan {
            queued: VecDeque::new(),
            recurring: Vec::new(),
            requests: 0,
        })))
    }
}

impl<F> Clone for Faults<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
