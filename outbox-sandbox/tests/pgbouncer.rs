//! A pooler in front of a server.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests may stop at the first surprise"
)]

use outbox_sandbox::postgres::{PgBouncer, SandboxError, TestDatabase};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Row};

/// A connection that asks for nothing which a pooler does not know.
async fn connect(url: &str) -> PgConnection {
    let options: PgConnectOptions = url.parse().unwrap();
    options.extra_float_digits(None).connect().await.unwrap()
}

async fn session(connection: &mut PgConnection) -> i32 {
    let asked = sqlx::raw_sql("SELECT pg_backend_pid()::text");
    let row = sqlx::Executor::fetch_one(connection, asked).await.unwrap();
    row.get::<String, _>(0).parse().unwrap()
}

#[tokio::test]
async fn two_connections_share_a_session() {
    let database = TestDatabase::for_this_test().await.unwrap();
    let url = database.url().to_owned();
    let started = tokio::task::spawn_blocking(move || PgBouncer::start(&url, &[])).await;
    let pooler = match started.unwrap() {
        Err(error @ SandboxError::NoPgBouncer) => {
            eprintln!("SKIPPED: {error}");
            return;
        }
        started => started.unwrap(),
    };
    let url = pooler.url(database.name());
    let (mut one, mut other) = (connect(&url).await, connect(&url).await);
    assert_eq!(session(&mut one).await, session(&mut other).await);
    let mut direct = connect(database.url()).await;
    assert_ne!(session(&mut one).await, session(&mut direct).await);
    tokio::task::spawn_blocking(move || drop(pooler))
        .await
        .unwrap();
    assert!(connect_fails(&url).await);
}

async fn connect_fails(url: &str) -> bool {
    let options: PgConnectOptions = url.parse().unwrap();
    options.connect().await.is_err()
}
