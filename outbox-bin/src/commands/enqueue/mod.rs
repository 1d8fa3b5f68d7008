//! `outbox enqueue`.

mod batch;

use crate::assemble;
use crate::cli::EnqueueArgs;
use crate::failure::{Failure, sentence};
use crate::output;
use crate::settings::Settings;
use anyhow::{Context, anyhow};
use outbox_store::{EnqueueError, NewEvent, enqueue};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

/// A payload larger than this, in bytes, would not be delivered, and is refused here already.
const MAX_PAYLOAD: u64 = outbox_engine::LARGEST_PAYLOAD;

pub(crate) async fn run(arguments: EnqueueArgs, settings: &Settings) -> Result<ExitCode, Failure> {
    let is_json = arguments.output.json;
    let (report, text) = match &arguments.batch {
        Some(file) => {
            let lines = batch::open(file)?;
            let store = assemble::open_store(settings).await?;
            let written = batch::write(&store, lines).await?;
            let text = format!("enqueued {written}");
            (serde_json::json!({ "enqueued": written }), text)
        }
        None => {
            let event = event(arguments)?;
            let store = assemble::open_store(settings).await?;
            let id = enqueue(store.pool(), &event)
                .await
                .map_err(|error| refusal(error, "the event was not written"))?;
            (serde_json::json!({ "id": id }), id.to_string())
        }
    };
    if is_json {
        output::json(&report)?;
    } else {
        output::line(text);
    }
    Ok(ExitCode::SUCCESS)
}

/// Bad usage where it is the event that the database does not take.
fn refusal(error: EnqueueError, what: &str) -> Failure {
    let is_events_fault = is_refused(&error);
    let error = anyhow!(error).context(what.to_owned());
    if is_events_fault {
        Failure::Usage(sentence(&error))
    } else {
        Failure::Failed(error)
    }
}

/// Whether the database refused the event itself: data that no column can hold, or that breaks a
/// constraint, are classes 22 and 23 of
/// [its codes](https://www.postgresql.org/docs/current/errcodes-appendix.html).
fn is_refused(error: &EnqueueError) -> bool {
    let source = std::error::Error::source(error);
    let database = source
        .and_then(|source| source.downcast_ref::<sqlx::Error>())
        .and_then(sqlx::Error::as_database_error);
    let code = database.and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
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
    let mut text = Vec::new();
    match &arguments.file {
        Some(path) => open(path)?.take(MAX_PAYLOAD + 1).read_to_end(&mut text),
        None => std::io::stdin()
            .take(MAX_PAYLOAD + 1)
            .read_to_end(&mut text),
    }
    .context("the payload cannot be read")?;
    if text.len() as u64 > MAX_PAYLOAD {
        let message = format!("the payload is longer than {} MiB", MAX_PAYLOAD >> 20);
        return Err(Failure::Usage(message));
    }
    String::from_utf8(text)
        .map_err(|_| Failure::Usage("the payload is not JSON: it is not UTF-8".to_owned()))
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path)
        .map_err(|error| Failure::Usage(format!("{} cannot be opened: {error}", path.display())))
}
