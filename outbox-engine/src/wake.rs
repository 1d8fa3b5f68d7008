//! When a worker that found nothing to do looks again.

use crate::trouble::{News, Outage, within};
use futures_util::FutureExt;
use outbox_store::{Lane, Listener, Store};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Rings when there is something to do that the worker could not know when it lay down: a retry
/// that was written meanwhile, a place that became free.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    at: Mutex<Option<Instant>>,
    changed: Notify,
}

impl Alarm {
    /// Rings at `time`, if nothing is set for earlier.
    pub(crate) fn set(&self, time: Instant) {
        let mut at = self.at();
        if at.is_none_or(|earlier| time < earlier) {
            *at = Some(time);
            self.changed.notify_one();
        }
    }

    /// Forgets what has rung, and says whether anything had. To be called *before* looking for
    /// work: what is set while looking may have been missed.
    pub(crate) fn reset(&self) -> bool {
        self.at().take_if(|at| *at <= Instant::now()).is_some()
    }

    /// Returns when it rings, at `latest` in any case.
    pub(crate) async fn rings(&self, latest: Instant) {
        loop {
            let at = self.at().map_or(latest, |at| at.min(latest));
            tokio::select! {
                () = tokio::time::sleep_until(at.into()) => return,
                () = self.changed.notified() => {}
            }
        }
    }

    fn at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rows that waited for others of their key, which are settled: where the next claim looks first.
#[derive(Debug, Default)]
pub(crate) struct Freed(Mutex<Vec<(i64, Lane)>>);

impl Freed {
    pub(crate) fn add(&self, rows: Vec<(i64, Lane)>) {
        self.rows().extend(rows);
    }

    pub(crate) fn take(&self) -> Vec<(i64, Lane)> {
        std::mem::take(&mut *self.rows())
    }

    fn rows(&self) -> MutexGuard<'_, Vec<(i64, Lane)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens for producers' calls, and tells them whether to call, as long as there is a connection
/// for it; without one the poll interval has to do.
pub(crate) struct Ears {
    store: Store,
    listener: Option<Listener>,
    next_try: Instant,
    deaf: Outage,
    full_claims: u32,
}

impl Ears {
    const RETRY: Duration = Duration::from_secs(5);
    /// While claims come back full, so many in a row, producers need not wake this worker.
    const BUSY_AFTER: u32 = 3;

    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            listener: None,
            next_try: Instant::now(),
            deaf: Outage::default(),
            full_claims: 0,
        }
    }

    /// Whether calls are heard.
    pub(crate) fn are_open(&self) -> bool {
        self.listener.is_some()
    }

    /// A claim took all it could.
    pub(crate) async fn full_claim(&mut self) {
        self.full_claims = self.full_claims.saturating_add(1);
        if self.full_claims >= Self::BUSY_AFTER {
            self.tell(false).await;
        }
    }

    /// A claim left nothing. True when producers hear only now that the worker sleeps: then
    /// something may have come before.
    pub(crate) async fn short_claim(&mut self) -> bool {
        self.full_claims = 0;
        self.tell(true).await
    }

    /// Without a listener producers would pay for calls that nobody hears.
    async fn tell(&mut self, asleep: bool) -> bool {
        let Some(listener) = &mut self.listener else {
            return false;
        };
        match within(Self::RETRY, listener.set_asleep(asleep)).await {
            Ok(is_news) => is_news,
            Err(trouble) => {
                self.next_try = Instant::now() + Self::RETRY;
                self.is_deaf(&trouble.sentence());
                false
            }
        }
    }

    /// Returns when a call came or may have been lost.
    pub(crate) async fn heard(&mut self) {
        let Some(listener) = &mut self.listener else {
            return self.listen().await;
        };
        let mut heard = listener.heard().await;
        // One look answers all calls that have come.
        while heard.is_ok() {
            match listener.heard().now_or_never() {
                Some(next) => heard = next,
                None => return,
            }
        }
        if let Err(error) = heard {
            self.is_deaf(&error.sentence());
        }
    }

    fn is_deaf(&mut self, error: &str) {
        self.listener = None;
        if let Some(News { lasting, failures }) = self.deaf.goes_on() {
            tracing::warn!(error, failures, ?lasting, "not listening, polling only");
        }
    }

    /// Returns when the worker listens: calls before this moment were not heard.
    async fn listen(&mut self) {
        if !self.store.can_listen() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep_until(self.next_try.into()).await;
            match within(Self::RETRY, self.store.listen()).await {
                Ok(listener) => {
                    self.listener = Some(listener);
                    if let Some(News { lasting, failures }) = self.deaf.is_over() {
                        tracing::info!(failures, ?lasting, "listening again");
                    }
                    return;
                }
                Err(trouble) => {
                    self.is_deaf(&trouble.sentence());
                    self.next_try = Instant::now() + Self::RETRY;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn it_rings_at_the_earliest_time_that_was_set() {
        let alarm = Arc::new(Alarm::default());
        let begun = tokio::time::Instant::now();
        let now = begun.into_std();
        let sleeper = tokio::spawn({
            let alarm = Arc::clone(&alarm);
            async move { alarm.rings(now + HOUR).await }
        });
        tokio::task::yield_now().await;
        alarm.set(now + Duration::from_secs(60));
        alarm.set(now + Duration::from_secs(5));
        alarm.set(now + Duration::from_secs(90));
        sleeper.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 5);
    }

    #[tokio::test]
    async fn a_reset_forgets_what_has_rung_and_nothing_else() {
        let alarm = Alarm::default();
        alarm.set(Instant::now());
        assert!(alarm.reset());
        assert_eq!(*alarm.at(), None);
        let later = Instant::now() + HOUR;
        alarm.set(later);
        assert!(!alarm.reset());
        assert_eq!(*alarm.at(), Some(later));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_set_before_it_is_waited_for_rings_at_once() {
        let alarm = Alarm::default();
        let begun = tokio::time::Instant::now();
        alarm.set(begun.into_std());
        alarm.rings(begun.into_std() + HOUR).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
