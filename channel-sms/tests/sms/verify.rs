//! What became of an attempt, asked over real sockets.

use crate::{ACCOUNT, TOKEN, build, channel, delivery, impatient, is_clean, to, told, twilio};
use chrono::{DateTime, TimeDelta, Utc};
use outbox_channel::{Channel, Delivery, ErrorClass, Receipt, SendError, Verdict};
use outbox_sandbox::twilio::{TwilioFault, TwilioServer};
use serde_json::json;
use std::time::Duration;

const NUMBER: &str = "+15551234567";

/// So long ago that Twilio would have listed the message by now, and so that all messages of
/// a test come after it.
fn a_minute_ago() -> DateTime<Utc> {
    Utc::now() - TimeDelta::minutes(1)
}

fn delivered(sid: &str) -> Verdict {
    Verdict::Delivered(Receipt::new().with_provider_id(sid))
}

/// Sends with `fault`, which must leave the outcome open, and asks what became of it.
async fn verdict_after(twilio: &TwilioServer, fault: TwilioFault, delivery: &Delivery) -> Verdict {
    let channel = channel(&twilio.base_url(), TOKEN);
    twilio.faults().next(fault);
    let error = channel.send(delivery).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Ambiguous);
    // With a deadline of its own.
    let payload = serde_json::from_str(delivery.payload().get()).unwrap();
    let again = self::delivery(&payload);
    channel.verify(&again, a_minute_ago()).await.unwrap()
}

async fn cannot_ask(twilio: &TwilioServer, fault: TwilioFault) -> SendError {
    twilio.list_faults().next(fault);
    let channel = channel(&twilio.base_url(), TOKEN);
    let asked = channel.verify(&impatient(NUMBER), a_minute_ago()).await;
    let error = asked.unwrap_err();
    assert!(is_clean(&error), "{error:?}");
    error
}

async fn send_others(channel: &dyn Channel, count: u32) {
    for nth in 0..count {
        let other = json!({"to": NUMBER, "body": format!("Message {nth}")});
        channel.send(&delivery(&other)).await.unwrap();
    }
}

#[tokio::test]
async fn what_twilio_took_before_it_fell_silent_is_delivered() {
    let twilio = twilio().await;
    assert!(channel(&twilio.base_url(), TOKEN).can_verify());
    let faults = [
        TwilioFault::HangUp,
        TwilioFault::Garbage,
        TwilioFault::Stall,
    ];
    for (nth, fault) in faults.into_iter().enumerate() {
        let number = format!("+1555123456{nth}");
        let verdict = verdict_after(&twilio, fault, &impatient(&number)).await;
        assert_eq!(verdict, delivered(&twilio.messages()[nth].sid));
    }
    assert_eq!(twilio.total(), 3);
}

#[tokio::test]
async fn what_never_arrived_is_not_delivered_and_can_be_sent_again() {
    let twilio = twilio().await;
    let verdict = verdict_after(&twilio, TwilioFault::Lose, &impatient(NUMBER)).await;
    assert_eq!((verdict, twilio.total()), (Verdict::NotDelivered, 0));
    let channel = channel(&twilio.base_url(), TOKEN);
    channel.send(&to(NUMBER)).await.unwrap();
    let verdict = channel.verify(&to(NUMBER), a_minute_ago()).await;
    assert_eq!(verdict.unwrap(), delivered(&twilio.messages()[0].sid));
}

#[tokio::test]
async fn a_message_that_may_still_appear_is_asked_for_later() {
    let twilio = twilio().await;
    let began = Utc::now() - TimeDelta::seconds(10);
    let early = channel(&twilio.base_url(), TOKEN)
        .verify(&to(NUMBER), began)
        .await;
    let error = early.unwrap_err();
    assert_eq!(told(&error), (ErrorClass::Transient, "too_early"));
    assert!(is_clean(&error));
    let wait = error.retry_after().unwrap();
    assert!(wait <= Duration::from_secs(20), "{wait:?}");

    let eager = build(json!({
        "account_sid": ACCOUNT, "auth_token": TOKEN, "from": "Outbox",
        "base_url": twilio.base_url(), "listing_delay": "5s",
    }));
    let verdict = eager.verify(&to(NUMBER), began).await;
    assert_eq!(verdict.unwrap(), Verdict::NotDelivered);
}

#[tokio::test]
async fn two_of_the_same_cannot_be_told_apart() {
    let twilio = twilio().await;
    let channel = channel(&twilio.base_url(), TOKEN);
    channel.send(&to(NUMBER)).await.unwrap();
    let verdict = verdict_after(&twilio, TwilioFault::HangUp, &to(NUMBER)).await;
    assert_eq!((verdict, twilio.total()), (Verdict::Unknown, 2));
}

