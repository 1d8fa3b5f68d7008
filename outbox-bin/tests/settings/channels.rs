//! Channels, what they inherit, and the variables of their providers.

use crate::{Pairs, config, errors, from_environment, from_file, load, warnings};
use outbox_bin::settings::OnAmbiguous;
use serde_json::json;
use std::time::Duration;

#[test]
fn a_channel_has_defaults_and_inherits_retries_key_by_key() {
    let settings = from_file(
        r#"
        [retry]
        max_retries = 3
        [channels.plain]
        kind = "null"
        [channels.special]
        kind = "null"
        concurrency = 1
        timeout = "1m30s"
        rate_limit = "600/m"
        on_ambiguous = "hold"
        retry = { jitter = 1, base_delay = "10s" }
        "#,
    );
    let plain = settings.channel("plain").unwrap();
    assert_eq!(plain.retry, settings.retry);
    assert_eq!((plain.concurrency, plain.timeout.as_secs()), (16, 30));
    assert_eq!(
        (plain.rate_limit, plain.on_ambiguous),
        (None, OnAmbiguous::Retry)
    );

    let special = settings.channel("special").unwrap();
    assert_eq!((special.concurrency, special.timeout.as_secs()), (1, 90));
    assert_eq!(special.on_ambiguous, OnAmbiguous::Hold);
    let rate = special.rate_limit.unwrap();
    assert_eq!(
        (rate.count.get(), rate.period),
        (600, Duration::from_secs(60))
    );
    assert_eq!(special.retry.base_delay, Duration::from_secs(10));
    assert!((special.retry.jitter - 1.0).abs() < f64::EPSILON);
    assert_eq!(special.retry.max_retries, 3);
    assert_eq!(special.retry.max_delay, settings.retry.max_delay);
    assert!(settings.channel("other").is_none());
}

#[test]
fn a_fixed_delay_reaches_every_channel_and_can_be_overridden() {
    let file = r#"
        [channels.a]
        kind = "null"
        [channels.b]
        kind = "null"
        retry.fixed_delay = "1s"
    "#;
    let settings = load(file, &[], &[("OUTBOX_WORKER_RETRY_DELAY_SECONDS", "9")]).unwrap();
    let fixed = |name| settings.channel(name).unwrap().retry.fixed_delay;
    assert_eq!(fixed("a"), Some(Duration::from_secs(9)));
    assert_eq!(fixed("b"), Some(Duration::from_secs(1)));
}

#[test]
fn the_default_retries_outlast_an_outage_of_hours() {
    let retry = from_file("").retry;
    let waits = (0..retry.max_retries).map(|nth| {
        let doubled = retry.base_delay.saturating_mul(1 << nth.min(20));
        doubled.min(retry.max_delay)
    });
    let hours = waits.sum::<Duration>().as_secs() / 3600;
    assert!((6..=24).contains(&hours), "{hours}");
    assert_eq!(retry.fixed_delay, None);
}

#[test]
fn provider_variables_alone_make_channels() {
    let settings = from_environment(&[
        ("SMTP_HOST", "mx.example.org"),
        ("SMTP_PORT", "2525"),
        ("SMTP_USER", "ada"),
        ("SMTP_PASS", "[1]"),
        ("SMTP_FROM", "ada@example.org"),
        ("TWILIO_ACCOUNT_SID", "AC1"),
        ("TWILIO_AUTH_TOKEN", "t"),
        ("TWILIO_FROM", "+15550100"),
        ("WEBHOOK_URL", "https://example.org/in"),
        ("WEBHOOK_SECRET", "whsec_1"),
    ]);
    let kinds: Vec<_> = settings
        .channels
        .iter()
        .map(|(n, c)| (n.as_str(), c.kind.as_str()))
        .collect();
    assert_eq!(
        kinds,
        [("email", "email"), ("sms", "sms"), ("webhook", "webhook")]
    );
    assert_eq!(settings.channel("email").unwrap().concurrency, 16);
    let email = json!({
        "host": "mx.example.org", "port": 2525, "user": "ada", "pass": "[1]",
        "from": "ada@example.org",
    });
    assert_eq!(config(&settings, "email"), email);
    let sms = json!({"account_sid": "AC1", "auth_token": "t", "from": "+15550100"});
    assert_eq!(config(&settings, "sms"), sms);
    let webhook = json!({"url": "https://example.org/in", "secret": "whsec_1"});
    assert_eq!(config(&settings, "webhook"), webhook);
}

#[test]
fn too_few_variables_make_no_channel() {
    let settings = from_environment(&[
        ("SMTP_PASS", "x"),
        ("SMTP_URL", ""),
        ("TWILIO_AUTH_TOKEN", "x"),
        ("WEBHOOK_SECRET", "x"),
    ]);
    assert!(settings.channels.is_empty());
}

