//! A binary with a plugin knows its kind, reads its settings, and delivers through it.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use outbox_sandbox::postgres::TestDatabase;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Output;
use tokio::process::Command;
use wiremock::matchers::{body_json, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

async fn outbox(folder: &Path, database: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_custom-binary"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("DATABASE_URL", database)
        .kill_on_drop(true)
        .output()
        .await
        .unwrap()
}

#[tokio::test]
async fn an_event_reaches_slack() {
    let database = TestDatabase::for_this_test().await.unwrap();
    let slack = MockServer::start().await;
    Mock::given(path("/services/T0/B0/s3cret"))
        .and(body_json(json!({ "text": "Ada has paid invoice 7" })))
        .respond_with(ResponseTemplate::new(200).set_body_string("ok"))
        .expect(1)
        .mount(&slack)
        .await;
    let folder = tempfile::tempdir().unwrap();
    let settings = format!(
        "[channels.ops]\nkind = \"slack\"\n\
         [channels.ops.settings]\nurl = \"{}/services/T0/B0/s3cret\"\nallow_private = true\n\
         [[routes]]\nevent = \"invoice.*\"\nchannels = [\"ops\"]\n\
         [routes.message.ops]\n\
         text = \"{{{{ payload.name }}}} has paid invoice {{{{ payload.number }}}}\"\n",
        slack.uri()
    );
    std::fs::write(folder.path().join("outbox.toml"), settings).unwrap();
    let run = async |arguments: &[&str]| {
        let output = outbox(folder.path(), database.url(), arguments).await;
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert!(!format!("{output:?}").contains("s3cret"), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };

    run(&["migrate"]).await;
    let channels: Value = serde_json::from_str(&run(&["channels", "--json"]).await).unwrap();
    let kinds = channels["kinds"].as_array().unwrap();
    assert!(
        kinds.contains(&json!("slack")) && kinds.contains(&json!("email")),
        "{kinds:?}"
    );

    let payload = r#"{"name": "Ada", "number": 7}"#;
    run(&["enqueue", "--type", "invoice.paid", "--payload", payload]).await;
    let done: Value = serde_json::from_str(&run(&["dispatch", "--json"]).await).unwrap();
    assert_eq!(
        (&done["processed"], &done["errors"]),
        (&json!(1), &json!(0)),
        "{done}"
    );
}

#[tokio::test]
async fn a_typo_in_the_plugins_settings_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "[channels.ops]\nkind = \"slack\"\nsettings.ulr = \"https://x\"\n";
    std::fs::write(folder.path().join("outbox.toml"), settings).unwrap();
    let output = outbox(folder.path(), "", &["config", "check"]).await;
    assert_eq!(output.status.code(), Some(2));
    let log = String::from_utf8(output.stderr).unwrap();
    let expected = "unknown key `channels.ops.settings.ulr`; did you mean `url`?";
    assert!(log.contains(expected), "{log}");
}
