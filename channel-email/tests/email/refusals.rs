//! Payloads that can never become a mail.

use crate::{build, delivery, pair, settings};
use outbox_channel::{Channel, ErrorClass, SendError};
use outbox_sandbox::smtp::SmtpServer;
use serde_json::{Value, json};

async fn refused(channel: &dyn Channel, payload: &Value) -> SendError {
    let error = channel.send(&delivery(payload)).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Permanent, "{error}");
    error
}

/// A mail that could be sent, but for `field`.
fn with(field: &str, value: Value) -> Value {
    let mut payload = json!({"to": "ada@example.org", "text": "hi"});
    payload[field] = value;
    payload
}

#[tokio::test]
async fn each_flaw_is_named_without_its_value() {
    let (server, channel) = pair().await;
    let attached = |attachment: Value| with("attachments", json!([attachment]));
    let table = [
        (json!([1]), "payload", "JSON object"),
        (json!({"text": "hi"}), "recipient", "`to` needs"),
        (with("to", json!([])), "recipient", "`to` needs"),
        (with("to", json!(null)), "recipient", "`to` needs"),
        (with("to", json!(4711)), "payload", "an address or a list"),
        (with("to", json!("sesame")), "recipient", "`to[0]`"),
        (
            with("to", json!("a@b.org, sesame@b.org")),
            "recipient",
            "`to[0]`",
        ),
        (
            with("cc", json!(["a@b.org", "sesame@"])),
            "recipient",
            "`cc[1]`",
        ),
        (with("bcc", json!(["sesame@"])), "recipient", "`bcc[0]`"),
        (with("from", json!("sesame")), "recipient", "`from`"),
        (
            with("reply_to", json!("sesame")),
            "recipient",
            "`reply_to[0]`",
        ),
        (with("text", json!(null)), "content", "`text` or `html`"),
        (
            with("subject", json!("a\r\nBcc: sesame@b.org")),
            "header",
            "`subject`",
        ),
        (
            with("to", json!("sesame@b.org\r\nBcc: a@b.org")),
            "header",
            "`to[0]`",
        ),
        (with("to", json!("se\u{0}same@b.org")), "header", "`to[0]`"),
        (
            with("headers", json!({"X-A": "b\nsesame: c"})),
            "header",
            "`headers.X-A`",
        ),
        (
            with("headers", json!({"X-A\r\nsesame": "b"})),
            "header",
            "malformed name",
        ),
        (
            with("headers", json!({"": "sesame"})),
            "header",
            "malformed name",
        ),
        (
            with("headers", json!({"Ü": "sesame"})),
            "header",
            "malformed name",
        ),
        (
            with("headers", json!({"X-A": "x".repeat(9_000)})),
            "header",
            "longer than",
        ),
        (
            attached(json!({"filename": "f", "content": "sesame!"})),
            "attachment",
            "[0].content`",
        ),
        (
            attached(json!({"content": "YQ=="})),
            "attachment",
            "[0].filename`",
        ),
        (
            attached(json!({"filename": "a\r\nb", "content": ""})),
            "header",
            "[0].filename`",
        ),
        (
            attached(json!({"filename": "f", "content": "", "content_type": "sesame"})),
            "attachment",
            "[0].content_type`",
        ),
        (
            attached(json!({"filename": "f", "content": "", "content_id": "a> sesame"})),
            "attachment",
            "[0].content_id`",
        ),
    ];
    for (payload, code, hint) in table {
        let error = refused(&*channel, &payload).await;
        assert_eq!(error.code(), code, "{payload}: {error}");
        assert!(error.message().contains(hint), "{payload}: {error}");
        assert!(!error.message().contains("sesame"), "{payload}: {error}");
    }
    assert_eq!(server.connection_count(), 0);
}

#[tokio::test]
async fn the_channels_own_header_fields_cannot_be_overridden() {
    let (_server, channel) = pair().await;
    let names = [
        "From",
        "sender",
        "TO",
        "Cc",
        "Bcc",
        "Reply-To",
        "Subject",
        "Date",
        "Message-ID",
        "MIME-Version",
        "Content-Type",
        "content-transfer-encoding",
        "DKIM-Signature",
        "Return-Path",
        "Received",
        "Resent-To",
        "ARC-Seal",
    ];
    for name in names {
        let error = refused(&*channel, &with("headers", json!({name: "x"}))).await;
        assert!(
            error.message().contains(&format!("`headers.{name}`")),
            "{error}"
        );
    }
    let many: serde_json::Map<_, _> = (0..101)
        .map(|number| (format!("X-{number}"), json!("x")))
        .collect();
    let error = refused(&*channel, &with("headers", many.into())).await;
    assert!(error.message().contains("more than 100"), "{error}");
}

