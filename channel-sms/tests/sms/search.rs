//! What a list says, without a socket.

use crate::delivery;
use channel_sms::{Message, Search, Sender, SmsConfig, read_page};
use chrono::{DateTime, TimeDelta, Utc};
use outbox_channel::{ErrorClass, Receipt, SendError, Verdict};
use serde_json::{Value, json};
use std::time::Duration;

const BEGAN: i64 = 1_700_000_000;
const DELAY: Duration = Duration::from_secs(30);

fn after(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(BEGAN + seconds, 900_000_000).unwrap()
}

fn sender() -> Sender {
    let settings = json!({"account_sid": "AC1", "auth_token": "t", "from": "+15005550006"});
    let config: SmsConfig = serde_json::from_value(settings).unwrap();
    config.sender().unwrap()
}

fn message(payload: &Value) -> Message {
    Message::read(&delivery(payload)).unwrap()
}

fn ours() -> Message {
    message(&json!({"to": "+15551234567", "body": "Dinner's at 7"}))
}

/// As Twilio lists ours, created that many seconds after the attempt began.
fn listed(sid: &str, seconds: i64) -> Value {
    json!({
        "sid": sid, "to": "+15551234567", "from": "+15005550006", "body": "Dinner's at 7",
        "messaging_service_sid": null, "direction": "outbound-api", "status": "queued",
        "date_created": after(seconds).to_rfc2822(), "date_sent": null,
    })
}

/// Ours with other values.
fn but(changes: &Value) -> Value {
    let mut message = listed("SM1", 1);
    for (name, value) in changes.as_object().unwrap() {
        message[name] = value.clone();
    }
    message
}

fn verdict_on(message: &Message, list: &[Value]) -> Verdict {
    let sender = sender();
    let mut search = Search::new(message, &sender, after(0));
    let page = json!({"messages": list}).to_string();
    let page = read_page(200, None, page.as_bytes()).ok().unwrap();
    assert_eq!(search.look_at(page), None);
    search.verdict(after(60), DELAY).unwrap()
}

fn verdict(list: &[Value]) -> Verdict {
    verdict_on(&ours(), list)
}

fn delivered(sid: &str) -> Verdict {
    Verdict::Delivered(Receipt::new().with_provider_id(sid))
}

#[test]
fn one_that_is_the_same_was_delivered() {
    assert_eq!(verdict(&[listed("SM1", 1)]), delivered("SM1"));
    // Twilio's seconds are whole, and clocks differ a little.
    for seconds in [-4, 0, 3_600] {
        assert_eq!(verdict(&[listed("SM1", seconds)]), delivered("SM1"));
    }
    for same in [
        json!({"from": "+1 (500) 555-0006"}),
        json!({"direction": null}),
        json!({"a field of tomorrow": 1}),
    ] {
        assert_eq!(verdict(&[but(&same)]), delivered("SM1"), "{same}");
    }
}

#[test]
fn what_became_of_it_at_twilio_makes_no_difference() {
    for status in [
        "accepted",
        "sent",
        "failed",
        "undelivered",
        "canceled",
        "of tomorrow",
    ] {
        let verdict = verdict(&[but(&json!({"status": status}))]);
        assert_eq!(verdict, delivered("SM1"), "{status}");
    }
}

#[test]
fn several_that_are_the_same_are_unknown() {
    let list = [listed("SM2", 9), listed("SM1", 1)];
    assert_eq!(verdict(&list), Verdict::Unknown);
    // One that pages show twice is one.
    assert_eq!(
        verdict(&[listed("SM1", 1), listed("SM1", 1)]),
        delivered("SM1")
    );
}

#[test]
fn one_that_may_be_ours_in_other_clothes_is_unknown() {
    for clothes in [
        json!({"body": "Dinner\u{2019}s at 7"}),
        json!({"body": "Sent from your Twilio trial account - Dinner's at 7"}),
        json!({"body": "Dinner's at 7 https://example.org/a.png"}),
        json!({"body": "Dinner's at 7 "}),
        json!({"body": ""}),
        json!({"body": null}),
        json!({"from": "+15005550009"}),
        json!({"from": null, "messaging_service_sid": "MG1"}),
        json!({"to": "+15551234568"}),
        json!({"date_created": null}),
        json!({"date_created": "yesterday"}),
        json!({"date_created": after(-6).to_rfc2822()}),
        json!({"date_created": after(-59).to_rfc2822()}),
    ] {
        assert_eq!(verdict(&[but(&clothes)]), Verdict::Unknown, "{clothes}");
        // One that is the same settles it.
        let list = [but(&clothes), listed("SM2", 2)];
        assert_eq!(verdict(&list), delivered("SM2"), "{clothes}");
    }
}

