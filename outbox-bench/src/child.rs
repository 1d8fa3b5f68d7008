//! Workers in processes of their own: their memory, their CPU, and several of them at once.

use crate::cli;
use crate::database::Database;
use crate::drain::{Tuning, Working};
use crate::null::{Null, spec};
use anyhow::Context;
use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

/// A worker process that accepts and counts everything.
pub(crate) struct WorkerProcess {
    child: Child,
    // Closing it stops the process; it closes too when this process dies.
    input: ChildStdin,
    sent: Arc<AtomicU64>,
    pid: u32,
}

impl WorkerProcess {
    pub(crate) fn start(database: &Database, tuning: Tuning) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("worker")
            .args(["--database-url", &database.url])
            .args(["--batch-size", &tuning.batch_size.to_string()])
            .args(["--concurrency", &tuning.concurrency.to_string()])
            .args(["--connections", &tuning.connections.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a worker process")?;
        let (input, output) = child
            .stdin
            .take()
            .zip(child.stdout.take())
            .context("no pipes")?;
        let sent = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&sent);
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                count.store(line.parse().unwrap_or_default(), Ordering::Relaxed);
            }
        });
        let pid = child.id().context("the worker process ended at once")?;
        Ok(Self {
            child,
            input,
            sent,
            pid,
        })
    }

    /// Deliveries so far, a few milliseconds late.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.input);
        let status = self.child.wait().await?;
        anyhow::ensure!(status.success(), "a worker process failed: {status}");
        Ok(())
    }
}

/// What the process does: works until its input ends, and tells how many deliveries it has made
/// whenever that has changed.
pub(crate) async fn serve(options: cli::Worker) -> anyhow::Result<()> {
    const TELL: Duration = Duration::from_millis(20);
    let tuning = Tuning {
        batch_size: options.batch_size,
        concurrency: options.concurrency,
        connections: options.connections,
    };
    let null = Null::default();
    let channels = vec![spec("null", null.clone(), tuning.concurrency)?];
    let store = tuning.connect(&options.database_url).await?;
    let working = Working::start(store, tuning, channels)?;
    let ended = async {
        // Nothing is ever written to it.
        let _ = tokio::io::stdin().read(&mut [0]).await;
    };
    let tell = async {
        let mut told = 0;
        loop {
            // Told only when there is news: an idle worker is to be idle.
            let pause = if null.sent() == told { 10 * TELL } else { TELL };
            tokio::time::sleep(pause).await;
            if null.sent() != told {
                told = null.sent();
                writeln!(std::io::stdout(), "{told}")?;
            }
        }
    };
    let told: anyhow::Result<()> = tokio::select! {
        () = ended => Ok(()),
        told = tell => told,
    };
    working.stop().await?;
    told
}
