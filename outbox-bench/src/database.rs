//! A database of one measurement's own.

use crate::bench::url_of;
use crate::meter;
use anyhow::Context;
use outbox_store::{Store, StoreOptions};
use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgPool, PgRow};
use sqlx::{Row, postgres::PgQueryResult};
use std::sync::Arc;

/// Dropped, on the server too, by [`finish`](Self::finish).
pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) pool: PgPool,
    admin: PgPool,
    name: String,
    has_statements: bool,
}

/// The events to write.
#[derive(Clone)]
pub(crate) struct Fill {
    pub(crate) count: u64,
    pub(crate) event_type: &'static str,
    /// An SQL expression over `n`, which counts from 1.
    pub(crate) key: &'static str,
    pub(crate) payload: Arc<str>,
}

/// Where the server's time went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Statement {
    pub(crate) statement: String,
    pub(crate) calls: i64,
    pub(crate) planning_ms: f64,
    pub(crate) execution_ms: f64,
    pub(crate) rows: i64,
}

impl Fill {
    /// Events without a key, with payloads of about `bytes`.
    pub(crate) fn new(count: u64, bytes: usize) -> Self {
        Self {
            count,
            event_type: "bench",
            key: "NULL",
            payload: payload(bytes),
        }
    }

    pub(crate) fn of_type(mut self, event_type: &'static str) -> Self {
        self.event_type = event_type;
        self
    }

    pub(crate) fn keyed(mut self, key: &'static str) -> Self {
        self.key = key;
        self
    }
}

/// The size of a payload where it is not what is measured.
pub(crate) const PAYLOAD_BYTES: usize = 300;

