//! The channels of the run, and which events go to them.

/// All of them lead to the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Channel {
    pub(crate) name: &'static str,
    /// `on_ambiguous = "hold"`: what may have arrived is not sent again by itself.
    pub(crate) holds: bool,
    /// `on_dead = "block"`: a dead letter holds up its key.
    pub(crate) blocks: bool,
}

pub(crate) const CHANNELS: [Channel; 4] = [
    Channel::new("audit", false, false),
    Channel::new("chain", false, true),
    Channel::new("crm", false, false),
    Channel::new("vault", true, false),
];

impl Channel {
    const fn new(name: &'static str, holds: bool, blocks: bool) -> Self {
        Self {
            name,
            holds,
            blocks,
        }
    }
}

/// Where the events of a type go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    pub(crate) event_type: &'static str,
    pub(crate) channels: &'static [&'static str],
}

pub(crate) const ROUTES: [Route; 6] = [
    Route::new("both.written", &["audit", "crm"]),
    Route::new("one.written", &["crm"]),
    Route::new("kept.written", &["vault"]),
    Route::new("mixed.written", &["crm", "vault"]),
    Route::new("chained.written", &["chain"]),
    Route::new("all.written", &["audit", "chain", "crm", "vault"]),
];

impl Route {
    const fn new(event_type: &'static str, channels: &'static [&'static str]) -> Self {
        Self {
            event_type,
            channels,
        }
    }
}

/// Where events of this type go.
pub(crate) fn route(event_type: &str) -> &'static [&'static str] {
    let mut routes = ROUTES.iter();
    let route = routes.find(|route| route.event_type == event_type);
    route.map_or(&[], |route| route.channels)
}

/// The channel with this name.
pub(crate) fn channel(name: &str) -> Option<&'static Channel> {
    CHANNELS.iter().find(|channel| channel.name == name)
}
