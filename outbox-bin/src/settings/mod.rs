//! Settings: `outbox.toml`, then `.env`, then the environment.
//!
//! ```
//! use outbox_bin::settings::{Settings, Sources};
//!
//! let mut sources = Sources::default();
//! sources.file = Some(("outbox.toml".into(), "[worker]\nbatch_size = 500".into()));
//! sources.environment = vec![("OUTBOX_WORKER__LEASE".into(), "1m".into())];
//! let settings = Settings::load(&sources)?;
//! assert_eq!(settings.worker.batch_size, 500);
//! assert_eq!(settings.worker.lease.as_secs(), 60);
//! # Ok::<(), outbox_bin::settings::SettingsError>(())
//! ```

mod check;
mod draft;
mod error;
mod explain;
mod model;
mod provider_variables;
mod read;
mod routes;
mod show;
mod sources;
mod toml_file;
mod tree;
pub(crate) mod values;
mod variables;

pub use draft::Draft;
pub use error::{Origin, Problem, SettingsError};
pub(crate) use error::{nearest, quoted};
pub use model::{
    AdminSettings, ChannelSettings, DatabaseSettings, MessageTemplates, OnAmbiguous, OnDead,
    RetentionSettings, RetrySettings, RouteSettings, Targets, WorkerSettings,
};
pub use show::Entry;
pub use sources::Sources;
pub use values::RateLimit;

use outbox_channel::ChannelName;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use tree::Tree;

/// Everything that an operator can set, validated.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// `[database]`
    pub database: DatabaseSettings,
    /// `[worker]`
    pub worker: WorkerSettings,
    /// `[retry]`
    pub retry: RetrySettings,
    /// `[retention]`
    pub retention: RetentionSettings,
    /// `[admin]`
    pub admin: AdminSettings,
    /// `[channels.NAME]`
    pub channels: BTreeMap<ChannelName, ChannelSettings>,
    /// `[[routes]]`, in the order written: the first that matches wins.
    pub routes: Vec<RouteSettings>,
    warnings: Vec<Problem>,
    file: Option<std::path::PathBuf>,
    tree: Tree,
}

impl Settings {
    /// Merges and validates the sources.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(sources: &Sources) -> Result<Self, SettingsError> {
        Draft::new(sources).settings()
    }

    /// What works but is probably not meant, to be logged at start.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// `database.url`, for commands that need a database.
    ///
    /// # Errors
    /// When it is not set.
    pub fn database_url(&self) -> Result<&SecretString, SettingsError> {
        self.database.url.as_ref().ok_or_else(|| {
            let file = self.file.as_deref().unwrap_or("outbox.toml".as_ref());
            let message = format!(
                "no database is named: set DATABASE_URL or database.url in {}",
                file.display()
            );
            Problem::new(None, "database.url", message).into()
        })
    }

    /// One channel with everything that it inherits.
    #[must_use]
    pub fn channel(&self, name: &str) -> Option<&ChannelSettings> {
        self.channels.get(name)
    }

    /// Reads `[channels.NAME.settings]` as the channel's own type. Unknown keys are errors,
    /// whether or not the type refuses them itself (except beneath `#[serde(flatten)]`, where
    /// nobody can know them).
    ///
    /// # Errors
    /// What does not fit, with its source and the nearest valid name.
    pub fn channel_config<T: DeserializeOwned>(
        &self,
        name: &ChannelName,
    ) -> Result<T, SettingsError> {
        let mut problems = Vec::new();
        let path = ["channels", name.as_str(), "settings"];
        let config = self.tree.read(&path, &mut problems);
        config.ok_or_else(|| problems.into())
    }

    /// Where the value with this path came from, or the nearest table around it.
    #[must_use]
    pub(crate) fn origin(&self, path: &[&str]) -> Origin {
        self.tree.origin(path)
    }
}
