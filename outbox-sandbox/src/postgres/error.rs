use std::io;

/// Why there is no throwaway PostgreSQL, or no database on it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// This system has no PostgreSQL server, or not where it is looked for.
    #[error(
        "no PostgreSQL server found; install one (Debian, Ubuntu: `apt-get install postgresql`; \
         Fedora: `dnf install postgresql-server`; Alpine: `apk add postgresql`; \
         macOS: `brew install postgresql@17`) or put the folder with `initdb` and `postgres` in PATH"
    )]
    NoServer,

    /// This system has no `PgBouncer`, or not where it is looked for.
    #[error(
        "no pgbouncer found; install it (Debian, Ubuntu: `apt-get install pgbouncer`; \
         Fedora: `dnf install pgbouncer`; Alpine: `apk add pgbouncer`; \
         macOS: `brew install pgbouncer`) or put its folder in PATH"
    )]
    NoPgBouncer,

    /// PostgreSQL refuses to run as root, and there is nobody else to run it as.
    #[error(
        "PostgreSQL does not run as root, and this system has neither a user `postgres` nor \
         `nobody` to run it as; create one or start as an ordinary user"
    )]
    NoUser,

    /// No folder for temporary files suits the server.
    #[error(
        "no folder for the data in {tried}: the server's user must be able to enter it and its \
         path must be short; set TMPDIR"
    )]
    NoFolder {
        /// The folders that do not suit.
        tried: String,
    },

    /// Something the operating system refused.
    #[error("failed to {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What it answered.
        source: io::Error,
    },

    /// `initdb` failed.
    #[error("initdb failed: {output}")]
    Init {
        /// What it said.
        output: String,
    },

    /// The server did not start, or did not stop.
    #[error("{what}: {log}")]
    Server {
        /// What happened.
        what: &'static str,
        /// The end of the server's log.
        log: String,
    },

    /// `TEST_DATABASE_URL` is no URL.
    // What the parser says is left out: it may quote the password.
    #[error("TEST_DATABASE_URL is not of the form postgres://user@host:port/database")]
    BadUrl,

    /// The server refused a command.
    #[error("failed to {action}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// What the server answered.
        source: sqlx::Error,
    },
}

impl SandboxError {
    /// For `map_err` on system calls.
    pub(crate) fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { action, source }
    }

    /// For `map_err` on statements.
    pub(crate) fn database(action: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { action, source }
    }
}
