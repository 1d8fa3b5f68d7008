//! From a payload to what Twilio is asked to send, which says what the payload says.
#![no_main]

use channel_http::reqwest::Url;
use channel_sms::{Message, Sender};
use libfuzzer_sys::fuzz_target;
use outbox_channel::{Delivery, ErrorClass};
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Ok(payload) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(delivery) = Delivery::builder("fuzz", payload) else {
        return;
    };
    match Message::read(&delivery.build()) {
        Err(error) => assert_eq!(error.class(), ErrorClass::Permanent),
        Ok(message) => check(&message.form(&Sender::default(), Some(60)), payload),
    }
});

fn check(form: &str, payload: &str) {
    let mut url = Url::parse("http://localhost/").expect("a URL");
    url.set_query(Some(form));
    let pairs: Vec<_> = url.query_pairs().collect();
    let named = |name| pairs.iter().find(move |(key, _)| key == name);
    // Fields that are nobody's may hold what a `Value` cannot.
    let Ok(payload) = serde_json::from_str::<Value>(payload) else {
        return;
    };
    for (name, field) in [("To", "to"), ("From", "from"), ("Body", "body")] {
        let value = named(name).map(|(_, value)| value.as_ref());
        assert_eq!(value, payload[field].as_str(), "{form}");
    }
}
