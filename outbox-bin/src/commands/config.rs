//! `outbox config check` and `outbox config show`.

use crate::assemble;
use crate::cli::ConfigAction;
use crate::failure::Failure;
use crate::output;
use crate::registry::Registry;
use crate::settings::{Draft, Sources};
use std::process::ExitCode;

pub(crate) fn run(
    action: ConfigAction,
    sources: &Sources,
    registry: &Registry,
) -> Result<ExitCode, Failure> {
    let draft = Draft::new(sources);
    match action {
        ConfigAction::Check => check(draft, registry),
        ConfigAction::Show(format) => {
            let entries = draft.entries();
            if format.json {
                output::json(&entries)?;
            } else {
                let row = |entry: crate::settings::Entry| {
                    let value = entry.value.unwrap_or_else(|| "(not set)".to_owned());
                    [entry.key, value, entry.source.to_string()]
                };
                let rows = entries.into_iter().map(row);
                output::table(["KEY", "VALUE", "SOURCE"], rows, "nothing is set");
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn check(draft: Draft, registry: &Registry) -> Result<ExitCode, Failure> {
    let settings = draft.settings()?;
    // Both, so that what is wrong with one does not hide what is wrong with the other.
    let problems = [
        assemble::channels(&settings, registry).err(),
        assemble::router(&settings).err(),
    ];
    let problems: Vec<String> = problems.iter().flatten().map(ToString::to_string).collect();
    if !problems.is_empty() {
        return Err(Failure::Usage(problems.join("\n")));
    }
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
