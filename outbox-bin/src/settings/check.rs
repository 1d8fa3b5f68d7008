//! What types alone can't say: ranges, and what fits together.

use super::error::{Origin, Problem};
use super::model::RetrySettings;
use super::tree::{Tree, dotted};
use super::{RouteSettings, Settings};
use secrecy::ExposeSecret;
use sqlx::postgres::PgConnectOptions;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Adds what is wrong to `problems`, and to the settings' warnings what is odd.
pub(super) fn check(settings: &mut Settings, problems: &mut Vec<Problem>) {
    let mut checks = Checks {
        tree: &settings.tree,
        problems,
    };
    checks.database(settings);
    checks.worker(settings);
    checks.retry(&["retry"], &settings.retry);
    checks.retention(settings);
    checks.admin(settings);
    checks.channels(settings);
    let odd = warnings(settings);
    settings.warnings.extend(odd);
}

struct Checks<'a> {
    tree: &'a Tree,
    problems: &'a mut Vec<Problem>,
}

const AT_LEAST_ONE: RangeInclusive<u32> = 1..=u32::MAX;

impl Checks<'_> {
    fn require(&mut self, holds: bool, path: &[&str], message: &str) {
        if !holds {
            let key = dotted(path);
            let message = format!("`{key}`: {message}");
            let problem = Problem::new(self.tree.origin(path), key, message);
            self.problems.push(problem);
        }
    }

    fn within(&mut self, range: RangeInclusive<u32>, path: &[&str], number: u32) {
        let message = match (range.start(), range.end()) {
            (least, &u32::MAX) => format!("expected at least {least}"),
            (least, most) => format!("expected a number from {least} to {most}"),
        };
        self.require(range.contains(&number), path, &message);
    }

    fn database(&mut self, settings: &Settings) {
        let database = &settings.database;
        let url = database.url.as_ref().map(ExposeSecret::expose_secret);
        let schemes = ["postgres://", "postgresql://"];
        let known = |url: &str| schemes.iter().any(|scheme| url.starts_with(scheme));
        self.require(
            url.is_none_or(known),
            &["database", "url"],
            "expected postgres://USER:PASSWORD@HOST:5432/DATABASE",
        );
        let malformed = url.filter(|url| known(url)).and_then(malformation);
        self.require(
            malformed.is_none(),
            &["database", "url"],
            &malformed.unwrap_or_default(),
        );
        self.require(
            is_identifier(&database.schema),
            &["database", "schema"],
            "expected a plain identifier: a-z or _ first, then also 0-9, at most 63 characters",
        );
        let path = ["database", "max_connections"];
        self.within(1..=10_000, &path, database.max_connections);
    }

    fn worker(&mut self, settings: &Settings) {
        let worker = &settings.worker;
        self.within(1..=10_000, &["worker", "batch_size"], worker.batch_size);
        self.within(1..=100_000, &["worker", "concurrency"], worker.concurrency);
        self.require(
            worker.lease >= Duration::from_secs(1),
            &["worker", "lease"],
            "expected at least `1s`",
        );
    }

    fn retry(&mut self, place: &[&str], retry: &RetrySettings) {
        let at = |key| [place, &[key]].concat();
        self.within(0..=1_000_000, &at("max_retries"), retry.max_retries);
        self.require(
            (0.0..=1.0).contains(&retry.jitter),
            &at("jitter"),
            "expected a number from 0 to 1",
        );
        self.require(
            !retry.base_delay.is_zero(),
            &at("base_delay"),
            "expected more than nothing, for instance `5s`",
        );
        let fits = retry.max_delay >= retry.base_delay;
        // Told where it was written: one of the two is often the default.
        if self.tree.origin(&at("max_delay")) == Origin::Default {
            let message = "longer than `max_delay`: lower it, or raise `max_delay`";
            self.require(fits, &at("base_delay"), message);
        } else {
            let message = "shorter than `base_delay`: raise it, or lower `base_delay`";
            self.require(fits, &at("max_delay"), message);
        }
    }

    fn retention(&mut self, settings: &Settings) {
        let retention = &settings.retention;
        self.within(0..=36_500, &["retention", "days"], retention.days);
        self.within(1..=1_000_000, &["retention", "limit"], retention.limit);
    }

    fn admin(&mut self, settings: &Settings) {
        let admin = &settings.admin;
        let keys = [
            ("api_key", &admin.api_key),
            ("read_only_api_key", &admin.read_only_api_key),
        ];
        for (key, secret) in keys {
            let blank = secret
                .as_ref()
                .is_some_and(|key| key.expose_secret().trim().is_empty());
            let message = "is empty, which would let everybody in: set it to a long random text";
            self.require(!blank, &["admin", key], message);
        }
        let text = |key: &Option<secrecy::SecretString>| {
            key.as_ref().map(|key| key.expose_secret().to_owned())
        };
        let same =
            admin.api_key.is_some() && text(&admin.api_key) == text(&admin.read_only_api_key);
        let message = "is the same as `api_key`: give it a text of its own";
        self.require(!same, &["admin", "read_only_api_key"], message);
    }

    fn channels(&mut self, settings: &Settings) {
        for (name, channel) in &settings.channels {
            let place = ["channels", name.as_str()];
            let at = |key| [&place[..], &[key]].concat();
            self.within(AT_LEAST_ONE, &at("concurrency"), channel.concurrency);
            self.require(
                !channel.timeout.is_zero(),
                &at("timeout"),
                "expected more than nothing, for instance `30s`",
            );
            // What is merely inherited was checked where it is written.
            if self.tree.get(&at("retry")).is_some() {
                self.retry(&at("retry"), &channel.retry);
            }
        }
    }
}

/// Why the driver cannot read the address; the address itself may hold a password.
fn malformation(url: &str) -> Option<String> {
    let reason = match url.parse::<PgConnectOptions>().err()? {
        sqlx::Error::Configuration(reason) => reason.to_string(),
        _ => "it cannot be read".to_owned(),
    };
    Some(format!("not a PostgreSQL URL: {reason}"))
}

fn is_identifier(text: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let mut bytes = text.bytes();
    text.len() <= 63
        && bytes.next().is_some_and(first)
        && bytes.all(|byte| first(byte) || byte.is_ascii_digit())
}

/// What works but is probably not meant.
fn warnings(settings: &Settings) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut warn = |path: &[&str], message: String| {
        let origin = settings.tree.origin(path);
        warnings.push(Problem::new(origin, dotted(path), message));
    };
    if settings.channels.is_empty() {
        let message = "no channel is configured: every event will be skipped";
        warn(&["channels"], message.to_owned());
    }
    let admin = &settings.admin;
    if admin.enabled && admin.api_key.is_none() {
        let message = "`admin.api_key` is not set: nobody can use the admin API; set ADMIN_API_KEY";
        warn(&["admin", "api_key"], message.to_owned());
    }
    for (index, route) in settings.routes.iter().enumerate() {
        if let Some(earlier) = shadowing(&settings.routes[..index], route) {
            let event = &route.event;
            let message = format!(
                "the route for `{event}` is never used: the one for `{earlier}` comes first"
            );
            warn(&["routes", &format!("[{index}]")], message);
        }
    }
    warnings
}

/// An earlier route that takes all that this one would.
fn shadowing<'a>(earlier: &'a [RouteSettings], route: &RouteSettings) -> Option<&'a str> {
    let mut events = earlier.iter().map(|earlier| earlier.event.as_str());
    events.find(|&event| event == "*" || event == "**" || event == route.event)
}