#[tokio::test]
async fn a_word_that_no_line_of_a_header_can_hold_is_refused() {
    let (_server, channel) = pair().await;
    let word = "x".repeat(999);
    for payload in [
        with("subject", json!(word)),
        with(
            "headers",
            json!({"List-Unsubscribe": format!("<https://{word}>")}),
        ),
        with(
            "attachments",
            json!([{"filename": "f", "content": "QUJD", "content_id": word}]),
        ),
    ] {
        let error = refused(&*channel, &payload).await;
        assert_eq!(error.code(), "header");
        assert!(error.message().contains("998"), "{error}");
    }
    let words = "xxxxxxxxx ".repeat(200);
    let payload = with(
        "headers",
        json!({"X-Words": words, "X-Word": "x".repeat(900)}),
    );
    assert!(channel.send(&delivery(&payload)).await.is_ok());
    let other = with("subject", json!("\u{e9}".repeat(2_000)));
    assert!(channel.send(&delivery(&other)).await.is_ok());
}

#[tokio::test]
async fn without_a_sender_anywhere_there_is_no_mail() {
    let server = SmtpServer::start().await.unwrap();
    let mut config = settings(&server);
    config.from = None;
    let channel = build(config).unwrap();
    let payload = json!({"to": "ada@example.org", "text": "hi"});
    assert_eq!(refused(&*channel, &payload).await.code(), "sender");
    let with_sender = with("from", json!("me@example.org"));
    assert!(channel.send(&delivery(&with_sender)).await.is_ok());
}

#[tokio::test]
async fn a_mail_above_the_limit_is_too_large() {
    let server = SmtpServer::start().await.unwrap();
    let mut config = settings(&server);
    config.max_message_bytes = Some(10 * 1024 * 1024);
    let channel = build(config).unwrap();
    let fits = with("text", json!("x".repeat(1_000_000)));
    assert!(channel.send(&delivery(&fits)).await.is_ok());
    // The limit is for what is sent: base64 and headers make 10 MB of text more than that.
    let size = 10 * 1024 * 1024;
    for payload in [
        with("text", json!("x".repeat(size + 1))),
        with("html", json!("é".repeat(size / 2))),
        with(
            "attachments",
            json!([{"filename": "f", "content": "QUJD".repeat(size / 4)}]),
        ),
    ] {
        let error = refused(&*channel, &payload).await;
        assert_eq!(error.code(), "too_large", "{error}");
        assert!(
            error.message().contains("max_message_bytes is 10485760"),
            "{error}"
        );
    }
    assert_eq!(server.mail_count(), 1);
}

#[tokio::test]
async fn odd_payloads_never_panic() {
    let (_server, channel) = pair().await;
    let values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(""),
        json!(" "),
        json!("\u{202e}=?utf-8?q?a?="),
        json!("\u{0}"),
        json!([]),
        json!([[]]),
        json!({}),
        json!({"a": {"b": []}}),
        json!("\"@\"@[::1]"),
        json!("<>"),
        json!("a@b".repeat(400)),
        json!([null, "a@b.org"]),
        json!("=".repeat(3_000)),
        json!("💥".repeat(1_500)),
        json!([{"content": ""}]),
        json!("\"\\\" <a@b.org>"),
        json!("(comment) a@b.org"),
        json!("a@[1.2.3.4]"),
        json!({"X-A": "=?", "x-a": "💥 \" \\", "X-B": " "}),
        json!([{"filename": "\"\\;💥/../x", "content": "", "inline": true, "content_type": "a/b;c"}]),
    ];
    let fields = [
        "to",
        "cc",
        "bcc",
        "from",
        "reply_to",
        "subject",
        "text",
        "html",
        "headers",
        "attachments",
    ];
    for field in fields {
        for value in &values {
            // Sent or refused, but never transient: the payload alone decides.
            if let Err(error) = channel.send(&delivery(&with(field, value.clone()))).await {
                assert_eq!(
                    error.class(),
                    ErrorClass::Permanent,
                    "{field} {value}: {error}"
                );
            }
        }
    }
}
