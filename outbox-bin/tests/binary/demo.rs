//! `demo`: everything at work, and nothing left behind.

use crate::support::{PATIENCE, Scene, Shop};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const TABLES: &str = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";

#[tokio::test]
async fn ends_by_itself_with_a_table_and_touches_no_other_database() {
    let shop = Shop::empty().await;
    // The settings of a real installation: none of them is the demo's.
    let scene = Scene::at(&shop)
        .set("OUTBOX_WORKER_ENABLED", "false")
        .file("nonsense = true\n");
    let done = scene
        .outbox(&["demo", "--once", "--events", "60", "--port", "0"])
        .await;
    assert!(done.log.contains("Outbox is at work"), "{}", done.log);
    let out = done.ok();
    for word in [
        "EVENTS",
        "processed",
        "failed",
        "skipped",
        "CHANNEL",
        "email",
        "sms",
        "crm",
    ] {
        assert!(out.contains(word), "{out}");
    }
    assert!(
        out.contains("attempts: ") && out.contains("duration: "),
        "{out}"
    );
    assert!(out.ends_with("every event ended as it should\n"), "{out}");
    assert_eq!(shop.count(TABLES).await, 0);
}

#[tokio::test]
async fn reports_as_json_and_says_nothing_else() {
    let scene = Scene::new().set("DATABASE_URL", "postgres://bogus:1@127.0.0.1:1/bogus");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let arguments = [
        "demo", "--once", "--events", "24", "--json", "--port", &port,
    ];
    let done = scene.outbox(&arguments).await;
    assert_eq!(done.log, "");
    let report: Value = serde_json::from_str(&done.ok()).unwrap();
    assert_eq!(report["surprises"], json!([]));
    let counts = report["events"].as_object().unwrap().values();
    assert_eq!(counts.map(|count| count.as_i64().unwrap()).sum::<i64>(), 24);
    assert!(
        report["attempts"]["failed"].as_i64().unwrap() > 0,
        "{report}"
    );
    for status in ["delivered", "undelivered"] {
        assert!(report["receipts"][status].as_i64() > Some(0), "{report}");
    }
}

#[tokio::test]
async fn it_takes_no_settings_file() {
    let scene = Scene::new();
    let log = scene
        .outbox(&["demo", "--config", "outbox.toml"])
        .await
        .failed(2);
    assert!(log.contains("settings of its own"), "{log}");
}

#[tokio::test]
async fn another_database_is_used_when_it_is_named() {
    let shop = Shop::empty().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let scene = Scene::new().secret(Shop::PASSWORD);
    let arguments = [
        "demo",
        "--once",
        "--events",
        "12",
        "--port",
        &port,
        "--database-url",
        shop.url(),
    ];
    let done = scene.outbox(&arguments).await;
    assert!(
        done.log.contains(&format!("port {port} cannot be had")),
        "{}",
        done.log
    );
    done.ok();
    assert_eq!(shop.count("SELECT count(*) FROM outbox_events").await, 12);
}

#[tokio::test]
async fn a_database_in_use_is_refused() {
    let shop = Shop::migrated().await;
    let id = shop
        .insert("real", json!({ "to": "ada@example.org" }))
        .await;
    let scene = Scene::new().secret(Shop::PASSWORD);
    let arguments = [
        "demo",
        "--once",
        "--port",
        "0",
        "--database-url",
        shop.url(),
    ];
    let log = scene.outbox(&arguments).await.failed(1);
    assert!(log.contains("has events waiting"), "{log}");
    assert_eq!(shop.status(id).await, "pending");

    shop.sql("TRUNCATE outbox_events, outbox_queue").await;
    let worker = Scene::at(&shop).worker().await;
    let log = scene.outbox(&arguments).await.failed(1);
    assert!(log.contains("has a worker running"), "{log}");
    worker.stop().await;
    assert_eq!(shop.count("SELECT count(*) FROM outbox_events").await, 0);
}

#[tokio::test]
async fn an_interrupted_demo_leaves_nothing_behind() {
    let folder = TempDir::with_prefix_in("demo-", "/tmp").unwrap();
    // The server may run as somebody else.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    for (arguments, code) in [
        (&["demo", "--port", "0"][..], 0),
        (&["demo", "--port", "0", "--once", "--events", "100000"], 1),
    ] {
        let scene = Scene::new().set("TMPDIR", folder.path().to_str().unwrap());
        let running = scene.start(arguments);
        running.line("events written").await;
        let server = server(folder.path());
        assert_eq!(kill(server, None), Ok(()));
        running.signal(Signal::SIGINT);
        let done = running.end().await;
        assert_eq!(done.code, Some(code), "{done:?}");
        let deadline = Instant::now() + PATIENCE;
        while kill(server, None) != Err(Errno::ESRCH)
            || fs::read_dir(folder.path()).unwrap().count() > 0
        {
            assert!(Instant::now() < deadline, "something is left: {server}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The throwaway server's process.
fn server(folder: &Path) -> Pid {
    let mut entries = fs::read_dir(folder).unwrap();
    let home = entries.next().expect("no server").unwrap().path();
    let file = fs::read_to_string(home.join("data/postmaster.pid")).unwrap();
    Pid::from_raw(file.lines().next().unwrap().parse().unwrap())
}
