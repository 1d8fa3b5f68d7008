//! Path and credentials, as twilio-async makes them.

use crate::SmsConfig;
use channel_http::reqwest::Url;
use channel_http::reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use outbox_channel::BuildError;
use secrecy::ExposeSecret;
use twilio_async::{Execute, Twilio};

/// Where the API is and how to get in.
pub(crate) struct Endpoint {
    pub(crate) messages: Url,
    pub(crate) account: Url,
    pub(crate) headers: HeaderMap,
}

impl Endpoint {
    pub(crate) fn new(config: &SmsConfig) -> Result<Self, BuildError> {
        let sid = &config.account_sid;
        let in_path = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if sid.is_empty() || !sid.bytes().all(in_path) {
            return Err(BuildError::new(
                "account_sid",
                "must be AC and 32 hexadecimal digits",
            ));
        }
        let token = config.auth_token.expose_secret();
        if token.is_empty() {
            return Err(BuildError::new("auth_token", "is empty"));
        }
        let base = base_url(&config.base_url)?;
        let (path, headers) = from_twilio(sid, token)
            .ok_or_else(|| BuildError::new("auth_token", "cannot be sent as HTTP credentials"))?;
        let account = path.replace("/Messages.json", ".json");
        Ok(Self {
            messages: under(&base, &path),
            account: under(&base, &account),
            headers,
        })
    }
}

fn base_url(text: &str) -> Result<Url, BuildError> {
    let refuse = |reason: String| BuildError::new("base_url", reason);
    let url = Url::parse(text).map_err(|error| refuse(format!("not a URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("must begin with http:// or https://".to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(refuse("must have no user and no query".to_owned()));
    }
    Ok(url)
}

fn under(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

/// The `Twilio` value shows the token in its `Debug`, so it does not leave this function; nor
/// do its errors.
fn from_twilio(sid: &str, token: &str) -> Option<(String, HeaderMap)> {
    let twilio = Twilio::new(sid, token).ok()?;
    // Only the head is used: the form is ours, with fields that `SendMsg` does not know.
    let form = Some(String::new());
    let request = twilio
        .send_msg("", "", "")
        .request(http::Method::POST, "Messages.json", form)
        .ok()?;
    let mut headers = HeaderMap::new();
    for (name, value) in request.headers() {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
        let mut value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
        value.set_sensitive(name == AUTHORIZATION);
        headers.insert(name, value);
    }
    Some((request.uri().path().to_owned(), headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(account_sid: &str, token: &str, base_url: &str) -> Result<Endpoint, BuildError> {
        let config = serde_json::json!({
            "account_sid": account_sid, "auth_token": token, "from": "Outbox", "base_url": base_url,
        });
        Endpoint::new(&serde_json::from_value(config).unwrap())
    }

    #[test]
    fn urls_stand_under_the_base() {
        let ours = endpoint("AC1", "t", "https://api.example.org/twilio/").unwrap();
        let base = "https://api.example.org/twilio/2010-04-01/Accounts/AC1";
        assert_eq!(ours.messages.as_str(), format!("{base}/Messages.json"));
        assert_eq!(ours.account.as_str(), format!("{base}.json"));
        assert_eq!(ours.headers[AUTHORIZATION], "Basic QUMxOnQ=");
        assert_eq!(
            ours.headers["content-type"],
            "application/x-www-form-urlencoded"
        );
    }

    #[test]
    fn what_cannot_work_is_told_by_its_setting() {
        let https = "https://api.example.org";
        for (sid, token, base, setting) in [
            ("", "t", https, "account_sid"),
            ("AC1/../AC2", "t", https, "account_sid"),
            ("AC1", "", https, "auth_token"),
            ("AC1", "t", "api.example.org", "base_url"),
            ("AC1", "t", "ftp://api.example.org", "base_url"),
            ("AC1", "t", "https://u:p@api.example.org", "base_url"),
        ] {
            let error = endpoint(sid, token, base).err().unwrap();
            assert_eq!(error.setting(), setting);
        }
    }
}
