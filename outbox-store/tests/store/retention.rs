//! Forgetting what is settled and old, and nothing else.

use crate::common::{Fixture, fixture, want};
use crate::settle::{delivered, failed, left, settlement};
use outbox_store::{Pruned, Wait};
use std::time::Duration;

impl Fixture {
    /// Settled events, each with a result and a failed attempt.
    async fn settled(&self, count: i64) {
        let events = usize::try_from(count).unwrap();
        let worker = self.claimed(events).await;
        let last: i64 = self.one("SELECT max(id) FROM outbox_events").await;
        let settle = |id| {
            let mut settled = delivered(id, "", &["email"]);
            settled.failed.push(failed("email", 1, "busy"));
            settled
        };
        let all: Vec<_> = (last - count + 1..=last).map(settle).collect();
        self.settle(worker, &all).await;
    }

    /// As if all had happened so long ago.
    async fn age(&self, days: u32) {
        self.run(&format!(
            "UPDATE outbox_events SET created_at = created_at - interval '{days} days';
             UPDATE outbox_deliveries SET finished_at = finished_at - interval '{days} days'"
        ))
        .await;
    }

    async fn rows(&self) -> String {
        self.one(
            "SELECT concat_ws(' ', (SELECT count(*) FROM outbox_events),
                 (SELECT count(*) FROM outbox_deliveries), (SELECT count(*) FROM outbox_attempts),
                 (SELECT count(*) FROM outbox_queue))",
        )
        .await
    }

    async fn prune(&self, days: f64, limit: u32, from: i64) -> (u64, Option<i64>) {
        let Pruned { removed, next } = self.store.prune(days, limit, from).await.unwrap();
        (removed, next)
    }
}

#[tokio::test]
async fn an_old_event_goes_with_all_that_hangs_on_it() {
    let f = fixture().await;
    f.settled(3).await;
    f.age(10).await;
    f.settled(2).await;
    assert_eq!(f.rows().await, "5 5 5 0");
    assert_eq!(f.prune(11.0, 100, 0).await, (0, None));
    assert_eq!(f.prune(7.0, 100, 0).await, (3, None));
    assert_eq!(f.rows().await, "2 2 2 0");
    assert_eq!(f.prune(0.0, 100, 0).await, (2, None));
    assert_eq!(f.rows().await, "0 0 0 0");
}

#[tokio::test]
async fn what_is_settled_lately_stays_however_old_the_event() {
    let f = fixture().await;
    f.settled(2).await;
    f.age(10).await;
    f.run(
        "UPDATE outbox_deliveries SET finished_at = now() WHERE event_id = 1;
           INSERT INTO outbox_deliveries (event_id, channel, status, attempts)
           VALUES (2, 'sms', 'delivered', 1)",
    )
    .await;
    assert_eq!(f.prune(7.0, 100, 0).await, (0, None));
}

#[tokio::test]
async fn what_is_not_settled_stays() {
    let f = fixture().await;
    let worker = f.claimed(4).await;
    let mut held = settlement(1, "");
    held.left.push(left("sms", Wait::Held, false));
    let mut partly = delivered(2, "", &["email"]);
    partly
        .left
        .push(left("sms", Wait::For(Duration::from_mins(1)), false));
    f.settle(worker, &[held, partly]).await;
    // The third is leased, the fourth has been given back.
    f.run("UPDATE outbox_queue SET worker = NULL WHERE event_id = 4")
        .await;
    f.age(1000).await;
    assert_eq!(f.prune(1.0, 100, 0).await, (0, None));
    assert_eq!(f.rows().await, "4 1 0 4");
}

#[tokio::test]
async fn batches_go_on_from_where_the_last_one_ended() {
    let f = fixture().await;
    f.enqueue(4).await;
    f.settled(0).await;
    let worker = f.worker().await;
    assert_eq!(f.claim(worker, &want(&[("", 4)])).await.len(), 4);
    f.settled(5).await;
    f.age(10).await;
    f.settled(20).await;
    // Old and unsettled: looked at, kept, and not looked at again.
    assert_eq!(f.prune(7.0, 3, 0).await, (0, Some(3)));
    assert_eq!(f.prune(7.0, 3, 3).await, (2, Some(6)));
    assert_eq!(f.prune(7.0, 3, 6).await, (3, Some(9)));
    // Younger ones only: what comes after them is younger still.
    assert_eq!(f.prune(7.0, 3, 9).await, (0, None));
    assert_eq!(f.rows().await, "24 20 20 4");
}

#[tokio::test]
async fn two_at_once_do_no_harm() {
    let f = fixture().await;
    f.settled(1000).await;
    f.age(10).await;
    let prune = || async {
        let (mut removed, mut from) = (0, Some(0));
        while let Some(after) = from {
            let batch = f.prune(7.0, 50, after).await;
            removed += batch.0;
            from = batch.1;
        }
        removed
    };
    let (one, other) = tokio::join!(prune(), prune());
    assert!(one + other <= 1000, "{one} + {other}");
    // What one had locked when the other came by.
    prune().await;
    assert_eq!(f.rows().await, "0 0 0 0");
}

#[tokio::test]
async fn a_dedup_key_is_new_once_its_event_is_forgotten() {
    let f = fixture().await;
    let enqueue = "SELECT outbox_enqueue('a', '{}', dedup_key => 'once')";
    let first: i64 = f.one(enqueue).await;
    let worker = f.worker().await;
    assert_eq!(f.claim(worker, &want(&[("", 1)])).await.len(), 1);
    f.settle(worker, &[delivered(first, "", &["email"])]).await;
    f.age(10).await;
    assert_eq!(
        f.one::<i64>(enqueue).await,
        first,
        "delivered, and still known"
    );
    assert_eq!(f.prune(7.0, 100, 0).await, (1, None));
    let second: i64 = f.one(enqueue).await;
    assert_ne!(second, first);
    let pending = format!("SELECT status FROM outbox_event_status WHERE id = {second}");
    assert_eq!(f.one::<String>(&pending).await, "pending");
}
