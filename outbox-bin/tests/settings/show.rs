//! `config show`: everything with its source, and no secret.

use crate::sources;
use outbox_bin::settings::{Draft, Entry};

const FILE: &str = r#"
    [database]
    url = "postgres://app:hunter2@db.example.org/shop"
    [channels.crm]
    kind = "webhook"
    [channels.crm.settings]
    url = "https://crm.example.org/in?sig=hunter2"
    secrets = ["hunter2", "hunter2"]
    headers = { X-Team = "blue", Authorization = "hunter2" }
    [channels.slack.settings]
    bot_token = "hunter2"
    [[routes]]
    event = "a.*"
    channels = ["crm"]
"#;

fn entries(file: &str, dotenv: crate::Pairs<'_>, environment: crate::Pairs<'_>) -> Vec<Entry> {
    Draft::new(&sources(file, dotenv, environment)).entries()
}

fn lines(entries: &[Entry]) -> Vec<String> {
    let line = |entry: &Entry| {
        let value = entry.value.as_deref().unwrap_or("-");
        format!("{} = {value} ({})", entry.key, entry.source)
    };
    entries.iter().map(line).collect()
}

#[test]
fn every_setting_with_its_source() {
    let found = lines(&entries(
        FILE,
        &[("SMTP_HOST", "mx.example.org"), ("SMTP_PASS", "hunter2")],
        &[("ADMIN_API_KEY", "hunter2"), ("OUTBOX_WORKER__LEASE", "1m")],
    ));
    for expected in [
        "admin.api_key = ******** (environment variable ADMIN_API_KEY)",
        "admin.listen = 127.0.0.1:8025 (default)",
        "admin.read_only_api_key = - (default)",
        "channels.crm.concurrency = 16 (default)",
        "channels.crm.kind = webhook (outbox.toml)",
        "channels.crm.settings.headers.Authorization = ******** (outbox.toml)",
        "channels.crm.settings.headers.X-Team = ******** (outbox.toml)",
        "channels.crm.settings.secrets = ******** (outbox.toml)",
        "channels.crm.settings.url = https://crm.example.org/in?sig=*** (outbox.toml)",
        "channels.email.kind = email (.env SMTP_HOST)",
        "channels.email.settings.host = mx.example.org (.env SMTP_HOST)",
        "channels.email.settings.pass = ******** (.env SMTP_PASS)",
        "channels.slack.settings.bot_token = ******** (outbox.toml)",
        "database.schema = public (default)",
        "database.url = postgres://app:***@db.example.org/shop (outbox.toml)",
        "retry.fixed_delay = - (default)",
        "retry.jitter = 0.2 (default)",
        "routes[0].channels = [crm] (outbox.toml)",
        "routes[0].event = a.* (outbox.toml)",
        "worker.enabled = true (default)",
        "worker.lease = 1m (environment variable OUTBOX_WORKER__LEASE)",
    ] {
        assert!(
            found.contains(&expected.to_owned()),
            "{expected}\n{}",
            found.join("\n")
        );
    }
    assert!(!found.concat().contains("hunter2"), "{found:?}");
    assert!(found.is_sorted());
}

#[test]
fn settings_that_cannot_work_are_shown_all_the_same() {
    let environment = &[
        ("OUTBOX_WORKER__LEASE", "soon"),
        ("OUTBOX_NONSENSE__KEY_X", "hunter2"),
        (
            "OUTBOX_CHANNELS",
            "{crm = {settings = {secret = \"hunter2\"",
        ),
    ];
    let draft = Draft::new(&sources(FILE, &[], environment));
    let found = lines(&draft.entries()).join("\n");
    assert!(
        found.contains("worker.lease = soon (environment variable"),
        "{found}"
    );
    assert!(!found.contains("hunter2"), "{found}");
    draft.settings().unwrap_err();
}

#[test]
fn a_file_that_does_not_parse_leaves_the_rest() {
    let found = lines(&entries("[broken", &[], &[("OUTBOX_BATCH_SIZE", "5")]));
    assert!(
        found
            .contains(&"worker.batch_size = 5 (environment variable OUTBOX_BATCH_SIZE)".to_owned())
    );
}

#[test]
fn entries_can_be_serialised() {
    let entries = entries("", &[], &[]);
    let first = serde_json::to_value(&entries[0]).unwrap();
    let expected = serde_json::json!({"key": "admin.api_key", "value": null, "source": "default"});
    assert_eq!(first, expected);
}
