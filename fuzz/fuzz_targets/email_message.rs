//! From a payload to a mail: always the same, never longer than allowed, and nothing in the
//! payload begins a line of the header.
#![no_main]

use channel_email::{Defaults, Mail, compose};
use libfuzzer_sys::fuzz_target;
use outbox_channel::{Delivery, ErrorClass};

const MAX_BYTES: usize = 100_000;

fuzz_target!(|data: &[u8]| {
    let Ok(payload) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(delivery) = Delivery::builder("fuzz", payload) else {
        return;
    };
    let delivery = delivery.build();
    let defaults = Defaults {
        from: "Outbox <outbox@example.org>".parse().ok(),
        message_id_domain: None,
        max_message_bytes: MAX_BYTES,
    };
    match compose(&delivery, &defaults) {
        Err(error) => assert_eq!(error.class(), ErrorClass::Permanent),
        Ok(mail) => {
            check(&mail);
            let again = compose(&delivery, &defaults).map(|mail| mail.message().to_vec());
            assert_eq!(again.ok().as_deref(), Some(mail.message()));
        }
    }
});

fn check(mail: &Mail) {
    let message = mail.message();
    assert!(message.len() <= MAX_BYTES);
    let end = message.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let header = String::from_utf8_lossy(&message[..end.unwrap_or(message.len())]);
    let mut fields = Vec::new();
    for line in header.split("\r\n") {
        assert!(!line.contains(['\r', '\n', '\0']), "{line:?}");
        // RFC 5322, section 2.1.1.
        assert!(line.len() <= 998, "{} bytes: {line:?}", line.len());
        if !line.starts_with([' ', '\t']) {
            let name = line.split_once(':').map(|(name, _)| name);
            fields.push(name.expect(line).to_ascii_lowercase());
        }
    }
    for once in ["date", "message-id", "from", "mime-version"] {
        assert!(
            fields.iter().filter(|name| *name == once).count() == 1,
            "{header}"
        );
    }
    assert!(!fields.iter().any(|name| name == "bcc"), "{header}");
}
