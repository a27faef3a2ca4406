//! Threads with names. What is logged on one belongs to who started it: it takes the span along.

use std::thread::JoinHandle;

use tracing::Span;

use super::error::ServiceError;

/// Starts a thread.
pub(super) fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, ServiceError> {
    let whose = Span::current();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || whose.in_scope(body))
        .map_err(|error| ServiceError::Io {
            what: "starting a thread",
            error,
        })
}
