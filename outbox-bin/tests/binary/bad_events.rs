//! Events that can never be delivered: each is told what is wrong with it, and everything else
//! goes on.

use crate::support::{Providers, Shop};
use serde_json::{Value, json};

/// The event, and what its `last_error` says.
fn bad_events() -> Vec<(Value, &'static str)> {
    let huge = "x".repeat(10 << 20);
    vec![
        (json!([1, 2]), ""),
        (json!("text"), ""),
        (json!({ "channels": "email" }), "`channels` must be a list"),
        (json!({ "channels": [7] }), "`channels` must be a list"),
        (json!({ "channels": ["No Name"] }), "is not a channel name"),
        (
            json!({ "channels": ["fax"] }),
            "there is no channel `fax`; configured: email, sms, webhook",
        ),
        (
            json!({ "channels": ["email"], "text": "Hi" }),
            "`to` needs at least one address",
        ),
        (
            json!({ "channels": ["email"], "to": "nobody", "text": "Hi" }),
            "`to[0]`",
        ),
        (
            json!({ "channels": ["email"], "to": 7, "text": "Hi" }),
            "the payload does not fit",
        ),
        (
            json!({ "channels": ["email"], "to": "a@example.org", "subject": "Hi\r\nBcc: x@example.org", "text": "Hi" }),
            "`subject`",
        ),
        (
            json!({ "channels": ["email"], "to": "a@example.org\r\nRCPT TO:<x@example.org>", "text": "Hi" }),
            "`to[0]`",
        ),
        (
            json!({ "channels": ["email"], "to": "a@example.org", "text": "Hi", "headers": { "X-A": "b\r\nBcc: x@example.org" } }),
            "`headers.X-A`",
        ),
        (json!({ "channels": ["sms"], "body": "Hi" }), "to"),
        (json!({ "channels": ["sms"], "to": "+15005550010" }), "body"),
        (
            json!({ "channels": ["sms"], "to": "+15005550001", "body": "Hi" }),
            "not a valid phone number",
        ),
        (
            json!({ "channels": ["sms"], "to": "+15005550010", "body": huge }),
            "body",
        ),
    ]
}

#[tokio::test]
async fn each_is_told_and_the_good_ones_behind_are_delivered() {
    let shop = Shop::migrated().await;
    let providers = Providers::start().await;
    let worker = providers.scene(&shop).worker().await;
    let mut bad = Vec::new();
    for (payload, complaint) in bad_events() {
        bad.push((shop.insert("bad", payload).await, complaint));
    }
    let nowhere = shop
        .insert("nowhere", json!({ "to": "a@example.org" }))
        .await;
    let good = [
        json!({ "channels": ["email"], "to": "ada@example.org", "text": "Hi" }),
        json!({ "channels": ["sms"], "to": "+15005550010", "body": "Hi" }),
        json!({ "channels": ["webhook"], "note": "x".repeat(10 << 20) }),
        // One channel that is not there does not keep the event from the other.
        json!({ "channels": ["webhook"] }),
    ];
    for payload in good {
        let id = shop.insert("good", payload).await;
        assert_eq!(shop.settled(id).await.status, "processed");
    }
    for (id, complaint) in bad {
        let fate = shop.settled(id).await;
        let told = fate.last_error.clone().unwrap_or_default();
        let expected = if complaint.is_empty() {
            "skipped"
        } else {
            "failed"
        };
        assert_eq!(fate.status, expected, "{complaint}: {fate:?}");
        assert!(told.contains(complaint), "{complaint}: {fate:?}");
        assert!(!told.contains("xxxx"), "the payload is repeated: {told}");
    }
    assert_eq!(shop.settled(nowhere).await.status, "skipped");
    worker.stop().await;
    assert_eq!(providers.smtp.mail_count(), 1);
    assert_eq!(providers.twilio.total(), 1);
    assert_eq!(providers.webhook.total(), 2);
}

#[tokio::test]
async fn one_bad_channel_of_two_fails_the_event_and_not_the_other_channel() {
    let shop = Shop::migrated().await;
    let providers = Providers::start().await;
    let worker = providers.scene(&shop).worker().await;
    let payload = json!({ "channels": ["fax", "webhook", "email"], "to": "nobody" });
    let id = shop.insert("mixed", payload).await;
    assert_eq!(shop.settled(id).await.status, "failed");
    worker.stop().await;
    assert_eq!(providers.webhook.total(), 1);
    let delivered = "SELECT count(*) FROM outbox_deliveries WHERE status = 'delivered'";
    assert_eq!(shop.count(delivered).await, 1);
}

/// A payload that no channel can use, with a kind of channel that wants an object.
#[tokio::test]
async fn a_payload_that_is_no_object_fails_where_a_route_sends_it() {
    let shop = Shop::migrated().await;
    let providers = Providers::start().await;
    let scene = providers
        .scene(&shop)
        .file("[[routes]]\nevent = \"bad.*\"\nchannels = [\"email\", \"sms\", \"webhook\"]\n");
    let worker = scene.worker().await;
    for payload in [json!([1]), json!("text"), json!(7), Value::Null] {
        let id = shop.insert("bad.payload", payload).await;
        let fate = shop.settled(id).await;
        assert_eq!(fate.status, "failed");
        assert!(fate.last_error.unwrap().contains("must be a JSON object"));
    }
    let good = json!({ "channels": ["webhook"] });
    let id = shop.insert("good", good).await;
    assert_eq!(shop.settled(id).await.status, "processed");
    worker.stop().await;
    assert_eq!(providers.webhook.total(), 1);
}

#[tokio::test]
async fn a_broken_provider_holds_back_nobody_else() {
    let shop = Shop::migrated().await;
    let providers = Providers::start().await;
    // The wrong password, and a target that is not there.
    let scene = providers
        .scene(&shop)
        .set("TWILIO_AUTH_TOKEN", "wrong-T0ken")
        .secret("wrong-T0ken")
        .set("WEBHOOK_URL", "http://127.0.0.1:1/hook?token=url-T0ken");
    let worker = scene.worker().await;
    let text = json!({ "channels": ["sms"], "to": "+15005550010", "body": "Hi" });
    let sms = shop.insert("a", text).await;
    let webhook = shop.insert("a", json!({ "channels": ["webhook"] })).await;
    let mail = json!({ "channels": ["email"], "to": "ada@example.org", "text": "Hi" });
    let mail = shop.insert("a", mail).await;
    assert_eq!(shop.settled(mail).await.status, "processed");
    for id in [sms, webhook] {
        shop.attempted(id).await;
        assert_eq!(shop.status(id).await, "pending");
    }
    let list = scene.json(&["channels"]).await;
    let channels = list["channels"].as_array().unwrap();
    let sms = channels
        .iter()
        .find(|channel| channel["name"] == "sms")
        .unwrap();
    assert_eq!(sms["state"], "down", "{list}");
    worker.stop().await;
}
