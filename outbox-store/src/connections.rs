//! Connections to PostgreSQL, straight or through a pooler in transaction mode.
//!
//! Straight, a connection is a session: its settings are asked for when it starts, and statements
//! are prepared once. Through a pooler each transaction may run in another session, so each
//! statement is in a transaction of its own, with its settings, and nothing is left behind.

use crate::store::{Pooler, StoreOptions};
use futures_util::FutureExt;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgTransaction, SqlSafeStr};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;

mod dialect;
mod executor;
mod idle;

use dialect::Way;
use idle::{Borrowed, Idle};

/// What statements run on: `&Connections` is an sqlx executor. Cheap to clone; clones share the
/// connections.
#[derive(Clone)]
pub struct Connections {
    pool: PgPool,
    idle: Arc<Idle>,
    way: Way,
    /// Where the server is, for people.
    address: Arc<str>,
    /// No statement may take longer.
    limit: Option<Duration>,
    /// One that has answered goes to the pool, which trims its buffers.
    are_trimmed: bool,
    /// One asks why there is no connection, the others wait for that.
    asking: Arc<Mutex<()>>,
}

impl Connections {
    /// The pool waits for a server that refuses, and does not say so. Who has waited for so long
    /// asks the server.
    const ASK_AFTER: Duration = Duration::from_millis(250);
    /// A statement that was given up may still be running, and its connection be dead or alive:
    /// so long it has to come to its end.
    const COME_TO_ITSELF: Duration = Duration::from_secs(10);
    /// sqlx gives each prepared statement of a transaction a name that it never forgets; a
    /// pooler that keeps track of names does so for as long as the connection lasts.
    const POOLED_LIFETIME: Duration = Duration::from_secs(300);

    /// Connects, and finds out what stands between us and the server unless that is known.
    pub(crate) async fn open(
        connect: PgConnectOptions,
        pooler: Pooler,
        options: &StoreOptions,
    ) -> Result<Self, sqlx::Error> {
        if pooler != Pooler::Transaction {
            let direct = Self::new(connect.clone(), Way::direct(options), options);
            match direct.is_direct().await {
                Ok(is_direct) if is_direct || pooler == Pooler::None => return Ok(direct),
                Err(error) if pooler == Pooler::None || !dialect::refuses_settings(&error) => {
                    return Err(error);
                }
                _ => direct.close().await,
            }
            tracing::info!(
                "there is a connection pooler in front of the database: statements take more \
                 round trips, and new events are found by polling only"
            );
        }
        let pooled = Self::new(connect, Way::pooled(options), options);
        pooled.execute("SELECT 1").await?;
        Ok(pooled)
    }

    async fn is_direct(&self) -> Result<bool, sqlx::Error> {
        let mut connection = self.acquire().await?;
        dialect::is_session(&mut connection).await
    }

    /// Connects when the first statement comes.
    fn new(connect: PgConnectOptions, way: Way, options: &StoreOptions) -> Self {
        let connect = way.adapt(connect);
        let address = match connect.get_socket() {
            Some(folder) => format!("{} (port {})", folder.display(), connect.get_port()),
            None => format!("{}:{}", connect.get_host(), connect.get_port()),
        };
        let mut pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            // A dead connection shows itself at the first statement, and every statement here
            // may be repeated; a ping before each would double the round trips.
            .test_before_acquire(false)
            // sqlx pings what comes back, for as long as it takes; this ping before has an end.
            .after_release(|connection, _| {
                // The ping lets go of what is left of the old buffers.
                connection.shrink_buffers();
                let settling = timeout(Self::COME_TO_ITSELF, connection.ping());
                Box::pin(settling.map(|settled| Ok(matches!(settled, Ok(Ok(()))))))
            });
        if way.is_pooled() {
            pool = pool.max_lifetime(Self::POOLED_LIFETIME);
        }
        Self {
            pool: pool.connect_lazy_with(connect),
            idle: Arc::default(),
            way,
            address: address.into(),
            limit: None,
            are_trimmed: false,
            asking: Arc::default(),
        }
    }

