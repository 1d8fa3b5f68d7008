//! `run`: from a committed row to the providers, and how it ends.

use crate::support::{Providers, Running, Scene, Shop};
use nix::sys::signal::Signal;
use outbox_sandbox::webhook::WebhookFault;
use serde_json::{Value, json};
use std::time::Duration;

/// A worker that has sent a webhook, and waits for an answer that comes as `fault` has it.
async fn sending(
    shop: &Shop,
    providers: &Providers,
    fault: WebhookFault,
    grace: &str,
) -> (Running, i64) {
    providers.webhook.faults().next(fault);
    let scene = providers.scene(shop);
    let scene = scene.set("OUTBOX_WORKER__SHUTDOWN_GRACE", grace);
    let worker = scene.worker().await;
    let id = shop.insert("a", json!({ "channels": ["webhook"] })).await;
    providers.webhook.wait_for(1).await;
    (worker, id)
}

#[tokio::test]
async fn a_committed_row_reaches_every_provider_that_its_payload_names() {
    let shop = Shop::migrated().await;
    let providers = Providers::start().await;
    let worker = providers.scene(&shop).worker().await;
    let id = shop
        .insert(
            "invoice.paid",
            json!({
                "channels": ["email", "webhook"], "to": "ada@example.org",
                "subject": "Invoice 7", "text": "Thank you.", "number": 7,
            }),
        )
        .await;
    let text = json!({ "channels": ["sms"], "to": "+15005550010", "body": "Code 1234" });
    let code = shop.insert("login.code", text).await;

    for id in [id, code] {
        assert_eq!(shop.settled(id).await.status, "processed");
    }
    let mails = providers.smtp.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].recipients, ["ada@example.org"]);
    assert_eq!(mails[0].header("Subject").as_deref(), Some("Invoice 7"));
    let messages = providers.twilio.messages();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].body, "Code 1234");
    // The receiver takes only what is signed with its secret.
    let webhooks = providers.webhook.messages();
    assert_eq!((webhooks.len(), providers.webhook.rejected()), (1, 0));
    let body: Value = serde_json::from_slice(&webhooks[0].body).unwrap();
    assert_eq!(
        (&body["type"], &body["data"]["number"]),
        (&json!("invoice.paid"), &json!(7))
    );

    let done = worker.stop().await;
    assert!(
        done.log.contains("processed="),
        "no summary line: {}",
        done.log
    );
}

#[tokio::test]
async fn what_was_rolled_back_is_never_sent() {
    let shop = Shop::migrated().await;
    let providers = Providers::start().await;
    let worker = providers.scene(&shop).worker().await;
    let mut transaction = shop.pool.begin().await.unwrap();
    let insert = "INSERT INTO outbox_events (event_type, payload) \
                  VALUES ('never', '{\"channels\": [\"webhook\"]}')";
    sqlx::query(insert)
        .execute(&mut *transaction)
        .await
        .unwrap();
    transaction.rollback().await.unwrap();

    let id = shop
        .insert("after", json!({ "channels": ["webhook"] }))
        .await;
    assert_eq!(shop.settled(id).await.status, "processed");
    worker.stop().await;
    assert_eq!(providers.webhook.total(), 1);
}

#[tokio::test]
async fn a_signal_lets_what_is_under_way_finish() {
    let shop = Shop::migrated().await;
    let providers = Providers::start().await;
    // A hundred times: the answer takes a second.
    let pause = Duration::from_millis(10);
    let slow = WebhookFault::SlowBody { pause };
    let (worker, id) = sending(&shop, &providers, slow, "50s").await;
    worker.stop().await;
    assert_eq!(shop.status(id).await, "processed");
    let workers = "SELECT count(*) FROM outbox_workers WHERE alive_until > now()";
    assert_eq!(shop.count(workers).await, 0);
}

#[tokio::test]
async fn what_does_not_finish_within_the_grace_waits_for_another_worker() {
    let shop = Shop::migrated().await;
    let providers = Providers::start().await;
    let (worker, id) = sending(&shop, &providers, WebhookFault::Stall, "1s").await;
    worker.stop().await;
    assert_eq!(shop.status(id).await, "pending");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let shop = Shop::migrated().await;
    let providers = Providers::start().await;
    let (worker, id) = sending(&shop, &providers, WebhookFault::Stall, "10m").await;
    worker.signal(Signal::SIGTERM);
    worker.line("stopping").await;
    worker.signal(Signal::SIGINT);
    let done = worker.end().await;
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.log.contains("second signal"), "{}", done.log);
    assert_eq!(shop.status(id).await, "pending");
}

#[tokio::test]
async fn without_a_worker_there_is_the_admin_side_only() {
    let shop = Shop::migrated().await;
    let scene = Scene::at(&shop)
        .set("OUTBOX_WORKER_ENABLED", "false")
        .file("[channels.a]\nkind = \"null\"\n");
    let running = scene.start(&["run"]);
    let line = running.line("admin side listens").await;
    let address = crate::admin::address_in(&line);
    let id = shop.insert("a", json!({ "channels": ["a"] })).await;
    assert_eq!(crate::support::get(&address, "/readyz").await.status, 200);
    let done = running.stop().await;
    assert!(!done.log.contains("worker starts"), "{}", done.log);
    assert_eq!(shop.status(id).await, "pending");
}

#[tokio::test]
async fn with_neither_there_is_nothing_to_run() {
    let shop = Shop::migrated().await;
    let scene = Scene::at(&shop)
        .set("OUTBOX_WORKER_ENABLED", "false")
        .set("OUTBOX_ADMIN__ENABLED", "false");
    let log = scene.outbox(&["run"]).await.failed(2);
    assert!(log.contains("error: nothing to run"), "{log}");
}

#[tokio::test]
async fn two_workers_on_one_host_share_the_work() {
    let shop = Shop::migrated().await;
    let providers = Providers::start().await;
    let scene = providers.scene(&shop);
    let (one, other) = (scene.worker().await, scene.worker().await);
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(shop.insert("a", json!({ "channels": ["webhook"] })).await);
    }
    for id in ids {
        assert_eq!(shop.settled(id).await.status, "processed");
    }
    one.stop().await;
    other.stop().await;
    assert_eq!(
        (providers.webhook.total(), providers.webhook.distinct()),
        (40, 40)
    );
}
