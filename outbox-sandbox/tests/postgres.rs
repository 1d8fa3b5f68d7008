//! Clusters and databases as the code of a test sees them.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests may stop at the first surprise"
)]

use outbox_sandbox::postgres::{Cluster, ClusterOptions, StopMode, TestDatabase};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

fn quick() -> Cluster {
    Cluster::start(ClusterOptions {
        durable: false,
        keep: false,
        ..ClusterOptions::default()
    })
    .unwrap()
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

async fn text(connection: &mut PgConnection, query: &str) -> String {
    let row = sqlx::query(AssertSqlSafe(query))
        .fetch_one(connection)
        .await
        .unwrap();
    row.get(0)
}

async fn setting(connection: &mut PgConnection, name: &str) -> String {
    text(connection, &format!("SHOW {name}")).await
}

#[tokio::test]
async fn a_cluster_takes_connections_as_its_ordinary_user() {
    let cluster = quick();
    let mut connection = connect(&cluster.url("postgres")).await;
    assert_eq!(
        text(&mut connection, "SELECT current_user::text").await,
        "postgres"
    );
    for (name, value) in [
        ("server_encoding", "UTF8"),
        ("lc_messages", "C"),
        ("listen_addresses", "127.0.0.1"),
        ("max_connections", "200"),
        ("fsync", "off"),
        ("synchronous_commit", "off"),
        ("full_page_writes", "off"),
    ] {
        assert_eq!(setting(&mut connection, name).await, value, "{name}");
    }
    // PostgreSQL refuses data that root owns, so that it runs says that it runs as another.
    assert_ne!(cluster.data_dir().metadata().unwrap().uid(), 0);
}

#[tokio::test]
async fn options_reach_the_server() {
    let awkward = r"it's a \ test";
    let cluster = Cluster::start(ClusterOptions {
        settings: vec![
            ("work_mem".into(), "7MB".into()),
            ("search_path".into(), "elsewhere".into()),
            ("sandbox.note".into(), awkward.into()),
        ],
        max_connections: 17,
        durable: true,
        keep: false,
    })
    .unwrap();
    let mut connection = connect(&cluster.url("postgres")).await;
    for (name, value) in [
        ("work_mem", "7MB"),
        ("search_path", "elsewhere"),
        ("sandbox.note", awkward),
        ("max_connections", "17"),
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
    ] {
        assert_eq!(setting(&mut connection, name).await, value, "{name}");
    }
}

#[test]
fn a_setting_that_cannot_work_is_told_from_the_log() {
    let error = Cluster::start(ClusterOptions {
        settings: vec![("work_mem".into(), "plenty".into())],
        keep: false,
        ..ClusterOptions::default()
    })
    .unwrap_err();
    let message = error.to_string();
    assert!(message.contains("did not start"), "{message}");
    assert!(message.contains("work_mem"), "{message}");
}

#[tokio::test]
async fn two_clusters_are_apart_and_gone_when_dropped() {
    let (one, two) = (quick(), quick());
    assert_ne!(one.port(), two.port());
    assert_ne!(one.data_dir(), two.data_dir());
    for cluster in [&one, &two] {
        let mut connection = connect(&cluster.url("postgres")).await;
        let data = setting(&mut connection, "data_directory").await;
        assert_eq!(data, cluster.data_dir().display().to_string());
    }
    let (port, home) = (one.port(), one.data_dir().parent().unwrap().to_owned());
    assert!(home.exists());
    drop(one);
    assert!(!home.exists());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    connect(&two.url("postgres")).await;
}

#[test]
fn a_panic_removes_the_cluster() {
    let mut seen = None;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let cluster = quick();
        seen = Some((cluster.port(), cluster.data_dir()));
        panic!("on purpose");
    }));
    assert!(outcome.is_err());
    let (port, data) = seen.unwrap();
    assert!(!data.parent().unwrap().exists());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[tokio::test]
async fn a_restart_keeps_data_and_port() {
    let mut cluster = quick();
    let url = cluster.url("postgres");
    let mut connection = connect(&url).await;
    connection
        .execute("CREATE TABLE kept AS SELECT 'before'::text AS word")
        .await
        .unwrap();

    cluster.restart().unwrap();
    assert_eq!(cluster.url("postgres"), url);
    assert!(
        connection.ping().await.is_err(),
        "sessions end with the server"
    );
    let mut connection = connect(&url).await;
    assert_eq!(
        text(&mut connection, "SELECT word FROM kept").await,
        "before"
    );

    for mode in [StopMode::Immediate, StopMode::Fast] {
        cluster.stop(mode).unwrap();
        assert!(TcpStream::connect(("127.0.0.1", cluster.port())).is_err());
        cluster.stop(mode).unwrap();
        cluster.restart().unwrap();
        let mut connection = connect(&url).await;
        assert_eq!(
            text(&mut connection, "SELECT word FROM kept").await,
            "before"
        );
    }
}

#[tokio::test]
async fn each_test_has_an_empty_database_of_its_own() {
    let (one, two) = tokio::join!(TestDatabase::create("same"), TestDatabase::create("same"));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one.name(), two.name());
    let mut connection = connect(one.url()).await;
    assert_eq!(
        text(&mut connection, "SELECT current_database()::text").await,
        one.name()
    );
    connection
        .execute("CREATE TABLE mine (id int)")
        .await
        .unwrap();
    let mut other = connect(two.url()).await;
    let mine = text(&mut other, "SELECT coalesce(to_regclass('mine')::text, '')").await;
    assert_eq!(mine, "");
}

#[tokio::test]
async fn a_database_is_named_after_the_test() {
    let database = TestDatabase::for_this_test().await.unwrap();
    let expected = "outbox_test_a_database_is_named_after_the_test";
    // With one test thread the harness runs tests on its main thread.
    assert!(
        database.name().starts_with(expected) || database.name().starts_with("outbox_test_main"),
        "{database:?}"
    );
}

async fn exists(observer: &TestDatabase, name: &str) -> bool {
    let query = "SELECT 1 FROM pg_database WHERE datname = $1";
    sqlx::query(query)
        .bind(name)
        .fetch_optional(&mut connect(observer.url()).await)
        .await
        .unwrap()
        .is_some()
}

#[tokio::test]
async fn a_database_goes_with_its_test_connected_or_not() {
    let observer = TestDatabase::create("observer").await.unwrap();
    let database = TestDatabase::create("passes").await.unwrap();
    let name = database.name().to_owned();
    let mut connection = connect(database.url()).await;
    assert!(exists(&observer, &name).await);
    drop(database);
    assert!(!exists(&observer, &name).await);
    assert!(connection.ping().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_database_goes_in_a_runtime_of_many_threads_too() {
    let observer = TestDatabase::create("observer").await.unwrap();
    let database = TestDatabase::create("passes").await.unwrap();
    let name = database.name().to_owned();
    tokio::spawn(async move { drop(database) }).await.unwrap();
    assert!(!exists(&observer, &name).await);
}

#[tokio::test]
async fn the_database_of_a_failed_test_is_kept() {
    let observer = TestDatabase::create("observer").await.unwrap();
    let database = TestDatabase::create("fails").await.unwrap();
    let name = database.name().to_owned();
    let test = thread::spawn(move || {
        let _database = database;
        panic!("on purpose");
    });
    assert!(test.join().is_err());
    assert!(exists(&observer, &name).await);
    let mut connection = connect(observer.url()).await;
    let remove = AssertSqlSafe(format!("DROP DATABASE {name}"));
    connection.execute(remove).await.unwrap();
}
