//! What arrives is what the payload says.

use crate::{builder, delivery, pair};
use mail_parser::{MessageParser, MimeHeaders};
use outbox_channel::Channel;
use outbox_sandbox::smtp::{ReceivedMail, SmtpServer};
use serde_json::{Value, json};

async fn sent(server: &SmtpServer, channel: &dyn Channel, payload: &Value) -> ReceivedMail {
    let count = server.mail_count();
    channel.send(&delivery(payload)).await.unwrap();
    server.wait_for(count + 1).await.pop().unwrap()
}

#[tokio::test]
async fn text_html_inline_picture_and_attachment_are_parsed_back() {
    let (server, channel) = pair().await;
    let payload = json!({
        "to": ["Ada Lovelace <ada@example.org>", "bob@example.org"],
        "subject": "Żółw: your invoice №7",
        "text": "Grüße,\n.\n..\nend",
        "html": "<p>Grüße <img src=\"cid:logo@x\"></p>",
        "attachments": [
            {"filename": "naïve \"plan\".csv", "content_type": "text/csv", "content": "YTtiCg=="},
            {"filename": "logo.png", "content_type": "image/png", "content": "AAEC/w==",
             "content_id": "logo@x"},
        ],
        "channels": ["email"], "body": "for the SMS",
    });
    let mail = sent(&server, &*channel, &payload).await;
    let parsed = MessageParser::default().parse(&mail.data).unwrap();
    assert_eq!(parsed.subject(), Some("Żółw: your invoice №7"));
    assert_eq!(
        parsed.body_text(0).unwrap().trim_end(),
        "Grüße,\r\n.\r\n..\r\nend"
    );
    assert!(parsed.body_html(0).unwrap().contains("Grüße <img"));
    let mut attachments = parsed.attachments();
    let logo = attachments.next().unwrap();
    assert_eq!(
        (logo.content_id(), logo.contents()),
        (Some("logo@x"), &[0, 1, 2, 255][..])
    );
    let plan = attachments.next().unwrap();
    assert_eq!(plan.attachment_name(), Some("naïve \"plan\".csv"));
    assert_eq!(plan.content_type().unwrap().subtype(), Some("csv"));
    assert_eq!(plan.contents(), b"a;b\n");
    assert!(attachments.next().is_none());
    assert!(mail.data.is_ascii());
}

#[tokio::test]
async fn everybody_gets_it_once_and_bcc_stays_hidden() {
    let (server, channel) = pair().await;
    let payload = json!({
        "to": "ada@example.org",
        "cc": ["bob@example.org", "ada@example.org"],
        "bcc": ["eve@example.org"],
        "from": "Sales <sales@example.org>",
        "reply_to": "desk@example.org",
        "text": "hi",
        "headers": {"X-Campaign": "spring", "List-Unsubscribe": "<https://example.org/u>"},
    });
    let mail = sent(&server, &*channel, &payload).await;
    assert_eq!(mail.sender, "sales@example.org");
    assert_eq!(
        mail.recipients,
        ["ada@example.org", "bob@example.org", "eve@example.org"]
    );
    assert_eq!(
        mail.header("From").as_deref(),
        Some("Sales <sales@example.org>")
    );
    assert_eq!(mail.header("To").as_deref(), Some("ada@example.org"));
    assert_eq!(
        mail.header("Cc").as_deref(),
        Some("bob@example.org, ada@example.org")
    );
    assert_eq!(mail.header("Reply-To").as_deref(), Some("desk@example.org"));
    assert_eq!(mail.header("X-Campaign").as_deref(), Some("spring"));
    assert_eq!(mail.header("Bcc"), None);
    assert!(!mail.text().contains("eve@"));
}

