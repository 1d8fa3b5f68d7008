//! Forgetting what is settled and old.

use crate::error::StoreError;
use crate::fault::{Step, around};
use crate::store::Store;

/// What one batch of pruning did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Events removed, with their results and attempts.
    pub removed: u64,
    /// Where the next batch goes on; `None` when everything old enough has been looked at.
    pub next: Option<i64>,
}

impl Store {
    /// Removes events settled more than `days` ago, looking at no more than `limit` (at most
    /// 10,000), from after event id `from` on. What is unsettled is never removed. Ids grow with
    /// time, so it goes no further than the first batch in which no event is old enough. The first
    /// batch also forgets reports of that age about messages of which nothing is known.
    ///
    /// # Errors
    /// When the statement fails; nothing is removed then.
    pub async fn prune(&self, days: f64, limit: u32, from: i64) -> Result<Pruned, StoreError> {
        self.prune_batch(days, limit, from)
            .await
            .map_err(StoreError::during("remove old events"))
    }

    /// Locks first and looks again, so that no event goes that an operator has just replayed.
    async fn prune_batch(&self, days: f64, limit: u32, from: i64) -> Result<Pruned, sqlx::Error> {
        let limit = i64::from(limit.min(10_000));
        let mut transaction = around(Step::Begin, self.begin_planned()).await?;
        if from == 0 {
            let forget = sqlx::query_file!("sql/forget_receipts.sql", days, limit);
            around(Step::ForgetReceipts, forget.execute(&mut *transaction)).await?;
        }
        let prune = sqlx::query_file!("sql/prune.sql", days, limit, from);
        let batch = around(Step::Prune, prune.fetch_one(&mut *transaction)).await?;
        let removed = if batch.settled.is_empty() {
            0
        } else {
            let forget = sqlx::query_file_scalar!("sql/forget.sql", &batch.settled);
            around(Step::Forget, forget.fetch_one(&mut *transaction)).await?
        };
        around(Step::Commit, transaction.commit()).await?;
        Ok(Pruned {
            removed: removed.unsigned_abs(),
            next: batch.next,
        })
    }
}
