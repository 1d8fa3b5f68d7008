//! `outbox demo`: everything at work, with a database and providers of its own.

mod progress;
mod providers;
mod report;
mod traffic;

use crate::cli::DemoArgs;
use crate::commands::AdminSide;
use crate::failure::Failure;
use crate::settings::{Settings, Sources};
use crate::{assemble, features, output, signals};
use anyhow::{Context, anyhow};
use outbox_sandbox::postgres::{Cluster, ClusterOptions};
use outbox_store::Store;
use progress::Progress;
use providers::Providers;
use report::Report;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use traffic::Traffic;
use url::Url;

/// With `--once` and no number of its own.
const EVENTS: u32 = 200;
/// Events per second: as fast as it is pleasant to watch, or as an end is wanted.
const LEISURELY: f64 = 5.0;
const BRISK: f64 = 100.0;

pub(crate) async fn run(arguments: DemoArgs) -> Result<ExitCode, Failure> {
    let stop = CancellationToken::new();
    tokio::spawn({
        let stop = stop.clone();
        async move {
            let _ = signals::shutdown().await;
            stop.cancel();
        }
    });
    let cluster = match arguments.database_url {
        Some(_) => None,
        None => Some(start_cluster().await?),
    };
    let url = match (&arguments.database_url, &cluster) {
        (Some(url), _) => url.clone(),
        (None, Some(cluster)) => cluster.url("postgres"),
        (None, None) => return Err(anyhow!("there is no database").into()),
    };
    let outcome = show(&arguments, &url, &stop).await;
    // Taking the cluster down blocks.
    tokio::task::spawn_blocking(move || drop(cluster))
        .await
        .context("the throwaway PostgreSQL could not be taken down")?;
    outcome
}

async fn start_cluster() -> Result<Cluster, Failure> {
    let started = tokio::task::spawn_blocking(|| Cluster::start(ClusterOptions::default()))
        .await
        .context("the throwaway PostgreSQL could not be started")?;
    Ok(started.map_err(anyhow::Error::from)?)
}

async fn show(
    arguments: &DemoArgs,
    url: &str,
    stop: &CancellationToken,
) -> Result<ExitCode, Failure> {
    let providers = Providers::start()
        .await
        .context("the stand-in providers do not start")?;
    let listener = listen(arguments).await?;
    let address = listener.local_addr()?;
    let settings = settings(&providers, url, &address.to_string())?;

    let store = assemble::connect(&settings).await?;
    store.migrate().await?;
    refuse_in_use(&store).await?;
    let kinds = features::builtin_channels();
    let (worker, callbacks) = assemble::worker_and_callbacks(&settings, &kinds, store.clone())?;
    let worker = Arc::new(worker);
    let working = tokio::spawn({
        let (worker, stop) = (Arc::clone(&worker), stop.clone());
        async move { worker.run(stop.cancelled()).await }
    });
    let admin = features::ADMIN.map(|serve| {
        tokio::spawn(serve(AdminSide {
            listener,
            settings: settings.admin.clone(),
            shutdown_grace: settings.worker.shutdown_grace,
            store: store.clone(),
            worker,
            callbacks,
            is_working: true,
            stop: stop.clone(),
        }))
    });
    let mut progress = Progress::start(arguments.output.json);
    progress.say(&where_to_look(url, &address.to_string()));

    let report = tokio::select! {
        report = play(arguments, &store, &providers, &mut progress) => Some(report?),
        () = stop.cancelled() => None,
    };
    progress.finish();
    stop.cancel();
    working.await.context("the worker died")??;
    if let Some(admin) = admin {
        admin.await.context("the admin side died")??;
    }
    let Some(report) = report else {
        return interrupted(arguments);
    };
    report.print(arguments.output)?;
    Ok(if report.is_as_it_should_be() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Without `--once` an interruption is the only end there is.
fn interrupted(arguments: &DemoArgs) -> Result<ExitCode, Failure> {
    if arguments.once {
        return Err(anyhow!("interrupted before every event was settled").into());
    }
    Ok(ExitCode::SUCCESS)
}

/// Traffic until all is settled with `--once`, and without it until a signal comes.
async fn play(
    arguments: &DemoArgs,
    store: &Store,
    providers: &Providers,
    progress: &mut Progress,
) -> Result<Report, Failure> {
    let begun = Instant::now();
    let total = arguments.events.or(arguments.once.then_some(EVENTS));
    let rate = if arguments.once { BRISK } else { LEISURELY };
    let mut traffic = Traffic::begin(store).await?;
    let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    let mut shown = Instant::now();
    loop {
        tick.tick().await;
        let is_done = total.is_some_and(|total| traffic.written() >= u64::from(total));
        if !is_done {
            traffic.write(store).await?;
        }
        if shown.elapsed() < Duration::from_millis(200) {
            continue;
        }
        shown = Instant::now();
        let left = progress.show(store, traffic.written(), total).await?;
        if is_done && left == 0 && arguments.once {
            break;
        }
    }
    Report::make(store, &traffic, providers, begun.elapsed()).await
}

fn settings(providers: &Providers, url: &str, listen: &str) -> Result<Settings, Failure> {
    let text = format!(
        "{}\n{}",
        include_str!("settings.toml"),
        providers.settings(url, listen)
    );
    let sources = Sources {
        file: Some(("the demo's settings".into(), text)),
        ..Sources::default()
    };
    Ok(Settings::load(&sources)?)
}

/// What waits in a database that is really somebody's would go to the stand-ins; and what the
/// demo writes would go out into the world where a real worker runs.
async fn refuse_in_use(store: &Store) -> Result<(), Failure> {
    let reason = if !store.backlog().await?.is_empty() {
        "has events waiting, and the demo would deliver them to its stand-ins"
    } else if store.workers().await?.iter().any(|worker| worker.alive) {
        "has a worker running, and it would deliver the demo's events for real"
    } else {
        return Ok(());
    };
    Err(anyhow!("this database {reason}: name an empty one, or leave out --database-url").into())
}

async fn listen(arguments: &DemoArgs) -> Result<TcpListener, Failure> {
    let port = arguments.port;
    match TcpListener::bind(("127.0.0.1", port)).await {
        Ok(listener) => Ok(listener),
        Err(error) => {
            if !arguments.output.json {
                output::note(format_args!(
                    "port {port} cannot be had ({error}), using another"
                ));
            }
            Ok(TcpListener::bind(("127.0.0.1", 0)).await?)
        }
    }
}

fn where_to_look(url: &str, address: &str) -> String {
    let database = without_secrets(url).unwrap_or_else(|| "'the database you named'".to_owned());
    let key = providers::API_KEY;
    format!(
        "Outbox is at work. Look around:\n  \
         psql {database} -c 'SELECT * FROM outbox_event_status ORDER BY id DESC LIMIT 10'\n  \
         curl -H 'x-api-key: {key}' http://{address}/api/admin/outbox/stats\n  \
         curl http://{address}/readyz\n\
         Ctrl-C ends it."
    )
}

/// A database that was named on the command line may have a password in its address.
fn without_secrets(url: &str) -> Option<String> {
    let mut url = Url::parse(url).ok()?;
    url.set_query(None);
    if url.password().is_some() {
        url.set_password(None).ok()?;
    }
    Some(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_the_databases_address_is_not_shown() {
        for url in [
            "postgres://me:hunter2@db.example/shop",
            "postgres://me@db.example/shop?password=hunter2",
        ] {
            let text = where_to_look(url, "127.0.0.1:1");
            assert!(
                text.contains("psql postgres://me@db.example/shop -c"),
                "{text}"
            );
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
