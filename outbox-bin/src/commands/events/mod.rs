//! `outbox events`.

mod operate;
mod show;

use crate::assemble;
use crate::cli::{EventsAction, EventsArgs, OutputArgs};
use crate::failure::Failure;
use crate::output;
use crate::settings::Settings;
use outbox_store::{EventFilter, EventPage, EventSummary, Store};
use std::process::ExitCode;

pub(crate) async fn run(arguments: EventsArgs, settings: &Settings) -> Result<ExitCode, Failure> {
    let format = arguments.output;
    let job = match arguments.action {
        EventsAction::List {
            filter,
            limit,
            before,
        } => {
            let store = assemble::open_store(settings).await?;
            return list(format, &store, &filter.into(), before, limit).await;
        }
        EventsAction::Show { id, payload } => {
            let store = assemble::open_store(settings).await?;
            return show::run(format, &store, id, payload).await;
        }
        EventsAction::Cancel(selection) => operate::Job::cancel(selection)?,
        EventsAction::Replay {
            selection,
            delivered,
        } => operate::Job::replay(selection, delivered)?,
        EventsAction::Delivered { ids, channel } => operate::Job::delivered(ids, channel),
    };
    let store = assemble::open_store(settings).await?;
    job.run(format, &store).await
}

async fn list(
    format: OutputArgs,
    store: &Store,
    filter: &EventFilter,
    before: Option<i64>,
    limit: u32,
) -> Result<ExitCode, Failure> {
    let page = store.list_events(filter, before, limit).await?;
    if format.json {
        output::json(&page)?;
        return Ok(ExitCode::SUCCESS);
    }
    let EventPage { events, next } = page;
    output::table(
        [
            "ID",
            "TYPE",
            "STATUS",
            "KEY",
            "RETRIES",
            "CREATED",
            "LAST ERROR",
        ],
        events.into_iter().map(cells),
        "no events",
    );
    if let Some(next) = next {
        output::line(format_args!("more with --before {next}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn cells(event: EventSummary) -> [String; 7] {
    [
        event.id.to_string(),
        plain(&event.event_type),
        event.status,
        plain(&event.key.unwrap_or_default()),
        event.retry_count.to_string(),
        time(event.created_at),
        plain(&event.last_error.unwrap_or_default()),
    ]
}

fn time(time: chrono::DateTime<chrono::Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// Text from outside on one line, and without what a terminal would take for an order.
fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// A lane for people.
fn lane(channel: &str) -> &str {
    if channel.is_empty() {
        "(not routed)"
    } else {
        channel
    }
}
