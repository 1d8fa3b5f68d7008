//! Forgetting what is settled and old, and nothing else.

use crate::common::{Fixture, PATIENCE, fixture, run, want};
use crate::settle::{claimed_as, delivered, failed, left, settlement};
use outbox_store::{Pruned, Wait};
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// However long it takes: it has no lock that the work asks for.
#[tokio::test]
async fn the_work_goes_on_while_a_batch_is_being_removed() {
    let f = Arc::new(fixture().await);
    f.settled(50).await;
    f.age(10).await;
    // Everything is locked or gone, and nothing committed, when it comes to this table.
    f.run(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$;
         CREATE TRIGGER wait AFTER DELETE ON outbox_attempts EXECUTE FUNCTION wait()",
    )
    .await;
    let mut gate = f.connect().await;
    run(&mut gate, "BEGIN; SELECT pg_advisory_xact_lock(1)").await;
    let pruning = tokio::spawn({
        let f = Arc::clone(&f);
        async move { f.prune(7.0, 100, 0).await }
    });
    let waits = "SELECT count(*) FROM pg_stat_activity \
                 WHERE wait_event = 'advisory' AND datname = current_database()";
    let deadline = Instant::now() + PATIENCE;
    while f.one::<i64>(waits).await == 0 {
        assert!(Instant::now() < deadline, "it removes nothing");
        tokio::task::yield_now().await;
    }

    let work = async {
        // Enqueues, claims and settles, for the first time and again; and others prune.
        f.settled(20).await;
        let worker = f.claimed(1).await;
        let mut again = settlement(71, "");
        again
            .left
            .push(left("sms", Wait::For(Duration::ZERO), false));
        f.settle(worker, &[again]).await;
        let rows = f.claim(worker, &want(&[("sms", 1)])).await;
        f.settle(
            worker,
            &[claimed_as(&rows[0], delivered(71, "sms", &["sms"]))],
        )
        .await;
        assert_eq!(f.prune(7.0, 100, 0).await, (0, None));
        assert_eq!(f.store.cancel(&[71], None).await.unwrap().len(), 1);
        let pending = "SELECT count(*) FROM outbox_event_status WHERE processed_at IS NULL";
        assert_eq!(f.one::<i64>(pending).await, 0);
    };
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.expect("the work waits for pruning");
    assert!(!pruning.is_finished());
    run(&mut gate, "COMMIT").await;
    assert_eq!(pruning.await.unwrap(), (50, None));
    assert_eq!(f.rows().await, "21 21 20 0");
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
