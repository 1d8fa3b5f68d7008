//! What Twilio answers to a message, or when it is asked for its list: a status (the first two
//! bytes) and a body.
#![no_main]

use channel_sms::{Message, read_answer, read_page};
use libfuzzer_sys::fuzz_target;
use outbox_channel::{Delivery, ErrorClass};

const PAYLOAD: &str = r#"{"to": "+15551234567", "body": "qx7 words of mine"}"#;

fuzz_target!(|data: &[u8]| {
    let Some((status, body)) = data.split_first_chunk::<2>() else {
        return;
    };
    let status = 100 + u16::from_be_bytes(*status) % 500;
    let delivery = Delivery::builder("fuzz", PAYLOAD).expect("JSON").build();
    let message = Message::read(&delivery).expect("a message");
    if let Err(error) = read_answer(status, None, body, &message) {
        let shown = format!("{error} {:?}", error.answer());
        assert!(!shown.contains("qx7 words of mine"), "{shown}");
        assert!(!error.message().contains("5551234567"), "{shown}");
    }
    // That the list cannot be had is never the message's fault, nor a sign of its fate.
    if let Err(error) = read_page(status, None, body) {
        let classes = [ErrorClass::Transient, ErrorClass::Unavailable];
        assert!(classes.contains(&error.class()), "{error}");
    }
});
