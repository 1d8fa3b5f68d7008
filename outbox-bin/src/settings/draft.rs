//! All sources merged, not validated yet.

use super::error::{Origin, Problem, SettingsError};
use super::explain::unknown_key;
use super::model::{ChannelSettings, ChannelTable, RetrySettings};
use super::show::{self, Entry};
use super::tree::{Tree, nested};
use super::variables::{TOP, Variables};
use super::{Settings, Sources, check, provider_variables, routes, toml_file};
use outbox_channel::ChannelName;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// All sources merged, not validated yet: what there is to show even when it can't work.
#[derive(Debug)]
pub struct Draft {
    tree: Tree,
    file: Option<PathBuf>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Draft {
    /// Merges the sources.
    #[must_use]
    pub fn new(sources: &Sources) -> Self {
        let mut draft = Self {
            tree: Tree::default(),
            file: sources.file.as_ref().map(|(path, _)| path.clone()),
            problems: Vec::new(),
            warnings: Vec::new(),
        };
        draft.lay_file(sources);
        let dotenv = Variables::new(Origin::DotEnv, &sources.dotenv);
        let environment = Variables::new(Origin::Environment, &sources.environment);
        for variables in [&dotenv, &environment] {
            variables.lay_over(&mut draft.tree, &mut draft.problems, &mut draft.warnings);
        }
        let strongest_first = [environment, dotenv];
        provider_variables::lay_under(&mut draft.tree, &strongest_first, &mut draft.warnings);
        draft.lay_defaults();
        draft
    }

    fn lay_file(&mut self, sources: &Sources) {
        let Some((path, text)) = &sources.file else {
            return;
        };
        let origin = Origin::File(path.clone());
        match toml_file::read(&origin, text) {
            Ok(values) => self.tree.lay_over(&origin, values),
            Err(problem) => self.problems.push(problem),
        }
    }

    fn lay_defaults(&mut self) {
        let names: Vec<String> = match self.tree.table(&["channels"]) {
            Some(channels) => channels.keys().cloned().collect(),
            None => Vec::new(),
        };
        let of_channel = toml_file::channel_defaults(&mut self.problems);
        for name in &names {
            let values = nested(&["channels", name], of_channel.clone().into());
            self.tree.lay_under(&Origin::Default, values);
        }
        let general = toml_file::defaults(&mut self.problems);
        self.tree.lay_under(&Origin::Default, general);
    }

    /// Every effective setting with its source, secrets masked, ordered by key.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        show::entries(&self.tree)
    }

    /// Validates.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn settings(mut self) -> Result<Settings, SettingsError> {
        let known = self.read_all();
        match known {
            Some(settings) if self.problems.is_empty() => Ok(settings),
            _ => Err(self.problems.into()),
        }
    }

    fn read_all(&mut self) -> Option<Settings> {
        let (tree, problems) = (&self.tree, &mut self.problems);
        for key in tree
            .root()
            .keys()
            .filter(|key| !TOP.contains(&key.as_str()))
        {
            problems.push(unknown_key(tree, &vec![key.clone()], TOP));
        }
        // Each section is read, so that one that fails hides no problem of another.
        let database = tree.read(&["database"], problems);
        let worker = tree.read(&["worker"], problems);
        let retry = tree.read(&["retry"], problems);
        let retention = tree.read(&["retention"], problems);
        let admin = tree.read(&["admin"], problems);
        let channels = read_channels(tree, retry.as_ref(), problems);
        let routes = routes::read(tree, problems);
        let mut settings = Settings {
            database: database?,
            worker: worker?,
            retry: retry?,
            retention: retention?,
            admin: admin?,
            channels: channels?,
            routes,
            warnings: std::mem::take(&mut self.warnings),
            file: self.file.take(),
            tree: tree.clone(),
        };
        check::check(&mut settings, problems);
        Some(settings)
    }
}

fn read_channels(
    tree: &Tree,
    general: Option<&RetrySettings>,
    problems: &mut Vec<Problem>,
) -> Option<BTreeMap<ChannelName, ChannelSettings>> {
    let mut channels = BTreeMap::new();
    let tables: BTreeMap<String, figment::value::Value> = tree.read(&["channels"], problems)?;
    for name in tables.into_keys() {
        let table: Option<ChannelTable> = tree.read(&["channels", &name], problems);
        match ChannelName::try_from(name.clone()) {
            Ok(name) => {
                let resolved = table.and_then(|table| Some(table.with(general?)));
                channels.extend(resolved.map(|channel| (name, channel)));
            }
            Err(error) => {
                let key = format!("channels.{name}");
                let origin = tree.origin(&["channels", &name]);
                problems.push(Problem::new(origin, key, error.to_string()));
            }
        }
    }
    Some(channels)
}
