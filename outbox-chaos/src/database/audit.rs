//! What the database tells in the end, kept by triggers (`audit.sql`): retention removes it from
//! the tables that workers use.

use super::Database;
use crate::journal::{At, Journal};
use sqlx::{Executor, FromRow, PgConnection};
use std::time::{Duration, SystemTime};

/// A row that `outbox_events` had.
#[derive(Debug, Clone)]
pub(crate) struct StoredEvent {
    pub(crate) id: i64,
    pub(crate) token: String,
    pub(crate) event_type: String,
    pub(crate) key: Option<String>,
    pub(crate) dedup_key: Option<String>,
    /// The beginning of the run, for what was due at once.
    pub(crate) deliver_at: At,
    pub(crate) expires_at: Option<At>,
    pub(crate) max_retries: Option<i32>,
    pub(crate) written: At,
    pub(crate) pruned: Option<At>,
    /// There was still work to do.
    pub(crate) pruned_early: bool,
}

/// A result that a delivery got, or had taken away.
#[derive(Debug, Clone)]
pub(crate) struct StoredResult {
    pub(crate) event_id: i64,
    /// Empty: before the event was routed.
    pub(crate) channel: String,
    /// `None`: it was taken back, to be made again.
    pub(crate) status: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) at: At,
}

/// A delivery was held for a human, or let go to be made again.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub(crate) event_id: i64,
    pub(crate) channel: String,
    pub(crate) is_held: bool,
    pub(crate) at: At,
}

/// A lease that ended without its worker giving it back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lapse {
    pub(crate) pid: u32,
    pub(crate) at: At,
}

/// What the database says in the end, each in the order in which it happened.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stored {
    pub(crate) events: Vec<StoredEvent>,
    pub(crate) results: Vec<StoredResult>,
    pub(crate) holds: Vec<Hold>,
    pub(crate) lapses: Vec<Lapse>,
}

#[derive(FromRow)]
struct EventRow {
    id: i64,
    token: String,
    event_type: String,
    key: Option<String>,
    dedup_key: Option<String>,
    deliver_at: f64,
    expires_at: Option<f64>,
    max_retries: Option<i32>,
    written_at: f64,
    pruned_at: Option<f64>,
    pruned_early: bool,
}

const EVENTS: &str = "\
SELECT id, token, event_type, key, dedup_key, extract(epoch FROM deliver_at)::float8 AS deliver_at,
       extract(epoch FROM expires_at)::float8 AS expires_at, max_retries,
       extract(epoch FROM written_at)::float8 AS written_at,
       extract(epoch FROM pruned_at)::float8 AS pruned_at, pruned_early
FROM chaos_events ORDER BY id";

type ResultRow = (
    i64,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    f64,
);

const RESULTS: &str = "\
SELECT event_id, channel, status, code, message, extract(epoch FROM at)::float8
FROM chaos_results ORDER BY seq";

const HOLDS: &str = "\
SELECT event_id, channel, is_held, extract(epoch FROM at)::float8 FROM chaos_holds ORDER BY at";

// Those that ran out. A worker that ends in order takes its row with it.
const LAPSES: &str = "\
SELECT split_part(name, ':', -1)::bigint, extract(epoch FROM alive_until)::float8
FROM (SELECT name, alive_until FROM outbox_workers
      UNION ALL SELECT name, alive_until FROM chaos_leases) AS leases";

impl Database {
    /// Once the tables are there, and before anything is in them.
    pub(crate) async fn watch(&self) -> anyhow::Result<()> {
        let watch = sqlx::raw_sql(include_str!("audit.sql"));
        self.connect().await?.execute(watch).await?;
        Ok(())
    }

    pub(crate) async fn read(&self, journal: &Journal) -> anyhow::Result<Stored> {
        let mut connection = self.connect().await?;
        let at = |epoch: f64| {
            let epoch = Duration::try_from_secs_f64(epoch).unwrap_or_default();
            journal.at(SystemTime::UNIX_EPOCH + epoch)
        };
        Ok(Stored {
            events: read_events(&mut connection, at).await?,
            results: read_results(&mut connection, at).await?,
            holds: read_holds(&mut connection, at).await?,
            lapses: read_lapses(&mut connection, at).await?,
        })
    }

