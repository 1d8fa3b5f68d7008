//! A database in trouble, and one behind a connection pooler, as an operator meets them.

use crate::admin::address_in;
use crate::support::{PATIENCE, Running, Scene, Shop, get};
use outbox_sandbox::postgres::{PgBouncer, SandboxError};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor};
use std::net::TcpListener;
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;

const NULL_CHANNEL: &str = "[channels.a]\nkind = \"null\"\n";

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_what_is_wrong() {
    // Free at this moment, and not many look for one of these.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = free.local_addr().unwrap();
    drop(free);
    let scene = Scene::new()
        .set(
            "DATABASE_URL",
            format!("postgres://app:Geheim-4711@{place}/shop"),
        )
        .secret(Shop::PASSWORD)
        .file(NULL_CHANNEL);
    let log = scene.outbox(&["run"]).await.failed(1);
    let told = format!("cannot connect to {place}: connection refused; is the server running?\n");
    assert!(log.ends_with(&told), "{log}");
}

/// Sets something for sessions of the shop's database that begin from now on, and ends the
/// worker's.
async fn set(shop: &Shop, setting: &str) {
    let database: String = sqlx::query_scalar("SELECT current_database()")
        .fetch_one(&shop.pool)
        .await
        .unwrap();
    let set = AssertSqlSafe(format!("ALTER DATABASE {database} {setting}"));
    shop.pool.execute(set).await.unwrap();
    shop.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'outbox'",
    )
    .await;
}

/// Waits until the answer has that status, and returns its body.
async fn becomes(address: &str, status: u16) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = get(address, "/readyz").await;
        if answer.status == status {
            return answer.body;
        }
        assert!(Instant::now() < deadline, "/readyz never was {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_database_that_turns_read_only_is_waited_for() {
    let shop = Shop::migrated().await;
    let scene = Scene::at(&shop).file(NULL_CHANNEL);
    let worker = scene.worker().await;
    let address = address_in(&worker.line("admin side listens").await);
    becomes(&address, 200).await;
    set(&shop, "SET default_transaction_read_only = on").await;
    let told = becomes(&address, 503).await;
    assert!(told.contains("the worker waits for the database"), "{told}");
    let line = worker.line("SQLSTATE 25006").await;
    assert!(line.contains("again_in="), "{line}");
    set(&shop, "RESET default_transaction_read_only").await;
    becomes(&address, 200).await;
    let id = shop.insert("a", json!({ "channels": ["a"] })).await;
    assert_eq!(shop.settled(id).await.status, "processed");
    worker.stop().await;
}

/// A scene whose database is behind PgBouncer in transaction mode, with fewer sessions than
/// connections. `None`, and said so, where there is no PgBouncer.
async fn behind_pooler(shop: &Shop) -> Option<(Scene, PgBouncer)> {
    let server = shop.url().to_owned();
    let settings = &[("default_pool_size", "2"), ("server_round_robin", "1")];
    let started = spawn_blocking(move || PgBouncer::start(&server, settings)).await;
    let pooler = match started.unwrap() {
        Ok(pooler) => pooler,
        Err(error @ SandboxError::NoPgBouncer) => {
            eprintln!("SKIPPED: {error}");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let database = shop.url().rsplit('/').next().unwrap();
    let scene = Scene::at(shop)
        .set("DATABASE_URL", pooler.url(database))
        .set("OUTBOX_POLL_INTERVAL_MS", "100")
        .set("ADMIN_API_KEY", "k")
        .file(NULL_CHANNEL);
    Some((scene, pooler))
}

#[tokio::test]
async fn every_command_works_behind_a_pooler() {
    let shop = Shop::empty().await;
    let Some((scene, pooler)) = behind_pooler(&shop).await else {
        return;
    };
    scene.ok(&["migrate"]).await;
    let worker: Running = scene.worker().await;
    worker.line("there is a connection pooler").await;
    let payload = r#"{"channels": ["a"]}"#;
    let enqueue = ["enqueue", "--type", "a", "--payload", payload];
    for _ in 0..3 {
        scene.ok(&enqueue).await;
    }
    let line = format!("{{\"event_type\": \"a\", \"payload\": {payload}, \"key\": \"k\"}}\n");
    let file = scene.write("events.jsonl", line.repeat(50).as_bytes());
    scene
        .ok(&["enqueue", "--batch", file.to_str().unwrap()])
        .await;
    let deadline = Instant::now() + PATIENCE;
    while scene.json(&["status"]).await["events"]["processed"] != 53 {
        assert!(Instant::now() < deadline, "not all was delivered");
    }
    for command in [
        &["events", "list"][..],
        &["channels"],
        &["channels", "pause", "a"],
        &["channels", "resume", "a"],
        &["prune"],
        &["dispatch"],
    ] {
        scene.ok(command).await;
    }
    let done = worker.stop().await;
    assert!(!done.log.contains("WARN"), "{}", done.log);
    spawn_blocking(move || drop(pooler)).await.unwrap();
}
