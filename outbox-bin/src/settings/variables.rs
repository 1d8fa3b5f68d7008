//! The environment and `.env`: which variable sets what.

use super::error::{Origin, Problem, nearest};
use super::toml_file;
use super::tree::{Path, Tree, dotted, nested};
use figment::value::Value;
use std::collections::BTreeMap;

const PREFIX: &str = "OUTBOX_";

/// The tables of the settings file.
pub(super) const TOP: &[&str] = &[
    "admin",
    "channels",
    "database",
    "retention",
    "retry",
    "routes",
    "worker",
];

/// Settings without a default.
pub(super) const OPTIONAL: &[&[&str]] = &[
    &["admin", "api_key"],
    &["admin", "read_only_api_key"],
    &["database", "url"],
    &["retry", "fixed_delay"],
];

/// Variables that are no settings but belong to the program.
const OTHERS: &[&str] = &["OUTBOX_CONFIG", "OUTBOX_SANDBOX_KEEP"];

#[derive(Clone, Copy)]
enum Unit {
    AsIs,
    Milliseconds,
    Seconds,
}

/// Names that work as they are. Of two that mean the same, the later one wins: the shorter
/// name, which people set for a single run.
const PLAIN: &[(&str, &[&str], Unit)] = {
    use Unit::{AsIs, Milliseconds, Seconds};
    &[
        ("DATABASE_URL", &["database", "url"], AsIs),
        ("ADMIN_API_KEY", &["admin", "api_key"], AsIs),
        ("OUTBOX_WORKER_ENABLED", &["worker", "enabled"], AsIs),
        (
            "OUTBOX_WORKER_POLL_MS",
            &["worker", "poll_interval"],
            Milliseconds,
        ),
        (
            "OUTBOX_POLL_INTERVAL_MS",
            &["worker", "poll_interval"],
            Milliseconds,
        ),
        (
            "OUTBOX_WORKER_PROCESS_LIMIT",
            &["worker", "batch_size"],
            AsIs,
        ),
        ("OUTBOX_BATCH_SIZE", &["worker", "batch_size"], AsIs),
        (
            "OUTBOX_WORKER_RETRY_DELAY_SECONDS",
            &["retry", "fixed_delay"],
            Seconds,
        ),
        ("OUTBOX_WORKER_RETENTION_DAYS", &["retention", "days"], AsIs),
        (
            "OUTBOX_WORKER_RETENTION_LIMIT",
            &["retention", "limit"],
            AsIs,
        ),
        (
            "OUTBOX_WORKER_RETENTION_EVERY_CYCLES",
            &["retention", "every_cycles"],
            AsIs,
        ),
    ]
};

/// One source of variables; an empty value counts as not set.
pub(super) struct Variables<'a> {
    origin: fn(String) -> Origin,
    values: BTreeMap<&'a str, &'a str>,
}

