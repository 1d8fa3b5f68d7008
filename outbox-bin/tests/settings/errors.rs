//! What an operator is told: the source, the key, what is wrong, what to do. Never a value.

use crate::{errors, from_environment, from_file, load, warnings};
use outbox_bin::Settings;
use outbox_bin::settings::{Origin, Sources};
use secrecy::ExposeSecret;

#[test]
fn each_mistake_in_a_file() {
    let cases = [
        (
            "[worker]\nbatchsize = 1",
            "unknown key `worker.batchsize`; did you mean `batch_size`?",
        ),
        (
            "[workers]\nlease = \"1s\"",
            "unknown key `workers`; did you mean `worker`?",
        ),
        (
            "colour = 1",
            "unknown key `colour`; at the top level there are `admin`, `channels`",
        ),
        (
            "[retry]\nspeed = 1",
            "unknown key `retry.speed`; in `retry` there are `max_retries`",
        ),
        ("worker = 5", "`worker`: expected a table, found a number"),
        (
            "channels = []",
            "`channels`: expected a table, found a list",
        ),
        (
            "[channels]\nx = \"null\"",
            "`channels.x`: expected a table, found text",
        ),
        (
            "[worker]\nlease = 30",
            "`worker.lease`: a bare number has no unit: write `250ms`, `30s`",
        ),
        (
            "[worker]\nlease = 1.5",
            "`worker.lease`: a bare number has no unit",
        ),
        (
            "[worker]\nlease = \"30\"",
            "`worker.lease`: a bare number has no unit",
        ),
        (
            "[worker]\nlease = \"30 seconds\"",
            "`worker.lease`: not a duration: write `250ms`",
        ),
        (
            "[worker]\nlease = true",
            "`worker.lease`: expected a duration such as `250ms`",
        ),
        (
            "[worker]\nlease = \"999ms\"",
            "`worker.lease`: expected at least `1s`",
        ),
        (
            "[worker]\nbatch_size = 0",
            "`worker.batch_size`: expected a number from 1 to 10000",
        ),
        (
            "[worker]\nbatch_size = 10001",
            "`worker.batch_size`: expected a number from 1 to 10000",
        ),
        (
            "[worker]\nbatch_size = \"5\"",
            "`worker.batch_size`: expected a whole number, not negative, found text",
        ),
        (
            "[worker]\nbatch_size = -5",
            "`worker.batch_size`: not a valid value: expected a whole number, not negative",
        ),
        (
            "[worker]\nenabled = \"yes\"",
            "`worker.enabled`: expected true or false, found text",
        ),
        (
            "[worker]\nconcurrency = 0",
            "`worker.concurrency`: expected a number from 1",
        ),
        (
            "[database]\nschema = \"Public\"",
            "`database.schema`: expected a plain identifier",
        ),
        (
            "[database]\nschema = \"a;b\"",
            "`database.schema`: expected a plain identifier",
        ),
        (
            "[database]\nmax_connections = 0",
            "`database.max_connections`: expected a number from 1",
        ),
        (
            "[database]\nurl = \"mysql://x\"",
            "`database.url`: expected postgres://USER:PASSWORD@HOST",
        ),
        (
            "[retry]\njitter = 1.1",
            "`retry.jitter`: expected a number from 0 to 1",
        ),
        (
            "[retry]\njitter = nan",
            "`retry.jitter`: expected a number from 0 to 1",
        ),
        (
            "[retry]\nbase_delay = \"0s\"",
            "`retry.base_delay`: expected more than nothing",
        ),
        (
            "[retry]\nbase_delay = \"2h\"",
            "`retry.base_delay`: longer than `max_delay`",
        ),
        (
            "[retry]\nmax_delay = \"1s\"",
            "`retry.max_delay`: shorter than `base_delay`",
        ),
        (
            "[retention]\nlimit = 0",
            "`retention.limit`: expected a number from 1",
        ),
        (
            "[retention]\ndays = 40000",
            "`retention.days`: expected a number from 0 to 36500",
        ),
        (
            "[admin]\nlisten = \"localhost\"",
            "`admin.listen`: expected an IP address and a port such as",
        ),
        (
            "[admin]\napi_key = \" \"",
            "`admin.api_key`: is empty, which would let everybody in",
        ),
        (
            "[admin]\napi_key = \"k\"\nread_only_api_key = \"k\"",
            "`admin.read_only_api_key`: is the same",
        ),
        (
            "[channels.CRM]\nkind = \"null\"",
            "`CRM` is not a channel name: use 1 to 63 of a-z",
        ),
        (
            "[channels.x]\nkind = \"null\"\nconcurency = 1",
            "unknown key `channels.x.concurency`; did you mean `concurrency`?",
        ),
        (
            "[channels.x]\nkind = \"null\"\nlatency = \"1s\"",
            "the channel's own settings belong in `[channels.x.settings]`",
        ),
        (
            "[channels.x]\nkind = \"null\"\nsettings = 5",
            "`channels.x.settings`: expected a table, found a number",
        ),
        (
            "[channels.x]\nkind = \"null\"\ntimeout = \"0s\"",
            "`channels.x.timeout`: expected more than nothing",
        ),
        (
            "[channels.x]\nkind = \"null\"\nconcurrency = 0",
            "`channels.x.concurrency`: expected at least 1",
        ),
        (
            "[channels.x]\nkind = \"null\"\nrate_limit = 5",
            "`channels.x.rate_limit`: expected a string, found a number",
        ),
        (
            "[channels.x]\nkind = \"null\"\nrate_limit = \"5\"",
            "`channels.x.rate_limit`: expected a rate such as `50/s`",
        ),
        (
            "[channels.x]\nkind = \"null\"\non_ambiguous = \"retyr\"",
            "`channels.x.on_ambiguous`: expected one of `retry`, `hold`, `verify`; did you mean `retry`?",
        ),
        (
            "[channels.x]\nkind = \"null\"\nretry.jitter = 2",
            "`channels.x.retry.jitter`: expected a number from 0 to 1",
        ),
        (
            "[channels.x]\nkind = \"null\"\nretry.jiter = 0",
            "unknown key `channels.x.retry.jiter`; did you mean `jitter`?",
        ),
    ];
    for (file, expected) in cases {
        let found = errors(file, &[], &[]);
        let expected = format!("outbox.toml: {expected}");
        // `concurrency` and the like end in a hint after the list of valid keys.
        let (start, rest) = expected.split_at("outbox.toml: ".len());
        assert!(
            found[0].starts_with(start) && found[0].contains(rest),
            "{file}: {found:?}"
        );
        assert_eq!(found.len(), 1, "{file}: {found:?}");
    }
}

