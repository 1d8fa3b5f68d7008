//! Worker processes: each in a slot, started again whenever it ends, as by a supervisor.

use crate::journal::{End, Journal, ProcessId};
use crate::recipe::Recipe;
use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

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
