//! `outbox config check` and `outbox config show`.

use crate::assemble;
use crate::cli::{ConfigAction, OutputArgs};
use crate::failure::Failure;
use crate::output;
use crate::registry::Registry;
use crate::settings::{Draft, Entry, Problem, Settings, SettingsError, Sources};
use std::process::ExitCode;

pub(crate) fn run(
    action: ConfigAction,
    format: OutputArgs,
    sources: &Sources,
    registry: &Registry,
) -> Result<ExitCode, Failure> {
    let draft = Draft::new(sources);
    match action {
        ConfigAction::Check => check(draft, format, registry),
        ConfigAction::Show => show(draft.entries(), format),
    }
}

fn show(entries: Vec<Entry>, format: OutputArgs) -> Result<ExitCode, Failure> {
    if format.json {
        output::json(&entries)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = entries.into_iter().map(|entry| {
        let value = entry.value.unwrap_or_else(|| "(not set)".to_owned());
        [entry.key, value, entry.source.to_string()]
    });
    output::table(["KEY", "VALUE", "SOURCE"], rows, "nothing is set");
    Ok(ExitCode::SUCCESS)
}

fn check(draft: Draft, format: OutputArgs, registry: &Registry) -> Result<ExitCode, Failure> {
    match (checked(draft, registry), format.json) {
        (Ok(settings), false) => {
            for warning in settings.warnings() {
                output::line(format_args!("warning: {warning}"));
            }
            output::line(format_args!(
                "the settings are valid: {} channels, {} routes",
                settings.channels.len(),
                settings.routes.len()
            ));
            Ok(ExitCode::SUCCESS)
        }
        (Err(error), false) => Err(error.into()),
        (outcome, true) => {
            let (problems, warnings) = match &outcome {
                Ok(settings) => (&[][..], settings.warnings()),
                Err(error) => (error.problems(), &[][..]),
            };
            output::json(&serde_json::json!({
                "valid": outcome.is_ok(),
                "problems": listed(problems),
                "warnings": listed(warnings),
            }))?;
            Ok(if outcome.is_ok() {
                ExitCode::SUCCESS
            } else {
                Failure::BAD_USAGE.into()
            })
        }
    }
}

fn checked(draft: Draft, registry: &Registry) -> Result<Settings, SettingsError> {
    let settings = draft.settings()?;
    // Both, so that what is wrong with one does not hide what is wrong with the other.
    let found = [
        assemble::channels(&settings, registry).err(),
        assemble::router(&settings).err(),
    ];
    let problems: Vec<Problem> = found
        .iter()
        .flatten()
        .flat_map(SettingsError::problems)
        .cloned()
        .collect();
    if problems.is_empty() {
        Ok(settings)
    } else {
        Err(problems.into())
    }
}

fn listed(problems: &[Problem]) -> Vec<serde_json::Value> {
    let object = |problem: &Problem| {
        serde_json::json!({
            "source": problem.origin(),
            "key": problem.key(),
            "message": problem.message(),
        })
    };
    problems.iter().map(object).collect()
}
