//! How PostgreSQL goes about our statements when there is much: which index, how many rows.
//!
//! Workers keep their prepared statements for as long as they live, so a plan must also be good
//! when it was made before a rush, or when PostgreSQL does not know yet that there is one.

use crate::common::{Fixture, fixture, one, run};
use crate::explain::{Plan, explain};
use sqlx::postgres::PgConnection;

/// As the driver prepares it.
struct Statement {
    name: &'static str,
    sql: &'static str,
    types: &'static str,
    arguments: String,
    /// Each time made anew, for what is asked: as in the store.
    is_planned: bool,
    /// How the queue is to be read, and at most how many rows that may come to.
    queue_index: &'static str,
    queue_rows: u64,
    /// 8 kB pages touched, of the 10,000 that there are.
    pages: u64,
}

/// Lanes of the rows of the big table, in SQL's words: `n` is the event.
const LANE: &str = "(ARRAY['', 'email', 'crm'])[n / 3 % 3 + 1]";
const CLAIM_TYPES: &str = "int, text[], int[], bool, text[], smallint[], timestamptz[], bigint[], \
                           text[], int, bigint[], text[]";
/// So many rows are leased, at the head of their lanes, and settled in one go.
const LEASED: u64 = 200;

async fn statements(connection: &mut PgConnection) -> Vec<Statement> {
    let leased = |column: &str| {
        format!(
            "SELECT array_agg({column} ORDER BY n)::text FROM generate_series(100001, {}) n",
            100_000 + LEASED
        )
    };
    let ids: String = one(connection, &leased("n")).await;
    let lanes: String = one(connection, &leased(LANE)).await;
    let filled = |value: &str| format!("array_fill({value}, ARRAY[{LEASED}])");
    let (one_each, no_text) = (filled("1"), filled("NULL::text"));
    // Each has two channels; about one of them there is something to say.
    let settle = format!(
        "1, '{ids}', '{lanes}', {}, {}, false, '{ids}', '{lanes}', {}, {one_each}, '{ids}', \
         '{lanes}', {}, {}, {one_each}, {no_text}, {no_text}, {no_text}, {no_text}{}",
        filled("1::smallint"),
        filled("false"),
        filled("'email'::text"),
        filled("'crm'::text"),
        filled("'delivered'::text"),
        ", '{}'".repeat(16)
    );
    let wanted = "2, ARRAY['', 'email', 'crm'], ARRAY[100, 50, 100]";
    let lanes_known = "ARRAY['email', 'crm']";
    vec![
        Statement {
            name: "claim_sweep",
            is_planned: false,
            sql: include_str!("../../sql/claim.sql"),
            types: CLAIM_TYPES,
            arguments: format!(
                "{wanted}, true, '{{}}', '{{}}', '{{}}', '{{}}', {lanes_known}, 8, '{{}}', '{{}}'"
            ),
            queue_index: "outbox_queue_due",
            // What is claimed, what is leased before it, and a look at each priority.
            queue_rows: 250 + LEASED + 12,
            pages: 4000,
        },
        Statement {
            name: "claim_next",
            is_planned: false,
            sql: include_str!("../../sql/claim.sql"),
            types: CLAIM_TYPES,
            arguments: format!(
                "{wanted}, false, ARRAY['', '', '', 'email', 'crm'], \
                 ARRAY[-1, 0, 1, -1, 0]::smallint[], \
                 array_fill(now() - interval '50 minutes', ARRAY[5]), array_fill(0, ARRAY[5]), \
                 {lanes_known}, 8, '{{}}', '{{}}'"
            ),
            queue_index: "outbox_queue_due",
            queue_rows: 250 + LEASED,
            pages: 4000,
        },
        Statement {
            name: "next_due",
            is_planned: false,
            sql: include_str!("../../sql/next_due.sql"),
            types: "text[]",
            arguments: "ARRAY['', 'email', 'crm']".to_owned(),
            queue_index: "outbox_queue_due",
            queue_rows: 30,
            pages: 300,
        },
        Statement {
            name: "settle",
            is_planned: false,
            sql: include_str!("../../sql/settle.sql"),
            types: "int, bigint[], text[], smallint[], bool[], bool, bigint[], text[], text[], \
                    int[], bigint[], text[], text[], text[], int[], text[], text[], text[], \
                    text[], bigint[], text[], text[], int[], float8[], bool[], bool[], bigint[], \
                    text[], int[], int[], text[], text[], text[], text[], float8[]",
            arguments: settle,
            queue_index: "outbox_queue_pkey",
            queue_rows: LEASED,
            pages: 5000,
        },
        Statement {
            name: "begin_attempts",
            is_planned: false,
            sql: include_str!("../../sql/begin_attempts.sql"),
            types: "int, bigint[], text[]",
            arguments: format!("1, '{ids}', '{lanes}'"),
            queue_index: "outbox_queue_pkey",
            queue_rows: LEASED,
            pages: 4000,
        },
        Statement {
            name: "prune",
            is_planned: true,
            sql: include_str!("../../sql/prune.sql"),
            types: "float8, bigint, bigint",
            arguments: "3, 100, 0".to_owned(),
            queue_index: "outbox_queue_pkey",
            queue_rows: 0,
            pages: 3000,
        },
    ]
}

