//! What providers report later of messages that they took.

use crate::error::StoreError;
use crate::report::Settled;
use crate::store::Store;
use outbox_channel::{ChannelName, Report};

/// What a report has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// It says more than all reports about the message before it.
    pub is_news: bool,
    /// The event whose message it is about. `None` while its result is not written yet, and for
    /// a message that is not ours.
    pub event_id: Option<i64>,
}

impl Store {
    /// Adds what the provider of `channel` reports about one message to the message's receipt.
    /// Repetitions change nothing, and of several reports the greatest
    /// [status](outbox_channel::ReportedStatus) holds, in whatever order they come. It may come
    /// before the message's own result is written: the two are brought together when somebody
    /// looks.
    ///
    /// # Errors
    /// When the statement fails; nothing is changed then.
    pub async fn record_report(
        &self,
        channel: &ChannelName,
        report: &Report,
    ) -> Result<Recorded, StoreError> {
        sqlx::query_file_as!(
            Recorded,
            "sql/record_report.sql",
            channel.as_str(),
            report.provider_id(),
            report.status().as_str(),
            report.code(),
        )
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::during("write down what a provider reports"))
    }

    /// What providers have reported, per channel and status.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn receipts(&self) -> Result<Vec<Settled>, StoreError> {
        self.count_receipts()
            .await
            .map_err(StoreError::during("count what providers have reported"))
    }

    /// Reads the whole table, and not by an index.
    async fn count_receipts(&self) -> Result<Vec<Settled>, sqlx::Error> {
        let mut transaction = self.begin_planned().await?;
        let receipts = sqlx::query_file_as!(Settled, "sql/receipts.sql")
            .fetch_all(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(receipts)
    }
}
