//! A template, and behind a line `---` the payload that it is given.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outbox_channel::{Delivery, ErrorClass};
use outbox_engine::MessageTemplate;
use std::collections::BTreeMap;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (source, payload) = text.split_once("\n---\n").unwrap_or((text, "{}"));
    let Ok(delivery) = Delivery::builder("fuzz", payload) else {
        return;
    };
    let fields = ["html", "text"].map(|field| (field.to_owned(), source.to_owned()));
    match MessageTemplate::new(BTreeMap::from(fields)) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(template) => {
            if let Err(error) = template.render(delivery.build().event()) {
                assert_eq!(error.class(), ErrorClass::Permanent);
            }
        }
    }
});
