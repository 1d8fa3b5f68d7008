//! What can go wrong between us and PostgreSQL.

use std::error::Error;

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

    /// Whether the same call may succeed later: the server is away, full, read-only, busy or
    /// restarting, or the transaction lost a race. False means that the statement itself does
    /// not fit this database
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
        // Class 08 connection, 25006 read-only, 40 rollback, 53 resources, 55 not in a state to
        // do it (a lock not to be had), 57 operator intervention, 58 system error.
        let code = error.code().unwrap_or_default();
        code == "25006"
            || ["08", "40", "53", "55", "57", "58"].contains(&code.get(..2).unwrap_or(""))
    }

    /// The whole chain in one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
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
