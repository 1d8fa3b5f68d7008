//! From a payload to what Twilio is asked to send.
#![no_main]

use channel_sms::Message;
use libfuzzer_sys::fuzz_target;
use outbox_channel::{Delivery, ErrorClass};

fuzz_target!(|data: &[u8]| {
    let Ok(payload) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(delivery) = Delivery::builder("fuzz", payload) else {
        return;
    };
    match Message::read(&delivery.build()) {
        Err(error) => assert_eq!(error.class(), ErrorClass::Permanent),
        Ok(message) => assert!(!format!("{message:?}").is_empty()),
    }
});
