//! The `outbox` binary as a library, so that a team can build its own with channels of its own:
//!
//! ```no_run
//! # use outbox_bin::Null as Slack;
//! fn main() -> std::process::ExitCode {
//!     outbox_bin::run(outbox_bin::builtin_channels().register::<Slack>())
//! }
//! ```

mod assemble;
mod cli;
mod commands;
#[cfg(feature = "demo")]
mod demo;
mod failure;
mod features;
mod null;
mod output;
mod registry;
pub mod settings;
mod signals;

pub use features::builtin_channels;
pub use null::{Null, NullConfig};
pub use registry::{Channels, Registry};
pub use settings::Settings;

use clap::Parser;
use std::process::ExitCode;

/// Runs the command that the process was called with, and returns its exit code: 0 fine, 1
/// failed, 2 bad usage or settings.
#[must_use]
pub fn run(registry: Registry) -> ExitCode {
    let cli = cli::Cli::parse();
    output::start_logging(cli.log_level());
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failure::Failure::from(anyhow::Error::from(error)).report(),
    };
    let outcome = runtime.block_on(commands::run(cli, registry));
    // What still blocks a thread (a name being looked up) does not hold up the exit.
    runtime.shutdown_timeout(std::time::Duration::from_millis(100));
    match outcome {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
