//! PostgreSQL: its crashes, and what it says in the end.

use crate::journal::{At, Journal};
use anyhow::Context;
use outbox_sandbox::postgres::{Cluster, ClusterOptions, StopMode};
use sqlx::{Connection, PgConnection};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

/// A server with durable defaults.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    cluster: Arc<Mutex<Cluster>>,
    url: String,
    pub(crate) address: SocketAddr,
}

/// A row of `outbox_events`.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct StoredEvent {
    pub(crate) id: i64,
    pub(crate) token: String,
    pub(crate) event_type: String,
    pub(crate) key: Option<String>,
    pub(crate) dedup_key: Option<String>,
}

/// A row of `outbox_deliveries`.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct StoredResult {
    pub(crate) event_id: i64,
    pub(crate) channel: String,
    pub(crate) status: String,
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
}

/// A lease that ended without its worker giving it back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lapse {
    pub(crate) pid: u32,
    pub(crate) at: At,
}

/// What the database says in the end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stored {
    pub(crate) events: Vec<StoredEvent>,
    pub(crate) results: Vec<StoredResult>,
    pub(crate) lapses: Vec<Lapse>,
}

impl Database {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let cluster = spawn_blocking(|| Cluster::start(ClusterOptions::default())).await??;
        Ok(Self {
            url: cluster.url("postgres"),
            address: (Ipv4Addr::LOCALHOST, cluster.port()).into(),
            cluster: Arc::new(Mutex::new(cluster)),
        })
    }

    /// Once the tables are there: keeps what workers say of their leases when they take the row
    /// along, so that it can be told in the end whose lease ran out when.
    pub(crate) async fn watch_leases(&self) -> anyhow::Result<()> {
        let watch = sqlx::raw_sql(
            "CREATE TABLE chaos_leases (LIKE outbox_workers);
             CREATE FUNCTION chaos_lease_ends() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF OLD.alive_until <= now() THEN
                     INSERT INTO chaos_leases SELECT OLD.*;
                 END IF;
                 RETURN OLD;
             END $$;
             CREATE TRIGGER chaos_lease_ends BEFORE DELETE ON outbox_workers
                 FOR EACH ROW EXECUTE FUNCTION chaos_lease_ends();",
        );
        watch.execute(&mut self.connect().await?).await?;
        Ok(())
    }

    /// It dies, stays away for so long, and is there again when this returns.
    pub(crate) async fn crash(&self, down: Duration) -> anyhow::Result<()> {
        let mut cluster = Arc::clone(&self.cluster).lock_owned().await;
        let again = spawn_blocking(move || {
            cluster.stop(StopMode::Immediate)?;
            std::thread::sleep(down);
            cluster.restart()
        });
        again.await?.context("PostgreSQL does not come back")
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<PgConnection> {
        let connection = PgConnection::connect(&self.url).await;
        connection.context("cannot connect to the database")
    }

    /// Waits until nothing of the producers is under way: what they sent before their
    /// connection broke may still take effect.
    pub(crate) async fn until_producers_are_gone(&self) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        loop {
            let left: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'producer'",
            )
            .fetch_one(&mut connection)
            .await?;
            if left == 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
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
                           worker %s (%s)',
                           q.event_id, q.channel, coalesce(q.key, '-'), q.due_at - now(),
                           q.attempt, q.takeovers, coalesce(q.worker::text, '-'),
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

    pub(crate) async fn read(&self, journal: &Journal) -> anyhow::Result<Stored> {
        let mut connection = self.connect().await?;
        let events = sqlx::query_as(
            "SELECT id, payload ->> 'token' AS token, event_type, key, dedup_key \
             FROM outbox_events ORDER BY id",
        );
        let events = events.fetch_all(&mut connection).await?;
        let results = sqlx::query_as(
            "SELECT event_id, channel, status, code, message FROM outbox_deliveries",
        );
        let results = results.fetch_all(&mut connection).await?;
        // Those that ran out. A worker that ends in order takes its row with it.
        let lapses: Vec<(i64, f64)> = sqlx::query_as(
            "SELECT split_part(name, ':', -1)::bigint, extract(epoch FROM alive_until)::float8 \
             FROM (SELECT name, alive_until FROM outbox_workers \
                   UNION ALL SELECT name, alive_until FROM chaos_leases) AS leases",
        )
        .fetch_all(&mut connection)
        .await?;
        let lapse = |(pid, epoch): (i64, f64)| {
            Some(Lapse {
                pid: pid.try_into().ok()?,
                at: journal.at(SystemTime::UNIX_EPOCH + Duration::try_from_secs_f64(epoch).ok()?),
            })
        };
        Ok(Stored {
            events,
            results,
            lapses: lapses.into_iter().filter_map(lapse).collect(),
        })
    }
}
