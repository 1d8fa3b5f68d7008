//! Settings and the registry, from texts to values and messages. The process environment is
//! never read: each test brings its own.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod channels;
mod errors;
mod files;
mod registry;
mod routes;
mod show;
mod variables;

use outbox_bin::Settings;
use outbox_bin::settings::{SettingsError, Sources};

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn pairs(pairs: Pairs<'_>) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

fn sources(file: &str, dotenv: Pairs<'_>, environment: Pairs<'_>) -> Sources {
    Sources {
        file: Some(("outbox.toml".into(), file.to_owned())),
        dotenv: pairs(dotenv),
        environment: pairs(environment),
    }
}

fn load(file: &str, dotenv: Pairs<'_>, environment: Pairs<'_>) -> Result<Settings, SettingsError> {
    Settings::load(&sources(file, dotenv, environment))
}

fn from_file(file: &str) -> Settings {
    load(file, &[], &[]).unwrap()
}

fn from_environment(environment: Pairs<'_>) -> Settings {
    load("", &[], environment).unwrap()
}

/// What loading says is wrong.
fn errors(file: &str, dotenv: Pairs<'_>, environment: Pairs<'_>) -> Vec<String> {
    let error = load(file, dotenv, environment).unwrap_err();
    let lines: Vec<_> = error.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), error.problems().len(), "{error}");
    lines
}

fn warnings(settings: &Settings) -> Vec<String> {
    settings
        .warnings()
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// The settings of a channel as JSON, to look at.
fn config(settings: &Settings, channel: &str) -> serde_json::Value {
    settings.channel_config(&channel.parse().unwrap()).unwrap()
}
