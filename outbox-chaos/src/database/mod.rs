//! PostgreSQL: a server that is broken, and what it says in the end.

mod audit;
mod disk;
mod trouble;

#[cfg(test)]
pub(crate) use audit::Lapse;
pub(crate) use audit::{Hold, Stored, StoredEvent, StoredResult};

use anyhow::Context;
use disk::Disk;
use outbox_sandbox::postgres::{Cluster, ClusterOptions, StopMode};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

/// Whom workers, producers and operators connect as. What is done to the server's sessions is
/// done to this role's; the judge has one of his own.
pub(crate) const APP: &str = "app";

/// A server with durable defaults.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    cluster: Arc<Mutex<Cluster>>,
    pub(crate) address: SocketAddr,
    /// Where all tables are; or why they are on the machine's own disk, which must not be filled.
    disk: Arc<Result<Disk, String>>,
}

impl Database {
    /// `events` is about how many will be written.
    pub(crate) async fn start(events: f64) -> anyhow::Result<Self> {
        let start = move || {
            let mut options = ClusterOptions::default();
            // Removed rows give their room back soon, and deadlocks end soon.
            let settings = [("autovacuum_naptime", "5s"), ("deadlock_timeout", "100ms")];
            options.settings = settings
                .map(|(name, value)| (name.into(), value.into()))
                .into();
            let cluster = Cluster::start(options)?;
            let disk = Disk::mount(&cluster.data_dir(), events);
            anyhow::Ok((cluster, disk))
        };
        let (cluster, disk) = spawn_blocking(start).await??;
        let database = Self {
            address: (Ipv4Addr::LOCALHOST, cluster.port()).into(),
            cluster: Arc::new(Mutex::new(cluster)),
            disk: Arc::new(disk),
        };
        database.make_role().await?;
        Ok(database)
    }

    async fn make_role(&self) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        let mut statements = vec![
            format!("CREATE ROLE {APP} LOGIN"),
            format!("GRANT CREATE ON SCHEMA public TO {APP}"),
        ];
        if let Ok(disk) = self.disk.as_ref() {
            let folder = disk.folder().display();
            statements.extend([
                format!("CREATE TABLESPACE small LOCATION '{folder}'"),
                format!("GRANT CREATE ON TABLESPACE small TO {APP}"),
                format!("ALTER ROLE {APP} SET default_tablespace = 'small'"),
            ]);
        }
        for statement in statements {
            trouble::execute(&mut connection, statement).await?;
        }
        Ok(())
    }

    /// Why its disk cannot be filled, if it cannot.
    pub(crate) fn without_disk(&self) -> Option<&str> {
        self.disk.as_ref().as_ref().err().map(String::as_str)
    }

    /// It dies, stays away for so long, and is there again when this returns.
    async fn crash(&self, down: Duration) -> anyhow::Result<()> {
        let mut cluster = Arc::clone(&self.cluster).lock_owned().await;
        let again = spawn_blocking(move || {
            cluster.stop(StopMode::Immediate)?;
            std::thread::sleep(down);
            cluster.restart()
        });
        again.await?.context("PostgreSQL does not come back")
    }

    /// A session that no setting of the server's touches.
    pub(crate) async fn connect(&self) -> anyhow::Result<PgConnection> {
        let options = PgConnectOptions::new_without_pgpass()
            .host(&self.address.ip().to_string())
            .port(self.address.port())
            .username("postgres")
            .database("postgres")
            .application_name("judge")
            .options([
                ("statement_timeout", "0"),
                ("default_transaction_read_only", "off"),
                ("default_transaction_isolation", "read committed"),
            ]);
        let connection = options.connect().await;
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

    /// Stops the server for good, and copies its data and its log into `folder`; returns where the
    /// data are.
    pub(crate) async fn keep(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let mut cluster = Arc::clone(&self.cluster).lock_owned().await;
        let folder = folder.to_owned();
        spawn_blocking(move || {
            cluster.stop(StopMode::Fast)?;
            let (data, copy) = (cluster.data_dir(), folder.join("data"));
            // With all links followed: one leads to the small disk.
            let copied = Command::new("cp")
                .arg("-rpL")
                .arg(&data)
                .arg(&copy)
                .status()?;
            anyhow::ensure!(copied.success(), "`cp` ended with {copied}");
            std::fs::copy(data.with_file_name("log"), folder.join("postgresql.log"))?;
            Ok(copy)
        })
        .await?
    }
}
