//! How PostgreSQL goes about our statements when there is much: which index, how many rows.
//!
//! Workers keep their prepared statements for as long as they live, so a plan must also be good
//! when it was made before a rush, or when PostgreSQL does not know yet that there is one.

mod statements;

use crate::common::{Fixture, fixture, one, run};
use crate::explain::{BEGIN, Plan, explain};
use outbox_store::WorkerId;
use sqlx::postgres::PgConnection;
use statements::{FIRST_LEASED, LANE, LEASED, Statement};

impl Fixture {
    /// 300,000 events: a third settled days ago, the rest waiting, in 3 lanes of 3 priorities.
    async fn fill(&self) {
        self.run(&format!(
            "INSERT INTO outbox_events (id, event_type, payload, created_at)
             SELECT n, 'test', '{{\"to\": \"ada@example.org\"}}', now() - interval '10 days'
             FROM generate_series(1, 300000) n;
             INSERT INTO outbox_queue (event_id, due_at, priority, channel)
             SELECT n, now() - interval '1 hour' + n % 1000 * interval '1 second', n % 3 - 1, {LANE}
             FROM generate_series({FIRST_LEASED}, 300000) n;
             INSERT INTO outbox_deliveries (event_id, channel, status, attempts, finished_at)
             SELECT n, 'email', 'delivered', 1, now() - interval '5 days'
             FROM generate_series(1, 100000) n;
             INSERT INTO outbox_attempts
                 (event_id, channel, attempt, duration_ms, class, code, message)
             SELECT n, 'email', 1, 1, 'transient', '503', 'busy' FROM generate_series(1, 20000) n;
             {}",
            lease()
        ))
        .await;
    }

    async fn fill_for(&self, keys: Option<Keys>) {
        match keys {
            Some(keys) => self.fill_keyed(keys).await,
            None => self.fill().await,
        }
    }

    /// 100,000 events that all wait in one lane. Of a key, those behind the first are blocked. A
    /// channel's own lane has 20,000 of before that are tried again later.
    async fn fill_keyed(&self, Keys { sql: key, .. }: Keys) {
        self.run(&format!(
            "INSERT INTO outbox_events (id, event_type, payload, key)
             SELECT n, 'test', '{{}}', {key} FROM generate_series({FIRST_LEASED}, 200000) n;
             INSERT INTO outbox_queue (event_id, due_at, key, blocked)
             SELECT n, now() - interval '1 hour' + n % 1000 * interval '1 second', {key},
                    row_number() OVER (PARTITION BY {key} ORDER BY n) > 1
             FROM generate_series({FIRST_LEASED}, 200000) n;
             {};
             INSERT INTO outbox_queue (event_id, channel, due_at, attempt, key)
             SELECT n, 'email', now() + interval '1 hour', 1, {key}
             FROM generate_series(1, 20000) n",
            lease()
        ))
        .await;
    }

    /// What is filled brings its own rows of the queue. Not done while plans are kept, which are made
    /// anew when a table is altered.
    async fn drop_trigger(&self) {
        self.run("DROP TRIGGER outbox_queue_new_events ON outbox_events")
            .await;
    }

    /// Statistics stay as they are from here on.
    async fn stop_autovacuum(&self) {
        for table in [
            "events",
            "queue",
            "deliveries",
            "attempts",
            "workers",
            "channels",
        ] {
            let off = format!("ALTER TABLE outbox_{table} SET (autovacuum_enabled = off)");
            self.run(&off).await;
        }
    }

    async fn two_workers(&self) {
        assert_eq!(self.worker().await.to_string(), "1");
        assert_eq!(self.worker().await.to_string(), "2");
    }
}

/// The first rows of all lanes are worker 1's.
fn lease() -> String {
    format!(
        "UPDATE outbox_queue SET worker = 1, claims = 1, due_at = now() - interval '2 hours'
         WHERE event_id < {}",
        FIRST_LEASED + LEASED
    )
}

impl Fixture {
    /// A connection that plans as the store's do.
    pub(crate) async fn connect_as_the_store(&self) -> PgConnection {
        let mut connection = self.connect().await;
        for setting in [
            "plan_cache_mode",
            "enable_seqscan",
            "enable_bitmapscan",
            "enable_memoize",
            "jit",
        ] {
            let value: String = sqlx::query_scalar("SELECT current_setting($1)")
                .bind(setting)
                .fetch_one(self.store.pool())
                .await
                .unwrap();
            run(&mut connection, &format!("SET {setting} = {value}")).await;
        }
        connection
    }
}

