//! Bodies of requests: how long they may be, and how long they may take.

use crate::problem::Problem;
use axum::http::StatusCode;
use std::time::Duration;

/// The longest body that is read, in bytes.
pub(crate) const LIMIT: usize = 64 * 1024;

/// How long a client may take to send it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What `read` reads, unless it takes too long.
pub(crate) async fn in_time<T, R: Into<Problem>>(
    read: impl Future<Output = Result<T, R>>,
) -> Result<T, Problem> {
    match tokio::time::timeout(TIMEOUT, read).await {
        Ok(read) => read.map_err(Into::into),
        Err(_elapsed) => {
            let detail = format!("the body did not come within {TIMEOUT:?}");
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail))
        }
    }
}
