//! Migrations: by whom, how often, at the same time, and into which schema.

use crate::common::{
    Fixture, PATIENCE, fixture, migrations, one, options, psql_migrations, run, try_run,
};
use outbox_sandbox::postgres::TestDatabase;
use outbox_store::{NewEvent, OpenError, Store, enqueue};
use sqlx::{Connection, PgConnection};
use std::error::Error as _;

const FIRST: &str = include_str!("../../../migrations/0001_outbox.sql");
const INSERT: &str = "INSERT INTO outbox_events (event_type, payload) VALUES ('a', '{}')";
const APPLIED: &str = "SELECT count(*) FROM outbox_migrations";

fn files() -> i64 {
    i64::try_from(migrations().len()).unwrap()
}

/// As a tool does that knows nothing of Outbox.
async fn apply(connection: &mut PgConnection) {
    for file in migrations() {
        run(connection, &std::fs::read_to_string(file).unwrap()).await;
    }
}

async fn database() -> TestDatabase {
    TestDatabase::for_this_test().await.unwrap()
}

async fn with_schema(database: &TestDatabase, schema: &str) -> Store {
    Store::connect(&options(database, schema)).await.unwrap()
}

#[tokio::test]
async fn the_library_migrates_once() {
    let database = database().await;
    let options = options(&database, "public");
    let older = Store::open(&options).await.unwrap_err();
    assert!(
        matches!(&older, OpenError::Older { missing } if missing == "0001_outbox.sql"),
        "{older}"
    );
    let store = Store::connect(&options).await.unwrap();
    let before = store.migration_status().await.unwrap();
    let all = migrations().len();
    assert_eq!((before.applied.len(), before.pending.len()), (0, all));

    assert_eq!(store.migrate().await.unwrap().len(), all);
    let installation = store.installation().await.unwrap();
    assert_eq!(installation.len(), 10);
    assert!(
        installation
            .bytes()
            .all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
    );

    assert!(store.migrate().await.unwrap().is_empty());
    let after = Store::open(&options)
        .await
        .unwrap()
        .migration_status()
        .await
        .unwrap();
    assert_eq!(after.applied.len(), all);
    for ((applied, _), file) in after.applied.iter().zip(migrations()) {
        assert_eq!(file.file_name().unwrap(), &**applied);
    }
    assert!(after.pending.is_empty() && after.unknown.is_empty());
    assert_eq!(store.installation().await.unwrap(), installation);
}

#[tokio::test]
async fn psql_migrates_and_the_library_agrees() {
    let database = database().await;
    for _ in 0..2 {
        let output = psql_migrations(database.url()).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
    let store = Store::open(&options(&database, "public")).await.unwrap();
    assert!(store.migrate().await.unwrap().is_empty());
}

#[tokio::test]
async fn another_tool_may_run_the_file_in_a_transaction_of_its_own() {
    let database = database().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let mut tx = connection.begin().await.unwrap();
    apply(&mut tx).await;
    assert_eq!(
        one::<String>(&mut tx, "SHOW search_path").await,
        "public, pg_temp"
    );
    tx.commit().await.unwrap();
    assert_eq!(
        one::<String>(&mut connection, "SHOW search_path").await,
        "\"$user\", public"
    );
    apply(&mut connection).await;
    Store::open(&options(&database, "public")).await.unwrap();
}

#[tokio::test]
async fn a_role_without_privileges_may_migrate_what_it_owns() {
    let database = database().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let role = format!("owner_{}", &database.name()[database.name().len() - 16..]);
    run(
        &mut connection,
        &format!("CREATE ROLE {role}; CREATE SCHEMA own AUTHORIZATION {role}"),
    )
    .await;
    run(
        &mut connection,
        &format!("SET ROLE {role}; SET search_path = own"),
    )
    .await;
    apply(&mut connection).await;
    run(&mut connection, "SELECT outbox_enqueue('test', '{}')").await;
    run(
        &mut connection,
        &format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}"),
    )
    .await;
}