#[test]
fn the_file_comes_first_and_variables_fill_the_rest() {
    let file = r#"
        [channels.email]
        kind = "email"
        settings = { host = "mx.example.org", from = "a@example.org" }
        [channels.sms]
        kind = "sms"
        settings = { account_sid = "AC1", messaging_service_sid = "MG1" }
        [channels.webhook]
        kind = "webhook"
        settings = { url = "https://example.org", secrets = ["whsec_1", "whsec_2"] }
    "#;
    let dotenv = [
        ("SMTP_PORT", "1"),
        ("SMTP_USER", "dot"),
        ("SMTP_URL", "smtp://x"),
    ];
    let environment = [
        ("SMTP_HOST", "ignored"),
        ("SMTP_FROM", "ignored"),
        ("SMTP_USER", "env"),
        ("TWILIO_AUTH_TOKEN", "t"),
        ("TWILIO_FROM", "+1"),
        ("WEBHOOK_SECRET", "whsec_3"),
    ];
    let settings = load(file, &dotenv, &environment).unwrap();
    let email = json!({
        "host": "mx.example.org", "from": "a@example.org", "port": 1, "user": "env",
    });
    assert_eq!(config(&settings, "email"), email);
    let sms = json!({"account_sid": "AC1", "messaging_service_sid": "MG1", "auth_token": "t"});
    assert_eq!(config(&settings, "sms"), sms);
    let webhook = json!({"url": "https://example.org", "secrets": ["whsec_1", "whsec_2"]});
    assert_eq!(config(&settings, "webhook"), webhook);
    let told = warnings(&settings);
    for expected in [
        ".env SMTP_URL: is ignored: `channels.email.settings.host` is set (outbox.toml)",
        "environment variable TWILIO_FROM: is ignored: \
         `channels.sms.settings.messaging_service_sid` is set (outbox.toml)",
        "environment variable WEBHOOK_SECRET: is ignored: \
         `channels.webhook.settings.secrets` is set (outbox.toml)",
    ] {
        assert!(told.contains(&expected.to_owned()), "{told:?}");
    }
}

#[test]
fn of_two_ways_the_stronger_source_takes_one() {
    fn server(dotenv: Pairs<'_>, environment: Pairs<'_>) -> serde_json::Value {
        config(&load("", dotenv, environment).unwrap(), "email")
    }
    let (url, host) = (("SMTP_URL", "smtp://u"), ("SMTP_HOST", "h"));
    assert_eq!(server(&[url], &[host]), json!({"host": "h"}));
    assert_eq!(server(&[host], &[url]), json!({"url": "smtp://u"}));
    assert_eq!(server(&[], &[host, url]), json!({"url": "smtp://u"}));
    // What belongs to the other way is left out, wherever it is set.
    let rest = [("SMTP_PORT", "1"), ("SMTP_PASS", "p")];
    assert_eq!(server(&[url], &rest), json!({"url": "smtp://u"}));
}

#[test]
fn a_path_beats_the_file_where_a_provider_variable_does_not() {
    let file = "[channels.webhook]\nkind = \"webhook\"\nsettings.url = \"https://file.example\"";
    let environment = [
        ("WEBHOOK_URL", "https://plain.example"),
        (
            "OUTBOX_CHANNELS__WEBHOOK__SETTINGS__URL",
            "https://path.example",
        ),
    ];
    let plain = load(file, &[], &environment[..1]).unwrap();
    assert_eq!(config(&plain, "webhook")["url"], "https://file.example");
    let path = load(file, &[], &environment).unwrap();
    assert_eq!(config(&path, "webhook")["url"], "https://path.example");
}

#[test]
fn a_channel_of_another_kind_is_left_alone() {
    let file = "[channels.email]\nkind = \"null\"";
    let settings = load(file, &[], &[("SMTP_URL", "smtp://x"), ("SMTP_FROM", "a@b")]).unwrap();
    assert_eq!(settings.channel("email").unwrap().kind, "null");
    assert_eq!(config(&settings, "email"), json!({}));
}

#[test]
fn a_table_without_a_kind_gets_it_from_the_variables() {
    let file = "[channels.email]\nconcurrency = 2";
    let settings = load(file, &[], &[("SMTP_URL", "smtps://mx.example.org")]).unwrap();
    let email = settings.channel("email").unwrap();
    assert_eq!((email.kind.as_str(), email.concurrency), ("email", 2));
    let found = errors(file, &[], &[]);
    let expected = "outbox.toml: missing key `channels.email.kind`: add it, or set \
                    OUTBOX_CHANNELS__EMAIL__KIND";
    assert_eq!(found, [expected]);
}
