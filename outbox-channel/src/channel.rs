//! What a plugin implements: a channel, and the factory that makes it from its settings.

use crate::{Callback, CallbackError, ChannelName, Delivery, Receipt, Report, SendError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// One way out: takes a delivery to a provider.
///
/// One value serves many deliveries at once, up to the channel's configured concurrency, so
/// `send` takes `&self` and connections are shared or pooled inside.
///
/// The engine drops the future of `send` when [`Delivery::deadline`] passes and then treats
/// the outcome as *ambiguous*. A channel that can tell whether the provider has already seen
/// the message keeps its own, slightly earlier, deadline and returns the class that is true.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Channel: Send + Sync + 'static {
    /// Delivers one message.
    ///
    /// # Errors
    /// A [`SendError`] whose class says what may be done next; see
    /// [`ErrorClass`](crate::ErrorClass).
    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError>;

    /// Asks the provider, live, whether this channel could deliver now: credentials, reach,
    /// readiness. Sends nothing to anybody. The default says yes.
    ///
    /// # Errors
    /// What stands in the way.
    async fn check(&self) -> Result<(), SendError> {
        Ok(())
    }

    /// Whether [`verify`](Self::verify) has an answer. Only then may an operator set
    /// `on_ambiguous = "verify"`. The default says no.
    fn can_verify(&self) -> bool {
        false
    }

    /// Asks the provider what became of an attempt that began at `began` and whose outcome is
    /// unknown. Sends nothing. `began` is by the database's clock, which may differ a little
    /// from the provider's.
    ///
    /// # Errors
    /// When the provider cannot be asked now; the engine asks again later.
    async fn verify(
        &self,
        delivery: &Delivery,
        began: DateTime<Utc>,
    ) -> Result<Verdict, SendError> {
        let _ = (delivery, began);
        Ok(Verdict::Unknown)
    }

    /// Whose callbacks this channel takes, such as `"twilio"`: they come to
    /// `POST /hooks/{this}/{channel}`. Lower case letters, digits and `-`; always the same. The
    /// default takes none.
    fn callback_source(&self) -> Option<&'static str> {
        None
    }

    /// Reads what the provider tells about messages that it took earlier, after having checked
    /// that it is the provider who says so. What is none of this channel's business is left
    /// out: no reports are no error. The same callback may come again, and in any order with
    /// others.
    ///
    /// Only called when there is a [`callback_source`](Self::callback_source).
    ///
    /// # Errors
    /// A missing or wrong signature, or a form that the provider does not use.
    async fn receive(&self, callback: &Callback) -> Result<Vec<Report>, CallbackError> {
        let _ = callback;
        Err(CallbackError::forged("this channel takes no callbacks"))
    }
}

/// A channel that several own: the engine, which sends through it, and whoever takes its
/// callbacks.
#[async_trait]
impl Channel for Arc<dyn Channel> {
    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
        self.as_ref().send(delivery).await
    }

    async fn check(&self) -> Result<(), SendError> {
        self.as_ref().check().await
    }

    fn can_verify(&self) -> bool {
        self.as_ref().can_verify()
    }

    async fn verify(
        &self,
        delivery: &Delivery,
        began: DateTime<Utc>,
    ) -> Result<Verdict, SendError> {
        self.as_ref().verify(delivery, began).await
    }

    fn callback_source(&self) -> Option<&'static str> {
        self.as_ref().callback_source()
    }

    async fn receive(&self, callback: &Callback) -> Result<Vec<Report>, CallbackError> {
        self.as_ref().receive(callback).await
    }
}

/// What a provider knows of an earlier attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It took the message.
    Delivered(Receipt),
    /// It never saw the message, and can be trusted to have known by now: sending again is
    /// safe.
    NotDelivered,
    /// It cannot tell, for instance because two messages fit. A human has to decide.
    Unknown,
}

/// Makes channels of one kind from their settings.
///
/// `KIND` is what an operator writes as `kind = "…"`; `Config` is read from that channel's
/// `settings` table, where an unknown key is an error.
pub trait ChannelFactory: 'static {
    /// The kind's name, for instance `"webhook"`.
    const KIND: &'static str;

    /// The channel's own settings. Derive with `#[serde(deny_unknown_fields)]` so that a typo
    /// is told with the names that exist.
    type Config: DeserializeOwned;

    /// Makes the channel that the operator called `name`. Runs inside a tokio runtime; must
    /// not wait for the network (that is [`Channel::check`]'s).
    ///
    /// # Errors
    /// [`BuildError`] when the settings cannot work.
    fn build(name: &ChannelName, config: Self::Config) -> Result<Box<dyn Channel>, BuildError>;
}

/// Settings that parse but cannot work.
///
/// The message names what is wrong and what to do, never a secret's value.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {message}")]
pub struct BuildError {
    setting: String,
    message: String,
}

impl BuildError {
    /// `setting` is the key inside the channel's `settings` table, for instance `"url"`.
    pub fn new(setting: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            setting: setting.into(),
            message: message.into(),
        }
    }

    /// The key inside the channel's `settings` table.
    #[must_use]
    pub fn setting(&self) -> &str {
        &self.setting
    }
}
