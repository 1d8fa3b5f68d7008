//! A server that goes away, comes back as something else, takes no connections, is full, or slow.

use crate::channels::Gate;
use crate::common::{PATIENCE, Running, any, fan_out, open, spec};
use crate::log::Log;
use crate::trouble::{most_failures, patient, until_trouble, until_well, worker_on};
use outbox_engine::{Router, Worker, WorkerOptions};
use outbox_sandbox::log::every_thread_is_heard;
use outbox_sandbox::postgres::{Cluster, ClusterOptions, StopMode};
use outbox_sandbox::proxy::{Direction, TcpProxy};
use outbox_store::{NewEvent, enqueue_many};
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;

/// A server of the test's own, with a database `app` that belongs to a role `app`.
struct Server {
    cluster: Option<Cluster>,
    /// The superuser's connections.
    pool: PgPool,
    url: String,
    address: SocketAddr,
}

impl Server {
    async fn start() -> Self {
        every_thread_is_heard();
        let cluster = spawn_blocking(|| {
            let options = ClusterOptions {
                durable: false,
                ..ClusterOptions::default()
            };
            Cluster::start(options).unwrap()
        });
        let cluster = cluster.await.unwrap();
        let superuser = PgPool::connect(&cluster.url("postgres")).await.unwrap();
        superuser.execute("CREATE ROLE app LOGIN").await.unwrap();
        superuser
            .execute("CREATE DATABASE app OWNER app")
            .await
            .unwrap();
        superuser.close().await;
        let pool = PgPool::connect_lazy(&cluster.url("app")).unwrap();
        let url = cluster.url("app").replace("postgres@", "app@");
        let store = open(&url).await;
        store.migrate().await.unwrap();
        store.close().await;
        Self {
            address: (Ipv4Addr::LOCALHOST, cluster.port()).into(),
            pool,
            url,
            cluster: Some(cluster),
        }
    }

    async fn with_cluster(&mut self, act: impl FnOnce(&mut Cluster) + Send + 'static) {
        let mut cluster = self.cluster.take().unwrap();
        let acted = spawn_blocking(move || {
            act(&mut cluster);
            cluster
        });
        self.cluster = Some(acted.await.unwrap());
    }

    async fn enqueue(&self, count: usize) {
        let events = vec![NewEvent::new("email", any()); count];
        enqueue_many(&self.pool, &events).await.unwrap();
    }

    async fn execute(&self, statement: impl sqlx::SqlSafeStr) {
        sqlx::raw_sql(statement).execute(&self.pool).await.unwrap();
    }

