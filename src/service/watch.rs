//! Looking at something in Kafka again and again, beside the work: new models, what people say.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// Looks until stopped, at intervals; whoever drops the other end of `wake` ends it at once. The first of several failures in a row is logged, as
/// `warning`.
pub(super) fn watch<E: Display>(
    stop: &AtomicBool,
    (wake, every): (&Receiver<()>, Duration),
    warning: &str,
    mut look: impl FnMut() -> Result<(), E>,
) {
    let mut failing = false;
    while !stop.load(Ordering::Relaxed) {
        let looked = look();
        if let Err(error) = &looked
            && !failing
            && !stop.load(Ordering::Relaxed)
        {
            tracing::warn!(%error, "{warning}");
        }
        failing = looked.is_err();
        if let Err(RecvTimeoutError::Disconnected) = wake.recv_timeout(every) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    /// How often it looks where the stop comes with the nth look, and whether `wake` is dropped from the start.
    fn looks(stop_at: usize, dropped: bool) -> usize {
        let (stop, (wake, woken)) = (AtomicBool::new(false), channel());
        let _open = (!dropped).then_some(wake);
        let mut looks = 0;
        watch(&stop, (&woken, Duration::ZERO), "gone", || {
            looks += 1;
            stop.store(looks == stop_at, Ordering::Relaxed);
            if looks % 2 == 0 { Err("away") } else { Ok(()) }
        });
        looks
    }

    #[test]
    fn failures_do_not_end_it_but_a_stop_does_and_who_drops_the_other_end() {
        assert_eq!(looks(5, false), 5);
        assert_eq!(looks(5, true), 1);
    }
}
