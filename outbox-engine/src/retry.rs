//! When to try again.

use std::time::Duration;

/// How often and how far apart a delivery is tried again.
///
/// ```
/// # use outbox_engine::RetryPolicy;
/// # use std::time::Duration;
/// let policy = RetryPolicy {
///     base_delay: Duration::from_secs(5),
///     jitter: 0.0,
///     ..RetryPolicy::default()
/// };
/// assert_eq!(policy.delay(1, None, 0.5), Duration::from_secs(5));
/// assert_eq!(policy.delay(3, None, 0.5), Duration::from_secs(20));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Tries after the first.
    pub max_retries: u32,
    /// The wait after the first failure; doubled after each further one.
    pub base_delay: Duration,
    /// No wait is longer, but for what a provider asks.
    pub max_delay: Duration,
    /// How much of a wait is left to chance, from 0 to 1: 0.2 makes it 90 % to 110 %.
    pub jitter: f64,
    /// Wait exactly so long after every failure instead.
    pub fixed_delay: Option<Duration>,
}

impl Default for RetryPolicy {
    /// Twelve retries over about nine hours.
    fn default() -> Self {
        Self {
            max_retries: 12,
            base_delay: Duration::from_secs(5),
            max_delay: Duration::from_secs(3600),
            jitter: 0.2,
            fixed_delay: None,
        }
    }
}

impl RetryPolicy {
    /// A provider that asks for more is asked again after a day all the same.
    pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

    /// The wait after the `spent`-th attempt has failed. `random` is from 0 to 1. A provider's
    /// `retry_after` is never undercut.
    #[must_use]
    pub fn delay(&self, spent: u32, retry_after: Option<Duration>, random: f64) -> Duration {
        let own = self.fixed_delay.unwrap_or_else(|| {
            let doublings = spent.saturating_sub(1).min(31);
            let full = self
                .base_delay
                .saturating_mul(1 << doublings)
                .min(self.max_delay);
            let share = self.jitter.clamp(0.0, 1.0) * (random.clamp(0.0, 1.0) - 0.5);
            // No number, or one that is too large, leaves the wait as it is.
            Duration::try_from_secs_f64(full.as_secs_f64() * (1.0 + share)).unwrap_or(full)
        });
        let asked = retry_after
            .unwrap_or_default()
            .min(Self::LONGEST_RETRY_AFTER);
        own.max(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_never_overflow() {
        let policy = RetryPolicy {
            jitter: 0.0,
            ..RetryPolicy::default()
        };
        let seconds = |spent| policy.delay(spent, None, 0.0).as_secs();
        assert_eq!([1, 2, 3, 4].map(seconds), [5, 10, 20, 40]);
        assert_eq!([11, 40, u32::MAX].map(seconds), [3600, 3600, 3600]);
    }

    #[test]
    fn jitter_stays_within_its_share() {
        let policy = RetryPolicy::default();
        let wait = |random| policy.delay(1, None, random).as_secs_f64();
        assert!((wait(0.0) - 4.5).abs() < 1e-9);
        assert!((wait(1.0) - 5.5).abs() < 1e-9);
    }

    #[test]
    fn absurd_settings_make_no_wait_that_cannot_be_counted() {
        let policy = RetryPolicy {
            base_delay: Duration::MAX,
            max_delay: Duration::MAX,
            ..RetryPolicy::default()
        };
        assert_eq!(policy.delay(9, None, 1.0), Duration::MAX);
        let policy = RetryPolicy {
            jitter: f64::NAN,
            ..RetryPolicy::default()
        };
        assert_eq!(policy.delay(1, None, 1.0), Duration::from_secs(5));
    }

    #[test]
    fn a_provider_is_never_asked_before_the_time_it_named() {
        let policy = RetryPolicy::default();
        let wait = |seconds| {
            policy
                .delay(1, Some(Duration::from_secs(seconds)), 0.5)
                .as_secs()
        };
        assert_eq!(wait(1), 5);
        assert_eq!(wait(90), 90);
        assert_eq!(wait(u64::MAX), 24 * 3600);
    }

    #[test]
    fn a_fixed_delay_does_not_grow() {
        let policy = RetryPolicy {
            fixed_delay: Some(Duration::from_secs(30)),
            ..RetryPolicy::default()
        };
        assert_eq!(policy.delay(1, None, 0.0), policy.delay(9, None, 1.0));
    }
}
