//! `dispatch`: one batch, and what became of it.

use crate::support::{Providers, Scene, Shop};
use outbox_sandbox::webhook::WebhookFault;
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn takes_no_more_than_its_limit() {
    let shop = Shop::migrated().await;
    let scene = Scene::at(&shop).file("[channels.a]\nkind = \"null\"\n");
    for _ in 0..5 {
        shop.insert("a", json!({ "channels": ["a"] })).await;
    }
    let text = scene.ok(&["dispatch", "--limit", "2"]).await;
    assert_eq!(
        text,
        "processed 2, skipped 0, errors 0, requeued 0, failed 0\n"
    );
    let report = scene.json(&["dispatch", "--limit", "2"]).await;
    let expected = json!({
        "processed": 2, "skipped": 0, "errors": 0, "requeued": 0, "failed": 0,
    });
    assert_eq!(report, expected);
    assert_eq!(scene.json(&["dispatch"]).await["processed"], 1);
    assert_eq!(scene.json(&["dispatch"]).await["processed"], 0);
}

#[tokio::test]
async fn counts_what_failed_and_still_succeeds() {
    let shop = Shop::migrated().await;
    let providers = Providers::start().await;
    let scene = providers.scene(&shop);
    let refuse = |code| WebhookFault::Status {
        code,
        retry_after: None,
    };
    providers.webhook.faults().next(refuse(503));
    let later = shop.insert("a", json!({ "channels": ["webhook"] })).await;
    let report = scene.json(&["dispatch"]).await;
    assert_eq!(
        (&report["errors"], &report["requeued"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(shop.status(later).await, "pending");

    providers.webhook.faults().next(refuse(410));
    let never = shop.insert("a", json!({ "channels": ["webhook"] })).await;
    shop.insert("nowhere", json!({})).await;
    let report = scene.json(&["dispatch"]).await;
    assert_eq!(
        (&report["failed"], &report["skipped"]),
        (&json!(1), &json!(1))
    );
    let fate = shop.fate(never).await;
    assert_eq!(fate.status, "failed");
    assert!(fate.last_error.unwrap().contains("gone"));
}

#[tokio::test]
async fn a_limit_of_nothing_is_bad_usage() {
    let log = Scene::new()
        .outbox(&["dispatch", "--limit", "0"])
        .await
        .failed(2);
    assert!(log.contains("--limit"), "{log}");
}

#[tokio::test]
async fn without_channels_it_says_so_before_it_skips() {
    let shop = Shop::migrated().await;
    shop.insert("a", json!({})).await;
    let done = Scene::at(&shop).outbox(&["dispatch"]).await;
    assert!(
        done.log.contains("no channel is configured"),
        "{}",
        done.log
    );
    assert!(done.ok().contains("skipped 1"));
}

#[tokio::test]
async fn a_signal_lets_the_batch_finish() {
    let shop = Shop::migrated().await;
    let providers = Providers::start().await;
    // A hundred times: the answer takes a second.
    let pause = Duration::from_millis(10);
    let scene = providers.scene(&shop).set("OUTBOX_POLL_INTERVAL_MS", "0");
    for (sent, command) in [(1, "dispatch"), (2, "run")] {
        let slow = WebhookFault::SlowBody { pause };
        providers.webhook.faults().next(slow);
        let id = shop.insert("a", json!({ "channels": ["webhook"] })).await;
        let running = scene.start(&[command]);
        providers.webhook.wait_for(sent).await;
        running.stop().await;
        assert_eq!(shop.status(id).await, "processed");
    }
}
