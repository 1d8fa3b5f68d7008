//! A `Retry-After` header.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outbox_channel::http::retry_after;
use std::time::{Duration, SystemTime};

/// The end of the year 9999, the last that an HTTP date can name.
const LAST: Duration = Duration::from_secs(253_402_300_799);

fuzz_target!(|data: &[u8]| {
    let Ok(value) = std::str::from_utf8(data) else {
        return;
    };
    for now in [SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + LAST] {
        assert!(retry_after(value, now).is_none_or(|wait| wait <= LAST));
    }
});
