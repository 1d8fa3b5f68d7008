//! `outbox channels`.

use crate::assemble;
use crate::cli::{ChannelAction, OutputArgs};
use crate::failure::Failure;
use crate::output;
use crate::registry::Registry;
use crate::settings::{Settings, quoted};
use anyhow::anyhow;
use outbox_channel::ChannelName;
use outbox_store::ChannelState;
use serde::Serialize;
use std::collections::BTreeSet;
use std::process::ExitCode;

/// A configured channel, or one that only other workers have.
#[derive(Serialize)]
struct Listed {
    name: String,
    kind: String,
    configured: bool,
    state: &'static str,
    last_error: Option<String>,
}

pub(crate) async fn run(
    action: Option<ChannelAction>,
    format: OutputArgs,
    settings: &Settings,
    registry: &Registry,
) -> Result<ExitCode, Failure> {
    match action {
        None => list(format, settings, registry).await,
        Some(ChannelAction::Pause { name }) => set_paused(&name, true, settings).await,
        Some(ChannelAction::Resume { name }) => set_paused(&name, false, settings).await,
    }
}

async fn list(
    format: OutputArgs,
    settings: &Settings,
    registry: &Registry,
) -> Result<ExitCode, Failure> {
    // Without a database there is still the configuration to show.
    let states = match settings.database_url() {
        Ok(_) => assemble::open_store(settings).await?.channels().await?,
        Err(_) => Vec::new(),
    };
    let channels = merged(settings, states);
    let kinds: Vec<_> = registry.kinds().collect();
    if format.json {
        output::json(&serde_json::json!({ "kinds": kinds, "channels": channels }))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line(format_args!("kinds in this build: {}", kinds.join(", ")));
    let rows = channels.into_iter().map(|channel| {
        let configured = if channel.configured { "yes" } else { "no" };
        let error = channel.last_error.unwrap_or_default();
        [
            channel.name,
            channel.kind,
            configured.to_owned(),
            channel.state.to_owned(),
            error,
        ]
    });
    output::table(
        ["CHANNEL", "KIND", "CONFIGURED", "STATE", "LAST ERROR"],
        rows,
        "no channels",
    );
    Ok(ExitCode::SUCCESS)
}

fn merged(settings: &Settings, states: Vec<ChannelState>) -> Vec<Listed> {
    let mut channels: Vec<Listed> = settings
        .channels
        .iter()
        .filter(|(name, _)| states.iter().all(|state| state.name != name.as_str()))
        .map(|(name, channel)| Listed {
            name: name.to_string(),
            kind: channel.kind.clone(),
            configured: true,
            state: "unused",
            last_error: None,
        })
        .collect();
    channels.extend(states.into_iter().map(|state| {
        let configured = settings.channel(&state.name);
        Listed {
            configured: configured.is_some(),
            state: state_of(&state),
            kind: configured.map_or(state.kind, |channel| channel.kind.clone()),
            name: state.name,
            last_error: state.last_error,
        }
    }));
    channels.sort_by(|a, b| a.name.cmp(&b.name));
    channels
}

fn state_of(state: &ChannelState) -> &'static str {
    match (state.paused_at.is_some(), state.down_since.is_some()) {
        (true, _) => "paused",
        (false, true) => "down",
        (false, false) => "open",
    }
}

fn unknown(channel: &ChannelName, settings: &Settings, states: &[ChannelState]) -> Failure {
    let configured = settings.channels.keys().map(ChannelName::as_str);
    let known: BTreeSet<&str> = configured
        .chain(states.iter().map(|state| state.name.as_str()))
        .collect();
    let known = if known.is_empty() {
        "there are none".to_owned()
    } else {
        format!("there are {}", quoted(known))
    };
    anyhow!("channel `{channel}` is not configured, and no worker has had it: {known}").into()
}

async fn set_paused(name: &str, paused: bool, settings: &Settings) -> Result<ExitCode, Failure> {
    let channel: ChannelName = name
        .parse()
        .map_err(|error| Failure::Usage(format!("{error}")))?;
    let store = assemble::open_store(settings).await?;
    // One that is configured may be paused before any worker has run.
    if let Some(configured) = settings.channel(channel.as_str()) {
        let max_retries = configured.retry.max_retries;
        store
            .declare_channel(&channel, &configured.kind, max_retries)
            .await?;
    }
    if !store.pause_channel(&channel, paused).await? {
        return Err(unknown(&channel, settings, &store.channels().await?));
    }
    output::line(format_args!(
        "{channel} is {}",
        if paused { "paused" } else { "open" }
    ));
    Ok(ExitCode::SUCCESS)
}
