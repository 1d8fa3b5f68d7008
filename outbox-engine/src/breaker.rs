//! Leaves a broken channel alone.

use std::time::{Duration, Instant};

/// One worker's view of whether a channel can deliver at all: closed (fine), open (left alone
/// until a time), or half-open (one delivery at a time may find out).
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    const FIRST_PAUSE: Duration = Duration::from_secs(1);
    const LONGEST_PAUSE: Duration = Duration::from_secs(120);

    /// The channel said that it is unavailable. The pause that begins now, or `None` when one is
    /// under way: those who were already sending find out together.
    pub(crate) fn fail(&mut self, now: Instant, asked: Option<Duration>) -> Option<Duration> {
        if self.is_open(now) {
            return None;
        }
        let doubled = Self::FIRST_PAUSE.saturating_mul(1 << self.failures.min(16));
        let pause = doubled
            .min(Self::LONGEST_PAUSE)
            .max(asked.unwrap_or_default());
        self.failures = self.failures.saturating_add(1);
        self.open_until = Some(now + pause);
        Some(pause)
    }

    /// The channel answered. True when it had been unavailable before.
    pub(crate) fn succeed(&mut self) -> bool {
        let was_failing = self.failures > 0;
        *self = Self::default();
        was_failing
    }

    pub(crate) fn is_open(&self, now: Instant) -> bool {
        self.open_until.is_some_and(|until| now < until)
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

    #[test]
    fn pauses_grow_and_only_the_first_to_notice_begins_one() {
        let mut breaker = Breaker::default();
        let mut now = Instant::now();
        for seconds in [1, 2, 4, 8, 16, 32, 64, 120, 120] {
            let pause = Duration::from_secs(seconds);
            assert_eq!(breaker.fail(now, None), Some(pause));
            assert_eq!(breaker.fail(now, None), None);
            assert_eq!(breaker.admit(now, 8, 0), 0);
            now += pause;
            assert_eq!(breaker.admit(now, 8, 0), 1);
            assert_eq!(breaker.admit(now, 8, 1), 0);
        }
    }

    #[test]
    fn one_success_closes_it() {
        let mut breaker = Breaker::default();
        assert!(!breaker.succeed());
        breaker.fail(Instant::now(), Some(Duration::from_secs(60)));
        assert!(breaker.succeed());
        assert_eq!(breaker.admit(Instant::now(), 8, 0), 8);
    }

    #[test]
    fn what_the_provider_asks_is_respected() {
        let asked = Some(Duration::from_secs(600));
        assert_eq!(Breaker::default().fail(Instant::now(), asked), asked);
    }
}
