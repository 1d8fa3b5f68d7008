//! The channel against a receiver that verifies with the official library.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use channel_webhook::{Webhook, WebhookConfig};
use ed25519_dalek::{Signature, SigningKey};
use outbox_channel::{Channel, ChannelFactory, Delivery, ErrorClass, SendError};
use outbox_sandbox::webhook::{WebhookFault, WebhookReceiver};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpListener;

const OLD: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const NEW: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn build(settings: Value) -> Box<dyn Channel> {
    let config: WebhookConfig = serde_json::from_value(settings).unwrap();
    Webhook::build(&"crm".parse().unwrap(), config).unwrap()
}

fn channel(receiver: &WebhookReceiver) -> Box<dyn Channel> {
    build(json!({"url": receiver.url(), "secret": NEW, "allow_private": true}))
}

fn delivery() -> Delivery {
    Delivery::builder("invoice.paid", r#"{"number": "4711", "sum": 1.10}"#)
        .unwrap()
        .build()
}

async fn fails(channel: &dyn Channel) -> SendError {
    channel.send(&delivery()).await.unwrap_err()
}

#[tokio::test]
async fn a_message_arrives_signed_and_unchanged() {
    let receiver = WebhookReceiver::start(&[NEW]).await.unwrap();
    let delivery = delivery();
    channel(&receiver).send(&delivery).await.unwrap();

    let message = receiver.messages().remove(0);
    assert_eq!(message.id, delivery.id().as_str());
    assert_eq!(message.headers["content-type"], "application/json");
    let text = String::from_utf8(message.body).unwrap();
    assert!(
        text.ends_with(r#""data":{"number": "4711", "sum": 1.10}}"#),
        "{text}"
    );
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["type"], "invoice.paid");
    let created = body["timestamp"].as_str().unwrap().parse();
    let created: chrono::DateTime<chrono::Utc> = created.unwrap();
    let off = created - delivery.event().created_at;
    assert!(off.num_milliseconds() == 0);
}

#[tokio::test]
async fn what_a_template_rendered_replaces_the_payload() {
    let receiver = WebhookReceiver::start(&[NEW]).await.unwrap();
    let rendered = serde_json::value::to_raw_value(&json!({"number": "new"})).unwrap();
    let event = std::sync::Arc::new(delivery().event().clone());
    let delivery = outbox_channel::DeliveryBuilder::new("test", event, "crm".parse().unwrap())
        .rendered(Some(rendered))
        .build();
    channel(&receiver).send(&delivery).await.unwrap();
    let body: Value = serde_json::from_slice(&receiver.messages()[0].body).unwrap();
    assert_eq!(body["data"], json!({"number": "new"}));
}

#[tokio::test]
async fn every_attempt_has_the_same_id() {
    let receiver = WebhookReceiver::start(&[NEW]).await.unwrap();
    receiver.faults().next(WebhookFault::HangUp);
    let channel = channel(&receiver);
    assert_eq!(fails(channel.as_ref()).await.class(), ErrorClass::Ambiguous);
    channel.send(&delivery()).await.unwrap();
    assert_eq!((receiver.total(), receiver.distinct()), (2, 1));
}

#[tokio::test]
async fn both_secrets_sign_while_they_are_exchanged() {
    for secret in [OLD, NEW] {
        let receiver = WebhookReceiver::start(&[secret]).await.unwrap();
        let settings = json!({
            "url": receiver.url(), "secret": NEW, "secrets": [OLD], "allow_private": true,
        });
        build(settings).send(&delivery()).await.unwrap();
        let signature = receiver.messages()[0].headers["webhook-signature"].clone();
        assert_eq!(signature.split(' ').count(), 2);
    }
}

#[tokio::test]
async fn a_wrong_secret_is_noticed_by_the_receiver() {
    let receiver = WebhookReceiver::start(&[OLD]).await.unwrap();
    let error = fails(channel(&receiver).as_ref()).await;
    assert_eq!(
        (error.class(), error.code()),
        (ErrorClass::Permanent, "401")
    );
    assert_eq!((receiver.total(), receiver.rejected()), (0, 1));
}

#[tokio::test]
async fn a_private_key_signs_for_its_public_half() {
    let key = SigningKey::from_bytes(&[42; 32]);
    // The 32 bytes 42, in base64.
    let secret = format!("whsk_{}Kio=", "Kioq".repeat(10));
    let receiver = WebhookReceiver::start(&[]).await.unwrap();
    let settings = json!({
        "url": receiver.url(), "secrets": [secret, NEW], "allow_private": true,
    });
    build(settings).send(&delivery()).await.unwrap();

    let message = receiver.messages().remove(0);
    let signatures = &message.headers["webhook-signature"];
    let (ours, shared) = signatures.split_once(' ').unwrap();
    assert!(shared.starts_with("v1,"));
    let bytes = unbase64(ours.strip_prefix("v1a,").unwrap());
    let timestamp = &message.headers["webhook-timestamp"];
    let mut content = format!("{}.{timestamp}.", message.id).into_bytes();
    content.extend_from_slice(&message.body);
    let signature = Signature::from_slice(&bytes).unwrap();
    key.verifying_key()
        .verify_strict(&content, &signature)
        .unwrap();
}

fn unbase64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}

