//! A connection pool that knows its schema.

use crate::connections::Connections;
use crate::error::{OpenError, StoreError};
use crate::fault::{Step, around};
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use std::fmt;
use std::time::{Duration, Instant};

/// Whether a connection leads to one session of the server for as long as it lasts, or to
/// another one for each transaction, as through PgBouncer with `pool_mode = transaction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooler {
    /// It is found out when the store connects, unless the URL says `pgbouncer=true` or
    /// `pgbouncer=false`.
    Detect,
    /// There is none, or one that keeps sessions apart.
    None,
    /// One that works by the transaction: three round trips more per statement, and no LISTEN.
    Transaction,
}

/// Where the tables are and how many connections may be used.
#[derive(Clone)]
pub struct StoreOptions {
    /// A PostgreSQL URL. Secret: it may hold a password.
    pub url: String,
    /// The schema of our tables; one identifier. With `public`, the default, the role's
    /// `search_path` holds.
    pub schema: String,
    /// At most this many connections, listener not counted. Default 10.
    pub max_connections: u32,
    /// How long to wait for a free connection, or for the server. Default 10 s.
    pub acquire_timeout: Duration,
    /// What stands between us and the server. Default: that is found out.
    pub pooler: Pooler,
}

impl StoreOptions {
    /// The defaults, for the database at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            schema: "public".to_owned(),
            max_connections: 10,
            acquire_timeout: Duration::from_secs(10),
            pooler: Pooler::Detect,
        }
    }

    /// The setting that leads to our tables, where the role's own does not.
    pub(crate) fn search_path(&self) -> Option<&str> {
        (self.schema != "public").then_some(self.schema.as_str())
    }

    /// The URL without what is for us, and what that says.
    fn split_url(&self) -> (String, Pooler) {
        let mut pooler = self.pooler;
        let Some((base, query)) = self.url.split_once('?') else {
            return (self.url.clone(), pooler);
        };
        let is_ours = |pair: &&str| {
            let said = match *pair {
                "pgbouncer=true" => Pooler::Transaction,
                "pgbouncer=false" => Pooler::None,
                _ => return true,
            };
            if pooler == Pooler::Detect {
                pooler = said;
            }
            false
        };
        let rest: Vec<_> = query.split('&').filter(is_ours).collect();
        (format!("{base}?{}", rest.join("&")), pooler)
    }

    /// How to connect, and through what.
    fn connect_options(&self) -> Result<(PgConnectOptions, Pooler), OpenError> {
        let mut characters = self.schema.chars();
        let starts_well = characters
            .next()
            .is_some_and(|c| c.is_ascii_lowercase() || c == '_');
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !starts_well || !characters.all(valid) || self.schema.len() > 63 {
            return Err(OpenError::Schema(self.schema.clone()));
        }
        if !self.url.starts_with("postgres://") && !self.url.starts_with("postgresql://") {
            return Err(OpenError::Address(
                "it must start with postgres://".to_owned(),
            ));
        }
        let (url, pooler) = self.split_url();
        let options: PgConnectOptions = url.parse().map_err(|error: sqlx::Error| {
            OpenError::Address(match error {
                sqlx::Error::Configuration(source) => source.to_string(),
                _ => "it cannot be parsed".to_owned(),
            })
        })?;
        // PgBouncer knows no extra_float_digits unless told to ignore it.
        let options = options.application_name("outbox").extra_float_digits(None);
        // A slow server would fill the log with our statements, kilobytes each.
        Ok((options.disable_statement_logging(), pooler))
    }
}

// By hand: the URL may hold a password.
impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("schema", &self.schema)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

/// The tables of one Outbox. Cheap to clone; clones share the connections.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) pool: Connections,
    pub(crate) schema: String,
}

impl Store {
    /// Connects, without looking at what is there: for migrations. A server that is starting or
    /// has no connection to spare is waited for; any other trouble is told at once.
    ///
    /// # Errors
    /// When the address is malformed, or the server cannot be reached within the
    /// `acquire_timeout`.
    pub async fn connect(options: &StoreOptions) -> Result<Self, OpenError> {
        let (connect, pooler) = options.connect_options()?;
        let deadline = Instant::now() + options.acquire_timeout;
        let pool = loop {
            let opening = Connections::open(connect.clone(), pooler, options);
            let error = match in_time(options.acquire_timeout, opening).await {
                Ok(pool) => break pool,
                Err(error) => error,
            };
            if !error.is_server_busy() || Instant::now() + Self::PAUSE > deadline {
                return Err(error.into());
            }
            tokio::time::sleep(Self::PAUSE).await;
        };
        Ok(Self {
            pool,
            schema: options.schema.clone(),
        })
    }

    /// Between two tries to connect.
    const PAUSE: Duration = Duration::from_millis(200);

    /// Connects and makes sure that the tables are those that this program was written for.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and when the database is older or newer than this program.
    pub async fn open(options: &StoreOptions) -> Result<Self, OpenError> {
        let store = Self::connect(options).await?;
        let patient = store.clone().within(options.acquire_timeout);
        patient.check_schema().await?;
        Ok(store)
    }

    /// The same store, but a statement that gets no answer within `limit` has failed. The
    /// statements of an operator's decision, of a list and of pruning are not limited.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.pool = self.pool.within(limit);
        self
    }

    /// One round trip, or as many as a statement needs through a pooler.
    ///
    /// # Errors
    /// When the server cannot be reached or does not answer.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::raw_sql("SELECT 1")
            .execute(&self.pool)
            .await
            .map_err(StoreError::during("reach the database"))?;
        Ok(())
    }

    /// The connections, for a caller's own statements beside ours.
    #[must_use]
    pub fn pool(&self) -> &Connections {
        &self.pool
    }

    /// Whether a wake-up call can be heard: not through a pooler that works by the transaction.
    #[must_use]
    pub fn can_listen(&self) -> bool {
        !self.pool.are_pooled()
    }

    /// What tells this database from every other, in the ids that receivers see.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn installation(&self) -> Result<String, StoreError> {
        let installation = sqlx::query_file_scalar!("sql/installation.sql");
        around(Step::Installation, installation.fetch_one(&self.pool))
            .await
            .map_err(StoreError::during("read the installation's id"))
    }

    /// Closes all connections, after the statements under way.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// A connection may be dead without anybody noticing for a quarter of an hour.
async fn in_time<T>(
    time: Duration,
    call: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    let answer = tokio::time::timeout(time, call).await;
    let late = |_| StoreError::no_answer("reach the database", time);
    answer
        .map_err(late)?
        .map_err(StoreError::during("reach the database"))
}
