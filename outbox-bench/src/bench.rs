//! Where scenarios measure: a server, and how much to do on it.

use crate::cli::Run;
use crate::database::Database;
use crate::meter;
use anyhow::Context;
use outbox_sandbox::postgres::{Cluster, ClusterOptions};
use sqlx::postgres::{PgConnectOptions, PgPool};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// What every scenario is given.
pub(crate) struct Bench {
    pub(crate) run: Run,
    url: String,
    admin: PgPool,
    made: AtomicU32,
    // Its server ends when it is dropped.
    _cluster: Option<Cluster>,
}

impl Bench {
    /// Starts a throwaway server, as durable as PostgreSQL is by default, unless one is named.
    pub(crate) async fn start(run: Run) -> anyhow::Result<Self> {
        let (url, cluster) = match &run.database_url {
            Some(url) => (url.clone(), None),
            None => {
                let cluster = tokio::task::spawn_blocking(throwaway).await??;
                (cluster.url("postgres"), Some(cluster))
            }
        };
        let admin = crate::pool::connect(&url, 1).await;
        let admin = admin.context("cannot connect to the server")?;
        Ok(Self {
            run,
            url,
            admin,
            made: AtomicU32::new(0),
            _cluster: cluster,
        })
    }

    /// A new, migrated database.
    pub(crate) async fn database(&self) -> anyhow::Result<Database> {
        let database = self.empty_database().await?;
        database.migrate().await?;
        Ok(database)
    }

    /// A new database without our tables.
    pub(crate) async fn empty_database(&self) -> anyhow::Result<Database> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let name = format!("outbox_bench_{}_{number}", std::process::id());
        Database::create(&self.admin, &self.url, name).await
    }

    /// The server's own connection, for questions about the server.
    pub(crate) fn admin(&self) -> &PgPool {
        &self.admin
    }

    /// CPU seconds that neither we nor the server have used on this machine so far.
    pub(crate) async fn others_cpu(&self) -> anyhow::Result<Option<f64>> {
        let pid = "SELECT pg_backend_pid()";
        let pid: i32 = sqlx::query_scalar(pid).fetch_one(&self.admin).await?;
        let server = meter::postmaster_of(pid.unsigned_abs()).and_then(meter::cpu_of_tree);
        let ours = meter::own_and_ended_children()
            .zip(server)
            .map(|(own, server)| own + server);
        Ok(meter::machine_cpu().zip(ours).map(|(all, ours)| all - ours))
    }

    /// Where results go.
    pub(crate) fn output(&self) -> PathBuf {
        self.run.output()
    }

    /// `share` of the usual number of events.
    pub(crate) fn events(&self, share: f64) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a number of events is far from the limits of all three"
        )]
        let events = (self.run.events as f64 * share) as u64;
        events.max(1)
    }
}

/// With `pg_stat_statements` where the server has it: it tells where the time goes.
fn throwaway() -> anyhow::Result<Cluster> {
    let settings = [
        ("shared_preload_libraries", "pg_stat_statements"),
        ("pg_stat_statements.track_planning", "on"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let with_statements = ClusterOptions {
        settings: settings.into(),
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(with_statements);
    Ok(cluster.or_else(|_| Cluster::start(ClusterOptions::default()))?)
}

/// The URL of another database on the same server.
pub(crate) fn url_of(server: &str, name: &str) -> anyhow::Result<String> {
    use sqlx::ConnectOptions;
    let options: PgConnectOptions = server.parse().context("the server's URL")?;
    Ok(options.database(name).to_url_lossy().to_string())
}
