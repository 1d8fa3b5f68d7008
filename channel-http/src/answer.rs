//! What came back.

use bytes::{Bytes, BytesMut};
use outbox_channel::http::retry_after;
use reqwest::Response;
use reqwest::header::RETRY_AFTER;
use std::fmt;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, timeout_at};

/// An HTTP answer, read up to a cap.
#[derive(Clone)]
pub struct Answer {
    status: u16,
    retry_after: Option<Duration>,
    body: Bytes,
    truncated: bool,
}

impl Answer {
    const EXCERPT: usize = 1_000;

    /// The status has arrived, so nothing that happens to the body makes this an error.
    pub(crate) async fn read(mut response: Response, cap: usize, until: Instant) -> Self {
        let header = response.headers().get(RETRY_AFTER);
        let retry_after = header
            .and_then(|value| value.to_str().ok())
            .and_then(|value| retry_after(value, SystemTime::now()));
        let mut body = BytesMut::new();
        let truncated = loop {
            match timeout_at(until, response.chunk()).await {
                Ok(Ok(Some(chunk))) => {
                    let room = cap - body.len();
                    body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                    if chunk.len() > room {
                        break true;
                    }
                }
                Ok(Ok(None)) => break false,
                Ok(Err(_)) | Err(_) => break true,
            }
        };
        Self {
            status: response.status().as_u16(),
            retry_after,
            body: body.freeze(),
            truncated,
        }
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// How long the server asks to be left alone, from its `Retry-After` header.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The body, as far as it was read.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body went on beyond the cap, or broke off: [`body`](Self::body) is a part of it.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// The beginning of the body as text, for an operator to read. May repeat what was sent,
    /// so it is not for a channel whose messages must not be shown.
    #[must_use]
    pub fn excerpt(&self) -> String {
        let end = self.body.len().min(Self::EXCERPT);
        String::from_utf8_lossy(&self.body[..end]).into_owned()
    }
}

// By hand: an answer may repeat the message that it answers.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("retry_after", &self.retry_after)
            .field("body_bytes", &self.body.len())
            .field("truncated", &self.truncated)
            .finish()
    }
}
