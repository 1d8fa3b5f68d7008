//! `config check`, `config show`, and settings that cannot work.

use crate::support::{Providers, Scene, Shop};
use serde_json::{Value, json};

#[tokio::test]
async fn valid_settings_are_said_to_be() {
    let scene = Scene::new()
        .set("ADMIN_API_KEY", "k")
        .file("[channels.a]\nkind = \"null\"\n[[routes]]\nevent = \"x.*\"\nchannels = [\"a\"]\n");
    let text = scene.ok(&["config", "check"]).await;
    assert_eq!(text, "the settings are valid: 1 channels, 1 routes\n");
    let report = scene.json(&["config", "check"]).await;
    assert_eq!(
        report,
        json!({ "valid": true, "problems": [], "warnings": [] })
    );
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_with_its_place() {
    let scene = Scene::new().set("OUTBOX_WORKER__LEESE", "1m").file(
        "[worker]\nbatchsize = 5\npoll_interval = \"5\"\n\
             [channels.a]\nkind = \"nul\"\n",
    );
    let log = scene.outbox(&["config", "check"]).await.failed(2);
    for expected in [
        "error: outbox.toml: unknown key `worker.batchsize`; did you mean `batch_size`?",
        "error: environment variable OUTBOX_WORKER__LEESE: leads to no setting; \
         did you mean OUTBOX_WORKER__LEASE?",
        "`worker.poll_interval`: a bare number has no unit",
    ] {
        assert!(log.contains(expected), "{log}");
    }
    let done = scene.outbox(&["config", "check", "--json"]).await;
    assert_eq!(done.code, Some(2));
    let report: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(report["valid"], false);
    let keys: Vec<_> = report["problems"].as_array().unwrap().iter().collect();
    assert!(
        keys.iter()
            .any(|problem| problem["key"] == "worker.batchsize"),
        "{report}"
    );
    assert!(
        keys.iter().all(|problem| problem["message"].is_string()),
        "{report}"
    );

    // No other command begins with such settings.
    for command in [&["run"][..], &["dispatch"], &["status"], &["migrate"]] {
        let log = scene.outbox(command).await.failed(2);
        assert!(log.contains("`worker.batchsize`"), "{command:?}: {log}");
    }
}

#[tokio::test]
async fn what_only_a_channel_or_a_route_can_judge() {
    for (file, complaint) in [
        (
            "[channels.a]\nkind = \"nul\"\n",
            "channel `a` has the unknown kind `nul`: this build has `email`, `null`, `sms`, \
             `webhook`; did you mean `null`?",
        ),
        (
            "[channels.a]\nkind = \"webhook\"\nsettings.url = \"not a url\"\n",
            "`channels.a.settings.url`: not a URL",
        ),
        (
            "[channels.a]\nkind = \"webhook\"\nsettings.url = \"ftp://x/Geheim\"\n",
            "`channels.a.settings.url`: must begin with http",
        ),
        (
            "[channels.a]\nkind = \"webhook\"\n",
            "missing key `channels.a.settings.url`",
        ),
        (
            "[channels.a]\nkind = \"webhook\"\nsettings.url = \"http://x\"\nsettings.sekret = 1\n",
            "unknown key `channels.a.settings.sekret`; did you mean `secret`?",
        ),
        (
            "[channels.a]\nkind = \"email\"\nsettings.url = \"http://Geheim@x\"\n",
            "`channels.a.settings.url`",
        ),
        (
            "[channels.a]\nkind = \"null\"\non_ambiguous = \"verify\"\n",
            "use `retry` or `hold`",
        ),
        (
            "[channels.a]\nkind = \"null\"\n\
             [[routes]]\nevent = \"x\"\nchannels = [\"a\"]\nmessage.a.subject = \"{{ oops\"\n",
            "routes[0].message.a",
        ),
        (
            "[channels.mail]\nkind = \"null\"\n[[routes]]\nevent = \"x\"\nchannels = [\"mial\"]\n",
            "did you mean `mail`?",
        ),
        (
            "[channels.a]\nkind = \"null\"\n[[routes]]\nevent = \"x[\"\nchannels = [\"a\"]\n",
            "routes[0].event",
        ),
        ("worker = 5\n", "`worker`: expected a table"),
        ("[worker\n", "outbox.toml: line 1"),
    ] {
        let scene = Scene::new().secret("Geheim").file(file);
        let log = scene.outbox(&["config", "check"]).await.failed(2);
        assert!(log.contains(complaint), "{file}: {log}");
        assert!(log.contains("error: outbox.toml: "), "{file}: {log}");
    }
}

#[tokio::test]
async fn show_names_every_source_and_masks_every_secret() {
    let shop = Shop::migrated().await;
    let providers = Providers::start().await;
    let scene = providers
        .scene(&shop)
        .set("ADMIN_API_KEY", "admin-K3y")
        .secret("admin-K3y")
        .file("[worker]\nlease = \"1m\"\n");
    scene.write(".env", b"OUTBOX_BATCH_SIZE=7\n");
    let text = scene.ok(&["config", "show"]).await;
    let line = |key: &str| {
        let mut lines = text.lines();
        let found = lines.find(|line| line.split_whitespace().next() == Some(key));
        found
            .unwrap_or_else(|| panic!("no {key} in {text}"))
            .to_owned()
    };
    for (key, source) in [
        ("worker.lease", "outbox.toml"),
        ("worker.batch_size", ".env OUTBOX_BATCH_SIZE"),
        ("worker.poll_interval", "default"),
        ("channels.email.kind", "environment variable SMTP_URL"),
        (
            "channels.sms.settings.auth_token",
            "environment variable TWILIO_AUTH_TOKEN",
        ),
        ("database.url", "environment variable DATABASE_URL"),
    ] {
        assert!(line(key).trim_end().ends_with(source), "{}", line(key));
    }
    assert!(
        line("database.url").contains(":***@"),
        "{}",
        line("database.url")
    );
    let entries = scene.json(&["config", "show"]).await;
    let entries = entries.as_array().unwrap();
    let token = entries
        .iter()
        .find(|entry| entry["key"] == "channels.sms.settings.auth_token");
    assert_eq!(token.unwrap()["value"], "********");
}

#[tokio::test]
async fn settings_that_cannot_work_can_still_be_shown() {
    let scene = Scene::new().file("[worker]\nbatchsize = 5\n");
    let text = scene.ok(&["config", "show"]).await;
    assert!(text.contains("worker.batchsize"), "{text}");
}

#[tokio::test]
async fn the_file_is_the_one_that_was_named() {
    let scene = Scene::new().set("OUTBOX_CONFIG", "other.toml");
    let log = scene.outbox(&["config", "check"]).await.failed(2);
    assert!(
        log.contains("other.toml") && log.contains("no such settings file"),
        "{log}"
    );
    scene.write("other.toml", b"[worker]\nlease = \"7m\"\n");
    scene.write("third.toml", b"[worker]\nlease = \"9m\"\n");
    assert!(scene.ok(&["config", "show"]).await.contains("7m"));
    let named = scene
        .ok(&["config", "show", "--config", "third.toml"])
        .await;
    assert!(named.contains("9m") && !named.contains("7m"), "{named}");
}
