//! Waiting for Kafka: a thread that ends the process when a call into librdkafka hangs, and what a thread that waits looks at meanwhile.
//!
//! `send_offsets_to_transaction` can hang for ever (librdkafka issue 5511), and so can dropping a consumer. A process that hangs holds its
//! partitions; one that ends gives them back and is started again. So each such call is made under a [`Guard`].
//!
//! Waiting is something else: brokers may be away for hours. Whoever waits does so in short calls ([`Limits::call`]), says between them that it
//! goes on ([`Watchdog::beat`]), and gives up when the process is told to stop ([`Watchdog::stopped`]).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tracing::Span;

use super::KafkaFailure;
use crate::time::Clock;

/// The exit code of a process that the watchdog ended: `EX_TEMPFAIL`, try again.
pub const EXIT_CODE: u8 = 75;

/// How often deadlines are looked at.
const STEP: Duration = Duration::from_millis(250);

/// How much longer than it was allowed to a call may last before it counts as hanging.
const HANG: Duration = Duration::from_secs(30);

/// How long a stop waits for a client to be closed.
const CLOSE_MAX: Duration = Duration::from_millis(1_500);

/// How long Kafka is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One call that can be made again: how late a stop may be seen.
    pub call: Duration,
    /// All attempts at one thing, before the client is thrown away and everything begins anew.
    pub retry: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(2),
            retry: Duration::from_secs(60),
        }
    }
}

/// Ends the process when a guarded call lasts too long. Clones share one thread; it ends with the last clone.
#[derive(Clone)]
pub struct Watchdog {
    inner: Arc<Inner>,
    limits: Limits,
    stop: Arc<AtomicBool>,
    beat: Arc<dyn Fn() + Send + Sync>,
    waits: Arc<dyn Fn(Option<String>) + Send + Sync>,
}

impl std::fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watchdog")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

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
        Self {
            inner: Arc::new(Inner { shared, clock }),
            limits: Limits::default(),
            stop: Arc::default(),
            beat: Arc::new(|| {}),
            waits: Arc::new(|_| {}),
        }
    }

    /// The same, with other limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The same, for threads that `stop` ends.
    #[must_use]
    pub fn with_stop(self, stop: Arc<AtomicBool>) -> Self {
        Self { stop, ..self }
    }

    /// The same, for one thread: `beat` is told again and again, also while it waits, that it goes on.
    #[must_use]
    pub fn with_beat(self, beat: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            beat: Arc::new(beat),
            ..self
        }
    }

    /// The same, for one thread: `waits` is told what it waits for in Kafka when that takes long, and `None` when it does not any more.
    #[must_use]
    pub fn with_waits(self, waits: impl Fn(Option<String>) + Send + Sync + 'static) -> Self {
        Self {
            waits: Arc::new(waits),
            ..self
        }
    }

    /// Watches a call that should take no longer than `limit`.
    pub fn guard(&self, what: &'static str, limit: Duration) -> Guard<'_> {
        let deadline = self.inner.clock.monotonic() + limit;
        let mut calls = lock(&self.inner.shared.calls);
        let id = calls.next;
        calls.next += 1;
        calls.open.insert(id, (what, deadline));
        Guard {
            shared: &self.inner.shared,
            id,
        }
    }

    /// Watches one call that was given `limit` to return.
    pub(super) fn call(&self, what: &'static str, limit: Duration) -> Guard<'_> {
        self.beat();
        self.guard(what, limit + HANG)
    }

    /// What it measures time by.
    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.inner.clock
    }

    /// How long is waited.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Says that this thread goes on.
    pub fn beat(&self) {
        (self.beat)();
    }

    /// Says what this thread has long been waiting for; `None`: nothing.
    pub(super) fn waits(&self, what: Option<String>) {
        (self.waits)(what);
    }

    /// Whether the process is to end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits, while it beats; ends early, with an error, when the process is to end.
    pub fn pause(&self, length: Duration) -> Result<(), KafkaFailure> {
        let until = self.inner.clock.monotonic() + length;
        loop {
            if self.stopped() {
                return Err(KafkaFailure::Stopped);
            }
            let left = until.saturating_sub(self.inner.clock.monotonic());
            if left.is_zero() {
                return Ok(());
            }
            self.beat();
            std::thread::park_timeout(left.min(Duration::from_millis(50)));
        }
    }

    /// Closes a client, which can take seconds where brokers do not answer, on a thread of its own: this one goes on beating, and when
    /// the process is to end it does not wait for long.
    pub(super) fn close<T: Send + 'static>(&self, what: &'static str, client: T) {
        let (done, closed) = channel();
        let watchdog = self.clone();
        let whose = Span::current();
        let spawned = std::thread::Builder::new()
            .name("closing".to_owned())
            .spawn(move || {
                let _whose = whose.entered();
                let _guard = watchdog.guard(what, HANG);
                drop(client);
                // Nobody waits any more if the process is ending.
                done.send(()).unwrap_or_default();
            });
        if let Err(error) = spawned {
            // The client went with the closure.
            tracing::warn!(%error, what, "closing on no thread of its own");
            return;
        }
        let mut stopping = CLOSE_MAX;
        let step = Duration::from_millis(20);
        while let Err(RecvTimeoutError::Timeout) = closed.recv_timeout(step) {
            self.beat();
            if self.stopped() {
                stopping = stopping.saturating_sub(step);
            }
            if stopping.is_zero() {
                tracing::info!(what, "not waiting for it");
                return;
            }
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
