//! Event type to channels.

use crate::template::MessageTemplate;
use globset::{Glob, GlobMatcher};
use outbox_channel::{ChannelName, Event};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};

/// Where the events of some types go.
#[derive(Debug)]
pub struct Route {
    pattern: GlobMatcher,
    targets: Targets,
    messages: BTreeMap<ChannelName, MessageTemplate>,
}

/// To which channels a route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// To all of them.
    FanOut(Vec<ChannelName>),
    /// To the first; to each next one only when the one before has failed for good.
    Fallback(Vec<ChannelName>),
}

/// A route's pattern is not a glob.
#[derive(Debug, thiserror::Error)]
#[error("`{pattern}` is not a pattern for event types: {reason}")]
pub struct PatternError {
    pattern: String,
    reason: String,
}

impl Route {
    /// Events whose type matches the glob `pattern` (`*` stands for any characters, dots too).
    ///
    /// # Errors
    /// When `pattern` is not a glob.
    pub fn new(
        pattern: &str,
        targets: Targets,
        messages: BTreeMap<ChannelName, MessageTemplate>,
    ) -> Result<Self, PatternError> {
        let glob = Glob::new(pattern).map_err(|error| PatternError {
            pattern: pattern.to_owned(),
            reason: error.kind().to_string(),
        })?;
        let targets = match targets {
            Targets::FanOut(channels) => Targets::FanOut(distinct(channels.into_iter())),
            // One that came twice would lead in a circle.
            Targets::Fallback(channels) => Targets::Fallback(distinct(channels.into_iter())),
        };
        Ok(Self {
            pattern: glob.compile_matcher(),
            targets,
            messages,
        })
    }
}

/// Where one event goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// To these channels, each once; at least one.
    Channels(Vec<ChannelName>),
    /// No route, and the payload names no channels.
    NoRoute,
    /// The payload's `channels` cannot be followed; a sentence that says why.
    Malformed(String),
}

impl Plan {
    fn to(channels: Vec<ChannelName>) -> Self {
        if channels.is_empty() {
            return Self::NoRoute;
        }
        Self::Channels(channels)
    }
}

/// All routes, in the order of the settings: the first that matches wins.
#[derive(Debug, Default)]
pub struct Router {
    routes: Vec<Route>,
}

impl Router {
    /// A router over `routes`.
    #[must_use]
    pub fn new(routes: Vec<Route>) -> Self {
        Self { routes }
    }

    /// Where `event` goes. An event that no route matches goes to each channel that its
    /// payload's `channels` list names.
    #[must_use]
    pub fn plan(&self, event: &Event) -> Plan {
        let channels = match self.route(event).map(|route| &route.targets) {
            Some(Targets::FanOut(channels)) => channels.clone(),
            Some(Targets::Fallback(channels)) => channels.iter().take(1).cloned().collect(),
            None => return Self::follow(named_in_payload(event).as_deref()),
        };
        Plan::to(channels)
    }

    /// Where an event goes that no route matches, by what its payload says about `channels`.
    pub(crate) fn follow(named: Option<&RawValue>) -> Plan {
        match named.map(channel_names) {
            None => Plan::NoRoute,
            Some(Ok(channels)) => Plan::to(channels),
            Some(Err(reason)) => Plan::Malformed(reason),
        }
    }

    /// Whether the payload of `event` decides where it goes.
    pub(crate) fn looks_into(&self, event: &Event) -> bool {
        self.route(event).is_none()
    }

    /// The channel to try when `failed` has given up on `event`.
    #[must_use]
    pub fn fallback_after(&self, event: &Event, failed: &ChannelName) -> Option<&ChannelName> {
        let Targets::Fallback(channels) = &self.route(event)?.targets else {
            return None;
        };
        let at = channels.iter().position(|channel| channel == failed)?;
        channels.get(at + 1)
    }

    /// The templates for `event` on its way through `channel`.
    #[must_use]
    pub fn message(&self, event: &Event, channel: &ChannelName) -> Option<&MessageTemplate> {
        self.route(event)?.messages.get(channel)
    }

    fn route(&self, event: &Event) -> Option<&Route> {
        self.routes
            .iter()
            .find(|route| route.pattern.is_match(&event.event_type))
    }
}

