//! `outbox_enqueue_many`.

use crate::common::{fixture, one, refused, run};

#[tokio::test]
async fn many_come_back_in_order() {
    let f = fixture().await;
    let mut connection = f.connect().await;
    run(
        &mut connection,
        "SELECT outbox_enqueue('a', '{}', dedup_key => 'old')",
    )
    .await;
    let many = r#"SELECT array_agg(id) FROM outbox_enqueue_many('[
        {"event_type": "a", "payload": {"n": 1}, "dedup_key": "new"},
        {"event_type": "a", "payload": {"n": 2}, "dedup_key": "old"},
        {"event_type": "a", "payload": null, "key": "k", "priority": -1, "max_retries": 0,
         "deliver_at": "2030-01-01T00:00:00Z", "expires_at": null, "headers": {"h": "v"}},
        {"event_type": "a", "payload": {"n": 4}, "dedup_key": "new"}]') AS id"#;
    assert_eq!(one::<Vec<i64>>(&mut connection, many).await, [2, 1, 4, 2]);
    let fourth = "SELECT count(*) FROM outbox_events WHERE id = 4 AND payload = 'null' \
                  AND key = 'k' AND priority = -1 AND max_retries = 0 \
                  AND headers = '{\"h\": \"v\"}' AND deliver_at = '2030-01-01 00:00:00+00'";
    assert_eq!(one::<i64>(&mut connection, fourth).await, 1);
    f.assert_queued(3).await;
    let none = "SELECT count(*) FROM outbox_enqueue_many('[]')";
    assert_eq!(one::<i64>(&mut connection, none).await, 0);
}

#[tokio::test]
async fn many_refuse_what_they_do_not_know() {
    let f = fixture().await;
    let mut connection = f.connect().await;
    let good = r#"{"event_type": "a", "payload": {}}"#;
    for (events, expected) in [
        (
            format!(r#"[{good}, {{"event_type": "a", "payload": {{}}, "dedupkey": "x"}}]"#),
            "does not know the field \"dedupkey\"",
        ),
        (good.to_owned(), "takes a JSON array of objects"),
        ("7".to_owned(), "takes a JSON array of objects"),
        ("null".to_owned(), "takes a JSON array of objects"),
        (format!("[{good}, 7]"), "takes a JSON array of objects"),
        (format!("[[{good}]]"), "takes a JSON array of objects"),
    ] {
        let many = format!("SELECT outbox_enqueue_many('{events}')");
        let (code, message) = refused(&mut connection, &many).await;
        assert_eq!(code, "22023", "{message}");
        assert!(message.contains(expected), "{message}");
    }
    let (code, _) = refused(&mut connection, "SELECT outbox_enqueue_many(NULL)").await;
    assert_eq!(code, "22023");
    let no_payload = r#"SELECT outbox_enqueue_many('[{"event_type": "a"}]')"#;
    assert_eq!(refused(&mut connection, no_payload).await.0, "23502");
    f.assert_queued(0).await;
}
