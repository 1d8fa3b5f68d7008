//! Rows that were claimed together.

use crate::health::Duty;
use crate::lease::Tenure;
use crate::shared::Shared;
use crate::trouble::{Backoff, within};
use chrono::DateTime;
use outbox_channel::Event;
use outbox_store::{Claimed, Leased};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A row that its worker died with so often is not tried together with another of its kind: only
/// one of them is the cause, and the others must not be given up with it.
const SUSPICIOUS: u32 = 2;

/// What one claim brought.
pub(crate) struct Load {
    pub(crate) rows: Vec<Leased>,
    pub(crate) tenure: Arc<Tenure>,
    /// Only those are begun for which their channel has room.
    pub(crate) within_room: bool,
}

/// What holds for all rows of a load.
pub(super) struct Terms {
    pub(super) tenure: Arc<Tenure>,
    pub(super) within_room: bool,
    /// The event that is the most likely to be why workers died.
    suspect: Option<i64>,
}

impl Load {
    const LONGEST_RETRY: Duration = Duration::from_secs(5);

    /// The rows with their events, as soon as the database gives them out. `None` when the worker or
    /// its lease ends before, and for a batch that somebody waits for, which does not try again.
    pub(super) async fn read(&self, shared: &Shared) -> Option<Vec<Claimed>> {
        tokio::select! {
            () = shared.stopping.cancelled() => None,
            read = self.read_patiently(shared) => read,
        }
    }

    async fn read_patiently(&self, shared: &Shared) -> Option<Vec<Claimed>> {
        let mut backoff = Backoff::up_to(Self::LONGEST_RETRY);
        while self.tenure.is_held() {
            let reading = shared.store.read_events(self.tenure.worker, &self.rows);
            let trouble = match within(shared.patience, reading).await {
                Ok(rows) => {
                    shared.pulse.fine(Duty::Reading);
                    return Some(rows);
                }
                Err(trouble) => trouble,
            };
            if !self.within_room {
                shared.unread.set(trouble.into());
                return None;
            }
            let (again_in, error) = (backoff.next(), trouble.sentence());
            tracing::warn!(
                error,
                rows = self.rows.len(),
                ?again_in,
                "what was claimed cannot be read, trying again"
            );
            shared.pulse.trouble(Duty::Reading, error);
            tokio::time::sleep(again_in).await;
        }
        None
    }

    pub(super) fn terms(&self) -> Terms {
        let suspects = self.rows.iter().filter(|row| row.takeovers >= SUSPICIOUS);
        Terms {
            tenure: Arc::clone(&self.tenure),
            within_room: self.within_room,
            suspect: suspects
                .max_by_key(|row| row.takeovers)
                .map(|row| row.event_id),
        }
    }
}

/// Of an event that could not be read, there is nothing but what its row says.
pub(super) fn unread(lease: &Leased) -> Claimed {
    let event = Event {
        id: lease.event_id,
        event_type: String::new(),
        payload: RawValue::NULL.to_owned(),
        headers: BTreeMap::new(),
        key: lease.key_hash.map(|_| String::new()),
        max_retries: None,
        expires_at: None,
        created_at: DateTime::UNIX_EPOCH,
    };
    Claimed {
        lease: lease.clone(),
        event: Arc::new(event),
        left_behind: None,
    }
}

impl Terms {
    /// Whether a row is not to be tried now.
    pub(super) fn put_off(&self, event_id: i64, takeovers: u32) -> bool {
        takeovers >= SUSPICIOUS && self.suspect != Some(event_id)
    }
}
