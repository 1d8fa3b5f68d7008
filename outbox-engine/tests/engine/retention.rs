//! Forgetting.

use crate::channels::{Recorder, accepting};
use crate::common::{Fixture, Running, any, options, spec};
use outbox_engine::{Receipt, Retention, SendError, WorkerOptions};
use outbox_store::NewEvent;
use std::time::Duration;

const EVENTS: &str = "SELECT count(*) FROM outbox_events";

fn forgetting(retention: Retention) -> WorkerOptions {
    WorkerOptions {
        poll_interval: Duration::from_millis(50),
        retention,
        ..options()
    }
}

/// Everything that is there becomes forty days older.
async fn age(fixture: &Fixture) {
    fixture
        .execute("UPDATE outbox_events SET created_at = created_at - interval '40 days'")
        .await;
    fixture
        .execute("UPDATE outbox_deliveries SET finished_at = finished_at - interval '40 days'")
        .await;
}

#[tokio::test]
async fn a_worker_forgets_what_was_settled_long_ago() {
    let fixture = Fixture::new().await;
    let far = chrono::Utc::now() + Duration::from_secs(1_000_000);
    let waiting = fixture
        .write(&NewEvent::new("email", any()).deliver_at(far))
        .await;
    fixture.enqueue("email", 5).await;
    let worker = fixture.worker(vec![spec("email", accepting())]);
    assert_eq!(worker.dispatch(10).await.unwrap().processed, 5);
    age(&fixture).await;
    fixture.enqueue("email", 3).await;
    let retention = Retention {
        days: 30.0,
        limit: 100,
        every_cycles: 2,
    };
    let channels = vec![spec("email", accepting())];
    let running = Running::start(fixture.worker_with(forgetting(retention), channels));
    fixture
        .until("SELECT count(*) = 4 FROM outbox_events")
        .await;
    fixture
        .until("SELECT count(*) = 3 FROM outbox_deliveries WHERE status = 'delivered'")
        .await;
    running.stop().await;
    assert_eq!(fixture.status(waiting).await.status, "pending");
}

/// What all tables take on disk, with their indexes, once what is dead in them has been cleared.
async fn size(fixture: &Fixture) -> i64 {
    for _ in 0..2 {
        // An index's page that has become empty is free only after the next one.
        fixture.execute("VACUUM").await;
    }
    let tables = "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
                  WHERE relkind = 'r' AND relname LIKE 'outbox\\_%'";
    fixture.count(tables).await
}

/// Workers work and prune while producers produce, generation after generation: what has come and
/// gone leaves no trace.
#[tokio::test(flavor = "multi_thread")]
async fn the_tables_do_not_grow_with_what_has_come_and_gone() {
    let fixture = Fixture::new().await;
    let far = chrono::Utc::now() + Duration::from_secs(1_000_000);
    let waiting = fixture
        .write(&NewEvent::new("email", any()).deliver_at(far))
        .await;
    let at_once = Retention {
        days: 0.0,
        limit: 100_000,
        every_cycles: 1,
    };
    let email = Recorder::new(|delivery| match delivery.attempt() {
        1 if delivery.event().id % 10 == 0 => Err(SendError::transient("503", "busy")),
        _ => Ok(Receipt::new()),
    });
    let workers = [(); 2].map(|()| {
        let channels = vec![spec("email", email.clone())];
        Running::start(fixture.worker_with(forgetting(at_once), channels))
    });
    let mut sizes = Vec::new();
    for generation in 1..=6 {
        for _ in 0..5 {
            fixture.enqueue("email", 200).await;
        }
        fixture
            .until("SELECT count(*) = 1 FROM outbox_events")
            .await;
        assert_eq!(email.sent().len(), generation * 1_100);
        sizes.push(size(&fixture).await);
    }
    for worker in workers {
        worker.stop().await;
    }
    let most = *sizes[..2].iter().max().unwrap();
    assert!(
        sizes[2..].iter().all(|size| *size <= most * 3 / 2),
        "{sizes:?}"
    );
    for left in ["outbox_deliveries", "outbox_attempts"] {
        let count = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {left}")));
        let count: i64 = count.fetch_one(&fixture.pool).await.unwrap();
        assert_eq!(count, 0, "{left}");
    }
    assert_eq!(fixture.status(waiting).await.status, "pending");
}

#[tokio::test]
async fn no_more_is_forgotten_at_once_than_the_limit_says() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 5).await;
    let retention = |limit| Retention {
        days: 30.0,
        limit,
        every_cycles: 0,
    };
    let worker = |limit| {
        let channels = vec![spec("email", accepting())];
        fixture.worker_with(forgetting(retention(limit)), channels)
    };
    worker(0).dispatch(10).await.unwrap();
    age(&fixture).await;
    assert_eq!(worker(0).prune().await.unwrap(), 0);
    assert_eq!(worker(3).prune().await.unwrap(), 3);
    assert_eq!(worker(3).prune().await.unwrap(), 2);
    assert_eq!(worker(3).prune().await.unwrap(), 0);
    assert_eq!(fixture.count(EVENTS).await, 0);
}

#[tokio::test]
async fn a_worker_that_is_not_told_to_forget_forgets_nothing() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 5).await;
    let channels = || vec![spec("email", accepting())];
    fixture.worker(channels()).dispatch(10).await.unwrap();
    age(&fixture).await;
    let never = Retention {
        days: 30.0,
        limit: 100,
        every_cycles: 0,
    };
    let running = Running::start(fixture.worker_with(forgetting(never), channels()));
    fixture.enqueue("email", 1).await;
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(fixture.count(EVENTS).await, 6);
}
