//! Twilio's list of messages, one page to a line: what it says of a message, and which page it
//! asks for next.
#![no_main]

use channel_http::reqwest::Url;
use channel_sms::{Message, Search, SmsConfig, read_page};
use chrono::{DateTime, TimeDelta};
use libfuzzer_sys::fuzz_target;
use outbox_channel::{Delivery, ErrorClass, Verdict};
use std::time::Duration;

const PAYLOAD: &str = r#"{"to": "+15551234567", "body": "Dinner's at 7"}"#;
const SETTINGS: &str = r#"{"account_sid": "AC1", "auth_token": "t", "from": "+15005550006"}"#;
const LIST: &str = "https://api.example.org/2010-04-01/Accounts/AC1/Messages.json";

fuzz_target!(|data: &[u8]| {
    let delivery = Delivery::builder("fuzz", PAYLOAD).expect("JSON").build();
    let message = Message::read(&delivery).expect("a message");
    let config: SmsConfig = serde_json::from_str(SETTINGS).expect("settings");
    let sender = config.sender().expect("a sender");
    let began = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
    let mut search = Search::new(&message, &sender, began);
    for page in data.split(|byte| *byte == b'\n') {
        match read_page(200, None, page) {
            Err(error) => assert_eq!(error.class(), ErrorClass::Transient),
            Ok(page) => {
                let mut list = Url::parse(LIST).expect("a URL");
                list.set_query(search.look_at(page).as_deref());
                assert!(list.as_str().starts_with(LIST), "{list}");
            }
        }
    }
    let verdict = search.verdict(began + TimeDelta::minutes(5), Duration::from_secs(30));
    if let Ok(Verdict::Delivered(receipt)) = verdict {
        assert!(receipt.provider_id().is_some());
    }
});
