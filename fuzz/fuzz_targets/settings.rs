//! A settings file, and behind a line `---` the environment: read, shown, refused.
#![no_main]

use channel_email::EmailConfig;
use channel_sms::SmsConfig;
use channel_webhook::WebhookConfig;
use libfuzzer_sys::fuzz_target;
use outbox_bin::Settings;
use outbox_bin::settings::{Draft, Sources};
use outbox_engine::{Route, Targets};
use std::collections::BTreeMap;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let sources = sources(text);
    for entry in Draft::new(&sources).entries() {
        assert!(!entry.key.is_empty());
    }
    match Settings::load(&sources) {
        Ok(settings) => {
            read_channels(&settings);
            read_routes(&settings);
        }
        Err(error) => {
            assert!(!error.problems().is_empty());
            assert!(!error.to_string().is_empty());
        }
    }
});

fn sources(text: &str) -> Sources {
    let (file, variables) = text.split_once("\n---\n").unwrap_or((text, ""));
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let mut sources = Sources::default();
    sources.file = Some(("outbox.toml".into(), file.to_owned()));
    sources.environment = variables
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    sources
}

fn read_channels(settings: &Settings) {
    for (name, channel) in &settings.channels {
        let refused = match channel.kind.as_str() {
            "email" => settings.channel_config::<EmailConfig>(name).err(),
            "sms" => match settings.channel_config::<SmsConfig>(name) {
                Ok(config) => {
                    drop((config.sender(), config.callbacks()));
                    None
                }
                Err(refused) => Some(refused),
            },
            _ => settings.channel_config::<WebhookConfig>(name).err(),
        };
        assert!(refused.is_none_or(|error| !error.to_string().is_empty()));
    }
}

fn read_routes(settings: &Settings) {
    for route in &settings.routes {
        let targets = Targets::FanOut(Vec::new());
        if let Err(error) = Route::new(&route.event, targets, BTreeMap::new()) {
            assert!(!error.to_string().is_empty());
        }
    }
}
