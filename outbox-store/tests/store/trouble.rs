//! A database that cannot be reached, does not answer, or refuses.

use crate::common::{Fixture, LONG, PATIENCE, fixture, options};
use outbox_sandbox::proxy::{Direction, TcpProxy};
use outbox_store::{OpenError, Store, StoreError, StoreOptions};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// What the server says, and whether the same statement may succeed later.
const REFUSALS: [(&str, bool); 26] = [
    ("08006", true),  // connection failure
    ("0A000", true),  // the tables have changed beneath a prepared statement
    ("22001", false), // value too long
    ("22P05", false), // a character that cannot be stored
    ("23503", false), // foreign key violation
    ("23505", false), // unique violation
    ("25006", true),  // read-only
    ("25P03", true),  // idle in transaction for too long
    ("26000", true),  // a prepared statement is gone
    ("28P01", true),  // wrong password: it is being changed
    ("40001", true),  // serialization failure
    ("40P01", true),  // deadlock
    ("42501", false), // insufficient privilege
    ("42P01", false), // no such table
    ("42P05", true),  // a prepared statement is there already
    ("53100", true),  // disk full
    ("53200", true),  // out of memory
    ("53300", true),  // too many connections
    ("54000", false), // a limit of the program
    ("55P03", true),  // a lock is not to be had
    ("57014", true),  // canceled: too slow, or by an operator
    ("57P01", true),  // shutting down
    ("57P03", true),  // starting
    ("58030", true),  // input or output failed
    ("72000", true),  // snapshot too old
    ("P0001", false), // somebody's trigger objects
];

#[tokio::test]
async fn refusals_that_pass_are_told_from_those_that_do_not() {
    let f = fixture().await;
    f.run(
        "CREATE TABLE refusal (code text);
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = (SELECT code FROM refusal); END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON outbox_workers EXECUTE FUNCTION refuse()",
    )
    .await;
    for (code, is_transient) in REFUSALS {
        f.run(&format!(
            "DELETE FROM refusal; INSERT INTO refusal VALUES ('{code}')"
        ))
        .await;
        let error = f.store.register_worker("w", LONG).await.unwrap_err();
        assert_eq!(error.is_transient(), is_transient, "{code}");
        let start = format!("cannot register the worker: refused (SQLSTATE {code})");
        assert!(error.sentence().starts_with(&start), "{}", error.sentence());
    }
}

fn address(f: &Fixture) -> SocketAddr {
    let (_, rest) = f.database.url().split_once('@').unwrap();
    rest.split('/').next().unwrap().parse().unwrap()
}

/// The only connection of a store that a proxy carries.
async fn through(f: &Fixture, proxy: &TcpProxy) -> Store {
    let (server, proxy) = (address(f).to_string(), proxy.address().to_string());
    let options = StoreOptions {
        url: f.database.url().replace(&server, &proxy),
        max_connections: 1,
        ..options(&f.database, "public")
    };
    Store::connect(&options).await.unwrap()
}

fn sentence(error: OpenError) -> String {
    match error {
        OpenError::Store(error) => error.sentence(),
        other => other.to_string(),
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_of_at_once() {
    // Free at this moment, and not many look for one of these.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = free.local_addr().unwrap();
    drop(free);
    let begun = Instant::now();
    let mut options = StoreOptions::new(format!("postgres://app:Geheim-4711@{place}/shop"));
    options.acquire_timeout = PATIENCE;
    let error = Store::connect(&options).await.unwrap_err();
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    let expected = format!(
        "cannot reach the database: cannot connect to {place}: connection refused; \
         is the server running?"
    );
    assert_eq!(sentence(error), expected);
}

#[tokio::test]
async fn a_name_that_nobody_has_is_told() {
    let url = "postgres://app:Geheim-4711@nowhere.invalid/shop";
    let error = Store::connect(&StoreOptions::new(url)).await.unwrap_err();
    let told = sentence(error);
    let start = "cannot reach the database: cannot connect to nowhere.invalid:5432: ";
    assert!(told.starts_with(start), "{told}");
    assert!(!told.contains("Geheim"), "{told}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    // Takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = silent.local_addr().unwrap();
    let mut options = StoreOptions::new(format!("postgres://app@{place}/shop"));
    options.acquire_timeout = Duration::from_millis(500);
    let error = Store::connect(&options).await.unwrap_err();
    let OpenError::Store(error) = &error else {
        unreachable!("{error}");
    };
    assert!(error.is_transient());
    let told = error.sentence();
    assert!(told.starts_with("cannot reach the database: "), "{told}");
    assert!(told.contains("within 500ms"), "{told}");
}

#[tokio::test]
async fn a_connection_that_died_in_silence_gives_its_place_to_another() {
    let f = fixture().await;
    let proxy = TcpProxy::start(address(&f)).await.unwrap();
    let store = through(&f, &proxy).await;
    store.ping().await.unwrap();
    proxy.silence();
    let error = store.clone().within(Duration::from_millis(200));
    let error: StoreError = error.ping().await.unwrap_err();
    assert!(error.is_transient());
    let told = error.sentence();
    let expected = "cannot reach the database: no answer from the database within 200ms";
    assert_eq!(told, expected);
    // The test's own patience; TCP would take a quarter of an hour.
    tokio::time::timeout(PATIENCE, store.ping())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_statement_that_is_given_up_ends_before_its_connection_is_used_again() {
    let f = fixture().await;
    let proxy = TcpProxy::start(address(&f)).await.unwrap();
    let store = through(&f, &proxy).await;
    store.ping().await.unwrap();
    let session = "SELECT pg_backend_pid()";
    let before: i32 = sqlx::query_scalar(session)
        .fetch_one(store.pool())
        .await
        .unwrap();
    proxy.stall(Direction::ToClient);
    let hasty = store.clone().within(Duration::from_millis(200));
    hasty.ping().await.unwrap_err();
    proxy.resume(Direction::ToClient);
    let after: i32 = sqlx::query_scalar(session)
        .fetch_one(store.pool())
        .await
        .unwrap();
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_pool_without_a_free_connection_says_so() {
    let f = fixture().await;
    let options = StoreOptions {
        max_connections: 1,
        acquire_timeout: Duration::from_secs(1),
        ..options(&f.database, "public")
    };
    let store = Store::connect(&options).await.unwrap();
    let busy = store.pool().begin().await.unwrap();
    let told = store.ping().await.unwrap_err().sentence();
    let expected = format!(
        "cannot reach the database: none of 1 connections to {} was free within 1s",
        address(&f)
    );
    assert_eq!(told, expected);
    drop(busy);
    store.ping().await.unwrap();
}
