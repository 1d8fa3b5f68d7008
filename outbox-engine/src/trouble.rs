//! When the database does not do what it is told.

use outbox_store::StoreError;
use std::future::Future;
use std::time::Duration;

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