/// With and without a look at the arguments.
async fn check_all(f: &Fixture, keys: Option<Keys>, when: &str) {
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let mut connection = f.connect_as_the_store().await;
        run(&mut connection, &format!("SET plan_cache_mode = {mode}")).await;
        for statement in statements(&mut connection, keys).await {
            statement.prepare(&mut connection).await;
            statement
                .check(&mut connection, &format!("{when}, {mode}"))
                .await;
        }
    }
}

async fn statements(connection: &mut PgConnection, keys: Option<Keys>) -> Vec<Statement> {
    match keys {
        Some(keys) => statements::keyed(connection, keys.let_go).await,
        None => statements::unkeyed(connection).await,
    }
}

#[tokio::test]
async fn with_statistics() {
    let f = fixture().await;
    f.two_workers().await;
    f.drop_trigger().await;
    f.fill().await;
    f.run("ANALYZE").await;
    check_all(&f, None, "analysed").await;
}

#[tokio::test]
async fn with_the_statistics_of_empty_tables() {
    let f = fixture().await;
    f.stop_autovacuum().await;
    f.two_workers().await;
    f.drop_trigger().await;
    f.run("ANALYZE").await;
    f.fill().await;
    check_all(&f, None, "analysed when empty").await;
}

/// Keys of a hundred thousand events.
#[derive(Debug, Clone, Copy)]
struct Keys {
    sql: &'static str,
    /// So many are let go when the first [`LEASED`] events are settled.
    let_go: u64,
}

const DISTINCT: Keys = Keys {
    sql: "'k' || n",
    let_go: 0,
};
const THOUSAND: Keys = Keys {
    sql: "'k' || n % 1000",
    let_go: LEASED,
};
const ONE: Keys = Keys {
    sql: "'k'",
    let_go: 1,
};

#[tokio::test]
async fn with_keys() {
    for keys in [DISTINCT, THOUSAND, ONE] {
        let f = fixture().await;
        f.two_workers().await;
        f.drop_trigger().await;
        f.fill_keyed(keys).await;
        f.run("ANALYZE").await;
        check_all(&f, Some(keys), &format!("{keys:?}, analysed")).await;
    }
}

#[tokio::test]
async fn with_keys_and_the_statistics_of_empty_tables() {
    for keys in [DISTINCT, THOUSAND, ONE] {
        let f = fixture().await;
        f.stop_autovacuum().await;
        f.two_workers().await;
        f.drop_trigger().await;
        f.run("ANALYZE").await;
        f.fill_keyed(keys).await;
        check_all(&f, Some(keys), &format!("{keys:?}, analysed when empty")).await;
    }
}

/// Of a key that had many events while an old snapshot is open: they are removed, and all are still
/// in the index.
#[tokio::test]
async fn what_is_gone_of_a_key_is_not_walked_over() {
    let f = fixture().await;
    f.stop_autovacuum().await;
    f.two_workers().await;
    f.drop_trigger().await;
    let mut other = f.connect().await;
    run(
        &mut other,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM outbox_queue",
    )
    .await;
    f.run(&format!(
        "INSERT INTO outbox_queue (event_id, due_at, key, blocked)
         SELECT n, now(), {}, true FROM generate_series(1, 50000) n;
         DELETE FROM outbox_queue",
        ONE.sql
    ))
    .await;
    f.fill_keyed(ONE).await;
    // No claim has met these.
    f.run(&format!(
        "UPDATE outbox_queue SET blocked = false WHERE event_id < {}; ANALYZE",
        FIRST_LEASED + 2 * LEASED
    ))
    .await;
    check_all(&f, Some(ONE), "after 50,000 of the key").await;
}

/// So these tests would find out.
#[tokio::test]
async fn a_statement_without_one_of_its_indexes_is_complained_about() {
    const EVENT: &str = "ALTER TABLE outbox_events DROP CONSTRAINT outbox_events_pkey";
    const ROW: &str = "ALTER TABLE outbox_queue DROP CONSTRAINT outbox_queue_pkey";
    const DUE: &str = "DROP INDEX outbox_queue_due";
    const KEY: &str = "DROP INDEX outbox_queue_key";
    const BLOCKED: &str = "DROP INDEX outbox_queue_blocked";
    for (keys, cases) in [
        (
            None,
            &[
                ("claim_sweep", DUE),
                ("claim_next", DUE),
                ("next_due", DUE),
                ("begin_attempts", ROW),
                ("read_events", EVENT),
                ("read_events_apart", EVENT),
                ("contents", EVENT),
            ][..],
        ),
        (
            Some(DISTINCT),
            &[
                ("claim_keyed_sweep", KEY),
                ("claim_keyed_next", KEY),
                ("settle_keyed", BLOCKED),
            ],
        ),
        (Some(THOUSAND), &[("settle_keyed", KEY)]),
    ] {
        let f = fixture().await;
        f.two_workers().await;
        f.drop_trigger().await;
        f.fill_for(keys).await;
        f.run("ANALYZE").await;
        let mut connection = f.connect_as_the_store().await;
        let statements = statements(&mut connection, keys).await;
        for (name, drop) in cases {
            let statement = statements.iter().find(|statement| statement.name == *name);
            let statement = statement.unwrap();
            run(&mut connection, "DEALLOCATE ALL").await;
            statement.prepare(&mut connection).await;
            let begin = format!("BEGIN; {drop}");
            let plan = explain(&mut connection, &begin, &statement.execute()).await;
            let complaint = statement.complaint(&plan);
            assert!(complaint.is_some(), "{name}: {drop}\n{plan}");
        }
    }
}

