//! `PgBouncer`, a connection pooler between clients and a server.

use super::blocking::block_on;
use super::home::Home;
use super::{SandboxError, free_port};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection};
use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};
use url::Url;

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often its state is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Folders that PATH may lack.
const FOLDERS: &[&str] = &[
    "/usr/sbin",
    "/usr/bin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/opt/homebrew/bin",
];

/// A `PgBouncer` of one's own, on a free port of 127.0.0.1, in transaction mode unless told
/// otherwise. It lets everybody in, as the user of the server that it was given.
///
/// It is gone when the value is dropped, and when the process that holds it ends. Started by
/// root it runs as `postgres` or `nobody`.
///
/// ```no_run
/// use outbox_sandbox::postgres::{Cluster, ClusterOptions, PgBouncer};
///
/// let cluster = Cluster::start(ClusterOptions::default())?;
/// let pooler = PgBouncer::start(&cluster.url("postgres"), &[("default_pool_size", "2")])?;
/// assert!(pooler.url("postgres").starts_with("postgres://postgres@127.0.0.1:"));
/// # Ok::<(), outbox_sandbox::postgres::SandboxError>(())
/// ```
#[derive(Debug)]
pub struct PgBouncer {
    // Before `home`: it must have ended when the folder goes.
    process: Process,
    port: u16,
    home: Home,
}

impl PgBouncer {
    /// Starts one in front of the server of a URL and waits until it takes connections.
    /// `settings` go into the section `[pgbouncer]` of its file, and win over ours. Blocks for
    /// as long as that takes.
    ///
    /// # Errors
    /// [`SandboxError::NoPgBouncer`] when it is not installed, another [`SandboxError`] when it
    /// does not start.
    pub fn start(server: &str, settings: &[(&str, &str)]) -> Result<Self, SandboxError> {
        let program = find()?;
        let server = Url::parse(server).map_err(|_| SandboxError::BadUrl)?;
        let home = Home::create(false)?;
        let port = free_port().map_err(SandboxError::system("find a free port"))?;
        let file = home.folder().join("pgbouncer.ini");
        let written = fs::write(&file, configuration(&server, port, settings));
        written.map_err(SandboxError::system("write pgbouncer.ini"))?;
        if let Some((user, group)) = home.account() {
            chown(&file, Some(user.as_raw()), Some(group.as_raw()))
                .map_err(SandboxError::system("hand pgbouncer.ini to its user"))?;
        }
        let log = File::create(home.log()).map_err(SandboxError::system("make a log"))?;
        let errors = log
            .try_clone()
            .map_err(SandboxError::system("make a log"))?;
        let process = home
            .command(&program)
            .arg(&file)
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(SandboxError::system("start the program `pgbouncer`"))?;
        let mut started = Self {
            process: Process(process),
            port,
            home,
        };
        let database = server.path().trim_start_matches('/');
        started.until_ready(database)?;
        Ok(started)
    }

    /// The URL of `database` through it.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    fn until_ready(&mut self, database: &str) -> Result<(), SandboxError> {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username("postgres")
            .database(database)
            .extra_float_digits(None)
            .ssl_mode(PgSslMode::Disable);
        let deadline = Instant::now() + PATIENCE;
        while self.process.is_running()? && Instant::now() < deadline {
            let greeted = block_on(async {
                let connection = tokio::time::timeout(PATIENCE, options.connect()).await;
                match connection {
                    Ok(Ok(connection)) => connection.close().await.is_ok(),
                    _ => false,
                }
            })?;
            if greeted {
                return Ok(());
            }
            thread::sleep(LOOK);
        }
        Err(SandboxError::Server {
            what: "pgbouncer did not start",
            log: fs::read_to_string(self.home.log()).unwrap_or_default(),
        })
    }
}

/// Ends when dropped.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn is_running(&mut self) -> Result<bool, SandboxError> {
        let state = self.0.try_wait();
        state
            .map(|ended| ended.is_none())
            .map_err(SandboxError::system("look at pgbouncer"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has nothing to save, and nobody is left to tell.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn find() -> Result<PathBuf, SandboxError> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .chain(FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join("pgbouncer"))
        .find(|program| program.is_file())
        .ok_or(SandboxError::NoPgBouncer)
}

fn configuration(server: &Url, port: u16, settings: &[(&str, &str)]) -> String {
    let mut text = format!(
        "[databases]\n* = host={} port={} user={}",
        server.host_str().unwrap_or("127.0.0.1"),
        server.port().unwrap_or(5432),
        server.username(),
    );
    // Writing to a string cannot fail.
    if let Some(password) = server.password() {
        let _ = write!(text, " password={password}");
    }
    let _ = write!(
        text,
        "\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = any\npool_mode = transaction\nmax_client_conn = 500\n"
    );
    for (name, value) in settings {
        let _ = writeln!(text, "{name} = {value}");
    }
    text
}