/// sqlx's own `AS "name!: type"` is `AS "name"` to PostgreSQL.
fn plain(sql: &str) -> String {
    let quoted = |(n, part): (usize, &str)| match n % 2 {
        1 => format!("\"{}\"", part.split(['!', '?', ':']).next().unwrap_or(part)),
        _ => part.to_owned(),
    };
    let code = sql
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"));
    let code = code.collect::<Vec<_>>().join("\n");
    code.split('"').enumerate().map(quoted).collect()
}

impl Statement {
    async fn prepare(&self, connection: &mut PgConnection) {
        let Self { name, types, .. } = self;
        let prepare = format!("PREPARE {name} ({types}) AS {}", plain(self.sql));
        run(connection, &prepare).await;
    }

    fn execute(&self) -> String {
        format!("EXECUTE {} ({})", self.name, self.arguments)
    }

    /// Runs it, takes back what it did, and looks at how it did it.
    async fn check(&self, connection: &mut PgConnection, when: &str) {
        let settings = if self.is_planned { PLANNED } else { "" };
        let plan = explain(connection, settings, &self.execute()).await;
        let complaint = self.complaint(&plan);
        assert!(
            complaint.is_none(),
            "{} {when}: {}\n{plan}",
            self.name,
            complaint.unwrap_or("")
        );
    }

    fn complaint(&self, plan: &Plan) -> Option<&'static str> {
        let big = [
            "outbox_queue",
            "outbox_events",
            "outbox_deliveries",
            "outbox_attempts",
        ];
        let queue = plan.reads("outbox_queue");
        [
            (
                big.iter().any(|table| plan.walks_over(table)),
                "walks over a table",
            ),
            (plan.sorts_more_than(self.queue_rows), "sorts the backlog"),
            (plan.has_jit(), "is compiled"),
            (
                queue.index.is_some_and(|index| index != self.queue_index),
                "takes another index",
            ),
            (queue.rows > self.queue_rows, "reads too many queue rows"),
            (plan.pages() > self.pages, "touches too many pages"),
        ]
        .into_iter()
        .find_map(|(is_so, complaint)| is_so.then_some(complaint))
    }
}

