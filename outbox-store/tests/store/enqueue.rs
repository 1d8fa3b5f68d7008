//! All ways in which an event gets in.

use crate::common::{Fixture, fixture, one, options, refused, run};
use chrono::{DateTime, Utc};
use outbox_store::{NewEvent, Store, enqueue, enqueue_many};
use serde_json::json;
use sqlx::Connection;
use std::collections::HashSet;
use std::sync::Arc;

const EVENTS: &str = "SELECT count(*) FROM outbox_events";
const QUEUED: &str = "SELECT count(*) FROM outbox_queue q JOIN outbox_events e ON e.id = q.event_id \
                      WHERE q.due_at = e.deliver_at AND q.priority = e.priority \
                      AND q.key IS NOT DISTINCT FROM e.key AND q.channel = ''";

impl Fixture {
    /// Each event has its queue row, and there are so many.
    pub(crate) async fn assert_queued(&self, count: i64) {
        assert_eq!(self.one::<i64>(EVENTS).await, count);
        assert_eq!(self.one::<i64>(QUEUED).await, count);
        assert_eq!(
            self.one::<i64>("SELECT count(*) FROM outbox_queue").await,
            count
        );
    }
}

#[tokio::test]
async fn a_plain_insert_is_all_it_takes() {
    let f = fixture().await;
    f.run("INSERT INTO outbox_events (event_type, payload) VALUES ('a', '{}')")
        .await;
    f.assert_queued(1).await;
    f.run(
        "INSERT INTO outbox_events (event_type, payload, key, priority, deliver_at)
         VALUES ('a', '{}', 'k', 3, now() + interval '1 day'), ('b', '[1]', NULL, -2, now())",
    )
    .await;
    f.assert_queued(3).await;
}

#[tokio::test]
async fn copy_queues_each_row() {
    let f = fixture().await;
    let mut connection = f.connect().await;
    let copy = "COPY outbox_events (event_type, payload, key) FROM STDIN";
    let mut copy = connection.copy_in_raw(copy).await.unwrap();
    let lines: String = (0..5000)
        .map(|n| format!("copied\t{{\"n\": {n}}}\tk{n}\n"))
        .collect();
    copy.send(lines.as_bytes()).await.unwrap();
    assert_eq!(copy.finish().await.unwrap(), 5000);
    f.assert_queued(5000).await;
}

#[tokio::test]
async fn a_duplicate_that_is_ignored_is_not_queued() {
    let f = fixture().await;
    let insert = "INSERT INTO outbox_events (event_type, payload, dedup_key)
                  VALUES ('a', '{}', 'one'), ('a', '{}', 'two')";
    f.run(insert).await;
    let (code, message) = refused(&mut f.connect().await, insert).await;
    assert_eq!(code, "23505", "{message}");
    f.run(&format!(
        "{insert}, ('a', '{{}}', 'three') ON CONFLICT DO NOTHING"
    ))
    .await;
    f.run(&format!(
        "{insert} ON CONFLICT (dedup_key) WHERE dedup_key IS NOT NULL DO NOTHING"
    ))
    .await;
    f.assert_queued(3).await;
}

#[tokio::test]
async fn the_function_knows_every_column_by_name() {
    let f = fixture().await;
    f.run(
        "SELECT outbox_enqueue('all', '{\"a\": 1}', key => 'k', dedup_key => 'd',
             deliver_at => '2030-01-02 03:04:05+00', expires_at => '2031-01-01 00:00:00+00',
             priority => 7::smallint, max_retries => 2, headers => '{\"h\": \"v\"}')",
    )
    .await;
    let row =
        "SELECT concat_ws(' ', id, event_type, payload, key, dedup_key, priority, max_retries,
                   headers, deliver_at AT TIME ZONE 'UTC', expires_at AT TIME ZONE 'UTC')
               FROM outbox_events WHERE event_type = 'all'";
    assert_eq!(
        f.one::<String>(row).await,
        "1 all {\"a\": 1} k d 7 2 {\"h\": \"v\"} 2030-01-02 03:04:05 2031-01-01 00:00:00"
    );
    let id: i64 = f.one("SELECT outbox_enqueue('defaults', '[]')").await;
    let defaults = "SELECT count(*) FROM outbox_events WHERE id = 2 AND deliver_at = created_at \
                    AND headers = '{}' AND priority = 0 AND num_nulls(key, dedup_key, \
                    expires_at, max_retries) = 4";
    assert_eq!((id, f.one::<i64>(defaults).await), (2, 1));
    f.run("SELECT outbox_enqueue('nulls', '1', NULL, NULL, NULL, NULL, NULL, NULL, NULL)")
        .await;
    f.assert_queued(3).await;
}

#[tokio::test]
async fn a_known_dedup_key_returns_the_first_id() {
    let f = fixture().await;
    let mut connection = f.connect().await;
    let enqueue = "SELECT outbox_enqueue('a', '{}', dedup_key => 'once')";
    let first: i64 = one(&mut connection, enqueue).await;
    assert_eq!(one::<i64>(&mut connection, enqueue).await, first);
    f.assert_queued(1).await;
}

