//! What else is asked about rows: of those that are leased, and of those that are not due.

use super::Lane;
use crate::error::StoreError;
use crate::fault::{Step, around};
use crate::store::Store;
use crate::worker::WorkerId;
use std::time::Duration;

impl Store {
    /// Writes down that attempts begin, before anything is sent: should this worker die, the
    /// next one knows that their outcome is unknown. Returns the rows that the worker still
    /// holds; the others must not be sent.
    ///
    /// # Errors
    /// When the statement fails; nothing must be sent then.
    pub async fn begin_attempts(
        &self,
        worker: WorkerId,
        rows: &[(i64, Lane)],
    ) -> Result<Vec<(i64, Lane)>, StoreError> {
        let (ids, lanes): (Vec<i64>, Vec<String>) = rows
            .iter()
            .map(|(id, lane)| (*id, lane.as_str().to_owned()))
            .unzip();
        let begin = sqlx::query_file!("sql/begin_attempts.sql", worker.0, &ids, &lanes);
        let held = around(Step::BeginAttempts, begin.fetch_all(&self.pool))
            .await
            .map_err(StoreError::during("write down that attempts begin"))?;
        let held: std::collections::HashSet<_> = held
            .into_iter()
            .map(|row| (row.event_id, row.channel))
            .collect();
        let is_held = |(id, lane): &&(i64, Lane)| held.contains(&(*id, lane.as_str().to_owned()));
        Ok(rows.iter().filter(is_held).cloned().collect())
    }

    /// How long until the earliest row of these lanes that is not due yet; `None` when nothing
    /// waits for a time. By the database's clock.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn next_due(&self, lanes: &[Lane]) -> Result<Option<Duration>, StoreError> {
        let lanes: Vec<String> = lanes.iter().map(|lane| lane.as_str().to_owned()).collect();
        let next_due = sqlx::query_file_scalar!("sql/next_due.sql", &lanes);
        let seconds = around(Step::NextDue, next_due.fetch_one(&self.pool))
            .await
            .map_err(StoreError::during("look when the next event is due"))?;
        Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
    }
}