#[tokio::test]
async fn other_texts_and_other_numbers_do_not_count() {
    let twilio = twilio().await;
    let channel = channel(&twilio.base_url(), TOKEN);
    channel.send(&to("+15557654321")).await.unwrap();
    let other = delivery(&json!({"to": NUMBER, "body": "Your code is dcba"}));
    channel.send(&other).await.unwrap();
    let verdict = channel.verify(&to(NUMBER), a_minute_ago()).await;
    assert_eq!(verdict.unwrap(), Verdict::NotDelivered);
    let verdict = channel.verify(&other, a_minute_ago()).await;
    assert_eq!(verdict.unwrap(), delivered(&twilio.messages()[1].sid));
}

#[tokio::test]
async fn every_character_is_found_again() {
    let twilio = twilio().await;
    let body = "1+1=2 & 50% off; naïve \"quotes\"\r\n\tline? #x /y\\z 💌 ~*!'()%2B\u{2028} ";
    let payload = json!({"to": NUMBER, "body": body, "from": "A&B+Co"});
    let verdict = verdict_after(&twilio, TwilioFault::HangUp, &delivery(&payload)).await;
    assert_eq!(verdict, delivered(&twilio.messages()[0].sid));
}

#[tokio::test]
async fn the_sender_may_be_a_service() {
    let twilio = twilio().await;
    let by_service = build(json!({
        "account_sid": ACCOUNT, "auth_token": TOKEN, "base_url": twilio.base_url(),
        "messaging_service_sid": "MG1",
    }));
    by_service.send(&to(NUMBER)).await.unwrap();
    let verdict = by_service.verify(&to(NUMBER), a_minute_ago()).await;
    assert_eq!(verdict.unwrap(), delivered(&twilio.messages()[0].sid));
    // The same words from somebody else may be ours: nothing is decided.
    let by_number = channel(&twilio.base_url(), TOKEN);
    let verdict = by_number.verify(&to(NUMBER), a_minute_ago()).await;
    assert_eq!(verdict.unwrap(), Verdict::Unknown);
}

#[tokio::test]
async fn a_message_is_found_on_a_later_page() {
    let twilio = twilio().await;
    let channel = channel(&twilio.base_url(), TOKEN);
    channel.send(&to(NUMBER)).await.unwrap();
    send_others(channel.as_ref(), 120).await;
    let verdict = channel.verify(&to(NUMBER), a_minute_ago()).await;
    assert_eq!(verdict.unwrap(), delivered(&twilio.messages()[0].sid));
    assert_eq!(twilio.connections(), 1);
}

#[tokio::test]
async fn a_very_long_list_is_not_read_to_its_end() {
    let twilio = twilio().await;
    let channel = channel(&twilio.base_url(), TOKEN);
    send_others(channel.as_ref(), 500).await;
    let verdict = channel.verify(&to(NUMBER), a_minute_ago()).await;
    assert_eq!(verdict.unwrap(), Verdict::NotDelivered);
    send_others(channel.as_ref(), 1).await;
    let verdict = channel.verify(&to(NUMBER), a_minute_ago()).await;
    assert_eq!(verdict.unwrap(), Verdict::Unknown);
}

#[tokio::test]
async fn too_many_requests_delay_the_question() {
    let twilio = twilio().await;
    let retry_after = Duration::from_secs(9);
    let error = cannot_ask(&twilio, TwilioFault::TooManyRequests { retry_after }).await;
    assert_eq!(told(&error), (ErrorClass::Transient, "20429"));
    assert_eq!(error.retry_after(), Some(retry_after));
    let error = cannot_ask(&twilio, TwilioFault::Unavailable).await;
    assert_eq!(told(&error), (ErrorClass::Transient, "20503"));
}

#[tokio::test]
async fn wrong_credentials_make_the_channel_unavailable() {
    let twilio = twilio().await;
    let error = cannot_ask(&twilio, TwilioFault::Unauthorized).await;
    assert_eq!(told(&error), (ErrorClass::Unavailable, "20003"));
    let stranger = channel(&twilio.base_url(), "wr0ng");
    let error = stranger.verify(&to(NUMBER), a_minute_ago()).await;
    let error = error.unwrap_err();
    assert_eq!(told(&error), (ErrorClass::Unavailable, "20003"));
    assert!(is_clean(&error) && !format!("{error:?}").contains("wr0ng"));
}

#[tokio::test]
async fn a_list_that_cannot_be_had_is_asked_for_again() {
    let twilio = twilio().await;
    let error = cannot_ask(&twilio, TwilioFault::Garbage).await;
    assert_eq!(told(&error), (ErrorClass::Transient, "answer"));
    for fault in [TwilioFault::HangUp, TwilioFault::Stall] {
        // Nothing was sent, so nothing is ambiguous; and the message is not to blame.
        let error = cannot_ask(&twilio, fault).await;
        assert_eq!(error.class(), ErrorClass::Unavailable, "{error:?}");
    }
}
