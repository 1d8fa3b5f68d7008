//! What the claim statement answers.

use super::{ClaimId, Lane, Leased};
use chrono::{DateTime, Utc};
use outbox_channel::ChannelName;

/// A row as the claim statement returns it: what is nearly always the same only when it is not.
pub(super) struct Answer {
    pub(super) has_blocked: Option<bool>,
    pub(super) is_cut: Option<bool>,
    pub(super) event_id: Option<i64>,
    pub(super) due_at: Option<DateTime<Utc>>,
    pub(super) claim: Option<i16>,
    pub(super) channel: Option<String>,
    pub(super) priority: Option<i16>,
    pub(super) attempt: Option<i32>,
    pub(super) takeovers: Option<i16>,
    pub(super) began_at: Option<DateTime<Utc>>,
    pub(super) key_hash: Option<i64>,
    pub(super) behind: Option<Vec<String>>,
}

/// A leased row, and where it lay in its lane.
pub(super) struct Row {
    pub(super) priority: i16,
    pub(super) due_at: DateTime<Utc>,
    pub(super) leased: Leased,
}

impl Row {
    pub(super) fn key_hash(&self) -> Option<i64> {
        self.leased.key_hash
    }
}

impl Answer {
    /// `None` when this is the answer of a claim that leased nothing.
    pub(super) fn into_row(self) -> Option<Row> {
        let behind = self.behind.unwrap_or_default().into_iter();
        Some(Row {
            priority: self.priority.unwrap_or_default(),
            due_at: self.due_at?,
            leased: Leased {
                event_id: self.event_id?,
                lane: Lane::named(self.channel.unwrap_or_default())?,
                key_hash: self.key_hash,
                attempts: self.attempt.unwrap_or_default().unsigned_abs(),
                takeovers: self.takeovers.unwrap_or_default().unsigned_abs().into(),
                claim: ClaimId(self.claim?),
                began_at: self.began_at,
                behind: behind
                    .filter_map(|name| ChannelName::try_from(name).ok())
                    .collect(),
            },
        })
    }
}
