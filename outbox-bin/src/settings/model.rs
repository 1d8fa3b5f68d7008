//! The settings as plain data, and what each key means.

use super::values::{RateLimit, address, duration, some_duration};
use outbox_channel::ChannelName;
use secrecy::SecretString;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// `[database]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DatabaseSettings {
    /// `postgres://user:password@host:5432/database`; read it with
    /// [`Settings::database_url`](super::Settings::database_url).
    pub(super) url: Option<SecretString>,
    /// The schema that holds the tables: a plain lower-case identifier.
    pub schema: String,
    /// The most connections that one process opens.
    pub max_connections: u32,
}

/// `[worker]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct WorkerSettings {
    /// `false`: `run` serves the admin side only.
    pub enabled: bool,
    /// The longest sleep between two looks at the queue. Zero: `run` does one cycle and exits.
    #[serde(deserialize_with = "duration")]
    pub poll_interval: Duration,
    /// The most events that one claim takes, 1 to 10,000.
    pub batch_size: u32,
    /// The most deliveries in flight, over all channels.
    pub concurrency: u32,
    /// For how long claimed work is nobody else's, unless renewed; at least a second.
    #[serde(deserialize_with = "duration")]
    pub lease: Duration,
    /// How long a shutdown waits for deliveries in flight.
    #[serde(deserialize_with = "duration")]
    pub shutdown_grace: Duration,
}

/// `[retry]`, or what holds for one channel once `[channels.NAME.retry]` is laid over it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RetrySettings {
    /// Tries after the first.
    pub max_retries: u32,
    /// The wait before the first retry; doubled each time.
    #[serde(deserialize_with = "duration")]
    pub base_delay: Duration,
    /// The longest wait between two tries.
    #[serde(deserialize_with = "duration")]
    pub max_delay: Duration,
    /// How much of a wait is left to chance, from 0 to 1: 0.2 makes it 90 % to 110 %.
    pub jitter: f64,
    /// When set, each wait is this long, with no growth and no jitter.
    #[serde(default, deserialize_with = "some_duration")]
    pub fixed_delay: Option<Duration>,
}

/// `[channels.NAME.retry]`: what is left out is taken from `[retry]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RetryOverrides {
    max_retries: Option<u32>,
    #[serde(deserialize_with = "some_duration")]
    base_delay: Option<Duration>,
    #[serde(deserialize_with = "some_duration")]
    max_delay: Option<Duration>,
    jitter: Option<f64>,
    #[serde(deserialize_with = "some_duration")]
    fixed_delay: Option<Duration>,
}

impl RetryOverrides {
    pub(super) fn over(&self, general: &RetrySettings) -> RetrySettings {
        RetrySettings {
            max_retries: self.max_retries.unwrap_or(general.max_retries),
            base_delay: self.base_delay.unwrap_or(general.base_delay),
            max_delay: self.max_delay.unwrap_or(general.max_delay),
            jitter: self.jitter.unwrap_or(general.jitter),
            fixed_delay: self.fixed_delay.or(general.fixed_delay),
        }
    }
}

/// `[retention]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RetentionSettings {
    /// For how many days settled events are kept.
    pub days: u32,
    /// The most events that one pruning removes.
    pub limit: u32,
    /// The worker prunes once in so many of its cycles; 0 leaves it to `outbox prune`.
    pub every_cycles: u32,
}

/// `[admin]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AdminSettings {
    /// Whether `run` serves the admin side.
    pub enabled: bool,
    /// Where it listens.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// The `x-api-key` that may do everything.
    pub api_key: Option<SecretString>,
    /// The `x-api-key` that may only look.
    pub read_only_api_key: Option<SecretString>,
}

/// What a dead letter means for later events of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDead {
    /// The next one goes.
    Skip,
    /// It is held instead of dead, and they wait with it for a human.
    Block,
}

/// What happens to a delivery of which nobody knows whether it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnAmbiguous {
    /// Try again: at worst it arrives twice.
    Retry,
    /// Wait for a human.
    Hold,
    /// Ask the provider.
    Verify,
}

/// `[channels.NAME]` with everything that it inherits.
///
/// The channel's own `settings` are read by its factory: see
/// [`Settings::channel_config`](super::Settings::channel_config).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ChannelSettings {
    /// Which factory makes it.
    pub kind: String,
    /// The most deliveries in flight.
    pub concurrency: u32,
    /// The deadline of one attempt.
    pub timeout: Duration,
    /// How fast deliveries may begin; `None`: as fast as it goes.
    pub rate_limit: Option<RateLimit>,
    /// What to do when nobody knows whether a message arrived.
    pub on_ambiguous: OnAmbiguous,
    /// What a dead letter means for later events of its key.
    pub on_dead: OnDead,
    /// `[retry]` with `[channels.NAME.retry]` laid over it.
    pub retry: RetrySettings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChannelTable {
    kind: String,
    concurrency: u32,
    #[serde(deserialize_with = "duration")]
    timeout: Duration,
    rate_limit: Option<RateLimit>,
    on_ambiguous: OnAmbiguous,
    on_dead: OnDead,
    #[serde(default)]
    retry: RetryOverrides,
    #[serde(default, rename = "settings")]
    _settings: BTreeMap<String, figment::value::Value>,
}

impl ChannelTable {
    pub(super) fn with(self, general: &RetrySettings) -> ChannelSettings {
        ChannelSettings {
            kind: self.kind,
            concurrency: self.concurrency,
            timeout: self.timeout,
            rate_limit: self.rate_limit,
            on_ambiguous: self.on_ambiguous,
            on_dead: self.on_dead,
            retry: self.retry.over(general),
        }
    }
}

/// Where the events of a route go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// `channels`: to each of them.
    All(Vec<ChannelName>),
    /// `fallback`: to the next one only when the one before has failed for good.
    Fallback(Vec<ChannelName>),
}

impl Targets {
    /// The channels, in the order written.
    #[must_use]
    pub fn channels(&self) -> &[ChannelName] {
        match self {
            Self::All(names) | Self::Fallback(names) => names,
        }
    }
}

/// Templates by the payload field that they fill.
pub type MessageTemplates = BTreeMap<String, String>;

/// One `[[routes]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteSettings {
    /// A glob over the event's type.
    pub event: String,
    /// Where such events go.
    pub targets: Targets,
    /// The templates of `[routes.message.CHANNEL]`.
    pub message: BTreeMap<ChannelName, MessageTemplates>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteTable {
    pub(super) event: String,
    pub(super) channels: Option<Vec<ChannelName>>,
    pub(super) fallback: Option<Vec<ChannelName>>,
    #[serde(default)]
    pub(super) message: BTreeMap<ChannelName, MessageTemplates>,
}
