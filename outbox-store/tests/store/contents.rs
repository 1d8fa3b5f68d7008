//! What is read with many others, and what is left behind to be read later.

use crate::common::{Fixture, fixture, want};
use crate::plans::read_of;
use crate::settle::left;
use outbox_store::{Claimed, Contents, Lane, NamedChannels, Settlement, Store, Wait};

const MOST: u64 = 32 << 20;

/// `bytes` of letters that do not compress, in SQL's words.
fn noise(bytes: usize) -> String {
    format!(
        "(SELECT left(string_agg(md5(n::text), ''), {bytes}) FROM generate_series(0, {bytes} / 32) n)"
    )
}

/// Writes an event with id 1 and claims it. Payload and headers in SQL's words.
async fn claimed(f: &Fixture, payload: &str, headers: &str) -> Claimed {
    f.run("TRUNCATE outbox_events, outbox_queue RESTART IDENTITY")
        .await;
    f.run(&format!(
        "INSERT INTO outbox_events (event_type, payload, headers) \
         VALUES ('test', {payload}, {headers})"
    ))
    .await;
    let worker = f.worker().await;
    let leased = f.claim(worker, &want(&[("", 1)])).await;
    f.read_events(worker, &leased).await.remove(0)
}

/// The payload and headers of the event, one way or the other.
async fn contents(store: &Store, most: u64) -> Contents {
    store.contents(1, most).await.unwrap().unwrap()
}

/// Payload and headers as text, and their length together.
async fn written(f: &Fixture) -> (String, u64) {
    let payload = f.one("SELECT payload::text FROM outbox_events").await;
    let length = "SELECT octet_length(payload::text)::int8 + octet_length(headers::text)
                  FROM outbox_events";
    (payload, f.one::<i64>(length).await.unsigned_abs())
}

#[tokio::test]
async fn what_is_small_is_read_with_the_others() {
    let f = fixture().await;
    let small = [
        ("'{\"n\": 7}'".to_owned(), "'{}'".to_owned()),
        ("'[]'".to_owned(), "'{\"a\": \"b\"}'".to_owned()),
        (format!("to_jsonb({})", noise(30_000)), "'{}'".to_owned()),
        (format!("to_jsonb({})", noise(4_000)), "'{}'".to_owned()),
        ("to_jsonb(repeat('x', 32766))".to_owned(), "'{}'".to_owned()),
        (
            "'{}'".to_owned(),
            format!("jsonb_build_object('h', {})", noise(30_000)),
        ),
    ];
    for (payload, headers) in small {
        let row = claimed(&f, &payload, &headers).await;
        assert_eq!(row.left_behind, None, "{payload}");
        let (text, _) = written(&f).await;
        assert_eq!(row.event.payload.get(), text);
        let count = "SELECT count(*) FROM outbox_events, jsonb_object_keys(headers)";
        let count: i64 = f.one(count).await;
        assert_eq!(row.event.headers.len() as i64, count);
    }
}

