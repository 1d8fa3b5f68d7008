//! `events list`, `show`, `cancel`, `replay` and `delivered`.

use crate::support::{Scene, Shop};
use serde_json::{Value, json};

const ONE_CHANNEL: &str = "[channels.a]\nkind = \"null\"\n";
const TWO_CHANNELS: &str = "[channels.a]\nkind = \"null\"\n[channels.gone]\nkind = \"null\"\n";

/// 1 is delivered, 2 failed (its channel is not configured), 3 is skipped, 4 waits.
async fn four_events() -> (Shop, Scene) {
    let shop = Shop::migrated().await;
    let scene = Scene::at(&shop).file(ONE_CHANNEL);
    let secret = json!({ "channels": ["a"], "to": "ada@example.org" });
    shop.insert("invoice.paid", secret).await;
    let gone = json!({ "channels": ["gone"] });
    shop.insert("invoice.sent", gone).await;
    shop.insert("nowhere", json!({})).await;
    scene.ok(&["dispatch"]).await;
    shop.insert("later", json!({ "channels": ["a"] })).await;
    (shop, scene)
}

fn ids(list: &Value) -> Vec<i64> {
    let events = list["events"].as_array().unwrap().iter();
    events.map(|event| event["id"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn events_are_listed() {
    let (_shop, scene) = four_events().await;
    let list = async |filter: &[&str]| {
        let list = scene.json(&[&["events", "list"], filter].concat()).await;
        (ids(&list), list["next"].as_i64())
    };
    assert_eq!(list(&[]).await, (vec![4, 3, 2, 1], None));
    assert_eq!(list(&["--limit", "3"]).await, (vec![4, 3, 2], Some(2)));
    assert_eq!(list(&["--before", "2"]).await, (vec![1], None));
    assert_eq!(list(&["--status", "failed"]).await, (vec![2], None));
    assert_eq!(list(&["--type", "invoice.*"]).await, (vec![2, 1], None));
    assert_eq!(list(&["--channel", "a"]).await, (vec![1], None));
    assert_eq!(list(&["--since", "1h", "--status", "pending"]).await.0, [4]);
    let none = (Vec::new(), None);
    assert_eq!(list(&["--since", "2100-01-01T00:00:00Z"]).await, none);
    assert_eq!(list(&["--key", "k"]).await, none);

    let text = scene.ok(&["events", "list", "--limit", "3"]).await;
    for part in [
        "pending",
        "failed",
        "there is no channel",
        "more with --before 2",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    let log = scene.outbox(&["events", "list", "--status", "lost"]).await;
    assert!(log.failed(2).contains("expected one of pending, held"));
    let log = scene.outbox(&["events", "list", "--since", "soon"]).await;
    assert!(log.failed(2).contains("how long ago"));
}

#[tokio::test]
async fn an_event_is_shown_without_what_it_says() {
    let (_shop, scene) = four_events().await;
    let text = scene.ok(&["events", "show", "1"]).await;
    assert!(
        text.starts_with("event 1, invoice.paid: processed\n"),
        "{text}"
    );
    assert!(
        text.contains("delivered") && !text.contains("ada@example.org"),
        "{text}"
    );
    let text = scene.ok(&["events", "show", "1", "--payload"]).await;
    assert!(text.contains("ada@example.org"), "{text}");

    let shown = scene.json(&["events", "show", "2"]).await;
    assert_eq!(shown["event"]["status"], "failed");
    assert_eq!(shown["event"].get("payload"), None);
    assert_eq!(shown["results"][0]["code"], "unknown_channel");
    let shown = scene.json(&["events", "show", "4", "--payload"]).await;
    assert_eq!(shown["event"]["payload"]["channels"], json!(["a"]));
    assert_eq!(shown["queue"][0]["held"], false);
    let log = scene.outbox(&["events", "show", "77"]).await.failed(1);
    assert!(log.contains("there is no event 77"), "{log}");
}

#[tokio::test]
async fn what_is_cancelled_is_not_sent() {
    let (shop, scene) = four_events().await;
    assert_eq!(
        scene.ok(&["events", "cancel", "4"]).await,
        "1 event cancelled\n"
    );
    assert_eq!(shop.status(4).await, "cancelled");
    assert!(scene.ok(&["dispatch"]).await.starts_with("processed 0,"));

    let again = scene.outbox(&["events", "cancel", "4", "77"]).await;
    assert_eq!(again.code, Some(1));
    assert_eq!(again.out, "0 events cancelled\n");
    for line in [
        "event 4: there is nothing to cancel",
        "event 77: there is no such event",
    ] {
        assert!(again.log.contains(line), "{}", again.log);
    }
    let settled = scene
        .outbox(&["events", "cancel", "--status", "failed"])
        .await;
    assert!(
        settled
            .failed(2)
            .contains("failed events cannot be cancelled")
    );
}

#[tokio::test]
async fn what_a_worker_has_is_not_cancelled() {
    let (shop, scene) = four_events().await;
    shop.sql(
        "INSERT INTO outbox_workers (name, alive_until) VALUES ('w', now() + interval '1 hour');
         UPDATE outbox_queue SET worker = (SELECT id FROM outbox_workers WHERE name = 'w')",
    )
    .await;
    let refused = scene.outbox(&["events", "cancel", "4", "--json"]).await;
    assert_eq!(refused.code, Some(1));
    let report: Value = serde_json::from_str(&refused.out).unwrap();
    let busy = json!([{ "event_id": 4, "channel": "", "worker": "w" }]);
    assert_eq!(
        (&report["in_flight"], &report["events"]),
        (&busy, &json!(0))
    );
    let refused = scene
        .outbox(&["events", "cancel", "--type", "later", "--yes"])
        .await;
    assert_eq!(refused.code, Some(1));
    let line = "event 4, (not routed): w is delivering it right now";
    assert!(refused.log.contains(line), "{}", refused.log);
}

#[tokio::test]
async fn what_failed_is_sent_again() {
    let (shop, scene) = four_events().await;
    let scene = scene.file(TWO_CHANNELS);
    // By id, everything that was not delivered.
    assert_eq!(
        scene.ok(&["events", "replay", "3"]).await,
        "1 event replayed\n"
    );
    assert_eq!(shop.status(3).await, "pending");

    // In bulk: how many there are, and nothing without a yes.
    let bulk = ["events", "replay", "--type", "invoice.*"];
    let log = scene.outbox(&bulk).await.failed(2);
    assert!(
        log.contains("1 event to replay, and no terminal to ask on: say --yes"),
        "{log}"
    );
    assert_eq!(shop.status(2).await, "failed");
    let report = scene.json(&[&bulk[..], &["--yes"]].concat()).await;
    assert_eq!(
        (&report["matched"], &report["deliveries"]),
        (&json!(1), &json!(1))
    );
    scene.ok(&["dispatch"]).await;
    assert_eq!(shop.status(2).await, "processed");
    let shown = scene.json(&["events", "show", "2"]).await;
    assert_eq!(shown["attempts"][0]["class"], "replayed");
    assert_eq!(scene.ok(&bulk).await, "0 events replayed\n");
}

#[tokio::test]
async fn what_was_delivered_is_sent_again_only_when_told_so() {
    let (shop, scene) = four_events().await;
    let nothing = scene.outbox(&["events", "replay", "1"]).await;
    assert_eq!(nothing.code, Some(1));
    assert!(nothing.log.contains("event 1: there is nothing to replay"));
    let processed = ["events", "replay", "--status", "processed", "--yes"];
    let log = scene.outbox(&processed).await.failed(2);
    assert!(log.contains("say --delivered"), "{log}");
    scene.ok(&[&processed[..], &["--delivered"]].concat()).await;
    assert_eq!(shop.status(1).await, "pending");
}

#[tokio::test]
async fn a_human_decides_what_is_held() {
    let (shop, scene) = four_events().await;
    shop.sql("UPDATE outbox_queue SET due_at = 'infinity', channel = 'a', attempt = 1")
        .await;
    let list = scene.json(&["events", "list", "--status", "held"]).await;
    assert_eq!(ids(&list), [4]);
    let text = scene.ok(&["events", "show", "4"]).await;
    assert!(text.contains("held"), "{text}");
    let done = scene
        .ok(&["events", "delivered", "4", "--channel", "a"])
        .await;
    assert_eq!(done, "1 event written down as delivered\n");
    assert_eq!(shop.status(4).await, "processed");
    // It is not held any more.
    assert_eq!(
        scene.outbox(&["events", "delivered", "4"]).await.code,
        Some(1)
    );
}

#[tokio::test]
async fn it_has_to_be_said_which_events() {
    let (_shop, scene) = four_events().await;
    for command in ["cancel", "replay"] {
        let log = scene.outbox(&["events", command, "--yes"]).await.failed(2);
        assert!(log.contains("say which events"), "{log}");
        scene
            .outbox(&["events", command, "1", "--status", "failed"])
            .await
            .failed(2);
    }
    scene.outbox(&["events", "delivered"]).await.failed(2);
    let pending = scene
        .outbox(&["events", "replay", "--status", "pending"])
        .await;
    assert!(pending.failed(2).contains("without being replayed"));
}
