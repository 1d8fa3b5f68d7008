//! Why a command failed: a sentence for people and an exit code for scripts.

use crate::output;
use crate::settings::SettingsError;
use std::process::ExitCode;

/// Why a command ended without having done what it was for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Bad usage or settings: exit code 2.
    Usage(String),
    /// It did not work: exit code 1.
    Failed(anyhow::Error),
}

impl Failure {
    /// The exit code for bad usage or settings.
    pub(crate) const BAD_USAGE: u8 = 2;

    pub(crate) fn report(self) -> ExitCode {
        let (code, text) = match self {
            Self::Usage(text) => (Self::BAD_USAGE, text),
            Self::Failed(error) => (1, sentence(&error)),
        };
        for line in text.lines() {
            output::note(format_args!("error: {line}"));
        }
        ExitCode::from(code)
    }
}

/// The whole chain in one sentence.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut parts = Vec::new();
    for cause in error.chain() {
        if let Some(cause) = cause.downcast_ref::<sqlx::Error>() {
            // Its own text repeats what is beneath it.
            parts.push(database_reason(cause));
            break;
        }
        parts.push(cause.to_string());
    }
    parts.join(": ")
}

/// What the server or the network said, in one piece.
fn database_reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::PoolTimedOut => "no connection could be made in time; is it running?".into(),
        error => error.to_string(),
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<outbox_store::StoreError> for Failure {
    fn from(error: outbox_store::StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<outbox_store::OpenError> for Failure {
    fn from(error: outbox_store::OpenError) -> Self {
        use outbox_store::OpenError;
        match error {
            OpenError::Address(_) | OpenError::Schema(_) => Self::Usage(error.to_string()),
            _ => Self::Failed(error.into()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn each_cause_is_told_once() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let error = Err::<(), _>(sqlx::Error::Io(refused))
            .context("cannot write the event")
            .unwrap_err();
        assert_eq!(
            sentence(&error),
            "cannot write the event: connection refused"
        );
    }
}
