//! What `EXPLAIN (ANALYZE)` tells, as far as tests ask.

use crate::common::run;
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};
use std::collections::BTreeSet;
use std::fmt;

pub(crate) const BEGIN: &str = "BEGIN";

/// As the store begins where a statement is planned for what is asked.
pub(crate) const BEGIN_PLANNED: &str = include_str!("../../sql/begin_planned.sql");

pub(crate) struct Plan(Value);

/// How a table was read.
#[derive(Default)]
pub(crate) struct Reads<'p> {
    /// By which indexes.
    pub(crate) indexes: BTreeSet<&'p str>,
    /// Rows, those included that a filter threw away.
    pub(crate) rows: u64,
}

/// Runs a statement after what begins its transaction, looks at how that was done, and takes it
/// back.
pub(crate) async fn explain(connection: &mut PgConnection, begin: &str, statement: &str) -> Plan {
    run(connection, begin).await;
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}");
    let row = sqlx::raw_sql(AssertSqlSafe(explain))
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    run(connection, "ROLLBACK").await;
    let mut plans: Value = row.get(0);
    Plan(plans[0].take())
}

impl Plan {
    /// The nodes that were run: a branch that turns out not to be needed is not.
    fn nodes(&self) -> Vec<&Value> {
        let mut nodes = vec![&self.0["Plan"]];
        let mut at = 0;
        while let Some(node) = nodes.get(at) {
            nodes.extend(node["Plans"].as_array().into_iter().flatten());
            at += 1;
        }
        nodes.retain(|node| number(node, "Actual Loops") > 0);
        nodes
    }

    /// Whether more rows went into a sort than these, however few came out of it: a batch may be
    /// sorted, the backlog never.
    pub(crate) fn sorts_more_than(&self, rows: u64) -> bool {
        let is_sort =
            |node: &&Value| text(node, "Node Type").is_some_and(|kind| kind.contains("Sort"));
        let mut sorts = self.nodes().into_iter().filter(is_sort);
        sorts.any(|sort| total(&sort["Plans"][0], "Actual Rows") > rows)
    }

    /// Whether a whole table was read.
    pub(crate) fn walks_over(&self, table: &str) -> bool {
        self.nodes().into_iter().any(|node| {
            text(node, "Relation Name") == Some(table)
                && text(node, "Node Type") == Some("Seq Scan")
        })
    }

    pub(crate) fn reads(&self, table: &str) -> Reads<'_> {
        let mut reads = Reads::default();
        for node in self.nodes() {
            let index = text(node, "Index Name");
            let of_table = text(node, "Relation Name") == Some(table)
                || index.is_some_and(|index| index.starts_with(table));
            // Addresses were found by another scan, and bitmaps are counted where they are made.
            let kind = text(node, "Node Type").unwrap_or_default();
            if of_table && !matches!(kind, "Tid Scan" | "ModifyTable" | "Bitmap Heap Scan") {
                let rows = total(node, "Actual Rows") + total(node, "Rows Removed by Filter");
                // One that was asked for nothing, or had nothing, does not count.
                reads.indexes.extend(index.filter(|_| rows > 0));
                reads.rows += rows;
            }
        }
        reads
    }

    pub(crate) fn has_jit(&self) -> bool {
        self.0.get("JIT").is_some()
    }

    /// 8 kB pages touched.
    pub(crate) fn pages(&self) -> u64 {
        let plan = &self.0["Plan"];
        number(plan, "Shared Hit Blocks") + number(plan, "Shared Read Blocks")
    }
}

fn text<'v>(node: &'v Value, name: &str) -> Option<&'v str> {
    node[name].as_str()
}

/// Over all loops. PostgreSQL tells the average of them, rounded: few in many are none.
fn total(node: &Value, name: &str) -> u64 {
    number(node, name) * number(node, "Actual Loops")
}

/// A count.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are small and not negative"
)]
fn number(node: &Value, name: &str) -> u64 {
    node[name].as_f64().unwrap_or_default().ceil() as u64
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}