#[tokio::test]
async fn every_attempt_sends_the_same_bytes() {
    let (server, channel) = pair().await;
    let payload = json!({
        "to": "ada@example.org", "subject": "again", "text": "a", "html": "b",
        "attachments": [{"filename": "f", "content": "YQ=="}],
    });
    for attempt in [1, 2] {
        let delivery = builder(42, &payload).attempt(attempt).build();
        channel.send(&delivery).await.unwrap();
    }
    let mails = server.wait_for(2).await;
    assert_eq!(mails[0].data, mails[1].data);
    assert_eq!(
        mails[0].header("Message-ID").as_deref(),
        Some("<inst-42-email@example.org>")
    );
    let epoch = "Thu, 01 Jan 1970 00:00:00 +0000";
    assert_eq!(mails[0].header("Date").as_deref(), Some(epoch));
}

#[tokio::test]
async fn the_answer_names_the_queued_mail() {
    let (server, channel) = pair().await;
    let payload = json!({"to": "ada@example.org", "text": "hi"});
    let receipt = channel.send(&delivery(&payload)).await.unwrap();
    let mail = server.wait_for(1).await.remove(0);
    assert_eq!(receipt.provider_id(), Some(&*mail.queue_id));
}

#[tokio::test]
async fn a_text_cannot_end_its_part_or_the_message() {
    let (server, channel) = pair().await;
    let hostile = "a\r\n--=_outbox_mixed\r\nContent-Type: text/evil\r\n\r\nb\n.\nc\r.\r\n.\r\nMAIL";
    let payload = json!({
        "to": "ada@example.org", "text": hostile, "html": hostile,
        "attachments": [{"filename": "f", "content": "YQ=="}],
    });
    let mail = sent(&server, &*channel, &payload).await;
    let parsed = MessageParser::default().parse(&mail.data).unwrap();
    assert_eq!(parsed.attachments().count(), 1);
    let text = parsed.body_text(0).unwrap();
    assert!(
        text.contains("text/evil") && text.trim_end().ends_with("MAIL"),
        "{text}"
    );
    assert_eq!(server.mail_count(), 1);
}

#[tokio::test]
async fn ten_megabytes_are_sent() {
    let (server, channel) = pair().await;
    let content = "QUJD".repeat(10 * 1024 * 1024 / 4);
    let payload = json!({
        "to": "ada@example.org", "text": "see there",
        "attachments": [{"filename": "big.bin", "content": content}],
    });
    let mail = sent(&server, &*channel, &payload).await;
    let parsed = MessageParser::default().parse(&mail.data).unwrap();
    let attachment = parsed.attachments().next().unwrap();
    assert_eq!(
        attachment.contents(),
        "ABC".repeat(10 * 1024 * 1024 / 4).as_bytes()
    );
}

#[tokio::test]
async fn many_short_lines_take_no_more_than_linear_time() {
    let (server, channel) = pair().await;
    // Inserting a carriage return for each in place would move a hundred gigabytes.
    let payload = json!({"to": "ada@example.org", "text": "\n".repeat(400_000)});
    let mail = sent(&server, &*channel, &payload).await;
    assert!(mail.data.ends_with(b"\r\n\r\n"));
}

#[tokio::test]
async fn international_domains_need_no_extension() {
    let server = SmtpServer::builder()
        .without("SMTPUTF8")
        .start()
        .await
        .unwrap();
    let channel = crate::build(crate::settings(&server)).unwrap();
    let payload = json!({"to": "ada@bücher.example", "text": "hi"});
    let mail = sent(&server, &*channel, &payload).await;
    assert_eq!(mail.recipients, ["ada@xn--bcher-kva.example"]);
}

#[tokio::test]
async fn international_addresses_need_smtputf8() {
    let payload = json!({"to": "żółw@example.org", "text": "hi"});
    let (server, channel) = pair().await;
    let mail = sent(&server, &*channel, &payload).await;
    assert_eq!(mail.recipients, ["żółw@example.org"]);

    let server = SmtpServer::builder()
        .without("SMTPUTF8")
        .start()
        .await
        .unwrap();
    let channel = crate::build(crate::settings(&server)).unwrap();
    let error = channel.send(&delivery(&payload)).await.unwrap_err();
    assert_eq!(error.class(), outbox_channel::ErrorClass::Permanent);
    assert_eq!((error.code(), server.mail_count()), ("smtputf8", 0));
}
