//! What waits for a human, and all that is known about it.

use crate::support::{PATIENCE, Providers, Scene, Shop};
use outbox_sandbox::twilio::TwilioFault;
use serde_json::{Value, json};
use std::time::Duration;

const DUE_NOW: &str =
    "UPDATE outbox_queue SET due_at = now() WHERE due_at < 'infinity' AND worker IS NULL";

/// A worker whose SMS channel gets no answer to the first message.
async fn without_an_answer(shop: &Shop, providers: &Providers, on_ambiguous: &str) -> Scene {
    providers.twilio.faults().next(TwilioFault::HangUp);
    providers
        .scene(shop)
        .set("OUTBOX_CHANNELS__SMS__ON_AMBIGUOUS", on_ambiguous)
        .set("OUTBOX_WORKER_POLL_MS", "100")
}

fn code() -> Value {
    json!({ "channels": ["sms"], "to": "+15005550010", "body": "Code 1234" })
}

async fn held(shop: &Shop, scene: &Scene) -> i64 {
    let id = shop.insert("login.code", code()).await;
    let worker = scene.worker().await;
    shop.held(id).await;
    worker.stop().await;
    id
}

#[tokio::test]
async fn a_held_event_shows_all_that_is_known() {
    let shop = Shop::migrated().await;
    let providers = Providers::start().await;
    let scene = without_an_answer(&shop, &providers, "hold").await;
    let id = held(&shop, &scene).await;
    let id_text = id.to_string();
    let show = ["events", "show", id_text.as_str()];

    let shown = scene.json(&show).await;
    let event = &shown["event"];
    assert_eq!(event["status"], "held");
    assert_eq!(event["processed_at"], Value::Null);
    let work = &shown["queue"][0];
    assert_eq!(
        (&work["channel"], &work["held"]),
        (&json!("sms"), &json!(true))
    );
    assert_eq!(
        (&work["due_at"], &work["worker"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(work["attempts"], 1);
    assert!(work["began_at"].is_string(), "{work}");
    let attempt = &shown["attempts"][0];
    assert_eq!(
        (&attempt["class"], &attempt["attempt"]),
        (&json!("ambiguous"), &json!(1))
    );
    assert_eq!(attempt["code"], "connection_lost");
    assert!(!attempt["message"].as_str().unwrap().is_empty());
    assert_eq!(event["last_error"], attempt["message"]);

    let text = scene.ok(&show).await;
    for part in [
        "login.code: held",
        "held: an attempt began at ",
        "nobody knows its outcome",
        "ambiguous",
        "connection_lost",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    // It had arrived. Nothing sends it again by itself.
    let worker = scene.worker().await;
    let other = shop.insert("a", json!({ "channels": ["webhook"] })).await;
    shop.settled(other).await;
    worker.stop().await;
    assert_eq!(providers.twilio.total(), 1);
    assert_eq!(shop.status(id).await, "held");
}

/// Twilio lists two messages that are both the one that is looked for.
#[tokio::test]
async fn what_the_provider_cannot_tell_is_held() {
    let shop = Shop::migrated().await;
    let providers = Providers::start().await;
    let scene = without_an_answer(&shop, &providers, "verify").await;
    let unknown = shop.insert("login.code", code()).await;
    let worker = scene.worker().await;
    providers.twilio.wait_for(1).await;
    shop.attempted(unknown).await;
    // The same words to the same number, and this one arrives.
    let same = shop.insert("login.code", code()).await;
    assert_eq!(shop.settled(same).await.status, "processed");
    // A provider may take a moment to know: it is asked some seconds later.
    shop.sql(DUE_NOW).await;
    shop.held(unknown).await;
    worker.stop().await;
    assert_eq!(providers.twilio.total(), 2);
    let shown = scene.json(&["events", "show", &unknown.to_string()]).await;
    assert_eq!(shown["queue"][0]["attempts"], 1);
    assert_eq!(shown["attempts"][0]["class"], "ambiguous");
    assert!(shown["attempts"].as_array().unwrap().len() == 1, "{shown}");
}

/// A provider that does not answer the question is asked again, and nothing is sent meanwhile.
#[tokio::test]
async fn a_provider_that_cannot_be_asked_is_asked_again() {
    let shop = Shop::migrated().await;
    let providers = Providers::start().await;
    let scene = without_an_answer(&shop, &providers, "verify").await;
    providers
        .twilio
        .list_faults()
        .next(TwilioFault::Unavailable);
    let id = shop.insert("login.code", code()).await;
    let worker = scene.worker().await;
    shop.attempted(id).await;
    let asking = async {
        while shop.status(id).await != "processed" {
            shop.sql(DUE_NOW).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap();
    worker.stop().await;
    assert_eq!(providers.twilio.total(), 1);
}
