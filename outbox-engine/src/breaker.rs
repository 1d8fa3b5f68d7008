//! Leaves a broken channel alone.

use crate::retry::RetryPolicy;
use std::time::{Duration, Instant};

/// One worker's view of whether a channel can deliver at all: closed (fine), open (left alone
/// until a time), or half-open (one delivery at a time may find out).
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
    /// How often it has opened.
    openings: u64,
    is_probing: bool,
}

/// Leave for one delivery. What it finds out counts only if the breaker has not opened since:
/// of those who were under way together, the first tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leave {
    openings: u64,
}

impl Breaker {
    const FIRST_PAUSE: Duration = Duration::from_secs(1);
    const LONGEST_PAUSE: Duration = Duration::from_secs(120);

    /// Leave to begin a delivery, whose end has to be told by one of the next three.
    pub(crate) fn begin(&mut self, now: Instant) -> Option<Leave> {
        if self.is_open(now) || self.is_probing {
            return None;
        }
        self.is_probing = self.failures > 0;
        Some(Leave {
            openings: self.openings,
        })
    }

    /// The channel said that it is unavailable, and asked to be left alone for so long. The
    /// pause that begins now, if it is news.
    pub(crate) fn fail(
        &mut self,
        leave: Leave,
        now: Instant,
        asked: Option<Duration>,
    ) -> Option<Duration> {
        if leave.openings != self.openings {
            return None;
        }
        let doubled = Self::FIRST_PAUSE.saturating_mul(1 << self.failures.min(16));
        let asked = asked.unwrap_or_default();
        let pause = doubled
            .min(Self::LONGEST_PAUSE)
            .max(asked.min(RetryPolicy::LONGEST_RETRY_AFTER));
        *self = Self {
            failures: self.failures.saturating_add(1),
            open_until: Some(now + pause),
            openings: self.openings.wrapping_add(1),
            is_probing: false,
        };
        Some(pause)
    }

    /// The channel answered. True when it had been unavailable before.
    pub(crate) fn succeed(&mut self, leave: Leave) -> bool {
        if leave.openings != self.openings {
            return false;
        }
        let was_failing = self.failures > 0;
        *self = Self {
            openings: self.openings,
            ..Self::default()
        };
        was_failing
    }

    /// The delivery ended, and nothing is known.
    pub(crate) fn end(&mut self, leave: Leave) {
        if leave.openings == self.openings {
            self.is_probing = false;
        }
    }

    pub(crate) fn is_open(&self, now: Instant) -> bool {
        self.opens_at().is_some_and(|until| now < until)
    }

    /// When the next probe may begin, or might have.
    pub(crate) fn opens_at(&self) -> Option<Instant> {
        self.open_until
    }

    /// How many more deliveries may begin, of `window` in all, when so many are `taken`.
    pub(crate) fn admit(&self, now: Instant, window: usize, taken: usize) -> usize {
        let window = match (self.is_open(now), self.failures) {
            (true, _) => 0,
            (false, 0) => window,
            (false, _) => window.min(1),
        };
        window.saturating_sub(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(breaker: &mut Breaker) -> Leave {
        breaker.begin(Instant::now()).unwrap()
    }

    #[test]
    fn pauses_grow_and_only_the_first_to_notice_begins_one() {
        let mut breaker = Breaker::default();
        let mut now = Instant::now();
        for seconds in [1, 2, 4, 8, 16, 32, 64, 120, 120] {
            let pause = Duration::from_secs(seconds);
            let leave = breaker.begin(now).unwrap();
            assert_eq!(breaker.fail(leave, now, None), Some(pause));
            assert_eq!(breaker.fail(leave, now, None), None);
            assert_eq!(breaker.admit(now, 8, 0), 0);
            assert_eq!(breaker.begin(now), None);
            now += pause;
            assert_eq!(breaker.admit(now, 8, 0), 1);
            assert_eq!(breaker.admit(now, 8, 1), 0);
        }
    }

    #[test]
    fn half_open_lets_one_delivery_through_at_a_time() {
        let mut breaker = Breaker::default();
        let leave = begun(&mut breaker);
        breaker.fail(leave, Instant::now(), None);
        let later = Instant::now() + Duration::from_secs(2);
        let probe = breaker.begin(later).unwrap();
        assert_eq!(breaker.begin(later), None);
        breaker.end(probe);
        let probe = breaker.begin(later).unwrap();
        assert!(breaker.succeed(probe));
        assert!(breaker.begin(later).is_some() && breaker.begin(later).is_some());
    }

    #[test]
    fn who_was_under_way_when_it_opened_neither_closes_it_nor_opens_it_again() {
        let mut breaker = Breaker::default();
        let now = Instant::now();
        let [first, second, third] = [(); 3].map(|()| breaker.begin(now).unwrap());
        assert!(breaker.fail(first, now, None).is_some());
        assert!(!breaker.succeed(second));
        assert!(breaker.is_open(now));
        let later = now + Duration::from_secs(2);
        let probe = breaker.begin(later).unwrap();
        assert_eq!(breaker.fail(third, later, None), None);
        breaker.end(third);
        assert_eq!(breaker.begin(later), None, "the probe is still under way");
        assert!(breaker.succeed(probe));
    }

    #[test]
    fn one_success_closes_it() {
        let mut breaker = Breaker::default();
        let leave = begun(&mut breaker);
        assert!(!breaker.succeed(leave));
        breaker.fail(leave, Instant::now(), Some(Duration::from_secs(60)));
        let probe = breaker.begin(Instant::now() + Duration::from_secs(60));
        assert!(breaker.succeed(probe.unwrap()));
        assert_eq!(breaker.admit(Instant::now(), 8, 0), 8);
    }

    #[test]
    fn what_the_provider_asks_is_respected_within_reason() {
        let fail = |asked| {
            let mut breaker = Breaker::default();
            let leave = begun(&mut breaker);
            breaker.fail(leave, Instant::now(), Some(asked)).unwrap()
        };
        let asked = Duration::from_secs(600);
        assert_eq!(fail(asked), asked);
        assert_eq!(fail(Duration::MAX), RetryPolicy::LONGEST_RETRY_AFTER);
    }
}

#[cfg(test)]
mod properties;
