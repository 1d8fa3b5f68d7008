//! `outbox status`.

use crate::assemble;
use crate::cli::OutputArgs;
use crate::failure::Failure;
use crate::output;
use crate::settings::Settings;
use outbox_store::{Backlog, Settled, WorkerState};
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;

#[derive(Serialize)]
struct Status {
    events: BTreeMap<String, i64>,
    backlog: Vec<Backlog>,
    settled: Vec<Settled>,
    receipts: Vec<Settled>,
    oldest_due_seconds: Option<f64>,
    workers: Vec<WorkerState>,
}

pub(crate) async fn run(format: OutputArgs, settings: &Settings) -> Result<ExitCode, Failure> {
    let store = assemble::open_store(settings).await?;
    let backlog = store.backlog().await?;
    let status = Status {
        events: store.events_by_status().await?.into_iter().collect(),
        settled: store.settled().await?,
        receipts: store.receipts().await?,
        oldest_due_seconds: backlog
            .iter()
            .filter_map(|lane| lane.oldest_due_seconds)
            .reduce(f64::max),
        workers: store
            .workers()
            .await?
            .into_iter()
            .filter(|worker| worker.alive)
            .collect(),
        backlog,
    };
    if format.json {
        output::json(&status)?;
    } else {
        show(&status);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(status: &Status) {
    let events = status
        .events
        .iter()
        .map(|(state, count)| [state.clone(), count.to_string()]);
    output::table(["EVENTS", "COUNT"], events, "no events");
    let waiting = status.backlog.iter().map(|lane| {
        let counts = [
            lane.due,
            lane.scheduled,
            lane.retrying,
            lane.leased,
            lane.held,
        ];
        let [due, scheduled, retrying, leased, held] = counts.map(|count| count.to_string());
        [
            name(&lane.channel, "(not routed yet)"),
            due,
            scheduled,
            retrying,
            leased,
            held,
        ]
    });
    output::line("");
    let header = ["WAITING", "DUE", "SCHEDULED", "RETRYING", "LEASED", "HELD"];
    output::table(header, waiting, "nothing waits");
    let counted = |settled: &Settled| {
        let channel = name(&settled.channel, "(no channel)");
        [channel, settled.status.clone(), settled.count.to_string()]
    };
    output::line("");
    output::table(
        ["SETTLED", "STATUS", "COUNT"],
        status.settled.iter().map(counted),
        "nothing is settled",
    );
    if !status.receipts.is_empty() {
        output::line("");
        let receipts = status.receipts.iter().map(counted);
        output::table(["REPORTED SINCE", "STATUS", "COUNT"], receipts, "");
    }
    output::line("");
    match status.oldest_due_seconds {
        Some(seconds) => output::line(format_args!("oldest due for {seconds:.1} s")),
        None => output::line("nothing is due"),
    }
    let workers: Vec<&str> = status
        .workers
        .iter()
        .map(|worker| worker.name.as_str())
        .collect();
    output::line(format_args!(
        "workers: {}",
        if workers.is_empty() {
            "none".to_owned()
        } else {
            workers.join(", ")
        }
    ));
}

fn name(channel: &str, when_empty: &str) -> String {
    if channel.is_empty() {
        when_empty
    } else {
        channel
    }
    .to_owned()
}
