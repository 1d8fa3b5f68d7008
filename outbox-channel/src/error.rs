//! Why a message was not delivered, and what may be done next.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// What the engine may do after an attempt that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// This attempt failed, the next may not: retried with backoff, an attempt is spent.
    Transient,
    /// This message can never be delivered: dead letter at once.
    Permanent,
    /// The channel itself is broken (credentials, provider or proxy down): it is left alone
    /// for a while, and **no attempt is spent**. One wrong password must not dead-letter a
    /// backlog.
    Unavailable,
    /// The message may have been delivered (a timeout after the request was written, an
    /// unreadable answer): the channel's `on_ambiguous` setting decides.
    Ambiguous,
}

impl ErrorClass {
    /// The class as stored and shown: `transient`, `permanent`, `unavailable`, `ambiguous`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::Unavailable => "unavailable",
            Self::Ambiguous => "ambiguous",
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An attempt that did not succeed.
///
/// Opaque, so that it can grow: made with one of the four classes, read by its accessors.
/// `code` is a short stable word or number to group by (`"503"`, `"connect"`, `"21211"`);
/// `message` is one sentence that is safe to show to an operator: no secret, no payload.
///
/// ```
/// # use outbox_channel::{ErrorClass, SendError};
/// # use std::time::Duration;
/// let error = SendError::transient("503", "the provider is overloaded")
///     .with_retry_after(Duration::from_secs(30));
/// assert_eq!(error.class(), ErrorClass::Transient);
/// assert_eq!(error.to_string(), "the provider is overloaded (503)");
/// ```
#[derive(Debug)]
pub struct SendError(Box<Inner>);

// Boxed: a `Result<Receipt, SendError>` stays small on the path where nothing fails.
#[derive(Debug)]
struct Inner {
    class: ErrorClass,
    code: Cow<'static, str>,
    message: String,
    retry_after: Option<Duration>,
    answer: Option<String>,
    source: Option<Source>,
}

impl SendError {
    pub(crate) const MAX_CODE: usize = 64;
    const MAX_MESSAGE: usize = 500;
    const MAX_ANSWER: usize = 1_000;

    /// An error of the given class; see the four named constructors.
    pub fn new(
        class: ErrorClass,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        let mut code = code.into();
        if code.len() > Self::MAX_CODE {
            shorten(code.to_mut(), Self::MAX_CODE);
        }
        let mut message = message.into();
        shorten(&mut message, Self::MAX_MESSAGE);
        Self(Box::new(Inner {
            class,
            code,
            message,
            retry_after: None,
            answer: None,
            source: None,
        }))
    }

    /// This attempt failed, the next may not.
    pub fn transient(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Transient, code, message)
    }

    /// This message can never be delivered.
    pub fn permanent(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Permanent, code, message)
    }

    /// The channel itself is broken; no attempt is spent.
    pub fn unavailable(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Unavailable, code, message)
    }

    /// The message may or may not have been delivered.
    pub fn ambiguous(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Ambiguous, code, message)
    }

    /// How long the provider asks to be left alone, from now.
    #[must_use]
    pub fn with_retry_after(mut self, wait: impl Into<Option<Duration>>) -> Self {
        self.0.retry_after = wait.into();
        self
    }

    /// What the provider answered, kept for the operator: at most 1,000 bytes of it.
    #[must_use]
    pub fn with_answer(mut self, answer: impl Into<String>) -> Self {
        let mut answer = answer.into();
        shorten(&mut answer, Self::MAX_ANSWER);
        self.0.answer = Some(answer);
        self
    }

    /// The underlying error, for logs and for [`std::error::Error::source`].
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What may be done next.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        self.0.class
    }

    /// A short stable word or number to group by, at most 64 bytes.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// One sentence, safe to show, at most 500 bytes.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// How long the provider asks to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// An excerpt of what the provider answered.
    #[must_use]
    pub fn answer(&self) -> Option<&str> {
        self.0.answer.as_deref()
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.message, self.0.code)
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}

/// Cuts `text` to at most `limit` bytes at a character boundary, and drops NUL, which
/// PostgreSQL's `text` cannot hold.
pub(crate) fn shorten(text: &mut String, limit: usize) {
    if text.contains('\0') {
        text.retain(|character| character != '\0');
    }
    if text.len() > limit {
        let end = (0..=limit).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn texts_are_cut_at_a_character_boundary_and_lose_nul() {
        let error = SendError::permanent("x".repeat(100), "é".repeat(400))
            .with_answer(format!("a\0b{}", "z".repeat(2_000)));
        assert_eq!(error.code().len(), 64);
        assert_eq!(error.message().len(), 500);
        let answer = error.answer().unwrap();
        assert!(answer.starts_with("ab") && answer.len() == 1_000);
    }

    #[test]
    fn the_source_is_kept() {
        let error = SendError::transient("io", "broken pipe")
            .with_source(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert!(error.source().unwrap().to_string().contains("broken pipe"));
    }
}
