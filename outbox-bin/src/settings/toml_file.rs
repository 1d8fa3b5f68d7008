//! TOML into values.

use super::error::{Origin, Problem};
use figment::value::{Dict, Value};

/// Reads a settings file. The error tells the line and what is wrong there; the line itself
/// is not shown, it may hold a secret.
pub(super) fn read(origin: &Origin, text: &str) -> Result<Dict, Problem> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let before = text.as_bytes().get(..at).unwrap_or_default();
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let reason = error.message().replace('\n', ", ");
        Problem::new(origin.clone(), "", format!("line {line}: {reason}"))
    })
}

/// A list or a table written in one line, as a variable may hold it; `None` for other text.
pub(super) fn inline(text: &str) -> Option<Value> {
    if !text.starts_with(['[', '{']) {
        return None;
    }
    let mut table: Dict = toml::from_str(&format!("value = {text}")).ok()?;
    table.remove("value").filter(|_| table.is_empty())
}

/// Every setting that has a default.
pub(super) fn defaults(problems: &mut Vec<Problem>) -> Dict {
    built_in(include_str!("defaults.toml"), problems)
}

/// What each channel has unless its table says otherwise.
pub(super) fn channel_defaults(problems: &mut Vec<Problem>) -> Dict {
    built_in(include_str!("channel.toml"), problems)
}

fn built_in(text: &str, problems: &mut Vec<Problem>) -> Dict {
    read(&Origin::Default, text).unwrap_or_else(|problem| {
        problems.push(problem);
        Dict::new()
    })
}
