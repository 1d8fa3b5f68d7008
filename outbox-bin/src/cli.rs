//! The command line.

#![expect(
    clippy::doc_markdown,
    reason = "these comments are help texts, shown as they are"
)]

mod events;

pub(crate) use events::{EventsAction, EventsArgs, SelectionArgs};

use chrono::{DateTime, Utc};
use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args, Parser, Subcommand};
use std::path::PathBuf;

const SETTINGS_AND_EXIT_CODES: &str = "\
Settings: outbox.toml (or --config, OUTBOX_CONFIG), then .env, then the environment: DATABASE_URL,
SMTP_URL, TWILIO_ACCOUNT_SID, WEBHOOK_URL …; `outbox config show` lists them all.
Exit codes: 0 fine, 1 failed, 2 bad usage or settings.";

/// Delivers the events that your application commits to its PostgreSQL: e-mail, SMS, webhooks
#[derive(Debug, Parser)]
#[command(
    name = "outbox",
    version,
    arg_required_else_help = true,
    after_help = SETTINGS_AND_EXIT_CODES
)]
pub(crate) struct Cli {
    /// The settings file [default: $OUTBOX_CONFIG, or outbox.toml if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// What is worth logging: a worker tells what it does, other commands only what is wrong,
    /// and the demonstration's failures are on purpose.
    pub(crate) fn log_level(&self) -> &'static str {
        match self.command {
            Command::Run => "info",
            Command::Demo(_) => "error",
            _ => "warn",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show it at work: a throwaway PostgreSQL, stand-in providers, real traffic
    Demo(DemoArgs),
    /// Bring the database's tables up to date
    Migrate {
        #[command(subcommand)]
        action: Option<MigrateAction>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Deliver until SIGTERM or SIGINT, and serve the admin side; a second signal ends it at once
    Run,
    /// Deliver one batch, and say what became of it
    Dispatch {
        /// At most so many events
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Write an event, or many
    Enqueue(Box<EnqueueArgs>),
    /// List events, show one; cancel, replay, decide what is held
    Events(EventsArgs),
    /// Count what waits and what is settled
    Status(OutputArgs),
    /// List the kinds of this build and the channels configured; pause or resume one
    Channels {
        #[command(subcommand)]
        action: Option<ChannelAction>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Check or show the settings
    Config {
        #[command(subcommand)]
        action: ConfigAction,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Forget settled events that are old enough
    Prune(OutputArgs),
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputArgs {
    /// Report as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// How many events [default: 200 with --once, otherwise no end]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) events: Option<u32>,
    /// Stop when all is settled, and print a summary
    #[arg(long)]
    pub(crate) once: bool,
    /// The port of the admin side; another one when it is taken
    #[arg(long, value_name = "P", default_value_t = 8025)]
    pub(crate) port: u16,
    /// Use this database instead of a throwaway one; what the demo writes stays in it.
    /// DATABASE_URL is never used
    #[arg(long, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum MigrateAction {
    /// What has been applied and what has not
    Status,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ChannelAction {
    /// Let nothing go through a channel until it is resumed; its events wait
    Pause {
        /// The channel
        name: String,
    },
    /// Let a paused channel go on, or try one that is down at once
    Resume {
        /// The channel
        name: String,
    },
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum ConfigAction {
    /// Validate the settings, without asking the database or any provider
    Check,
    /// The effective settings, each with its source; secrets are masked
    Show,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["payload", "file", "stdin", "batch"]))]
pub(crate) struct EnqueueArgs {
    /// The event's type, for instance invoice.paid
    #[arg(
        long = "type",
        value_name = "TYPE",
        required_unless_present = "batch",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(crate) event_type: Option<String>,
    /// The payload as JSON
    #[arg(long, value_name = "JSON")]
    pub(crate) payload: Option<String>,
    /// Read the payload from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// `-`: read the payload from standard input
    #[arg(value_name = "-", value_parser = ["-"])]
    pub(crate) stdin: Option<String>,
    /// Write many events, all or none: one JSON object a line, with the fields of outbox_enqueue
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "event_type", "key", "dedup_key", "deliver_at", "expires_at", "priority", "max_retries",
    ])]
    pub(crate) batch: Option<PathBuf>,
    /// Events with the same key are delivered in order
    #[arg(long, value_name = "K")]
    pub(crate) key: Option<String>,
    /// Write it only if there is no event with this key yet
    #[arg(long, value_name = "D")]
    pub(crate) dedup_key: Option<String>,
    /// Not before then, for instance 2030-01-31T09:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) deliver_at: Option<DateTime<Utc>>,
    /// Not worth delivering from then on
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) expires_at: Option<DateTime<Utc>>,
    /// Lower is more urgent
    #[arg(
        long,
        value_name = "P",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub(crate) priority: i16,
    /// Tries after the first, instead of the channel's setting
    #[arg(long, value_name = "N")]
    pub(crate) max_retries: Option<u32>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let time = DateTime::parse_from_rfc3339(text);
    time.map(Into::into)
        .map_err(|_| "expected a time by RFC 3339, for instance 2030-01-31T09:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
