//! Who gets what, and in which order.

use crate::common::{channel, fixture, ids, lane, run, want};
use outbox_store::Claimer;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[tokio::test]
async fn the_urgent_first_and_the_oldest_first_among_equals() {
    let f = fixture().await;
    f.enqueue(6).await;
    f.requeue(
        "(1, now() - interval '1 minute', '', 5), (2, now() - interval '2 minutes', '', 5),
         (3, now() - interval '1 second', '', 0), (4, now() - interval '1 second', '', 0),
         (5, now(), '', -7), (6, now() - interval '1 hour', '', 9)",
    )
    .await;
    let worker = f.worker().await;
    let claimed = f.claim(worker, &want(&[("", 4)])).await;
    assert_eq!(ids(&claimed), [5, 3, 4, 2]);
    assert_eq!(ids(&f.claim(worker, &want(&[("", 4)])).await), [1, 6]);
    assert!(f.claim(worker, &want(&[("", 4)])).await.is_empty());
}

#[tokio::test]
async fn each_lane_has_its_own_room() {
    let f = fixture().await;
    f.enqueue(9).await;
    f.requeue(
        "(1, now(), '', 0), (2, now(), '', 0), (3, now(), '', 0), (4, now(), 'email', 0),
         (5, now(), 'email', 0), (6, now(), 'crm', 0), (7, now(), 'crm', 0), (8, now(), 'sms', 0),
         (1, now(), 'sms', 0)",
    )
    .await;
    let worker = f.worker().await;
    let wanted = want(&[("", 2), ("email", 10), ("crm", 1), ("sms", 0), ("none", 5)]);
    let claimed = f.claim(worker, &wanted).await;
    let got: BTreeSet<_> = claimed
        .iter()
        .map(|row| (row.event_id, row.lane.clone()))
        .map(|(id, lane)| (id, format!("{lane:?}")))
        .collect();
    let expected = [(1, ""), (2, ""), (4, "email"), (5, "email"), (6, "crm")];
    let expected = expected.map(|(id, name)| (id, format!("{:?}", lane(name))));
    assert_eq!(got, BTreeSet::from(expected));
    assert!(f.claim(worker, &want(&[("", 0)])).await.is_empty());
    assert!(f.claim(worker, &[]).await.is_empty());
}

#[tokio::test]
async fn what_was_written_is_what_comes_back() {
    let f = fixture().await;
    f.run(
        r#"INSERT INTO outbox_events (event_type, payload, headers, key, max_retries, expires_at,
               created_at) VALUES ('a.b', '{"n": 12345678901234567890.123, "s": "ü"}',
               '{"text": "t", "number": 7, "list": [1]}', 'k', 3, '9999-12-31 23:59:59+00',
               '0001-01-01 00:00:00+00')"#,
    )
    .await;
    f.run("UPDATE outbox_queue SET attempt = 4").await;
    let worker = f.worker().await;
    let leased = f.claim(worker, &want(&[("", 1)])).await;
    let row = f.read_events(worker, &leased).await.remove(0);
    let lease = row.lease;
    assert_eq!(
        (lease.attempts, lease.takeovers, lease.lane),
        (4, 0, lane(""))
    );
    assert!(lease.event_id == 1 && lease.key_hash.is_some());
    let event = row.event;
    assert_eq!(
        event.payload.get(),
        r#"{"n": 12345678901234567890.123, "s": "ü"}"#
    );
    let headers: Vec<_> = event
        .headers
        .iter()
        .map(|(n, v)| format!("{n}={v}"))
        .collect();
    assert_eq!(headers, ["list=[1]", "number=7", "text=t"]);
    assert_eq!(
        (event.event_type.as_str(), event.key.as_deref()),
        ("a.b", Some("k"))
    );
    assert_eq!(event.max_retries, Some(3));
    assert_eq!(
        event.expires_at.unwrap().to_string(),
        "9999-12-31 23:59:59 UTC"
    );
    assert_eq!(event.created_at.to_string(), "0001-01-01 00:00:00 UTC");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_row_goes_to_two_workers() {
    const EVENTS: usize = 3000;
    let f = Arc::new(fixture().await);
    f.enqueue(EVENTS).await;
    let left = Arc::new(std::sync::atomic::AtomicUsize::new(EVENTS));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (f, left) = (Arc::clone(&f), Arc::clone(&left));
            tokio::spawn(async move {
                let worker = f.worker().await;
                let mut claimer = Claimer::default();
                let mut mine = Vec::new();
                let deadline = Instant::now() + crate::common::PATIENCE;
                while left.load(std::sync::atomic::Ordering::Relaxed) > 0 {
                    assert!(Instant::now() < deadline);
                    let claimed = claimer.claim(&f.store, worker, &want(&[("", 37)])).await;
                    let claimed = claimed.unwrap();
                    left.fetch_sub(claimed.len(), std::sync::atomic::Ordering::Relaxed);
                    assert!(claimed.iter().all(|row| row.takeovers == 0));
                    mine.extend(ids(&claimed));
                }
                mine
            })
        })
        .collect();
    let mut seen = HashSet::new();
    for task in tasks {
        for id in task.await.unwrap() {
            assert!(seen.insert(id), "{id} twice");
        }
    }
    assert_eq!(seen.len(), EVENTS);
}

