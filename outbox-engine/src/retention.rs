//! Forgetting what is settled and old.

use crate::trouble::{Trouble, within};
use outbox_store::Store;
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;

/// When settled events are forgotten.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// So long after they were settled.
    pub days: f64,
    /// At most so many at once; 0 keeps everything.
    pub limit: u32,
    /// In every so manieth cycle; 0 never.
    pub every_cycles: u32,
}

impl Retention {
    const BATCH: u32 = 1_000;
    /// A batch takes milliseconds.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Forgets what is old enough; says how many events.
    pub(crate) async fn prune(self, store: &Store) -> Result<u64, Trouble> {
        let (mut removed, mut from) = (0, Some(0));
        while let Some(start) = from {
            let left = u64::from(self.limit).saturating_sub(removed);
            if left == 0 {
                break;
            }
            let batch = u32::try_from(left).unwrap_or(Self::BATCH).min(Self::BATCH);
            let pruned = within(Self::PATIENCE, store.prune(self.days, batch, start)).await?;
            removed += pruned.removed;
            from = pruned.next;
        }
        if removed > 0 {
            tracing::info!(removed, "forgot old events");
        }
        Ok(removed)
    }
}

/// Prunes now and then beside the work, one run at a time, for as long as the worker works.
pub(crate) struct Pruner {
    store: Store,
    retention: Retention,
    cycles: u32,
    run: Option<AbortOnDropHandle<()>>,
}

impl Pruner {
    pub(crate) fn new(store: Store, retention: Retention) -> Self {
        Self {
            store,
            retention,
            cycles: 0,
            run: None,
        }
    }

    /// A cycle has passed.
    pub(crate) fn cycle(&mut self) {
        self.cycles = self.cycles.saturating_add(1);
        let every = self.retention.every_cycles;
        let is_running = self.run.as_ref().is_some_and(|run| !run.is_finished());
        if every == 0 || self.cycles < every || is_running {
            return;
        }
        self.cycles = 0;
        let (store, retention) = (self.store.clone(), self.retention);
        self.run = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = retention.prune(&store).await {
                tracing::warn!(error = error.sentence(), "pruning failed");
            }
        })));
    }
}
