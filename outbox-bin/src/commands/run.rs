//! `outbox run`: the worker and the admin side, until a signal.

use super::AdminSide;
use crate::failure::Failure;
use crate::features;
use crate::registry::Registry;
use crate::settings::{Origin, Settings};
use crate::{assemble, signals};
use anyhow::Context;
use outbox_engine::Worker;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) async fn run(settings: &Settings, registry: &Registry) -> Result<ExitCode, Failure> {
    super::warn(settings.warnings());
    let store = assemble::open_store(settings).await?;
    let (worker, callbacks) = assemble::worker_and_callbacks(settings, registry, store.clone())?;
    let worker = Arc::new(worker);
    let is_enabled = settings.worker.enabled;
    if is_enabled && settings.worker.poll_interval.is_zero() {
        return one_cycle(&worker, settings).await;
    }

    let stop = CancellationToken::new();
    let signal = tokio::spawn({
        let stop = stop.clone();
        async move {
            let outcome = signals::shutdown().await;
            stop.cancel();
            outcome
        }
    });
    let admin = match listener(settings).await? {
        Some(listener) => features::ADMIN.map(|serve| {
            tokio::spawn(serve(AdminSide {
                listener,
                settings: settings.admin.clone(),
                shutdown_grace: settings.worker.shutdown_grace,
                store,
                worker: Arc::clone(&worker),
                callbacks,
                is_working: is_enabled,
                stop: stop.clone(),
            }))
        }),
        None => None,
    };
    if !is_enabled && admin.is_none() {
        let message =
            "nothing to run: the worker is off (worker.enabled) and there is no admin side";
        return Err(Failure::Usage(message.to_owned()));
    }
    if is_enabled {
        tracing::info!(channels = settings.channels.len(), "worker starts");
        worker.run(stop.cancelled()).await?;
    }
    if let Some(admin) = admin {
        admin.await.context("the admin side died")??;
    }
    if signal.is_finished() {
        signal.await.context("the signal handler died")??;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a scheduler that starts a process now and then wants: a batch, and what comes with every
/// cycle.
async fn one_cycle(worker: &Worker, settings: &Settings) -> Result<ExitCode, Failure> {
    signals::finish_first();
    worker.dispatch(settings.worker.batch_size as usize).await?;
    if settings.retention.every_cycles == 1 {
        worker.prune().await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the admin side listens. Several workers on one host all have the default address: the
/// first gets it, the others go without. An address that was asked for has to be had.
async fn listener(settings: &Settings) -> Result<Option<TcpListener>, Failure> {
    if !settings.admin.enabled || features::ADMIN.is_none() {
        return Ok(None);
    }
    let address = settings.admin.listen;
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if settings.origin(&["admin", "listen"]) == Origin::Default => {
            tracing::warn!(%address, %error, "no admin side: its default address is taken");
            Ok(None)
        }
        Err(error) => Err(anyhow::Error::new(error)
            .context(format!(
                "the admin side cannot listen on {address} (admin.listen)"
            ))
            .into()),
    }
}