#[tokio::test]
async fn neither_the_future_nor_the_held_is_claimed() {
    let f = fixture().await;
    f.enqueue(3).await;
    f.requeue("(1, now() + interval '1 hour', '', 0), (2, 'infinity', '', 0), (3, now(), '', 0)")
        .await;
    let worker = f.worker().await;
    assert_eq!(ids(&f.claim(worker, &want(&[("", 10)])).await), [3]);
    f.run("UPDATE outbox_queue SET due_at = now() WHERE event_id = 1")
        .await;
    assert_eq!(ids(&f.claim(worker, &want(&[("", 10)])).await), [1]);
}

#[tokio::test]
async fn nobody_claims_for_a_channel_that_is_paused_or_down() {
    let f = fixture().await;
    f.enqueue(2).await;
    f.requeue("(1, now(), 'email', 0), (2, now(), 'sms', 0)")
        .await;
    let worker = f.worker().await;
    for name in ["email", "sms"] {
        f.store
            .declare_channel(&channel(name), "test", 5)
            .await
            .unwrap();
    }
    let wanted = want(&[("email", 5), ("sms", 5)]);

    assert!(
        f.store
            .pause_channel(&channel("email"), true)
            .await
            .unwrap()
    );
    f.store
        .channel_down(&channel("sms"), Duration::from_secs(600), "refused")
        .await
        .unwrap();
    assert!(f.claim(worker, &wanted).await.is_empty());
    let states = f.store.channels().await.unwrap();
    assert!(states.iter().all(|state| state.closed), "{states:?}");

    assert!(
        f.store
            .pause_channel(&channel("email"), false)
            .await
            .unwrap()
    );
    assert_eq!(ids(&f.claim(worker, &wanted).await), [1]);
    // Its time is over by the database's clock: it may be tried, though not yet known to be up.
    f.run("UPDATE outbox_channels SET down_until = now() - interval '1 ms' WHERE name = 'sms'")
        .await;
    assert_eq!(ids(&f.claim(worker, &wanted).await), [2]);
    let states = f.store.channels().await.unwrap();
    assert!(states.iter().all(|state| !state.closed), "{states:?}");
}

/// The same with a claimer that goes on from where it was.
#[tokio::test]
async fn a_channel_that_closes_is_left_alone_at_once() {
    let f = fixture().await;
    f.enqueue(30).await;
    f.run("UPDATE outbox_queue SET channel = 'email'").await;
    f.store
        .declare_channel(&channel("email"), "test", 5)
        .await
        .unwrap();
    let worker = f.worker().await;
    let mut claimer = Claimer::default();
    let wanted = want(&[("email", 10)]);
    assert_eq!(
        claimer
            .claim(&f.store, worker, &wanted)
            .await
            .unwrap()
            .len(),
        10
    );
    f.store
        .pause_channel(&channel("email"), true)
        .await
        .unwrap();
    for _ in 0..20 {
        assert!(
            claimer
                .claim(&f.store, worker, &wanted)
                .await
                .unwrap()
                .is_empty()
        );
    }
    f.store
        .pause_channel(&channel("email"), false)
        .await
        .unwrap();
    let rest = f.claim_all(&mut claimer, worker, &wanted, 20).await;
    assert_eq!(rest.len(), 20);
}

/// Written before all others, by who commits after them.
const LATE: i64 = 1;

#[tokio::test]
async fn a_row_that_commits_late_is_found() {
    let f = fixture().await;
    let mut late = f.connect().await;
    let insert = "INSERT INTO outbox_events (event_type, payload) VALUES ('late', '{}')";
    run(&mut late, &format!("BEGIN; {insert}")).await;
    f.enqueue(10).await;
    let worker = f.worker().await;
    let mut claimer = Claimer::default();
    let wanted = want(&[("", 5)]);
    assert_eq!(
        f.claim_all(&mut claimer, worker, &wanted, 10).await.len(),
        10
    );
    run(&mut late, "COMMIT").await;
    let found = f.claim_all(&mut claimer, worker, &wanted, 1).await;
    assert_eq!(ids(&found), [LATE]);
}

