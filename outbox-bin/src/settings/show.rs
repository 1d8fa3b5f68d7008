//! The effective settings as a list that is safe to print.

use super::error::Origin;
use super::tree::{Path, Tree, dotted};
use super::variables::OPTIONAL;
use figment::value::{Dict, Num, Value};
use serde::Serialize;
use url::Url;

/// One effective setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Entry {
    /// The dotted key.
    pub key: String,
    /// The value, masked if it may be a secret; `None` when it is not set.
    pub value: Option<String>,
    /// Where the value came from.
    pub source: Origin,
}

const MASK: &str = "********";

/// Words in a key that mark its value, and all below it, as secret.
const SECRET_WORDS: &[&str] = &[
    "secret",
    "token",
    "pass",
    "key",
    "auth",
    "credential",
    "header",
];

/// Whether the value at `path` must not be shown.
pub(super) fn is_secret(path: &[String]) -> bool {
    let secret = |step: &String| {
        let step = step.to_ascii_lowercase();
        SECRET_WORDS.iter().any(|word| step.contains(word))
    };
    // A channel may well be called `authors`.
    let named_by_operator = usize::from(path.first().is_some_and(|top| top == "channels"));
    path.iter().skip(2 * named_by_operator).any(secret)
}

pub(super) fn entries(tree: &Tree) -> Vec<Entry> {
    let mut entries = Vec::new();
    walk(tree, &mut Vec::new(), tree.root(), &mut entries);
    for path in OPTIONAL {
        if tree.get(path).is_none() {
            entries.push(Entry {
                key: dotted(path),
                value: None,
                source: Origin::Default,
            });
        }
    }
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    entries
}

fn walk(tree: &Tree, path: &mut Path, table: &Dict, entries: &mut Vec<Entry>) {
    for (key, value) in table {
        path.push(key.clone());
        match value {
            Value::Dict(_, table) => walk(tree, path, table, entries),
            Value::Array(_, items) if items.iter().any(|item| item.as_dict().is_some()) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(format!("[{index}]"));
                    match item {
                        Value::Dict(_, table) => walk(tree, path, table, entries),
                        item => entries.push(entry(tree, path, item)),
                    }
                    path.pop();
                }
            }
            value => entries.push(entry(tree, path, value)),
        }
        path.pop();
    }
}

fn entry(tree: &Tree, path: &Path, value: &Value) -> Entry {
    let source = tree.origin_of(value.tag());
    // A table that failed to parse may hold anything.
    let broken = source.variable().is_some()
        && value
            .as_str()
            .is_some_and(|text| text.starts_with(['[', '{']));
    let shown = if broken || is_secret(path) {
        MASK.to_owned()
    } else {
        display(value)
    };
    Entry {
        key: dotted(path),
        value: Some(shown),
        source,
    }
}

fn display(value: &Value) -> String {
    match value {
        Value::String(_, text) => mask_url(text),
        Value::Char(_, character) => character.to_string(),
        Value::Bool(_, flag) => flag.to_string(),
        Value::Num(_, number) => display_number(*number),
        Value::Empty(..) => String::new(),
        Value::Dict(..) => "{…}".to_owned(),
        Value::Array(_, items) => {
            let items: Vec<_> = items.iter().map(display).collect();
            format!("[{}]", items.join(", "))
        }
    }
}

fn display_number(number: Num) -> String {
    let whole = number.to_u128().map(|number| number.to_string());
    whole
        .or_else(|| number.to_i128().map(|number| number.to_string()))
        .or_else(|| number.to_f64().map(|number| number.to_string()))
        .unwrap_or_default()
}

/// The text with the parts of a URL masked that commonly carry credentials: the password, a
/// lone user, the query's values. A URL that can't be read is masked whole.
fn mask_url(text: &str) -> String {
    let Some((before, after)) = text.split_once("://") else {
        return text.to_owned();
    };
    let sentence = before.contains(char::is_whitespace);
    if sentence && !after.contains('@') {
        return text.to_owned();
    }
    let Ok(mut url) = Url::parse(text) else {
        return MASK.to_owned();
    };
    if let Some(query) = url.query() {
        let masked: Vec<_> = query.split('&').map(mask_pair).collect();
        let masked = masked.join("&");
        url.set_query(Some(&masked));
    }
    // Databases take a bare user name for what it is; elsewhere it is often a token.
    let lone_user = !url.username().is_empty() && !url.scheme().starts_with("postgres");
    let masked = if url.password().is_some() {
        url.set_password(Some("***"))
    } else if lone_user {
        url.set_username("***")
    } else {
        Ok(())
    };
    masked.map_or_else(|()| MASK.to_owned(), |()| url.to_string())
}

fn mask_pair(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, _)) => format!("{name}=***"),
        None => "***".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_their_credentials() {
        let cases = [
            (
                "postgres://app:hunter2@db/shop",
                "postgres://app:***@db/shop",
            ),
            ("postgres://app@db/shop", "postgres://app@db/shop"),
            (
                "postgres://db/shop?password=x&sslmode=require",
                "postgres://db/shop?password=***&sslmode=***",
            ),
            (
                "smtps://ada:pw@mx.example.org:465",
                "smtps://ada:***@mx.example.org:465",
            ),
            (
                "https://tok_1@api.example.org/",
                "https://***@api.example.org/",
            ),
            (
                "https://hooks.example.org/in?sig=abc",
                "https://hooks.example.org/in?sig=***",
            ),
            (
                "https://hooks.example.org/in?abc",
                "https://hooks.example.org/in?***",
            ),
            ("https://a:b@host:notaport/", MASK),
            (
                "See https://example.org for more",
                "See https://example.org for more",
            ),
            ("Bearer https://a:b@example.org", MASK),
            ("hello", "hello"),
        ];
        for (text, shown) in cases {
            assert_eq!(mask_url(text), shown, "{text}");
        }
    }

    #[test]
    fn names_that_mean_secrets() {
        let secret =
            |path: &str| is_secret(&path.split('.').map(str::to_owned).collect::<Vec<_>>());
        for path in [
            "admin.api_key",
            "channels.sms.settings.auth_token",
            "channels.crm.settings.secrets",
            "channels.crm.settings.headers.Authorization",
            "channels.crm.settings.headers.X-Team",
            "channels.email.settings.pass",
            "channels.p.settings.credentials.user",
        ] {
            assert!(secret(path), "{path}");
        }
        for path in [
            "channels.authors.kind",
            "channels.sms.settings.account_sid",
            "worker.lease",
        ] {
            assert!(!secret(path), "{path}");
        }
    }
}
