//! Waking a worker that sleeps.

use crate::common::{Fixture, PATIENCE, fixture, options, run};
use outbox_sandbox::postgres::TestDatabase;
use outbox_store::{Listener, NewEvent, Store, enqueue};
use tokio::time::timeout;

const INSERT: &str = "INSERT INTO public.outbox_events (event_type, payload) VALUES ('a', '{}')";

async fn hears(listener: &mut Listener) {
    timeout(PATIENCE, listener.heard()).await.unwrap().unwrap();
}

/// Calls come in the order of commits: were there one of those before, the next but one would be
/// the test's.
async fn heard_nothing(f: &Fixture, listener: &mut Listener) {
    f.run("SELECT pg_notify('outbox:public', 'the test')").await;
    hears(listener).await;
    let more = timeout(std::time::Duration::from_millis(300), listener.heard()).await;
    assert!(more.is_err(), "called for nothing");
}

#[tokio::test]
async fn a_sleeping_worker_hears_of_a_new_event_whatever_the_schema() {
    let longest = format!("s{}", "_2345678".repeat(7));
    for schema in ["public", "mail_room", &format!("{longest}_23456")] {
        let database = TestDatabase::for_this_test().await.unwrap();
        let store = Store::connect(&options(&database, schema)).await.unwrap();
        store.migrate().await.unwrap();
        let event = NewEvent::new("test", serde_json::json!({}));
        let mut listener = store.listen().await.unwrap();
        assert!(listener.set_asleep(true).await.unwrap());
        assert!(!listener.set_asleep(true).await.unwrap());
        enqueue(store.pool(), &event).await.unwrap();
        hears(&mut listener).await;
    }
}

/// The call costs every producer a lock: only who sleeps is called.
#[tokio::test]
async fn nobody_is_called_who_is_awake_or_gone() {
    let f = fixture().await;
    let mut listener = f.store.listen().await.unwrap();
    f.run(INSERT).await;
    listener.set_asleep(true).await.unwrap();
    assert!(listener.set_asleep(false).await.unwrap());
    f.run(INSERT).await;
    let mut gone = f.store.listen().await.unwrap();
    gone.set_asleep(true).await.unwrap();
    drop(gone);
    let sessions = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database =
                    (SELECT oid FROM pg_database WHERE datname = current_database())";
    while f.one::<i64>(sessions).await > 0 {
        tokio::task::yield_now().await;
    }
    f.run(INSERT).await;
    heard_nothing(&f, &mut listener).await;
}

/// One of two gets up, and the other is called all the same.
#[tokio::test]
async fn whoever_sleeps_is_called() {
    let f = fixture().await;
    let mut one = f.store.listen().await.unwrap();
    let mut other = f.store.listen().await.unwrap();
    one.set_asleep(true).await.unwrap();
    other.set_asleep(true).await.unwrap();
    one.set_asleep(false).await.unwrap();
    f.run(INSERT).await;
    hears(&mut other).await;
}

/// Its snapshot is older than the worker's sleep.
#[tokio::test]
async fn a_producer_with_an_old_snapshot_calls() {
    let f = fixture().await;
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let mut listener = f.store.listen().await.unwrap();
        let mut producer = f.connect().await;
        let begin = format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM outbox_events");
        run(&mut producer, &begin).await;
        listener.set_asleep(true).await.unwrap();
        run(&mut producer, &format!("{INSERT}; COMMIT")).await;
        hears(&mut listener).await;
    }
}

/// Asking must not leave the lock behind: others would call for ever, and nobody could sleep.
#[tokio::test]
async fn a_producer_keeps_nothing() {
    let f = fixture().await;
    let mut listener = f.store.listen().await.unwrap();
    let mut open = f.connect().await;
    run(&mut open, &format!("BEGIN; {INSERT}; {INSERT}")).await;
    let mut failed = f.connect().await;
    run(&mut failed, &format!("BEGIN; {INSERT}; ROLLBACK")).await;
    f.run(INSERT).await;
    heard_nothing(&f, &mut listener).await;
    assert!(listener.set_asleep(true).await.unwrap());
}

/// Calls may be lost with it, and nobody would call on the next.
#[tokio::test]
async fn a_listener_whose_connection_is_lost_says_so() {
    let f = fixture().await;
    let mut listener = f.store.listen().await.unwrap();
    listener.set_asleep(true).await.unwrap();
    f.run(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database =
            (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    .await;
    let heard = timeout(PATIENCE, listener.heard()).await.unwrap();
    let sentence = heard.unwrap_err().sentence();
    assert!(
        sentence.starts_with("cannot listen for new events: "),
        "{sentence}"
    );
}

/// As an operator who restores a copy into the place of what was there.
#[tokio::test]
async fn a_worker_sleeps_beside_the_table_that_is_there() {
    let f = fixture().await;
    let mut listener = f.store.listen().await.unwrap();
    f.run("DROP SCHEMA public CASCADE").await;
    f.store.migrate().await.unwrap();
    listener.set_asleep(true).await.unwrap();
    f.run(INSERT).await;
    hears(&mut listener).await;
}
