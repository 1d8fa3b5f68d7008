//! Written down before a send: that an attempt begins. Many at once share a statement.

use crate::lease::Tenure;
use crate::part::Item;
use crate::trouble::{Trouble, within};
use outbox_store::{Lane, Store, WorkerId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// An attempt that wants to begin.
struct Intent {
    tenure: Arc<Tenure>,
    row: (i64, Lane),
    answer: oneshot::Sender<bool>,
}

/// Where attempts are announced.
#[derive(Clone)]
pub(crate) struct Intents(mpsc::Sender<Intent>);

const BATCH: usize = 500;

impl Intents {
    /// Writes intents down until nobody can announce any.
    pub(crate) fn start(store: Store, patience: Duration) -> Self {
        let (sender, mut intents) = mpsc::channel::<Intent>(BATCH);
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(BATCH);
            while intents.recv_many(&mut batch, BATCH).await > 0 {
                while let Some(first) = batch.first() {
                    let worker = first.tenure.worker;
                    let is_its_own = |intent: &mut Intent| intent.tenure.worker == worker;
                    let same: Vec<Intent> = batch.extract_if(.., is_its_own).collect();
                    write(&store, patience, worker, same).await;
                }
            }
        });
        Self(sender)
    }

    /// Returns when it is written down that an attempt of `item` begins. False: the row is no
    /// longer ours, or this could not be written; then nothing must be sent.
    pub(crate) async fn announce(&self, item: &Item) -> bool {
        let (answer, written) = oneshot::channel();
        let intent = Intent {
            tenure: Arc::clone(&item.tenure),
            row: (item.event.id, item.lane.clone()),
            answer,
        };
        self.0.send(intent).await.is_ok() && written.await.unwrap_or(false)
    }
}

async fn write(store: &Store, patience: Duration, worker: WorkerId, intents: Vec<Intent>) {
    let rows: Vec<_> = intents.iter().map(|intent| intent.row.clone()).collect();
    let begun: Result<_, Trouble> = within(patience, store.begin_attempts(worker, &rows)).await;
    let held = begun.unwrap_or_else(|trouble| {
        tracing::warn!(
            error = trouble.sentence(),
            rows = rows.len(),
            "attempts cannot be announced, so they are put off"
        );
        Vec::new()
    });
    for intent in intents {
        // Whoever asked may have been stopped meanwhile.
        let _ = intent.answer.send(held.contains(&intent.row));
    }
}
