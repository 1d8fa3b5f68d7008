//! The view on a big table.

use crate::common::{Fixture, fixture};
use crate::explain::{BEGIN, explain};

const BACKLOG: &str = "SELECT * FROM outbox_event_status WHERE processed_at IS NULL";
const BIG: [&str; 3] = ["outbox_events", "outbox_deliveries", "outbox_attempts"];

impl Fixture {
    /// 300,000 settled events, some through two channels, and 100 that wait.
    async fn fill_settled(&self) {
        self.run(
            "ALTER TABLE outbox_events DISABLE TRIGGER USER;
             INSERT INTO outbox_events (event_type, payload)
             SELECT 'test', '{\"to\": \"ada@example.org\"}' FROM generate_series(1, 300000);
             ALTER TABLE outbox_events ENABLE TRIGGER USER;
             INSERT INTO outbox_deliveries (event_id, channel, status, attempts)
             SELECT n, 'email', 'delivered', 1 FROM generate_series(1, 300000) n
             UNION ALL SELECT n, 'sms', 'dead', 3 FROM generate_series(1, 300000, 10) n;
             INSERT INTO outbox_attempts
                 (event_id, channel, attempt, duration_ms, class, code, message)
             SELECT n, 'sms', 1, 1, 'transient', '503', 'busy' FROM generate_series(1, 300000, 10) n",
        )
        .await;
        self.enqueue(100).await;
    }

    async fn check_view(&self, when: &str) {
        let mut connection = self.connect().await;
        let backlog = explain(&mut connection, BEGIN, BACKLOG).await;
        for table in BIG {
            assert!(!backlog.walks_over(table), "{when}: {table}\n{backlog}");
        }
        assert!(
            backlog.pages() < 3000,
            "{when}: {}\n{backlog}",
            backlog.pages()
        );
        for id in [1, 2, 300_001] {
            let statement = format!("SELECT * FROM outbox_event_status WHERE id = {id}");
            let single = explain(&mut connection, BEGIN, &statement).await;
            for table in BIG {
                assert!(!single.walks_over(table), "{when}: {table}\n{single}");
            }
            assert!(single.pages() < 200, "{when}: {}\n{single}", single.pages());
        }
        let count = format!("SELECT count(*) FROM ({BACKLOG}) waiting");
        assert_eq!(self.one::<i64>(&count).await, 100);
    }
}

#[tokio::test]
async fn the_backlog_does_not_read_what_is_settled() {
    let f = fixture().await;
    f.fill_settled().await;
    f.check_view("before any statistics").await;
    f.run("ANALYZE").await;
    f.check_view("analysed").await;
}

#[tokio::test]
async fn nor_with_the_statistics_of_empty_tables() {
    let f = fixture().await;
    for table in ["events", "queue", "deliveries", "attempts"] {
        f.run(&format!(
            "ALTER TABLE outbox_{table} SET (autovacuum_enabled = off)"
        ))
        .await;
    }
    f.run("ANALYZE").await;
    f.fill_settled().await;
    f.check_view("analysed when empty").await;
}

/// What is settled is never looked for young events: retention stops at the first batch.
#[tokio::test]
async fn retention_does_not_read_what_is_young() {
    let f = fixture().await;
    f.fill_settled().await;
    let mut connection = f.connect().await;
    let prune = include_str!("../../sql/prune.sql").replace('!', "");
    crate::common::run(
        &mut connection,
        &format!("PREPARE prune (float8, bigint, bigint) AS {prune}"),
    )
    .await;
    let plan = explain(&mut connection, BEGIN, "EXECUTE prune (30, 1000, 0)").await;
    assert!(plan.pages() < 200, "{plan}");
}
