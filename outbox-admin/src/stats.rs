//! Counts for people and dashboards.

use crate::admin::Admin;
use crate::callbacks::Received;
use crate::problem::Problem;
use axum::Json;
use axum::extract::State;
use outbox_store::{Backlog, ChannelState, Settled, Store, StoreError, WorkerState};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// The state of the whole database, which all processes share.
#[derive(Serialize)]
pub(crate) struct Stats {
    /// Events per status.
    events: BTreeMap<String, i64>,
    backlog: Vec<Backlog>,
    settled: Vec<Settled>,
    /// What providers have reported since.
    receipts: Vec<Settled>,
    channels: Vec<ChannelState>,
    workers: Vec<WorkerState>,
    /// What has come to this process.
    callbacks: Received,
}

pub(crate) async fn stats(State(admin): State<Arc<Admin>>) -> Result<Json<Stats>, Problem> {
    let received = admin.callbacks.received();
    Ok(Json(admin.counter.count(received).await?))
}

/// Counts one request after the other: counting reads whole tables, and must not take the
/// database from those who deliver.
pub(crate) struct Counter(Mutex<Store>);

impl Counter {
    pub(crate) fn new(store: Store) -> Self {
        Self(Mutex::new(store))
    }

    async fn count(&self, callbacks: Received) -> Result<Stats, StoreError> {
        let store = self.0.lock().await;
        Ok(Stats {
            events: store.events_by_status().await?.into_iter().collect(),
            backlog: store.backlog().await?,
            settled: store.settled().await?,
            receipts: store.receipts().await?,
            channels: store.channels().await?,
            workers: store.workers().await?,
            callbacks,
        })
    }
}
