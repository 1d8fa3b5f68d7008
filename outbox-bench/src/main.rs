//! Measures Outbox beside baselines and peers, against its targets: one scenario per module of
//! `scenarios`, each with its own baseline in the same run.

mod bare;
mod bench;
mod child;
mod cli;
mod database;
mod drain;
mod machine;
mod meter;
mod null;
mod peers;
mod pool;
mod report;
mod scenarios;
mod stats;

use clap::Parser;

/// As in the `outbox` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = cli::Arguments::parse();
    match arguments.command {
        Some(cli::Command::Worker(options)) => child::serve(options).await,
        None => scenarios::run(arguments.run).await,
    }
}
