//! Sending, and settings.

use crate::{
    ACCOUNT, TEXT, TOKEN, build, channel, delivery, impatient, is_clean, to, told, twilio,
};
use channel_sms::{Sms, SmsConfig};
use outbox_channel::{ChannelFactory, Delivery, ErrorClass, SendError};
use outbox_sandbox::twilio::{TwilioFault, TwilioServer};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpListener;

async fn fails(twilio: &TwilioServer, delivery: &Delivery) -> SendError {
    let error = channel(&twilio.base_url(), TOKEN)
        .send(delivery)
        .await
        .unwrap_err();
    assert!(is_clean(&error), "{error:?}");
    error
}

#[tokio::test]
async fn a_message_is_accepted_and_named() {
    let twilio = twilio().await;
    let receipt = channel(&twilio.base_url(), TOKEN)
        .send(&to("+15551234567"))
        .await
        .unwrap();
    let message = twilio.messages().remove(0);
    assert_eq!(receipt.provider_id(), Some(message.sid.as_str()));
    assert_eq!(message.to, "+15551234567");
    assert_eq!(message.from.as_deref(), Some("+15005550006"));
    assert_eq!(
        (message.body.as_str(), message.validity_period),
        (TEXT, None)
    );
}

#[tokio::test]
async fn every_character_arrives() {
    let twilio = twilio().await;
    let body = "1+1=2 & 50% off; naïve \"quotes\"\r\n\tline? #x /y\\z 💌 ~*!'()%2B";
    let payload = json!({"to": "+15551234567", "body": body, "from": "A&B+Co"});
    channel(&twilio.base_url(), TOKEN)
        .send(&delivery(&payload))
        .await
        .unwrap();
    let message = twilio.messages().remove(0);
    assert_eq!(message.body, body);
    assert_eq!(message.from.as_deref(), Some("A&B+Co"));
}

#[tokio::test]
async fn a_service_media_and_a_callback_go_along() {
    let twilio = twilio().await;
    let channel = build(json!({
        "account_sid": ACCOUNT, "auth_token": TOKEN, "base_url": twilio.base_url(),
        "messaging_service_sid": "MG1", "status_callback": "https://example.org/cb?x=1&y=2",
    }));
    let media = [
        "https://example.org/a.png?x=1&y=2",
        "https://example.org/b.png",
    ];
    let payload = json!({"to": "+15551234567", "media_url": media});
    channel.send(&delivery(&payload)).await.unwrap();
    let message = twilio.messages().remove(0);
    assert_eq!(message.from, None);
    assert_eq!(message.messaging_service_sid.as_deref(), Some("MG1"));
    assert_eq!(
        message.status_callback.as_deref(),
        Some("https://example.org/cb?x=1&y=2")
    );
    assert_eq!(message.media_urls, media);
}

