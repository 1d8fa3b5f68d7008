//! What an operator decides: cancel, replay, delivered after all.

use crate::common::{Fixture, LONG, PATIENCE, channel, fixture, ids, want};
use crate::settle::{delivered, failed, left, outcome, settlement};
use outbox_store::{
    Claimer, EventStatus, Operated, Replay, ResultStatus, Settlement, Wait, WorkerId,
};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Instant;

const QUEUE: &str = "SELECT coalesce(string_agg(concat_ws(' ', event_id, channel, attempt, \
                     takeovers, CASE WHEN due_at <= now() THEN 'due' END, began_at), ', ' \
                     ORDER BY event_id, channel), '') FROM outbox_queue";
const RESULTS: &str = "SELECT coalesce(string_agg(concat_ws(' ', event_id, channel, status, \
                       attempts, code), ', ' ORDER BY event_id, channel), '') \
                       FROM outbox_deliveries";
const STATUS: &str = "SELECT coalesce(string_agg(concat_ws(' ', id, status), ', ' ORDER BY id), '') \
                      FROM outbox_event_status";

fn done(event_id: i64, channels: &[&str]) -> Operated {
    Operated {
        event_id,
        channels: channels.iter().map(|&name| name.to_owned()).collect(),
        in_flight: Vec::new(),
    }
}

fn ended(event_id: i64, name: &str, status: ResultStatus) -> Settlement {
    Settlement {
        outcomes: vec![outcome(name, status)],
        ..settlement(event_id, "")
    }
}

impl Fixture {
    async fn cancel(&self, event_ids: &[i64]) -> Vec<Operated> {
        self.store.cancel(event_ids, None).await.unwrap()
    }

    async fn replay(&self, event_ids: &[i64]) -> Vec<Operated> {
        let all = Replay::default();
        self.store.replay(event_ids, &all).await.unwrap()
    }

    /// One event whose SMS is held, of which nobody knows the outcome.
    async fn held(&self) -> WorkerId {
        let worker = self.claimed(1).await;
        let mut held = settlement(1, "");
        held.left.push(left("sms", Wait::Held, false));
        held.left[0].unknown = true;
        held.failed.push(failed("sms", 1, "nobody knows"));
        self.settle(worker, &[held]).await;
        worker
    }
}

#[tokio::test]
async fn what_waits_can_be_cancelled() {
    let f = fixture().await;
    f.enqueue(3).await;
    f.requeue("(1, now(), '', 0), (2, now(), 'sms', 0), (2, now(), 'email', 0), (3, now(), '', 0)")
        .await;
    let cancelled = f.cancel(&[1, 2, 77]).await;
    assert_eq!(
        cancelled
            .iter()
            .map(|event| event.event_id)
            .collect::<Vec<_>>(),
        [1, 2]
    );
    let channels: HashSet<_> = cancelled[1].channels.iter().map(String::as_str).collect();
    assert_eq!(channels, HashSet::from(["sms", "email"]));
    assert_eq!(cancelled[0], done(1, &[""]));
    assert_eq!(f.one::<String>(QUEUE).await, "3  0 0 due");
    assert_eq!(
        f.one::<String>(RESULTS).await,
        "1  cancelled 0, 2 email cancelled 0, 2 sms cancelled 0"
    );
    assert_eq!(
        f.one::<String>(STATUS).await,
        "1 cancelled, 2 cancelled, 3 pending"
    );
    // A second time there is nothing to do.
    assert_eq!(f.cancel(&[1]).await, [done(1, &[])]);
}

#[tokio::test]
async fn one_channel_can_be_cancelled_and_the_others_go_on() {
    let f = fixture().await;
    f.enqueue(1).await;
    f.requeue("(1, now(), 'sms', 0), (1, now(), 'email', 0)")
        .await;
    let sms = channel("sms");
    let cancelled = f.store.cancel(&[1], Some(&sms)).await.unwrap();
    assert_eq!(cancelled, [done(1, &["sms"])]);
    assert_eq!(f.one::<String>(QUEUE).await, "1 email 0 0 due");
}

