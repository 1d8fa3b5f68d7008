//! Producers' calls: hearing them, and saying whether there is anybody to call.

use crate::error::StoreError;
use crate::fault::{Step, around};
use crate::store::Store;
use sqlx::postgres::{PgListener, PgPoolOptions};
use std::io;
use std::time::{Duration, Instant};

/// Hears that there is something new. Calls can get lost (PgBouncer between us and the server, a
/// connection that breaks), so whoever listens also looks by itself now and then.
#[derive(Debug)]
pub struct Listener {
    connection: PgListener,
    is_asleep: bool,
    /// When the server was last heard of.
    answered: Instant,
}

/// What is different for a session that does little but wait.
const SETTINGS: &[(&str, &str)] = &[
    // Producers notify as long as it lasts, also when nobody is there any more.
    ("tcp_keepalives_idle", "30"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "60s"),
    // A producer has the lock for no longer than it takes to ask for it.
    ("lock_timeout", "1s"),
];

/// A connection of which nothing was heard for so long may have died without a word.
const SILENCE: Duration = Duration::from_secs(10);

impl Store {
    /// Listens on a connection of its own. Only where [calls can be heard](Self::can_listen).
    ///
    /// # Errors
    /// When the connection cannot be had.
    pub async fn listen(&self) -> Result<Listener, StoreError> {
        let during = StoreError::during("listen for new events");
        let listening = async {
            let options = self.pool.connect_options();
            let pool = PgPoolOptions::new()
                .max_connections(1)
                .connect_lazy_with(options.options(SETTINGS.iter().copied()));
            let mut connection = PgListener::connect_with(&pool).await?;
            // Its sleep would end with the connection; whoever listens has to know.
            connection.eager_reconnect(false);
            let name: String = sqlx::query_file_scalar!("sql/wake_up_channel.sql")
                .fetch_one(&self.pool)
                .await?;
            connection.listen(&name).await?;
            Ok(connection)
        };
        let connection = around(Step::Listen, listening).await.map_err(during)?;
        Ok(Listener {
            connection,
            is_asleep: false,
            answered: Instant::now(),
        })
    }
}

impl Listener {
    /// Returns when a call came: there may be something new.
    ///
    /// # Errors
    /// When the connection broke. Calls may have been lost, and this listener hears no more.
    pub async fn heard(&mut self) -> Result<(), StoreError> {
        let call = self.connection.try_recv().await;
        let lost = || io::Error::from(io::ErrorKind::UnexpectedEof).into();
        call.and_then(|call| call.ok_or_else(lost))
            .map_err(StoreError::during("listen for new events"))?;
        self.answered = Instant::now();
        Ok(())
    }

    /// Whether producers are to call: each of their commits then pays for a NOTIFY. True when that
    /// is new to them; what was written before they knew has to be looked for once more.
    ///
    /// Where it is not new, this asks every ten seconds whether the connection is still there.
    ///
    /// # Errors
    /// When the statement fails. The listener is of no use any more then.
    pub async fn set_asleep(&mut self, asleep: bool) -> Result<bool, StoreError> {
        let is_news = asleep != self.is_asleep;
        if is_news || self.answered.elapsed() > SILENCE {
            let set = sqlx::query_file!("sql/set_asleep.sql", asleep, self.is_asleep);
            around(Step::Asleep, set.fetch_optional(&mut self.connection))
                .await
                .map_err(StoreError::during("say whether the worker sleeps"))?;
            self.is_asleep = asleep;
            self.answered = Instant::now();
        }
        Ok(is_news)
    }
}
