//! `channels`, `channels pause` and `channels resume`.

use crate::support::{Providers, Scene, Shop};
use serde_json::json;

#[tokio::test]
async fn lists_kinds_and_channels() {
    let shop = Shop::migrated().await;
    let scene = Scene::at(&shop).file("[channels.a]\nkind = \"null\"\n");
    let text = scene.ok(&["channels"]).await;
    assert!(
        text.starts_with("kinds in this build: email, null, sms, webhook\n"),
        "{text}"
    );
    let list = scene.json(&["channels"]).await;
    assert_eq!(list["kinds"], json!(["email", "null", "sms", "webhook"]));
    assert_eq!(list["channels"][0]["name"], "a");
    assert_eq!(list["channels"][0]["state"], "unused");
    scene.ok(&["dispatch"]).await;
    assert_eq!(
        scene.json(&["channels"]).await["channels"][0]["state"],
        "open"
    );
}

#[tokio::test]
async fn what_there_is_can_be_listed_without_a_database() {
    let scene = Scene::new().file("[channels.a]\nkind = \"null\"\n");
    let list = scene.json(&["channels"]).await;
    assert_eq!(list["channels"][0]["configured"], true);
}

#[tokio::test]
async fn a_paused_channel_waits_while_the_others_go_on() {
    let shop = Shop::migrated().await;
    let providers = Providers::start().await;
    let scene = providers.scene(&shop);
    // Before any worker has run.
    assert_eq!(
        scene.ok(&["channels", "pause", "webhook"]).await,
        "webhook is paused\n"
    );
    let worker = scene.worker().await;
    let held = shop.insert("a", json!({ "channels": ["webhook"] })).await;
    let mail = json!({ "channels": ["email"], "to": "ada@example.org", "text": "Hi" });
    let free = shop.insert("a", mail).await;
    assert_eq!(shop.settled(free).await.status, "processed");
    assert_eq!(shop.status(held).await, "pending");
    assert_eq!(providers.webhook.total(), 0);
    let list = scene.json(&["channels"]).await;
    let states = list["channels"].as_array().unwrap();
    let webhook = states.iter().find(|channel| channel["name"] == "webhook");
    assert_eq!(webhook.unwrap()["state"], "paused");

    assert_eq!(
        scene.ok(&["channels", "resume", "webhook"]).await,
        "webhook is open\n"
    );
    assert_eq!(shop.settled(held).await.status, "processed");

    // While the worker runs.
    scene.ok(&["channels", "pause", "webhook"]).await;
    let held = shop.insert("a", json!({ "channels": ["webhook"] })).await;
    scene.ok(&["channels", "resume", "webhook"]).await;
    assert_eq!(shop.settled(held).await.status, "processed");
    worker.stop().await;
    assert_eq!(providers.webhook.total(), 2);
}

#[tokio::test]
async fn a_channel_that_nobody_knows_cannot_be_paused() {
    let shop = Shop::migrated().await;
    let scene = Scene::at(&shop).file("[channels.mail]\nkind = \"null\"\n");
    let log = scene.outbox(&["channels", "pause", "mial"]).await.failed(1);
    assert!(
        log.contains("`mial` is not configured") && log.contains("`mail`"),
        "{log}"
    );
    let log = scene
        .outbox(&["channels", "pause", "No Name"])
        .await
        .failed(2);
    assert!(log.contains("is not a channel name"), "{log}");
}
