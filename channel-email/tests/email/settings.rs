//! Settings as an operator writes them.

use crate::build;
use channel_email::{EmailConfig, TlsMode};
use serde_json::{Value, json};

fn parse(settings: Value) -> Result<EmailConfig, serde_json::Error> {
    serde_json::from_value(settings)
}

fn complaint(settings: Value) -> String {
    match build(parse(settings).unwrap()) {
        Ok(_) => "none".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_key_is_known_and_no_other() {
    let config = parse(json!({
        "url": "smtp://mail", "host": "h", "port": 1, "user": "u", "pass": "p", "from": "f",
        "tls": "starttls", "ca_file": "c", "helo_name": "n", "pool_size": 1,
        "message_id_domain": "d", "max_message_bytes": 1,
    }))
    .unwrap();
    assert_eq!(config.tls, Some(TlsMode::StartTls));
    let typo = parse(json!({"hots": "mail"})).unwrap_err().to_string();
    assert!(
        typo.contains("unknown field `hots`") && typo.contains("`host`"),
        "{typo}"
    );
    let mode = parse(json!({"tls": "off"})).unwrap_err().to_string();
    assert!(mode.contains("`none`"), "{mode}");
}

#[test]
fn secrets_do_not_show() {
    let config = parse(json!({"url": "smtp://u:sesame@h", "pass": "sesame"})).unwrap();
    assert!(!format!("{config:?}").contains("sesame"), "{config:?}");
}

#[tokio::test]
async fn a_flaw_is_told_by_its_key() {
    let url = "smtp://mail?tls=none";
    let table = [
        (json!({}), "url: is missing"),
        (json!({"host": "ma il"}), "host: "),
        (json!({"host": "mail", "pass": "sesame"}), "user: "),
        (
            json!({"url": url, "from": "me"}),
            "from: is not one e-mail address",
        ),
        (json!({"url": url, "pool_size": 0}), "pool_size: "),
        (json!({"url": url, "pool_size": 1001}), "pool_size: "),
        (
            json!({"url": url, "max_message_bytes": 0}),
            "max_message_bytes: ",
        ),
        (
            json!({"url": url, "message_id_domain": "a b"}),
            "message_id_domain: ",
        ),
        (json!({"url": url, "helo_name": "a\r\nb"}), "helo_name: "),
        (
            json!({"url": url, "ca_file": "ca.pem"}),
            "ca_file: has no use",
        ),
        (
            json!({"url": "smtps://mail", "ca_file": "/no/such"}),
            "ca_file: cannot read /no/such",
        ),
        (
            json!({"url": "smtps://mail", "ca_file": "Cargo.toml"}),
            "ca_file: Cargo.toml holds no",
        ),
        (
            json!({"url": url, "helo_name": "::1", "message_id_domain": "example.org"}),
            "none",
        ),
        (json!({"url": url, "helo_name": "me.example.org"}), "none"),
    ];
    for (settings, expected) in table {
        let told = complaint(settings.clone());
        assert!(told.starts_with(expected), "{settings}: {told}");
        assert!(!told.contains("sesame"), "{told}");
    }
}

#[tokio::test]
async fn the_message_id_may_have_a_domain_of_its_own() {
    let server = outbox_sandbox::smtp::SmtpServer::start().await.unwrap();
    let mut config = crate::settings(&server);
    config.message_id_domain = Some("id.example".to_owned());
    build(config)
        .unwrap()
        .send(&crate::short("hi"))
        .await
        .unwrap();
    let id = server.wait_for(1).await[0].header("Message-ID");
    assert_eq!(id.as_deref(), Some("<inst-1-email@id.example>"));
}
