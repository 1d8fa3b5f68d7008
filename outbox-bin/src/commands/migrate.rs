//! `outbox migrate` and `outbox migrate status`.

use crate::assemble;
use crate::cli::{MigrateAction, OutputArgs};
use crate::failure::Failure;
use crate::output;
use crate::settings::Settings;
use outbox_store::{Migration, MigrationStatus};
use std::process::ExitCode;

pub(crate) async fn run(
    action: Option<MigrateAction>,
    format: OutputArgs,
    settings: &Settings,
) -> Result<ExitCode, Failure> {
    let store = assemble::connect(settings).await?;
    match action {
        None => {
            let applied = store.migrate().await?;
            show_applied(&applied, &store.migration_status().await?, format)?;
        }
        Some(MigrateAction::Status) => show_status(&store.migration_status().await?, format)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show_applied(
    applied: &[Migration],
    status: &MigrationStatus,
    format: OutputArgs,
) -> Result<(), Failure> {
    if format.json {
        let names = |migrations: &[Migration]| -> Vec<&str> {
            migrations.iter().map(|migration| migration.file).collect()
        };
        output::json(&serde_json::json!({
            "applied": names(applied),
            "pending": names(&status.pending),
        }))?;
        return Ok(());
    }
    for migration in applied {
        output::line(format_args!("APPLIED {}", migration.file));
    }
    output::line(format_args!("pending: {}", status.pending.len()));
    Ok(())
}

fn show_status(status: &MigrationStatus, format: OutputArgs) -> Result<(), Failure> {
    if format.json {
        let applied = status
            .applied
            .iter()
            .map(|(file, at)| serde_json::json!({ "file": file, "applied_at": at }));
        let pending = status.pending.iter().map(|migration| migration.file);
        output::json(&serde_json::json!({
            "applied": applied.collect::<Vec<_>>(),
            "pending": pending.collect::<Vec<_>>(),
            "unknown": status.unknown,
        }))?;
        return Ok(());
    }
    for (file, _) in &status.applied {
        let known = if status.unknown.contains(file) {
            " (this version does not know it)"
        } else {
            ""
        };
        output::line(format_args!("APPLIED {file}{known}"));
    }
    for migration in &status.pending {
        output::line(format_args!("PENDING {}", migration.file));
    }
    output::line(format_args!("pending: {}", status.pending.len()));
    Ok(())
}
