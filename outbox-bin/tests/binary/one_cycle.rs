//! `run` with a poll interval of nothing, as a scheduler starts it.

use crate::support::{Scene, Shop};
use serde_json::json;

fn scene(shop: &Shop) -> Scene {
    Scene::at(shop)
        .set("OUTBOX_POLL_INTERVAL_MS", "0")
        .file("[channels.a]\nkind = \"null\"\n")
}

#[tokio::test]
async fn one_batch_and_out() {
    let shop = Shop::migrated().await;
    let scene = scene(&shop).set("OUTBOX_BATCH_SIZE", "2");
    for _ in 0..3 {
        shop.insert("a", json!({ "channels": ["a"] })).await;
    }
    let left = "SELECT count(*) FROM outbox_event_status WHERE processed_at IS NULL";
    let done = scene.outbox(&["run"]).await;
    assert!(done.log.contains("processed=2"), "{}", done.log);
    assert_eq!(done.ok(), "");
    assert_eq!(shop.count(left).await, 1);
    scene.ok(&["run"]).await;
    assert_eq!(shop.count(left).await, 0);
    // Nothing to do is fine as well.
    scene.ok(&["run"]).await;
}

#[tokio::test]
async fn retention_in_every_cycle_is_in_this_one_too() {
    let shop = Shop::migrated().await;
    let scene = scene(&shop).set("OUTBOX_WORKER_RETENTION_DAYS", "0");
    let events = "SELECT count(*) FROM outbox_events";
    shop.insert("a", json!({ "channels": ["a"] })).await;
    scene.ok(&["run"]).await;
    assert_eq!(shop.count(events).await, 1);
    let scene = scene.set("OUTBOX_WORKER_RETENTION_EVERY_CYCLES", "1");
    scene.ok(&["run"]).await;
    assert_eq!(shop.count(events).await, 0);
}
