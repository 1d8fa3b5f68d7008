//! Probes: is the process alive, is it ready.

use crate::admin::Admin;
use crate::problem::Problem;
use axum::extract::State;
use outbox_engine::Health;
use outbox_store::{Store, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

const OK: &str = "ok";

pub(crate) async fn alive() -> &'static str {
    OK
}

pub(crate) async fn ready(State(admin): State<Arc<Admin>>) -> Result<&'static str, Problem> {
    admin.readiness.check().await.map(|()| OK)
}

/// Whether this process can do its work.
pub(crate) struct Readiness {
    store: Store,
    worker: Option<watch::Receiver<Health>>,
    was_ready: AtomicBool,
}

/// What stands in the way. Probes carry no key: they are told what is wrong, only the log gets
/// the cause.
struct Obstacle {
    told: String,
    cause: String,
}

impl Obstacle {
    fn new(told: impl Into<String>, cause: impl Into<String>) -> Self {
        Self {
            told: told.into(),
            cause: cause.into(),
        }
    }
}

impl Readiness {
    /// Probes give up after a few seconds; the answer has to come before.
    const PATIENCE: Duration = Duration::from_secs(2);
    const PAUSE: Duration = Duration::from_millis(100);

    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            worker: None,
            was_ready: AtomicBool::new(true),
        }
    }

    pub(crate) fn watch(&mut self, worker: watch::Receiver<Health>) {
        self.worker = Some(worker);
    }

    async fn check(&self) -> Result<(), Problem> {
        let checked = match self.check_worker() {
            Ok(()) => self.check_database().await,
            obstacle => obstacle,
        };
        // Anybody may probe as often as they like; only a change is news.
        let is_news = self.was_ready.swap(checked.is_ok(), Ordering::Relaxed) != checked.is_ok();
        match &checked {
            Ok(()) if is_news => tracing::info!("ready again"),
            Err(Obstacle { told, cause }) if is_news => tracing::warn!(told, cause, "not ready"),
            _ => {}
        }
        checked.map_err(|obstacle| Problem::unavailable(obstacle.told))
    }

    fn check_worker(&self) -> Result<(), Obstacle> {
        let Some(worker) = &self.worker else {
            return Ok(());
        };
        Err(match &*worker.borrow() {
            Health::Working => return Ok(()),
            Health::Starting => Obstacle::new("the worker has not begun", ""),
            Health::DatabaseTrouble(cause) => {
                Obstacle::new("the worker waits for the database", cause)
            }
            Health::Stopped => Obstacle::new("the worker has ended", ""),
        })
    }

    /// Asks again for as long as there is time: after a restart of the server the pool still
    /// holds dead connections, each of which fails once.
    async fn check_database(&self) -> Result<(), Obstacle> {
        let deadline = Instant::now() + Self::PATIENCE;
        let mut last: Option<StoreError> = None;
        loop {
            match timeout_at(deadline, self.store.ping()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) if error.is_transient() => last = Some(error),
                Ok(Err(error)) => return Err(Obstacle::new(error.to_string(), error.sentence())),
                Err(_) => {
                    let told = format!("the database did not answer within {:?}", Self::PATIENCE);
                    let cause = last.map_or_else(String::new, |error| error.sentence());
                    return Err(Obstacle::new(told, cause));
                }
            }
            sleep(Self::PAUSE).await;
        }
    }
}
