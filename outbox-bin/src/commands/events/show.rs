//! `outbox events show`.

use super::{lane, plain, time};
use crate::cli::OutputArgs;
use crate::failure::Failure;
use crate::output;
use anyhow::anyhow;
use outbox_store::{EventAttempt, EventDetails, EventFacts, EventResult, EventWork, Store};
use std::process::ExitCode;

pub(super) async fn run(
    format: OutputArgs,
    store: &Store,
    id: i64,
    with_payload: bool,
) -> Result<ExitCode, Failure> {
    let Some(details) = store.event(id, with_payload).await? else {
        return Err(anyhow!("there is no event {id}").into());
    };
    if format.json {
        output::json(&details)?;
    } else {
        show(details);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(details: EventDetails) {
    facts(&details.event);
    output::line("");
    output::table(
        [
            "RESULT",
            "STATUS",
            "FINISHED",
            "ATTEMPTS",
            "CODE",
            "MESSAGE",
            "PROVIDER ID",
            "REPORTED SINCE",
        ],
        details.results.into_iter().map(result),
        "nothing is settled",
    );
    output::line("");
    output::table(
        ["LEFT TO DO", "STATE", "DUE", "ATTEMPTS"],
        details.queue.into_iter().map(work),
        "nothing is left to do",
    );
    output::line("");
    output::table(
        [
            "FAILED", "WHEN", "ATTEMPT", "MS", "CLASS", "CODE", "MESSAGE", "ANSWER",
        ],
        details.attempts.into_iter().map(attempt),
        "no attempt has failed",
    );
}

fn facts(event: &EventFacts) {
    let status = event.status.as_deref().unwrap_or("unknown");
    output::line(format_args!(
        "event {}, {}: {status}",
        event.id,
        plain(&event.event_type)
    ));
    let optional = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            output::line(format_args!("{name}: {}", plain(&value)));
        }
    };
    optional("created", Some(time(event.created_at)));
    optional("deliver at", Some(time(event.deliver_at)));
    optional("expires at", event.expires_at.map(time));
    optional("settled at", event.processed_at.map(time));
    optional("key", event.key.clone());
    optional("dedup key", event.dedup_key.clone());
    optional("priority", Some(event.priority.to_string()));
    optional("max retries", event.max_retries.map(|n| n.to_string()));
    optional("last error", event.last_error.clone());
    match &event.payload {
        Some(payload) => {
            optional("headers", event.headers.as_ref().map(ToString::to_string));
            optional("payload", Some(payload.to_string()));
        }
        None => output::line("payload: not shown, it may be personal data; see it with --payload"),
    }
}

fn result(result: EventResult) -> [String; 8] {
    let reported = reported(&result);
    let message = result.message.unwrap_or_default();
    let message = match result.fell_back_to {
        Some(next) => format!("{message} ({next} took over)"),
        None => message,
    };
    [
        lane(&result.channel).to_owned(),
        result.status,
        time(result.finished_at),
        result.attempts.to_string(),
        plain(&result.code.unwrap_or_default()),
        plain(&message),
        plain(&result.provider_id.unwrap_or_default()),
        reported,
    ]
}

/// What the provider has told since it took the message.
fn reported(result: &EventResult) -> String {
    let (Some(status), Some(at)) = (&result.reported, result.reported_at) else {
        return String::new();
    };
    let code = result.reported_code.as_deref();
    let code = code.map_or(String::new(), |code| format!(" ({})", plain(code)));
    format!("{status}{code}, {}", time(at))
}

fn work(work: EventWork) -> [String; 4] {
    let state = if let Some(worker) = work.worker {
        format!("with worker {}", plain(&worker))
    } else if work.blocked {
        "waits for another of its key".to_owned()
    } else if let Some(began) = work.began_at {
        let waits = if work.held { "held: an" } else { "an" };
        let began = time(began);
        format!("{waits} attempt began at {began}, and nobody knows its outcome")
    } else if work.held {
        "held".to_owned()
    } else {
        "waits".to_owned()
    };
    [
        lane(&work.channel).to_owned(),
        state,
        work.due_at.map(time).unwrap_or_default(),
        work.attempts.to_string(),
    ]
}

fn attempt(attempt: EventAttempt) -> [String; 8] {
    [
        lane(&attempt.channel).to_owned(),
        time(attempt.finished_at),
        attempt.attempt.to_string(),
        attempt.duration_ms.to_string(),
        attempt.class,
        plain(&attempt.code),
        plain(&attempt.message),
        plain(&attempt.answer.unwrap_or_default()),
    ]
}
