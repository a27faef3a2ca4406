//! Threads with names.

use std::thread::JoinHandle;

use super::error::ServiceError;

/// Starts a thread.
pub(super) fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, ServiceError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|error| ServiceError::Io {
            what: "starting a thread",
            error,
        })
}
