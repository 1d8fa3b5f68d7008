//! When the database does not do what it is told.

use outbox_store::StoreError;
use std::future::Future;
use std::time::{Duration, Instant};

/// A statement did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A connection may be dead without anybody noticing for a quarter of an hour.
    #[error("no answer from the database within {0:?}")]
    NoAnswer(Duration),
}

impl Trouble {
    /// The whole chain in one sentence.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::Store(error) => error.sentence(),
            Self::NoAnswer(_) => self.to_string(),
        }
    }

    /// The same statement may succeed later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::NoAnswer(_) => true,
        }
    }
}

/// The call's answer, if it comes in time.
pub(crate) async fn within<T>(
    time: Duration,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, Trouble> {
    match tokio::time::timeout(time, call).await {
        Ok(answer) => Ok(answer?),
        Err(_elapsed) => Err(Trouble::NoAnswer(time)),
    }
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Store(error) => error,
            Trouble::NoAnswer(time) => Self::no_answer("reach the database", time),
        }
    }
}

/// Trouble that lasts is told of when it begins, once a minute, and when it is over.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    since: Option<Instant>,
    told: Option<Instant>,
    failures: u32,
}

/// When an outage is to be told of, and how long it has lasted and how often something failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) lasting: Duration,
    pub(crate) failures: u32,
}

impl Outage {
    const REMINDER: Duration = Duration::from_secs(60);

    /// It failed (again).
    pub(crate) fn goes_on(&mut self) -> Option<News> {
        let now = Instant::now();
        self.failures = self.failures.saturating_add(1);
        let since = *self.since.get_or_insert(now);
        if self.told.is_some_and(|told| now < told + Self::REMINDER) {
            return None;
        }
        self.told = Some(now);
        Some(News {
            lasting: now - since,
            failures: self.failures,
        })
    }

    /// It succeeded.
    pub(crate) fn is_over(&mut self) -> Option<News> {
        let Self {
            since, failures, ..
        } = std::mem::take(self);
        Some(News {
            lasting: since?.elapsed(),
            failures,
        })
    }
}

/// Waits that double from 100 ms up to a longest one.
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);

    pub(crate) fn up_to(longest: Duration) -> Self {
        Self {
            next: Self::FIRST,
            longest,
        }
    }

    /// The wait that is due, and a longer one the next time.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.longest);
        wait
    }

    pub(crate) fn reset(&mut self) {
        self.next = Self::FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_of_when_it_begins_and_when_it_is_over() {
        let mut outage = Outage::default();
        assert_eq!(outage.is_over(), None);
        assert_eq!(outage.goes_on().unwrap().failures, 1);
        assert_eq!(outage.goes_on(), None);
        assert_eq!(outage.goes_on(), None);
        assert_eq!(outage.is_over().unwrap().failures, 3);
        assert_eq!(outage.is_over(), None);
        assert_eq!(outage.goes_on().unwrap().failures, 1);
    }

    #[test]
    fn a_long_outage_is_told_of_once_a_minute() {
        let mut outage = Outage::default();
        outage.goes_on().unwrap();
        let long_ago = |told: Instant| told.checked_sub(Outage::REMINDER);
        outage.told = outage.told.and_then(long_ago);
        assert_eq!(outage.goes_on().unwrap().failures, 2);
        assert_eq!(outage.goes_on(), None);
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::up_to(Duration::from_millis(500));
        let waits: Vec<_> = (0..5).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 500, 500]);
        backoff.reset();
        assert_eq!(backoff.next().as_millis(), 100);
    }
}
