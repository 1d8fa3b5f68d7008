//! A dump and what becomes of it elsewhere.

use crate::common::{fixture, options, program, want};
use outbox_sandbox::postgres::TestDatabase;
use outbox_store::{Claimer, NewEvent, Store, enqueue};
use std::collections::BTreeSet;
use std::process::Stdio;

#[tokio::test]
async fn a_restored_dump_goes_on() {
    let f = fixture().await;
    f.enqueue(3).await;
    let worker = f.worker().await;
    assert_eq!(f.claim(worker, &want(&[("", 1)])).await.len(), 1);
    f.expire(worker).await;

    let elsewhere = TestDatabase::create("restored").await.unwrap();
    let mut dump = program("pg_dump")
        .arg(f.database.url())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let restored = program("psql")
        .args([
            "--no-psqlrc",
            "--quiet",
            "--set",
            "ON_ERROR_STOP=1",
            elsewhere.url(),
        ])
        .stdin(dump.stdout.take().unwrap())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(dump.wait().unwrap().success() && restored.success());

    let store = Store::open(&options(&elsewhere, "public")).await.unwrap();
    assert_eq!(
        store.installation().await.unwrap(),
        f.store.installation().await.unwrap()
    );
    let event = NewEvent::new("after", serde_json::json!({}));
    assert_eq!(enqueue(store.pool(), &event).await.unwrap(), 4);
    let (successor, _) = store
        .register_worker("new", crate::common::LONG)
        .await
        .unwrap();
    assert_ne!(successor.to_string(), worker.to_string());
    let claimed = Claimer::default()
        .claim(&store, successor, &want(&[("", 10)]))
        .await
        .unwrap();
    let ids: BTreeSet<_> = claimed.iter().map(|row| row.event_id).collect();
    assert_eq!(ids, BTreeSet::from([1, 2, 3, 4]));
}
