//! `[[routes]]`.

use super::error::{Problem, quoted};
use super::model::{RouteSettings, RouteTable, Targets};
use super::tree::Tree;
use figment::value::Value;
use outbox_channel::ChannelName;
use std::collections::BTreeSet;

/// Reads the routes; those that don't fit are told and left out.
pub(super) fn read(tree: &Tree, problems: &mut Vec<Problem>) -> Vec<RouteSettings> {
    let count = match tree.get(&["routes"]) {
        None => return Vec::new(),
        Some(Value::Array(_, items)) => items.len(),
        Some(_) => {
            let message = "`routes`: expected a list: write `[[routes]]` before each route, or \
                           set OUTBOX_ROUTES to the whole list";
            problems.push(Problem::new(tree.origin(&["routes"]), "routes", message));
            return Vec::new();
        }
    };
    let mut routes = Vec::with_capacity(count);
    for index in 0..count {
        routes.extend(read_one(tree, &format!("[{index}]"), problems));
    }
    routes
}

fn read_one(tree: &Tree, index: &str, problems: &mut Vec<Problem>) -> Option<RouteSettings> {
    let table: RouteTable = tree.read(&["routes", index], problems)?;
    let mut report = Report {
        tree,
        index,
        event: table.event.clone(),
        problems,
    };
    if table.event.trim().is_empty() {
        report.add(
            &["event"],
            "is empty: name an event type such as `invoice.*`",
        );
    }
    let targets = report.targets(table.channels, table.fallback)?;
    for name in table.message.keys() {
        if !targets.channels().contains(name) {
            let going = quoted(targets.channels().iter().map(ChannelName::as_str));
            let message = format!("is no channel of this route, which goes to {going}");
            report.add(&["message", name.as_str()], &message);
        }
    }
    Some(RouteSettings {
        event: table.event,
        targets,
        message: table.message,
    })
}

/// Tells what is wrong with one route.
struct Report<'a> {
    tree: &'a Tree,
    index: &'a str,
    event: String,
    problems: &'a mut Vec<Problem>,
}

impl Report<'_> {
    fn add(&mut self, inside: &[&str], message: &str) {
        let path = [&["routes", self.index], inside].concat();
        let key = super::tree::dotted(&path);
        let message = format!("`{key}` (event `{}`) {message}", self.event);
        let origin = self.tree.origin(&path);
        self.problems.push(Problem::new(origin, key, message));
    }

    fn targets(
        &mut self,
        channels: Option<Vec<ChannelName>>,
        fallback: Option<Vec<ChannelName>>,
    ) -> Option<Targets> {
        match (channels, fallback) {
            (Some(names), None) => {
                self.check_targets("channels", &names);
                Some(Targets::All(names))
            }
            (None, Some(names)) => {
                self.check_targets("fallback", &names);
                Some(Targets::Fallback(names))
            }
            (Some(_), Some(_)) => {
                self.add(
                    &["fallback"],
                    "is there beside `channels`: keep one of them",
                );
                None
            }
            (None, None) => {
                let help = "names no channels: add `channels = [\"…\"]` or `fallback = [\"…\"]`";
                self.add(&[], help);
                None
            }
        }
    }

    fn check_targets(&mut self, key: &str, names: &[ChannelName]) {
        if names.is_empty() {
            self.add(&[key], "is empty: name at least one channel");
        }
        let none = figment::value::Dict::new();
        let tree = self.tree;
        let configured = tree.table(&["channels"]).unwrap_or(&none);
        let mut seen = BTreeSet::new();
        for name in names {
            if !seen.insert(name) {
                self.add(&[key], &format!("names `{name}` twice"));
            }
            if !configured.contains_key(name.as_str()) {
                let message = format!("names `{name}`, {}", not_among(name, configured.keys()));
                self.add(&[key], &message);
            }
        }
    }
}

fn not_among<'a>(name: &ChannelName, configured: impl Iterator<Item = &'a String>) -> String {
    let configured: Vec<_> = configured.map(String::as_str).collect();
    if configured.is_empty() {
        return format!("but no channel is configured: add `[channels.{name}]`");
    }
    let near = super::nearest(name.as_str(), configured.iter().copied());
    let hint = near.map(|near| format!("; did you mean `{near}`?"));
    let configured = quoted(configured);
    format!(
        "but the channels are {configured}{}",
        hint.unwrap_or_default()
    )
}
