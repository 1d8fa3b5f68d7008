//! Answers and failures over real sockets.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod common;

use channel_http::reqwest::{Method, Request, Url};
use channel_http::{AllowPrivate, HttpClient, HttpOptions};
use common::{client, far, options, post, within};
use outbox_channel::{ErrorClass, SendError};
use outbox_sandbox::webhook::{WebhookFault, WebhookReceiver};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const SHORT: Duration = Duration::from_millis(500);

/// A port that nobody listens on.
async fn closed() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Reads what arrives on one connection until the head ends, and answers with `bytes`.
async fn raw_server(bytes: &'static [u8]) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = Vec::new();
        while !read.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut part = [0; 1024];
            let count = stream.read(&mut part).await.unwrap();
            assert!(count > 0, "the request never came");
            read.extend_from_slice(&part[..count]);
        }
        stream.write_all(bytes).await.unwrap();
        String::from_utf8(read).unwrap()
    });
    (address, task)
}

fn told(error: &SendError) -> (ErrorClass, &str) {
    (error.class(), error.code())
}

#[tokio::test]
async fn an_answer_has_status_body_and_retry_after() {
    let receiver = WebhookReceiver::start(&[]).await.unwrap();
    let answer = client()
        .execute(post(&receiver.url()), far())
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.excerpt(), r#"{"received":true}"#);
    assert!(!answer.is_truncated() && answer.retry_after().is_none());

    receiver.faults().next(WebhookFault::Status {
        code: 503,
        retry_after: Some(Duration::from_secs(7)),
    });
    let answer = client()
        .execute(post(&receiver.url()), far())
        .await
        .unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.retry_after(), Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn it_names_itself_and_reuses_the_connection() {
    let receiver = WebhookReceiver::start(&[]).await.unwrap();
    let client = client();
    for _ in 0..5 {
        client.execute(post(&receiver.url()), far()).await.unwrap();
    }
    assert_eq!(receiver.connections(), 1);
    let message = receiver.messages().remove(0);
    let agent = concat!("outbox/", env!("CARGO_PKG_VERSION"));
    assert_eq!(message.headers["user-agent"], agent);
    assert_eq!(message.headers["content-length"], "2");
    assert_eq!(message.body, b"{}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let receiver = WebhookReceiver::start(&[]).await.unwrap();
    receiver.faults().next(WebhookFault::Redirect {
        location: receiver.url(),
    });
    let answer = client()
        .execute(post(&receiver.url()), far())
        .await
        .unwrap();
    assert_eq!(answer.status(), 307);
    assert_eq!(receiver.total(), 0);
}

#[tokio::test]
async fn an_endless_answer_is_cut_at_the_cap() {
    let receiver = WebhookReceiver::start(&[]).await.unwrap();
    receiver.faults().next(WebhookFault::EndlessBody);
    let mut options = options();
    options.max_answer_bytes = 50_000;
    let client = HttpClient::new(options).unwrap();
    let answer = client.execute(post(&receiver.url()), far()).await.unwrap();
    assert_eq!((answer.status(), answer.body().len()), (200, 50_000));
    assert!(answer.is_truncated());
}

#[tokio::test]
async fn an_answer_of_exactly_the_cap_is_whole() {
    let receiver = WebhookReceiver::start(&[]).await.unwrap();
    let mut options = options();
    options.max_answer_bytes = r#"{"received":true}"#.len();
    let client = HttpClient::new(options).unwrap();
    let answer = client.execute(post(&receiver.url()), far()).await.unwrap();
    assert!(!answer.is_truncated());
}

#[tokio::test]
async fn a_slow_body_is_cut_at_the_deadline_and_the_status_stands() {
    let receiver = WebhookReceiver::start(&[]).await.unwrap();
    receiver.faults().next(WebhookFault::SlowBody {
        pause: Duration::from_secs(60),
    });
    let answer = client().execute(post(&receiver.url()), within(SHORT)).await;
    let answer = answer.unwrap();
    assert!(answer.is_truncated() && answer.status() == 200);
}

#[tokio::test]
async fn a_refused_connection_has_the_class_that_was_chosen() {
    let url = format!("http://{}/", closed().await);
    let error = client().execute(post(&url), far()).await.unwrap_err();
    assert_eq!(told(&error), (ErrorClass::Transient, "connect"));

    let mut options = HttpOptions::new(ErrorClass::Unavailable);
    options.allow_private = AllowPrivate::Yes;
    let client = HttpClient::new(options).unwrap();
    let error = client.execute(post(&url), far()).await.unwrap_err();
    assert_eq!(told(&error), (ErrorClass::Unavailable, "connect"));
    let error = client.probe(&Url::parse(&url).unwrap()).await.unwrap_err();
    assert_eq!(told(&error), (ErrorClass::Unavailable, "connect"));
}

#[tokio::test]
async fn an_unknown_name_is_told_as_such() {
    // `.invalid` never exists: RFC 6761.
    let url = "http://nobody.invalid/";
    let error = client().execute(post(url), far()).await.unwrap_err();
    assert_eq!(told(&error), (ErrorClass::Transient, "dns"));
    let probed = client().probe(&Url::parse(url).unwrap()).await;
    assert_eq!(probed.unwrap_err().code(), "dns");
}

#[tokio::test]
async fn a_deadline_before_the_connection_stands_is_not_ambiguous() {
    // Accepted by the kernel and never served, so the TLS handshake hangs.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let error = client()
        .execute(post(&url), within(SHORT))
        .await
        .unwrap_err();
    assert_eq!(told(&error), (ErrorClass::Transient, "timeout"));

    let mut options = options();
    options.connect_timeout = SHORT;
    let client = HttpClient::new(options).unwrap();
    let error = client.execute(post(&url), far()).await.unwrap_err();
    assert_eq!(told(&error), (ErrorClass::Transient, "connect"));
    let probed = client.probe(&Url::parse(&url).unwrap()).await.unwrap_err();
    assert_eq!(told(&probed), (ErrorClass::Transient, "timeout"));
}

#[tokio::test]
async fn a_deadline_after_the_request_was_written_is_ambiguous() {
    let receiver = WebhookReceiver::start(&[]).await.unwrap();
    receiver.faults().next(WebhookFault::Stall);
    let error = client().execute(post(&receiver.url()), within(SHORT)).await;
    assert_eq!(
        told(&error.unwrap_err()),
        (ErrorClass::Ambiguous, "timeout")
    );
    assert_eq!(receiver.total(), 1);
}

#[tokio::test]
async fn it_gives_up_before_its_caller_does() {
    let receiver = WebhookReceiver::start(&[]).await.unwrap();
    receiver.faults().next(WebhookFault::Stall);
    let deadline = within(Duration::from_secs(2));
    let attempt = tokio::time::timeout_at(deadline.into(), async {
        client().execute(post(&receiver.url()), deadline).await
    });
    assert!(attempt.await.unwrap().is_err());
}

#[tokio::test]
async fn a_connection_lost_after_the_request_was_written_is_ambiguous() {
    let receiver = WebhookReceiver::start(&[]).await.unwrap();
    receiver.faults().next(WebhookFault::HangUp);
    let error = client()
        .execute(post(&receiver.url()), far())
        .await
        .unwrap_err();
    assert_eq!(told(&error), (ErrorClass::Ambiguous, "connection_lost"));
    assert_eq!(receiver.total(), 1);
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_ambiguous() {
    let (address, server) = raw_server(b"220 mail.example.org ESMTP\r\n").await;
    let error = client()
        .execute(post(&format!("http://{address}/")), far())
        .await;
    assert_eq!(error.unwrap_err().class(), ErrorClass::Ambiguous);
    server.await.unwrap();
}

#[tokio::test]
async fn a_request_that_changes_nothing_is_never_ambiguous() {
    let (address, server) = raw_server(b"").await;
    let url = Url::parse(&format!("http://{address}/")).unwrap();
    let error = client()
        .execute(Request::new(Method::GET, url), far())
        .await;
    assert_eq!(error.unwrap_err().class(), ErrorClass::Transient);
    server.await.unwrap();
}

#[tokio::test]
async fn a_user_in_the_url_becomes_a_header_and_no_part_of_an_error() {
    let (address, server) = raw_server(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let url = format!("http://ada:s%3Acret@{address}/x?token=t0ken");
    client().execute(post(&url), far()).await.unwrap();
    let request = server.await.unwrap();
    assert!(
        request.contains("authorization: Basic YWRhOnM6Y3JldA=="),
        "{request}"
    );
    assert!(
        request.starts_with("POST /x?token=t0ken HTTP/1.1"),
        "{request}"
    );

    let url = format!("http://ada:s3cret@{}/path?token=t0ken", closed().await);
    let error = client().execute(post(&url), far()).await.unwrap_err();
    for secret in ["s3cret", "t0ken", "/path"] {
        assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
    }
}

#[tokio::test]
async fn private_targets_are_refused_however_they_are_spelled() {
    let receiver = WebhookReceiver::start(&[]).await.unwrap();
    let client = HttpClient::new(HttpOptions::new(ErrorClass::Transient)).unwrap();
    let port = Url::parse(&receiver.url()).unwrap().port().unwrap();
    for host in [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0177.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
    ] {
        let url = format!("http://{host}:{port}/");
        let error = client.execute(post(&url), far()).await.unwrap_err();
        assert_eq!(
            told(&error),
            (ErrorClass::Unavailable, "address_refused"),
            "{host}"
        );
        assert!(error.message().contains("allow_private"), "{error}");
        let probed = client.probe(&Url::parse(&url).unwrap()).await.unwrap_err();
        assert_eq!(probed.code(), "address_refused", "{host}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_listed_network_is_reached_by_address_and_by_name() {
    let receiver = WebhookReceiver::start(&[]).await.unwrap();
    let mut options = HttpOptions::new(ErrorClass::Transient);
    options.allow_private = AllowPrivate::Only(vec!["127.0.0.0/8".parse().unwrap()]);
    let client = HttpClient::new(options).unwrap();
    let by_name = receiver.url().replace("127.0.0.1", "localhost");
    for url in [receiver.url(), by_name] {
        let answer = client.execute(post(&url), far()).await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    let error = client.execute(post("http://10.0.0.1/"), far()).await;
    assert_eq!(error.unwrap_err().code(), "address_refused");
}

#[tokio::test]
async fn a_probe_connects_and_sends_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    client().probe(&Url::parse(&url).unwrap()).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap();
    assert!(received.is_empty());
}
