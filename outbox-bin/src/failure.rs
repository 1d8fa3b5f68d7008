//! Why a command failed: a sentence for people and an exit code for scripts.

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
    pub(crate) fn report(self) -> ExitCode {
        let (code, text) = match self {
            Self::Usage(text) => (2, text),
            Self::Failed(error) => (1, format!("{error:#}")),
        };
        for line in text.lines() {
            eprintln!("error: {line}");
        }
        ExitCode::from(code)
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
