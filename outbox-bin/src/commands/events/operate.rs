//! `outbox events cancel`, `replay` and `delivered`.

use super::lane;
use crate::cli::{OutputArgs, SelectionArgs};
use crate::failure::Failure;
use crate::output;
use outbox_channel::ChannelName;
use outbox_store::{EventFilter, EventStatus, InFlight, Operated, Replay, Store, StoreError};
use serde::Serialize;
use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;

/// What is to be done to which events.
pub(super) struct Job {
    deed: Deed,
    which: Which,
}

enum Deed {
    Cancel(Option<ChannelName>),
    Replay(Replay),
    Delivered(Option<ChannelName>),
}

enum Which {
    Ids(Vec<i64>),
    /// All that match one of these, and whether to ask before.
    Matching(Vec<EventFilter>, Asking),
}

#[derive(Clone, Copy, PartialEq)]
enum Asking {
    First,
    Never,
}

/// What was done, for scripts.
#[derive(Serialize)]
struct Report {
    /// Events named or matching.
    matched: usize,
    /// Events to which it was done, at least through one channel.
    events: usize,
    /// Channels of events through which it was done.
    deliveries: usize,
    /// What a worker has this moment.
    in_flight: Vec<Busy>,
    /// Events that were named and have nothing that it could be done to.
    nothing_to_do: Vec<i64>,
    /// Events that were named and do not exist.
    not_found: Vec<i64>,
}

#[derive(Serialize)]
struct Busy {
    event_id: i64,
    #[serde(flatten)]
    delivery: InFlight,
}

impl Job {
    pub(super) fn cancel(selection: SelectionArgs) -> Result<Self, Failure> {
        let unsettled = [EventStatus::Pending, EventStatus::Held];
        let statuses = match selection.filter.status {
            None => unsettled.to_vec(),
            Some(status) if unsettled.contains(&status) => vec![status],
            Some(status) => {
                return usage(format!(
                    "{status} events cannot be cancelled, they are settled"
                ));
            }
        };
        Ok(Self {
            deed: Deed::Cancel(selection.filter.channel.clone()),
            which: Which::of(selection, &statuses)?,
        })
    }

    pub(super) fn replay(selection: SelectionArgs, delivered: bool) -> Result<Self, Failure> {
        let status = match selection.filter.status {
            // Named one by one, everything that was not delivered; in bulk, what failed.
            None if selection.ids.is_empty() => Some(EventStatus::Failed),
            status => status,
        };
        match status {
            Some(EventStatus::Pending) => {
                return usage("pending events are sent without being replayed".to_owned());
            }
            Some(EventStatus::Processed) if !delivered => {
                let message =
                    "processed events were delivered: to send them again, say --delivered";
                return usage(message.to_owned());
            }
            _ => {}
        }
        Ok(Self {
            deed: Deed::Replay(Replay {
                channel: selection.filter.channel.clone(),
                status,
                delivered,
            }),
            which: Which::of(selection, status.as_slice())?,
        })
    }

    pub(super) fn delivered(ids: Vec<i64>, channel: Option<ChannelName>) -> Self {
        Self {
            deed: Deed::Delivered(channel),
            which: Which::Ids(ids),
        }
    }

    pub(super) async fn run(self, format: OutputArgs, store: &Store) -> Result<ExitCode, Failure> {
        let (ids, are_named) = match self.which {
            Which::Ids(ids) => (ids, true),
            Which::Matching(filters, asking) => {
                let ids = matching(store, &filters).await?;
                if !ids.is_empty() && asking == Asking::First && !confirmed(&self.deed, ids.len())?
                {
                    return Ok(ExitCode::FAILURE);
                }
                (ids, false)
            }
        };
        let operated = self.deed.apply(store, &ids).await?;
        let report = Report::new(&ids, are_named, operated);
        if format.json {
            output::json(&report)?;
        } else {
            report.show(&self.deed);
        }
        Ok(report.exit_code())
    }
}

