//! Settings.

use channel_http::reqwest::Url;
use channel_http::reqwest::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING,
};
use channel_http::{AllowPrivate, HttpOptions};
use outbox_channel::{BuildError, ErrorClass};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The `settings` table of a webhook channel.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where to send, `http` or `https`. A user and password in it are sent as Basic
    /// authorization. Kept like a secret: addresses of chat services are one.
    pub url: SecretString,
    /// Signs every message: `whsec_` and base64 of 24 to 64 random bytes (HMAC-SHA256), or
    /// `whsk_` and base64 of an ed25519 private key. Without any secret messages go out
    /// unsigned, without the `webhook-signature` header.
    #[serde(default)]
    pub secret: Option<SecretString>,
    /// More secrets, all of which sign: while receivers change from one to the next.
    #[serde(default)]
    pub secrets: Vec<SecretString>,
    /// Sent along with every message. May not replace the message's own headers.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretString>,
    /// Whether the target may be a private or loopback address: `true`, or a list of networks.
    #[serde(default)]
    pub allow_private: AllowPrivate,
    /// For resolving the name, connecting and TLS together, for instance `5s`. Default: 10
    /// seconds.
    #[serde(default = "defaults::connect_timeout", with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How much of an answer's body is read, in bytes. Default: 64 KiB.
    #[serde(default = "defaults::max_answer_bytes")]
    pub max_answer_bytes: usize,
    /// A PEM file with certificate authorities to trust beside the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

mod defaults {
    use super::{Duration, ErrorClass, HttpOptions};

    pub(super) fn connect_timeout() -> Duration {
        HttpOptions::new(ErrorClass::Transient).connect_timeout
    }

    pub(super) fn max_answer_bytes() -> usize {
        HttpOptions::new(ErrorClass::Transient).max_answer_bytes
    }
}

impl WebhookConfig {
    pub(crate) fn target(&self) -> Result<Url, BuildError> {
        let url = Url::parse(self.url.expose_secret())
            .map_err(|error| BuildError::new("url", format!("not a URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(BuildError::new(
                "url",
                "must begin with http:// or https://",
            ));
        }
        Ok(url)
    }

    pub(crate) fn extra_headers(&self) -> Result<HeaderMap, BuildError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let refuse = |reason| Err(BuildError::new(format!("headers.{name}"), reason));
            let Ok(header) = HeaderName::try_from(name) else {
                return refuse("not a header's name");
            };
            if is_own(&header) {
                return refuse("belongs to the message and cannot be set");
            }
            let Ok(mut value) = HeaderValue::from_str(value.expose_secret()) else {
                return refuse("the value cannot stand in a header: use visible ASCII");
            };
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        Ok(headers)
    }

    /// With the key in the settings under which each was given.
    pub(crate) fn signing_secrets(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let one = self.secret.iter().map(|secret| ("secret", secret));
        let more = self.secrets.iter().map(|secret| ("secrets", secret));
        one.chain(more)
            .map(|(key, secret)| (key, secret.expose_secret()))
    }

    pub(crate) fn http(self) -> HttpOptions {
        let mut options = HttpOptions::new(ErrorClass::Transient);
        options.connect_timeout = self.connect_timeout;
        options.max_answer_bytes = self.max_answer_bytes;
        options.ca_file = self.ca_file;
        options.allow_private = self.allow_private;
        options
    }
}

fn is_own(name: &HeaderName) -> bool {
    const OWN: [HeaderName; 5] = [
        CONNECTION,
        CONTENT_LENGTH,
        CONTENT_TYPE,
        HOST,
        TRANSFER_ENCODING,
    ];
    name.as_str().starts_with("webhook-") || OWN.contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> WebhookConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn only_the_url_is_needed() {
        let config = config(r#"{"url": "https://example.org/hook"}"#);
        assert_eq!(config.connect_timeout, Duration::from_secs(10));
        assert_eq!(config.max_answer_bytes, 64 * 1024);
        assert_eq!(config.allow_private, AllowPrivate::No);
        assert_eq!(config.target().unwrap().path(), "/hook");
    }

    #[test]
    fn times_are_written_with_a_unit() {
        let config = config(r#"{"url": "https://example.org", "connect_timeout": "250ms"}"#);
        assert_eq!(config.connect_timeout, Duration::from_millis(250));
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let read = serde_json::from_str::<WebhookConfig>(r#"{"url": "x", "sekret": "y"}"#);
        assert!(read.unwrap_err().to_string().contains("sekret"));
    }

    #[test]
    fn a_wrong_url_is_told_without_it() {
        for url in ["s3cret", "ftp://s3cret@example.org", "/s3cret"] {
            let error = config(&format!(r#"{{"url": "{url}"}}"#)).target();
            let error = error.unwrap_err();
            assert_eq!(error.setting(), "url");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn the_messages_own_headers_cannot_be_set() {
        for name in [
            "webhook-id",
            "Webhook-Signature",
            "webhook-extra",
            "Content-Type",
            "HOST",
            "content-length",
            "not a name",
        ] {
            let json = format!(r#"{{"url": "http://x", "headers": {{"{name}": "v"}}}}"#);
            let error = config(&json).extra_headers().unwrap_err();
            assert_eq!(error.setting(), format!("headers.{name}"));
        }
    }

    #[test]
    fn a_header_value_with_a_line_break_is_refused_without_showing_it() {
        let config = config(r#"{"url": "http://x", "headers": {"x-key": "s3cret\r\nx: y"}}"#);
        let error = config.extra_headers().unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }

    #[test]
    fn no_secret_is_shown() {
        let config = config(
            r#"{"url": "http://u:s3cret@x/s3cret?s3cret", "secret": "s3cret",
                "secrets": ["s3cret"], "headers": {"authorization": "s3cret"}}"#,
        );
        assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
        assert!(!format!("{:?}", config.extra_headers()).contains("s3cret"));
    }
}
