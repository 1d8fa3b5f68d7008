//! From plain code into async code.

use super::SandboxError;
use std::panic::resume_unwind;
use std::thread;

/// Runs `future` to its end on a thread and a runtime of its own, so that it may be called from
/// anywhere: from `drop`, and on a thread that already runs a runtime.
pub(super) fn block_on<F>(future: F) -> Result<F::Output, SandboxError>
where
    F: Future<Output: Send> + Send,
{
    let run = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map(|runtime| runtime.block_on(future))
    };
    thread::scope(|scope| {
        scope
            .spawn(run)
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic))
    })
    .map_err(SandboxError::system("start a runtime"))
}