impl Which {
    fn of(selection: SelectionArgs, statuses: &[EventStatus]) -> Result<Self, Failure> {
        if !selection.ids.is_empty() {
            return Ok(Self::Ids(selection.ids));
        }
        if selection.filter.is_empty() {
            return usage("say which events: by id, or with a filter such as --status".to_owned());
        }
        let filter = EventFilter::from(selection.filter);
        let with_status = |&status: &EventStatus| EventFilter {
            status: Some(status),
            ..filter.clone()
        };
        let asking = if selection.yes {
            Asking::Never
        } else {
            Asking::First
        };
        Ok(Self::Matching(
            statuses.iter().map(with_status).collect(),
            asking,
        ))
    }
}

fn usage<T>(message: String) -> Result<T, Failure> {
    Err(Failure::Usage(message))
}

async fn matching(store: &Store, filters: &[EventFilter]) -> Result<Vec<i64>, Failure> {
    let mut ids = Vec::new();
    for filter in filters {
        ids.extend(store.event_ids(filter).await?);
    }
    // In the order in which they were written; one may have changed its status in between.
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// Tells how many there are, and asks.
fn confirmed(deed: &Deed, count: usize) -> Result<bool, Failure> {
    let verb = deed.verb();
    let found = format!("{} to {verb}", events(count));
    if !std::io::stdin().is_terminal() {
        return usage(format!(
            "{found}, and no terminal to ask on: say --yes to {verb} them"
        ));
    }
    output::note(format_args!("{found}. Go on? [y/N]"));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    let is_yes = ["y", "yes"].contains(&answer.trim().to_lowercase().as_str());
    if !is_yes {
        output::note("nothing was changed");
    }
    Ok(is_yes)
}

impl Deed {
    fn verb(&self) -> &'static str {
        match self {
            Self::Cancel(_) => "cancel",
            Self::Replay(_) => "replay",
            Self::Delivered(_) => "write down as delivered",
        }
    }

    fn done(&self) -> &'static str {
        match self {
            Self::Cancel(_) => "cancelled",
            Self::Replay(_) => "replayed",
            Self::Delivered(_) => "written down as delivered",
        }
    }

    async fn apply(&self, store: &Store, ids: &[i64]) -> Result<Vec<Operated>, StoreError> {
        match self {
            Self::Cancel(channel) => store.cancel(ids, channel.as_ref()).await,
            Self::Replay(replay) => store.replay(ids, replay).await,
            Self::Delivered(channel) => store.confirm_delivered(ids, channel.as_ref()).await,
        }
    }
}

impl Report {
    fn new(ids: &[i64], are_named: bool, operated: Vec<Operated>) -> Self {
        let mut report = Self {
            matched: ids.len(),
            events: 0,
            deliveries: 0,
            in_flight: Vec::new(),
            nothing_to_do: Vec::new(),
            not_found: Vec::new(),
        };
        if are_named {
            let is_known = |id: &i64| operated.iter().any(|event| event.event_id == *id);
            report.not_found = ids.iter().copied().filter(|id| !is_known(id)).collect();
        }
        for event in operated {
            report.add(event, are_named);
        }
        report
    }

    fn add(&mut self, event: Operated, is_named: bool) {
        let event_id = event.event_id;
        self.events += usize::from(!event.channels.is_empty());
        self.deliveries += event.channels.len();
        if is_named && event.channels.is_empty() && event.in_flight.is_empty() {
            self.nothing_to_do.push(event_id);
        }
        let busy = event.in_flight.into_iter();
        self.in_flight
            .extend(busy.map(|delivery| Busy { event_id, delivery }));
    }

    fn show(&self, deed: &Deed) {
        output::line(format_args!("{} {}", events(self.events), deed.done()));
        for Busy { event_id, delivery } in &self.in_flight {
            let lane = lane(&delivery.channel);
            let worker = delivery.worker.as_deref().unwrap_or("a worker");
            output::note(format_args!(
                "event {event_id}, {lane}: {worker} is delivering it right now"
            ));
        }
        for id in &self.nothing_to_do {
            output::note(format_args!(
                "event {id}: there is nothing to {}",
                deed.verb()
            ));
        }
        for id in &self.not_found {
            output::note(format_args!("event {id}: there is no such event"));
        }
    }

    /// Fine only when all that was asked for is done.
    fn exit_code(&self) -> ExitCode {
        let is_done =
            self.in_flight.is_empty() && self.nothing_to_do.is_empty() && self.not_found.is_empty();
        if is_done {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

fn events(count: usize) -> String {
    match count {
        1 => "1 event".to_owned(),
        count => format!("{count} events"),
    }
}