#[tokio::test]
async fn what_a_living_worker_has_cannot_be_cancelled() {
    let f = fixture().await;
    let worker = f.claimed(1).await;
    let refused = f.cancel(&[1]).await;
    assert_eq!(refused[0].channels, [] as [&str; 0]);
    assert_eq!(refused[0].in_flight[0].worker.as_deref(), Some("test"));
    assert_eq!(f.one::<String>(RESULTS).await, "");

    // Another died in the middle of it.
    f.run("UPDATE outbox_queue SET began_at = '2026-01-31T09:00:00Z'")
        .await;
    f.expire(worker).await;
    assert_eq!(f.cancel(&[1]).await, [done(1, &[""])]);
    let message = "SELECT message FROM outbox_deliveries";
    assert_eq!(
        f.one::<String>(message).await,
        "an attempt had begun at 2026-01-31T09:00:00Z, and nobody knows its outcome"
    );
    // The worker comes back to life: what it settles is not written.
    let late = [delivered(1, "", &["email"])];
    let settled = f.store.settle(worker, &late, false).await;
    assert_eq!(settled.unwrap().lost.len(), 1);
}

#[tokio::test]
async fn the_next_of_the_key_goes() {
    let f = fixture().await;
    f.run(
        "INSERT INTO outbox_events (event_type, payload, key, deliver_at) VALUES
         ('t', '{}', 'a', now() + interval '1 hour'), ('t', '{}', 'a', now())",
    )
    .await;
    let worker = f.worker().await;
    assert!(f.claim(worker, &want(&[("", 9)])).await.is_empty());
    let blocked = "SELECT count(*) FROM outbox_queue WHERE blocked";
    assert_eq!(f.one::<i64>(blocked).await, 1);
    f.cancel(&[1]).await;
    assert_eq!(f.one::<i64>(blocked).await, 0);
    assert_eq!(ids(&f.claim(worker, &want(&[("", 9)])).await), [2]);
}

/// Each event ends as delivered, or as cancelled and never sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_races_a_send_ends_in_one_truth() {
    const EVENTS: i64 = 400;
    let f = Arc::new(fixture().await);
    f.run(&format!(
        "INSERT INTO outbox_events (event_type, payload, key)
         SELECT 't', '{{}}', CASE WHEN n % 2 = 0 THEN 'k' || n % 10 END
         FROM generate_series(1, {EVENTS}) n"
    ))
    .await;
    let sent = Arc::new(Mutex::new(HashSet::new()));
    let deadline = Instant::now() + PATIENCE;
    let workers = (0..3).map(|_| {
        let (f, sent) = (Arc::clone(&f), Arc::clone(&sent));
        tokio::spawn(async move {
            loop {
                // A new one each time: a cancel under way has never heard of it.
                let (worker, _) = f.store.register_worker("new", LONG).await.unwrap();
                let rows = Claimer::default()
                    .claim(&f.store, worker, &want(&[("", 5)]))
                    .await
                    .unwrap();
                let settle = |row: &outbox_store::Leased| Settlement {
                    claim: row.claim,
                    is_keyed: row.key_hash.is_some(),
                    ..delivered(row.event_id, "", &["email"])
                };
                sent.lock().unwrap().extend(ids(&rows));
                let settlements: Vec<_> = rows.iter().map(settle).collect();
                f.settle(worker, &settlements).await;
                if rows.is_empty() && f.one::<i64>("SELECT count(*) FROM outbox_queue").await == 0 {
                    return;
                }
                assert!(
                    Instant::now() < deadline,
                    "there are rows that nobody can claim"
                );
            }
        })
    });
    let workers: Vec<_> = workers.collect();
    // From both ends, one by one and in bulk.
    let single = async {
        let mut cancelled = f.cancel(&[EVENTS]).await;
        for id in (1..EVENTS).rev().step_by(2) {
            cancelled.extend(f.cancel(&[id]).await);
        }
        cancelled
    };
    let bulk = async {
        let mut cancelled = Vec::new();
        let all: Vec<i64> = (1..=EVENTS).step_by(3).collect();
        for some in all.chunks(30) {
            cancelled.extend(f.cancel(some).await);
        }
        cancelled
    };
    let (single, bulk) = tokio::join!(single, bulk);
    for worker in workers {
        worker.await.unwrap();
    }
    let cancelled: HashSet<i64> = single
        .into_iter()
        .chain(bulk)
        .filter(|event| !event.channels.is_empty())
        .map(|event| event.event_id)
        .collect();
    let sent = std::mem::take(&mut *sent.lock().unwrap());
    assert!(cancelled.is_disjoint(&sent), "cancelled and sent");
    assert_eq!(cancelled.len() + sent.len(), 400);
    let count =
        |status: &str| format!("SELECT count(*) FROM outbox_deliveries WHERE status = '{status}'");
    let counts: (i64, i64) = (
        f.one(&count("cancelled")).await,
        f.one(&count("delivered")).await,
    );
    assert_eq!(usize::try_from(counts.0).unwrap(), cancelled.len());
    assert_eq!(usize::try_from(counts.1).unwrap(), sent.len());
}

