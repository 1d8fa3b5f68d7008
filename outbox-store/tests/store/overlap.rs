//! Several at work on rows of one key at the same moment: none of them is left behind for ever.

use crate::common::{Fixture, fixture, ids, lane, run, want};
use crate::order::{claim, enqueue, keyed};
use crate::plans::begin_claim;
use crate::settle::{delivered, outcome, settlement};
use outbox_store::{Replay, ResultStatus, Settlement, WorkerId};
use sqlx::postgres::PgConnection;

/// Of one key: 2 is leased, and so is 1, which was committed after it; 3 waits for both.
async fn first_and_second_are_leased(f: &Fixture) -> (WorkerId, WorkerId) {
    let (one, other) = (f.worker().await, f.worker().await);
    let mut late = f.connect().await;
    let insert = "INSERT INTO outbox_events (event_type, payload, key) VALUES ('test', '{}', 'a')";
    run(&mut late, &format!("BEGIN; {insert}")).await;
    enqueue(f, "a", 1).await;
    assert_eq!(ids(&claim(f, other).await), [2]);
    run(&mut late, "COMMIT").await;
    assert_eq!(ids(&claim(f, one).await), [1]);
    enqueue(f, "a", 1).await;
    assert_eq!(ids(&claim(f, one).await), [] as [i64; 0]);
    assert!(
        f.one::<bool>("SELECT blocked FROM outbox_queue WHERE event_id = 3")
            .await
    );
    (one, other)
}

/// As a settle does, and not committed yet.
async fn remove(connection: &mut PgConnection, event_id: i64) {
    run(
        connection,
        &format!(
            "BEGIN; DELETE FROM outbox_queue WHERE event_id = {event_id};
             SELECT outbox_unblock(ARRAY[''], ARRAY['a'], ARRAY[{event_id}]::bigint[])"
        ),
    )
    .await;
}

/// Settles an event, for which it has to wait until the other has committed.
async fn settle_while_others_commit(
    f: &Fixture,
    worker: WorkerId,
    event_id: i64,
    mut other: PgConnection,
) {
    let delivered = [keyed(delivered(event_id, "", &["email"]))];
    let lost = f
        .settle_while_others_commit(worker, &delivered, &mut other)
        .await;
    assert_eq!(lost, []);
}

#[tokio::test]
async fn who_removes_the_first_waits_for_who_removes_the_second() {
    let f = fixture().await;
    let (one, _) = first_and_second_are_leased(&f).await;
    let mut second = f.connect().await;
    remove(&mut second, 2).await;
    settle_while_others_commit(&f, one, 1, second).await;
    assert_eq!(ids(&claim(&f, one).await), [3]);
}

#[tokio::test]
async fn who_removes_the_second_waits_for_who_has_looked_at_it() {
    let f = fixture().await;
    let (_, other) = first_and_second_are_leased(&f).await;
    let mut first = f.connect().await;
    remove(&mut first, 1).await;
    settle_while_others_commit(&f, other, 2, first).await;
    assert_eq!(ids(&claim(&f, other).await), [3]);
}

#[tokio::test]
async fn cancelling_the_second_while_the_first_is_settled_lets_the_third_go() {
    let f = fixture().await;
    enqueue(&f, "a", 1).await;
    let worker = f.worker().await;
    assert_eq!(ids(&claim(&f, worker).await), [1]);
    enqueue(&f, "a", 2).await;
    assert_eq!(ids(&claim(&f, worker).await), [] as [i64; 0]);
    let mut cancelling = f.connect().await;
    remove(&mut cancelling, 2).await;
    settle_while_others_commit(&f, worker, 1, cancelling).await;
    assert_eq!(ids(&claim(&f, worker).await), [3]);
}

/// Claims lock what they meet, also what has to wait; they never remove it.
#[tokio::test]
async fn letting_the_next_go_does_not_wait_for_a_claim_that_looks_at_it() {
    let f = fixture().await;
    let (one, other) = (f.worker().await, f.worker().await);
    enqueue(&f, "a", 1).await;
    assert_eq!(ids(&claim(&f, one).await), [1]);
    enqueue(&f, "a", 1).await;
    let (mut settling, mut claiming) = (f.connect().await, f.connect().await);
    run(
        &mut settling,
        "SET lock_timeout = '5s'; BEGIN; DELETE FROM outbox_queue WHERE event_id = 1",
    )
    .await;
    begin_claim(&mut claiming, other).await;
    let unblock = "SELECT outbox_unblock(ARRAY[''], ARRAY['a'], ARRAY[1]::bigint[]); COMMIT";
    run(&mut settling, unblock).await;
    run(&mut claiming, "COMMIT").await;
    assert_eq!(ids(&claim(&f, other).await), [2]);
}

