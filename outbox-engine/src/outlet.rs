//! A channel with its limits: how much may go through it now.

use crate::breaker::Breaker;
use crate::disposition::OnAmbiguous;
use crate::retry::RetryPolicy;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use outbox_channel::{Channel, ChannelName, SendError};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// A channel as configured: what delivers, and within which limits.
pub struct ChannelSpec {
    /// Its name.
    pub name: ChannelName,
    /// Its kind.
    pub kind: String,
    /// What delivers.
    pub channel: Box<dyn Channel>,
    /// Deliveries under way at once in this process; at least 1.
    pub concurrency: usize,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Retries.
    pub retry: RetryPolicy,
    /// What to do when nobody can know whether a message was delivered.
    pub on_ambiguous: OnAmbiguous,
    /// How many deliveries may begin per period in this process.
    pub rate_limit: Option<RateLimit>,
}

/// So many deliveries per period, evenly spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// How many.
    pub count: NonZeroU32,
    /// In how long; not zero.
    pub period: Duration,
}

impl fmt::Debug for ChannelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelSpec")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// A channel at work in this process.
pub(crate) struct Outlet {
    pub(crate) spec: ChannelSpec,
    pub(crate) permits: Semaphore,
    limiter: Option<DefaultDirectRateLimiter>,
    /// Claimed for this channel and not finished.
    taken: AtomicUsize,
    pace: Mutex<Pace>,
    breaker: Mutex<Breaker>,
    /// Paused by an operator, or found down by another worker.
    closed: AtomicBool,
}

/// How many deliveries finished lately.
struct Pace {
    since: Instant,
    finished: usize,
    before: usize,
}

impl Outlet {
    /// Work is claimed ahead for about so long at the channel's present speed.
    const AHEAD: Duration = Duration::from_millis(250);

    pub(crate) fn new(spec: ChannelSpec) -> Self {
        let limiter = spec.rate_limit.and_then(|limit| {
            let interval = limit.period / limit.count.get();
            Some(RateLimiter::direct(Quota::with_period(interval)?))
        });
        Self {
            permits: Semaphore::new(spec.concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            limiter,
            taken: AtomicUsize::new(0),
            pace: Mutex::new(Pace {
                since: Instant::now(),
                finished: 0,
                before: 0,
            }),
            breaker: Mutex::default(),
            closed: AtomicBool::new(false),
            spec,
        }
    }

    /// How many more deliveries may be claimed: enough to keep the channel busy until the next
    /// claim, and no more, so that work never waits here while another worker could do it.
    pub(crate) fn room(&self, batch_size: usize) -> usize {
        let window = self.spec.concurrency + self.ahead().min(batch_size);
        let taken = self.taken.load(Ordering::Relaxed);
        lock(&self.breaker).admit(Instant::now(), window, taken)
    }

    /// Whether `room` is worth a claim at once: one per finished delivery would be too many.
    pub(crate) fn is_worth_claiming(&self, room: usize) -> bool {
        room >= self.spec.concurrency.div_ceil(2).min(50)
    }

    fn ahead(&self) -> usize {
        let mut pace = lock(&self.pace);
        let elapsed = pace.since.elapsed();
        if elapsed >= Self::AHEAD {
            pace.before = if elapsed < 2 * Self::AHEAD {
                pace.finished
            } else {
                0
            };
            pace.finished = 0;
            pace.since = Instant::now();
        }
        pace.before.max(pace.finished)
    }

    /// Takes a place until [`finish`](Self::finish).
    pub(crate) fn take(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn finish(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
        lock(&self.pace).finished += 1;
    }

    /// Waits for the rate limit.
    pub(crate) async fn until_allowed(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.until_ready().await;
        }
    }

    /// Nothing may go through now.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed) || lock(&self.breaker).is_open(Instant::now())
    }

    pub(crate) fn set_closed(&self, closed: bool) {
        self.closed.store(closed, Ordering::Relaxed);
    }

    /// The pause that begins now, if this is the first to find the channel unavailable.
    pub(crate) fn unavailable(&self, error: &SendError) -> Option<Duration> {
        lock(&self.breaker).fail(Instant::now(), error.retry_after())
    }

    /// True when the channel had been unavailable.
    pub(crate) fn answered(&self) -> bool {
        lock(&self.breaker).succeed()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