#[test]
fn another_message_says_nothing() {
    for other in [
        json!({"body": "Dinner's at 8"}),
        json!({"body": "Dinner's", "from": "+15005550009"}),
        json!({"direction": "inbound"}),
        json!({"direction": "outbound-reply"}),
        json!({"date_created": after(-62).to_rfc2822()}),
    ] {
        assert_eq!(verdict(&[but(&other)]), Verdict::NotDelivered, "{other}");
    }
    assert_eq!(verdict(&[]), Verdict::NotDelivered);
}

#[test]
fn media_alone_cannot_be_compared() {
    let picture = json!({"to": "+15551234567", "media_url": "https://example.org/a.png"});
    let picture = message(&picture);
    assert_eq!(verdict_on(&picture, &[listed("SM1", 1)]), Verdict::Unknown);
    let older = listed("SM1", -90);
    assert_eq!(verdict_on(&picture, &[older]), Verdict::NotDelivered);
}

#[test]
fn before_twilio_must_have_listed_it_only_a_find_counts() {
    let early = |list: &[Value], seconds| {
        let (message, sender) = (ours(), sender());
        let mut search = Search::new(&message, &sender, after(0));
        let page = json!({"messages": list}).to_string();
        search.look_at(read_page(200, None, page.as_bytes()).ok().unwrap());
        search.verdict(after(0) + TimeDelta::seconds(seconds), DELAY)
    };
    assert_eq!(early(&[listed("SM1", 1)], 2).unwrap(), delivered("SM1"));
    for list in [vec![], vec![but(&json!({"body": null}))]] {
        // A clock that is behind makes the wait no longer.
        for (seconds, wait) in [(2, 28), (29, 1), (0, 30), (-500, 30)] {
            let error = early(&list, seconds).unwrap_err();
            assert_eq!(error.class(), ErrorClass::Transient);
            assert_eq!(error.retry_after(), Some(Duration::from_secs(wait)));
        }
        assert!(early(&list, 30).is_ok());
    }
}

#[test]
fn pages_are_followed_until_they_are_past_the_beginning() {
    let next_of = |list: &[Value], uri: Option<&str>| {
        let (message, sender) = (ours(), sender());
        let page = json!({"messages": list, "next_page_uri": uri}).to_string();
        let page = read_page(200, None, page.as_bytes()).ok().unwrap();
        Search::new(&message, &sender, after(0)).look_at(page)
    };
    let uri = "/2010-04-01/Accounts/AC1/Messages.json?To=%2B1&PageToken=PA1";
    let query = Some("To=%2B1&PageToken=PA1".to_owned());
    let recent = but(&json!({"body": "another"}));
    let past = listed("SM0", -600);
    assert_eq!(next_of(std::slice::from_ref(&recent), Some(uri)), query);
    assert_eq!(next_of(&[recent, past.clone()], Some(uri)), query);
    // Sent late, so the date of its creation says nothing about what follows.
    let undated = but(&json!({"body": "another", "date_created": null}));
    assert_eq!(next_of(&[undated, past.clone()], Some(uri)), query);
    assert_eq!(next_of(&[], Some(uri)), query);
    assert_eq!(next_of(&[past], Some(uri)), None);
    assert_eq!(next_of(&[], None), None);
    assert_eq!(next_of(&[], Some("")), None);
    // Whatever host it names, the credentials do not go there.
    let elsewhere = "https://evil.example.org/Messages.json?PageToken=PA1";
    assert_eq!(next_of(&[], Some(elsewhere)).unwrap(), "PageToken=PA1");
}

#[test]
fn an_answer_that_is_no_list_is_told_without_its_text() {
    use ErrorClass::{Transient, Unavailable};
    let refused =
        |status, body: &[u8]| -> SendError { read_page(status, Some(DELAY), body).err().unwrap() };
    let coded = |status: u16, code: u32| {
        let body = json!({"code": code, "message": "s3cret", "status": status});
        refused(status, body.to_string().as_bytes())
    };
    for (error, class, code) in [
        (coded(401, 20003), Unavailable, "20003"),
        (coded(429, 20429), Transient, "20429"),
        (coded(500, 20500), Transient, "20500"),
        // Never permanent: nothing is wrong with the message.
        (coded(400, 20001), Transient, "20001"),
        (refused(400, b"s3cret"), Transient, "400"),
        (refused(403, b"<html>s3cret"), Unavailable, "403"),
        (refused(502, b""), Transient, "502"),
        (refused(200, b"s3cret"), Transient, "answer"),
        (
            refused(200, br#"{"messages": [{"body": "s3cret"}]}"#),
            Transient,
            "answer",
        ),
        (
            refused(200, br#"{"code": 1, "message": "m", "status": 200}"#),
            Transient,
            "answer",
        ),
    ] {
        assert_eq!((error.class(), error.code()), (class, code));
        assert_eq!(error.retry_after(), Some(DELAY));
        assert!(!format!("{error:?}").contains("s3cret"));
    }
}