/// What an older version has left behind, the migration lets go.
#[tokio::test]
async fn a_row_that_waits_for_nobody_is_let_go_by_the_migration() {
    let f = fixture().await;
    enqueue(&f, "a", 2).await;
    f.run(
        "UPDATE outbox_queue SET blocked = true;
         DELETE FROM outbox_migrations WHERE version IN (4, 5);
         DROP FUNCTION outbox_unblock(text[], text[], bigint[]);
         CREATE FUNCTION outbox_unblock(lanes text[], keys text[]) RETURNS void
         LANGUAGE sql AS $$ $$",
    )
    .await;
    f.store.migrate().await.unwrap();
    let worker = f.worker().await;
    assert_eq!(ids(&claim(&f, worker).await), [1, 2]);
}

/// The first of a key is changed by who loses it, between the moment at which a claim sees it and
/// that at which it has its lock: those behind it are not taken without it.
#[tokio::test]
async fn nobody_takes_what_is_behind_a_first_that_is_changing() {
    let f = fixture().await;
    enqueue(&f, "a", 3).await;
    let (one, other) = (f.worker().await, f.worker().await);
    assert_eq!(ids(&claim(&f, one).await), [1, 2, 3]);
    f.expire(one).await;
    // A claim that asks whether the row's worker is alive is held up by this.
    f.run(
        "CREATE OR REPLACE FUNCTION outbox_worker_is_alive(worker int) RETURNS boolean
         LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $$ BEGIN
             PERFORM pg_advisory_xact_lock_shared(42);
             RETURN EXISTS (SELECT FROM outbox_workers
                            WHERE id = worker AND alive_until > clock_timestamp());
         END $$",
    )
    .await;
    let mut holding = f.connect().await;
    run(&mut holding, "SELECT pg_advisory_lock(42)").await;
    let changing = async {
        f.until_a_session_waits().await;
        f.run("UPDATE outbox_queue SET began_at = now() WHERE event_id = 1")
            .await;
        run(&mut holding, "SELECT pg_advisory_unlock(42)").await;
    };
    let wanted = want(&[("", 100)]);
    let (claimed, ()) = tokio::join!(f.claim(other, &wanted), changing);
    assert_eq!(ids(&claimed), [] as [i64; 0]);
    assert_eq!(ids(&claim(&f, other).await), [1, 2, 3]);
}

/// A settle that is written once more, because its answer was lost, meets the row's next life: an
/// operator has replayed it, and the same worker has claimed it again.
#[tokio::test]
async fn an_outcome_of_a_life_before_the_replay_is_not_this_ones() {
    let f = fixture().await;
    f.enqueue(1).await;
    f.requeue("(1, now(), 'email', 0)").await;
    let worker = f.worker().await;
    let wanted = want(&[("email", 10)]);
    assert_eq!(ids(&f.claim(worker, &wanted).await), [1]);
    let dead = [Settlement {
        outcomes: vec![outcome("email", ResultStatus::Dead)],
        ..settlement(1, "email")
    }];
    f.settle(worker, &dead).await;
    f.store.replay(&[1], &Replay::default()).await.unwrap();
    assert_eq!(ids(&f.claim(worker, &wanted).await), [1]);
    let again = f.store.settle(worker, &dead, true).await.unwrap();
    assert_eq!(again.lost, [(1, lane("email"))]);
    assert_eq!(f.one::<i64>("SELECT count(*) FROM outbox_queue").await, 1);
}

/// An operator and a worker remove rows of the same two keys, each the first of one of them.
#[tokio::test]
async fn a_command_that_loses_a_deadlock_tries_again() {
    let f = fixture().await;
    enqueue(&f, "a", 2).await;
    enqueue(&f, "b", 2).await;
    let mut other = f.connect().await;
    // It is the command that finds out.
    run(
        &mut other,
        "SET deadlock_timeout = '1min'; BEGIN; DELETE FROM outbox_queue WHERE event_id IN (2, 3)",
    )
    .await;
    let waiting = async {
        f.until_a_session_waits().await;
        let unblock =
            "SELECT outbox_unblock(ARRAY['', ''], ARRAY['a', 'b'], ARRAY[2, 3]::bigint[])";
        run(&mut other, &format!("{unblock}; COMMIT")).await;
    };
    let (cancelled, ()) = tokio::join!(f.store.cancel(&[1, 4], None), waiting);
    let cancelled = cancelled.unwrap();
    assert!(
        cancelled.iter().all(|event| event.channels == [""]),
        "{cancelled:?}"
    );
    assert_eq!(f.one::<i64>("SELECT count(*) FROM outbox_queue").await, 0);
}
