//! Other queues, run by a program of their own so that nobody else compiles them.

use crate::bench::Bench;
use serde::Deserialize;
use std::process::Stdio;
use tokio::process::Command;

/// What that program prints.
#[derive(Deserialize)]
pub(crate) struct Drained {
    pub(crate) peer: String,
    pub(crate) settings: String,
    events: u64,
    seconds: f64,
}

impl Drained {
    #[expect(clippy::cast_precision_loss, reason = "far less than 2^52 of them")]
    pub(crate) fn rate(&self) -> f64 {
        self.events as f64 / self.seconds
    }
}

/// Drains as many events as we do; `None` when the program was not built.
pub(crate) async fn drain(bench: &Bench, peer: &str) -> anyhow::Result<Option<Drained>> {
    if !bench.run.peers.is_file() {
        return Ok(None);
    }
    let database = bench.empty_database().await?;
    let output = Command::new(&bench.run.peers)
        .arg(peer)
        .args(["--database-url", &database.url])
        .args(["--events", &bench.run.events.to_string()])
        .args([
            "--payload-bytes",
            &crate::database::PAYLOAD_BYTES.to_string(),
        ])
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await?;
    anyhow::ensure!(output.status.success(), "{peer} failed: {}", output.status);
    database.finish().await?;
    Ok(Some(serde_json::from_slice(&output.stdout)?))
}
