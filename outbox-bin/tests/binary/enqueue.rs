//! `enqueue` in all its forms.

use crate::support::{Scene, Shop};
use serde_json::{Value, json};

async fn payloads(shop: &Shop) -> Vec<Value> {
    sqlx::query_scalar("SELECT payload FROM outbox_events ORDER BY id")
        .fetch_all(&shop.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_payload_from_the_command_line_a_file_or_standard_input() {
    let shop = Shop::migrated().await;
    let scene = Scene::at(&shop);
    scene.write("two.json", br#"{"n": 2}"#);
    let id = scene
        .ok(&["enqueue", "--type", "a", "--payload", r#"{"n": 1}"#])
        .await;
    assert_eq!(id.trim().parse::<i64>().unwrap(), 1);
    let report = scene
        .json(&["enqueue", "--type", "a", "--file", "two.json"])
        .await;
    assert_eq!(report, json!({ "id": 2 }));
    let read = scene.outbox_reading(&["enqueue", "--type", "a", "-"], br#"{"n": 3}"#);
    assert_eq!(read.await.ok(), "3\n");
    let expected = [json!({ "n": 1 }), json!({ "n": 2 }), json!({ "n": 3 })];
    assert_eq!(payloads(&shop).await, expected);
}

#[tokio::test]
async fn every_column_can_be_set() {
    let shop = Shop::migrated().await;
    let arguments = "enqueue --type a.b --payload {} --key k --dedup-key d --priority -7 \
                     --max-retries 3 --deliver-at 2130-01-31T09:00:00+01:00 \
                     --expires-at 2130-02-01T00:00:00Z";
    let arguments: Vec<_> = arguments.split_whitespace().collect();
    Scene::at(&shop).ok(&arguments).await;
    let row: Value = sqlx::query_scalar("SELECT to_jsonb(e) FROM outbox_events e")
        .fetch_one(&shop.pool)
        .await
        .unwrap();
    for (column, expected) in [
        ("event_type", json!("a.b")),
        ("key", json!("k")),
        ("dedup_key", json!("d")),
        ("priority", json!(-7)),
        ("max_retries", json!(3)),
    ] {
        assert_eq!(row[column], expected, "{column}");
    }
    let times = "SELECT count(*) FROM outbox_events \
                 WHERE deliver_at = '2130-01-31T08:00Z' AND expires_at = '2130-02-01T00:00Z'";
    assert_eq!(shop.count(times).await, 1);
}

#[tokio::test]
async fn the_same_dedup_key_is_the_same_event() {
    let shop = Shop::migrated().await;
    let scene = Scene::at(&shop);
    let arguments = [
        "enqueue",
        "--type",
        "a",
        "--payload",
        "{}",
        "--dedup-key",
        "d",
    ];
    let first = scene.ok(&arguments).await;
    assert_eq!(scene.ok(&arguments).await, first);
    assert_eq!(shop.count("SELECT count(*) FROM outbox_queue").await, 1);
}

#[tokio::test]
async fn many_at_once_from_a_file_or_standard_input() {
    let shop = Shop::migrated().await;
    let scene = Scene::at(&shop);
    let lines: String = (0..2_500)
        .map(|n| format!("{{\"event_type\": \"a\", \"payload\": {{\"n\": {n}}}}}\n\n"))
        .collect();
    scene.write("many.jsonl", lines.as_bytes());
    assert_eq!(
        scene.ok(&["enqueue", "--batch", "many.jsonl"]).await,
        "enqueued 2500\n"
    );
    let two = b"{\"event_type\": \"a\", \"payload\": {}, \"key\": \"k\"}\n\
                {\"event_type\": \"b\", \"payload\": {}, \"headers\": {\"h\": \"v\"}}";
    let read = scene
        .outbox_reading(&["enqueue", "--batch", "-", "--json"], two)
        .await;
    let report: Value = serde_json::from_str(&read.ok()).unwrap();
    assert_eq!(report, json!({ "enqueued": 2 }));
    assert_eq!(shop.count("SELECT count(*) FROM outbox_queue").await, 2_502);
}

#[tokio::test]
async fn a_bad_line_is_named_and_nothing_is_written() {
    let shop = Shop::migrated().await;
    let scene = Scene::at(&shop);
    let good = "{\"event_type\": \"a\", \"payload\": {}}\n";
    let long = format!(
        "{{\"event_type\": \"{}\", \"payload\": {{}}}}",
        "x".repeat(300)
    );
    for (bad, complaint) in [
        ("{\"event_type\": \"a\"", "EOF while parsing"),
        ("{\"event_type\": \"a\"}", "missing field `payload`"),
        (
            "{\"event_type\": \"a\", \"payloads\": {}}",
            "unknown field `payloads`",
        ),
        (
            "{\"event_type\": \"a\", \"payload\": {}, \"max_retries\": -1}",
            "max_retries",
        ),
        // Only the database knows these.
        ("{\"event_type\": \"\", \"payload\": {}}", "event_type"),
        (
            "{\"event_type\": \"a\", \"payload\": {\"x\": \"\\u0000\"}}",
            "Unicode",
        ),
        (&long, "event_type"),
    ] {
        // Behind a full statement's worth of good ones, and before more.
        let lines = format!("{}{bad}\n{good}", good.repeat(1_001));
        scene.write("bad.jsonl", lines.as_bytes());
        let log = scene
            .outbox(&["enqueue", "--batch", "bad.jsonl"])
            .await
            .failed(2);
        assert!(log.contains("bad.jsonl line 1002"), "{bad}: {log}");
        assert!(
            complaint == "max_retries" || log.contains(complaint),
            "{bad}: {log}"
        );
    }
    assert_eq!(shop.count("SELECT count(*) FROM outbox_events").await, 0);
}

#[tokio::test]
async fn bad_usage_is_told_before_anything_is_written() {
    let shop = Shop::migrated().await;
    let scene = Scene::at(&shop);
    for (arguments, complaint) in [
        (&["--payload", "{}"][..], "--type"),
        (&["--type", "a"], "--payload"),
        (&["--type", "", "--payload", "{}"], "--type"),
        (
            &["--type", "a", "--payload", "{"],
            "the payload is not JSON",
        ),
        (
            &["--type", "a", "--payload", "{}", "--file", "x"],
            "cannot be used with",
        ),
        (
            &["--type", "a", "--file", "missing.json"],
            "missing.json cannot be opened",
        ),
        (
            &["--batch", "missing.jsonl"],
            "missing.jsonl cannot be opened",
        ),
        (&["--batch", "x", "--key", "k"], "cannot be used with"),
        (
            &["--type", "a", "--payload", "{}", "--deliver-at", "soon"],
            "2030-01-31T09:00:00Z",
        ),
        (
            &["--type", "a", "--payload", "{}", "--priority", "99999"],
            "--priority",
        ),
        (
            &["--type", "a", "--payload", "{\"x\": \"\\u0000\"}"],
            "the event was not written",
        ),
    ] {
        let log = scene
            .outbox(&[&["enqueue"], arguments].concat())
            .await
            .failed(2);
        assert!(log.contains(complaint), "{arguments:?}: {log}");
    }
    assert_eq!(shop.count("SELECT count(*) FROM outbox_events").await, 0);
}
