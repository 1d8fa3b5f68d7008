//! What is done to the server while everybody uses it.

use super::{APP, Database};
use crate::fault::{Table, Trouble};
use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// One statement, made of nothing but what is written here and there in this crate.
pub(super) async fn execute(
    connection: &mut PgConnection,
    statement: String,
) -> Result<(), sqlx::Error> {
    connection.execute(AssertSqlSafe(statement)).await.map(drop)
}

impl Database {
    /// Whether this trouble can be made here.
    pub(crate) fn can_suffer(&self, trouble: Trouble) -> bool {
        trouble != Trouble::DiskFull || self.disk.is_ok()
    }

    /// Makes trouble for so long; it is over when this returns.
    pub(crate) async fn suffer(&self, trouble: Trouble, lasts: Duration) -> anyhow::Result<()> {
        match trouble {
            Trouble::Crash => self.crash(lasts).await,
            Trouble::Disconnect => self.disconnect().await,
            Trouble::Connections(most) => self.limit_connections(most, lasts).await,
            Trouble::ReadOnly => self.set("default_transaction_read_only", "on", lasts).await,
            Trouble::StatementTimeout(millis) => {
                self.set("statement_timeout", &millis.to_string(), lasts)
                    .await
            }
            Trouble::Serializable => {
                self.set("default_transaction_isolation", "serializable", lasts)
                    .await
            }
            Trouble::Locked(table) => self.lock(table, lasts).await,
            Trouble::Deadlocks => self.lock_rows_backwards(lasts).await,
            Trouble::Frozen(sessions) => self.freeze(sessions, lasts).await,
            Trouble::DiskFull => self.fill_disk(lasts).await,
        }
    }

    /// What sessions that there are notice at once.
    async fn set(&self, name: &str, value: &str, lasts: Duration) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        let reload = || "SELECT pg_reload_conf()".to_owned();
        execute(
            &mut connection,
            format!("ALTER SYSTEM SET {name} = '{value}'"),
        )
        .await?;
        execute(&mut connection, reload()).await?;
        sleep(lasts).await;
        execute(&mut connection, format!("ALTER SYSTEM RESET {name}")).await?;
        execute(&mut connection, reload()).await?;
        Ok(())
    }

    async fn disconnect(&self) -> anyhow::Result<()> {
        sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1")
            .bind(APP)
            .execute(&mut self.connect().await?)
            .await?;
        Ok(())
    }

    async fn limit_connections(&self, most: u8, lasts: Duration) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        let limit = |most: i16| format!("ALTER ROLE {APP} CONNECTION LIMIT {most}");
        execute(&mut connection, limit(most.into())).await?;
        self.disconnect().await?;
        sleep(lasts).await;
        execute(&mut connection, limit(-1)).await?;
        Ok(())
    }

    async fn lock(&self, table: Table, lasts: Duration) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        let mut transaction = connection.begin().await?;
        let statement = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", table.name());
        match execute(&mut transaction, statement).await {
            Ok(()) => sleep(lasts).await,
            // Whoever waits in a circle may be the victim.
            Err(error) if is_deadlock(&error) => {}
            Err(error) => return Err(error.into()),
        }
        transaction.rollback().await?;
        Ok(())
    }

    async fn lock_rows_backwards(&self, lasts: Duration) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut connection = self.connect().await?;
        while begun.elapsed() < lasts {
            let mut transaction = connection.begin().await?;
            match lock_some_rows(&mut transaction).await {
                Err(error) if !is_deadlock(&error) => return Err(error.into()),
                _ => transaction.rollback().await?,
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn freeze(&self, sessions: u8, lasts: Duration) -> anyhow::Result<()> {
        let pids: Vec<i32> = sqlx::query_scalar(
            "SELECT pid FROM pg_stat_activity WHERE usename = $1 \
             ORDER BY state = 'active' DESC, query_start DESC LIMIT $2",
        )
        .bind(APP)
        .bind(i64::from(sessions))
        .fetch_all(&mut self.connect().await?)
        .await?;
        // One that has ended meanwhile is not there any more.
        let tell = |signal| {
            for pid in &pids {
                let _ = kill(Pid::from_raw(*pid), signal);
            }
        };
        tell(Signal::SIGSTOP);
        sleep(lasts).await;
        tell(Signal::SIGCONT);
        Ok(())
    }

    async fn fill_disk(&self, lasts: Duration) -> anyhow::Result<()> {
        let on_disk = |deed: fn(&super::Disk) -> std::io::Result<()>| {
            let disk = std::sync::Arc::clone(&self.disk);
            spawn_blocking(move || disk.as_ref().as_ref().map_or(Ok(()), deed))
        };
        on_disk(super::Disk::fill)
            .await?
            .context("cannot fill the disk")?;
        sleep(lasts).await;
        on_disk(super::Disk::relieve)
            .await?
            .context("cannot empty the disk")
    }
}

/// Rows that workers have, the youngest first.
async fn lock_some_rows(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut below = i64::MAX;
    for _ in 0..10 {
        let next: Option<i64> = sqlx::query_scalar(
            "SELECT event_id FROM outbox_queue WHERE worker IS NOT NULL AND event_id < $1 \
             ORDER BY event_id DESC LIMIT 1 FOR UPDATE",
        )
        .bind(below)
        .fetch_optional(&mut *connection)
        .await?;
        let Some(next) = next else { break };
        below = next;
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn is_deadlock(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.as_deref() == Some("40P01")
}
