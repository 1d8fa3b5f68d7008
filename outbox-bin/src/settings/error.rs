//! What is wrong with the settings, and where it came from.

use figment::{Metadata, Source};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

/// Where a setting's value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// The settings file.
    File(PathBuf),
    /// A variable in the `.env` file.
    DotEnv(String),
    /// An environment variable.
    Environment(String),
}

const FILE: &str = "file";
const DOTENV: &str = ".env";
const ENVIRONMENT: &str = "environment";

impl Origin {
    /// The variable's name, when it is one.
    #[must_use]
    pub fn variable(&self) -> Option<&str> {
        match self {
            Self::DotEnv(name) | Self::Environment(name) => Some(name),
            Self::Default | Self::File(_) => None,
        }
    }

    pub(super) fn to_metadata(&self) -> Metadata {
        match self {
            Self::Default => Metadata::default(),
            Self::File(path) => Metadata::from(FILE, path.as_path()),
            Self::DotEnv(name) => Metadata::from(DOTENV, name.as_str()),
            Self::Environment(name) => Metadata::from(ENVIRONMENT, name.as_str()),
        }
    }

    pub(super) fn of(metadata: Option<&Metadata>) -> Self {
        let Some((name, source)) = metadata.and_then(|m| Some((&m.name, m.source.as_ref()?)))
        else {
            return Self::Default;
        };
        match (&**name, source) {
            (FILE, Source::File(path)) => Self::File(path.clone()),
            (DOTENV, Source::Custom(variable)) => Self::DotEnv(variable.clone()),
            (ENVIRONMENT, Source::Custom(variable)) => Self::Environment(variable.clone()),
            _ => Self::Default,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => path.display().fmt(f),
            Self::DotEnv(name) => write!(f, ".env {name}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One thing that is wrong, or worth knowing: the source, the dotted key, what is the matter
/// and what to do. Never a value: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    origin: Option<Origin>,
    key: String,
    message: Cow<'static, str>,
}

impl Problem {
    /// `message` is shown as it is, behind the origin, so it names the key where that helps.
    pub(crate) fn new(
        origin: impl Into<Option<Origin>>,
        key: impl Into<String>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        // A default never fails by itself: what is missing or at odds is said without it.
        let origin = origin.into().filter(|origin| *origin != Origin::Default);
        Self {
            origin,
            key: key.into(),
            message: message.into(),
        }
    }

    /// Where the value came from; `None` when something is missing everywhere.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// The dotted key, for instance `worker.batch_size` or `routes[0].channels`; empty when
    /// the whole source is meant.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What is wrong and what to do, without the source.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Some(origin) => write!(f, "{origin}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Settings that cannot work, with everything found wrong: one line each.
#[derive(Debug, Clone)]
pub struct SettingsError {
    problems: Vec<Problem>,
}

impl SettingsError {
    /// What is wrong, at least one thing.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl From<Problem> for SettingsError {
    fn from(problem: Problem) -> Self {
        vec![problem].into()
    }
}

impl From<Vec<Problem>> for SettingsError {
    fn from(problems: Vec<Problem>) -> Self {
        Self { problems }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsError {}

/// The candidate that `name` is most likely a misspelling of.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let limit = match name.len() {
        0..=3 => 1,
        length => (length / 3).max(2),
    };
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Names in backticks, separated by commas.
pub(crate) fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
