use super::blocking::block_on;
use super::{Cluster, ClusterOptions, SandboxError};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use std::env;
use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::task::spawn_blocking;
use url::Url;

/// PostgreSQL cuts longer names off, in bytes.
const LONGEST_NAME: usize = 63;

/// How long the server may take to let us in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The server of the tests of this process. Never dropped: its watchdog removes it.
static SHARED: Mutex<Option<Cluster>> = Mutex::new(None);

/// A fresh, empty database for one test, in UTF-8 and with locale C.
///
/// It is made on the server of `TEST_DATABASE_URL` if that is set (`outbox-sandbox exec` sets
/// it), otherwise on a [`Cluster`] which the tests of this process share. When the value is
/// dropped the database goes with it, open connections or not; unless the thread is panicking:
/// then the test has failed, and the database is kept for a look and its URL printed. (A test
/// that fails by returning `Err` does not panic, and its database goes.)
///
/// In a test, as a rule, [`for_this_test`](Self::for_this_test) under `#[tokio::test]`:
///
/// ```
/// # use outbox_sandbox::postgres::{SandboxError, TestDatabase};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), SandboxError> {
/// let database = TestDatabase::create("claims_each_event_once").await?;
/// assert!(database.name().starts_with("outbox_test_claims_each_event_once_"));
/// assert!(database.url().ends_with(database.name()));
/// # Ok(())
/// # }
/// ```
pub struct TestDatabase {
    name: String,
    url: Url,
    admin: PgConnectOptions,
}

impl TestDatabase {
    /// Makes a database whose name tells that it is `test_name`'s.
    ///
    /// # Errors
    /// `TEST_DATABASE_URL` is no URL; there is no server and none can be started; or it does not
    /// let us make a database.
    pub async fn create(test_name: &str) -> Result<Self, SandboxError> {
        let server = server().await?;
        let name = database_name(test_name, rand::random());
        let admin = PgConnectOptions::from_url(&server).map_err(|_| SandboxError::BadUrl)?;
        // From template0: nobody can be connected to it, so tests may do this side by side.
        let create = format!(
            "CREATE DATABASE {name} TEMPLATE template0 \
             ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
        );
        execute(&admin, create)
            .await
            .map_err(SandboxError::database("create the test's database"))?;
        let mut url = server;
        url.set_path(&name);
        Ok(Self { name, url, admin })
    }

    /// As [`create`](Self::create), named after the test that runs: the test harness names the
    /// thread after it, and `#[tokio::test]` stays on that thread.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub async fn for_this_test() -> Result<Self, SandboxError> {
        let test = thread::current().name().unwrap_or("unnamed").to_owned();
        Self::create(&test).await
    }

    /// Where to connect to. It holds the password, if there is one in `TEST_DATABASE_URL`.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The database's name: `outbox_test_`, the test's name as far as it fits, and something
    /// random.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

// By hand: the URL can hold a password.
impl fmt::Debug for TestDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestDatabase")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "the test's database is kept for as long as its server runs: {}\n\
                 (OUTBOX_SANDBOX_KEEP=1 keeps a throwaway server running)",
                without_password(&self.url)
            );
            return;
        }
        let name = &self.name;
        let remove = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        match block_on(execute(&self.admin, remove)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("failed to drop test database {name}: {error}"),
            Err(error) => eprintln!("failed to drop test database {name}: {error}"),
        }
    }
}

/// The URL of the server to make databases on.
async fn server() -> Result<Url, SandboxError> {
    let given = env::var("TEST_DATABASE_URL").unwrap_or_default();
    let url = if given.is_empty() {
        spawn_blocking(shared_cluster)
            .await
            .map_err(|failed| SandboxError::system("start a server")(io::Error::other(failed)))??
    } else {
        given
    };
    Url::parse(&url)
        .ok()
        .filter(|url| matches!(url.scheme(), "postgres" | "postgresql"))
        .ok_or(SandboxError::BadUrl)
}

fn shared_cluster() -> Result<String, SandboxError> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = match shared.take() {
        Some(cluster) => cluster,
        None => Cluster::start(ClusterOptions {
            durable: false,
            ..ClusterOptions::default()
        })?,
    };
    Ok(shared.insert(cluster).url("postgres"))
}

/// Statements about databases take no parameters: names are our own, of `[a-z0-9_]`.
async fn execute(admin: &PgConnectOptions, statement: String) -> sqlx::Result<()> {
    let mut connection: PgConnection = tokio::time::timeout(CONNECT_TIMEOUT, admin.connect())
        .await
        .map_err(io::Error::from)??;
    connection.execute(AssertSqlSafe(statement)).await?;
    connection.close().await
}

fn database_name(test: &str, random: u64) -> String {
    let suffix = format!("_{random:016x}");
    let mut name = format!("outbox_test_{}", test.to_ascii_lowercase())
        .replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    name.truncate(LONGEST_NAME - suffix.len());
    name + &suffix
}

fn without_password(url: &Url) -> Url {
    let mut url = url.clone();
    // Refused only by URLs without a host, which have no password.
    let _ = url.set_password(None);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_holds_only_what_needs_no_quotes_and_fits() {
        assert_eq!(
            database_name("claims::Twice — no", 0xab),
            "outbox_test_claims__twice___no_00000000000000ab"
        );
        let long = database_name(&"ü".repeat(100), u64::MAX);
        assert_eq!(long.len(), LONGEST_NAME);
        assert!(long.ends_with("__ffffffffffffffff"), "{long}");
    }

    #[test]
    fn a_password_is_not_printed() {
        let url = Url::parse("postgres://me:geheim@localhost:5432/db?sslmode=disable").unwrap();
        assert_eq!(
            without_password(&url).as_str(),
            "postgres://me@localhost:5432/db?sslmode=disable"
        );
    }
}
