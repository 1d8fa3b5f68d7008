//! SIGTERM and SIGINT.

use tokio::signal::unix::{SignalKind, signal};

/// Ready at the first signal; the second ends the process at once. What was under way then is
/// taken over by another worker when the lease ends.
pub(crate) async fn shutdown() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("second signal: stopping at once");
        std::process::exit(1);
    });
    Ok(())
}
