//! Whether what this process has claimed is still its own.

use chrono::{DateTime, Utc};
use outbox_store::{Store, StoreError, WorkerId};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

/// The lease of this process: kept up by heartbeats, judged by the time they were *sent*, so
/// that it ends here no later than in the database.
#[derive(Debug)]
pub(crate) struct Lease {
    name: String,
    length: Duration,
    state: RwLock<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    worker: WorkerId,
    valid_until: Instant,
    /// The database's clock, and ours at the same moment.
    clock: (DateTime<Utc>, Instant),
}

impl Lease {
    pub(crate) async fn begin(
        store: &Store,
        name: &str,
        length: Duration,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            name: name.to_owned(),
            length,
            state: RwLock::new(register(store, name, length).await?),
        })
    }

    pub(crate) fn worker(&self) -> WorkerId {
        self.state().worker
    }

    /// Whether `worker` is this process's lease, and it has not run out.
    pub(crate) fn is_held_by(&self, worker: WorkerId) -> bool {
        let state = self.state();
        state.worker == worker && Instant::now() < state.valid_until
    }

    /// What time it is by the database's clock.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        let (database, ours) = self.state().clock;
        database + ours.elapsed()
    }

    /// Keeps the lease up until the future is dropped. When it has run out all the same (the
    /// process was stopped, or cut off from the database), begins a new one.
    pub(crate) async fn keep_up(&self, store: &Store) {
        let mut wait = self.length / 3;
        loop {
            tokio::time::sleep(wait).await;
            wait = match self.prolong(store).await {
                Ok(()) => self.length / 3,
                Err(error) => {
                    tracing::warn!(error = error.sentence(), "heartbeat failed");
                    (self.length / 10).min(Duration::from_secs(1))
                }
            };
        }
    }

    async fn prolong(&self, store: &Store) -> Result<(), StoreError> {
        let sent = Instant::now();
        let worker = self.worker();
        let state = match store.heartbeat(worker, self.length).await? {
            Some(now) => State {
                worker,
                valid_until: sent + self.length,
                clock: (now, Instant::now()),
            },
            None => {
                let state = register(store, &self.name, self.length).await?;
                tracing::error!(
                    lost = %worker,
                    new = %state.worker,
                    "the lease ran out before it was prolonged; other workers take over what \
                     this one had, and some messages may be sent twice, with the same id"
                );
                state
            }
        };
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        Ok(())
    }

    fn state(&self) -> State {
        *self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn register(store: &Store, name: &str, length: Duration) -> Result<State, StoreError> {
    let sent = Instant::now();
    let (worker, now) = store.register_worker(name, length).await?;
    Ok(State {
        worker,
        valid_until: sent + length,
        clock: (now, Instant::now()),
    })
}