/// A worker that idled, then a rush.
#[tokio::test]
async fn prepared_before_the_rush() {
    for (tables, small) in [
        ("empty", ""),
        (
            "small",
            "INSERT INTO outbox_events (id, event_type, payload)
                 SELECT n, 'test', '{}' FROM generate_series(900001, 900008) n;
             INSERT INTO outbox_deliveries (event_id, channel, status, attempts)
                 VALUES (900009, 'email', 'delivered', 1);
             VACUUM ANALYZE",
        ),
        (
            "drained",
            "INSERT INTO outbox_events (id, event_type, payload, key)
                 SELECT n, 'test', '{}', md5(n::text)
                 FROM generate_series(900001, 905000) n;
             UPDATE outbox_queue SET blocked = true WHERE event_id % 20 = 0;
             VACUUM ANALYZE;
             DELETE FROM outbox_queue;
             VACUUM",
        ),
    ] {
        for keys in [None, Some(DISTINCT), Some(THOUSAND)] {
            let f = fixture().await;
            f.stop_autovacuum().await;
            f.two_workers().await;
            for statement in small.split(';') {
                f.run(statement).await;
            }
            f.drop_trigger().await;
            let mut connection = f.connect_as_the_store().await;
            let statements = statements(&mut connection, keys).await;
            for statement in &statements {
                statement.prepare(&mut connection).await;
                // After the fifth time PostgreSQL thinks about keeping a plan.
                let ten_times = format!("{};", statement.execute()).repeat(10);
                run(&mut connection, &format!("BEGIN; {ten_times} ROLLBACK")).await;
            }
            f.fill_for(keys).await;
            for statement in &statements {
                let when = format!("prepared when {tables}, {keys:?}");
                statement.check(&mut connection, &when).await;
            }
        }
    }
}

/// Reading the first so many events, as it is done.
pub(crate) async fn read_of(f: &Fixture, events: u64) -> Plan {
    let read = statements::read_events(1, events);
    let mut connection = f.connect_as_the_store().await;
    read.prepare(&mut connection).await;
    read.plan(&mut connection).await
}

/// A claim by that worker, in a transaction that goes on.
pub(crate) async fn begin_claim(connection: &mut PgConnection, worker: WorkerId) {
    let claim = statements::claim_of(&worker.to_string(), 100);
    claim.prepare(connection).await;
    run(connection, &format!("BEGIN; {}", claim.execute())).await;
}

/// By the index also for applications that connected when the table was small.
#[tokio::test]
async fn a_dedup_key_is_looked_up_by_its_index() {
    let f = fixture().await;
    f.stop_autovacuum().await;
    f.drop_trigger().await;
    f.run(
        "INSERT INTO outbox_events (id, event_type, payload) VALUES (900001, 'test', '{}'); ANALYZE",
    )
    .await;
    let mut application = f.connect().await;
    let look_up = "SELECT outbox_dedup_id('none')".to_owned() + "; SELECT outbox_dedup_id('none')";
    for _ in 0..5 {
        run(&mut application, &look_up).await;
    }
    f.fill().await;
    let plan = explain(&mut application, BEGIN, "SELECT outbox_dedup_id('none')").await;
    assert!(plan.pages() < 100, "{plan}");
}

/// What makes a claim cheap: no index hears of it.
#[tokio::test]
async fn a_claim_is_a_heap_only_update() {
    let f = fixture().await;
    f.two_workers().await;
    f.enqueue(600).await;
    let mut connection = f.connect().await;
    let claim = statements::claim_sweep();
    claim.prepare(&mut connection).await;
    run(&mut connection, &format!("BEGIN; {}", claim.execute())).await;
    for (updates, expected) in [("updated", 100), ("hot_updated", 100)] {
        let count = format!("SELECT pg_stat_get_xact_tuples_{updates}('outbox_queue'::regclass)");
        assert_eq!(
            one::<i64>(&mut connection, &count).await,
            expected,
            "{updates}"
        );
    }
}