#[test]
fn a_syntax_error_names_the_line_and_does_not_quote_it() {
    let found = errors("[admin]\n\napi_key = \"hunter2\nenabled = true", &[], &[]);
    assert!(found[0].starts_with("outbox.toml: line 3: "), "{found:?}");
    assert!(!found[0].contains("hunter2"), "{found:?}");
    let found = errors("[worker]\nlease = \"1s\"\nlease = \"2s\"", &[], &[]);
    assert!(
        found[0].starts_with("outbox.toml: line 3: duplicate key"),
        "{found:?}"
    );
}

#[test]
fn everything_wrong_is_told_at_once() {
    let file = r#"
        [worker]
        batchsize = 1
        leese = "1s"
        [retry]
        jitter = 5
        base_delay = 3
        [channels.x]
        knd = "null"
        [[routes]]
        event = "a"
    "#;
    let found = errors(
        file,
        &[],
        &[
            ("OUTBOX_ADMIN__LISTENN", "x"),
            ("OUTBOX_WORKER_POLL_MS", "x"),
        ],
    );
    for expected in [
        "`worker.batchsize`",
        "`worker.leese`",
        "`retry.base_delay`",
        "`channels.x.knd`",
        "`channels.x.kind`",
        "`routes[0]`",
        "OUTBOX_ADMIN__LISTENN",
        "OUTBOX_WORKER_POLL_MS",
    ] {
        assert!(
            found.iter().any(|line| line.contains(expected)),
            "{expected}: {found:?}"
        );
    }
    assert_eq!(found.len(), 8, "{found:?}");
}

