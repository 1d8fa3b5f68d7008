//! Encryption, credentials, and connections that are used again.

use crate::{build, pair, settings, short};
use channel_email::{EmailConfig, TlsMode};
use outbox_channel::{Channel, ErrorClass};
use outbox_sandbox::smtp::{SmtpFault, SmtpServer, SmtpStep};
use std::io::Write;
use tempfile::NamedTempFile;

/// A file with the authority that `server` is to be trusted by.
fn ca_file(server: &SmtpServer) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(server.ca_pem().unwrap().as_bytes()).unwrap();
    file
}

fn trusting(server: &SmtpServer, ca: &NamedTempFile) -> EmailConfig {
    EmailConfig {
        ca_file: Some(ca.path().to_owned()),
        ..settings(server)
    }
}

async fn unavailable(config: EmailConfig, code: &str) -> String {
    let channel = build(config).unwrap();
    let checked = channel.check().await.unwrap_err();
    let sent = channel.send(&short("no")).await.unwrap_err();
    for error in [&checked, &sent] {
        assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
        assert_eq!(error.code(), code, "{error}");
    }
    assert_eq!(checked.message(), sent.message());
    format!("{sent} {sent:?} {}", sent.answer().unwrap_or_default())
}

#[tokio::test]
async fn starttls_and_implicit_tls_with_an_authority_of_ones_own() {
    let servers = [
        SmtpServer::builder().starttls().unwrap(),
        SmtpServer::builder().implicit_tls().unwrap(),
    ];
    for server in servers {
        let server = server.credentials("ada", "sesame").start().await.unwrap();
        let ca = ca_file(&server);
        let channel = build(trusting(&server, &ca)).unwrap();
        channel.check().await.unwrap();
        channel.send(&short("one")).await.unwrap();
        channel.send(&short("two")).await.unwrap();
        let mails = server.wait_for(2).await;
        // The check had the first connection, the mails share the second.
        assert_eq!((mails[0].connection, mails[1].connection), (2, 2));
    }
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_gets_nothing() {
    let server = SmtpServer::builder().starttls().unwrap();
    let server = server.credentials("ada", "sesame").start().await.unwrap();
    let stranger = SmtpServer::builder().starttls().unwrap();
    let stranger = stranger.start().await.unwrap();
    let ca = ca_file(&stranger);
    let told = unavailable(trusting(&server, &ca), "connection").await;
    assert!(told.contains("certificate"), "{told}");
    assert_eq!(server.mail_count(), 0);
}

#[tokio::test]
async fn without_starttls_nothing_is_said_in_the_clear() {
    let server = SmtpServer::builder().credentials("ada", "sesame");
    let server = server.start().await.unwrap();
    let mut config = settings(&server);
    config.url = Some(server.url().replace("?tls=none", "").into());
    // A certificate of any kind, so that this holds on a machine without a trust store.
    let other = SmtpServer::builder().starttls().unwrap();
    let other = other.start().await.unwrap();
    let ca = ca_file(&other);
    config.ca_file = Some(ca.path().to_owned());
    let told = unavailable(config, "starttls").await;
    assert!(told.contains("tls = \"none\""), "{told}");
}

#[tokio::test]
async fn settings_may_name_the_server_by_its_parts() {
    let server = SmtpServer::builder().credentials("ada", "sesame");
    let server = server.start().await.unwrap();
    let parts = |pass: &str| EmailConfig {
        host: Some("127.0.0.1".to_owned()),
        port: Some(server.address().port()),
        user: Some("ada".to_owned()),
        pass: Some(pass.into()),
        tls: Some(TlsMode::None),
        from: Some("me@example.org".to_owned()),
        ..EmailConfig::default()
    };
    let channel = build(parts("sesame")).unwrap();
    channel.check().await.unwrap();
    channel.send(&short("hi")).await.unwrap();

    let told = unavailable(parts("wrong-secret"), "535").await;
    assert!(
        told.contains("refused the credentials: 535 5.7.8"),
        "{told}"
    );
    assert!(!told.contains("wrong-secret"), "{told}");
}

#[tokio::test]
async fn credentials_that_the_server_cannot_take_or_misses_are_the_channels_fault() {
    let server = SmtpServer::start().await.unwrap();
    let mut config = settings(&server);
    config.url = Some(server.url().replace("smtp://", "smtp://ada:sesame@").into());
    let told = unavailable(config, "auth").await;
    assert!(!told.contains("sesame"), "{told}");

    let server = SmtpServer::builder().credentials("ada", "sesame");
    let server = server.start().await.unwrap();
    let mut config = settings(&server);
    config.url = Some(format!("smtp://{}?tls=none", server.address()).into());
    let error = build(config).unwrap().send(&short("no")).await.unwrap_err();
    assert_eq!(
        (error.class(), error.code()),
        (ErrorClass::Unavailable, "530")
    );
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let (server, channel) = pair().await;
    for subject in ["one", "two", "three"] {
        channel.send(&short(subject)).await.unwrap();
    }
    server.wait_for(3).await;
    assert_eq!(server.connection_count(), 1);
}

#[tokio::test]
async fn no_more_connections_than_allowed() {
    let server = SmtpServer::start().await.unwrap();
    let mut config = settings(&server);
    config.pool_size = Some(2);
    let channel: std::sync::Arc<dyn Channel> = build(config).unwrap().into();
    let mut sends = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let channel = std::sync::Arc::clone(&channel);
        sends.spawn(async move { channel.send(&short("hi")).await.map(drop) });
    }
    for outcome in sends.join_all().await {
        outcome.unwrap();
    }
    assert_eq!(server.mail_count(), 20);
    assert!(server.connection_count() <= 2);
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_replaced_unnoticed() {
    for fault in [
        SmtpFault::reply(SmtpStep::Mail, 421),
        SmtpFault::disconnect(SmtpStep::Mail),
    ] {
        let (server, channel) = pair().await;
        channel.send(&short("one")).await.unwrap();
        server.faults().next(fault);
        channel.send(&short("two")).await.unwrap();
        let mails = server.wait_for(2).await;
        assert_eq!((mails[0].connection, mails[1].connection), (1, 2));
        assert_eq!(mails[1].header("Subject").as_deref(), Some("two"));
    }
}
