//! Counts for people.

use crate::error::StoreError;
use crate::store::Store;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// What waits in one lane.
#[derive(Debug, Clone, Serialize)]
pub struct Backlog {
    /// The channel; empty for events that are not routed yet.
    pub channel: String,
    /// Due, never tried.
    pub due: i64,
    /// For a later time, never tried.
    pub scheduled: i64,
    /// Tried, waiting for the next try.
    pub retrying: i64,
    /// With a worker.
    pub leased: i64,
    /// Waiting for a human.
    pub held: i64,
    /// How long the oldest has been due.
    pub oldest_due_seconds: Option<f64>,
}

/// How many deliveries of a channel ended in one way.
#[derive(Debug, Clone, Serialize)]
pub struct Settled {
    /// The channel; empty for events without a route.
    pub channel: String,
    /// How they ended.
    pub status: String,
    /// How many.
    pub count: i64,
}

/// A worker process.
#[derive(Debug, Clone, Serialize)]
pub struct WorkerState {
    /// Its lease.
    pub id: i32,
    /// Its name for people.
    pub name: String,
    /// When it registered.
    pub started_at: DateTime<Utc>,
    /// Whether its lease holds.
    pub alive: bool,
}

impl Store {
    /// What waits, per lane.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn backlog(&self) -> Result<Vec<Backlog>, StoreError> {
        sqlx::query_file_as!(Backlog, "sql/backlog.sql")
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::during("count what waits"))
    }

    /// What is settled, per channel and status.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn settled(&self) -> Result<Vec<Settled>, StoreError> {
        sqlx::query_file_as!(Settled, "sql/settled.sql")
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::during("count what is settled"))
    }

    /// Events per status, as `outbox_event_status` tells them.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn events_by_status(&self) -> Result<Vec<(String, i64)>, StoreError> {
        let rows = sqlx::query_file!("sql/events_by_status.sql")
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::during("count events by status"))?;
        Ok(rows
            .into_iter()
            .map(|row| (row.status, row.count))
            .collect())
    }

    /// All workers, also those whose lease ran out within the last day.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn workers(&self) -> Result<Vec<WorkerState>, StoreError> {
        sqlx::query_file_as!(WorkerState, "sql/workers.sql")
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::during("list the workers"))
    }
}
