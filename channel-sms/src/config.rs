//! Settings.

use crate::sender::is_sender;
use crate::{Sender, StatusCallbacks};
use channel_http::{AllowPrivate, HttpOptions};
use outbox_channel::{BuildError, ErrorClass};
use secrecy::SecretString;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// The `settings` table of an SMS channel.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmsConfig {
    /// The account, `AC…`.
    pub account_sid: String,
    /// The account's token.
    pub auth_token: SecretString,
    /// Who sends: a number such as `+15005550006`, a short code or a sender's name.
    #[serde(default)]
    pub from: Option<String>,
    /// The messaging service that picks a sender, `MG…`; with or instead of `from`.
    #[serde(default)]
    pub messaging_service_sid: Option<String>,
    /// Where the API is. Default: `https://api.twilio.com`. May be a private address: the
    /// operator chose it.
    #[serde(default = "defaults::base_url")]
    pub base_url: String,
    /// Where Twilio reports what becomes of each message: the URL under which the public
    /// reaches `/hooks/twilio/{channel}`. Twilio signs exactly this text, so it is also what
    /// signatures are checked with.
    #[serde(default)]
    pub status_callback: Option<String>,
    /// For resolving the name, connecting and TLS together, for instance `5s`. Default: 10
    /// seconds.
    #[serde(default = "defaults::connect_timeout", with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// A PEM file with certificate authorities to trust beside the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How long after the beginning of an attempt Twilio may take to list the message that the
    /// attempt has sent. Sooner, a message that is not in the list does not count as not sent.
    /// Default: 30 seconds.
    #[serde(default = "defaults::listing_delay", with = "humantime_serde")]
    pub listing_delay: Duration,
}

mod defaults {
    use super::{Duration, ErrorClass, HttpOptions};

    pub(super) fn base_url() -> String {
        "https://api.twilio.com".to_owned()
    }

    pub(super) fn connect_timeout() -> Duration {
        HttpOptions::new(ErrorClass::Unavailable).connect_timeout
    }

    pub(super) fn listing_delay() -> Duration {
        Duration::from_secs(30)
    }
}

impl SmsConfig {
    /// A page of the list of messages, where each may be a kilobyte of fields and as many as
    /// 1,600 characters.
    const MAX_ANSWER: usize = 1024 * 1024;

    /// Who sends.
    ///
    /// # Errors
    /// When nobody does, or what is set cannot stand in a request.
    pub fn sender(&self) -> Result<Sender, BuildError> {
        if self.from.is_none() && self.messaging_service_sid.is_none() {
            let message = "is missing: set it, or messaging_service_sid";
            return Err(BuildError::new("from", message));
        }
        for (setting, value) in [
            ("from", &self.from),
            ("messaging_service_sid", &self.messaging_service_sid),
        ] {
            if value.as_deref().is_some_and(|value| !is_sender(value)) {
                return Err(BuildError::new(setting, "is empty or has line breaks"));
            }
        }
        Ok(Sender {
            from: self.from.clone(),
            messaging_service_sid: self.messaging_service_sid.clone(),
            status_callback: self.status_callback.clone(),
        })
    }

    /// Who checks callbacks; `None` when Twilio is not asked for any.
    ///
    /// # Errors
    /// When Twilio could not call `status_callback`.
    pub fn callbacks(&self) -> Result<Option<StatusCallbacks>, BuildError> {
        let url = self.status_callback.as_deref();
        url.map(|url| StatusCallbacks::new(url, &self.auth_token))
            .transpose()
    }

    /// Unreachable means unavailable: there is one provider, and it is not the message's fault.
    pub(crate) fn http(self) -> HttpOptions {
        let mut options = HttpOptions::new(ErrorClass::Unavailable);
        options.connect_timeout = self.connect_timeout;
        options.max_answer_bytes = Self::MAX_ANSWER;
        options.ca_file = self.ca_file;
        options.allow_private = AllowPrivate::Yes;
        options
    }
}
