//! The sources laid over one another, each value knowing where it came from.

use super::error::{Origin, Problem};
use super::read::{self, Reader};
use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;
use std::fmt;

/// Steps to a value: a key, or `[3]` for an item of a list.
pub(super) type Path = Vec<String>;

#[derive(Clone, Default)]
pub(super) struct Tree {
    figment: Figment,
    root: Dict,
}

// By hand: values may be secrets.
impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").finish_non_exhaustive()
    }
}

impl Tree {
    /// Lays values over those that are there; tables are merged, all else is replaced.
    pub(super) fn lay_over(&mut self, origin: &Origin, values: Dict) {
        let layer = Layer::new(origin, values);
        self.update(|figment| figment.merge(layer));
    }

    /// Fills in what is not there yet.
    pub(super) fn lay_under(&mut self, origin: &Origin, values: Dict) {
        let layer = Layer::new(origin, values);
        self.update(|figment| figment.join(layer));
    }

    fn update(&mut self, change: impl FnOnce(Figment) -> Figment) {
        self.figment = change(std::mem::take(&mut self.figment));
        // A layer is data that was read before, so there is no error to lose here.
        let profiles = self.figment.data().unwrap_or_default();
        self.root = profiles.into_values().next().unwrap_or_default();
    }

    pub(super) fn root(&self) -> &Dict {
        &self.root
    }

    pub(super) fn get<S: AsRef<str>>(&self, path: &[S]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter()
            .try_fold(self.root.get(first.as_ref())?, |value, step| {
                child(value, step.as_ref())
            })
    }

    pub(super) fn table<S: AsRef<str>>(&self, path: &[S]) -> Option<&Dict> {
        self.get(path)?.as_dict()
    }

    /// Where the value at `path` came from, or the nearest table around it.
    pub(super) fn origin<S: AsRef<str>>(&self, path: &[S]) -> Origin {
        let nearest = (1..=path.len())
            .rev()
            .find_map(|length| self.get(&path[..length]));
        nearest.map_or(Origin::Default, |value| self.origin_of(value.tag()))
    }

    pub(super) fn origin_of(&self, tag: Tag) -> Origin {
        Origin::of(self.figment.get_metadata(tag))
    }

    /// Reads the table at `path`, one that is not there as an empty one, and adds to
    /// `problems` what does not fit: every unknown key, and the first value of a wrong type.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        path: &[&str],
        problems: &mut Vec<Problem>,
    ) -> Option<T> {
        let empty = Value::from(Dict::new());
        let value = self.get(path).unwrap_or(&empty);
        let path = path.iter().map(|&step| step.to_owned()).collect();
        let found = read::Findings::default();
        let result = T::deserialize(Reader::new(self, value, path, &found));
        let failed = result.as_ref().err().cloned();
        let misfits = found.into_inner().into_iter().chain(failed);
        let before = problems.len();
        problems.extend(misfits.map(|misfit| read::explain(self, misfit)));
        result.ok().filter(|_| problems.len() == before)
    }
}

fn child<'v>(value: &'v Value, step: &str) -> Option<&'v Value> {
    match value {
        Value::Dict(_, table) => table.get(step),
        Value::Array(_, items) => {
            let index = step.strip_prefix('[')?.strip_suffix(']')?;
            items.get(index.parse::<usize>().ok()?)
        }
        _ => None,
    }
}

/// `routes[0].channels`.
pub(super) fn dotted<S: AsRef<str>>(path: &[S]) -> String {
    let mut key = String::new();
    for step in path.iter().map(AsRef::as_ref) {
        if !key.is_empty() && !step.starts_with('[') {
            key.push('.');
        }
        key.push_str(step);
    }
    key
}

/// A table that holds only `value`, at `path`.
pub(super) fn nested<S: AsRef<str>>(path: &[S], value: Value) -> Dict {
    let Some((first, rest)) = path.split_first() else {
        return Dict::new();
    };
    let value = match rest {
        [] => value,
        rest => nested(rest, value).into(),
    };
    Dict::from([(first.as_ref().to_owned(), value)])
}

struct Layer {
    metadata: Metadata,
    values: Dict,
}

impl Layer {
    fn new(origin: &Origin, values: Dict) -> Self {
        Self {
            metadata: origin.to_metadata(),
            values,
        }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}
