//! The admin side of a process.

use super::AdminSide;
use crate::failure::Failure;
use outbox_admin::{Admin, AdminOptions};
use std::process::ExitCode;
use std::sync::Arc;

pub(crate) async fn serve(side: AdminSide) -> Result<ExitCode, Failure> {
    let options = AdminOptions {
        api_key: side.settings.api_key,
        read_only_api_key: side.settings.read_only_api_key,
        shutdown_grace: side.shutdown_grace,
        ..AdminOptions::default()
    };
    let mut admin = Admin::new(&options, side.store)
        .with_dispatcher(Arc::clone(&side.worker))
        .with_callbacks(side.callbacks);
    if side.is_working {
        admin = admin.with_readiness_of(side.worker.health());
    }
    if let Ok(address) = side.listener.local_addr() {
        tracing::info!(%address, "admin side listens");
    }
    outbox_admin::serve(side.listener, admin, side.stop.cancelled()).await;
    Ok(ExitCode::SUCCESS)
}
