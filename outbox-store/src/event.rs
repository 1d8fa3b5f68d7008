//! One event with all that is known about it.

use crate::error::StoreError;
use crate::store::Store;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// An event with all that is known about it.
#[derive(Debug, Clone, Serialize)]
pub struct EventDetails {
    /// What the application wrote, and where it stands.
    pub event: EventFacts,
    /// What is settled, per channel.
    pub results: Vec<EventResult>,
    /// What is left to do, per channel.
    pub queue: Vec<EventWork>,
    /// The last 100 attempts that failed, the oldest first, and when it was replayed.
    pub attempts: Vec<EventAttempt>,
}

/// What the application wrote, and where it stands.
#[derive(Debug, Clone, Serialize)]
pub struct EventFacts {
    /// Its id.
    pub id: i64,
    /// As `outbox_event_status` has it; `None` when somebody emptied the queue.
    pub status: Option<String>,
    /// Its type.
    pub event_type: String,
    /// What it belongs to.
    pub key: Option<String>,
    /// No two events have the same.
    pub dedup_key: Option<String>,
    /// Lower is more urgent.
    pub priority: i16,
    /// Its own limit.
    pub max_retries: Option<i32>,
    /// Not before then.
    pub deliver_at: DateTime<Utc>,
    /// Not from then on.
    pub expires_at: Option<DateTime<Utc>>,
    /// When its transaction began.
    pub created_at: DateTime<Utc>,
    /// When it was settled.
    pub processed_at: Option<DateTime<Utc>>,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
    /// Only when asked for: it may hold personal data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<serde_json::Value>,
    /// Likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<serde_json::Value>,
}

/// How a delivery ended.
#[derive(Debug, Clone, Serialize)]
pub struct EventResult {
    /// The channel; empty for an event without a route.
    pub channel: String,
    /// How it ended, see [`ResultStatus`](crate::ResultStatus).
    pub status: String,
    /// When.
    pub finished_at: DateTime<Utc>,
    /// After so many attempts.
    pub attempts: i32,
    /// What to group by.
    pub code: Option<String>,
    /// Why.
    pub message: Option<String>,
    /// The provider's name for the message.
    pub provider_id: Option<String>,
    /// The channel that took over.
    pub fell_back_to: Option<String>,
    /// What the provider has reported since, see [`ReportedStatus`](outbox_channel::ReportedStatus).
    pub reported: Option<String>,
    /// Its word or number for why.
    pub reported_code: Option<String>,
    /// When it first said so.
    pub reported_at: Option<DateTime<Utc>>,
}

/// A delivery that is left to do.
#[derive(Debug, Clone, Serialize)]
pub struct EventWork {
    /// The channel; empty for an event that is not routed yet.
    pub channel: String,
    /// When it is due; `None` when it is held.
    pub due_at: Option<DateTime<Utc>>,
    /// It waits for a human.
    pub held: bool,
    /// Attempts spent.
    pub attempts: i32,
    /// How often its worker died with it.
    pub takeovers: i16,
    /// It waits for another of its key.
    pub blocked: bool,
    /// An attempt of which nobody knows the outcome began then.
    pub began_at: Option<DateTime<Utc>>,
    /// The living worker that has it.
    pub worker: Option<String>,
}

/// An attempt that failed.
#[derive(Debug, Clone, Serialize)]
pub struct EventAttempt {
    /// When it ended.
    pub finished_at: DateTime<Utc>,
    /// Through which channel.
    pub channel: String,
    /// Which try it was.
    pub attempt: i32,
    /// How long it took, in milliseconds.
    pub duration_ms: i32,
    /// An [`ErrorClass`](outbox_channel::ErrorClass), or `replayed`: an operator had it sent
    /// again.
    pub class: String,
    /// What to group by.
    pub code: String,
    /// Why.
    pub message: String,
    /// An excerpt of what the provider answered; of what was replayed, the provider's name for
    /// the message.
    pub answer: Option<String>,
}

impl Store {
    /// All that is known about an event; `None` when there is none. Its payload and headers only
    /// `with_payload`.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn event(
        &self,
        id: i64,
        with_payload: bool,
    ) -> Result<Option<EventDetails>, StoreError> {
        self.details(id, with_payload)
            .await
            .map_err(StoreError::during("look at the event"))
    }

    async fn details(
        &self,
        id: i64,
        with_payload: bool,
    ) -> Result<Option<EventDetails>, sqlx::Error> {
        // All from one moment: what moves from the queue to the results is seen once.
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let mut transaction = self.pool.begin_with(begin).await?;
        let event = sqlx::query_file_as!(EventFacts, "sql/event.sql", id, with_payload)
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(event) = event else {
            return Ok(None);
        };
        let results = sqlx::query_file_as!(EventResult, "sql/event_results.sql", id)
            .fetch_all(&mut *transaction)
            .await?;
        let queue = sqlx::query_file_as!(EventWork, "sql/event_queue.sql", id)
            .fetch_all(&mut *transaction)
            .await?;
        let attempts = sqlx::query_file_as!(EventAttempt, "sql/event_attempts.sql", id)
            .fetch_all(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Some(EventDetails {
            event,
            results,
            queue,
            attempts,
        }))
    }
}
