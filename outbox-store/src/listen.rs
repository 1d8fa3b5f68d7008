//! The wake-up call.

use crate::error::StoreError;
use crate::fault::{Step, around};
use crate::store::Store;
use sqlx::postgres::PgListener;

/// Hears that there is something new. Calls can get lost (a reconnect, PgBouncer between us and
/// the server), so whoever listens also looks by itself now and then.
#[derive(Debug)]
pub struct Listener(PgListener);

impl Store {
    /// Listens on a connection of its own. Only where [calls can be heard](Self::can_listen).
    ///
    /// # Errors
    /// When the connection cannot be had.
    pub async fn listen(&self) -> Result<Listener, StoreError> {
        let during = StoreError::during("listen for new events");
        let listening = async {
            let pool = sqlx::postgres::PgPoolOptions::new()
                .max_connections(1)
                .connect_lazy_with(self.pool.connect_options());
            let mut listener = PgListener::connect_with(&pool).await?;
            let name: String = sqlx::query_file_scalar!("sql/wake_up_channel.sql")
                .fetch_one(&self.pool)
                .await?;
            listener.listen(&name).await?;
            Ok(listener)
        };
        around(Step::Listen, listening)
            .await
            .map(Listener)
            .map_err(during)
    }
}

impl Listener {
    /// Returns when there may be something new: a call came, or the connection broke and calls
    /// may have been lost.
    ///
    /// # Errors
    /// When the connection cannot be had again.
    pub async fn heard(&mut self) -> Result<(), StoreError> {
        self.0
            .try_recv()
            .await
            .map(drop)
            .map_err(StoreError::during("listen for new events"))
    }
}
