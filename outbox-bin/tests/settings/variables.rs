//! Precedence, the `OUTBOX_` paths, the plain names.

use crate::{errors, from_environment, load, warnings};
use outbox_bin::Settings;
use secrecy::ExposeSecret;
use std::time::Duration;

#[test]
fn a_later_source_wins() {
    let file = "[worker]\nbatch_size = 2";
    let path = "OUTBOX_WORKER__BATCH_SIZE";
    let size = |settings: Settings| settings.worker.batch_size;
    assert_eq!(size(load("", &[], &[]).unwrap()), 100);
    assert_eq!(size(load(file, &[], &[]).unwrap()), 2);
    assert_eq!(size(load(file, &[(path, "3")], &[]).unwrap()), 3);
    assert_eq!(size(load(file, &[(path, "3")], &[(path, "4")]).unwrap()), 4);
    // A plain name in a stronger source beats a path in a weaker one.
    let plain = &[("OUTBOX_BATCH_SIZE", "5")];
    assert_eq!(size(load(file, &[(path, "3")], plain).unwrap()), 5);
    // In one source the path wins.
    let both = &[("OUTBOX_BATCH_SIZE", "5"), (path, "6")];
    assert_eq!(size(load(file, &[], both).unwrap()), 6);
    // Set to nothing is not set.
    assert_eq!(size(load(file, &[(path, "3")], &[(path, "")]).unwrap()), 3);
}

#[test]
fn every_plain_name_works_in_both_sources() {
    type Shows = fn(&Settings) -> String;
    let cases: &[(&str, &str, Shows, &str)] = &[
        (
            "DATABASE_URL",
            "postgres://db/a",
            |s| s.database_url().unwrap().expose_secret().into(),
            "postgres://db/a",
        ),
        (
            "OUTBOX_WORKER_ENABLED",
            "false",
            |s| s.worker.enabled.to_string(),
            "false",
        ),
        (
            "OUTBOX_WORKER_ENABLED",
            "0",
            |s| s.worker.enabled.to_string(),
            "false",
        ),
        (
            "OUTBOX_WORKER_POLL_MS",
            "1500",
            |s| format!("{:?}", s.worker.poll_interval),
            "1.5s",
        ),
        (
            "OUTBOX_POLL_INTERVAL_MS",
            "0",
            |s| format!("{:?}", s.worker.poll_interval),
            "0ns",
        ),
        (
            "OUTBOX_WORKER_PROCESS_LIMIT",
            "7",
            |s| s.worker.batch_size.to_string(),
            "7",
        ),
        (
            "OUTBOX_BATCH_SIZE",
            "8",
            |s| s.worker.batch_size.to_string(),
            "8",
        ),
        (
            "OUTBOX_WORKER_RETRY_DELAY_SECONDS",
            "9",
            |s| format!("{:?}", s.retry.fixed_delay),
            "Some(9s)",
        ),
        (
            "OUTBOX_WORKER_RETENTION_DAYS",
            "1",
            |s| s.retention.days.to_string(),
            "1",
        ),
        (
            "OUTBOX_WORKER_RETENTION_LIMIT",
            "2",
            |s| s.retention.limit.to_string(),
            "2",
        ),
        (
            "OUTBOX_WORKER_RETENTION_EVERY_CYCLES",
            "3",
            |s| s.retention.every_cycles.to_string(),
            "3",
        ),
        (
            "ADMIN_API_KEY",
            "0042",
            |s| s.admin.api_key.as_ref().unwrap().expose_secret().into(),
            "0042",
        ),
    ];
    for (name, value, show, expected) in cases {
        let variable = &[(*name, *value)];
        for (dotenv, environment) in [(&[][..], &variable[..]), (&variable[..], &[][..])] {
            let settings = load("", dotenv, environment).unwrap();
            assert_eq!(show(&settings), *expected, "{name}");
        }
    }
}