#[tokio::test]
async fn many_at_once_do_no_harm() {
    let database = database().await;
    let mut psqls: Vec<_> = (0..3)
        .map(|_| {
            let mut psql = psql_migrations(database.url());
            psql.env("PGOPTIONS", "-c search_path=public")
                .spawn()
                .unwrap()
        })
        .collect();
    let tasks: Vec<_> = (0..6)
        .map(|n| {
            // Two schemas: one that is there, one that has to be made.
            let options = options(&database, ["public", "made_by_many"][n % 2]);
            tokio::spawn(async move {
                let store = Store::connect(&options).await?;
                store.migrate().await?;
                Store::open(&options).await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    for psql in &mut psqls {
        assert!(psql.wait().unwrap().success());
    }
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    assert_eq!(one::<i64>(&mut connection, APPLIED).await, files());
    run(&mut connection, "SET search_path = made_by_many").await;
    assert_eq!(one::<i64>(&mut connection, APPLIED).await, files());
}

#[tokio::test]
async fn schemas_are_independent() {
    let database = database().await;
    // The second is a word of SQL's own.
    let (one_store, other) = (
        with_schema(&database, "tenant_1").await,
        with_schema(&database, "user").await,
    );
    one_store.migrate().await.unwrap();
    let pending = other.migration_status().await.unwrap().pending;
    assert_eq!(pending.len(), migrations().len());
    other.migrate().await.unwrap();
    assert_ne!(
        one_store.installation().await.unwrap(),
        other.installation().await.unwrap()
    );

    let event = NewEvent::new("test", serde_json::json!({}));
    enqueue(one_store.pool(), &event).await.unwrap();
    assert_eq!(one_store.backlog().await.unwrap().len(), 1);
    assert!(other.backlog().await.unwrap().is_empty());

    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let in_public = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    assert_eq!(one::<i64>(&mut connection, in_public).await, 0);
    run(&mut connection, "DROP SCHEMA tenant_1 CASCADE").await;
    enqueue(other.pool(), &event).await.unwrap();
    Store::open(&options(&database, "user")).await.unwrap();
}

/// A producer that has written holds locks until it ends, and those who come after it must not
/// queue up behind a migration that waits for them. Its next INSERT finds another trigger.
#[tokio::test]
async fn producers_and_the_migration_of_their_trigger_do_not_wait_for_each_other() {
    let f = fixture().await;
    let mut producer = f.connect().await;
    run(&mut producer, &format!("BEGIN; {INSERT}")).await;
    f.run("DELETE FROM outbox_migrations WHERE version = 6")
        .await;
    let migrated = tokio::time::timeout(PATIENCE, f.store.migrate()).await;
    assert_eq!(migrated.unwrap().unwrap().len(), 1);
    run(&mut producer, &format!("{INSERT}; COMMIT")).await;
    assert_eq!(f.one::<i64>("SELECT count(*) FROM outbox_queue").await, 2);
}

/// One that has to wait for a producer gives up before long, and those who came after it go on.
#[tokio::test]
async fn a_migration_that_holds_up_producers_gives_up() {
    let f = fixture().await;
    f.run(
        "DELETE FROM outbox_migrations WHERE version = 7;
         DROP INDEX outbox_queue_blocked;
         DROP FUNCTION outbox_blocked_behind(bigint)",
    )
    .await;
    let (mut producer, mut other) = (f.connect().await, f.connect().await);
    run(&mut producer, &format!("BEGIN; {INSERT}")).await;
    let next = async {
        f.until_a_session_waits().await;
        run(&mut other, INSERT).await;
    };
    let (migrated, ()) = tokio::join!(f.store.migrate(), next);
    let refused = migrated.unwrap_err();
    let why = refused.source().unwrap().to_string();
    assert!(why.contains("run this again when it has ended"), "{why}");
    assert_eq!(f.store.migration_status().await.unwrap().pending.len(), 1);

    run(&mut producer, "COMMIT").await;
    assert_eq!(f.store.migrate().await.unwrap().len(), 1);
    assert_eq!(f.one::<i64>("SELECT count(*) FROM outbox_queue").await, 2);
}

#[tokio::test]
async fn psql_migrates_into_the_current_schema() {
    let database = database().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let psql = |schema: &str| {
        let mut psql = psql_migrations(database.url());
        psql.env("PGOPTIONS", format!("-c search_path={schema}"))
            .output()
            .unwrap()
    };
    let missing = psql("tenant");
    assert!(!missing.status.success());
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(
        said.contains("no schema has been selected to create in"),
        "{said}"
    );

    run(&mut connection, "CREATE SCHEMA tenant").await;
    assert!(psql("tenant").status.success());
    let store = Store::open(&options(&database, "tenant")).await.unwrap();
    assert!(store.migrate().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_newer_database_is_left_alone() {
    let Fixture { store, database } = fixture().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let later = "INSERT INTO outbox_migrations (version, file) VALUES (9999, '9999_later.sql')";
    run(&mut connection, later).await;
    let is_newer = |error: &OpenError| matches!(error, OpenError::Newer { unknown } if unknown == "9999_later.sql");
    let opened = Store::open(&options(&database, "public"))
        .await
        .unwrap_err();
    assert!(is_newer(&opened), "{opened}");
    let migrated = store.migrate().await.unwrap_err();
    assert!(is_newer(&migrated), "{migrated}");
    assert_eq!(
        store.migration_status().await.unwrap().unknown,
        ["9999_later.sql"]
    );
}

#[tokio::test]
async fn the_applications_own_bookkeeping_is_not_touched() {
    let database = database().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    run(
        &mut connection,
        "CREATE TABLE _sqlx_migrations (version bigint PRIMARY KEY, description text);
         INSERT INTO _sqlx_migrations VALUES (1, 'theirs')",
    )
    .await;
    let store = with_schema(&database, "public").await;
    store.migrate().await.unwrap();
    let theirs = "SELECT string_agg(version || description, ',') FROM _sqlx_migrations";
    assert_eq!(one::<String>(&mut connection, theirs).await, "1theirs");
    let foreign = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace \
                   AND relname NOT LIKE 'outbox\\_%' AND relname NOT LIKE '\\_sqlx%'";
    assert_eq!(one::<i64>(&mut connection, foreign).await, 0);
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing() {
    let database = database().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    run(&mut connection, "CREATE TABLE outbox_workers (theirs int)").await;
    try_run(&mut connection, FIRST).await.unwrap_err();
    let ours = "SELECT count(*) FROM pg_class WHERE relname LIKE 'outbox\\_%'";
    assert_eq!(one::<i64>(&mut connection, ours).await, 1);
}

#[tokio::test]
async fn a_schema_is_one_plain_identifier() {
    let database = database().await;
    let too_long = "s".repeat(64);
    for name in [
        "",
        "Upper",
        "a b",
        "a;b",
        "1a",
        "a\"b",
        "a,b",
        "ä",
        too_long.as_str(),
    ] {
        let refused = Store::connect(&options(&database, name)).await.unwrap_err();
        assert!(matches!(refused, OpenError::Schema(_)), "{name}: {refused}");
    }
}
