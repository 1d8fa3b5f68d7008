//! The producer's side, for Rust: what `outbox_enqueue` is for everybody else.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgExecutor;
use sqlx::types::Json;
use std::collections::BTreeMap;

/// An event to be written; the fields are the columns of `outbox_events`, in JSON as well.
///
/// ```
/// use outbox_store::NewEvent;
/// let event = NewEvent::new("invoice.paid", serde_json::json!({"number": 7}))
///     .key("customer-12")
///     .dedup_key("invoice-7-paid");
/// ```
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NewEvent {
    event_type: String,
    payload: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dedup_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_retries: Option<u32>,
    #[serde(default)]
    priority: i16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// Why an event was not written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the event")]
pub struct EnqueueError(#[from] sqlx::Error);

impl NewEvent {
    /// An event of a type, due now. Channels that make messages (e-mail, SMS) want the payload
    /// to be an object.
    pub fn new(event_type: impl Into<String>, payload: serde_json::Value) -> Self {
        Self {
            event_type: event_type.into(),
            payload,
            key: None,
            dedup_key: None,
            deliver_at: None,
            expires_at: None,
            max_retries: None,
            priority: 0,
            headers: BTreeMap::new(),
        }
    }

    /// Events with the same key are delivered in the order of their ids.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Written only if there is no event with this key yet.
    #[must_use]
    pub fn dedup_key(mut self, key: impl Into<String>) -> Self {
        self.dedup_key = Some(key.into());
        self
    }

    /// Not before then.
    #[must_use]
    pub fn deliver_at(mut self, time: DateTime<Utc>) -> Self {
        self.deliver_at = Some(time);
        self
    }

    /// Not worth delivering from then on.
    #[must_use]
    pub fn expires_at(mut self, time: DateTime<Utc>) -> Self {
        self.expires_at = Some(time);
        self
    }

    /// How many tries after the first, instead of the channel's setting.
    #[must_use]
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.max_retries = Some(retries);
        self
    }

    /// Lower is more urgent; the default is 0.
    #[must_use]
    pub fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    /// A text pair beside the payload.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }
}

/// Writes an event in the caller's transaction and returns its id: the id of the first one when
/// its `dedup_key` is already there.
///
/// # Errors
/// When the statement fails, for instance because the event type is empty.
pub async fn enqueue<'c>(
    executor: impl PgExecutor<'c>,
    event: &NewEvent,
) -> Result<i64, EnqueueError> {
    let max_retries = event
        .max_retries
        .map(|n| i32::try_from(n).unwrap_or(i32::MAX));
    let id = sqlx::query_file_scalar!(
        "sql/enqueue.sql",
        event.event_type,
        event.payload,
        event.key,
        event.dedup_key,
        event.deliver_at,
        event.expires_at,
        event.priority,
        max_retries,
        Json(&event.headers) as _,
    )
    .fetch_one(executor)
    .await?;
    Ok(id)
}

/// Writes many events in one statement and returns their ids in the same order.
///
/// # Errors
/// When the statement fails; then none is written.
pub async fn enqueue_many<'c>(
    executor: impl PgExecutor<'c>,
    events: &[NewEvent],
) -> Result<Vec<i64>, EnqueueError> {
    let ids = sqlx::query_file_scalar!("sql/enqueue_many.sql", Json(events) as _)
        .fetch_all(executor)
        .await?;
    Ok(ids)
}
