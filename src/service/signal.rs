//! SIGTERM, SIGINT, SIGUSR1 and SIGHUP, as calls. The first that ends asks the process to end, a clock sees to it that it does, and a second one does not wait.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code of a process that was told to end and did not by itself: a thread hung.
pub const EXIT_CODE: u8 = 79;

/// What comes sooner after a signal that ends is the same one, sent twice.
const ONCE_MORE: Duration = Duration::from_secs(1);

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGUSR1: train a model now.
    Train,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT, by name: end.
    Stop(&'static str),
}

/// Calls `request` with each signal, up to the first that ends the process. From then on the process has `limit`, as it is then, to end; a second one ends it at
/// once, unless it comes within a second: that is the same one, sent twice, with the exit code that shells know it by.
/// SIGHUP is heard only if `reloads`: else it ends the process as it does any.
pub fn listen(limit: impl Fn() -> Duration, reloads: bool, mut request: impl FnMut(Request)) {
    let listened = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| {
            runtime.block_on(async {
                let mut terminate = signal(SignalKind::terminate())?;
                let mut interrupt = signal(SignalKind::interrupt())?;
                let mut train = signal(SignalKind::user_defined1())?;
                let mut hangup = if reloads {
                    Some(signal(SignalKind::hangup())?)
                } else {
                    None
                };
                loop {
                    tokio::select! {
                        () = hung_up(&mut hangup) => request(Request::Reload),
                        _ = train.recv() => request(Request::Train),
                        (name, _) = next(&mut terminate, &mut interrupt) => {
                            request(Request::Stop(name));
                            break;
                        }
                    }
                }
                let told = tokio::time::Instant::now();
                let patience = tokio::time::sleep(limit());
                tokio::pin!(patience);
                loop {
                    tokio::select! {
                        (name, code) = next(&mut terminate, &mut interrupt) => {
                            if is_again(told.elapsed()) {
                                tracing::warn!(signal = name, "told a second time: ending at once");
                                end(code);
                                break;
                            }
                        }
                        () = &mut patience => {
                            tracing::error!("told to end, but something hangs: ending without it. What was committed stays committed");
                            end(EXIT_CODE);
                            break;
                        }
                    }
                }
                Ok(())
            })
        });
    if let Err(error) = listened {
        tracing::error!(%error, "signals cannot be heard; stop with SIGKILL");
    }
}

/// Whether a signal so long after the first that ends is another one, and not the same once more: `timeout` tells a process and then its group.
fn is_again(after: Duration) -> bool {
    ONCE_MORE <= after
}

/// The next SIGHUP, if they are heard.
async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => _ = hangup.recv().await,
        None => std::future::pending().await,
    }
}

/// The next signal that ends: its name, and the exit code of a process that it ends.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::sync::mpsc::channel;

    #[test]
    fn a_signal_that_is_sent_twice_is_one() {
        assert!(!is_again(Duration::ZERO) && !is_again(Duration::from_millis(999)));
        assert!(is_again(Duration::from_secs(1)));
    }

    #[test]
    fn training_is_asked_for_by_a_signal() {
        // A handler of its own first, so that no signal of this test ends the tests.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let kept = runtime.block_on(async { signal(SignalKind::user_defined1()) });
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            let limit = || Duration::ZERO;
            listen(limit, false, |what| {
                sender.send(what).unwrap_or_default();
            });
        });
        let request = (0..100).find_map(|_| {
            let me = std::process::id().to_string();
            let sent = Command::new("kill").args(["-USR1", &me]).status().unwrap();
            assert!(sent.success());
            requests.recv_timeout(Duration::from_millis(100)).ok()
        });
        assert_eq!(request, Some(Request::Train));
        drop(kept);
    }
}
