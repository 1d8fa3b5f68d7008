//! Leases: how they last, end, and pass on.

use crate::common::{LONG, PATIENCE, fixture, ids, lane, run, want};
use outbox_store::Claimer;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_living_worker_keeps_what_it_has() {
    let f = fixture().await;
    f.enqueue(2).await;
    let (holder, other) = (f.worker().await, f.worker().await);
    assert_eq!(f.claim(holder, &want(&[("", 10)])).await.len(), 2);
    assert!(f.claim(other, &want(&[("", 10)])).await.is_empty());
    // Nor does it get it twice itself.
    assert!(f.claim(holder, &want(&[("", 10)])).await.is_empty());
}

#[tokio::test]
async fn a_lease_that_runs_out_passes_on() {
    let f = fixture().await;
    f.enqueue(3).await;
    let second = Duration::from_secs(1);
    let (mut holder, _) = f.store.register_worker("short", second).await.unwrap();
    assert_eq!(f.claim(holder, &want(&[("", 10)])).await.len(), 3);
    for takeovers in 1..=3 {
        let (next, _) = f.store.register_worker("long", LONG).await.unwrap();
        let mut claimer = Claimer::default();
        let claimed = f.claim_all(&mut claimer, next, &want(&[("", 10)]), 3).await;
        assert_eq!(ids(&claimed), [1, 2, 3]);
        assert!(
            claimed.iter().all(|row| row.takeovers == takeovers),
            "{claimed:?}"
        );
        assert!(claimed.iter().all(|row| row.attempts == 0), "{claimed:?}");
        f.expire(next).await;
        holder = next;
    }
    assert_eq!(f.store.heartbeat(holder, LONG).await.unwrap(), None);
}

#[tokio::test]
async fn a_heartbeat_prolongs_a_lease_that_holds_and_no_other() {
    let f = fixture().await;
    let (worker, registered) = f.store.register_worker("w", LONG).await.unwrap();
    let beat = f.store.heartbeat(worker, 2 * LONG).await.unwrap().unwrap();
    assert!(beat >= registered);
    let longer = "SELECT alive_until - now() > interval '90 minutes' FROM outbox_workers";
    assert!(f.one::<bool>(longer).await);

    f.expire(worker).await;
    assert_eq!(f.store.heartbeat(worker, LONG).await.unwrap(), None);
    assert_eq!(f.store.heartbeat(worker, LONG).await.unwrap(), None);
    assert!(!f.store.workers().await.unwrap()[0].alive);
}

#[tokio::test]
async fn a_heartbeat_that_had_to_wait_does_not_revive_a_lease() {
    let f = fixture().await;
    let second = Duration::from_secs(1);
    let (worker, _) = f.store.register_worker("w", second).await.unwrap();
    let mut other = f.connect().await;
    let change = format!("BEGIN; UPDATE outbox_workers SET name = name WHERE id = {worker}");
    run(&mut other, &change).await;
    let waiting = async {
        f.until_a_session_waits().await;
        tokio::time::sleep(second).await;
        run(&mut other, "COMMIT").await;
    };
    let (beat, ()) = tokio::join!(f.store.heartbeat(worker, LONG), waiting);
    assert_eq!(beat.unwrap(), None);
}

#[tokio::test]
async fn no_attempt_begins_when_the_lease_has_run_out() {
    let f = fixture().await;
    f.enqueue(1).await;
    let worker = f.worker().await;
    assert_eq!(f.claim(worker, &want(&[("", 10)])).await.len(), 1);
    let rows = [(1, lane(""))];
    assert_eq!(f.store.begin_attempts(worker, &rows).await.unwrap(), rows);
    f.expire(worker).await;
    assert_eq!(f.store.begin_attempts(worker, &rows).await.unwrap(), []);
}

#[tokio::test]
async fn heartbeats_hold_off_the_others() {
    let f = fixture().await;
    f.enqueue(1).await;
    let short = Duration::from_millis(100);
    let holder = loop {
        let (worker, _) = f.store.register_worker("holder", short).await.unwrap();
        if f.store.heartbeat(worker, LONG).await.unwrap().is_some() {
            break worker;
        }
    };
    assert_eq!(f.claim(holder, &want(&[("", 1)])).await.len(), 1);
    let over = "SELECT max(started_at) + interval '100 ms' < clock_timestamp() FROM outbox_workers";
    let deadline = Instant::now() + PATIENCE;
    while !f.one::<bool>(over).await {
        assert!(Instant::now() < deadline);
    }
    let other = f.worker().await;
    assert!(f.claim(other, &want(&[("", 1)])).await.is_empty());
}

#[tokio::test]
async fn what_a_worker_leaves_behind_is_free_at_once() {
    let f = fixture().await;
    f.enqueue(1).await;
    let (gone, next) = (f.worker().await, f.worker().await);
    assert_eq!(f.claim(gone, &want(&[("", 1)])).await.len(), 1);
    f.store.deregister_worker(gone).await.unwrap();
    assert_eq!(f.store.heartbeat(gone, LONG).await.unwrap(), None);
    assert_eq!(f.claim(next, &want(&[("", 1)])).await.len(), 1);
}

#[tokio::test]
async fn the_long_dead_are_forgotten_and_their_rows_are_free() {
    let f = fixture().await;
    f.enqueue(1).await;
    let dead = f.worker().await;
    assert_eq!(f.claim(dead, &want(&[("", 1)])).await.len(), 1);
    f.run("UPDATE outbox_workers SET alive_until = now() - interval '2 days'")
        .await;
    let next = f.worker().await;
    let workers = f.store.workers().await.unwrap();
    assert_eq!(workers.len(), 1);
    assert_eq!(workers[0].id.to_string(), next.to_string());
    assert_eq!(f.claim(next, &want(&[("", 1)])).await[0].takeovers, 1);
}
