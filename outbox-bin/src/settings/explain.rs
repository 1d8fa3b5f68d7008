//! What did not fit, as a sentence. Values are never shown: any of them may be a secret.

use super::error::{Problem, nearest, quoted};
use super::show::is_secret;
use super::tree::{Path, Tree, dotted};
use super::variables;
use figment::Error;
use figment::error::{Actual, Kind};

pub(super) fn explain(tree: &Tree, misfit: Error) -> Problem {
    let mut path = misfit.path;
    match misfit.kind {
        Kind::UnknownField(name, known) => {
            path.push(name);
            unknown_key(tree, &path, known)
        }
        Kind::InvalidType(Actual::Map, _) if leads_too_far(tree, &path) => {
            let name = variables::name_of(&path);
            let message = format!("leads to no setting; did you mean {name}?");
            Problem::new(tree.origin(&path), dotted(&path), message)
        }
        Kind::MissingField(name) => {
            let origin = tree.origin(&path);
            path.push(name.into_owned());
            let key = dotted(&path);
            let variable = variables::name_of(&path);
            let message = format!("missing key `{key}`: add it, or set {variable}");
            Problem::new(origin, key, message)
        }
        kind => {
            let key = dotted(&path);
            let message = format!("`{key}`: {}", without_value(tree, &path, misfit_of(kind)));
            Problem::new(tree.origin(&path), key, message)
        }
    }
}

/// A key that leads nowhere, told in the words of the source that it is in.
pub(super) fn unknown_key(tree: &Tree, path: &Path, known: &[&str]) -> Problem {
    let (name, parents) = path
        .split_last()
        .map_or(("", path.as_slice()), |(name, p)| (name, p));
    let origin = tree.origin(path);
    let key = dotted(path);
    let near = nearest(name, known.iter().copied());
    let own = matches!(parents, [first, _] if first == "channels");
    let message = match (origin.variable().filter(|name| name.contains("__")), near) {
        (Some(variable), Some(near)) => {
            let meant = variables::corrected(variable, parents.len(), near);
            format!("leads to no setting; did you mean {meant}?")
        }
        (Some(variable), None) if own => {
            let meant = variables::corrected(variable, parents.len(), &format!("settings__{name}"));
            format!("leads to no setting; did you mean {meant}?")
        }
        (Some(_), None) => format!("leads to no setting; {}", valid(parents, known)),
        (None, Some(near)) => format!("unknown key `{key}`; did you mean `{near}`?"),
        (None, None) if own => format!(
            "unknown key `{key}`; {}, and the channel's own settings belong in `[{}.settings]`",
            valid(parents, known),
            dotted(parents)
        ),
        (None, None) => format!("unknown key `{key}`; {}", valid(parents, known)),
    };
    Problem::new(origin, key, message)
}

fn valid(parents: &[String], known: &[&str]) -> String {
    let place = match parents {
        [] => "at the top level".to_owned(),
        parents => format!("in `{}`", dotted(parents)),
    };
    match known {
        [] => format!("{place} there are no keys"),
        known => format!("{place} there are {}", quoted(known.iter().copied())),
    }
}

/// Whether a variable goes on where a plain value belongs (`OUTBOX_WORKER__LEASE__X`).
fn leads_too_far(tree: &Tree, path: &Path) -> bool {
    let name = variables::name_of(path);
    let origin = tree.origin(path);
    let mut variable = origin.variable().into_iter();
    variable.any(|variable| variable.starts_with(&format!("{name}__")))
}

/// The free text of a plugin's own types may quote what it was given.
fn without_value(tree: &Tree, path: &Path, message: String) -> String {
    let value = tree.get(path).and_then(|value| value.as_str());
    let own =
        matches!(path.as_slice(), [top, _, table, ..] if top == "channels" && table == "settings");
    match value.filter(|text| own && !text.is_empty() && message.contains(*text)) {
        Some(_) if is_secret(path) => "not a valid value".to_owned(),
        Some(text) => message.replace(text, "…"),
        None => message,
    }
}

fn misfit_of(kind: Kind) -> String {
    match kind {
        Kind::InvalidType(actual, expected) => {
            format!("expected {}, found {}", plain(&expected), found(&actual))
        }
        Kind::InvalidValue(_, expected) => {
            format!("not a valid value: expected {}", plain(&expected))
        }
        Kind::InvalidLength(length, expected) => {
            format!("has {length} items: expected {}", plain(&expected))
        }
        Kind::UnknownVariant(name, known) => {
            let near = nearest(&name, known.iter().copied());
            let hint = near.map(|near| format!("; did you mean `{near}`?"));
            let known = quoted(known.iter().copied());
            format!("expected one of {known}{}", hint.unwrap_or_default())
        }
        Kind::Message(message) => message,
        Kind::DuplicateField(name) => format!("`{name}` is there twice"),
        _ => "not a valid value".to_owned(),
    }
}

/// What serde calls a type, in an operator's words.
fn plain(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

fn found(actual: &Actual) -> &'static str {
    match actual {
        Actual::Bool(_) => "true or false",
        Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) => "a number",
        Actual::Char(_) | Actual::Str(_) | Actual::Bytes(_) => "text",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        _ => "something else",
    }
}