#[tokio::test]
async fn what_was_not_delivered_is_sent_again() {
    let f = fixture().await;
    let worker = f.claimed(6).await;
    let mut both = ended(2, "sms", ResultStatus::Dead);
    both.outcomes.push(outcome("crm", ResultStatus::Delivered));
    let ends = [
        ended(1, "email", ResultStatus::Dead),
        both,
        ended(3, "email", ResultStatus::Expired),
        ended(4, "", ResultStatus::Skipped),
        ended(5, "email", ResultStatus::Suppressed),
        delivered(6, "", &["email"]),
    ];
    f.settle(worker, &ends).await;
    f.run("UPDATE outbox_events SET key = 'k', priority = 7 WHERE id = 1")
        .await;
    let replayed = f.replay(&[1, 2, 3, 4, 5, 6, 77]).await;
    let expected = [
        done(1, &["email"]),
        done(2, &["sms"]),
        done(3, &["email"]),
        done(4, &[""]),
        done(5, &[]),
        done(6, &[]),
    ];
    assert_eq!(replayed, expected);
    assert_eq!(
        f.one::<String>(QUEUE).await,
        "1 email 0 0 due, 2 sms 0 0 due, 3 email 0 0 due, 4  0 0 due"
    );
    let facts = "SELECT concat_ws(' ', key, priority) FROM outbox_queue WHERE event_id = 1";
    assert_eq!(f.one::<String>(facts).await, "k 7");
    assert_eq!(
        f.one::<String>(RESULTS).await,
        "2 crm delivered 1, 5 email suppressed 1 503, 6 email delivered 1"
    );
    let note = "SELECT concat_ws(' | ', class, channel, attempt, code, message) \
                FROM outbox_attempts WHERE event_id = 1";
    assert_eq!(
        f.one::<String>(note).await,
        "replayed | email | 1 | 503 | replayed; it was dead: email was dead"
    );
    // Twice does no harm.
    assert_eq!(f.replay(&[1]).await, [done(1, &[])]);
}

#[tokio::test]
async fn only_what_is_asked_for_is_replayed() {
    let f = fixture().await;
    let worker = f.claimed(1).await;
    let mut both = ended(1, "sms", ResultStatus::Dead);
    both.outcomes.push(outcome("crm", ResultStatus::Cancelled));
    both.outcomes
        .push(outcome("email", ResultStatus::Delivered));
    f.settle(worker, &[both]).await;
    let of = |channel_name: Option<&str>, status, delivered| Replay {
        channel: channel_name.map(channel),
        status,
        delivered,
    };
    let replay = async |what: &Replay| f.store.replay(&[1], what).await.unwrap();
    let none = [done(1, &[])];
    assert_eq!(replay(&of(Some("email"), None, false)).await, none);
    assert_eq!(
        replay(&of(None, Some(EventStatus::Expired), false)).await,
        none
    );
    let crm = replay(&of(None, Some(EventStatus::Cancelled), false)).await;
    assert_eq!(crm, [done(1, &["crm"])]);
    let email = replay(&of(Some("email"), None, true)).await;
    assert_eq!(email, [done(1, &["email"])]);
    assert_eq!(f.one::<String>(RESULTS).await, "1 sms dead 1 503");
}

/// Its place is taken: what counts is the channel that took over.
#[tokio::test]
async fn a_dead_letter_that_another_channel_took_over_stays() {
    let f = fixture().await;
    let worker = f.claimed(1).await;
    let mut both = ended(1, "sms", ResultStatus::Dead);
    both.outcomes[0].fell_back_to = Some(channel("email"));
    both.outcomes.push(outcome("email", ResultStatus::Dead));
    f.settle(worker, &[both]).await;
    assert_eq!(f.replay(&[1]).await, [done(1, &["email"])]);
    assert_eq!(f.one::<String>(RESULTS).await, "1 sms dead 1 503");
}

#[tokio::test]
async fn a_held_delivery_can_be_sent_again() {
    let f = fixture().await;
    let worker = f.held().await;
    f.run("UPDATE outbox_queue SET takeovers = 3").await;
    assert_eq!(f.replay(&[1]).await, [done(1, &["sms"])]);
    assert_eq!(f.one::<String>(QUEUE).await, "1 sms 0 0 due");
    let rows = f.claim(worker, &want(&[("sms", 1)])).await;
    assert_eq!((rows[0].attempts, rows[0].began_at), (0, None));
}

