//! Rows that were claimed together.

use crate::health::Duty;
use crate::lease::Tenure;
use crate::shared::Shared;
use crate::trouble::{Backoff, Trouble, within};
use outbox_store::{Claimed, Leased, Left, Settlement, Wait};
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

    /// With their events, as soon as the database gives them out. Empty when the lease ends before,
    /// or the worker: then others find the rows as they were.
    pub(super) async fn read(&self, shared: &Shared) -> Vec<Claimed> {
        let mut backoff = Backoff::up_to(Self::LONGEST_RETRY);
        let read = loop {
            match self.read_once(shared).await {
                None => break Vec::new(),
                Some(Ok(rows)) => break rows,
                Some(Err(trouble)) => {
                    let (again_in, error) = (backoff.next(), trouble.sentence());
                    tracing::warn!(
                        error,
                        rows = self.rows.len(),
                        ?again_in,
                        "what was claimed cannot be read, trying again"
                    );
                    shared.pulse.trouble(Duty::Reading, error);
                    tokio::select! {
                        () = shared.stopping.cancelled() => {
                            self.give_back(shared).await;
                            break Vec::new();
                        }
                        () = tokio::time::sleep(again_in) => {}
                    }
                }
            }
        };
        shared.pulse.fine(Duty::Reading);
        read
    }

    /// `None` when there is no use in it any more.
    async fn read_once(&self, shared: &Shared) -> Option<Result<Vec<Claimed>, Trouble>> {
        if !self.tenure.is_held() {
            return None;
        }
        let reading = shared.store.read_events(self.tenure.worker, &self.rows);
        tokio::select! {
            () = shared.giving_up.cancelled() => None,
            read = within(shared.patience, reading) => Some(read),
        }
    }

    /// As they were. They count as rows that their worker died with where that fails as well.
    async fn give_back(&self, shared: &Shared) {
        let settlements: Vec<_> = self.rows.iter().map(given_back).collect();
        let (store, worker) = (&shared.store, self.tenure.worker);
        let settling = within(shared.patience, store.settle(worker, &settlements, false));
        let settled = tokio::select! {
            () = shared.giving_up.cancelled() => return,
            settled = settling => settled,
        };
        if let Err(trouble) = settled {
            let error = trouble.sentence();
            tracing::warn!(error, "what could not be read could not be given back");
        }
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

fn given_back(row: &Leased) -> Settlement {
    Settlement {
        event_id: row.event_id,
        lane: row.lane.clone(),
        claim: row.claim,
        is_keyed: row.key.is_some(),
        outcomes: Vec::new(),
        left: vec![Left {
            channel: row.lane.channel().cloned(),
            attempts: row.attempts,
            wait: Wait::Unchanged,
            keep: false,
            unknown: row.began_at.is_some(),
        }],
        failed: Vec::new(),
    }
}

impl Terms {
    /// Whether a row is not to be tried now.
    pub(super) fn put_off(&self, event_id: i64, takeovers: u32) -> bool {
        takeovers >= SUSPICIOUS && self.suspect != Some(event_id)
    }
}