fn distinct(channels: impl Iterator<Item = ChannelName>) -> Vec<ChannelName> {
    let mut seen = BTreeSet::new();
    channels
        .filter(|channel| seen.insert(channel.clone()))
        .collect()
}

fn named_in_payload(event: &Event) -> Option<Box<RawValue>> {
    #[derive(serde::Deserialize)]
    struct Named {
        channels: Option<Box<RawValue>>,
    }
    // A payload that is no object names no channels.
    let named = serde_json::from_str::<Named>(event.payload.get()).ok();
    named.and_then(|named| named.channels)
}

fn channel_names(named: &RawValue) -> Result<Vec<ChannelName>, String> {
    let malformed = || "the payload's `channels` must be a list of channel names".to_owned();
    let names = match serde_json::from_str(named.get()) {
        Ok(serde_json::Value::Null) => return Ok(Vec::new()),
        Ok(serde_json::Value::Array(names)) => names,
        _ => return Err(malformed()),
    };
    let channels = names.into_iter().map(|name| match name {
        serde_json::Value::String(name) => ChannelName::try_from(name).map_err(|e| e.to_string()),
        _ => Err(malformed()),
    });
    let channels = channels.collect::<Result<Vec<_>, _>>()?;
    Ok(distinct(channels.into_iter()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use outbox_channel::Delivery;

    fn name(name: &str) -> ChannelName {
        name.parse().unwrap()
    }

    fn names(list: &[&str]) -> Vec<ChannelName> {
        list.iter().map(|n| name(n)).collect()
    }

    fn event(event_type: &str, payload: &str) -> Event {
        Delivery::builder(event_type, payload)
            .unwrap()
            .build()
            .event()
            .clone()
    }

    fn router() -> Router {
        let route = |pattern, targets| Route::new(pattern, targets, BTreeMap::new()).unwrap();
        Router::new(vec![
            route(
                "invoice.paid",
                Targets::FanOut(names(&["email", "crm", "email"])),
            ),
            route("invoice.*", Targets::FanOut(names(&["crm"]))),
            route(
                "login.code",
                Targets::Fallback(names(&["sms", "email", "sms", "letter"])),
            ),
        ])
    }

    #[test]
    fn the_first_route_that_matches_wins_and_channels_are_distinct() {
        let plan = |t| router().plan(&event(t, "{}"));
        assert_eq!(
            plan("invoice.paid"),
            Plan::Channels(names(&["email", "crm"]))
        );
        assert_eq!(plan("invoice.sent.again"), Plan::Channels(names(&["crm"])));
        assert_eq!(plan("invoices.paid"), Plan::NoRoute);
    }

    #[test]
    fn a_route_outweighs_the_payloads_list() {
        let event = event("invoice.x", r#"{"channels": ["sms"]}"#);
        assert_eq!(router().plan(&event), Plan::Channels(names(&["crm"])));
    }

    #[test]
    fn without_a_route_the_payload_names_the_channels() {
        let plan = |payload| router().plan(&event("other", payload));
        let both = Plan::Channels(names(&["sms", "crm"]));
        assert_eq!(plan(r#"{"channels": ["sms", "crm", "sms"]}"#), both);
        for nothing in [
            "{}",
            "[]",
            "7",
            r#"{"channels": []}"#,
            r#"{"channels": null}"#,
        ] {
            assert_eq!(plan(nothing), Plan::NoRoute, "{nothing}");
        }
        for bad in [
            r#"{"channels": "sms"}"#,
            r#"{"channels": [7]}"#,
            r#"{"channels": ["SMS!"]}"#,
        ] {
            assert!(matches!(plan(bad), Plan::Malformed(_)), "{bad}");
        }
    }

    #[test]
    fn a_fallback_goes_one_by_one() {
        let event = event("login.code", "{}");
        let router = router();
        assert_eq!(router.plan(&event), Plan::Channels(names(&["sms"])));
        assert_eq!(
            router.fallback_after(&event, &name("sms")),
            Some(&name("email"))
        );
        assert_eq!(
            router.fallback_after(&event, &name("email")),
            Some(&name("letter"))
        );
        assert_eq!(router.fallback_after(&event, &name("letter")), None);
        assert_eq!(router.fallback_after(&event, &name("crm")), None);
    }
}