#[tokio::test]
async fn a_held_delivery_can_be_cancelled() {
    let f = fixture().await;
    f.held().await;
    assert_eq!(f.cancel(&[1]).await, [done(1, &["sms"])]);
    assert_eq!(f.one::<String>(STATUS).await, "1 cancelled");
    let known = "SELECT message LIKE 'an attempt had begun at %' FROM outbox_deliveries";
    assert!(f.one::<bool>(known).await);
}

#[tokio::test]
async fn a_held_delivery_can_turn_out_to_be_delivered() {
    let f = fixture().await;
    f.held().await;
    f.run("INSERT INTO outbox_queue (event_id, due_at, channel) VALUES (1, now(), 'crm')")
        .await;
    let confirm = async |name: Option<&str>| {
        let name = name.map(channel);
        let confirmed = f.store.confirm_delivered(&[1], name.as_ref()).await;
        confirmed.unwrap()
    };
    // What is not held is not for a human to decide.
    assert_eq!(confirm(Some("crm")).await, [done(1, &[])]);
    assert_eq!(confirm(None).await, [done(1, &["sms"])]);
    assert_eq!(f.one::<String>(QUEUE).await, "1 crm 0 0 due");
    assert_eq!(f.one::<String>(RESULTS).await, "1 sms delivered 1 by_hand");
}

#[tokio::test]
async fn a_replay_wakes_workers_that_sleep() {
    let f = fixture().await;
    let worker = f.claimed(1).await;
    f.settle(worker, &[ended(1, "email", ResultStatus::Dead)])
        .await;
    let mut listener = f.store.listen().await.unwrap();
    listener.set_asleep(true).await.unwrap();
    f.replay(&[1]).await;
    let heard = tokio::time::timeout(PATIENCE, listener.heard()).await;
    heard.unwrap().unwrap();
}

/// Pruning has the event locked already: the replay waits, and finds nothing.
#[tokio::test]
async fn what_is_being_pruned_is_not_replayed() {
    let f = Arc::new(fixture().await);
    let worker = f.claimed(1).await;
    f.settle(worker, &[ended(1, "email", ResultStatus::Dead)])
        .await;
    let mut pruning = f.connect().await;
    let lock = "BEGIN; SELECT FROM outbox_events WHERE id = 1 FOR UPDATE";
    crate::common::run(&mut pruning, lock).await;
    let replay = tokio::spawn({
        let f = Arc::clone(&f);
        async move { f.replay(&[1]).await }
    });
    f.until_a_session_waits().await;
    let gone = "DELETE FROM outbox_events; DELETE FROM outbox_deliveries; COMMIT";
    crate::common::run(&mut pruning, gone).await;
    assert_eq!(replay.await.unwrap(), []);
    assert_eq!(f.one::<String>(QUEUE).await, "");
}

/// The replay came first: pruning passes the event over.
#[tokio::test]
async fn what_is_being_replayed_is_not_pruned() {
    let f = fixture().await;
    let worker = f.claimed(1).await;
    f.settle(worker, &[ended(1, "email", ResultStatus::Dead)])
        .await;
    let mut replaying = f.connect().await;
    let lock = "BEGIN; SELECT FROM outbox_events WHERE id = 1 FOR KEY SHARE";
    crate::common::run(&mut replaying, lock).await;
    assert_eq!(f.store.prune(0.0, 10, 0).await.unwrap().removed, 0);
    crate::common::run(&mut replaying, "COMMIT").await;
    assert_eq!(f.store.prune(0.0, 10, 0).await.unwrap().removed, 1);
}

/// However a replay and pruning fall together, the event is gone or has its work.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_races_pruning_ends_in_one_truth() {
    const EVENTS: usize = 300;
    let f = fixture().await;
    let worker = f.claimed(EVENTS).await;
    let last = i64::try_from(EVENTS).unwrap();
    let dead: Vec<_> = (1..=last)
        .map(|id| ended(id, "email", ResultStatus::Dead))
        .collect();
    f.settle(worker, &dead).await;
    let replay = async {
        let mut replayed = Vec::new();
        for id in 1..=last {
            replayed.extend(f.replay(&[id]).await);
        }
        replayed.len()
    };
    let prune = async {
        let mut removed = 0;
        for from in (0..last).rev().step_by(3) {
            removed += f.store.prune(0.0, 3, from).await.unwrap().removed;
        }
        usize::try_from(removed).unwrap()
    };
    let (replayed, removed) = tokio::join!(replay, prune);
    assert_eq!(replayed + removed, EVENTS);
    let orphans = "SELECT count(*) FROM outbox_queue q \
                   WHERE NOT EXISTS (SELECT FROM outbox_events e WHERE e.id = q.event_id)";
    assert_eq!(f.one::<i64>(orphans).await, 0);
}
