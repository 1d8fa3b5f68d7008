//! Worker processes: each in a slot, started again whenever it ends, as by a supervisor.

use crate::journal::{End, Journal, ProcessId};
use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What every worker has in common.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) binary: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) lease: Duration,
}

impl Recipe {
    /// What a stopping worker has for what is under way: longer than an attempt may take.
    pub(crate) fn grace(&self) -> Duration {
        self.lease + Duration::from_secs(1)
    }

    /// The deadline of one attempt.
    pub(crate) fn timeout(&self) -> Duration {
        self.lease
    }

    /// A worker that is asked to stop is gone by then, whatever else is broken meanwhile.
    fn longest_stop(&self) -> Duration {
        self.grace() * 2 + Duration::from_secs(20)
    }

    /// `process` tells the receiver by the address who sends.
    fn settings(&self, process: ProcessId, database: SocketAddr, provider: SocketAddr) -> String {
        let ProcessId(process) = process;
        let channel = |name: &str| {
            format!(
                "[channels.{name}]\nkind = \"webhook\"\ntimeout = \"{}ms\"\nconcurrency = 16\n\
                 [channels.{name}.settings]\nurl = \"http://{provider}/{name}/{process}\"\n\
                 allow_private = true\n",
                self.timeout().as_millis()
            )
        };
        format!(
            "[database]\nurl = \"postgres://postgres@{database}/postgres\"\nmax_connections = 4\n\
             [worker]\npoll_interval = \"500ms\"\nbatch_size = 50\nconcurrency = 24\n\
             lease = \"{}ms\"\nshutdown_grace = \"{}ms\"\n\
             [retry]\nmax_retries = 60\nbase_delay = \"200ms\"\nmax_delay = \"2s\"\n\
             [retention]\nevery_cycles = 0\n[admin]\nenabled = false\n{}{}\
             [[routes]]\nevent = \"both.*\"\nchannels = [\"crm\", \"audit\"]\n\
             [[routes]]\nevent = \"one.*\"\nchannels = [\"crm\"]\n",
            self.lease.as_millis(),
            self.grace().as_millis(),
            channel("crm"),
            channel("audit"),
        )
    }

