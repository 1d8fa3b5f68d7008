//! From what went wrong below HTTP to the class that is true.

use crate::resolve::ResolveError;
use outbox_channel::{ErrorClass, SendError};
use reqwest::Url;
use std::error::Error;
use std::fmt;
use std::io;
use std::iter::successors;

type Cause = Box<dyn Error + Send + Sync>;

/// Whom a request goes to, as told in errors: host and port. The rest of a URL (user, path,
/// query) often holds secrets.
pub(crate) struct Target(String);

impl Target {
    pub(crate) fn of(url: &Url) -> Self {
        let host = url.host_str().unwrap_or("?");
        let port = url.port_or_known_default().unwrap_or_default();
        Self(format!("{host}:{port}"))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Nothing was written: `class` is the caller's, for it knows whether one silent target means
/// that the channel is down.
pub(crate) fn not_sent(class: ErrorClass, target: &Target, cause: Cause) -> SendError {
    let reason = root(cause.as_ref());
    let error = match find::<ResolveError>(cause.as_ref()) {
        Some(ResolveError::Refused(_)) => SendError::unavailable(
            "address_refused",
            format!("{target} is refused: {reason}; set allow_private to permit it"),
        ),
        Some(_) => SendError::new(class, "dns", format!("cannot resolve {target}: {reason}")),
        None if find::<rustls::Error>(cause.as_ref()).is_some() => {
            SendError::new(class, "tls", format!("no TLS with {target}: {reason}"))
        }
        None => {
            let message = format!("cannot connect to {target}: {reason}");
            SendError::new(class, "connect", message)
        }
    };
    error.with_source(cause)
}

/// The time was over before anything was written.
pub(crate) fn not_sent_in_time(class: ErrorClass, target: &Target) -> SendError {
    let message = format!("no connection to {target} before the deadline");
    SendError::new(class, "timeout", message)
}

/// The request may have arrived, but what came back is not an answer.
pub(crate) fn maybe_sent(target: &Target, cause: Cause) -> SendError {
    let reason = root(cause.as_ref());
    let message =
        format!("{target} gave no readable answer and may have taken the message: {reason}");
    SendError::ambiguous("connection_lost", message).with_source(cause)
}

/// The request may have arrived, and the time is over.
pub(crate) fn maybe_sent_in_time(target: &Target) -> SendError {
    let message = format!("{target} did not answer in time and may have taken the message");
    SendError::ambiguous("timeout", message)
}

/// The innermost error says the most: the ones around it say "error sending request".
fn root(error: &(dyn Error + 'static)) -> String {
    let innermost = causes(error).last();
    innermost.unwrap_or(error).to_string()
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The error, what caused it, what caused that, and so on.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error = *error;
        // `io::Error::source` skips the very error that it wraps.
        match error.downcast_ref().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}
