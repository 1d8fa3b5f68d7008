//! What the claim statement answers.

use super::{ClaimId, Claimed, Lane};
use chrono::{DateTime, Utc};
use outbox_channel::{ChannelName, Event};
use serde_json::value::RawValue;
use sqlx::types::Json;
use std::collections::BTreeMap;

/// A row as the claim statement returns it.
pub(super) struct Answer {
    pub(super) blocked: i64,
    pub(super) is_cut: bool,
    pub(super) event_id: Option<i64>,
    pub(super) channel: Option<String>,
    pub(super) priority: Option<i16>,
    pub(super) due_at: Option<DateTime<Utc>>,
    pub(super) attempt: Option<i32>,
    pub(super) takeovers: Option<i16>,
    pub(super) claim: Option<i16>,
    pub(super) began_at: Option<DateTime<Utc>>,
    pub(super) behind: Option<Vec<String>>,
    pub(super) event_type: Option<String>,
    pub(super) payload: Option<Json<Box<RawValue>>>,
    pub(super) headers: Option<Json<Box<RawValue>>>,
    pub(super) key: Option<String>,
    pub(super) max_retries: Option<i32>,
    pub(super) expires_at: Option<DateTime<Utc>>,
    pub(super) created_at: Option<DateTime<Utc>>,
}

/// A leased row, and the event if it is still there.
pub(super) struct Row {
    pub(super) event_id: i64,
    pub(super) channel: String,
    pub(super) priority: i16,
    pub(super) due_at: DateTime<Utc>,
    pub(super) claimed: Option<Claimed>,
}

impl Row {
    pub(super) fn key(&self) -> Option<&str> {
        self.claimed.as_ref()?.event.key.as_deref()
    }
}

impl Answer {
    /// `None` when this is the answer of a claim that leased nothing.
    pub(super) fn into_row(self) -> Option<Row> {
        Some(Row {
            event_id: self.event_id?,
            channel: self.channel.clone()?,
            priority: self.priority?,
            due_at: self.due_at?,
            claimed: self.into_claimed(),
        })
    }

    /// `None` when there is no event, or a lane whose name nobody can have claimed for.
    fn into_claimed(self) -> Option<Claimed> {
        let lane = Lane::named(self.channel?)?;
        let event = Event {
            id: self.event_id?,
            event_type: self.event_type?,
            payload: self.payload?.0,
            headers: self
                .headers
                .map(|headers| text_pairs(&headers.0))
                .unwrap_or_default(),
            key: self.key,
            max_retries: self.max_retries.and_then(|n| u32::try_from(n).ok()),
            expires_at: self.expires_at,
            created_at: self.created_at?,
        };
        let behind = self.behind.unwrap_or_default().into_iter();
        Some(Claimed {
            lane,
            event,
            attempts: self.attempt?.unsigned_abs(),
            takeovers: self.takeovers?.unsigned_abs().into(),
            claim: ClaimId(self.claim?),
            began_at: self.began_at,
            behind: behind
                .filter_map(|name| ChannelName::try_from(name).ok())
                .collect(),
        })
    }
}

/// Headers are text; what an application wrote as something else stands as its JSON.
fn text_pairs(headers: &RawValue) -> BTreeMap<String, String> {
    if headers.get() == "{}" {
        return BTreeMap::new();
    }
    let values: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(headers.get()).unwrap_or_default();
    let as_text = |value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    values
        .into_iter()
        .map(|(name, value)| (name, as_text(value)))
        .collect()
}
