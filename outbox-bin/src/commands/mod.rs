//! One module a command.

#[cfg(feature = "admin")]
pub(crate) mod admin;
mod channels;
mod config;
mod enqueue;
mod events;
mod migrate;
mod run;
mod status;

use crate::cli::{Cli, Command, DemoArgs, OutputArgs};
use crate::failure::Failure;
use crate::output;
use crate::registry::Registry;
use crate::settings::{AdminSettings, Problem, Settings, Sources};
use crate::{assemble, signals};
use outbox_engine::Worker;
use outbox_store::Store;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the admin side works with.
#[cfg_attr(
    not(feature = "admin"),
    expect(dead_code, reason = "read by the admin side only")
)]
pub(crate) struct AdminSide {
    pub(crate) listener: TcpListener,
    pub(crate) settings: AdminSettings,
    /// How long requests under way may still take.
    pub(crate) shutdown_grace: Duration,
    pub(crate) store: Store,
    pub(crate) worker: Arc<Worker>,
    pub(crate) callbacks: assemble::Callbacks,
    /// The worker runs in this process, and not only when a request asks it to.
    pub(crate) is_working: bool,
    pub(crate) stop: CancellationToken,
}

pub(crate) async fn run(cli: Cli, registry: Registry) -> Result<ExitCode, Failure> {
    // The demonstration has settings of its own: never those of a real installation.
    let command = match cli.command {
        Command::Demo(_) if cli.config.is_some() => {
            let message = "the demo has settings of its own: leave out --config";
            return Err(Failure::Usage(message.to_owned()));
        }
        Command::Demo(arguments) => return demo(arguments).await,
        command => command,
    };
    let sources = Sources::of_process(cli.config.as_deref())?;
    if let Command::Config { action, output } = command {
        return config::run(action, output, &sources, &registry);
    }
    let settings = Settings::load(&sources)?;
    match command {
        Command::Migrate { action, output } => migrate::run(action, output, &settings).await,
        Command::Run => run::run(&settings, &registry).await,
        Command::Dispatch { limit, output } => dispatch(limit, output, &settings, &registry).await,
        Command::Enqueue(arguments) => enqueue::run(*arguments, &settings).await,
        Command::Events(arguments) => events::run(arguments, &settings).await,
        Command::Status(output) => status::run(output, &settings).await,
        Command::Channels { action, output } => {
            channels::run(action, output, &settings, &registry).await
        }
        Command::Prune(output) => prune(output, &settings, &registry).await,
        Command::Demo(_) | Command::Config { .. } => Ok(ExitCode::SUCCESS),
    }
}

async fn demo(arguments: DemoArgs) -> Result<ExitCode, Failure> {
    match crate::features::DEMO {
        Some(demo) => demo(arguments).await,
        None => Err(Failure::Usage(
            "this build has no demo: rebuild with `--features demo`".to_owned(),
        )),
    }
}

fn warn<'a>(warnings: impl IntoIterator<Item = &'a Problem>) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

async fn dispatch(
    limit: Option<u32>,
    output: OutputArgs,
    settings: &Settings,
    registry: &Registry,
) -> Result<ExitCode, Failure> {
    let of_admin = |warning: &&Problem| warning.key().starts_with("admin.");
    warn(
        settings
            .warnings()
            .iter()
            .filter(|warning| !of_admin(warning)),
    );
    let store = assemble::open_store(settings).await?;
    let worker = assemble::worker(settings, registry, store)?;
    let limit = limit.unwrap_or(settings.worker.batch_size);
    signals::finish_first();
    let summary = worker.dispatch(limit as usize).await?;
    if output.json {
        output::json(&summary)?;
    } else {
        let outbox_engine::Summary {
            processed,
            skipped,
            errors,
            requeued,
            failed,
        } = summary;
        output::line(format_args!(
            "processed {processed}, skipped {skipped}, errors {errors}, requeued {requeued}, \
             failed {failed}"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

async fn prune(
    output: OutputArgs,
    settings: &Settings,
    registry: &Registry,
) -> Result<ExitCode, Failure> {
    let store = assemble::open_store(settings).await?;
    let removed = assemble::worker(settings, registry, store)?.prune().await?;
    if output.json {
        output::json(&serde_json::json!({ "removed": removed }))?;
    } else {
        output::line(format_args!("removed {removed}"));
    }
    Ok(ExitCode::SUCCESS)
}