#[tokio::test]
async fn what_is_large_is_left_behind_and_can_be_read_in_full() {
    let f = fixture().await;
    let large = [
        (format!("to_jsonb({})", noise(40_000)), "'{}'".to_owned()),
        (format!("to_jsonb({})", noise(3_000_000)), "'{}'".to_owned()),
        (
            "to_jsonb(repeat('x', 5000000))".to_owned(),
            "'{}'".to_owned(),
        ),
        // Stored in a few hundred bytes.
        ("to_jsonb(repeat('x', 32767))".to_owned(), "'{}'".to_owned()),
        ("'[1e99999]'".to_owned(), "'{}'".to_owned()),
        ("'{}'".to_owned(), "'{\"n\": 1e99999}'".to_owned()),
        (
            "'{}'".to_owned(),
            format!("jsonb_build_object('h', {})", noise(40_000)),
        ),
        (
            format!("to_jsonb({})", noise(20_000)),
            format!("jsonb_build_object('h', {})", noise(20_000)),
        ),
    ];
    for (payload, headers) in large {
        let row = claimed(&f, &payload, &headers).await;
        let stored = "SELECT (pg_column_size(payload) + pg_column_size(headers))::int8
                      FROM outbox_events";
        let stored = f.one::<i64>(stored).await.unsigned_abs();
        assert_eq!(row.left_behind, Some(stored.max(32 << 10)), "{payload}");
        assert_eq!(row.event.payload.get(), "null");
        assert!(row.event.headers.is_empty());
        assert_eq!(row.event.event_type, "test");
        let (text, length) = written(&f).await;
        let Contents::Whole { payload, headers } = contents(&f.store, length).await else {
            panic!("{text:.80} is too large");
        };
        assert_eq!(payload.get(), text);
        let keys = "SELECT count(*) FROM outbox_events, jsonb_object_keys(headers)";
        assert_eq!(headers.len() as i64, f.one::<i64>(keys).await);
        let Contents::TooLarge(told) = contents(&f.store, length - 1).await else {
            panic!("{text:.80} is not too large");
        };
        assert_eq!(told, length);
    }
}

#[tokio::test]
async fn what_was_deleted_cannot_be_read() {
    let f = fixture().await;
    assert!(f.store.contents(1, MOST).await.unwrap().is_none());
    assert!(f.store.named_channels(1, 100).await.unwrap().is_none());
}

#[tokio::test]
async fn what_a_large_payload_says_about_channels() {
    let f = fixture().await;
    let told = async |says: &str| {
        let payload = format!("{says} || jsonb_build_object('text', {})", noise(100_000));
        claimed(&f, &payload, "'{}'").await;
        f.store.named_channels(1, 100).await.unwrap().unwrap()
    };
    assert!(matches!(told("'{}'").await, NamedChannels::None));
    assert!(matches!(told("'[1]'").await, NamedChannels::None));
    for says in ["null", r#"["sms", "crm"]"#, r#""sms""#] {
        let told = told(&format!(r#"'{{"channels": {says}}}'::jsonb"#)).await;
        assert!(matches!(told, NamedChannels::Named(json) if json.get() == says));
    }
    let many = "jsonb_build_object('channels', to_jsonb(array_fill('sms'::text, ARRAY[1000])))";
    let many = told(many).await;
    assert!(matches!(many, NamedChannels::TooLarge(7000)), "{many:?}");
}

#[tokio::test]
async fn what_is_large_is_not_looked_into() {
    let f = fixture().await;
    f.run(&format!(
        "INSERT INTO outbox_events (event_type, payload) \
         SELECT 'test', jsonb_build_object('n', n, 'text', {}) FROM generate_series(1, 50) n",
        noise(200_000)
    ))
    .await;
    // A hundred pages each.
    let plan = read_of(&f, 50).await;
    assert!(plan.pages() < 1000, "{plan}");
}

#[tokio::test]
async fn what_is_not_routed_can_be_given_back_as_it_was() {
    let f = fixture().await;
    f.enqueue(1).await;
    f.run("UPDATE outbox_queue SET takeovers = 3").await;
    let worker = f.worker().await;
    for (wait, takeovers) in [
        (Wait::Unchanged, 3),
        (Wait::For(std::time::Duration::ZERO), 0),
    ] {
        let row = f.claim(worker, &want(&[("", 1)])).await.remove(0);
        let back = Settlement {
            event_id: 1,
            lane: Lane::Unrouted,
            claim: row.claim,
            is_keyed: false,
            outcomes: Vec::new(),
            left: vec![outbox_store::Left {
                channel: None,
                attempts: 0,
                ..left("none", wait, false)
            }],
            failed: Vec::new(),
        };
        f.settle(worker, &[back]).await;
        let is_back = "SELECT count(*) FROM outbox_queue WHERE channel = '' AND worker IS NULL
                       AND due_at <= now() AND attempt = 0 AND takeovers = ";
        assert_eq!(f.one::<i64>(&format!("{is_back}{takeovers}")).await, 1);
    }
}
