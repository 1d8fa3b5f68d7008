//! The statements that run all the time, as the driver prepares them, and what each may cost.

use crate::common::{one, run};
use crate::explain::{BEGIN, BEGIN_PLANNED, Plan, explain};
use sqlx::postgres::PgConnection;

/// A statement with arguments, and what it may read.
pub(super) struct Statement {
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
    pub(super) types: &'static str,
    pub(super) arguments: String,
    pub(super) begin: &'static str,
    /// How the queue is to be read, and no other way.
    pub(super) indexes: &'static [&'static str],
    /// At most so many rows of any table.
    pub(super) rows: u64,
    /// At most so many 8 kB pages, each as often as it is touched.
    pub(super) pages: u64,
}

/// Lanes of the rows of the big table, in SQL's words: `n` is the event.
pub(super) const LANE: &str = "(ARRAY['', 'email', 'crm'])[n / 3 % 3 + 1]";
/// These are leased, ahead of all others in their lanes, and settled in one go.
pub(super) const FIRST_LEASED: u64 = 100_001;
pub(super) const LEASED: u64 = 200;
const BY_DUE: &[&str] = &["outbox_queue_due"];
const BY_EVENT: &[&str] = &["outbox_queue_pkey"];
/// And the row before one that has to wait.
const BY_KEY: &[&str] = &["outbox_queue_due", "outbox_queue_key", "outbox_queue_pkey"];
/// The next of each key, and where a row that is let go lies.
const BY_EVENT_AND_KEY: &[&str] = &["outbox_queue_key", "outbox_queue_pkey"];
/// Wanted by the claims of all lanes.
const CLAIMED: u64 = 250;

/// Of events without a key, in three lanes.
pub(super) async fn unkeyed(connection: &mut PgConnection) -> Vec<Statement> {
    let leased = Leased::look(connection, LANE).await;
    vec![
        claim_sweep(),
        claim_next(),
        read_events(FIRST_LEASED, FIRST_LEASED + LEASED - 1),
        read_events_apart(),
        next_due(),
        Statement {
            indexes: BY_EVENT,
            pages: 8 * LEASED,
            ..settle(&leased)
        },
        begin_attempts(&leased),
        look_up("contents", include_str!("../../../sql/contents.sql")),
        look_up(
            "named_channels",
            include_str!("../../../sql/named_channels.sql"),
        ),
        prune(),
    ]
}

/// Of events that all have a key and wait in one lane. The settle lets so many blocked rows go.
pub(super) async fn keyed(connection: &mut PgConnection, let_go: u64) -> Vec<Statement> {
    let leased = Leased::look(connection, "''::text").await;
    let claim = |name, is_sweep: bool| Statement {
        name,
        arguments: format!(
            "2, ARRAY[''], ARRAY[{CLAIMED}], {is_sweep}, ARRAY[''], ARRAY[0]::smallint[], \
             ARRAY[now() - interval '90 minutes'], ARRAY[0], ARRAY['email'], 8, '{{}}', '{{}}'"
        ),
        indexes: BY_KEY,
        // Each, the one before it in its key, and those behind it.
        rows: 4 * CLAIMED + LEASED + 12,
        pages: 19 * CLAIMED,
        ..claim_sweep()
    };
    vec![
        claim("claim_keyed_sweep", true),
        claim("claim_keyed_next", false),
        Statement {
            name: "settle_keyed",
            indexes: BY_EVENT_AND_KEY,
            pages: 12 * LEASED + 20 * let_go,
            ..settle(&leased)
        },
    ]
}

/// A sweep of so many rows by that worker, of events without a key in one lane.
pub(super) fn claim_of(worker: &str, rows: usize) -> Statement {
    Statement {
        arguments: format!(
            "{worker}, ARRAY[''], ARRAY[{rows}], true, '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', 8, \
             '{{}}', '{{}}'"
        ),
        ..claim_sweep()
    }
}

