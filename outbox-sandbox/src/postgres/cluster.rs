use super::home::Home;
use super::server::{self, Server, Started, StopMode};
use super::{SandboxError, binaries, free_port};
use std::env;
use std::mem;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How often another port is tried when somebody was quicker.
const PORTS: usize = 5;

/// How long a restart waits for its port to be free again.
const PORT_PATIENCE: Duration = Duration::from_secs(10);

/// What a [`Cluster`] is to be like.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// `true` (the default): as safe as PostgreSQL is by default. `false`: commits do not wait
    /// for the disk, which is quicker, and is what tests want; the data outlives a crash of the
    /// server, not one of the machine.
    pub durable: bool,
    /// Further settings for `postgresql.conf`; they win over all others.
    pub settings: Vec<(String, String)>,
    /// 200 unless told otherwise.
    pub max_connections: u32,
    /// `true`: server and folder outlive the [`Cluster`] and its process, and how to connect and
    /// how to remove them is printed. By default what `OUTBOX_SANDBOX_KEEP` says.
    pub keep: bool,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            durable: true,
            settings: Vec::new(),
            max_connections: 200,
            keep: env::var_os("OUTBOX_SANDBOX_KEEP").is_some_and(|value| value == "1"),
        }
    }
}

/// A PostgreSQL server of one's own, on a free port of 127.0.0.1, with its data in a temporary
/// folder. Its superuser is `postgres`, without a password: any user of this machine can reach
/// it, so it is no place for anything precious.
///
/// Server and folder are gone when the value is dropped, and when the process that holds it
/// ends: by Ctrl-C, by a panic, by SIGKILL. Started by root it runs as `postgres` or `nobody`.
///
/// All methods block for as long as the server takes.
///
/// ```
/// use outbox_sandbox::postgres::{Cluster, ClusterOptions};
///
/// let cluster = Cluster::start(ClusterOptions { durable: false, ..ClusterOptions::default() })?;
/// assert!(cluster.url("postgres").starts_with("postgres://postgres@127.0.0.1:"));
/// # Ok::<(), outbox_sandbox::postgres::SandboxError>(())
/// ```
#[derive(Debug)]
pub struct Cluster {
    // Before `home`: it must have ended when the folder goes.
    server: Option<Server>,
    port: u16,
    programs: PathBuf,
    home: Home,
}

impl Cluster {
    /// Makes a cluster and waits until it takes connections.
    ///
    /// # Errors
    /// [`SandboxError::NoServer`] when PostgreSQL is not installed, another [`SandboxError`]
    /// when it does not start.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "options are made for one call; a reference would only be in the way"
    )]
    pub fn start(options: ClusterOptions) -> Result<Self, SandboxError> {
        let programs = binaries::find()?;
        let home = Home::create(options.keep)?;
        server::init(&home, &programs, &options)?;
        let (server, port) = start_on_a_free_port(&home, &programs)?;
        let cluster = Self {
            server: Some(server),
            port,
            programs,
            home,
        };
        if cluster.home.is_kept() {
            cluster.tell();
        }
        Ok(cluster)
    }

    /// The URL of `database`, for its superuser. Of a new cluster's databases, `postgres` is the
    /// one to connect to. The name goes in as it is: percent-encode what a URL cannot hold.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The port on 127.0.0.1; the same over restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the server's data is.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.home.data()
    }

    /// Stops the server, if it runs; the data stays.
    ///
    /// # Errors
    /// It is still there after a minute.
    pub fn stop(&mut self, mode: StopMode) -> Result<(), SandboxError> {
        if let Some(server) = &mut self.server {
            server.stop(mode)?;
            self.server = None;
        }
        Ok(())
    }

    /// Stops the server ([`StopMode::Fast`]), if it runs, and starts it again with the same data
    /// on the same port.
    ///
    /// # Errors
    /// It does not stop or does not start, or its port has been taken meanwhile.
    pub fn restart(&mut self) -> Result<(), SandboxError> {
        self.stop(StopMode::Fast)?;
        let deadline = Instant::now() + PORT_PATIENCE;
        while Instant::now() < deadline {
            match Server::start(&self.home, &self.programs, self.port)? {
                Started::Ready(server) => {
                    self.server = Some(server);
                    return Ok(());
                }
                Started::PortTaken => thread::sleep(Duration::from_millis(100)),
            }
        }
        Err(no_port())
    }

    fn tell(&self) {
        let url = self.url("postgres");
        let folder = self.home.folder().display();
        eprintln!(
            "PostgreSQL is kept running: {url}\n\
             to remove it: while kill -QUIT $(head -n 1 {folder}/data/postmaster.pid); \
             do sleep 1; done 2> /dev/null; rm -rf {folder}"
        );
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.home.is_kept() {
            mem::forget(self.server.take());
        }
    }
}

fn start_on_a_free_port(home: &Home, programs: &Path) -> Result<(Server, u16), SandboxError> {
    for _ in 0..PORTS {
        let port = free_port().map_err(SandboxError::system("find a free port"))?;
        if let Started::Ready(server) = Server::start(home, programs, port)? {
            return Ok((server, port));
        }
    }
    Err(no_port())
}

fn no_port() -> SandboxError {
    SandboxError::Server {
        what: "the server did not start",
        log: "somebody else has its port".to_owned(),
    }
}
