//! A Twilio status callback: the signature that it bears (the first line) and its form (the
//! rest). It is never believed as it comes, and with the right signature it is read as other
//! readers of forms read it.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use channel_sms::StatusCallbacks;
use libfuzzer_sys::fuzz_target;
use outbox_channel::{Callback, CallbackError, Report};
use ring::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, Key, sign};
use std::collections::BTreeSet;

const URL: &str = "https://outbox.example.org/hooks/twilio/sms?a=1";
const TOKEN: &str = "a token";

fuzz_target!(|data: &[u8]| {
    let end = data.iter().position(|byte| *byte == b'\n');
    let (given, form) = data.split_at(end.map_or(data.len(), |end| end + 1));
    let given = String::from_utf8_lossy(given);
    assert!(read(form, given.trim_end()).is_err(), "{given}");

    let right = signature(form);
    match read(form, &right) {
        // The two readers agree on what was signed, or ours does not read it at all.
        Err(error) => assert!(!error.is_forged(), "{error}"),
        Ok(report) => {
            report.iter().for_each(check);
            let wrong = right.replace(&right[..1], if right.starts_with('A') { "B" } else { "A" });
            assert!(read(form, &wrong).is_err_and(|error| error.is_forged()));
        }
    }
});

fn read(form: &[u8], signature: &str) -> Result<Option<Report>, CallbackError> {
    let callbacks = StatusCallbacks::new(URL, &TOKEN.into()).expect("a URL");
    let callback = Callback::new(form)
        .with_header("content-type", "application/x-www-form-urlencoded")
        .with_header("x-twilio-signature", signature);
    callbacks.read(&callback)
}

fn signature(form: &[u8]) -> String {
    let fields: BTreeSet<_> = form_urlencoded::parse(form).collect();
    let fields = fields.iter().flat_map(|(name, value)| [&**name, &**value]);
    let signed: String = std::iter::once(URL).chain(fields).collect();
    let key = Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, TOKEN.as_bytes());
    STANDARD.encode(sign(&key, signed.as_bytes()))
}

/// It goes into a log line and to a terminal.
fn check(report: &Report) {
    let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    assert!(
        !report.provider_id().is_empty() && is_word(report.provider_id()),
        "{report:?}"
    );
    assert!(report.code().is_none_or(is_word), "{report:?}");
}