    /// The same connections, but a statement that gets no answer within `limit` has failed.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The same connections, but one that has answered gives its buffers back: they are as large
    /// as the largest row.
    pub(crate) fn trimmed(mut self) -> Self {
        self.are_trimmed = true;
        self
    }

    /// Whether each transaction may run in another session of the server.
    pub(crate) fn are_pooled(&self) -> bool {
        self.way.is_pooled()
    }

    pub(crate) fn connect_options(&self) -> PgConnectOptions {
        (*self.pool.connect_options()).clone()
    }

    pub(crate) async fn close(&self) {
        // First, so that nothing is kept from now on.
        let closing = self.pool.close();
        self.idle.clear();
        closing.await;
    }

    /// Begins a transaction, which is rolled back unless it is committed.
    ///
    /// # Errors
    /// When there is no connection, or the server refuses.
    pub async fn begin(&self) -> Result<PgTransaction<'static>, sqlx::Error> {
        self.begin_with("BEGIN").await
    }

    pub(crate) async fn begin_with(
        &self,
        begin: &'static str,
    ) -> Result<PgTransaction<'static>, sqlx::Error> {
        let connection = self.acquire().await?.into_connection();
        let begin = AssertSqlSafe(self.way.begin(begin));
        sqlx::Transaction::begin(connection, Some(begin.into_sql_str())).await
    }

    async fn acquire(&self) -> Result<Borrowed, sqlx::Error> {
        let at_hand = || self.pool.try_acquire().map(Borrowed::from);
        if let Some(borrowed) = self.idle.take().or_else(at_hand) {
            return Ok(borrowed);
        }
        let _waiting = self.idle.wait();
        if let Some(borrowed) = self.idle.take() {
            return Ok(borrowed);
        }
        let mut acquiring = std::pin::pin!(self.pool.acquire());
        let acquired = match timeout(Self::ASK_AFTER, &mut acquiring).await {
            Ok(acquired) => acquired,
            Err(_elapsed) => tokio::select! {
                biased;
                acquired = acquiring => acquired,
                obstacle = self.obstacle() => Err(obstacle),
            },
        };
        acquired
            .map(Borrowed::from)
            .map_err(|error| self.explained(error))
    }

    /// Why no connection can be made; does not return when one can.
    async fn obstacle(&self) -> sqlx::Error {
        let _one = self.asking.lock().await;
        match self.pool.connect_options().connect().await {
            Ok(connection) => {
                // All connections are busy, then. How this one says goodbye does not matter.
                let _ = connection.close().await;
                std::future::pending().await
            }
            Err(error) => error,
        }
    }

    /// In words that help: sqlx neither says where the server was looked for nor what can be
    /// done.
    fn explained(&self, error: sqlx::Error) -> sqlx::Error {
        let Self { address, pool, .. } = self;
        let (kind, text) = match &error {
            sqlx::Error::Io(io) => {
                let hint = match io.kind() {
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                        "; is the server running?"
                    }
                    _ => "",
                };
                let text = lowercase(&io.to_string());
                (
                    io.kind(),
                    format!("cannot connect to {address}: {text}{hint}"),
                )
            }
            sqlx::Error::PoolTimedOut => {
                let (wait, most) = (pool.options().get_acquire_timeout(), pool.size());
                let text =
                    format!("none of {most} connections to {address} was free within {wait:?}");
                (io::ErrorKind::TimedOut, text)
            }
            _ => return error,
        };
        sqlx::Error::Io(io::Error::new(kind, text))
    }
}

/// What a client says whose patience is at an end.
pub(crate) fn no_answer(limit: Duration) -> String {
    format!("no answer from the database within {limit:?}")
}

/// The operating system's messages begin in upper case and end with a number.
fn lowercase(message: &str) -> String {
    let message = message.split(" (os error").next().unwrap_or(message);
    let mut characters = message.chars();
    let first = characters.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}

// By hand: connection options hold a password.
impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("address", &self.address)
            .field("are_pooled", &self.are_pooled())
            .field("size", &self.pool.size())
            .finish_non_exhaustive()
    }
}
