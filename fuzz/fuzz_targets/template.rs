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
    if has_long_number(source) {
        return;
    }
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

/// A template gets as much memory as its own numbers ask for (`indent(1000000000)`).
fn has_long_number(source: &str) -> bool {
    let mut runs = source.split(|character: char| !character.is_ascii_digit());
    runs.any(|digits| digits.len() > 4)
}
