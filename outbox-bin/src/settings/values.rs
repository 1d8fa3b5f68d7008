//! Values written as text: durations, rates, addresses.

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

const EXAMPLES: &str = "`250ms`, `30s`, `5m`, `1h30m` or `7d`";

/// Longer is a mistake, and would overflow sums with the present.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Reads a duration such as `250ms`, `30s`, `5m`, `1h30m`, `7d`.
///
/// # Errors
/// Says how to write one; the text itself is not repeated.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("a bare number has no unit: write {EXAMPLES}"));
    }
    let wrong = || format!("not a duration: write {EXAMPLES}");
    let mut total = Duration::ZERO;
    loop {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let letters = after.len() - after.trim_start_matches(char::is_alphabetic).len();
        let (unit, after) = after.split_at(letters);
        let unit = milliseconds_in(unit).ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let part = number.checked_mul(unit).map(Duration::from_millis);
        total = part
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= LONGEST)
            .ok_or("longer than 100 years")?;
        rest = after.trim_start();
        if rest.is_empty() {
            return Ok(total);
        }
    }
}

fn milliseconds_in(unit: &str) -> Option<u64> {
    Some(match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60 * 1_000,
        "h" => 60 * 60 * 1_000,
        "d" => 24 * 60 * 60 * 1_000,
        _ => return None,
    })
}

/// For `#[serde(deserialize_with)]`.
pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct DurationVisitor;

    impl Visitor<'_> for DurationVisitor {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a duration such as {EXAMPLES}")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            parse_duration(text).map_err(E::custom)
        }

        fn visit_u64<E: Error>(self, _: u64) -> Result<Duration, E> {
            Err(E::custom(format!(
                "a bare number has no unit: write {EXAMPLES}"
            )))
        }

        fn visit_i64<E: Error>(self, _: i64) -> Result<Duration, E> {
            self.visit_u64(0)
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<Duration, E> {
            self.visit_u64(0)
        }
    }

    deserializer.deserialize_str(DurationVisitor)
}

/// As [`duration`], for a key that may be left out (`#[serde(default)]`).
pub(crate) fn some_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// For `#[serde(deserialize_with)]`: an address to listen on.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        let help = "expected an IP address and a port such as `127.0.0.1:8025` or `[::]:8025`";
        D::Error::custom(help)
    })
}

/// How many deliveries may begin in a period: `50/s`, `600/m`, `1000/h`.
///
/// ```
/// let rate: outbox_bin::settings::RateLimit = "600/m".parse()?;
/// assert_eq!((rate.count.get(), rate.period.as_secs()), (600, 60));
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Deliveries per period.
    pub count: NonZeroU32,
    /// One second, minute or hour.
    pub period: Duration,
}

impl std::str::FromStr for RateLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected a rate such as `50/s`, `600/m` or `1000/h`".to_owned();
        let (count, period) = text.split_once('/').ok_or_else(wrong)?;
        let period = match period.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 60 * 60,
            _ => return Err(wrong()),
        };
        Ok(Self {
            count: count.trim().parse().map_err(|_| wrong())?,
            period: Duration::from_secs(period),
        })
    }
}

impl<'de> Deserialize<'de> for RateLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("7d", 604_800_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            (" 0s ", 0),
        ];
        for (text, milliseconds) in cases {
            let expected = Ok(Duration::from_millis(milliseconds));
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_says_how_to_write_one() {
        for text in ["30", "0"] {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains("no unit: write `250ms`"), "{text}: {error}");
        }
        for text in ["", "s", "5M", "1.5h", "-5s", "5 s", "5sec", "1h30", "5µs"] {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains("not a duration: write"), "{text}: {error}");
        }
        for text in ["40000d", "99999999999999999999s", "18446744073709551615d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates() {
        let read = |text: &str| text.parse::<RateLimit>();
        let seconds = |text| read(text).map(|rate| (rate.count.get(), rate.period.as_secs()));
        assert_eq!(seconds("50/s"), Ok((50, 1)));
        assert_eq!(seconds("600/m"), Ok((600, 60)));
        assert_eq!(seconds("1000 / h"), Ok((1000, 3600)));
        for text in ["50", "0/s", "-1/s", "50/d", "/s", "50/", "many/s"] {
            assert!(read(text).unwrap_err().contains("`50/s`"), "{text}");
        }
    }
}
