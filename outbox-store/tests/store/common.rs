//! A migrated store on a database of its own, and short words for what tests do with it.

use outbox_channel::ChannelName;
use outbox_sandbox::postgres::TestDatabase;
use outbox_store::{Claimed, Claimer, Lane, Leased, Store, StoreOptions, Wanted, WorkerId};
use sqlx::postgres::{PgConnection, Postgres};
use sqlx::{AssertSqlSafe, Connection, Decode, Type};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A lease that no test outlives.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// How long a test waits for what is to come, on a machine that has a lot to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) database: TestDatabase,
}

pub(crate) fn options(database: &TestDatabase, schema: &str) -> StoreOptions {
    let mut options = StoreOptions::new(database.url());
    schema.clone_into(&mut options.schema);
    options.acquire_timeout = PATIENCE;
    options
}

/// A migrated store for the test that runs.
pub(crate) async fn fixture() -> Fixture {
    let database = TestDatabase::for_this_test().await.unwrap();
    let store = Store::connect(&options(&database, "public")).await.unwrap();
    store.migrate().await.unwrap();
    Fixture { store, database }
}

impl Fixture {
    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect(self.database.url()).await.unwrap()
    }

    /// Runs statements.
    pub(crate) async fn run(&self, sql: &str) {
        let mut connection = self.connect().await;
        run(&mut connection, sql).await;
    }

    /// The one value that a query returns.
    pub(crate) async fn one<T: Scalar>(&self, query: &str) -> T {
        one(&mut self.connect().await, query).await
    }

    /// For a lock that another has.
    pub(crate) async fn until_a_session_waits(&self) {
        let waits = "SELECT count(*) FROM pg_stat_activity \
                     WHERE wait_event_type = 'Lock' AND datname = current_database()";
        let deadline = Instant::now() + PATIENCE;
        while self.one::<i64>(waits).await == 0 {
            assert!(Instant::now() < deadline, "nobody waits");
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn worker(&self) -> WorkerId {
        self.store.register_worker("test", LONG).await.unwrap().0
    }

    /// Ends a worker's lease, by the database's clock.
    pub(crate) async fn expire(&self, worker: WorkerId) {
        let ended = "UPDATE outbox_workers SET alive_until = now() - interval '1 second'";
        self.run(&format!("{ended} WHERE id = {worker}")).await;
    }

    /// Events with ids from 1 to `count`, due now.
    pub(crate) async fn enqueue(&self, count: usize) {
        self.run(&format!(
            "INSERT INTO outbox_events (event_type, payload) \
             SELECT 'test', '{{}}' FROM generate_series(1, {count})"
        ))
        .await;
    }

    /// Queue rows instead of those that the trigger made, in SQL's words:
    /// event, due, channel, priority.
    pub(crate) async fn requeue(&self, rows: &str) {
        self.run(&format!(
            "DELETE FROM outbox_queue; \
             INSERT INTO outbox_queue (event_id, due_at, channel, priority) VALUES {rows}"
        ))
        .await;
    }

    /// Claims with a claimer that remembers nothing.
    pub(crate) async fn claim(&self, worker: WorkerId, wanted: &[Wanted]) -> Vec<Leased> {
        Claimer::default()
            .claim(&self.store, worker, wanted)
            .await
            .unwrap()
    }

    pub(crate) async fn read_events(&self, worker: WorkerId, leased: &[Leased]) -> Vec<Claimed> {
        self.store.read_events(worker, leased).await.unwrap()
    }

    /// Claims until there are `count` rows.
    pub(crate) async fn claim_all(
        &self,
        claimer: &mut Claimer,
        worker: WorkerId,
        wanted: &[Wanted],
        count: usize,
    ) -> Vec<Leased> {
        let deadline = Instant::now() + PATIENCE;
        let mut claimed = Vec::new();
        while claimed.len() < count {
            assert!(Instant::now() < deadline, "{} of {count}", claimed.len());
            claimed.extend(claimer.claim(&self.store, worker, wanted).await.unwrap());
            tokio::time::sleep(claimer.sweep_due_in()).await;
        }
        claimed
    }
}

/// What [`one`] can return.
pub(crate) trait Scalar:
    for<'r> Decode<'r, Postgres> + Type<Postgres> + Send + Unpin
{
}
impl<T: for<'r> Decode<'r, Postgres> + Type<Postgres> + Send + Unpin> Scalar for T {}

pub(crate) async fn run(connection: &mut PgConnection, sql: &str) {
    try_run(connection, sql).await.unwrap();
}

pub(crate) async fn try_run(connection: &mut PgConnection, sql: &str) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await
        .map(drop)
}

/// The SQLSTATE and the message of what has to fail.
pub(crate) async fn refused(connection: &mut PgConnection, sql: &str) -> (String, String) {
    let error = try_run(connection, sql).await.unwrap_err();
    let error = error.into_database_error().unwrap();
    let code = error.code().unwrap_or_default().into_owned();
    (code, error.message().to_owned())
}

pub(crate) async fn one<T: Scalar>(connection: &mut PgConnection, query: &str) -> T {
    sqlx::query_scalar(AssertSqlSafe(query))
        .fetch_one(connection)
        .await
        .unwrap()
}

pub(crate) fn channel(name: &str) -> ChannelName {
    name.parse().unwrap()
}

/// `""` is not routed yet.
pub(crate) fn lane(name: &str) -> Lane {
    if name.is_empty() {
        Lane::Unrouted
    } else {
        Lane::Channel(channel(name))
    }
}

pub(crate) fn want(lanes: &[(&str, usize)]) -> Vec<Wanted> {
    let wanted = |(name, room): &(&str, usize)| Wanted {
        lane: lane(name),
        room: *room,
    };
    lanes.iter().map(wanted).collect()
}

pub(crate) fn ids(claimed: &[Leased]) -> Vec<i64> {
    claimed.iter().map(|row| row.event_id).collect()
}

/// A program of PostgreSQL's, beside the others or in PATH.
pub(crate) fn program(name: &str) -> Command {
    let folder = Command::new("pg_config").arg("--bindir").output();
    let folder = folder.map(|output| String::from_utf8(output.stdout).unwrap());
    let beside = folder.map(|folder| Path::new(folder.trim()).join(name));
    let found = beside.ok().filter(|path| path.is_file());
    Command::new(found.unwrap_or_else(|| PathBuf::from(name)))
}

/// The files of `migrations/`, in the order in which they are applied.
pub(crate) fn migrations() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    let files = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// `psql -f` of the migrations, ready to run.
pub(crate) fn psql_migrations(url: &str) -> Command {
    let mut psql = program("psql");
    psql.args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1"]);
    for file in migrations() {
        psql.arg("--file").arg(file);
    }
    psql.arg(url);
    psql
}
