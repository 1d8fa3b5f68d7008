//! How `outbox` is run: its settings, and the commands of operators.

use crate::channels::{CHANNELS, Channel, ROUTES, Route};
use crate::database::APP;
use crate::journal::ProcessId;
use anyhow::Context;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// What every worker has in common.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) binary: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) lease: Duration,
}

impl Recipe {
    /// What is broken is mended sooner.
    const LONGEST_COMMAND: Duration = Duration::from_secs(30);

    /// What a stopping worker has for what is under way: longer than an attempt may take.
    pub(crate) fn grace(&self) -> Duration {
        self.lease + Duration::from_secs(1)
    }

    /// The deadline of one attempt.
    pub(crate) fn timeout(&self) -> Duration {
        self.lease
    }

    /// A worker that is asked to stop is gone by then, whatever else is broken meanwhile.
    pub(crate) fn longest_stop(&self) -> Duration {
        self.grace() * 2 + Duration::from_secs(20)
    }

    /// `process` tells the receiver by the address who sends.
    pub(crate) fn settings(
        &self,
        process: ProcessId,
        database: SocketAddr,
        provider: SocketAddr,
    ) -> String {
        let [lease, grace, timeout] =
            [self.lease, self.grace(), self.timeout()].map(|time| time.as_millis());
        let mut text = format!(
            "[database]\nurl = \"postgres://{APP}@{database}/postgres\"\nmax_connections = 4\n\
             [worker]\npoll_interval = \"500ms\"\nbatch_size = 50\nconcurrency = 24\n\
             lease = \"{lease}ms\"\nshutdown_grace = \"{grace}ms\"\n\
             [retry]\nmax_retries = 60\nbase_delay = \"200ms\"\nmax_delay = \"2s\"\n\
             [retention]\ndays = 0\nlimit = 50\nevery_cycles = 100\n\
             [admin]\nenabled = false\n"
        );
        let ProcessId(process) = process;
        for Channel {
            name,
            holds,
            blocks,
        } in CHANNELS
        {
            let on_ambiguous = if holds { "hold" } else { "retry" };
            let on_dead = if blocks { "block" } else { "skip" };
            text += &format!(
                "[channels.{name}]\nkind = \"webhook\"\ntimeout = \"{timeout}ms\"\n\
                 concurrency = 16\non_ambiguous = \"{on_ambiguous}\"\non_dead = \"{on_dead}\"\n\
                 [channels.{name}.settings]\nurl = \"http://{provider}/{name}/{process}\"\n\
                 allow_private = true\n",
            );
        }
        for Route {
            event_type,
            channels,
        } in ROUTES
        {
            text += &format!("[[routes]]\nevent = \"{event_type}\"\nchannels = {channels:?}\n");
        }
        text
    }

    pub(crate) fn command(&self, settings: &Path) -> Command {
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

    fn operators_settings(&self) -> PathBuf {
        self.logs.join("operator.toml")
    }

    /// Applies the migrations, as an operator does.
    pub(crate) async fn migrate(&self, database: SocketAddr) -> anyhow::Result<()> {
        let text = self.settings(ProcessId(0), database, database);
        fs::write(self.operators_settings(), text)?;
        let output = self.operate(["migrate".to_owned()]).await?;
        anyhow::ensure!(
            output.status.success(),
            "`outbox migrate` failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// One command of an operator's, which goes to the database directly.
    ///
    /// # Errors
    /// It cannot be started, or does not end in time.
    pub(crate) async fn operate(
        &self,
        arguments: impl IntoIterator<Item = String>,
    ) -> anyhow::Result<Output> {
        let mut command = self.command(&self.operators_settings());
        let running = command.args(arguments).stdout(Stdio::piped()).output();
        let output = timeout(Self::LONGEST_COMMAND, running).await?;
        output.with_context(|| format!("cannot run {}", self.binary.display()))
    }
}
