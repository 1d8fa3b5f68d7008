//! The real binary in a world of its own: an empty folder, no environment, a database.

mod http;
mod process;
mod providers;
mod shop;

pub(crate) use http::{get, request};
pub(crate) use process::{Done, Running};
pub(crate) use providers::Providers;
pub(crate) use shop::Shop;

use process::Secrets;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where the binary runs, and what it is told.
pub(crate) struct Scene {
    folder: TempDir,
    variables: Vec<(String, String)>,
    secrets: Secrets,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            variables: Vec::new(),
            secrets: Secrets::default(),
        }
    }

    /// With a database, and the admin side on a free port.
    pub(crate) fn at(shop: &Shop) -> Self {
        Self::new()
            .set("DATABASE_URL", shop.url())
            .secret(Shop::PASSWORD)
            .set("OUTBOX_ADMIN__LISTEN", "127.0.0.1:0")
    }

    pub(crate) fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// From now on no output may hold this.
    pub(crate) fn secret(mut self, secret: &str) -> Self {
        self.secrets.add(secret);
        self
    }

    /// Writes `outbox.toml`.
    pub(crate) fn file(self, text: &str) -> Self {
        self.write("outbox.toml", text.as_bytes());
        self
    }

    /// A file in the working folder.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a command to its end.
    pub(crate) async fn outbox(&self, arguments: &[&str]) -> Done {
        self.start(arguments).end().await
    }

    /// Runs a command that has to succeed, and returns what it reports.
    pub(crate) async fn ok(&self, arguments: &[&str]) -> String {
        self.outbox(arguments).await.ok()
    }

    /// As [`ok`](Self::ok), with `--json`.
    pub(crate) async fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let text = self.ok(&[arguments, &["--json"]].concat()).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Runs a command with something on standard input.
    pub(crate) async fn outbox_reading(&self, arguments: &[&str], input: &[u8]) -> Done {
        let mut running = self.start(arguments);
        running.write(input).await;
        running.end().await
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let pairs = self
            .variables
            .iter()
            .map(|(name, value)| (&**name, &**value));
        Running::start(self.folder(), arguments, pairs, self.secrets.clone())
    }

    /// `outbox run`, once its worker is at work.
    pub(crate) async fn worker(&self) -> Running {
        let worker = self.start(&["run"]);
        worker.line("worker starts").await;
        worker
    }
}
