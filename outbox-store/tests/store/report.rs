//! Counts for people, and what all workers share about channels.

use crate::common::{channel, fixture, want};
use crate::settle::{delivered, outcome, settlement};
use outbox_store::ResultStatus;
use std::time::Duration;

#[tokio::test]
async fn the_backlog_tells_what_waits_for_what() {
    let f = fixture().await;
    assert!(f.store.backlog().await.unwrap().is_empty());
    f.enqueue(7).await;
    f.requeue(
        "(1, now() - interval '1 hour', '', 0), (2, now(), '', 0),
         (3, now() + interval '1 hour', '', 0), (4, 'infinity', '', 0), (5, now(), 'email', 0),
         (6, now(), 'email', 0), (7, now() + interval '1 hour', 'email', 0)",
    )
    .await;
    f.run("UPDATE outbox_queue SET attempt = 1 WHERE event_id = 7")
        .await;
    let worker = f.worker().await;
    assert_eq!(f.claim(worker, &want(&[("email", 1)])).await.len(), 1);
    let backlog = f.store.backlog().await.unwrap();
    let counts: Vec<_> = backlog
        .iter()
        .map(|b| {
            (
                b.channel.as_str(),
                b.due,
                b.scheduled,
                b.retrying,
                b.leased,
                b.held,
            )
        })
        .collect();
    assert_eq!(counts, [("", 2, 1, 0, 0, 1), ("email", 1, 0, 1, 1, 0)]);
    assert!(backlog[0].oldest_due_seconds.unwrap() >= 3600.0);
}

#[tokio::test]
async fn results_are_counted_by_channel_and_status() {
    let f = fixture().await;
    let worker = f.claimed(3).await;
    let mut dead = settlement(3, "");
    dead.outcomes.push(outcome("email", ResultStatus::Dead));
    f.settle(
        worker,
        &[
            delivered(1, "", &["email", "sms"]),
            delivered(2, "", &["email"]),
            dead,
        ],
    )
    .await;
    let settled = f.store.settled().await.unwrap();
    let counts: Vec<_> = settled
        .iter()
        .map(|s| (s.channel.as_str(), s.status.as_str(), s.count))
        .collect();
    assert_eq!(
        counts,
        [
            ("email", "dead", 1),
            ("email", "delivered", 2),
            ("sms", "delivered", 1)
        ]
    );
}

#[tokio::test]
async fn several_that_find_a_channel_down_count_as_one_failure() {
    let f = fixture().await;
    let email = channel("email");
    assert!(
        !f.store.pause_channel(&email, true).await.unwrap(),
        "not known yet"
    );
    f.store.declare_channel(&email, "smtp", 5).await.unwrap();
    f.store.declare_channel(&email, "smtp", 6).await.unwrap();
    for reason in ["first", "second", "third"] {
        f.store
            .channel_down(&email, Duration::from_mins(1), reason)
            .await
            .unwrap();
    }
    let state = f.store.channels().await.unwrap().remove(0);
    assert_eq!(
        (state.failures, state.last_error.as_deref()),
        (1, Some("first"))
    );
    assert!(state.closed && state.down_since.is_some() && state.paused_at.is_none());

    f.run("UPDATE outbox_channels SET down_until = now() - interval '1 second'")
        .await;
    f.store
        .channel_down(&email, Duration::from_mins(1), "again")
        .await
        .unwrap();
    let again = f.store.channels().await.unwrap().remove(0);
    assert_eq!((again.failures, again.down_since), (2, state.down_since));

    f.store.channel_up(&email).await.unwrap();
    let up = f.store.channels().await.unwrap().remove(0);
    assert_eq!((up.failures, up.closed, up.down_since), (0, false, None));
}
