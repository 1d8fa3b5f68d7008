//! Worker processes: a lease for everything they have claimed, prolonged by one small update.

use crate::error::StoreError;
use crate::fault::{Step, around};
use crate::store::Store;
use chrono::{DateTime, Utc};
use std::fmt;
use std::time::Duration;

/// One unbroken lease of one worker process, and the fencing token of all that it claims. Ids
/// are never used twice: a worker that let its lease run out registers anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WorkerId(pub(crate) i32);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Store {
    /// A new worker, alive for `lease` from now, and what time it is by the database's clock.
    /// `name` is for people.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn register_worker(
        &self,
        name: &str,
        lease: Duration,
    ) -> Result<(WorkerId, DateTime<Utc>), StoreError> {
        let register = sqlx::query_file!("sql/register_worker.sql", name, lease.as_secs_f64());
        around(Step::Register, register.fetch_one(&self.pool))
            .await
            .map(|row| (WorkerId(row.id), row.now))
            .map_err(StoreError::during("register the worker"))
    }

    /// Prolongs a lease to `lease` from now and tells the time by the database's clock. `None`:
    /// it had run out, and others may have taken what the worker held.
    ///
    /// # Errors
    /// When the statement fails; the lease then stays as it was.
    pub async fn heartbeat(
        &self,
        worker: WorkerId,
        lease: Duration,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        let beat = sqlx::query_file_scalar!("sql/heartbeat.sql", worker.0, lease.as_secs_f64());
        around(Step::Heartbeat, beat.fetch_optional(&self.pool))
            .await
            .map_err(StoreError::during("prolong the worker's lease"))
    }

    /// The worker is gone. What it may still hold is free at once.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn deregister_worker(&self, worker: WorkerId) -> Result<(), StoreError> {
        let deregister = sqlx::query_file!("sql/deregister_worker.sql", worker.0);
        around(Step::Deregister, deregister.execute(&self.pool))
            .await
            .map(drop)
            .map_err(StoreError::during("deregister the worker"))
    }
}
