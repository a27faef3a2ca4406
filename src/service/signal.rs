//! SIGTERM and SIGINT: the first asks the process to end, a clock sees to it that it does, and a second one does not wait.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code of a process that was told to end and did not by itself: a thread hung.
pub const EXIT_CODE: u8 = 79;

/// Waits for the first of the two and tells `then` its name. From then on the process has `limit` to end; a second signal ends it at once, with the
/// exit code that shells know it by.
pub fn wait(limit: Duration, then: impl FnOnce(&'static str)) {
    let waited = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| {
            runtime.block_on(async {
                let mut terminate = signal(SignalKind::terminate())?;
                let mut interrupt = signal(SignalKind::interrupt())?;
                let (name, _) = next(&mut terminate, &mut interrupt).await;
                then(name);
                tokio::select! {
                    (name, code) = next(&mut terminate, &mut interrupt) => {
                        tracing::warn!(signal = name, "told a second time: ending at once");
                        end(code);
                    }
                    () = tokio::time::sleep(limit) => {
                        tracing::error!("told to end, but something hangs: ending without it. What was committed stays committed");
                        end(EXIT_CODE);
                    }
                }
                Ok(())
            })
        });
    if let Err(error) = waited {
        tracing::error!(%error, "signals cannot be heard; stop with SIGKILL");
    }
}

/// The next signal: its name, and the exit code of a process that it ends.
async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> (&'static str, u8) {
    tokio::select! {
        _ = terminate.recv() => ("SIGTERM", 128 + 15),
        _ = interrupt.recv() => ("SIGINT", 128 + 2),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the thread that should return an exit code may hang"
)]
fn end(code: u8) {
    std::process::exit(i32::from(code));
}
