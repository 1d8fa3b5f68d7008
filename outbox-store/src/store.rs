//! A connection pool that knows its schema.

use crate::error::{OpenError, StoreError};
use crate::fault::{Step, around};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use std::fmt;
use std::time::Duration;

/// Where the tables are and how many connections may be used.
#[derive(Clone)]
pub struct StoreOptions {
    /// A PostgreSQL URL. Secret: it may hold a password.
    pub url: String,
    /// The schema of our tables; one identifier. Default `public`.
    ///
    /// Any other schema is asked for when a connection starts, as an `options` parameter.
    /// PgBouncer refuses that: there, `ALTER ROLE … SET search_path` and leave this at `public`.
    pub schema: String,
    /// At most this many connections, listener not counted. Default 10.
    pub max_connections: u32,
    /// How long to wait for a free connection, or for the server. Default 10 s.
    pub acquire_timeout: Duration,
}

impl StoreOptions {
    /// The defaults, for the database at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            schema: "public".to_owned(),
            max_connections: 10,
            acquire_timeout: Duration::from_secs(10),
        }
    }

    fn connect_options(&self) -> Result<PgConnectOptions, OpenError> {
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
        let options: PgConnectOptions = self.url.parse().map_err(|error: sqlx::Error| {
            OpenError::Address(match error {
                sqlx::Error::Configuration(source) => source.to_string(),
                _ => "it cannot be parsed".to_owned(),
            })
        })?;
        // PgBouncer knows no extra_float_digits unless told to ignore it.
        let options = options.application_name("outbox").extra_float_digits(None);
        // A slow server would fill the log with our statements, kilobytes each.
        let options = options.disable_statement_logging();
        Ok(if self.schema == "public" {
            options
        } else {
            options.options([("search_path", self.schema.as_str())])
        })
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
    pub(crate) pool: PgPool,
    pub(crate) schema: String,
}

impl Store {
    /// Connects, without looking at what is there: for migrations.
    ///
    /// # Errors
    /// When the address is malformed, or the server cannot be reached within the
    /// `acquire_timeout`.
    pub async fn connect(options: &StoreOptions) -> Result<Self, OpenError> {
        let store = Self::connect_lazily(options)?;
        let pinged = in_time(options.acquire_timeout, store.ping());
        pinged.await?;
        Ok(store)
    }

    /// Connects and makes sure that the tables are those that this program was written for.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and when the database is older or newer than this program.
    pub async fn open(options: &StoreOptions) -> Result<Self, OpenError> {
        let store = Self::connect(options).await?;
        in_time(options.acquire_timeout, store.check_schema()).await?;
        Ok(store)
    }

    fn connect_lazily(options: &StoreOptions) -> Result<Self, OpenError> {
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            // A dead connection shows itself at the first statement, and every statement here
            // may be repeated; a ping before each would double the round trips.
            .test_before_acquire(false)
            .connect_lazy_with(options.connect_options()?);
        Ok(Self {
            pool,
            schema: options.schema.clone(),
        })
    }

    /// One round trip.
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

    /// The pool, for a caller's own statements beside ours.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
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
async fn in_time<T, E: Into<OpenError>>(
    time: Duration,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, OpenError> {
    match tokio::time::timeout(time, call).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_elapsed) => {
            let late = std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time");
            Err(StoreError::during("reach the database")(late.into()).into())
        }
    }
}
