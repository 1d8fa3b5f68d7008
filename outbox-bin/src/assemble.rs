//! Settings to a worker.

use crate::failure::Failure;
use crate::registry::Registry;
use crate::settings::{
    ChannelSettings, OnAmbiguous, OnDead, Origin, Problem, RouteSettings, Settings, SettingsError,
    Targets,
};
use outbox_channel::{Channel, ChannelName};
use outbox_engine as engine;
use outbox_store::{OpenError, Store, StoreOptions};
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Opens the configured database, which has to have been migrated.
pub(crate) async fn open_store(settings: &Settings) -> Result<Store, Failure> {
    let opened = Store::open(&store_options(settings)?).await;
    opened.map_err(|error| unusable(error, settings))
}

/// Connects to the configured database, whatever is in it.
pub(crate) async fn connect(settings: &Settings) -> Result<Store, Failure> {
    let connected = Store::connect(&store_options(settings)?).await;
    connected.map_err(|error| unusable(error, settings))
}

/// A server that does not answer is often the wrong server, so it is said which one it is.
fn unusable(error: OpenError, settings: &Settings) -> Failure {
    let place = settings.database_url().ok().and_then(place_of);
    match (error, place) {
        (OpenError::Store(error), Some(place)) => {
            let origin = settings.origin(&["database", "url"]);
            anyhow::Error::new(error)
                .context(format!("the database at {place} ({origin})"))
                .into()
        }
        (error, _) => error.into(),
    }
}

/// Host, port and database, without what may be secret.
fn place_of(url: &SecretString) -> Option<String> {
    let options: PgConnectOptions = url.expose_secret().parse().ok()?;
    let database = options.get_database().unwrap_or_default();
    Some(match options.get_socket() {
        Some(socket) => format!("{}/{database}", socket.display()),
        None => format!("{}:{}/{database}", options.get_host(), options.get_port()),
    })
}

fn store_options(settings: &Settings) -> Result<StoreOptions, SettingsError> {
    let database = &settings.database;
    let mut options = StoreOptions::new(settings.database_url()?.expose_secret());
    options.schema.clone_from(&database.schema);
    options.max_connections = database.max_connections;
    Ok(options)
}

/// A worker over the configured channels and routes.
pub(crate) fn worker(
    settings: &Settings,
    registry: &Registry,
    store: Store,
) -> Result<engine::Worker, SettingsError> {
    let (worker, _) = worker_and_callbacks(settings, registry, store)?;
    Ok(worker)
}

/// Channels whose providers call back.
pub(crate) type Callbacks = Vec<(ChannelName, Arc<dyn Channel>)>;

/// A worker, and those of its channels that take callbacks.
pub(crate) fn worker_and_callbacks(
    settings: &Settings,
    registry: &Registry,
    store: Store,
) -> Result<(engine::Worker, Callbacks), SettingsError> {
    let (channels, callbacks) = share(channels(settings, registry)?);
    let router = router(settings)?;
    let worker = engine::Worker::new(store, router, channels, worker_options(settings));
    Ok((worker, callbacks))
}

/// Only the channels that take callbacks get a second owner: it costs each of their deliveries a
/// little.
fn share(channels: Vec<engine::ChannelSpec>) -> (Vec<engine::ChannelSpec>, Callbacks) {
    let mut callbacks = Callbacks::new();
    let share = |mut spec: engine::ChannelSpec| {
        if spec.channel.callback_source().is_some() {
            let shared: Arc<dyn Channel> = Arc::from(spec.channel);
            callbacks.push((spec.name.clone(), Arc::clone(&shared)));
            spec.channel = Box::new(shared);
        }
        spec
    };
    let channels = channels.into_iter().map(share).collect();
    (channels, callbacks)
}

