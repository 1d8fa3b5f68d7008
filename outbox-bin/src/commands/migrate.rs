//! `outbox migrate` and `outbox migrate status`.

use crate::assemble;
use crate::cli::{MigrateAction, OutputArgs};
use crate::failure::Failure;
use crate::output;
use crate::settings::Settings;
use outbox_store::{MigrationStatus, Store};
use std::process::ExitCode;

pub(crate) async fn run(
    action: Option<MigrateAction>,
    settings: &Settings,
) -> Result<ExitCode, Failure> {
    let store = Store::connect(&assemble::store_options(settings)?).await?;
    match action {
        None => {
            for migration in store.migrate().await? {
                output::line(format_args!("APPLIED {}", migration.file));
            }
            let status = store.migration_status().await.map_err(Failure::from)?;
            output::line(format_args!("pending: {}", status.pending.len()));
        }
        Some(MigrateAction::Status(format)) => {
            show(
                &store.migration_status().await.map_err(Failure::from)?,
                format,
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(status: &MigrationStatus, format: OutputArgs) -> Result<(), Failure> {
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
        output::line(format_args!("APPLIED {file}"));
    }
    for migration in &status.pending {
        output::line(format_args!("PENDING {}", migration.file));
    }
    output::line(format_args!("pending: {}", status.pending.len()));
    Ok(())
}