#[tokio::test]
async fn an_id_that_is_taken_loses_no_event() {
    let f = fixture().await;
    let mut connection = f.connect().await;
    let own_ids = "INSERT INTO outbox_events (id, event_type, payload) \
                   SELECT n, 'own id', '{}' FROM generate_series(2, 4) n";
    run(&mut connection, own_ids).await;
    assert_eq!(
        one::<i64>(&mut connection, "SELECT outbox_enqueue('a', '{}')").await,
        1
    );
    assert_eq!(
        one::<i64>(&mut connection, "SELECT outbox_enqueue('b', '{}')").await,
        5
    );
    f.assert_queued(5).await;

    run(
        &mut connection,
        "INSERT INTO outbox_events (id, event_type, payload) VALUES (7, 'a', '{}')",
    )
    .await;
    for dedup_keys in [["null", "null"], ["\"d\"", "\"e\""]] {
        let event = |key| format!(r#"{{"event_type": "a", "payload": {{}}, "dedup_key": {key}}}"#);
        run(&mut connection, "SELECT setval('outbox_events_id_seq', 5)").await;
        let events = dedup_keys.map(event).join(", ");
        let many = format!("SELECT outbox_enqueue_many('[{events}]')");
        let (code, message) = refused(&mut connection, &many).await;
        assert_eq!(code, "23505");
        assert!(
            message.contains("ids that the sequence had yet to give out"),
            "{message}"
        );
    }
    f.assert_queued(6).await;
}

#[tokio::test]
async fn rust_writes_in_the_callers_transaction() {
    let f = fixture().await;
    let mut connection = f.connect().await;
    let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    let full = NewEvent::new("full", json!({"a": [1, null]}))
        .key("k")
        .dedup_key("d")
        .deliver_at(time("2030-01-02T03:04:05.678901Z"))
        .expires_at(time("2031-01-01T00:00:00Z"))
        .max_retries(9)
        .priority(-3)
        .header("h", "v");
    let plain = NewEvent::new("plain", json!(null));

    let mut tx = connection.begin().await.unwrap();
    enqueue(&mut *tx, &full).await.unwrap();
    enqueue_many(&mut *tx, std::slice::from_ref(&plain))
        .await
        .unwrap();
    tx.rollback().await.unwrap();
    f.assert_queued(0).await;

    let mut tx = connection.begin().await.unwrap();
    let first = enqueue(&mut *tx, &full).await.unwrap();
    let next = enqueue(&mut *tx, &plain).await.unwrap();
    let many = [full.clone(), plain, full.dedup_key("other")];
    let ids = enqueue_many(&mut *tx, &many).await.unwrap();
    f.assert_queued(0).await;
    tx.commit().await.unwrap();
    assert_eq!(ids[0], first);
    assert!(
        first < next && next < ids[1] && ids[1] < ids[2],
        "{first} {next} {ids:?}"
    );
    f.assert_queued(4).await;
    let same = "SELECT count(DISTINCT (event_type, payload, key, deliver_at, expires_at, \
                max_retries, priority, headers, created_at)) FROM outbox_events \
                WHERE max_retries = 9 AND deliver_at = '2030-01-02 03:04:05.678901+00'";
    assert_eq!(f.one::<i64>(same).await, 1);
}

#[tokio::test]
async fn one_dedup_key_is_one_event_whoever_comes_first() {
    let Fixture { store, database } = fixture().await;
    let mut options = options(&database, "public");
    options.max_connections = 12;
    let store = Arc::new(Store::open(&options).await.unwrap_or(store));
    let tasks: Vec<_> = (0..48)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let event = NewEvent::new("raced", json!({"n": n})).dedup_key("one");
                if n % 2 == 0 {
                    enqueue(store.pool(), &event).await.unwrap()
                } else {
                    let events = [event.clone(), event];
                    let ids = enqueue_many(store.pool(), &events).await.unwrap();
                    assert_eq!(ids[0], ids[1]);
                    ids[0]
                }
            })
        })
        .collect();
    let mut ids = HashSet::new();
    for task in tasks {
        ids.insert(task.await.unwrap());
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    Fixture {
        store: (*store).clone(),
        database,
    }
    .assert_queued(1)
    .await;
}

#[tokio::test]
async fn what_cannot_be_an_event_is_named() {
    let f = fixture().await;
    let mut connection = f.connect().await;
    let long = "x".repeat(256);
    for (columns, values, expected) in [
        (
            "event_type",
            "''".to_owned(),
            "outbox_events_event_type_check",
        ),
        (
            "event_type",
            format!("'{long}'"),
            "outbox_events_event_type_check",
        ),
        (
            "event_type, headers",
            "'a', '[]'".to_owned(),
            "outbox_events_headers_check",
        ),
        (
            "event_type, key",
            format!("'a', '{long}'"),
            "outbox_events_key_check",
        ),
        (
            "event_type, dedup_key",
            format!("'a', '{long}'"),
            "outbox_events_dedup_key_check",
        ),
        (
            "event_type, max_retries",
            "'a', -1".to_owned(),
            "outbox_events_max_retries_check",
        ),
        (
            "event_type, deliver_at",
            "'a', 'infinity'".to_owned(),
            "outbox_events_years",
        ),
        (
            "event_type, expires_at",
            "'a', '-infinity'".to_owned(),
            "outbox_events_years",
        ),
        (
            "event_type, expires_at",
            "'a', '200000-01-01'".to_owned(),
            "outbox_events_years",
        ),
        (
            "event_type, created_at",
            "'a', '0044-03-15 BC'".to_owned(),
            "outbox_events_years",
        ),
        ("event_type, payload", "'a', NULL".to_owned(), "\"payload\""),
    ] {
        let (columns, values) = if columns.contains("payload") {
            (columns.to_owned(), values)
        } else {
            (format!("payload, {columns}"), format!("'{{}}', {values}"))
        };
        let insert = format!("INSERT INTO outbox_events ({columns}) VALUES ({values})");
        let (code, message) = refused(&mut connection, &insert).await;
        assert!(
            code.starts_with("23") && message.contains(expected),
            "{insert}: {message}"
        );
    }
    f.assert_queued(0).await;
}
