//! Events that are too much for one delivery, and must not be too much for the worker.

use crate::support::{Providers, Shop};
use serde_json::json;

/// Ten million bytes of text: a mail may have them, a text message and this receiver do not.
#[tokio::test]
async fn huge_payloads_hurt_nobody_else() {
    let shop = Shop::migrated().await;
    let providers = Providers::start().await;
    let scene = providers.scene(&shop);
    shop.sql(
        "INSERT INTO outbox_events (event_type, payload)
         SELECT 'huge', jsonb_build_object(
             'channels', ARRAY[CASE n WHEN 1 THEN 'email' WHEN 2 THEN 'sms' ELSE 'webhook' END],
             'to', CASE n WHEN 1 THEN 'ada@example.org' ELSE '+15005550010' END,
             'subject', 's', 'text', text, 'body', text)
         FROM generate_series(1, 3) n, (SELECT repeat('x', 10000000) AS text) t",
    )
    .await;
    let small = shop
        .insert("small", json!({ "channels": ["webhook"] }))
        .await;
    let worker = scene.worker().await;
    assert_eq!(shop.settled(small).await.status, "processed");
    assert_eq!(shop.settled(1).await.status, "processed");
    for (id, reason) in [(2, "1600 characters"), (3, "refuses the message")] {
        let fate = shop.settled(id).await;
        assert_eq!(fate.status, "failed");
        let error = fate.last_error.unwrap();
        assert!(error.contains(reason), "{error}");
    }
    worker.stop().await;
}