#[tokio::test]
async fn without_a_secret_there_is_no_signature() {
    let receiver = WebhookReceiver::start(&[]).await.unwrap();
    let settings = json!({"url": receiver.url(), "allow_private": ["127.0.0.0/8"]});
    build(settings).send(&delivery()).await.unwrap();
    let message = receiver.messages().remove(0);
    assert!(!message.headers.contains_key("webhook-signature"));
    assert!(message.headers.contains_key("webhook-timestamp"));
}

#[tokio::test]
async fn extra_headers_go_along() {
    let receiver = WebhookReceiver::start(&[NEW]).await.unwrap();
    let settings = json!({
        "url": receiver.url(), "secret": NEW, "allow_private": true,
        "headers": {"Authorization": "Bearer t0ken", "x-team": "billing"},
    });
    build(settings).send(&delivery()).await.unwrap();
    let headers = receiver.messages().remove(0).headers;
    assert_eq!(headers["authorization"], "Bearer t0ken");
    assert_eq!(headers["x-team"], "billing");
}

#[tokio::test]
async fn a_status_decides() {
    let receiver = WebhookReceiver::start(&[NEW]).await.unwrap();
    let channel = channel(&receiver);
    let wait = Duration::from_secs(11);
    for (code, class) in [
        (400, ErrorClass::Permanent),
        (401, ErrorClass::Permanent),
        (404, ErrorClass::Permanent),
        (408, ErrorClass::Transient),
        (410, ErrorClass::Permanent),
        (425, ErrorClass::Transient),
        (429, ErrorClass::Transient),
        (500, ErrorClass::Transient),
        (503, ErrorClass::Transient),
    ] {
        let retry_after = Some(wait);
        receiver
            .faults()
            .next(WebhookFault::Status { code, retry_after });
        let error = fails(channel.as_ref()).await;
        assert_eq!((error.class(), error.code()), (class, &*code.to_string()));
        assert_eq!(error.retry_after(), Some(wait));
        assert_eq!(error.answer(), Some("not now, said the receiver"));
    }
    assert_eq!(receiver.total(), 0);
}

#[tokio::test]
async fn a_redirect_is_permanent_and_not_followed() {
    let receiver = WebhookReceiver::start(&[NEW]).await.unwrap();
    let location = receiver.url();
    receiver.faults().next(WebhookFault::Redirect { location });
    let error = fails(channel(&receiver).as_ref()).await;
    assert_eq!(
        (error.class(), error.code()),
        (ErrorClass::Permanent, "307")
    );
    assert!(error.message().contains("redirect"), "{error}");
    assert_eq!(receiver.total(), 0);
}

#[tokio::test]
async fn silence_after_the_request_is_ambiguous() {
    let receiver = WebhookReceiver::start(&[NEW]).await.unwrap();
    receiver.faults().next(WebhookFault::Stall);
    let delivery = Delivery::builder("a", "{}")
        .unwrap()
        .timeout(Duration::from_millis(500))
        .build();
    let error = channel(&receiver).send(&delivery).await.unwrap_err();
    assert_eq!(
        (error.class(), error.code()),
        (ErrorClass::Ambiguous, "timeout")
    );
}

#[tokio::test]
async fn an_endless_answer_to_a_message_that_was_taken_is_a_success() {
    let receiver = WebhookReceiver::start(&[NEW]).await.unwrap();
    receiver.faults().next(WebhookFault::EndlessBody);
    channel(&receiver).send(&delivery()).await.unwrap();
}

#[tokio::test]
async fn a_target_that_is_down_is_transient() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let channel = build(json!({"url": url, "allow_private": true}));
    let error = fails(channel.as_ref()).await;
    assert_eq!(
        (error.class(), error.code()),
        (ErrorClass::Transient, "connect")
    );
}

#[tokio::test]
async fn a_private_target_is_refused_unless_allowed() {
    let receiver = WebhookReceiver::start(&[]).await.unwrap();
    let by_name = receiver.url().replace("127.0.0.1", "localhost");
    let mapped = receiver.url().replace("127.0.0.1", "[::ffff:127.0.0.1]");
    for url in [receiver.url(), by_name, mapped] {
        let channel = build(json!({"url": url}));
        let error = fails(channel.as_ref()).await;
        assert_eq!(error.class(), ErrorClass::Unavailable);
        assert_eq!(error.code(), "address_refused");
        assert_eq!(channel.check().await.unwrap_err().code(), "address_refused");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_check_connects_and_sends_no_event() {
    let receiver = WebhookReceiver::start(&[]).await.unwrap();
    channel(&receiver).check().await.unwrap();
    assert_eq!((receiver.total(), receiver.rejected()), (0, 0));
}

#[tokio::test]
async fn a_payload_that_is_no_object_is_permanent_and_not_sent() {
    let receiver = WebhookReceiver::start(&[]).await.unwrap();
    let delivery = Delivery::builder("a", "[1]").unwrap().build();
    let error = channel(&receiver).send(&delivery).await.unwrap_err();
    assert_eq!(
        (error.class(), error.code()),
        (ErrorClass::Permanent, "payload")
    );
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn many_at_once_share_the_channel() {
    let receiver = WebhookReceiver::start(&[NEW]).await.unwrap();
    let channel: std::sync::Arc<dyn Channel> = channel(&receiver).into();
    let mut sends = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let channel = std::sync::Arc::clone(&channel);
        sends.spawn(async move { channel.send(&delivery()).await });
    }
    while let Some(sent) = sends.join_next().await {
        sent.unwrap().unwrap();
    }
    assert_eq!(receiver.total(), 50);
}
