//! `status`, `prune`, help.

use crate::support::{Scene, Shop};
use serde_json::{Value, json};

const TWO_CHANNELS: &str = "[channels.a]\nkind = \"null\"\n[channels.b]\nkind = \"null\"\n";

#[tokio::test]
async fn status_counts_what_waits_and_what_is_settled() {
    let shop = Shop::migrated().await;
    let scene = Scene::at(&shop).file(TWO_CHANNELS);
    let text = scene.ok(&["status"]).await;
    for line in [
        "no events",
        "nothing waits",
        "nothing is settled",
        "workers: none",
    ] {
        assert!(text.contains(line), "{text}");
    }
    shop.insert("both", json!({ "channels": ["a", "b"] })).await;
    shop.insert("nowhere", json!({})).await;
    scene.ok(&["dispatch"]).await;
    let later = "INSERT INTO outbox_events (event_type, payload, deliver_at) \
                 VALUES ('later', '{}', now() + interval '1 day')";
    shop.sql(later).await;
    shop.insert("now", json!({ "channels": ["a"] })).await;

    let status = scene.json(&["status"]).await;
    let events = json!({ "pending": 2, "processed": 1, "skipped": 1 });
    assert_eq!(status["events"], events);
    let lane = &status["backlog"][0];
    assert_eq!(
        (&lane["due"], &lane["scheduled"]),
        (&json!(1), &json!(1)),
        "{status}"
    );
    let settled = status["settled"].as_array().unwrap();
    let delivered = settled.iter().filter(|row| row["status"] == "delivered");
    assert_eq!(delivered.count(), 2);
    assert!(status["oldest_due_seconds"].as_f64().unwrap() >= 0.0);

    let text = scene.ok(&["status"]).await;
    for word in [
        "pending",
        "processed",
        "(not routed yet)",
        "delivered",
        "oldest due for",
    ] {
        assert!(text.contains(word), "{text}");
    }
}

#[tokio::test]
async fn status_names_the_workers() {
    let shop = Shop::migrated().await;
    let scene = Scene::at(&shop).file(TWO_CHANNELS);
    let worker = scene.worker().await;
    let id = shop.insert("a", json!({ "channels": ["a"] })).await;
    shop.settled(id).await;
    let status = scene.json(&["status"]).await;
    let name = status["workers"][0]["name"].as_str().unwrap().to_owned();
    assert!(
        scene
            .ok(&["status"])
            .await
            .contains(&format!("workers: {name}"))
    );
    worker.stop().await;
    assert_eq!(scene.json(&["status"]).await["workers"], json!([]));
}

#[tokio::test]
async fn prune_forgets_what_is_settled_and_old_enough() {
    let shop = Shop::migrated().await;
    let scene = Scene::at(&shop).file(TWO_CHANNELS);
    for _ in 0..5 {
        shop.insert("a", json!({ "channels": ["a"] })).await;
    }
    scene.ok(&["dispatch"]).await;
    shop.insert("waits", json!({ "channels": ["a"] })).await;
    // Thirty days, unless told.
    assert_eq!(scene.ok(&["prune"]).await, "removed 0\n");
    let scene = scene
        .set("OUTBOX_WORKER_RETENTION_DAYS", "0")
        .set("OUTBOX_WORKER_RETENTION_LIMIT", "2");
    assert_eq!(scene.json(&["prune"]).await, json!({ "removed": 2 }));
    assert_eq!(scene.ok(&["prune"]).await, "removed 2\n");
    assert_eq!(scene.ok(&["prune"]).await, "removed 1\n");
    assert_eq!(scene.ok(&["prune"]).await, "removed 0\n");
    assert_eq!(shop.count("SELECT count(*) FROM outbox_events").await, 1);
    assert_eq!(
        shop.count("SELECT count(*) FROM outbox_deliveries").await,
        0
    );
}

#[tokio::test]
async fn every_command_has_help() {
    let scene = Scene::new();
    let help = scene.ok(&["--help"]).await;
    assert!(
        help.contains("Exit codes") && help.contains("DATABASE_URL"),
        "{help}"
    );
    for command in [
        "demo", "migrate", "run", "dispatch", "enqueue", "status", "channels", "config", "prune",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
        let help = scene.ok(&[command, "--help"]).await;
        assert!(help.contains("Usage: outbox"), "{help}");
    }
    let version = scene.ok(&["--version"]).await;
    assert_eq!(version, concat!("outbox ", env!("CARGO_PKG_VERSION"), "\n"));
    scene.outbox(&[]).await.failed(2);
    scene.outbox(&["deliver"]).await.failed(2);
}

#[tokio::test]
async fn every_report_is_valid_json_and_nothing_else() {
    let shop = Shop::migrated().await;
    let scene = Scene::at(&shop).file(TWO_CHANNELS);
    for command in [
        &["status"][..],
        &["channels"],
        &["prune"],
        &["dispatch"],
        &["config", "show"],
        &["config", "check"],
        &["migrate"],
        &["migrate", "status"],
    ] {
        let report: Value = scene.json(command).await;
        assert!(report.is_object() || report.is_array(), "{command:?}");
    }
}
