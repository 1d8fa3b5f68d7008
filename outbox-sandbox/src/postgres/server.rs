//! The server process.

use super::blocking::block_on;
use super::home::Home;
use super::{ClusterOptions, SandboxError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write as _};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to start (it may have to recover from a crash) or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the state of a starting or stopping server is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// How much of the end of a log goes into an error, in bytes.
const LOG_TAIL: u64 = 2048;

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Sessions are cut off, their transactions rolled back, and all is written out.
    Fast,
    /// As in a crash: everything is dropped on the spot, and the next start recovers from the
    /// write-ahead log.
    Immediate,
}

/// What became of an attempt to start.
pub(super) enum Started {
    Ready(Server),
    /// Somebody else has the port.
    PortTaken,
}

/// A server that runs. Crashes when dropped.
#[derive(Debug)]
pub(super) struct Server(Child);

impl Server {
    /// Starts the server of `home` and waits until it takes connections.
    pub(super) fn start(home: &Home, programs: &Path, port: u16) -> Result<Started, SandboxError> {
        let mut log = Log::open(&home.log())?;
        let mut server = Self(
            home.command(&programs.join("postgres"))
                .arg("-D")
                .arg(home.data())
                .arg("-k")
                .arg(home.folder())
                .args(["-p", &port.to_string()])
                .stdout(log.writer()?)
                .stderr(log.writer()?)
                .spawn()
                .map_err(SandboxError::system("start the program `postgres`"))?,
        );
        // By its socket: it lies in the home, so whoever answers there is this server, while at
        // the port it may be somebody else's.
        let options = PgConnectOptions::new_without_pgpass()
            .socket(home.folder())
            .port(port)
            .username("postgres")
            .database("postgres")
            .ssl_mode(PgSslMode::Disable);
        if block_on(server.ready(&options))?? {
            return Ok(Started::Ready(server));
        }
        let said = log.tail()?;
        if said.contains("Address already in use") {
            return Ok(Started::PortTaken);
        }
        Err(SandboxError::Server {
            what: "the server did not start",
            log: said,
        })
    }

    /// Whether it takes connections; `false` when it has ended or its time is over.
    async fn ready(&mut self, options: &PgConnectOptions) -> Result<bool, SandboxError> {
        let deadline = Instant::now() + PATIENCE;
        while self.exited()?.is_none() && Instant::now() < deadline {
            let attempt = tokio::time::timeout_at(deadline.into(), options.connect());
            if let Ok(Ok(connection)) = attempt.await {
                // It has answered; how it says goodbye does not matter.
                let _ = connection.close().await;
                return Ok(true);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(false)
    }

    /// Stops it and waits for its end.
    pub(super) fn stop(&mut self, mode: StopMode) -> Result<(), SandboxError> {
        let signal = match mode {
            StopMode::Fast => Signal::SIGINT,
            StopMode::Immediate => Signal::SIGQUIT,
        };
        let deadline = Instant::now() + PATIENCE;
        if self.exited()?.is_none() {
            kill(Pid::from_raw(self.0.id().cast_signed()), signal)
                .map_err(io::Error::from)
                .map_err(SandboxError::system("signal the server"))?;
        }
        while self.exited()?.is_none() {
            if Instant::now() > deadline {
                return Err(SandboxError::Server {
                    what: "the server did not stop",
                    log: format!("still there after {PATIENCE:?}"),
                });
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    fn exited(&mut self) -> Result<Option<ExitStatus>, SandboxError> {
        self.0
            .try_wait()
            .map_err(SandboxError::system("look at the server"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.stop(StopMode::Immediate).is_err() {
            // Nothing is left to try, and nobody to tell.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Makes the data directory.
pub(super) fn init(
    home: &Home,
    programs: &Path,
    options: &ClusterOptions,
) -> Result<(), SandboxError> {
    let output = home
        .command(&programs.join("initdb"))
        .arg("-D")
        .arg(home.data())
        .args(["--username=postgres", "--auth=trust"])
        .args(["--encoding=UTF8", "--locale=C"])
        .arg("--no-sync")
        .output()
        .map_err(SandboxError::system("start the program `initdb`"))?;
    if !output.status.success() {
        return Err(SandboxError::Init {
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    OpenOptions::new()
        .append(true)
        .open(home.data().join("postgresql.conf"))
        .and_then(|mut file| file.write_all(configuration(options).as_bytes()))
        .map_err(SandboxError::system("write postgresql.conf"))
}

/// What is added to `postgresql.conf`; of settings that are there twice the last one counts.
fn configuration(options: &ClusterOptions) -> String {
    let mut settings = vec![
        ("listen_addresses", "127.0.0.1".to_owned()),
        ("max_connections", options.max_connections.to_string()),
    ];
    if !options.durable {
        let lazy = ["fsync", "synchronous_commit", "full_page_writes"];
        settings.extend(lazy.map(|name| (name, "off".to_owned())));
    }
    let own = options.settings.iter();
    settings.extend(own.map(|(name, value)| (name.as_str(), value.clone())));
    settings
        .iter()
        .fold(String::new(), |mut text, (name, value)| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name} = '{}'", quoted(value));
            text
        })
}

/// As it stands between quotes in `postgresql.conf`.
fn quoted(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('\'', "''")
        .replace('\n', r"\n")
}

/// The server's log, from where it stood at the start.
struct Log {
    file: File,
    start: u64,
}

impl Log {
    fn open(path: &Path) -> Result<Self, SandboxError> {
        let open = || {
            let file = File::options()
                .create(true)
                .append(true)
                .read(true)
                .open(path)?;
            let start = fs::metadata(path)?.len();
            Ok(Self { file, start })
        };
        open().map_err(SandboxError::system("open the server's log"))
    }

    fn writer(&self) -> Result<File, SandboxError> {
        self.file
            .try_clone()
            .map_err(SandboxError::system("open the server's log"))
    }

    fn tail(&mut self) -> Result<String, SandboxError> {
        let mut read = || {
            let end = self.file.seek(SeekFrom::End(0))?;
            let from = self.start.max(end.saturating_sub(LOG_TAIL));
            self.file.seek(SeekFrom::Start(from))?;
            let mut text = Vec::new();
            (&self.file).take(LOG_TAIL).read_to_end(&mut text)?;
            Ok(String::from_utf8_lossy(&text).trim().to_owned())
        };
        read().map_err(SandboxError::system("read the server's log"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::binaries;
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn a_port_that_somebody_has_is_told_apart_from_a_failure() {
        let programs = binaries::find().unwrap();
        let home = Home::create(false).unwrap();
        init(&home, &programs, &ClusterOptions::default()).unwrap();
        let somebody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = somebody.local_addr().unwrap().port();
        let started = Server::start(&home, &programs, port).unwrap();
        assert!(matches!(started, Started::PortTaken));
        drop(somebody);
        let started = Server::start(&home, &programs, port).unwrap();
        assert!(matches!(started, Started::Ready(_)));
    }

    #[test]
    fn a_setting_comes_through_whatever_is_in_it() {
        assert_eq!(quoted("a 'b' \\ c\nd"), r"a ''b'' \\ c\nd");
    }
}