#[tokio::test]
async fn a_row_that_commits_late_is_found_in_the_midst_of_a_rush() {
    let f = fixture().await;
    let mut late = f.connect().await;
    let insert = "INSERT INTO outbox_events (event_type, payload) VALUES ('late', '{}')";
    run(&mut late, &format!("BEGIN; {insert}")).await;
    f.enqueue(40).await;
    let worker = f.worker().await;
    let mut claimer = Claimer::default();
    let deadline = Instant::now() + crate::common::PATIENCE;
    let mut rounds = 0;
    loop {
        assert!(Instant::now() < deadline);
        // There is always more than what is wanted.
        f.enqueue(10).await;
        let claimed = claimer
            .claim(&f.store, worker, &want(&[("", 10)]))
            .await
            .unwrap();
        assert_eq!(claimed.len(), 10);
        if ids(&claimed).contains(&LATE) {
            break;
        }
        rounds += 1;
        if rounds == 2 {
            run(&mut late, "COMMIT").await;
        }
    }
    assert!(rounds >= 2);
}

#[tokio::test]
async fn a_row_locked_by_somebody_is_passed_over() {
    let f = fixture().await;
    f.enqueue(3).await;
    let mut somebody = f.connect().await;
    run(
        &mut somebody,
        "BEGIN; SELECT FROM outbox_queue WHERE event_id = 1 FOR UPDATE",
    )
    .await;
    let worker = f.worker().await;
    assert_eq!(ids(&f.claim(worker, &want(&[("", 2)])).await), [2, 3]);
    run(&mut somebody, "ROLLBACK").await;
    assert_eq!(ids(&f.claim(worker, &want(&[("", 2)])).await), [1]);
}

#[tokio::test]
async fn a_deleted_event_is_forgotten_and_the_others_come() {
    let f = fixture().await;
    f.enqueue(4).await;
    f.run("DELETE FROM outbox_events WHERE id IN (1, 3)").await;
    let worker = f.worker().await;
    let leased = f.claim(worker, &want(&[("", 10)])).await;
    let claimed = f.read_events(worker, &leased).await;
    let claimed: Vec<i64> = claimed.iter().map(|row| row.event.id).collect();
    assert_eq!(claimed, [2, 4]);
    let left = "SELECT array_agg(event_id ORDER BY event_id) FROM outbox_queue";
    assert_eq!(f.one::<Vec<i64>>(left).await, [2, 4]);
}

/// As a broken page of one event, or a missing privilege, would be: nothing is taken for deleted.
#[tokio::test]
async fn what_cannot_be_read_stays_leased() {
    let f = fixture().await;
    f.enqueue(2).await;
    let worker = f.worker().await;
    let leased = f.claim(worker, &want(&[("", 2)])).await;
    f.run("ALTER TABLE outbox_events RENAME TO elsewhere").await;
    assert!(f.store.read_events(worker, &leased).await.is_err());
    f.run("ALTER TABLE elsewhere RENAME TO outbox_events").await;
    assert_eq!(f.read_events(worker, &leased).await.len(), 2);
}

/// Rows of one event, ids with gaps, in whatever order.
#[tokio::test]
async fn every_row_gets_its_event() {
    let f = fixture().await;
    f.run(
        "INSERT INTO outbox_events (id, event_type, payload)
         SELECT n, 'test', to_jsonb(n) FROM unnest('{1, 2, 3, 5, 9, 10, 4000000000}'::bigint[]) n",
    )
    .await;
    f.requeue(
        "(10, now(), '', 0), (3, now(), 'sms', 0), (3, now(), 'email', 1), (5, now(), '', 0), \
         (1, now(), '', 2), (4000000000, now(), '', 0), (2, now(), 'email', 0)",
    )
    .await;
    let worker = f.worker().await;
    let wanted = want(&[("", 9), ("email", 9), ("sms", 9)]);
    let leased = f.claim(worker, &wanted).await;
    let claimed = f.read_events(worker, &leased).await;
    assert_eq!(claimed.len(), 7);
    for (row, leased) in claimed.iter().zip(&leased) {
        assert_eq!(row.lease.event_id, leased.event_id);
        assert_eq!(row.event.id, leased.event_id);
        assert_eq!(row.event.payload.get(), leased.event_id.to_string());
    }
    assert!(f.read_events(worker, &[]).await.is_empty());
}
