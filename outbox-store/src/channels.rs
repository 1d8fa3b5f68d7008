//! What all workers share about channels.

use crate::error::StoreError;
use crate::fault::{Step, around};
use crate::operate::wake_workers;
use crate::store::Store;
use chrono::{DateTime, Utc};
use outbox_channel::ChannelName;
use serde::Serialize;
use std::time::Duration;

/// A channel as all workers see it.
#[derive(Debug, Clone, Serialize)]
pub struct ChannelState {
    /// Its name in the settings.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// An operator paused it then.
    pub paused_at: Option<DateTime<Utc>>,
    /// It cannot deliver since then.
    pub down_since: Option<DateTime<Utc>>,
    /// It is left alone until then.
    pub down_until: Option<DateTime<Utc>>,
    /// How often in a row it was found unable to deliver.
    pub failures: i32,
    /// Why, the last time.
    pub last_error: Option<String>,
    /// Nobody claims for it now: paused, or down.
    pub closed: bool,
}

impl Store {
    /// Makes a configured channel known. `max_retries` is shown with events that have none of
    /// their own.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn declare_channel(
        &self,
        name: &ChannelName,
        kind: &str,
        max_retries: u32,
    ) -> Result<(), StoreError> {
        let max_retries = i32::try_from(max_retries).unwrap_or(i32::MAX);
        let declare =
            sqlx::query_file!("sql/declare_channel.sql", name.as_str(), kind, max_retries);
        around(Step::Declare, declare.execute(&self.pool))
            .await
            .map(drop)
            .map_err(StoreError::during("make a channel known"))
    }

    /// All channels that any worker has made known.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn channels(&self) -> Result<Vec<ChannelState>, StoreError> {
        let channels = sqlx::query_file_as!(ChannelState, "sql/channels.sql");
        around(Step::Channels, channels.fetch_all(&self.pool))
            .await
            .map_err(StoreError::during("read the channels' state"))
    }

    /// The channel cannot deliver: nobody claims for it for `pause`.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn channel_down(
        &self,
        name: &ChannelName,
        pause: Duration,
        reason: &str,
    ) -> Result<(), StoreError> {
        let pause = pause.as_secs_f64();
        let down = sqlx::query_file!("sql/channel_down.sql", name.as_str(), pause, reason);
        around(Step::ChannelDown, down.execute(&self.pool))
            .await
            .map(drop)
            .map_err(StoreError::during("say that a channel is down"))
    }

    /// The channel delivers again.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn channel_up(&self, name: &ChannelName) -> Result<(), StoreError> {
        let up = sqlx::query_file!("sql/channel_up.sql", name.as_str());
        around(Step::ChannelUp, up.execute(&self.pool))
            .await
            .map(drop)
            .map_err(StoreError::during("say that a channel is up"))
    }

    /// Pauses a channel for all workers, or resumes it, which wakes those that sleep. False: no
    /// worker has made a channel of that name known.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn pause_channel(
        &self,
        name: &ChannelName,
        paused: bool,
    ) -> Result<bool, StoreError> {
        self.set_paused(name, paused)
            .await
            .map_err(StoreError::during("pause or resume a channel"))
    }

    async fn set_paused(&self, name: &ChannelName, paused: bool) -> Result<bool, sqlx::Error> {
        let mut transaction = self.begin_read_committed().await?;
        let found = sqlx::query_file_scalar!("sql/pause_channel.sql", name.as_str(), paused)
            .fetch_optional(&mut *transaction)
            .await?;
        if !paused {
            wake_workers(&mut transaction).await?;
        }
        transaction.commit().await?;
        Ok(found.is_some())
    }
}
