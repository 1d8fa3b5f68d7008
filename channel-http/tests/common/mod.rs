//! What the tests of this crate share.

use channel_http::reqwest::header::HeaderValue;
use channel_http::reqwest::{Method, Request, Url};
use channel_http::{AllowPrivate, HttpClient, HttpOptions};
use outbox_channel::ErrorClass;
use std::time::{Duration, Instant};

pub(crate) fn options() -> HttpOptions {
    let mut options = HttpOptions::new(ErrorClass::Transient);
    options.allow_private = AllowPrivate::Yes;
    options
}

pub(crate) fn client() -> HttpClient {
    HttpClient::new(options()).unwrap()
}

/// With what the stand-in receiver asks of a message.
pub(crate) fn post(url: &str) -> Request {
    let mut request = Request::new(Method::POST, Url::parse(url).unwrap());
    let id = HeaderValue::from_static("test-1-test");
    request.headers_mut().insert("webhook-id", id);
    *request.body_mut() = Some("{}".into());
    request
}

pub(crate) fn within(time: Duration) -> Instant {
    Instant::now() + time
}

/// Far off: a test that gets there has failed.
pub(crate) fn far() -> Instant {
    within(Duration::from_secs(60))
}
