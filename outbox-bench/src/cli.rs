//! The command line.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Measures Outbox beside baselines and peers, against its targets.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: Run,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// A worker whose channel accepts everything: what scenarios with several processes start.
    #[command(hide = true)]
    Worker(Worker),
}

/// What to measure, and how much of it.
#[derive(Args, Clone)]
pub(crate) struct Run {
    /// Only these scenarios; may be given several times. `--list` names them.
    #[arg(long = "scenario", value_name = "NAME")]
    pub(crate) scenarios: Vec<String>,
    /// Names the scenarios and ends.
    #[arg(long)]
    pub(crate) list: bool,
    /// Events of one drain; all other amounts follow from it.
    #[arg(long, default_value_t = 200_000)]
    pub(crate) events: u64,
    /// How often everything is measured.
    #[arg(long, default_value_t = 3)]
    pub(crate) repeat: usize,
    /// How long things without an amount are measured, in seconds.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
    /// Settled events that are kept while others pass [default: 25 × events].
    #[arg(long)]
    pub(crate) kept: Option<u64>,
    /// The deep backlog [default: 50 × events].
    #[arg(long)]
    pub(crate) backlog: Option<u64>,
    /// Small numbers, once: shows that everything works, measures nothing.
    #[arg(long)]
    pub(crate) quick: bool,
    /// A server to make databases on, instead of a throwaway one. They are dropped afterwards.
    #[arg(long, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    /// Where results are written [default: docs/performance; with --quick target/performance].
    #[arg(long, value_name = "FOLDER")]
    pub(crate) output: Option<PathBuf>,
    /// The program that runs the peers.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/peers/release/outbox-bench-peers"
    )]
    pub(crate) peers: PathBuf,
}

impl Run {
    /// With what `--quick` means filled in.
    pub(crate) fn settled(mut self) -> Self {
        if self.quick {
            self.events = self.events.min(8_000);
            self.repeat = 1;
            self.seconds = self.seconds.min(1.0);
        }
        self
    }

    pub(crate) fn kept(&self) -> u64 {
        self.kept.unwrap_or(25 * self.events)
    }

    pub(crate) fn backlog(&self) -> u64 {
        self.backlog.unwrap_or(50 * self.events)
    }

    pub(crate) fn output(&self) -> PathBuf {
        let folder = if self.quick {
            "target/performance"
        } else {
            "docs/performance"
        };
        self.output.clone().unwrap_or_else(|| folder.into())
    }
}

/// How a worker is set.
#[derive(Args, Clone, Debug)]
pub(crate) struct Worker {
    #[arg(long)]
    pub(crate) database_url: String,
    #[arg(long)]
    pub(crate) batch_size: usize,
    #[arg(long)]
    pub(crate) concurrency: usize,
    #[arg(long)]
    pub(crate) connections: u32,
}
