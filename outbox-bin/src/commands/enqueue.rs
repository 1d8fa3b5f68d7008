//! `outbox enqueue`.

use crate::assemble;
use crate::cli::EnqueueArgs;
use crate::failure::Failure;
use crate::output;
use crate::settings::Settings;
use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use outbox_store::{NewEvent, Store, enqueue, enqueue_many};
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::Path;
use std::process::ExitCode;

/// Events per statement.
const BATCH: usize = 1_000;
/// A payload larger than this is refused here already.
const MAX_PAYLOAD: u64 = 64 << 20;

pub(crate) async fn run(arguments: EnqueueArgs, settings: &Settings) -> Result<ExitCode, Failure> {
    let is_json = arguments.output.json;
    let report = match &arguments.batch {
        Some(file) => {
            let store = assemble::open_store(settings).await?;
            let written = write_batch(&store, file).await?;
            let text = format!("enqueued {written}");
            (serde_json::json!({ "enqueued": written }), text)
        }
        None => {
            let event = event(arguments)?;
            let store = assemble::open_store(settings).await?;
            let id = enqueue(store.pool(), &event)
                .await
                .context("the event was not written")?;
            (serde_json::json!({ "id": id }), id.to_string())
        }
    };
    if is_json {
        output::json(&report.0)?;
    } else {
        output::line(report.1);
    }
    Ok(ExitCode::SUCCESS)
}

fn event(arguments: EnqueueArgs) -> Result<NewEvent, Failure> {
    let payload = payload(&arguments)?;
    let payload = serde_json::from_str(&payload)
        .map_err(|error| Failure::Usage(format!("the payload is not JSON: {error}")))?;
    let mut event = NewEvent::new(arguments.event_type.unwrap_or_default(), payload)
        .priority(arguments.priority);
    if let Some(key) = arguments.key {
        event = event.key(key);
    }
    if let Some(key) = arguments.dedup_key {
        event = event.dedup_key(key);
    }
    if let Some(time) = arguments.deliver_at {
        event = event.deliver_at(time);
    }
    if let Some(time) = arguments.expires_at {
        event = event.expires_at(time);
    }
    if let Some(retries) = arguments.max_retries {
        event = event.max_retries(retries);
    }
    Ok(event)
}

fn payload(arguments: &EnqueueArgs) -> Result<String, Failure> {
    if let Some(payload) = &arguments.payload {
        return Ok(payload.clone());
    }
    let mut text = String::new();
    match &arguments.file {
        Some(path) => open(path)?.take(MAX_PAYLOAD).read_to_string(&mut text),
        None => std::io::stdin().take(MAX_PAYLOAD).read_to_string(&mut text),
    }
    .context("the payload cannot be read")?;
    Ok(text)
}

/// All events of a file of JSON lines, in one transaction.
async fn write_batch(store: &Store, path: &Path) -> Result<u64, Failure> {
    let file = open(path)?;
    let size = file.metadata().map(|metadata| metadata.len()).unwrap_or(0);
    let progress = progress(size);
    let mut transaction = store
        .pool()
        .begin()
        .await
        .context("no transaction could be begun")?;
    let mut events = Vec::with_capacity(BATCH);
    let mut written = 0;
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line.with_context(|| format!("{} cannot be read", path.display()))?;
        progress.inc(line.len() as u64 + 1);
        if line.trim().is_empty() {
            continue;
        }
        let event: NewEvent = serde_json::from_str(&line).map_err(|error| {
            Failure::Usage(format!("{} line {}: {error}", path.display(), index + 1))
        })?;
        events.push(event);
        if events.len() == BATCH {
            written += flush(&mut transaction, &mut events, index + 1).await?;
        }
    }
    written += flush(&mut transaction, &mut events, 0).await?;
    transaction
        .commit()
        .await
        .context("the transaction could not be committed")?;
    progress.finish_and_clear();
    Ok(written)
}

async fn flush(
    transaction: &mut sqlx::PgTransaction<'_>,
    events: &mut Vec<NewEvent>,
    line: usize,
) -> Result<u64, Failure> {
    if events.is_empty() {
        return Ok(0);
    }
    let count = events.len() as u64;
    let place = if line == 0 {
        "at the end".to_owned()
    } else {
        format!("up to line {line}")
    };
    enqueue_many(&mut **transaction, events)
        .await
        .map_err(|error| {
            anyhow!(error).context(format!("no event was written; trouble {place}"))
        })?;
    events.clear();
    Ok(count)
}

fn progress(bytes: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {percent} % {eta} left");
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn open(path: &Path) -> Result<std::fs::File, Failure> {
    Ok(
        std::fs::File::open(path)
            .with_context(|| format!("{} cannot be opened", path.display()))?,
    )
}
