//! Rows of one key: one after the other, whoever claims.

use crate::common::{Fixture, fixture, ids, lane, run, want};
use crate::settle::{delivered, left, settlement};
use outbox_store::{Claimer, Leased, Settlement, Wait, WorkerId};
use std::collections::HashSet;

const LANES: [(&str, usize); 3] = [("", 100), ("email", 100), ("crm", 100)];

/// Claims until nothing more is to be had.
pub(crate) async fn claim(f: &Fixture, worker: WorkerId) -> Vec<Leased> {
    let mut rows = Vec::new();
    loop {
        let mut claimer = Claimer::default();
        let more = claimer.claim(&f.store, worker, &want(&LANES)).await;
        let more = more.unwrap();
        if more.is_empty() && !claimer.was_cut() {
            return rows;
        }
        rows.extend(more);
    }
}

pub(crate) async fn enqueue(f: &Fixture, key: &str, count: u32) {
    f.run(&format!(
        "INSERT INTO outbox_events (event_type, payload, key) \
         SELECT 'test', '{{}}', '{key}' FROM generate_series(1, {count})"
    ))
    .await;
}

pub(crate) fn keyed(settlement: Settlement) -> Settlement {
    Settlement {
        is_keyed: true,
        ..settlement
    }
}

async fn settle(f: &Fixture, worker: WorkerId, settlements: &[Settlement]) {
    assert_eq!(
        f.store
            .settle(worker, settlements, false)
            .await
            .unwrap()
            .lost,
        []
    );
}