    /// How many rows the queue has.
    pub(crate) async fn queued(&self) -> anyhow::Result<i64> {
        let mut connection = self.connect().await?;
        let count = sqlx::query_scalar("SELECT count(*) FROM outbox_queue");
        Ok(count.fetch_one(&mut connection).await?)
    }

    /// What is left in the queue and who has it, for people; the first rows.
    pub(crate) async fn left(&self) -> anyhow::Result<Vec<String>> {
        let mut connection = self.connect().await?;
        let rows = sqlx::query_scalar(
            "SELECT format('event %s, channel %L, key %s, due in %s, attempt %s, takeovers %s, \
                           blocked %s, worker %s (%s)',
                           q.event_id, q.channel, coalesce(q.key, '-'),
                           CASE WHEN q.due_at < 'infinity' THEN (q.due_at - now())::text
                                ELSE 'infinity' END,
                           q.attempt, q.takeovers, q.blocked, coalesce(q.worker::text, '-'),
                           CASE WHEN w.alive_until > now() THEN 'alive, ' || w.name
                                WHEN w.id IS NULL THEN 'gone' ELSE 'dead' END)
             FROM outbox_queue q LEFT JOIN outbox_workers w ON w.id = q.worker
             ORDER BY q.due_at, q.event_id LIMIT 20",
        );
        Ok(rows.fetch_all(&mut connection).await?)
    }

    /// The pids of workers with a lease.
    pub(crate) async fn leaseholders(&self) -> anyhow::Result<Vec<u32>> {
        let mut connection = self.connect().await?;
        let pids: Vec<i64> = sqlx::query_scalar(
            "SELECT split_part(name, ':', -1)::bigint FROM outbox_workers \
             WHERE alive_until > now()",
        )
        .fetch_all(&mut connection)
        .await?;
        Ok(pids
            .into_iter()
            .filter_map(|pid| pid.try_into().ok())
            .collect())
    }
}

async fn read_events(
    connection: &mut PgConnection,
    at: impl Fn(f64) -> At,
) -> sqlx::Result<Vec<StoredEvent>> {
    let rows: Vec<EventRow> = sqlx::query_as(EVENTS).fetch_all(connection).await?;
    let event = |row: EventRow| StoredEvent {
        id: row.id,
        token: row.token,
        event_type: row.event_type,
        key: row.key,
        dedup_key: row.dedup_key,
        deliver_at: at(row.deliver_at),
        expires_at: row.expires_at.map(&at),
        max_retries: row.max_retries,
        written: at(row.written_at),
        pruned: row.pruned_at.map(&at),
        pruned_early: row.pruned_early,
    };
    Ok(rows.into_iter().map(event).collect())
}

async fn read_results(
    connection: &mut PgConnection,
    at: impl Fn(f64) -> At,
) -> sqlx::Result<Vec<StoredResult>> {
    let rows: Vec<ResultRow> = sqlx::query_as(RESULTS).fetch_all(connection).await?;
    let result = |(event_id, channel, status, code, message, epoch)| StoredResult {
        event_id,
        channel,
        status,
        code,
        message,
        at: at(epoch),
    };
    Ok(rows.into_iter().map(result).collect())
}

async fn read_holds(
    connection: &mut PgConnection,
    at: impl Fn(f64) -> At,
) -> sqlx::Result<Vec<Hold>> {
    let rows: Vec<(i64, String, bool, f64)> = sqlx::query_as(HOLDS).fetch_all(connection).await?;
    let hold = |(event_id, channel, is_held, epoch)| Hold {
        event_id,
        channel,
        is_held,
        at: at(epoch),
    };
    Ok(rows.into_iter().map(hold).collect())
}

async fn read_lapses(
    connection: &mut PgConnection,
    at: impl Fn(f64) -> At,
) -> sqlx::Result<Vec<Lapse>> {
    let rows: Vec<(i64, f64)> = sqlx::query_as(LAPSES).fetch_all(connection).await?;
    let lapse = |(pid, epoch): (i64, f64)| {
        let pid = pid.try_into().ok()?;
        Some(Lapse { pid, at: at(epoch) })
    };
    Ok(rows.into_iter().filter_map(lapse).collect())
}