    fn command(&self, settings: &std::path::Path) -> Command {
        let mut command = Command::new(&self.binary);
        // Nothing of the caller's environment may change what a worker does.
        command
            .env_clear()
            .current_dir(&self.logs)
            .arg("--config")
            .arg(settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Applies the migrations, as an operator does.
    pub(crate) async fn migrate(&self, database: SocketAddr) -> anyhow::Result<()> {
        let settings = self.logs.join("migrate.toml");
        fs::write(&settings, self.settings(ProcessId(0), database, database))?;
        let output = self.command(&settings).arg("migrate").output().await;
        let output = output.with_context(|| format!("cannot run {}", self.binary.display()))?;
        anyhow::ensure!(
            output.status.success(),
            "`outbox migrate` failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

/// What a slot is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Kill,
    Pause,
    Resume,
    Terminate,
}

/// One place for a worker.
#[derive(Debug)]
pub(crate) struct Slot {
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

impl Slot {
    pub(crate) fn start(
        number: usize,
        recipe: Arc<Recipe>,
        journal: Arc<Journal>,
        database: SocketAddr,
        provider: SocketAddr,
    ) -> Self {
        let (orders, inbox) = mpsc::channel(8);
        let supervisor = Supervisor {
            number,
            recipe,
            journal,
            database,
            provider,
            inbox,
        };
        Self {
            orders,
            task: tokio::spawn(supervisor.run()),
        }
    }

    pub(crate) async fn tell(&self, order: Order) {
        // A supervisor that is gone has said why.
        let _ = self.orders.send(order).await;
    }

    /// SIGTERM, and no restart.
    pub(crate) async fn stop(self) {
        drop(self.orders);
        let _ = self.task.await;
    }
}

struct Supervisor {
    number: usize,
    recipe: Arc<Recipe>,
    journal: Arc<Journal>,
    database: SocketAddr,
    provider: SocketAddr,
    inbox: mpsc::Receiver<Order>,
}

impl Supervisor {
    const RESTART_AFTER: Duration = Duration::from_millis(100);
    /// Until it listens to signals.
    const START: Duration = Duration::from_secs(1);

    async fn run(mut self) {
        loop {
            if let Err(error) = self.one_life().await {
                let text = format!("worker {} cannot be started: {error:#}", self.number);
                return self.journal.wrong(text);
            }
            if self.inbox.is_closed() && self.inbox.is_empty() {
                return;
            }
            tokio::time::sleep(Self::RESTART_AFTER).await;
        }
    }

    async fn one_life(&mut self) -> anyhow::Result<()> {
        let process = self.journal.starts(self.number);
        let name = self.recipe.logs.join(format!("worker-{}", process.0));
        let settings = name.with_extension("toml");
        let text = self.recipe.settings(process, self.database, self.provider);
        fs::write(&settings, text).context("cannot write its settings")?;
        let mut child = self.recipe.command(&settings).arg("run").spawn()?;
        self.journal
            .started(process, child.id().unwrap_or_default());
        let stderr = child.stderr.take().context("its standard error is gone")?;
        let log = tokio::spawn(keep(stderr, name.with_extension("log")));
        let (status, asked) = self.until_it_ends(&mut child, process).await?;
        let said = log.await.context("its log")??;
        let end = self.judge(process, status, asked, &said);
        self.journal.ended(process, end, said.last);
        Ok(())
    }

    /// Carries out orders meanwhile; returns which of them was to end it.
    async fn until_it_ends(
        &mut self,
        child: &mut Child,
        process: ProcessId,
    ) -> anyhow::Result<(ExitStatus, Option<Order>)> {
        let born = Instant::now();
        let mut asked = None;
        let mut deadline = None;
        let mut is_open = true;
        loop {
            let order = tokio::select! {
                status = child.wait() => return Ok((status?, asked)),
                order = self.inbox.recv(), if is_open => {
                    is_open = order.is_some();
                    order.unwrap_or(Order::Terminate)
                }
                () = until(deadline) => {
                    let waited = self.recipe.longest_stop();
                    let text = format!("process {} did not stop within {waited:?}", process.0);
                    self.journal.wrong(text);
                    Order::Kill
                }
            };
            match order {
                Order::Kill => {
                    asked = Some(order);
                    deadline = None;
                }
                Order::Terminate if asked.is_some() => continue,
                Order::Terminate => {
                    tokio::time::sleep_until(born + Self::START).await;
                    asked = Some(order);
                    deadline = Some(Instant::now() + self.recipe.longest_stop());
                }
                Order::Pause | Order::Resume => {}
            }
            signal(child, order);
        }
    }

    fn judge(
        &self,
        process: ProcessId,
        status: ExitStatus,
        asked: Option<Order>,
        said: &Said,
    ) -> End {
        let wrong = |what: String| {
            let (process, last) = (process.0, &said.last);
            self.journal
                .wrong(format!("process {process} {what}; its last words: {last}"));
        };
        if said.panicked {
            wrong("panicked".to_owned());
        }
        match asked {
            Some(Order::Kill) => End::Killed,
            _ if !said.started => End::NotStarted,
            Some(_) => {
                if !status.success() {
                    wrong(format!("was asked to stop and ended with {status}"));
                }
                End::Terminated
            }
            None => End::ByItself,
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn signal(child: &Child, order: Order) {
    let signal = match order {
        Order::Kill => Signal::SIGKILL,
        Order::Pause => Signal::SIGSTOP,
        Order::Resume => Signal::SIGCONT,
        Order::Terminate => Signal::SIGTERM,
    };
    // There is an id for as long as nobody has waited for it: it cannot be somebody else's.
    if let Some(pid) = child.id() {
        let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
    }
}

/// What of a log matters here.
#[derive(Default)]
struct Said {
    started: bool,
    panicked: bool,
    last: String,
}

/// Writes the log to a file.
async fn keep(stderr: ChildStderr, path: PathBuf) -> anyhow::Result<Said> {
    let mut file = tokio::fs::File::create(&path).await?;
    let mut lines = BufReader::new(stderr).lines();
    let mut said = Said::default();
    while let Some(line) = lines.next_line().await? {
        file.write_all(line.as_bytes()).await?;
        file.write_all(b"\n").await?;
        said.started |= line.contains("worker starts");
        said.panicked |= line.contains("panicked at");
        said.last = line;
    }
    file.flush().await?;
    Ok(said)
}
