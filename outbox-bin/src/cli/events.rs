//! `outbox events`.

use super::OutputArgs;
use crate::settings::values::parse_duration;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use outbox_channel::ChannelName;
use outbox_store::{EventFilter, EventStatus};

#[derive(Debug, Subcommand)]
pub(crate) enum EventsAction {
    /// List events, the youngest first
    List {
        #[command(flatten)]
        filter: FilterArgs,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50,
              value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// The next page: only events with a smaller id
        #[arg(long, value_name = "ID")]
        before: Option<i64>,
    },
    /// Show an event: its results, what is left to do, what failed
    Show {
        /// The event
        id: i64,
        /// Also what it says, which may be personal data
        #[arg(long)]
        payload: bool,
    },
    /// Take back what has not been sent: events by id, or all that match and are pending or held
    Cancel(SelectionArgs),
    /// Send again what failed, was cancelled, expired or skipped, or is held: events by id, or
    /// all that match (those that failed, unless --status says otherwise)
    Replay {
        #[command(flatten)]
        selection: SelectionArgs,
        /// Also what was delivered; with the same delivery id, so that a receiver may drop it
        #[arg(long)]
        delivered: bool,
    },
    /// Write down that a held message was delivered after all, as you found out
    Delivered {
        /// The events
        #[arg(value_name = "ID", required = true)]
        ids: Vec<i64>,
        /// Only through this channel
        #[arg(long, value_name = "NAME")]
        channel: Option<ChannelName>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    #[command(subcommand)]
    pub(crate) action: EventsAction,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct FilterArgs {
    /// pending, held, processed, failed, skipped, cancelled or expired
    #[arg(long, value_name = "STATUS")]
    pub(crate) status: Option<EventStatus>,
    /// Of this type; `*` stands for any characters, `?` for one
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: Option<String>,
    /// Routed to this channel
    #[arg(long, value_name = "NAME")]
    pub(crate) channel: Option<ChannelName>,
    /// Not older: a time such as 2030-01-31T09:00:00Z, or how long ago, such as 2h or 7d
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<DateTime<Utc>>,
    /// With this key
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
}

impl FilterArgs {
    /// Whether it lets every event through.
    pub(crate) fn is_empty(&self) -> bool {
        let Self {
            status,
            event_type,
            channel,
            since,
            key,
        } = self;
        let texts = [event_type, key].into_iter().all(Option::is_none);
        texts && status.is_none() && channel.is_none() && since.is_none()
    }
}

impl From<FilterArgs> for EventFilter {
    fn from(arguments: FilterArgs) -> Self {
        Self {
            status: arguments.status,
            event_type: arguments.event_type,
            channel: arguments.channel,
            since: arguments.since,
            key: arguments.key,
        }
    }
}

/// Events by id, or by what they are. With --channel, only what goes through that one.
#[derive(Debug, Clone, Args)]
pub(crate) struct SelectionArgs {
    /// The events
    #[arg(value_name = "ID", conflicts_with_all = ["status", "event_type", "since", "key"])]
    pub(crate) ids: Vec<i64>,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

fn since(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = super::time(text) {
        return Ok(time);
    }
    let long_ago = parse_duration(text).map_err(|_| {
        "expected a time by RFC 3339, for instance 2030-01-31T09:00:00Z, or how long ago, for \
         instance 90m, 2h or 7d"
            .to_owned()
    })?;
    Ok(Utc::now() - long_ago)
}
