//! The channel against a server that answers as Slack does.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use channel_slack::Slack;
use outbox_channel::{Channel, ChannelFactory, Delivery, ErrorClass};
use serde_json::json;
use std::time::Duration;
use wiremock::matchers::{body_json, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

async fn slack(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/services/T0/B0/s3cret"))
        .and(body_json(json!({ "text": "disk full" })))
        .respond_with(answer)
        .expect(1)
        .mount(&server)
        .await;
    server
}

fn channel(server: &MockServer) -> Box<dyn Channel> {
    let url = format!("{}/services/T0/B0/s3cret", server.uri());
    let config = serde_json::from_value(json!({ "url": url, "allow_private": true }));
    Slack::build(&"ops".parse().unwrap(), config.unwrap()).unwrap()
}

fn delivery(payload: &str) -> Delivery {
    Delivery::builder("alert.raised", payload).unwrap().build()
}

#[tokio::test]
async fn a_message_is_posted() {
    let server = slack(ResponseTemplate::new(200).set_body_string("ok")).await;
    let payload = r#"{"text": "disk full", "to": "nobody@example.org"}"#;
    channel(&server).send(&delivery(payload)).await.unwrap();
}

#[tokio::test]
async fn each_refusal_has_its_class() {
    for (status, class) in [
        (400, ErrorClass::Permanent),
        (403, ErrorClass::Unavailable),
        (404, ErrorClass::Unavailable),
        (410, ErrorClass::Unavailable),
        (429, ErrorClass::Transient),
        (500, ErrorClass::Transient),
    ] {
        let answer = ResponseTemplate::new(status)
            .insert_header("retry-after", "30")
            .set_body_string("no_service");
        let server = slack(answer).await;
        let (channel, delivery) = (channel(&server), delivery(r#"{"text": "disk full"}"#));
        let error = channel.send(&delivery).await.unwrap_err();
        assert_eq!(error.class(), class, "{status}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(30)));
        assert_eq!(error.answer(), Some("no_service"));
    }
}

#[tokio::test]
async fn a_payload_without_a_text_is_given_up() {
    let server = MockServer::start().await;
    let error = channel(&server).send(&delivery("{}")).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Permanent);
    assert!(error.message().contains("`text`"), "{error}");
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn readiness_is_a_connection() {
    let server = MockServer::start().await;
    let channel = channel(&server);
    channel.check().await.unwrap();
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[test]
fn an_address_that_cannot_work_is_refused_and_not_shown() {
    for url in ["s3cret", "ftp://s3cret"] {
        let config = serde_json::from_value(json!({ "url": url })).unwrap();
        let error = Slack::build(&"ops".parse().unwrap(), config).err().unwrap();
        assert_eq!(error.setting(), "url");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}
