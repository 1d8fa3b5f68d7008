//! A channel with its limits: how much may go through it now.

use crate::breaker::{Breaker, Leave};
use crate::disposition::{OnAmbiguous, OnDead};
use crate::large::Room;
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
    /// What a dead letter means for later events of its key.
    pub on_dead: OnDead,
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
    /// For payloads that claims leave behind.
    pub(crate) large: Room,
    limiter: Option<DefaultDirectRateLimiter>,
    batches_ahead: usize,
    /// Claimed for this channel and not finished.
    taken: AtomicUsize,
    pace: Mutex<Pace>,
    breaker: Mutex<Breaker>,
    /// Paused by an operator, or found down by another worker.
    closed: AtomicBool,
    /// A claim found too little room: whoever makes enough says so.
    is_starved: AtomicBool,
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
    /// No more batches than these are claimed ahead for all channels together, or one for each:
    /// a channel that suddenly hangs keeps what it has, and must leave room for the others.
    pub(crate) const BATCHES_AHEAD: usize = 4;
    /// With little room, claims are put off for so long: they bring more at once.
    pub(crate) const GATHER: Duration = Duration::from_millis(10);
    const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

    /// One of `of` channels.
    pub(crate) fn new(mut spec: ChannelSpec, of: usize) -> Self {
        spec.concurrency = spec.concurrency.clamp(1, Semaphore::MAX_PERMITS);
        spec.timeout = spec.timeout.min(Self::LONGEST_TIMEOUT);
        let limiter = spec.rate_limit.and_then(|limit| {
            let interval = limit.period / limit.count.get();
            Some(RateLimiter::direct(Quota::with_period(interval)?))
        });
        Self {
            permits: Semaphore::new(spec.concurrency),
            large: Room::new(),
            limiter,
            batches_ahead: (Self::BATCHES_AHEAD / of.max(1)).max(1),
            taken: AtomicUsize::new(0),
            pace: Mutex::new(Pace {
                since: Instant::now(),
                finished: 0,
                before: 0,
            }),
            breaker: Mutex::default(),
            closed: AtomicBool::new(false),
            is_starved: AtomicBool::new(false),
            spec,
        }
    }

    /// How many more deliveries may be claimed: enough to keep the channel busy over the next
    /// claims, and no more, so that work never waits here while another worker could do it.
    pub(crate) fn room(&self, batch_size: usize) -> usize {
        let taken = self.taken.load(Ordering::SeqCst);
        lock(&self.breaker).admit(Instant::now(), self.window(batch_size), taken)
    }

    /// As [`room`](Self::room), for a claim: when there is too little, a later
    /// [`finish`](Self::finish) tells that there is more.
    pub(crate) fn room_to_claim(&self, batch_size: usize) -> usize {
        // First this, then the count: a place that becomes free in between is told too.
        self.is_starved.store(true, Ordering::SeqCst);
        let room = self.room(batch_size);
        if self.is_worth_claiming(room, batch_size) {
            self.is_starved.store(false, Ordering::SeqCst);
        }
        room
    }

    /// Whether `room` is worth a claim at once: one per finished delivery would be too many.
    pub(crate) fn is_worth_claiming(&self, room: usize, batch_size: usize) -> bool {
        let half = self.window(batch_size).div_ceil(2);
        room >= half.min((3 * batch_size).div_ceil(4))
    }

    fn window(&self, batch_size: usize) -> usize {
        self.spec
            .concurrency
            .saturating_add(self.ahead().min(self.batches_ahead * batch_size))
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
        self.taken.fetch_add(1, Ordering::SeqCst);
    }

    /// Gives the place back. When a claim waits for one: how soon it should look, so that places
    /// come together.
    pub(crate) fn finish(&self, batch_size: usize) -> Option<Duration> {
        self.taken.fetch_sub(1, Ordering::SeqCst);
        lock(&self.pace).finished += 1;
        if !self.is_starved.load(Ordering::SeqCst) {
            return None;
        }
        let is_worth_it = self.is_worth_claiming(self.room(batch_size), batch_size);
        Some(if is_worth_it {
            Duration::ZERO
        } else {
            Self::GATHER
        })
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

    /// When the breaker, if it is open, lets the next delivery through.
    pub(crate) fn opens_in(&self) -> Option<Duration> {
        let opens_at = lock(&self.breaker).opens_at()?;
        let wait = opens_at.saturating_duration_since(Instant::now());
        (!wait.is_zero()).then_some(wait)
    }

    /// Leave to send one message; how that ended has to be told by one of the next three.
    pub(crate) fn begin(&self) -> Option<Leave> {
        lock(&self.breaker).begin(Instant::now())
    }

    /// The pause that begins now, if this is the first to find the channel unavailable.
    pub(crate) fn unavailable(&self, leave: Leave, error: &SendError) -> Option<Duration> {
        lock(&self.breaker).fail(leave, Instant::now(), error.retry_after())
    }

    /// True when the channel had been unavailable.
    pub(crate) fn answered(&self, leave: Leave) -> bool {
        lock(&self.breaker).succeed(leave)
    }

    /// Nobody knows what became of it.
    pub(crate) fn unknown(&self, leave: Leave) {
        lock(&self.breaker).end(leave);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
