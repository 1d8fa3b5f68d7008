//! Rows that were claimed together.

use crate::lease::Tenure;
use outbox_store::Claimed;
use std::sync::Arc;

/// A row that its worker died with so often is not tried together with another of its kind: only
/// one of them is the cause, and the others must not be given up with it.
const SUSPICIOUS: u32 = 2;

/// What one claim brought.
pub(crate) struct Load {
    pub(crate) rows: Vec<Claimed>,
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
    pub(super) fn terms(&self) -> Terms {
        let suspects = self.rows.iter().filter(|row| row.takeovers >= SUSPICIOUS);
        Terms {
            tenure: Arc::clone(&self.tenure),
            within_room: self.within_room,
            suspect: suspects
                .max_by_key(|row| row.takeovers)
                .map(|row| row.event.id),
        }
    }
}

impl Terms {
    /// Whether a row is not to be tried now.
    pub(super) fn put_off(&self, event_id: i64, takeovers: u32) -> bool {
        takeovers >= SUSPICIOUS && self.suspect != Some(event_id)
    }
}
