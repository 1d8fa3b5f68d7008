//! `GET …/stats`.

use crate::client::{STATS, dispatch, get};
use crate::fixture::{Fixture, KEY, delivering};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn an_empty_database_has_nothing_to_tell() {
    let fixture = Fixture::new().await;
    let server = fixture.serve(delivering(0)).await;
    let answer = get(STATS).key(KEY).send(server.address).await;
    assert_eq!(
        answer.json(),
        json!({
            "events": {}, "backlog": [], "settled": [], "receipts": [], "channels": [],
            "workers": [],
            "callbacks": {"reports": 0, "unmatched": 0, "meaningless": 0, "refused": 0},
        })
    );
}

#[tokio::test]
async fn it_counts_what_there_is() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 5).await;
    let server = fixture.serve(delivering(2)).await;
    dispatch(r#"{"limit": 2}"#).send(server.address).await;
    let lease = Duration::from_secs(60);
    fixture.store.register_worker("w7", lease).await.unwrap();
    let stats = get(STATS).key(KEY).send(server.address).await.json();
    assert_eq!(stats["events"], json!({"pending": 3, "processed": 2}));
    assert_eq!(
        stats["settled"],
        json!([{"channel": "email", "status": "delivered", "count": 2}])
    );
    let backlog = &stats["backlog"][0];
    assert_eq!(
        (&backlog["channel"], &backlog["due"]),
        (&json!(""), &json!(3))
    );
    assert!(backlog["oldest_due_seconds"].as_f64().unwrap() >= 0.0);
    let channel = &stats["channels"][0];
    assert_eq!(
        (&channel["name"], &channel["kind"], &channel["closed"]),
        (&json!("email"), &json!("test"), &json!(false))
    );
    assert_eq!(stats["workers"][0]["name"], "w7");
    assert_eq!(stats["workers"][0]["alive"], true);
}