impl<'a> Variables<'a> {
    /// `origin` is [`Origin::DotEnv`] or [`Origin::Environment`]. Of two values with one name
    /// the later wins.
    pub(super) fn new(origin: fn(String) -> Origin, pairs: &'a [(String, String)]) -> Self {
        let values = pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect::<BTreeMap<_, _>>();
        let values = values.into_iter().filter(|(_, value)| !value.is_empty());
        Self {
            origin,
            values: values.collect(),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.values.get(name).copied()
    }

    pub(super) fn origin(&self, name: &str) -> Origin {
        (self.origin)(name.to_owned())
    }

    /// Lays the plain names, then the `OUTBOX_` paths, over what is there.
    pub(super) fn lay_over(
        &self,
        tree: &mut Tree,
        problems: &mut Vec<Problem>,
        warnings: &mut Vec<Problem>,
    ) {
        self.lay_plain(tree, problems, warnings);
        for (&name, &text) in &self.values {
            match role(name) {
                Role::Path(path) => {
                    let value = toml_file::inline(text).unwrap_or_else(|| text.into());
                    tree.lay_over(&self.origin(name), nested(&path, value));
                }
                Role::Typo(meant) => {
                    let message = format!("leads to no setting; did you mean {meant}?");
                    problems.push(Problem::new(self.origin(name), "", message));
                }
                Role::Unknown => {
                    let message = "leads to no setting and is ignored";
                    warnings.push(Problem::new(self.origin(name), "", message));
                }
                Role::Else => {}
            }
        }
    }

    fn lay_plain(&self, tree: &mut Tree, problems: &mut Vec<Problem>, warnings: &mut Vec<Problem>) {
        let mut set = BTreeMap::new();
        for &(name, path, unit) in PLAIN {
            let Some(text) = self.get(name) else { continue };
            let key = dotted(path);
            match with_unit(text, unit) {
                Ok(value) => tree.lay_over(&self.origin(name), nested(path, value)),
                Err(reason) => {
                    let message = format!("`{key}`: {reason}");
                    problems.push(Problem::new(self.origin(name), key, message));
                    continue;
                }
            }
            if let Some(overridden) = set.insert(path, name) {
                let message = format!("sets `{key}`, as {overridden} does, which is ignored");
                warnings.push(Problem::new(self.origin(name), key, message));
            }
        }
    }
}

/// What a variable does.
enum Role {
    /// Sets the value there.
    Path(Path),
    /// Nothing, and is so close to this name that it was meant.
    Typo(String),
    /// Nothing, though its name says that it is ours.
    Unknown,
    /// It is a plain name, or somebody else's.
    Else,
}

fn role(name: &str) -> Role {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return Role::Else;
    };
    let is_plain = PLAIN.iter().any(|&(plain, ..)| plain == name);
    if is_plain || OTHERS.contains(&name) {
        return Role::Else;
    }
    let path: Path = rest.split("__").map(step).collect();
    if path.len() > 1 || TOP.contains(&path[0].as_str()) {
        return Role::Path(path);
    }
    similar(name).map_or(Role::Unknown, Role::Typo)
}

/// Upper case stands for lower case; a step with lower case letters is meant as it is.
fn step(text: &str) -> String {
    if text.contains(|character: char| character.is_ascii_lowercase()) {
        return text.to_owned();
    }
    text.to_ascii_lowercase()
}

/// A name at most two edits away, among the plain ones and the paths of all settings that
/// always exist.
fn similar(name: &str) -> Option<String> {
    let plain = PLAIN.iter().map(|&(plain, ..)| plain.to_owned());
    let others = OTHERS.iter().map(|&other| other.to_owned());
    let optional = OPTIONAL.iter().map(|path| name_of(path));
    let with_default =
        toml_file::defaults(&mut Vec::new())
            .into_iter()
            .flat_map(|(table, values)| {
                let keys = values.into_dict().unwrap_or_default().into_keys();
                keys.map(move |key| name_of(&[table.clone(), key]))
            });
    let known: Vec<_> = plain
        .chain(others)
        .chain(optional)
        .chain(with_default)
        .collect();
    let near = nearest(name, known.iter().map(String::as_str))?;
    (strsim::damerau_levenshtein(name, near) <= 2).then(|| near.to_owned())
}

/// Digits with the unit that the variable's name promises.
fn with_unit(text: &str, unit: Unit) -> Result<Value, String> {
    let (suffix, name) = match unit {
        Unit::AsIs => return Ok(text.into()),
        Unit::Milliseconds => ("ms", "milliseconds"),
        Unit::Seconds => ("s", "seconds"),
    };
    match text.trim().parse::<u64>() {
        Ok(number) => Ok(format!("{number}{suffix}").into()),
        Err(_) => Err(format!("expected a whole number of {name}, without a unit")),
    }
}

/// The variable that sets the value at `path`: `OUTBOX_WORKER__BATCH_SIZE`.
pub(super) fn name_of<S: AsRef<str>>(path: &[S]) -> String {
    let steps: Vec<_> = path
        .iter()
        .map(|step| step.as_ref().to_ascii_uppercase())
        .collect();
    format!("{PREFIX}{}", steps.join("__"))
}

/// The variable's name with the step at `depth` put right.
pub(super) fn corrected(variable: &str, depth: usize, meant: &str) -> String {
    let mut steps: Vec<_> = variable.trim_start_matches(PREFIX).split("__").collect();
    let meant = meant.to_ascii_uppercase();
    if let Some(step) = steps.get_mut(depth) {
        *step = &meant;
    }
    format!("{PREFIX}{}", steps.join("__"))
}

/// Whether a variable may set something, by its name.
pub(super) fn concerns_us(name: &str) -> bool {
    let plain = || PLAIN.iter().any(|&(plain, ..)| plain == name);
    name.starts_with(PREFIX) || plain() || super::provider_variables::knows(name)
}