#[tokio::test]
async fn the_expiry_is_passed_on() {
    let twilio = twilio().await;
    let mut event = to("+15551234567").event().clone();
    event.expires_at = Some(chrono::Utc::now() + chrono::TimeDelta::minutes(10));
    let name = "sms".parse().unwrap();
    let delivery = outbox_channel::DeliveryBuilder::new("test", event.into(), name).build();
    channel(&twilio.base_url(), TOKEN)
        .send(&delivery)
        .await
        .unwrap();
    let seconds = twilio.messages()[0].validity_period.unwrap();
    assert!((540..=600).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn connections_are_reused() {
    let twilio = twilio().await;
    let channel = channel(&twilio.base_url(), TOKEN);
    for _ in 0..3 {
        channel.send(&to("+15551234567")).await.unwrap();
    }
    assert_eq!((twilio.total(), twilio.connections()), (3, 1));
}

#[tokio::test]
async fn numbers_that_cannot_work_are_permanent() {
    let twilio = twilio().await;
    for (number, code) in [
        ("+15005550001", "21211"),
        ("+15005550002", "21612"),
        ("+15005550003", "21408"),
        ("+15005550004", "21610"),
        ("+15005550009", "21614"),
    ] {
        let error = fails(&twilio, &to(number)).await;
        assert_eq!(told(&error), (ErrorClass::Permanent, code));
    }
    assert_eq!(twilio.total(), 0);
}

#[tokio::test]
async fn a_full_queue_is_transient() {
    let twilio = twilio().await;
    let payload = json!({"to": "+15551234567", "body": TEXT, "from": "+15005550008"});
    let error = fails(&twilio, &delivery(&payload)).await;
    assert_eq!(told(&error), (ErrorClass::Transient, "21611"));
}

#[tokio::test]
async fn too_many_requests_are_transient_with_the_wait() {
    let twilio = twilio().await;
    let retry_after = Duration::from_secs(9);
    twilio
        .faults()
        .next(TwilioFault::TooManyRequests { retry_after });
    let error = fails(&twilio, &to("+15551234567")).await;
    assert_eq!(told(&error), (ErrorClass::Transient, "20429"));
    assert_eq!(error.retry_after(), Some(retry_after));

    twilio.faults().next(TwilioFault::Unavailable);
    let error = fails(&twilio, &to("+15551234567")).await;
    assert_eq!(told(&error), (ErrorClass::Transient, "20503"));
}

#[tokio::test]
async fn wrong_credentials_make_the_channel_unavailable() {
    let twilio = twilio().await;
    let channel = channel(&twilio.base_url(), "wr0ng");
    let error = channel.send(&to("+15551234567")).await.unwrap_err();
    assert_eq!(told(&error), (ErrorClass::Unavailable, "20003"));
    assert!(is_clean(&error) && !format!("{error:?}").contains("wr0ng"));
    let checked = channel.check().await.unwrap_err();
    assert_eq!(told(&checked), (ErrorClass::Unavailable, "20003"));

    twilio.faults().next(TwilioFault::Unauthorized);
    let error = fails(&twilio, &to("+15551234567")).await;
    assert_eq!(told(&error), (ErrorClass::Unavailable, "20003"));
}

#[tokio::test]
async fn a_check_reads_the_account_and_sends_nothing() {
    let twilio = twilio().await;
    channel(&twilio.base_url(), TOKEN).check().await.unwrap();
    assert_eq!((twilio.total(), twilio.connections()), (0, 1));
}

#[tokio::test]
async fn what_nobody_can_know_is_ambiguous() {
    let twilio = twilio().await;
    for (fault, code) in [
        (TwilioFault::HangUp, "connection_lost"),
        (TwilioFault::Garbage, "answer"),
        (TwilioFault::Stall, "timeout"),
    ] {
        twilio.faults().next(fault);
        let error = fails(&twilio, &impatient("+15551234567")).await;
        assert_eq!(told(&error), (ErrorClass::Ambiguous, code));
    }
    assert_eq!(twilio.total(), 3);
}

#[tokio::test]
async fn an_api_out_of_reach_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let channel = channel(&url, TOKEN);
    for error in [
        channel.send(&to("+15551234567")).await.unwrap_err(),
        channel.check().await.unwrap_err(),
    ] {
        assert_eq!(told(&error), (ErrorClass::Unavailable, "connect"));
        assert!(is_clean(&error));
    }
}

#[tokio::test]
async fn a_message_that_cannot_be_sent_never_leaves() {
    let twilio = twilio().await;
    for payload in [
        json!({"body": TEXT}),
        json!({"to": "5550", "body": TEXT}),
        json!({"to": "+15551234567\r\n", "body": TEXT}),
        json!({"to": "+15551234567"}),
        json!([]),
    ] {
        let error = fails(&twilio, &delivery(&payload)).await;
        assert_eq!(told(&error), (ErrorClass::Permanent, "payload"));
    }
    assert_eq!(twilio.connections(), 0);
}

#[test]
fn settings_that_cannot_work_are_told() {
    let told = |settings: Value| {
        let config: SmsConfig = serde_json::from_value(settings).unwrap();
        let built = Sms::build(&"sms".parse().unwrap(), config);
        built.err().unwrap().setting().to_owned()
    };
    let base = json!({"account_sid": ACCOUNT, "auth_token": TOKEN});
    assert_eq!(told(base.clone()), "from");
    let with = |key: &str, value: &str| {
        let mut settings = base.clone();
        settings["from"] = json!("+15005550006");
        settings[key] = json!(value);
        told(settings)
    };
    assert_eq!(with("from", "a\r\nb"), "from");
    assert_eq!(with("base_url", "nowhere"), "base_url");
    assert_eq!(with("ca_file", "/nonexistent.pem"), "ca_file");
    let typo = json!({"account_sid": ACCOUNT, "auth_token": TOKEN, "form": "x"});
    let typo = serde_json::from_value::<SmsConfig>(typo).unwrap_err();
    assert!(typo.to_string().contains("form"));
}
