//! What can go wrong between us and PostgreSQL.

use crate::connections::no_answer;
use std::io;
use std::time::Duration;

/// A statement did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}")]
pub struct StoreError {
    operation: &'static str,
    #[source]
    source: sqlx::Error,
}

impl StoreError {
    /// For `map_err`: `operation` reads well after "cannot".
    pub(crate) fn during(operation: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self { operation, source }
    }

    /// Nothing was heard of `operation` within `limit`: it may have been done or not.
    #[must_use]
    pub fn no_answer(operation: &'static str, limit: Duration) -> Self {
        let late = io::Error::new(io::ErrorKind::TimedOut, no_answer(limit));
        Self::during(operation)(late.into())
    }

    /// Whether the same call may succeed later: the server is away, full, read-only, busy or
    /// restarting, does not let us in, or the transaction lost a race. False means that the
    /// statement itself does not fit this database, or a value in it
    /// ([error codes](https://www.postgresql.org/docs/current/errcodes-appendix.html)).
    #[must_use]
    pub fn is_transient(&self) -> bool {
        let Some(error) = self.source.as_database_error() else {
            return !matches!(
                self.source,
                sqlx::Error::Configuration(_)
                    | sqlx::Error::ColumnDecode { .. }
                    | sqlx::Error::Decode(_)
                    | sqlx::Error::Encode(_)
            );
        };
        let code = error.code().unwrap_or_default();
        Self::TRANSIENT.contains(&&*code)
            || Self::TRANSIENT_CLASSES.contains(&code.get(..2).unwrap_or(""))
    }

    /// Connection, authorization (a password is changed here and there, not in one instant),
    /// rollback, resources, not in a state to do it (a lock not to be had), operator
    /// intervention, system error, snapshot too old.
    const TRANSIENT_CLASSES: [&str; 8] = ["08", "28", "40", "53", "55", "57", "58", "72"];

    /// Read-only; a transaction that failed before, was idle or open for too long; a prepared
    /// statement that is there already, is not, or no longer fits the tables.
    const TRANSIENT: [&str; 7] = [
        "25006", "25P02", "25P03", "25P04", "42P05", "26000", "0A000",
    ];

    /// The server is there, and takes no connection at the moment.
    pub(crate) fn is_server_busy(&self) -> bool {
        let code = self.code();
        code.is_some_and(|code| ["53300", "57P03"].contains(&&*code))
    }

    fn code(&self) -> Option<std::borrow::Cow<'_, str>> {
        self.source.as_database_error()?.code()
    }

    /// All that is known, in one sentence, with the server's error code for whoever looks it up.
    #[must_use]
    pub fn sentence(&self) -> String {
        // Their own texts repeat what is beneath them, or leave out what helps.
        let reason = match &self.source {
            sqlx::Error::Database(error) => error.message().to_owned(),
            sqlx::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                "the connection was closed by the server, or on the way to it".to_owned()
            }
            sqlx::Error::Io(error) => error.to_string(),
            error => error.to_string(),
        };
        let code = self.code().map(|code| format!(" (SQLSTATE {code})"));
        let hint = match self.code().as_deref() {
            Some("42P05" | "26000") => {
                "; is there a connection pooler in front of the database? then add \
                 `pgbouncer=true` to the parameters of its URL"
            }
            _ => "",
        };
        format!("{self}: {reason}{}{hint}", code.unwrap_or_default())
    }
}

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address cannot be read. The address itself is not told: it may hold a password.
    #[error("the database address is not a PostgreSQL URL: {0}")]
    Address(String),
    /// The name cannot be a schema's.
    #[error("`{0}` is not a schema name: use a letter or _, then letters, digits and _")]
    Schema(String),
    /// Our tables are not there, or older than this program.
    #[error("the database lacks migration {missing}: run `outbox migrate`")]
    Older {
        /// The first file that has not been applied.
        missing: String,
    },
    /// The database was migrated by a newer program.
    #[error(
        "the database has migration {unknown}, which this version does not know: \
         install a newer version of Outbox"
    )]
    Newer {
        /// The first file that this program does not know.
        unknown: String,
    },
    /// The server cannot be reached, or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}