    /// Waits until everything is delivered.
    async fn until_delivered(&self, count: i64) {
        let delivered = "SELECT count(*) FROM outbox_deliveries WHERE status = 'delivered'";
        let delivering = async {
            loop {
                // The server may be on its way up.
                let counted = sqlx::query_scalar(delivered).fetch_one(&self.pool).await;
                if counted.is_ok_and(|so_far: i64| so_far == count) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let all = tokio::time::timeout(PATIENCE, delivering).await;
        all.expect("not everything is delivered");
    }

    async fn stop(mut self) {
        self.pool.close().await;
        let cluster = self.cluster.take();
        spawn_blocking(move || drop(cluster)).await.unwrap();
    }
}

fn assert_sent_once(gate: &Gate, events: usize) {
    let attempts: Vec<_> = gate.attempts().iter().map(|(_, n)| *n).collect();
    assert_eq!(attempts, vec![1; events]);
}

#[tokio::test]
async fn a_server_that_is_away_is_told_of_once() {
    let (mut server, log) = (Server::start().await, Log::start());
    let gate = Gate::new();
    let router = Router::new(vec![fan_out("*", &["email"])]);
    let options = WorkerOptions {
        // Heartbeats fail every 300 ms, and the lease goes.
        lease: Duration::from_secs(3),
        ..patient()
    };
    let store = open(&server.url).await;
    let worker = Worker::new(store, router, vec![spec("email", gate.clone())], options);
    let running = Running::start(worker);
    server.enqueue(1).await;
    gate.arrived(1).await;
    server
        .with_cluster(|cluster| cluster.stop(StopMode::Fast).unwrap())
        .await;
    let begun = Instant::now();
    until_trouble(&running, "connection refused; is the server running?").await;
    log.until("heartbeat failed", 1).await;
    // Long enough for several more.
    tokio::time::sleep(Duration::from_secs(4)).await;
    server
        .with_cluster(|cluster| cluster.restart().unwrap())
        .await;
    log.until("heartbeats succeed again", 1).await;
    let lasted = begun.elapsed();
    gate.open();
    until_well(&running).await;
    server.until_delivered(1).await;
    running.stop().await;
    assert_eq!(log.lines("heartbeat failed").len(), 1);
    let failures = log.lines("again_in").len();
    assert!(
        failures <= most_failures(lasted),
        "{failures} in {lasted:?}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_comes_back_as_a_standby_and_is_promoted() {
    let (mut server, log) = (Server::start().await, Log::start());
    let gate = Gate::new();
    let running = worker_on(&server.url, &gate).await;
    server.enqueue(10).await;
    gate.arrived(10).await;
    server
        .with_cluster(|cluster| {
            cluster.stop(StopMode::Fast).unwrap();
            std::fs::write(cluster.data_dir().join("standby.signal"), "").unwrap();
            cluster.restart().unwrap();
        })
        .await;
    gate.open();
    until_trouble(&running, "25006").await;
    log.until("cannot write outcomes down", 3).await;
    server.execute("SELECT pg_promote()").await;
    until_well(&running).await;
    server.until_delivered(10).await;
    running.stop().await;
    assert_sent_once(&gate, 10);
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_takes_no_more_connections() {
    let (server, log) = (Server::start().await, Log::start());
    let gate = Gate::new();
    let running = worker_on(&server.url, &gate).await;
    server.enqueue(10).await;
    gate.arrived(10).await;
    server.execute("ALTER ROLE app CONNECTION LIMIT 0").await;
    server
        .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        .await;
    let begun = Instant::now();
    gate.open();
    until_trouble(&running, "53300").await;
    log.until("again_in", 6).await;
    server.execute("ALTER ROLE app CONNECTION LIMIT -1").await;
    let lasted = begun.elapsed();
    until_well(&running).await;
    server.until_delivered(10).await;
    running.stop().await;
    assert_sent_once(&gate, 10);
    let failures = log.lines("again_in").len();
    assert!(
        failures <= most_failures(lasted),
        "{failures} in {lasted:?}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_worker_begins_when_the_server_has_a_connection_for_it() {
    let server = Server::start().await;
    let store = open(&server.url).await;
    server.execute("ALTER ROLE app CONNECTION LIMIT 0").await;
    server
        .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        .await;
    server.enqueue(1).await;
    let gate = Gate::new();
    gate.open();
    let router = Router::new(vec![fan_out("*", &["email"])]);
    let worker = Worker::new(store, router, vec![spec("email", gate.clone())], patient());
    let running = Running::start(worker);
    until_trouble(&running, "53300").await;
    server.execute("ALTER ROLE app CONNECTION LIMIT -1").await;
    until_well(&running).await;
    server.until_delivered(1).await;
    running.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_slow_server_is_no_trouble() {
    let (server, log) = (Server::start().await, Log::start());
    let proxy = TcpProxy::start(server.address).await.unwrap();
    for direction in [Direction::ToTarget, Direction::ToClient] {
        proxy.slow(direction, NonZeroU32::new(50_000));
    }
    let port = server.address.port().to_string();
    let url = server
        .url
        .replace(&port, &proxy.address().port().to_string());
    let gate = Gate::new();
    gate.open();
    server.enqueue(300).await;
    let running = worker_on(&url, &gate).await;
    server.until_delivered(300).await;
    running.stop().await;
    assert_sent_once(&gate, 300);
    assert_eq!(log.lines("WARN"), Vec::<String>::new());
    assert_eq!(log.lines("ERROR"), Vec::<String>::new());
    server.stop().await;
}

/// A small file system of its own, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this process may not mount.
    fn mount(folder: PathBuf) -> Option<Self> {
        std::fs::create_dir(&folder).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "outbox-test"])
            .arg(&folder)
            .output();
        mounted.ok()?.status.success().then_some(Self(folder))
    }

    /// A folder on it that belongs to whom `like` belongs to.
    fn folder(&self, like: &Path) -> PathBuf {
        use std::os::unix::fs::{MetadataExt, chown};
        let folder = self.0.join("tables");
        std::fs::create_dir(&folder).unwrap();
        let owner = std::fs::metadata(like).unwrap();
        chown(&folder, Some(owner.uid()), Some(owner.gid())).unwrap();
        folder
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server may have a file open.
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.0.display());
        }
    }
}

#[tokio::test]
async fn a_disk_that_is_full() {
    let (server, log) = (Server::start().await, Log::start());
    let data = server.cluster.as_ref().unwrap().data_dir();
    let Some(disk) = SmallDisk::mount(data.parent().unwrap().join("small")) else {
        eprintln!("SKIPPED: only root may mount a small disk and fill it");
        return server.stop().await;
    };
    let tablespace = format!(
        "CREATE TABLESPACE small OWNER app LOCATION '{}'",
        disk.folder(&data).display()
    );
    server.execute(AssertSqlSafe(tablespace)).await;
    server
        .execute("ALTER TABLE outbox_deliveries SET TABLESPACE small")
        .await;
    server
        .execute("CREATE TABLE filler (text text) TABLESPACE small")
        .await;
    let gate = Gate::new();
    let running = worker_on(&server.url, &gate).await;
    server.enqueue(16).await;
    gate.arrived(16).await;
    let mut filler = server.pool.connect_options().as_ref().clone();
    filler = filler.disable_statement_logging();
    let mut filler = filler.connect().await.unwrap();
    let full = loop {
        let fill = "INSERT INTO filler SELECT repeat('x', 1900) FROM generate_series(1, 4)";
        if let Err(error) = filler.execute(fill).await {
            break error;
        }
    };
    assert_eq!(full.as_database_error().unwrap().code().unwrap(), "53100");
    let begun = Instant::now();
    gate.open();
    log.until("53100", 3).await;
    server.execute("DROP TABLE filler").await;
    let lasted = begun.elapsed();
    until_well(&running).await;
    server.until_delivered(16).await;
    running.stop().await;
    assert_sent_once(&gate, 16);
    let failures = log.lines("again_in").len();
    assert!(
        failures <= most_failures(lasted),
        "{failures} in {lasted:?}"
    );
    // Before its folder goes.
    drop(disk);
    server.stop().await;
}
