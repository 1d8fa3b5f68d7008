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

/// For a command that ends by itself: a first signal lets it finish what it has begun, so that
/// nothing is delivered whose outcome nobody writes down.
pub(crate) fn finish_first() {
    tokio::spawn(async {
        if shutdown().await.is_ok() {
            tracing::warn!("finishing the batch; a second signal ends it at once");
        }
    });
}