pub(super) fn claim_sweep() -> Statement {
    Statement {
        name: "claim_sweep",
        sql: include_str!("../../../sql/claim.sql"),
        types: "int, text[], int[], bool, text[], smallint[], timestamptz[], bigint[], text[], \
                int, bigint[], text[]",
        arguments: "2, ARRAY['', 'email', 'crm'], ARRAY[100, 50, 100], true, '{}', '{}', '{}', \
                    '{}', ARRAY['email', 'crm'], 8, '{}', '{}'"
            .to_owned(),
        begin: BEGIN,
        indexes: BY_DUE,
        // What is claimed, what is leased before it, and a look at each priority.
        rows: CLAIMED + LEASED + 12,
        pages: 7 * CLAIMED,
    }
}

/// From behind those that are leased.
fn claim_next() -> Statement {
    Statement {
        name: "claim_next",
        arguments: "2, ARRAY['', 'email', 'crm'], ARRAY[100, 50, 100], false, \
                    ARRAY['', '', '', 'email', 'crm'], ARRAY[-1, 0, 1, -1, -1]::smallint[], \
                    array_fill(now() - interval '90 minutes', ARRAY[5]), \
                    array_fill(0, ARRAY[5]), ARRAY['email', 'crm'], 8, '{}', '{}'"
            .to_owned(),
        rows: CLAIMED + 12,
        ..claim_sweep()
    }
}

/// Of consecutive rows.
pub(super) fn read_events(first: u64, last: u64) -> Statement {
    Statement {
        name: "read_events",
        sql: include_str!("../../../sql/read_events.sql"),
        types: "bigint[], bigint[]",
        arguments: format!("ARRAY[{first}], ARRAY[{last}]"),
        begin: BEGIN,
        indexes: &[],
        rows: LEASED,
        // Each lies in a page that is touched again.
        pages: LEASED + 20,
    }
}

/// Of rows none of which is next to another.
fn read_events_apart() -> Statement {
    let ids = (0..LEASED).map(|n| (FIRST_LEASED + 2 * n).to_string());
    let ids = ids.collect::<Vec<_>>().join(", ");
    Statement {
        name: "read_events_apart",
        arguments: format!("ARRAY[{ids}], ARRAY[{ids}]"),
        pages: 5 * LEASED,
        ..read_events(0, 0)
    }
}

fn next_due() -> Statement {
    Statement {
        name: "next_due",
        sql: include_str!("../../../sql/next_due.sql"),
        types: "text[]",
        arguments: "ARRAY['', 'email', 'crm']".to_owned(),
        begin: BEGIN,
        indexes: BY_DUE,
        rows: 30,
        pages: 100,
    }
}

fn begin_attempts(leased: &Leased) -> Statement {
    let Leased { ids, lanes } = leased;
    Statement {
        name: "begin_attempts",
        sql: include_str!("../../../sql/begin_attempts.sql"),
        types: "int, bigint[], text[]",
        arguments: format!("1, '{ids}', '{lanes}'"),
        begin: BEGIN,
        indexes: BY_EVENT,
        rows: LEASED,
        // And what it takes to ask for the first time whether a worker is alive.
        pages: 20 * LEASED,
    }
}

/// Each has two channels; about one of them there is something to say.
fn settle(leased: &Leased) -> Statement {
    let Leased { ids, lanes } = leased;
    let filled = |value: &str| format!("array_fill({value}, ARRAY[{LEASED}])");
    let (one_each, no_text) = (filled("1"), filled("NULL::text"));
    Statement {
        name: "settle",
        sql: include_str!("../../../sql/settle.sql"),
        types: "int, bigint[], text[], smallint[], bool[], bool, bigint[], text[], text[], int[], \
                bigint[], text[], text[], text[], int[], text[], text[], text[], text[], \
                bigint[], text[], text[], int[], float8[], bool[], bool[], bigint[], text[], \
                int[], int[], text[], text[], text[], text[], float8[]",
        arguments: format!(
            "1, '{ids}', '{lanes}', {}, {}, false, '{ids}', '{lanes}', {}, {one_each}, '{ids}', \
             '{lanes}', {}, {}, {one_each}, {no_text}, {no_text}, {no_text}, {no_text}{}",
            filled("1::smallint"),
            filled("false"),
            filled("'email'::text"),
            filled("'crm'::text"),
            filled("'delivered'::text"),
            ", '{}'".repeat(16)
        ),
        begin: BEGIN,
        indexes: BY_EVENT,
        // Each of them, its two results, or the next of its key.
        rows: 3 * LEASED,
        pages: 0,
    }
}

