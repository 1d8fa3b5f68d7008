//! Waking a worker that sleeps.

use crate::common::{LONG, PATIENCE, options};
use outbox_sandbox::postgres::TestDatabase;
use outbox_store::{NewEvent, Store, enqueue};
use tokio::time::timeout;

#[tokio::test]
async fn a_sleeping_worker_hears_of_a_new_event_whatever_the_schema() {
    let longest = format!("s{}", "_2345678".repeat(7));
    for schema in ["public", "mail_room", &format!("{longest}_23456")] {
        let database = TestDatabase::for_this_test().await.unwrap();
        let store = Store::connect(&options(&database, schema)).await.unwrap();
        store.migrate().await.unwrap();
        let event = NewEvent::new("test", serde_json::json!({}));
        let mut listener = store.listen().await.unwrap();
        let (worker, _) = store.register_worker("sleeper", LONG).await.unwrap();
        store.set_asleep(worker, true).await.unwrap();
        assert!(store.workers().await.unwrap()[0].asleep);
        enqueue(store.pool(), &event).await.unwrap();
        timeout(PATIENCE, listener.heard()).await.unwrap().unwrap();
    }
}

/// The call costs every producer a lock: only who sleeps and lives is called.
#[tokio::test]
async fn nobody_is_called_who_is_awake_or_dead() {
    let database = TestDatabase::for_this_test().await.unwrap();
    let store = Store::connect(&options(&database, "public")).await.unwrap();
    store.migrate().await.unwrap();
    let event = NewEvent::new("test", serde_json::json!({}));
    let mut listener = store.listen().await.unwrap();
    let (worker, _) = store.register_worker("awake", LONG).await.unwrap();
    enqueue(store.pool(), &event).await.unwrap();
    store.set_asleep(worker, true).await.unwrap();
    store.set_asleep(worker, false).await.unwrap();
    enqueue(store.pool(), &event).await.unwrap();
    store
        .register_worker("dead", std::time::Duration::ZERO)
        .await
        .unwrap();
    sqlx::raw_sql("UPDATE outbox_workers SET asleep = true WHERE name = 'dead'")
        .execute(store.pool())
        .await
        .unwrap();
    enqueue(store.pool(), &event).await.unwrap();

    // Calls come in the order of commits: were there one of those, this would be the second.
    sqlx::raw_sql("SELECT pg_notify('outbox:public', 'the test')")
        .execute(store.pool())
        .await
        .unwrap();
    timeout(PATIENCE, listener.heard()).await.unwrap().unwrap();
    let more = timeout(std::time::Duration::from_millis(300), listener.heard()).await;
    assert!(more.is_err(), "called for nothing");
}