/// A JSON object of about so many bytes, which does not compress well.
pub(crate) fn payload(bytes: usize) -> Arc<str> {
    let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
    let letters = std::iter::repeat_with(|| {
        // xorshift64: the same payload in every run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'a' + (state >> 32).to_le_bytes()[0] % 26)
    });
    let text: String = letters.take(bytes.saturating_sub(12)).collect();
    format!(r#"{{"text": "{text}"}}"#).into()
}

impl Database {
    pub(crate) async fn create(admin: &PgPool, server: &str, name: String) -> anyhow::Result<Self> {
        let create = format!("CREATE DATABASE {name} TEMPLATE template0");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(admin).await?;
        let url = url_of(server, &name)?;
        let pool = crate::pool::connect(&url, 1).await?;
        let extension = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements";
        let has_statements = sqlx::raw_sql(extension).execute(&pool).await.is_ok()
            && sqlx::raw_sql("SELECT FROM pg_stat_statements LIMIT 1")
                .execute(&pool)
                .await
                .is_ok();
        let admin = admin.clone();
        Ok(Self {
            url,
            pool,
            admin,
            name,
            has_statements,
        })
    }

    pub(crate) async fn migrate(&self) -> anyhow::Result<()> {
        let store = self.store(1).await?;
        store.migrate().await?;
        store.close().await;
        Ok(())
    }

    /// Our tables, over so many connections.
    pub(crate) async fn store(&self, connections: u32) -> anyhow::Result<Store> {
        let mut options = StoreOptions::new(&self.url);
        options.max_connections = connections;
        Ok(Store::connect(&options).await?)
    }

    /// Writes events as a producer does, in transactions of 100,000, and brings the planner's
    /// statistics up to date. A checkpoint comes first: what follows pays for no full pages but
    /// its own.
    pub(crate) async fn fill(&self, fill: &Fill) -> anyhow::Result<()> {
        const CHUNK: u64 = 100_000;
        self.run("CHECKPOINT").await?;
        let insert = format!(
            "INSERT INTO outbox_events (event_type, key, payload)
             SELECT $1, {}, $2::jsonb FROM generate_series($3::bigint, $4::bigint) AS n",
            fill.key
        );
        let mut from = 1;
        while from <= fill.count {
            let to = fill.count.min(from + CHUNK - 1);
            sqlx::query(AssertSqlSafe(insert.clone()))
                .bind(fill.event_type)
                .bind(&*fill.payload)
                .bind(i64::try_from(from)?)
                .bind(i64::try_from(to)?)
                .execute(&self.pool)
                .await?;
            from = to + 1;
        }
        self.run("ANALYZE").await?;
        Ok(())
    }

    /// One statement, or several.
    pub(crate) async fn run(&self, sql: impl Into<String>) -> anyhow::Result<PgQueryResult> {
        let sql: String = sql.into();
        let ran = sqlx::raw_sql(AssertSqlSafe(sql.clone()))
            .execute(&self.pool)
            .await;
        ran.with_context(|| format!("this statement failed: {sql}"))
    }

    /// Whether nothing is left to do.
    pub(crate) async fn is_drained(&self) -> anyhow::Result<bool> {
        let query = "SELECT NOT EXISTS (SELECT FROM outbox_queue)";
        Ok(sqlx::query_scalar(query).fetch_one(&self.pool).await?)
    }

    /// How many bytes of write-ahead log the server has written.
    pub(crate) async fn wal(&self) -> anyhow::Result<f64> {
        let query = "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8";
        Ok(sqlx::query_scalar(query).fetch_one(&self.pool).await?)
    }

    /// CPU seconds of the whole server so far, when it runs on this machine.
    pub(crate) async fn server_cpu(&self) -> anyhow::Result<Option<f64>> {
        let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(&self.pool)
            .await?;
        Ok(meter::postmaster_of(pid.unsigned_abs()).and_then(meter::cpu_of_tree))
    }

    /// How many statements this database was asked to run; transactions, where the server does
    /// not count statements.
    pub(crate) async fn statements_run(&self) -> anyhow::Result<f64> {
        let query = if self.has_statements {
            "SELECT coalesce(sum(calls), 0)::float8 FROM pg_stat_statements s
             JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database()"
        } else {
            "SELECT xact_commit::float8 FROM pg_stat_database WHERE datname = current_database()"
        };
        Ok(sqlx::query_scalar(query).fetch_one(&self.pool).await?)
    }

    /// Begins to count where the time goes.
    pub(crate) async fn profile(&self) -> anyhow::Result<()> {
        if self.has_statements {
            self.run("SELECT pg_stat_statements_reset()").await?;
        }
        Ok(())
    }

    /// The costliest statements since [`profile`](Self::profile); none where the server does not
    /// count them.
    pub(crate) async fn statements(&self) -> anyhow::Result<Vec<Statement>> {
        if !self.has_statements {
            return Ok(Vec::new());
        }
        let query =
            "SELECT query, calls, total_plan_time, total_exec_time, rows FROM pg_stat_statements s
             JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database()
             ORDER BY total_plan_time + total_exec_time DESC LIMIT 6";
        let rows = sqlx::query(query).fetch_all(&self.pool).await?;
        let statement = |row: &PgRow| {
            let text: String = row.try_get("query")?;
            Ok(Statement {
                statement: summary(&text),
                calls: row.try_get("calls")?,
                planning_ms: row.try_get("total_plan_time")?,
                execution_ms: row.try_get("total_exec_time")?,
                rows: row.try_get("rows")?,
            })
        };
        rows.iter().map(statement).collect()
    }

    pub(crate) async fn finish(self) -> anyhow::Result<()> {
        self.pool.close().await;
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        sqlx::raw_sql(AssertSqlSafe(drop))
            .execute(&self.admin)
            .await?;
        Ok(())
    }
}

/// The first sentence of the comment a statement begins with, or its first words.
fn summary(statement: &str) -> String {
    let line = statement
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    line.trim()
        .trim_start_matches("-- ")
        .chars()
        .take(70)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_about_the_size_that_was_asked_for() {
        for bytes in [300, 4_096, 100_000] {
            assert_eq!(payload(bytes).len(), bytes);
            assert!(serde_json::from_str::<serde_json::Value>(&payload(bytes)).is_ok());
        }
    }

    #[test]
    fn a_statement_is_known_by_its_comment() {
        assert_eq!(summary("-- Leases due rows,\nWITH x"), "Leases due rows,");
        assert_eq!(summary("\n  SELECT 1\n"), "SELECT 1");
    }
}