/// What was left behind of one event.
fn look_up(name: &'static str, sql: &'static str) -> Statement {
    Statement {
        name,
        sql,
        types: "bigint, bigint",
        arguments: format!("{FIRST_LEASED}, 1000"),
        begin: BEGIN,
        indexes: &[],
        rows: 1,
        pages: 10,
    }
}

fn prune() -> Statement {
    Statement {
        name: "prune",
        sql: include_str!("../../../sql/prune.sql"),
        types: "float8, bigint, bigint",
        arguments: "3, 100, 0".to_owned(),
        begin: BEGIN_PLANNED,
        indexes: BY_EVENT,
        rows: 200,
        pages: 2000,
    }
}

/// Arrays of the leased rows.
struct Leased {
    ids: String,
    lanes: String,
}

impl Leased {
    async fn look(connection: &mut PgConnection, lane: &str) -> Self {
        let leased = |column: &str| {
            let last = FIRST_LEASED + LEASED - 1;
            format!(
                "SELECT array_agg({column} ORDER BY n)::text \
                 FROM generate_series({FIRST_LEASED}, {last}) n"
            )
        };
        Self {
            ids: one(connection, &leased("n")).await,
            lanes: one(connection, &leased(lane)).await,
        }
    }
}

impl Statement {
    pub(super) async fn prepare(&self, connection: &mut PgConnection) {
        let Self { name, types, .. } = self;
        let prepare = format!("PREPARE {name} ({types}) AS {}", plain(self.sql));
        run(connection, &prepare).await;
    }

    pub(super) fn execute(&self) -> String {
        format!("EXECUTE {} ({})", self.name, self.arguments)
    }

    /// Runs it, takes back what it did, and tells how it did it.
    pub(super) async fn plan(&self, connection: &mut PgConnection) -> Plan {
        explain(connection, self.begin, &self.execute()).await
    }

    pub(super) async fn check(&self, connection: &mut PgConnection, when: &str) {
        let plan = self.plan(connection).await;
        let complaint = self.complaint(&plan);
        assert!(
            complaint.is_none(),
            "{} {when}: {}\n{plan}",
            self.name,
            complaint.unwrap_or_default()
        );
    }

    /// What is wrong with how it was run.
    pub(super) fn complaint(&self, plan: &Plan) -> Option<String> {
        let queue = plan.reads("outbox_queue");
        let others = queue
            .indexes
            .iter()
            .find(|index| !self.indexes.contains(index));
        if let Some(index) = others {
            return Some(format!("reads the queue by {index}"));
        }
        for table in ["queue", "events", "deliveries", "attempts"] {
            let name = format!("outbox_{table}");
            let rows = plan.reads(&name).rows;
            if plan.walks_over(&name) {
                return Some(format!("walks over {name}"));
            } else if rows > self.rows {
                return Some(format!("reads {rows} rows of {name}"));
            }
        }
        if plan.sorts_more_than(self.rows) {
            return Some("sorts the backlog".to_owned());
        }
        if plan.has_jit() {
            return Some("is compiled".to_owned());
        }
        let pages = plan.pages();
        (pages > self.pages).then(|| format!("touches {pages} pages"))
    }
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

#[test]
fn what_is_sqlxs_own_is_taken_out() {
    let sql = "-- a \"quote\"\nSELECT a AS \"a!\", b AS \"b?: Json<Box<RawValue>>\", c";
    assert_eq!(plain(sql), "SELECT a AS \"a\", b AS \"b\", c");
}
