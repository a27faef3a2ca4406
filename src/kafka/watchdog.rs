//! A thread that ends the process when a call into librdkafka hangs.
//!
//! `send_offsets_to_transaction` can hang for ever (librdkafka issue 5511), and so can dropping a consumer. A process that hangs holds its
//! partitions; one that ends gives them back and is started again. So each such call is made under a [`Guard`].

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::time::Clock;

/// The exit code of a process that the watchdog ended: `EX_TEMPFAIL`, try again.
pub const EXIT_CODE: u8 = 75;

/// How often deadlines are looked at.
const STEP: Duration = Duration::from_millis(250);

/// Ends the process when a guarded call lasts too long. Clones share one thread; it ends with the last clone.
#[derive(Clone, Debug)]
pub struct Watchdog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Default)]
struct Shared {
    calls: Mutex<Calls>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Calls {
    next: u64,
    open: BTreeMap<u64, (&'static str, Duration)>,
    stop: bool,
}

/// One call being watched, until it is dropped.
#[derive(Debug)]
#[must_use = "the call is watched only while the guard lives"]
pub struct Guard<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Watchdog {
    /// Starts the thread. `end` is what is done with the name of a call that hangs: [`end_process`], or a test's own.
    pub fn start(clock: Arc<dyn Clock>, end: impl Fn(&'static str) + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let (watched, time) = (Arc::clone(&shared), Arc::clone(&clock));
        let spawned = std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watch(&watched, &*time, &end));
        if let Err(error) = spawned {
            tracing::error!(%error, "no watchdog: a hanging Kafka call will not be noticed");
        }
        Self(Arc::new(Inner { shared, clock }))
    }

    /// Watches a call that should take no longer than `limit`.
    pub fn guard(&self, what: &'static str, limit: Duration) -> Guard<'_> {
        let deadline = self.0.clock.monotonic() + limit;
        let mut calls = lock(&self.0.shared.calls);
        let id = calls.next;
        calls.next += 1;
        calls.open.insert(id, (what, deadline));
        Guard {
            shared: &self.0.shared,
            id,
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        lock(&self.shared.calls).open.remove(&self.id);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        lock(&self.shared.calls).stop = true;
        self.shared.ended.notify_all();
    }
}

/// Logs the call that hangs and ends the process with [`EXIT_CODE`].
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that may exit: the thread that should stop hangs"
)]
pub fn end_process(what: &'static str) {
    tracing::error!(
        call = what,
        "a Kafka call hangs: ending the process so that its partitions move on"
    );
    std::process::exit(i32::from(EXIT_CODE));
}

fn watch(shared: &Shared, clock: &dyn Clock, end: &dyn Fn(&'static str)) {
    let mut calls = lock(&shared.calls);
    while !calls.stop {
        let now = clock.monotonic();
        let late: Vec<u64> = calls
            .open
            .iter()
            .filter(|(_, (_, deadline))| *deadline < now)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            if let Some((what, _)) = calls.open.remove(&id) {
                end(what);
            }
        }
        calls = shared
            .ended
            .wait_timeout(calls, STEP)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}

fn lock(calls: &Mutex<Calls>) -> std::sync::MutexGuard<'_, Calls> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::time::{ManualClock, Timestamp};

    #[test]
    fn a_call_that_hangs_is_named_and_one_that_returns_is_not() {
        let clock = Arc::new(ManualClock::at(Timestamp(0)));
        let (sender, ended) = mpsc::channel();
        let time: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let watchdog = Watchdog::start(time, move |what| sender.send(what).unwrap());
        let _hangs = watchdog.guard("hangs", Duration::from_secs(5));
        drop(watchdog.guard("returns", Duration::from_secs(1)));
        clock.advance(Duration::from_secs(4));
        assert!(ended.recv_timeout(Duration::from_millis(600)).is_err());
        clock.advance(Duration::from_secs(2));
        assert_eq!(ended.recv_timeout(Duration::from_secs(5)), Ok("hangs"));
    }
}
