//! What the routes work with.

use crate::callbacks::Callbacks;
use crate::dispatch::Dispatcher;
use crate::health::Readiness;
use crate::keys::Keys;
use crate::stats::Counter;
use outbox_engine::{Channel, ChannelName, Health, Worker};
use outbox_store::Store;
use secrecy::SecretString;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Who may use the admin API, and how long things may take.
#[derive(Debug, Clone)]
pub struct AdminOptions {
    /// Opens every admin route. Without it (or with an empty one) all of them are closed.
    /// White space around it does not count.
    pub api_key: Option<SecretString>,
    /// Opens the admin routes that change nothing.
    pub read_only_api_key: Option<SecretString>,
    /// A request that takes longer is answered with 504. Default 60 s.
    pub request_timeout: Duration,
    /// How long [`serve`](crate::serve) waits at its end for requests and dispatches under way.
    /// Default 20 s.
    pub shutdown_grace: Duration,
}

impl Default for AdminOptions {
    fn default() -> Self {
        Self {
            api_key: None,
            read_only_api_key: None,
            request_timeout: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(20),
        }
    }
}

/// The HTTP side of one process: a database, and what of a worker there is in this process.
pub struct Admin {
    pub(crate) keys: Keys,
    pub(crate) readiness: Readiness,
    pub(crate) counter: Counter,
    pub(crate) callbacks: Callbacks,
    pub(crate) dispatcher: Option<Dispatcher>,
    pub(crate) request_timeout: Duration,
    pub(crate) shutdown_grace: Duration,
}

impl Admin {
    /// Reports about the database of `store`.
    #[must_use]
    pub fn new(options: &AdminOptions, store: Store) -> Self {
        Self {
            keys: Keys::new(options.api_key.as_ref(), options.read_only_api_key.as_ref()),
            readiness: Readiness::new(store.clone()),
            counter: Counter::new(store.clone()),
            callbacks: Callbacks::new(store),
            dispatcher: None,
            request_timeout: options.request_timeout,
            shutdown_grace: options.shutdown_grace,
        }
    }

    /// Dispatches through the channels of `worker`, which need not be running. Without this,
    /// dispatches are answered with 503.
    #[must_use]
    pub fn with_dispatcher(mut self, worker: Arc<Worker>) -> Self {
        self.dispatcher = Some(Dispatcher::new(worker));
        self
    }

    /// Takes the callbacks of these channels' providers, at `/hooks/{source}/{channel}` with the
    /// channel's [`callback_source`](Channel::callback_source). One that has none takes none.
    #[must_use]
    pub fn with_callbacks(
        mut self,
        channels: impl IntoIterator<Item = (ChannelName, Arc<dyn Channel>)>,
    ) -> Self {
        for (name, channel) in channels {
            self.callbacks.add(name, channel);
        }
        self
    }

    /// This process is ready only while the worker that reports here is
    /// [`Health::Working`]; see [`Worker::health`].
    #[must_use]
    pub fn with_readiness_of(mut self, worker: watch::Receiver<Health>) -> Self {
        self.readiness.watch(worker);
        self
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("dispatches", &self.dispatcher.is_some())
            .field("request_timeout", &self.request_timeout)
            .field("shutdown_grace", &self.shutdown_grace)
            .finish_non_exhaustive()
    }
}
