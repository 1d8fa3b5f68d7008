//! The events of leased rows.

use super::{Claimed, Leased};
use crate::contents::{Excerpt, text_pairs};
use crate::error::StoreError;
use crate::fault::{Step, around};
use crate::settle::unblock;
use crate::store::Store;
use crate::worker::WorkerId;
use chrono::{DateTime, Utc};
use outbox_channel::Event;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

impl Store {
    /// Reads the events of rows that `worker` has leased. A row whose event somebody has deleted
    /// is forgotten. May be repeated.
    ///
    /// Not part of the claim, so that the next claim need not wait for it.
    ///
    /// # Errors
    /// When a statement fails; the rows stay leased.
    pub async fn read_events(
        &self,
        worker: WorkerId,
        leased: &[Leased],
    ) -> Result<Vec<Claimed>, StoreError> {
        if leased.is_empty() {
            return Ok(Vec::new());
        }
        let (first, last) = runs(leased);
        let read = sqlx::query_file_as!(Facts, "sql/read_events.sql", &first, &last);
        let facts = around(Step::ReadEvents, read.fetch_all(&self.pool))
            .await
            .map_err(StoreError::during("read events"))?;
        let facts = facts.into_iter().map(|facts| (facts.id, facts.found()));
        let found: HashMap<i64, Found> = facts.collect();
        let mut claimed = Vec::with_capacity(leased.len());
        let mut orphans: Vec<&Leased> = Vec::new();
        for lease in leased {
            match found.get(&lease.event_id) {
                Some(found) => claimed.push(Claimed {
                    event: Arc::clone(&found.event),
                    left_behind: found.left_behind,
                    lease: lease.clone(),
                }),
                None => orphans.push(lease),
            }
        }
        if !orphans.is_empty() {
            self.drop_orphans(worker, &orphans)
                .await
                .map_err(StoreError::during("forget deleted events"))?;
        }
        Ok(claimed)
    }

    async fn drop_orphans(&self, worker: WorkerId, orphans: &[&Leased]) -> Result<(), sqlx::Error> {
        let (event_ids, lanes): (Vec<i64>, Vec<String>) = orphans
            .iter()
            .map(|row| (row.event_id, row.lane.as_str().to_owned()))
            .unzip();
        tracing::warn!(
            ?event_ids,
            "events were deleted from outbox_events before they were delivered"
        );
        let mut transaction = self.begin_read_committed().await?;
        let drop = sqlx::query_file!("sql/drop_orphans.sql", worker.0, &event_ids, &lanes);
        let dropped = around(Step::DropOrphans, drop.fetch_all(&mut *transaction)).await?;
        let keyed = dropped
            .into_iter()
            .filter_map(|row| Some((row.channel, row.key?, row.event_id)));
        unblock(&mut *transaction, keyed).await?;
        around(Step::Commit, transaction.commit()).await
    }
}

/// The first and the last of each run of consecutive ids.
fn runs(leased: &[Leased]) -> (Vec<i64>, Vec<i64>) {
    let mut ids: Vec<i64> = leased.iter().map(|row| row.event_id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.chunk_by(|id, next| *next == id + 1)
        .filter_map(|run| Some((*run.first()?, *run.last()?)))
        .unzip()
}

/// An event as the statement returns it.
struct Facts {
    id: i64,
    event_type: String,
    payload: Option<Excerpt>,
    headers: Option<Excerpt>,
    stored_bytes: Option<i32>,
    key: Option<String>,
    max_retries: Option<i32>,
    expires_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

struct Found {
    event: Arc<Event>,
    left_behind: Option<u64>,
}

impl Facts {
    fn found(self) -> Found {
        let payload = self.payload.and_then(Excerpt::whole);
        let contents = match (payload, self.headers.map(Excerpt::whole)) {
            (Some(payload), None) => Some((payload, BTreeMap::new())),
            (Some(payload), Some(Some(headers))) => Some((payload, text_pairs(&headers))),
            (None, _) | (_, Some(None)) => None,
        };
        let stored_bytes = self.stored_bytes.map(i32::unsigned_abs);
        let left_behind = contents
            .is_none()
            .then(|| stored_bytes.map_or(Excerpt::MOST, u64::from));
        let nothing = || (RawValue::NULL.to_owned(), BTreeMap::new());
        let (payload, headers) = contents.unwrap_or_else(nothing);
        Found {
            event: Arc::new(Event {
                id: self.id,
                event_type: self.event_type,
                payload,
                headers,
                key: self.key,
                max_retries: self.max_retries.and_then(|n| u32::try_from(n).ok()),
                expires_at: self.expires_at,
                created_at: self.created_at,
            }),
            left_behind,
        }
    }
}