impl Fixture {
    /// 300,000 events: a third settled days ago, the rest waiting, in 3 lanes of 3 priorities.
    async fn fill(&self) {
        self.run(&format!(
            "ALTER TABLE outbox_events DISABLE TRIGGER USER;
             INSERT INTO outbox_events (id, event_type, payload, created_at)
             SELECT n, 'test', '{{\"to\": \"ada@example.org\"}}', now() - interval '10 days'
             FROM generate_series(1, 300000) n;
             INSERT INTO outbox_queue (event_id, due_at, priority, channel)
             SELECT n, now() - interval '1 hour' + n % 1000 * interval '1 second', n % 3 - 1, {LANE}
             FROM generate_series(100001, 300000) n;
             INSERT INTO outbox_deliveries (event_id, channel, status, attempts, finished_at)
             SELECT n, 'email', 'delivered', 1, now() - interval '5 days'
             FROM generate_series(1, 100000) n;
             INSERT INTO outbox_attempts
                 (event_id, channel, attempt, duration_ms, class, code, message)
             SELECT n, 'email', 1, 1, 'transient', '503', 'busy' FROM generate_series(1, 20000) n;
             UPDATE outbox_queue SET worker = 1, claims = 1 WHERE event_id <= {};
             ALTER TABLE outbox_events ENABLE TRIGGER USER",
            100_000 + LEASED
        ))
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

/// What the store says where a statement is planned for what is asked.
pub(crate) const PLANNED: &str = "SET LOCAL plan_cache_mode = force_custom_plan;
                       SET LOCAL enable_seqscan = on; SET LOCAL enable_bitmapscan = on";

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
async fn check_all(f: &Fixture, when: &str) {
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let mut connection = f.connect_as_the_store().await;
        run(&mut connection, &format!("SET plan_cache_mode = {mode}")).await;
        for statement in statements(&mut connection).await {
            statement.prepare(&mut connection).await;
            statement
                .check(&mut connection, &format!("{when}, {mode}"))
                .await;
        }
    }
}

#[tokio::test]
async fn with_statistics() {
    let f = fixture().await;
    f.two_workers().await;
    f.fill().await;
    f.run("ANALYZE").await;
    check_all(&f, "analysed").await;
}

#[tokio::test]
async fn with_the_statistics_of_empty_tables() {
    let f = fixture().await;
    f.stop_autovacuum().await;
    f.two_workers().await;
    f.run("ANALYZE").await;
    f.fill().await;
    check_all(&f, "analysed when empty").await;
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
    ] {
        let f = fixture().await;
        f.stop_autovacuum().await;
        f.two_workers().await;
        for statement in small.split(';') {
            f.run(statement).await;
        }
        let mut connection = f.connect_as_the_store().await;
        let statements = statements(&mut connection).await;
        for statement in &statements {
            statement.prepare(&mut connection).await;
            // After the fifth time PostgreSQL thinks about keeping a plan.
            let ten_times = format!("{};", statement.execute()).repeat(10);
            run(&mut connection, &format!("BEGIN; {ten_times} ROLLBACK")).await;
        }
        f.fill().await;
        for statement in &statements {
            statement
                .check(&mut connection, &format!("prepared when {tables}"))
                .await;
        }
    }
}

/// A claim of so many rows, as it is run.
pub(crate) async fn claims_of(f: &Fixture, rows: usize) -> Plan {
    let worker = f.worker().await;
    let claim = Statement {
        name: "claim",
        is_planned: false,
        sql: include_str!("../../sql/claim.sql"),
        types: CLAIM_TYPES,
        arguments: format!(
            "{worker}, ARRAY[''], ARRAY[{rows}], true, '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', 8, \
             '{{}}', '{{}}'"
        ),
        queue_index: "outbox_queue_due",
        queue_rows: 0,
        pages: 0,
    };
    let mut connection = f.connect_as_the_store().await;
    claim.prepare(&mut connection).await;
    explain(&mut connection, "", &claim.execute()).await
}

/// By the index also for applications that connected when the table was small.
#[tokio::test]
async fn a_dedup_key_is_looked_up_by_its_index() {
    let f = fixture().await;
    f.stop_autovacuum().await;
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
    let plan = explain(&mut application, "", "SELECT outbox_dedup_id('none')").await;
    assert!(plan.pages() < 100, "{plan}");
}

/// What makes a claim cheap: no index hears of it.
#[tokio::test]
async fn a_claim_is_a_heap_only_update() {
    let f = fixture().await;
    f.two_workers().await;
    f.enqueue(600).await;
    let mut connection = f.connect().await;
    let all = statements(&mut connection).await;
    all[0].prepare(&mut connection).await;
    run(&mut connection, &format!("BEGIN; {}", all[0].execute())).await;
    for (updates, expected) in [("updated", 100), ("hot_updated", 100)] {
        let count = format!("SELECT pg_stat_get_xact_tuples_{updates}('outbox_queue'::regclass)");
        assert_eq!(
            one::<i64>(&mut connection, &count).await,
            expected,
            "{updates}"
        );
    }
}

#[test]
fn what_is_sqlxs_own_is_taken_out() {
    let sql = "-- a \"quote\"\nSELECT a AS \"a!\", b AS \"b?: Json<Box<RawValue>>\", c";
    assert_eq!(plain(sql), "SELECT a AS \"a\", b AS \"b\", c");
}