/// Every channel made and within its limits.
pub(crate) fn channels(
    settings: &Settings,
    registry: &Registry,
) -> Result<Vec<engine::ChannelSpec>, SettingsError> {
    let made = registry.build(settings)?;
    let mut problems = Vec::new();
    let mut specs = Vec::with_capacity(made.len());
    for (name, channel) in made {
        let Some(limits) = settings.channel(name.as_str()) else {
            continue;
        };
        match on_ambiguous(&name, limits, channel.can_verify(), settings) {
            Ok(on_ambiguous) => specs.push(engine::ChannelSpec {
                kind: limits.kind.clone(),
                channel,
                concurrency: limits.concurrency as usize,
                timeout: limits.timeout,
                retry: retry_policy(limits),
                on_ambiguous,
                on_dead: match limits.on_dead {
                    OnDead::Skip => engine::OnDead::Skip,
                    OnDead::Block => engine::OnDead::Block,
                },
                rate_limit: limits.rate_limit.map(|limit| engine::RateLimit {
                    count: limit.count,
                    period: limit.period,
                }),
                name,
            }),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(specs)
    } else {
        Err(problems.into())
    }
}

fn on_ambiguous(
    name: &ChannelName,
    limits: &ChannelSettings,
    can_verify: bool,
    settings: &Settings,
) -> Result<engine::OnAmbiguous, Problem> {
    match limits.on_ambiguous {
        OnAmbiguous::Retry => Ok(engine::OnAmbiguous::Retry),
        OnAmbiguous::Hold => Ok(engine::OnAmbiguous::Hold),
        OnAmbiguous::Verify if can_verify => Ok(engine::OnAmbiguous::Verify),
        OnAmbiguous::Verify => {
            let path = ["channels", name.as_str(), "on_ambiguous"];
            let message = format!(
                "`channels.{name}.on_ambiguous`: kind `{}` cannot ask its provider what became of \
                 a message; use `retry` or `hold`",
                limits.kind
            );
            Err(Problem::new(
                settings.origin(&path),
                path.join("."),
                message,
            ))
        }
    }
}

fn retry_policy(limits: &ChannelSettings) -> engine::RetryPolicy {
    let retry = &limits.retry;
    engine::RetryPolicy {
        max_retries: retry.max_retries,
        base_delay: retry.base_delay,
        max_delay: retry.max_delay,
        jitter: retry.jitter,
        fixed_delay: retry.fixed_delay,
    }
}

/// The routes with their templates compiled.
pub(crate) fn router(settings: &Settings) -> Result<engine::Router, SettingsError> {
    let mut problems = Vec::new();
    let mut routes = Vec::with_capacity(settings.routes.len());
    let origin = settings.origin(&["routes"]);
    for (index, route) in settings.routes.iter().enumerate() {
        routes.extend(compile(route, index, &origin, &mut problems));
    }
    if problems.is_empty() {
        Ok(engine::Router::new(routes))
    } else {
        Err(problems.into())
    }
}

fn compile(
    route: &RouteSettings,
    index: usize,
    origin: &Origin,
    problems: &mut Vec<Problem>,
) -> Option<engine::Route> {
    let mut problem = |key: String, reason: String| {
        let message = format!("`{key}`: {reason}");
        problems.push(Problem::new(origin.clone(), key, message));
    };
    let mut messages = BTreeMap::new();
    for (channel, fields) in &route.message {
        match engine::MessageTemplate::new(fields.clone()) {
            Ok(template) => drop(messages.insert(channel.clone(), template)),
            Err(error) => {
                problem(
                    format!("routes[{index}].message.{channel}"),
                    error.to_string(),
                );
            }
        }
    }
    let targets = match &route.targets {
        Targets::All(channels) => engine::Targets::FanOut(channels.clone()),
        Targets::Fallback(channels) => engine::Targets::Fallback(channels.clone()),
    };
    match engine::Route::new(&route.event, targets, messages) {
        Ok(route) => Some(route),
        Err(error) => {
            problem(format!("routes[{index}].event"), error.to_string());
            None
        }
    }
}

fn worker_options(settings: &Settings) -> engine::WorkerOptions {
    let (worker, retention) = (&settings.worker, &settings.retention);
    engine::WorkerOptions {
        name: worker_name(),
        poll_interval: worker.poll_interval,
        batch_size: worker.batch_size as usize,
        concurrency: worker.concurrency as usize,
        lease: worker.lease,
        shutdown_grace: worker.shutdown_grace,
        retention: engine::Retention {
            days: retention.days.into(),
            limit: retention.limit,
            every_cycles: retention.every_cycles,
        },
    }
}

/// Host and process, as an operator would look for it.
fn worker_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() {
        "worker"
    } else {
        host.trim()
    };
    format!("{host}:{}", std::process::id())
}
