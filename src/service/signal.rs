//! SIGTERM and SIGINT, as a call.

use tokio::signal::unix::{SignalKind, signal};

/// Waits for the first of the two and tells `then` its name. A second one ends the process as it would have without us.
pub fn wait(then: impl FnOnce(&'static str)) {
    let waited = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| {
            runtime.block_on(async {
                let mut terminate = signal(SignalKind::terminate())?;
                let mut interrupt = signal(SignalKind::interrupt())?;
                Ok(tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                })
            })
        });
    match waited {
        Ok(name) => then(name),
        Err(error) => tracing::error!(%error, "signals cannot be heard; stop with SIGKILL"),
    }
}
