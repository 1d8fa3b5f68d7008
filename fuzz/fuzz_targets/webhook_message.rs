//! From an event's type (the first line) and its payload (the rest) to a body, which is JSON
//! with that payload in it.
#![no_main]

use channel_webhook::{body, outcome};
use chrono::DateTime;
use libfuzzer_sys::fuzz_target;
use outbox_channel::{Delivery, ErrorClass};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (event_type, payload) = text.split_once('\n').unwrap_or(("fuzz", text));
    let Ok(delivery) = Delivery::builder(event_type, payload) else {
        return;
    };
    let delivery = delivery.build();
    match body(event_type, DateTime::UNIX_EPOCH, delivery.payload()) {
        Err(error) => assert_eq!(error.class(), ErrorClass::Permanent),
        Ok(body) => {
            let read: BTreeMap<String, Box<RawValue>> =
                serde_json::from_slice(&body).expect("a body is JSON");
            assert_eq!(read["data"].get(), delivery.payload().get().trim());
            let read_type: Value = serde_json::from_str(read["type"].get()).expect("JSON");
            assert_eq!(read_type, event_type);
        }
    }
    for status in [200, 307, 410, 429, 500, 999] {
        if let Err(error) = outcome(status, None, text) {
            assert!(error.answer().is_some_and(|answer| answer.len() <= 1_000));
        }
    }
});
