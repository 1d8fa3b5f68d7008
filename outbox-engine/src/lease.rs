//! Whether what this process has claimed is still its own.

mod clock;

use crate::health::{Duty, Pulse};
use crate::trouble::{News, Outage, Trouble, within};
use crate::wake::Alarm;
use chrono::{DateTime, Utc};
use clock::Moment;
use outbox_store::{Store, StoreError, WorkerId};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The leases of this process: one under which it claims, and those that it has given up but
/// under which something is still at work. Kept up by heartbeats.
#[derive(Debug)]
pub(crate) struct Lease {
    store: Store,
    name: String,
    length: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    current: Arc<Tenure>,
    retired: Vec<Arc<Tenure>>,
    /// The database's clock, and ours at the same moment.
    clock: (DateTime<Utc>, Moment),
}

/// One unbroken lease. Whatever was claimed under it holds on to it until it is settled.
#[derive(Debug)]
pub(crate) struct Tenure {
    pub(crate) worker: WorkerId,
    valid_until: Mutex<Moment>,
}

impl Tenure {
    fn new(worker: WorkerId, valid_until: Moment) -> Self {
        Self {
            worker,
            valid_until: Mutex::new(valid_until),
        }
    }

    /// Whether it has not run out: judged by when the heartbeats were *sent*, so that it ends
    /// here no later than in the database, also when the machine was suspended.
    pub(crate) fn is_held(&self) -> bool {
        Moment::now() < *lock(&self.valid_until)
    }
}

impl Lease {
    /// How long a leaving worker tries to say so.
    const FAREWELL: Duration = Duration::from_secs(2);

    pub(crate) async fn begin(
        store: Store,
        name: &str,
        length: Duration,
    ) -> Result<Self, StoreError> {
        let sent = Moment::now();
        let (worker, now) = store.register_worker(name, length).await?;
        Ok(Self {
            store,
            name: name.to_owned(),
            length,
            state: Mutex::new(State {
                current: Arc::new(Tenure::new(worker, sent + length)),
                retired: Vec::new(),
                clock: (now, Moment::now()),
            }),
        })
    }

    /// The lease to claim under.
    pub(crate) fn current(&self) -> Arc<Tenure> {
        Arc::clone(&lock(&self.state).current)
    }

    /// What time it is by the database's clock.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        let (database, ours) = lock(&self.state).clock;
        database + ours.elapsed()
    }

    /// Goes on under a new lease. The old one ends when nothing is at work under it any more:
    /// then what it has leased without our knowing (a claim's answer was lost) is free for all.
    pub(crate) async fn replace(&self) -> Result<(), StoreError> {
        let sent = Moment::now();
        let registration = self.store.register_worker(&self.name, self.length);
        let (worker, now) = registration.await?;
        let tenure = Arc::new(Tenure::new(worker, sent + self.length));
        let mut state = lock(&self.state);
        state.clock = (now, Moment::now());
        let old = std::mem::replace(&mut state.current, tenure);
        state.retired.push(old);
        Ok(())
    }

    /// Keeps the leases up until the future is dropped. When the current one has run out all the
    /// same (the process was stopped, or cut off from the database), begins a new one and rings
    /// the `alarm`: producers do not know its sleeper yet.
    pub(crate) async fn keep_up(&self, alarm: &Alarm, pulse: &Pulse) {
        let mut wait = self.length / 3;
        let mut outage = Outage::default();
        loop {
            tokio::time::sleep(wait).await;
            wait = match self.prolong_all(alarm).await {
                Ok(()) => {
                    if let Some(News { lasting, failures }) = outage.is_over() {
                        tracing::info!(failures, ?lasting, "heartbeats succeed again");
                    }
                    pulse.fine(Duty::Lease);
                    self.length / 3
                }
                Err(trouble) => {
                    let error = trouble.sentence();
                    if let Some(News { lasting, failures }) = outage.goes_on() {
                        tracing::warn!(error, failures, ?lasting, "heartbeat failed");
                    }
                    pulse.trouble(Duty::Lease, error);
                    (self.length / 10).min(Duration::from_secs(1))
                }
            };
        }
    }

    /// Nothing is at work any more: whatever this process may still hold is free at once.
    pub(crate) async fn end(&self) {
        let mut tenures = std::mem::take(&mut lock(&self.state).retired);
        tenures.push(self.current());
        for tenure in tenures {
            let farewell = self.store.deregister_worker(tenure.worker);
            if let Err(trouble) = within(Self::FAREWELL, farewell).await {
                tracing::warn!(
                    worker = %tenure.worker, error = trouble.sentence(),
                    "the worker's lease has to run out by itself"
                );
            }
        }
    }

    async fn prolong_all(&self, alarm: &Alarm) -> Result<(), Trouble> {
        let current = self.current();
        if !self.prolong(&current).await? {
            within(self.length, self.replace()).await?;
            tracing::error!(
                lost = %current.worker,
                new = %self.current().worker,
                "the lease ran out before it was prolonged; other workers take over what this \
                 one had, and some messages may be sent twice, with the same id"
            );
            alarm.set(Instant::now());
        }
        let retired = lock(&self.state).retired.clone();
        for tenure in retired {
            // Ours, and the one in the list.
            if Arc::strong_count(&tenure) > 2 {
                self.prolong(&tenure).await?;
            } else {
                let farewell = self.store.deregister_worker(tenure.worker);
                within(self.length / 3, farewell).await?;
                lock(&self.state)
                    .retired
                    .retain(|other| !Arc::ptr_eq(other, &tenure));
                // What it may have held is free now.
                alarm.set(Instant::now());
            }
        }
        Ok(())
    }

    /// False when the lease has run out.
    async fn prolong(&self, tenure: &Tenure) -> Result<bool, Trouble> {
        let sent = Moment::now();
        let heartbeat = self.store.heartbeat(tenure.worker, self.length);
        let Some(now) = within(self.length / 3, heartbeat).await? else {
            *lock(&tenure.valid_until) = sent;
            return Ok(false);
        };
        *lock(&tenure.valid_until) = sent + self.length;
        lock(&self.state).clock = (now, Moment::now());
        Ok(true)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