#[test]
fn ranges_are_told_together() {
    let file = "[worker]\nbatch_size = 0\nlease = \"1ms\"\n[retry]\njitter = 7";
    assert_eq!(errors(file, &[], &[]).len(), 3);
}

#[test]
fn a_value_is_blamed_on_the_source_that_it_came_from() {
    let file = "[worker]\nbatch_size = 5";
    let name = "OUTBOX_WORKER__BATCH_SIZE";
    let wrong = "`worker.batch_size`: expected a whole number, not negative, found text";
    assert_eq!(
        errors(file, &[(name, "many")], &[]),
        [format!(".env {name}: {wrong}")]
    );
    let expected = format!("environment variable {name}: {wrong}");
    assert_eq!(errors(file, &[(name, "7")], &[(name, "many")]), [expected]);
    let range = errors(file, &[], &[("OUTBOX_BATCH_SIZE", "0")]);
    let expected = "environment variable OUTBOX_BATCH_SIZE: `worker.batch_size`: \
                    expected a number from 1 to 10000";
    assert_eq!(range, [expected]);

    let error = load(file, &[], &[("OUTBOX_BATCH_SIZE", "0")]).unwrap_err();
    let problem = &error.problems()[0];
    assert_eq!(problem.key(), "worker.batch_size");
    let origin = Origin::Environment("OUTBOX_BATCH_SIZE".to_owned());
    assert_eq!(problem.origin(), Some(&origin));
}

#[test]
fn no_value_is_ever_shown() {
    let secret = "hunter2";
    let files = [
        "admin = \"hunter2\"",
        "[admin]\nlisten = \"hunter2\"",
        "[database]\nurl = \"hunter2\"",
        "[database]\nschema = \"hunter2!\"",
        "[worker]\nenabled = \"hunter2\"\nlease = \"hunter2\"",
        "[retry]\njitter = \"hunter2\"",
        "[channels.x]\nkind = \"null\"\nsettings = \"hunter2\"",
        "[channels.x]\nkind = \"null\"\non_ambiguous = \"hunter2\"",
        "[channels.x]\nkind = \"null\"\nrate_limit = \"hunter2\"",
    ];
    for file in files {
        let error = load(file, &[], &[]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(secret), "{error}");
    }
    for name in [
        "OUTBOX_WORKER_POLL_MS",
        "OUTBOX_ADMIN__API_KEYY",
        "OUTBOX_ADMIN__LISTEN",
    ] {
        let error = load("", &[], &[(name, secret)]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(secret), "{error}");
    }
}

#[test]
fn debugged_settings_show_no_secret() {
    let settings = from_environment(&[
        ("DATABASE_URL", "postgres://app:hunter2@db/shop"),
        ("ADMIN_API_KEY", "hunter2"),
        ("OUTBOX_ADMIN__READ_ONLY_API_KEY", "xhunter2"),
        ("SMTP_URL", "smtp://ada:hunter2@mx"),
        ("WEBHOOK_URL", "https://example.org/?sig=hunter2"),
    ]);
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn the_database_is_missed_only_when_it_is_needed() {
    let settings = from_file("");
    let error = settings.database_url().unwrap_err().to_string();
    assert_eq!(
        error,
        "no database is named: set DATABASE_URL or database.url in outbox.toml"
    );
    let named = Sources {
        file: Some(("/etc/outbox/prod.toml".into(), String::new())),
        ..Sources::default()
    };
    let error = Settings::load(&named)
        .unwrap()
        .database_url()
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("or database.url in /etc/outbox/prod.toml"),
        "{error}"
    );
    let set = from_file("[database]\nurl = \"postgresql://db/shop\"");
    assert_eq!(
        set.database_url().unwrap().expose_secret(),
        "postgresql://db/shop"
    );
}

#[test]
fn odd_settings_are_warned_of() {
    let told = warnings(&from_file(""));
    assert!(
        told.iter()
            .any(|warning| warning.contains("no channel is configured")),
        "{told:?}"
    );
    assert!(
        told.iter()
            .any(|warning| warning.contains("set ADMIN_API_KEY")),
        "{told:?}"
    );
    let quiet = "[admin]\napi_key = \"k\"\n[channels.x]\nkind = \"null\"";
    assert_eq!(warnings(&from_file(quiet)), Vec::<String>::new());
}
