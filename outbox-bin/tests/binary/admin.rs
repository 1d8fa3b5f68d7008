//! The admin side of a running process.

use crate::support::{PATIENCE, Running, Scene, Shop, get, request};
use outbox_sandbox::postgres::{Cluster, ClusterOptions, StopMode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;

const KEY: &str = "admin-K3y";
const DISPATCH: &str = "/api/admin/outbox/dispatch";

/// The address in the line that says where the admin side listens.
pub(crate) fn address_in(line: &str) -> String {
    line.rsplit_once("address=").unwrap().1.trim().to_owned()
}

async fn address(running: &Running) -> String {
    address_in(&running.line("admin side listens").await)
}

#[tokio::test]
async fn dispatch_is_open_to_the_key_only() {
    let shop = Shop::migrated().await;
    let scene = Scene::at(&shop)
        .set("OUTBOX_WORKER_ENABLED", "false")
        .set("ADMIN_API_KEY", KEY)
        .secret(KEY)
        .file("[channels.a]\nkind = \"null\"\n");
    let running = scene.start(&["run"]);
    let address = address(&running).await;
    let id = shop.insert("a", json!({ "channels": ["a"] })).await;

    for key in [None, Some("wrong"), Some("")] {
        let answer = request(&address, "POST", DISPATCH, key, "{}").await;
        assert_eq!(answer.status, 401, "{answer:?}");
        let problem: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(problem["status"], 401);
    }
    assert_eq!(shop.status(id).await, "pending");
    let answer = request(&address, "POST", DISPATCH, Some(KEY), r#"{"limit": 10}"#).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let done: Value = serde_json::from_str(&answer.body).unwrap();
    let expected = json!({ "processed": 1, "skipped": 0, "errors": 0, "requeued": 0 });
    assert_eq!(done, expected);
    assert_eq!(shop.status(id).await, "processed");
    running.stop().await;
}

#[tokio::test]
async fn without_a_key_configured_nobody_gets_in() {
    let shop = Shop::migrated().await;
    let running = Scene::at(&shop).worker().await;
    running.line("set ADMIN_API_KEY").await;
    let address = address(&running).await;
    let answer = request(&address, "POST", DISPATCH, Some(""), "{}").await;
    assert_eq!(answer.status, 403, "{answer:?}");
    assert_eq!(get(&address, "/healthz").await.status, 200);
    running.stop().await;
}

#[tokio::test]
async fn an_address_that_was_asked_for_has_to_be_had() {
    let shop = Shop::migrated().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let scene = Scene::at(&shop).set("OUTBOX_ADMIN__LISTEN", address.as_str());
    let log = scene.outbox(&["run"]).await.failed(1);
    assert!(
        log.contains(&address) && log.contains("admin.listen"),
        "{log}"
    );
}

/// Waits until the answer has that status.
async fn becomes(address: &str, path: &str, status: u16) {
    let deadline = Instant::now() + PATIENCE;
    while get(address, path).await.status != status {
        assert!(Instant::now() < deadline, "{path} never was {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_database_that_goes_away_and_comes_back_is_waited_for() {
    let options = ClusterOptions {
        durable: false,
        ..ClusterOptions::default()
    };
    let start = move || Cluster::start(options).unwrap();
    let mut cluster = spawn_blocking(start).await.unwrap();
    let scene = Scene::new()
        .set("DATABASE_URL", cluster.url("postgres"))
        .set("OUTBOX_ADMIN__LISTEN", "127.0.0.1:0")
        .file("[channels.a]\nkind = \"null\"\n");
    scene.ok(&["migrate"]).await;
    let worker = scene.worker().await;
    let address = address(&worker).await;
    becomes(&address, "/readyz", 200).await;

    let mut cluster = spawn_blocking(move || {
        cluster.stop(StopMode::Fast).unwrap();
        cluster
    })
    .await
    .unwrap();
    becomes(&address, "/readyz", 503).await;
    assert_eq!(get(&address, "/healthz").await.status, 200);
    worker.line("trouble with the database").await;

    let cluster = spawn_blocking(move || {
        cluster.restart().unwrap();
        cluster
    })
    .await
    .unwrap();
    becomes(&address, "/readyz", 200).await;
    let payload = r#"{"channels": ["a"]}"#;
    scene
        .ok(&["enqueue", "--type", "a", "--payload", payload])
        .await;
    let deadline = Instant::now() + PATIENCE;
    while scene.json(&["status"]).await["events"]["processed"] != 1 {
        assert!(Instant::now() < deadline, "the event was not delivered");
    }
    worker.stop().await;
    spawn_blocking(move || drop(cluster)).await.unwrap();
}
