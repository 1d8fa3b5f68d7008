//! The chaos suite from the command line; see `--help`.

use clap::Parser;
use outbox_chaos::Options;
use std::io::Write;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let mut options = Options::parse();
    let seed = options.seed.unwrap_or_else(rand::random);
    options.seed = Some(seed);
    // Before anything can go wrong.
    eprintln!("seed {seed}, {:?} of faults", options.duration);
    tokio::select! {
        outcome = judged(&options) => outcome.unwrap_or_else(|error| {
            eprintln!("outbox-chaos: {error:#}");
            ExitCode::from(2)
        }),
        // Drops everything that runs, and all goes with it.
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
    }
}

async fn judged(options: &Options) -> anyhow::Result<ExitCode> {
    let report = outbox_chaos::run(options).await?;
    let mut out = std::io::stdout();
    if options.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        writeln!(out, "{report}")?;
    }
    Ok(if report.is_fine() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