#[test]
fn of_two_plain_names_the_shorter_wins_and_says_so() {
    let settings = from_environment(&[
        ("OUTBOX_POLL_INTERVAL_MS", "0"),
        ("OUTBOX_WORKER_POLL_MS", "1000"),
        ("OUTBOX_WORKER_PROCESS_LIMIT", "5"),
        ("OUTBOX_BATCH_SIZE", "6"),
    ]);
    assert!(settings.worker.poll_interval.is_zero());
    assert_eq!(settings.worker.batch_size, 6);
    let expected = "environment variable OUTBOX_POLL_INTERVAL_MS: sets `worker.poll_interval`, \
                    as OUTBOX_WORKER_POLL_MS does, which is ignored";
    assert!(warnings(&settings).contains(&expected.to_owned()));
}

#[test]
fn a_number_with_its_unit_in_the_name_takes_no_other() {
    for value in ["2s", "-1", "1.5", "soon"] {
        let found = errors("", &[], &[("OUTBOX_WORKER_POLL_MS", value)]);
        let expected = "environment variable OUTBOX_WORKER_POLL_MS: `worker.poll_interval`: \
                        expected a whole number of milliseconds, without a unit";
        assert_eq!(found, [expected], "{value}");
    }
}

#[test]
fn a_path_reaches_every_setting() {
    let settings = from_environment(&[
        ("OUTBOX_DATABASE__SCHEMA", "shop"),
        ("OUTBOX_DATABASE__URL", "postgres://db/shop"),
        ("OUTBOX_WORKER__LEASE", "1m"),
        ("OUTBOX_RETRY__JITTER", "0"),
        ("OUTBOX_RETRY__FIXED_DELAY", "3s"),
        ("OUTBOX_RETENTION__DAYS", "5"),
        ("OUTBOX_ADMIN__LISTEN", "0.0.0.0:80"),
        ("OUTBOX_ADMIN__READ_ONLY_API_KEY", "+1.50"),
        ("OUTBOX_CHANNELS__CRM__KIND", "webhook"),
        ("OUTBOX_CHANNELS__CRM__RATE_LIMIT", "5/s"),
        ("OUTBOX_CHANNELS__CRM__RETRY__MAX_RETRIES", "1"),
        (
            "OUTBOX_CHANNELS__CRM__SETTINGS__URL",
            "https://crm.example.org",
        ),
        (
            "OUTBOX_CHANNELS__CRM__SETTINGS__HEADERS",
            r#"{X-Team = "a"}"#,
        ),
        ("OUTBOX_ROUTES", r#"[{event = "a.*", channels = ["crm"]}]"#),
    ]);
    assert_eq!(settings.database.schema, "shop");
    assert_eq!(settings.worker.lease, Duration::from_secs(60));
    assert!(settings.retry.jitter.abs() < f64::EPSILON);
    assert_eq!(settings.retry.fixed_delay, Some(Duration::from_secs(3)));
    assert_eq!(settings.retention.days, 5);
    assert_eq!(settings.admin.listen.port(), 80);
    let key = settings.admin.read_only_api_key.as_ref().unwrap();
    assert_eq!(key.expose_secret(), "+1.50");
    let crm = settings.channel("crm").unwrap();
    assert_eq!((crm.kind.as_str(), crm.retry.max_retries), ("webhook", 1));
    assert_eq!(crm.rate_limit.unwrap().count.get(), 5);
    let expected = serde_json::json!({
        "url": "https://crm.example.org",
        "headers": {"X-Team": "a"},
    });
    assert_eq!(crate::config(&settings, "crm"), expected);
    assert_eq!(settings.routes[0].event, "a.*");
}

#[test]
fn text_becomes_a_number_only_where_one_is_wanted() {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        sender: String,
        pin: String,
        port: u16,
        ratio: f64,
        strict: bool,
        secrets: Vec<String>,
        any: serde_json::Value,
    }
    let settings = from_environment(&[
        ("OUTBOX_CHANNELS__X__KIND", "x"),
        ("OUTBOX_CHANNELS__X__SETTINGS__SENDER", "+15550100"),
        ("OUTBOX_CHANNELS__X__SETTINGS__PIN", "0042"),
        ("OUTBOX_CHANNELS__X__SETTINGS__PORT", "25"),
        ("OUTBOX_CHANNELS__X__SETTINGS__RATIO", "0.25"),
        ("OUTBOX_CHANNELS__X__SETTINGS__STRICT", "yes"),
        ("OUTBOX_CHANNELS__X__SETTINGS__SECRETS", r#"["a", "b"]"#),
        ("OUTBOX_CHANNELS__X__SETTINGS__ANY", "true"),
    ]);
    let config: Config = settings.channel_config(&"x".parse().unwrap()).unwrap();
    assert_eq!(
        (config.sender.as_str(), config.pin.as_str()),
        ("+15550100", "0042")
    );
    assert_eq!((config.port, config.strict), (25, true));
    assert!((config.ratio - 0.25).abs() < f64::EPSILON);
    assert_eq!(config.secrets, ["a", "b"]);
    assert_eq!(config.any, true);
}

#[test]
fn a_variable_that_leads_nowhere_is_told_with_the_nearest() {
    let cases = [
        (
            "OUTBOX_WORKER__BATCHSIZE",
            "did you mean OUTBOX_WORKER__BATCH_SIZE?",
        ),
        (
            "OUTBOX_WORKR__BATCH_SIZE",
            "did you mean OUTBOX_WORKER__BATCH_SIZE?",
        ),
        (
            "OUTBOX_WORKER__LEASE__X",
            "did you mean OUTBOX_WORKER__LEASE?",
        ),
        (
            "OUTBOX_RETRY__QUICKLY",
            "in `retry` there are `max_retries`",
        ),
        ("OUTBOX_PORT__X", "at the top level there are `admin`"),
        ("OUTBOX_WORKER__", "in `worker` there are `enabled`"),
        // One underscore too few.
        (
            "OUTBOX_WORKER_BATCH_SIZE",
            "did you mean OUTBOX_WORKER__BATCH_SIZE?",
        ),
        ("OUTBOX_DATABASE_URL", "did you mean OUTBOX_DATABASE__URL?"),
        // Typos of the plain names.
        ("OUTBOX_BATCHSIZE", "did you mean OUTBOX_BATCH_SIZE?"),
        (
            "OUTBOX_WORKER_POL_MS",
            "did you mean OUTBOX_WORKER_POLL_MS?",
        ),
        ("OUTBOX_CONFG", "did you mean OUTBOX_CONFIG?"),
    ];
    for (name, hint) in cases {
        let found = errors("", &[], &[(name, "5")]);
        let start = format!("environment variable {name}: leads to no setting; ");
        assert!(found[0].starts_with(&start), "{name}: {found:?}");
        assert!(found[0].contains(hint), "{name}: {found:?}");
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        let found = errors("", &[(name, "5")], &[]);
        assert!(
            found[0].starts_with(&format!(".env {name}: leads to no ")),
            "{found:?}"
        );
    }
    let channel = [
        ("OUTBOX_CHANNELS__CRM__KIND", "webhook"),
        ("OUTBOX_CHANNELS__CRM__URL", "https://crm.example.org"),
    ];
    let expected = "environment variable OUTBOX_CHANNELS__CRM__URL: leads to no setting; \
                    did you mean OUTBOX_CHANNELS__CRM__SETTINGS__URL?";
    assert_eq!(errors("", &[], &channel), [expected]);
}

#[test]
fn a_foreign_variable_is_ignored_aloud() {
    let settings = from_environment(&[
        ("OUTBOX_PORT", "tcp://10.0.0.1:80"),
        ("OUTBOX_CONFIG", "outbox.toml"),
        ("OUTBOX_SANDBOX_KEEP", "1"),
        ("PATH", "/bin"),
    ]);
    let told: Vec<_> = warnings(&settings)
        .into_iter()
        .filter(|w| w.contains("variable"))
        .collect();
    let expected = "environment variable OUTBOX_PORT: leads to no setting and is ignored";
    assert_eq!(told, [expected]);
}