#[tokio::test]
async fn the_first_takes_those_behind_it_along() {
    let f = fixture().await;
    enqueue(&f, "a", 5).await;
    let worker = f.worker().await;
    assert_eq!(ids(&claim(&f, worker).await), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn those_taken_along_have_to_find_room() {
    let f = fixture().await;
    enqueue(&f, "a", 3).await;
    enqueue(&f, "b", 1).await;
    f.enqueue(1).await;
    enqueue(&f, "b", 1).await;
    let worker = f.worker().await;
    let mut claimer = Claimer::default();
    let mut claimed = Vec::new();
    loop {
        let claim = claimer.claim(&f.store, worker, &want(&[("", 5)])).await;
        let claim = claim.unwrap();
        assert!(claim.len() <= 5, "{}", claim.len());
        claimed.extend(claim);
        if !claimer.was_cut() {
            break;
        }
    }
    assert_eq!(ids(&claimed), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn others_have_to_wait_until_the_first_is_settled() {
    let f = fixture().await;
    enqueue(&f, "a", 2).await;
    let (one, other) = (f.worker().await, f.worker().await);
    assert_eq!(ids(&claim(&f, one).await), [1, 2]);
    enqueue(&f, "a", 3).await;
    enqueue(&f, "b", 1).await;
    // The other key is free.
    assert_eq!(ids(&claim(&f, other).await), [6]);
    assert_eq!(
        f.one::<i64>("SELECT count(*) FROM outbox_queue WHERE blocked")
            .await,
        3
    );

    settle(&f, one, &[keyed(delivered(1, "", &["email"]))]).await;
    assert_eq!(ids(&claim(&f, other).await), [] as [i64; 0]);
    settle(&f, one, &[keyed(delivered(2, "", &["email"]))]).await;
    assert_eq!(ids(&claim(&f, other).await), [3, 4, 5]);
}

#[tokio::test]
async fn a_settle_tells_which_rows_it_let_go() {
    let f = fixture().await;
    enqueue(&f, "a", 1).await;
    let (one, other) = (f.worker().await, f.worker().await);
    assert_eq!(ids(&claim(&f, one).await), [1]);
    enqueue(&f, "a", 2).await;
    f.enqueue(1).await;
    let mut claimer = Claimer::default();
    let unkeyed = claimer.claim(&f.store, other, &want(&LANES)).await;
    assert_eq!(ids(&unkeyed.unwrap()), [4]);

    let first = [keyed(delivered(1, "", &["email"]))];
    let written = f.store.settle(one, &first, false).await.unwrap();
    assert_eq!(written.freed, [(2, lane(""))]);
    claimer.look_at(written.freed);
    let freed = claimer.claim(&f.store, other, &want(&LANES)).await;
    assert_eq!(ids(&freed.unwrap()), [2, 3]);
}

/// Then claims need not wait for each other's rows to be settled.
#[tokio::test]
async fn a_claim_that_finds_all_keys_under_way_makes_the_next_take_more_of_fewer() {
    let f = fixture().await;
    f.run(
        "INSERT INTO outbox_events (event_type, payload, key) \
         SELECT 'test', '{}', 'k' || n % 10 FROM generate_series(1, 400) n ORDER BY n",
    )
    .await;
    let (worker, mut claimer) = (f.worker().await, Claimer::default());
    let room = want(&[("", 80)]);
    let first = claimer.claim(&f.store, worker, &room).await.unwrap();
    assert_eq!((first.len(), keys(&first).len()), (80, 10));
    let second = claimer.claim(&f.store, worker, &room).await.unwrap();
    assert_eq!(ids(&second), [] as [i64; 0]);

    let batch: Vec<_> = first
        .iter()
        .map(|row| keyed(delivered(row.event_id, "", &["email"])))
        .collect();
    claimer.look_at(f.store.settle(worker, &batch, false).await.unwrap().freed);
    let third = claimer.claim(&f.store, worker, &room).await.unwrap();
    let fourth = claimer.claim(&f.store, worker, &room).await.unwrap();
    assert_eq!((third.len(), keys(&third).len()), (80, 5));
    assert!(fourth.len() >= 60, "{}", fourth.len());
    assert!(keys(&third).is_disjoint(&keys(&fourth)));
}

fn keys(rows: &[Leased]) -> HashSet<i64> {
    rows.iter().filter_map(|row| row.key_hash).collect()
}

/// So many that a settle asks first whether anything waits behind them.
const MANY: i64 = 60;

/// Events with the keys `k1`, `k2` and so on.
async fn enqueue_one_each(f: &Fixture, keys: i64) {
    f.run(&format!(
        "INSERT INTO outbox_events (event_type, payload, key) \
         SELECT 'test', '{{}}', 'k' || n FROM generate_series(1, {keys}) n ORDER BY n"
    ))
    .await;
}

fn delivered_up_to(last: i64) -> Vec<Settlement> {
    (1..=last)
        .map(|id| keyed(delivered(id, "", &["email"])))
        .collect()
}

#[tokio::test]
async fn a_settle_of_many_lets_go_what_waits_for_any_of_them() {
    let f = fixture().await;
    let (one, other) = (f.worker().await, f.worker().await);
    enqueue_one_each(&f, MANY).await;
    assert_eq!(claim(&f, one).await.len(), 60);
    enqueue(&f, "k1", 2).await;
    enqueue(&f, "k60", 1).await;
    assert_eq!(ids(&claim(&f, other).await), [] as [i64; 0]);
    // Nobody has met this one.
    enqueue(&f, "k2", 1).await;

    let batch = delivered_up_to(MANY);
    let mut freed = f.store.settle(one, &batch, false).await.unwrap().freed;
    freed.sort_unstable_by_key(|(event_id, _)| *event_id);
    assert_eq!(freed, [(61, lane("")), (63, lane(""))]);
    assert_eq!(ids(&claim(&f, other).await), [61, 62, 63, 64]);
}

/// A claim that marks a row while the settle of the one before it is under way: the settle waits
/// for the lock, and then has to see the mark.
#[tokio::test]
async fn what_is_marked_while_the_first_is_settled_is_let_go() {
    for batch in [1, MANY] {
        let f = fixture().await;
        enqueue_one_each(&f, batch).await;
        let worker = f.worker().await;
        assert_eq!(claim(&f, worker).await.len() as i64, batch);
        let mut other = f.connect().await;
        run(
            &mut other,
            "BEGIN; SELECT FROM outbox_queue WHERE event_id = 1 FOR KEY SHARE",
        )
        .await;
        let next = batch + 1;
        let marking = async {
            f.until_a_session_waits().await;
            enqueue(&f, "k1", 1).await;
            let mark = "UPDATE outbox_queue SET blocked = true WHERE event_id =";
            run(&mut other, &format!("{mark} {next}; COMMIT")).await;
        };
        let all = delivered_up_to(batch);
        tokio::join!(settle(&f, worker, &all), marking);
        assert_eq!(ids(&claim(&f, worker).await), [next]);
    }
}

#[tokio::test]
async fn a_retry_holds_up_its_channel_and_no_other() {
    let f = fixture().await;
    enqueue(&f, "a", 3).await;
    let worker = f.worker().await;
    assert_eq!(claim(&f, worker).await.len(), 3);
    // The first is delivered by e-mail, and the CRM is tried again in an hour.
    let hour = Wait::For(std::time::Duration::from_secs(3600));
    let mut first = keyed(delivered(1, "", &["email"]));
    first.left = vec![left("crm", hour, false)];
    settle(&f, worker, &[first]).await;
    // The others come back, as they do when the process that took them along stops.
    for id in [2, 3] {
        let mut back = keyed(settlement(id, ""));
        back.left = vec![left("crm", Wait::Unchanged, false)];
        settle(&f, worker, &[back]).await;
    }
    assert_eq!(ids(&claim(&f, worker).await), [] as [i64; 0]);

    // A later event is told which channel is behind.
    enqueue(&f, "a", 1).await;
    let rows = claim(&f, worker).await;
    assert_eq!(ids(&rows), [4]);
    let behind: Vec<&str> = rows[0].behind.iter().map(|name| name.as_str()).collect();
    assert_eq!(behind, ["crm"]);

    f.run("UPDATE outbox_queue SET due_at = now() WHERE channel = 'crm'")
        .await;
    assert_eq!(ids(&claim(&f, worker).await), [1, 2, 3]);
}

#[tokio::test]
async fn an_event_for_later_holds_up_its_key() {
    let f = fixture().await;
    f.run(
        "INSERT INTO outbox_events (event_type, payload, key, deliver_at) VALUES \
         ('test', '{}', 'a', now() + interval '1 hour'), ('test', '{}', 'a', now())",
    )
    .await;
    let worker = f.worker().await;
    assert_eq!(ids(&claim(&f, worker).await), [] as [i64; 0]);
    f.run("UPDATE outbox_queue SET due_at = now() WHERE event_id = 1")
        .await;
    // Sorted by due time; the engine goes by id within a key.
    let mut both = ids(&claim(&f, worker).await);
    both.sort_unstable();
    assert_eq!(both, [1, 2]);
}

#[tokio::test]
async fn those_that_a_dead_worker_had_are_taken_over_in_order() {
    let f = fixture().await;
    enqueue(&f, "a", 4).await;
    let (dead, next) = (f.worker().await, f.worker().await);
    assert_eq!(claim(&f, dead).await.len(), 4);
    settle(&f, dead, &[keyed(delivered(1, "", &["email"]))]).await;
    f.expire(dead).await;
    let rows = claim(&f, next).await;
    assert_eq!(ids(&rows), [2, 3, 4]);
    assert!(rows.iter().all(|row| row.takeovers == 1));
}

#[tokio::test]
async fn a_deleted_event_lets_the_next_of_its_key_go() {
    let f = fixture().await;
    enqueue(&f, "a", 3).await;
    let (one, other) = (f.worker().await, f.worker().await);
    let first = claim(&f, one).await;
    assert_eq!(first.len(), 3);
    f.expire(one).await;
    f.run("DELETE FROM outbox_events WHERE id = 1").await;
    let leased = claim(&f, other).await;
    assert_eq!(ids(&leased), [1, 2, 3]);
    let claimed = f.read_events(other, &leased).await;
    let claimed: Vec<i64> = claimed.iter().map(|row| row.event.id).collect();
    assert_eq!(claimed, [2, 3]);
}

/// Many workers, few keys, rows that come back: never two workers with one key, never one that
/// overtakes another, nothing left behind.
#[tokio::test(flavor = "multi_thread")]
async fn many_workers_keep_the_order() {
    const EVENTS: i64 = 1_500;
    let f = std::sync::Arc::new(fixture().await);
    let done = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let producer = tokio::spawn({
        let f = std::sync::Arc::clone(&f);
        async move {
            for n in 0..EVENTS / 5 {
                // An unkeyed one among them, and a hot key.
                f.run(&format!(
                    "INSERT INTO outbox_events (event_type, payload, key) VALUES \
                     ('t', '{{}}', 'hot'), ('t', '{{}}', 'k{}'), ('t', '{{}}', NULL), \
                     ('t', '{{}}', 'k{}'), ('t', '{{}}', 'hot')",
                    n % 7,
                    n % 3,
                ))
                .await;
            }
        }
    });
    let workers = (0..4).map(|_| {
        let (f, done) = (std::sync::Arc::clone(&f), std::sync::Arc::clone(&done));
        tokio::spawn(async move {
            let worker = f.worker().await;
            let mut claimer = Claimer::default();
            while (done.lock().unwrap().len() as i64) < EVENTS {
                let rows = claimer.claim(&f.store, worker, &want(&[("", 100)])).await;
                let rows = rows.unwrap();
                let settlements: Vec<Settlement> = rows
                    .iter()
                    .map(|row| Settlement {
                        claim: row.claim,
                        is_keyed: row.key_hash.is_some(),
                        ..delivered(row.event_id, "", &["email"])
                    })
                    .collect();
                // Before they are settled, so that who comes next can only be later.
                done.lock()
                    .unwrap()
                    .extend(rows.iter().map(|row| (row.key_hash, row.event_id)));
                settle(&f, worker, &settlements).await;
                tokio::task::yield_now().await;
            }
        })
    });
    let workers: Vec<_> = workers.collect();
    producer.await.unwrap();
    let all = async {
        for worker in workers {
            worker.await.unwrap();
        }
    };
    let in_time = tokio::time::timeout(std::time::Duration::from_secs(60), all).await;
    let left: i64 = f.one("SELECT count(*) FROM outbox_queue").await;
    let blocked: i64 = f
        .one("SELECT count(*) FROM outbox_queue WHERE blocked")
        .await;
    assert!(in_time.is_ok(), "{left} left, {blocked} of them blocked");
    assert_eq!(left, 0);
    let mut last = std::collections::HashMap::new();
    for (key, id) in done.lock().unwrap().drain(..) {
        if let Some(key) = key {
            let before = last.insert(key, id).unwrap_or(0);
            assert!(before < id, "{id} of {key} came after {before}");
        }
    }
}

/// A worker that was stopped for longer than its lease writes down what it had in mind: by then
/// the first of the key is somebody else's.
#[tokio::test]
async fn what_is_left_by_a_dead_worker_does_not_overtake_the_first_of_its_key() {
    let f = fixture().await;
    enqueue(&f, "a", 2).await;
    let (dead, next, third) = (f.worker().await, f.worker().await, f.worker().await);
    assert_eq!(ids(&claim(&f, dead).await), [1, 2]);
    f.expire(dead).await;
    // Room for one: the second stays the dead worker's.
    assert_eq!(
        ids(&f.claim(next, &want(&[("", 1), ("email", 0)])).await),
        [1]
    );
    // The dead one comes back, and passes the second on to its channel's own lane.
    let mut first = keyed(settlement(1, ""));
    first.left = vec![left("email", Wait::Unchanged, false)];
    let mut second = keyed(settlement(2, ""));
    second.left = vec![left("email", Wait::Unchanged, false)];
    f.store.settle(dead, &[first, second], false).await.unwrap();
    // The first is on its way through `email`, and the second must wait for it.
    assert_eq!(ids(&claim(&f, third).await), [] as [i64; 0]);
}
