//! SIGTERM, SIGINT and SIGUSR1, as calls.

use tokio::signal::unix::{SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// SIGUSR1: train a model now.
    Train,
    /// SIGTERM or SIGINT, by name: end.
    Stop(&'static str),
}

/// Tells `heard` of each signal, up to the first that ends the process; a second one ends it as it would have without us.
pub fn listen(mut heard: impl FnMut(Heard)) {
    let listened = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| {
            runtime.block_on(async {
                let mut terminate = signal(SignalKind::terminate())?;
                let mut interrupt = signal(SignalKind::interrupt())?;
                let mut train = signal(SignalKind::user_defined1())?;
                loop {
                    let what = tokio::select! {
                        _ = terminate.recv() => Heard::Stop("SIGTERM"),
                        _ = interrupt.recv() => Heard::Stop("SIGINT"),
                        _ = train.recv() => Heard::Train,
                    };
                    heard(what);
                    if what != Heard::Train {
                        return Ok(());
                    }
                }
            })
        });
    if let Err(error) = listened {
        tracing::error!(%error, "signals cannot be heard; stop with SIGKILL");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn training_is_asked_for_by_a_signal() {
        // A handler of its own first, so that no signal of this test ends the tests.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let kept = runtime.block_on(async { signal(SignalKind::user_defined1()) });
        let (tell, told) = channel();
        std::thread::spawn(move || listen(|what| tell.send(what).unwrap_or_default()));
        let heard = (0..100).find_map(|_| {
            let me = std::process::id().to_string();
            let sent = Command::new("kill").args(["-USR1", &me]).status().unwrap();
            assert!(sent.success());
            told.recv_timeout(Duration::from_millis(100)).ok()
        });
        assert_eq!(heard, Some(Heard::Train));
        drop(kept);
    }
}
