//! Several detectors in one process. Each is what a process of one is: its own members of its own group, state, models and threads. What they share
//! is HTTP, the log, signals, the watchdog, and the turn to train. One that fails does not end the others: it is said, and tried again.
//!
//! A detector's life is a loop on a thread of its own: begin, work, and, if it failed, wait and begin anew with the configuration as it is by then.
//! A call into Kafka's library that hangs ends the process, as ever: nothing else would.
//!
//! What is logged on its threads, and on those that they start, says whose it is: by a span, which [`spawn`] passes on.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::Span;

use super::error::ServiceError;
use super::http::{Server, if_wanted};
use super::log;
use super::many_http::{self, Door};
use super::run::{END_MAX, StopHandle, start_in};
use super::shell::{Process, Shell};
use super::signal::{self, Request};
use super::sources::Sources;
use super::thread::spawn;
use crate::config::Config;
use crate::trainer::Control;

/// The wait before a detector that failed begins anew: at first, and at most.
const AGAIN_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// One that worked for this long has a clean slate.
const WORKED: Duration = Duration::from_secs(600);

/// One of the process's detectors.
#[derive(Debug)]
pub(super) struct Detector {
    pub(super) name: String,
    shell: Shell,
    life: Mutex<Life>,
    /// Says in each line of the log whose it is.
    span: Span,
}

/// What it is doing.
#[derive(Debug, Default)]
struct Life {
    /// The process ends.
    ends: bool,
    /// Stops the present attempt.
    stop: Arc<AtomicBool>,
    running: Option<(StopHandle, Control)>,
    /// Wakes it if it waits to begin anew.
    wake: Option<Sender<()>>,
}

impl Detector {
    fn new(config: &Config, shell: Shell) -> Self {
        Self {
            name: config.name.clone(),
            shell,
            life: Mutex::default(),
            span: log::of(&config.name),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Life> {
        // Whoever panicked while it held the lock left a flag or a handle, each whole.
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an attempt: what stops it, unless the process ends.
    fn begin(&self) -> Option<Arc<AtomicBool>> {
        let mut life = self.lock();
        life.stop = Arc::default();
        (!life.ends).then(|| Arc::clone(&life.stop))
    }

    /// Ends it for good.
    fn end(&self) {
        let mut life = self.lock();
        life.ends = true;
        life.stop.store(true, Ordering::Relaxed);
        if let Some((handle, _)) = &life.running {
            handle.stop();
        }
        life.wake = None;
    }

    fn ends(&self) -> bool {
        self.lock().ends
    }

    /// Asks for a training, if it works.
    fn train(&self) {
        if let Some((_, control)) = &self.lock().running {
            control.train_now();
        }
    }

    /// Its configuration is another, perhaps: one that works reads it again, one that waits to begin anew does so now.
    pub(super) fn reload(&self) {
        match self.shell.changes.get() {
            // What came of it was said.
            Some(changes) => drop(changes.reload()),
            None => {
                let woken = |wake: &Sender<()>| wake.send(()).is_ok();
                if !self.lock().wake.as_ref().is_some_and(woken) {
                    tracing::warn!(
                        "it is still starting, by the configuration as it was: ask again once it works"
                    );
                }
            }
        }
    }

    /// One attempt, to its end.
    fn attempt(&self, config: &Config, stop: Arc<AtomicBool>) -> Result<(), ServiceError> {
        let shell = self.shell.clone().with_stop(&stop);
        let running = start_in(config, shell, Arc::clone(&stop))?;
        self.lock().running = Some((running.stop_handle(), running.trainer()));
        // Told to end while it began.
        if stop.load(Ordering::Relaxed) {
            running.stop_handle().stop();
        }
        running.wait()
    }

    /// What is said of a failure, and that nothing can be asked of it.
    fn failed(&self, error: &Failed, again: Option<Duration>) {
        self.shell.changes.forget();
        {
            // Whatever the attempt left behind ends.
            let mut life = self.lock();
            life.stop.store(true, Ordering::Relaxed);
            life.running = None;
        }
        let metrics = &self.shell.metrics;
        metrics.up.set(0);
        metrics.partitions.set(0);
        metrics.failures.inc();
        let why = if let Some(again) = again {
            let seconds = again.as_secs();
            tracing::error!(%error, seconds, "a detector failed: it begins anew after a while, the others go on");
            format!("failed: {error}; begins anew after {seconds} s")
        } else {
            tracing::error!(%error, "a detector ended: somebody must act. The others go on");
            format!("ended: {error}")
        };
        self.shell.status.failed(why);
    }

    /// Works until told to end, or until what failed cannot pass by itself.
    fn live(&self, mut config: Config) -> Result<(), ServiceError> {
        let mut wait = AGAIN_AFTER.0;
        let mut last = Ok(());
        while let Some(stop) = self.begin() {
            self.shell.status.begins();
            self.shell.metrics.up.set(1);
            let began = self.shell.clock.monotonic();
            let attempt = AssertUnwindSafe(|| self.attempt(&config, stop));
            let error = match catch_unwind(attempt) {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => Failed::Error(error),
                Err(panic) => Failed::Panic(panic),
            };
            if self.ends() {
                break;
            }
            if WORKED <= self.shell.clock.monotonic().saturating_sub(began) {
                wait = AGAIN_AFTER.0;
            }
            let again = error.may_pass().then_some(wait);
            let (wake, woken) = channel();
            self.lock().wake = Some(wake);
            self.failed(&error, again);
            last = error.result();
            if again.is_none() {
                return last;
            }
            self.await_next(&woken, wait);
            wait = (wait * 2).min(AGAIN_AFTER.1);
            config = self.as_it_is_now(config);
        }
        // Told to end: what failed before was said.
        if self.ends() { Ok(()) } else { last }
    }

    fn await_next(&self, woken: &Receiver<()>, wait: Duration) {
        // A timeout is what is expected; a word, or that nobody can say one any more, ends the wait.
        if !self.ends() {
            woken.recv_timeout(wait).unwrap_or_default();
        }
    }

    /// The configuration, read again; as it was, with a word, if it cannot be used now.
    fn as_it_is_now(&self, config: Config) -> Config {
        match config.again() {
            Ok(config) => {
                self.shell.settings.set(config.settings());
                config
            }
            Err(problems) => {
                tracing::error!(%problems, "the configuration cannot be used any more: it begins anew by what was read before");
                config
            }
        }
    }
}

/// Why an attempt ended.
#[derive(Debug)]
enum Failed {
    Error(ServiceError),
    Panic(Box<dyn Any + Send>),
}

impl Failed {
    fn may_pass(&self) -> bool {
        match self {
            Self::Error(error) => error.may_pass(),
            Self::Panic(_) => true,
        }
    }

    fn result(self) -> Result<(), ServiceError> {
        Err(match self {
            Self::Error(error) => error,
            Self::Panic(_) => ServiceError::Helper("detector"),
        })
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Error(error) => error.fmt(f),
            Self::Panic(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                write!(
                    f,
                    "it panicked: {}",
                    text.unwrap_or("nothing more is known")
                )
            }
        }
    }
}

/// Runs all detectors until SIGTERM, SIGINT, or until all have ended by themselves.
///
/// # Errors
/// Why the last one ended, if nobody asked it to; or if HTTP cannot be served.
pub fn run(configs: &[Config]) -> Result<(), ServiceError> {
    let Some(first) = configs.first() else {
        return Ok(());
    };
    let process = Process::begin(first)?;
    let mut all: Vec<(Arc<Detector>, Sources)> = Vec::new();
    for config in configs {
        let (shell, sources) = Shell::open(config, &process)?;
        all.push((Arc::new(Detector::new(config, shell)), sources));
    }
    let detectors: Vec<Arc<Detector>> = all.iter().map(|(one, _)| Arc::clone(one)).collect();
    let told = {
        let (detectors, first) = (detectors.clone(), first.clone());
        Arc::new(move |request| tell(&detectors, &first, &request))
    };
    let doors = all
        .into_iter()
        .map(|(detector, sources)| Door {
            name: detector.name.clone(),
            sources,
        })
        .collect();
    let reload = {
        let told = Arc::clone(&told);
        Arc::new(move || told(Request::Reload))
    };
    let requests = Some(process.metrics.requests.clone());
    let router = many_http::router(doors, (&process.registry, &process.clock), reload, requests);
    let _server = if_wanted(
        first.http,
        "listening for HTTP (`http.listen`)",
        |address| Server::serving(address, router),
    )?;
    spawn("signals", move || {
        signal::listen(|| END_MAX, true, |request| drop(told(request)));
    })?;
    let (ended, endings) = channel();
    for (detector, config) in detectors.iter().zip(configs) {
        let (detector, config, ended) = (Arc::clone(detector), config.clone(), ended.clone());
        let span = detector.span.clone();
        span.in_scope(|| {
            spawn("detector", move || {
                ended.send(detector.live(config)).unwrap_or_default();
            })
        })?;
    }
    drop(ended);
    tracing::info!(detectors = detectors.len(), "several detectors begin");
    let mut outcome = Ok(());
    for ending in &endings {
        outcome = ending.and(outcome);
    }
    tracing::info!("stopped");
    outcome
}

/// Does what is asked for; answers which detectors come or go with a restart.
fn tell(detectors: &[Arc<Detector>], first: &Config, request: &Request) -> Vec<String> {
    if let Request::Stop(name) = request {
        tracing::info!(signal = name, "stopping");
    }
    for detector in detectors {
        let _whose = detector.span.enter();
        match request {
            Request::Train => detector.train(),
            Request::Reload => detector.reload(),
            Request::Stop(_) => detector.end(),
        }
    }
    if *request != Request::Reload {
        return Vec::new();
    }
    let ours: Vec<&str> = detectors.iter().map(|one| one.name.as_str()).collect();
    let others = come_and_go(&ours, &first.detectors_now());
    for other in &others {
        tracing::warn!("{other}");
    }
    others
}

/// Which detectors files have that a process has not, and the other way round.
fn come_and_go(ours: &[&str], now: &[String]) -> Vec<String> {
    let come = now.iter().filter(|name| !ours.contains(&name.as_str()));
    let gone = ours.iter().filter(|name| !now.iter().any(|n| n == *name));
    let come = come.map(|name| format!("the detector \"{name}\" is new: it takes a restart"));
    let gone = gone.map(|name| {
        format!("the detector \"{name}\" is configured no more: until a restart it goes on")
    });
    come.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources as Settings;

    fn detector() -> Detector {
        let config = Config::load(&Settings::default()).unwrap();
        let (shell, _) = Shell::open(&config, &Process::begin(&config).unwrap()).unwrap();
        Detector::new(&config, shell)
    }

    #[test]
    fn who_comes_and_who_goes_is_named() {
        let now = ["a".to_owned(), "c".to_owned()];
        let found = come_and_go(&["a", "b"], &now);
        assert_eq!(found.len(), 2);
        assert!(found[0].contains("\"c\" is new") && found[1].contains("\"b\""));
        assert!(come_and_go(&["c", "a"], &now).is_empty());
    }

    #[test]
    fn what_failed_says_so_and_stops_what_it_left_behind() {
        let detector = detector();
        let stop = detector.begin().unwrap();
        let panic: Box<dyn Any + Send> = Box::new("for the test");
        let error = Failed::Panic(panic);
        assert!(error.may_pass());
        detector.failed(&error, Some(Duration::from_secs(8)));
        assert!(stop.load(Ordering::Relaxed));
        let (metrics, status) = (&detector.shell.metrics, &detector.shell.status);
        assert_eq!((metrics.up.get(), metrics.failures.get()), (0, 1));
        let why = "failed: it panicked: for the test; begins anew after 8 s";
        assert_eq!(status.view().waiting.as_deref(), Some(why));
        assert!(status.has_failed());
        status.begins();
        assert!(!status.has_failed());
    }

    #[test]
    fn what_cannot_pass_ends_it_and_what_can_waits() {
        use crate::record::limit::TooManyDeadLetters;
        use crate::worker::WorkerError;
        let worker = |error| ServiceError::Worker { worker: 0, error };
        let limit = TooManyDeadLetters {
            dead: 9,
            records: 10,
            max: 5,
        };
        assert!(!worker(WorkerError::DeadLetters(limit)).may_pass());
        assert!(worker(WorkerError::Aborts(9)).may_pass());
        assert!(ServiceError::Panicked(0).may_pass());
    }

    #[test]
    fn who_waits_to_begin_anew_is_woken_and_ends_when_told() {
        let detector = detector();
        let (wake, woken) = channel();
        detector.lock().wake = Some(wake);
        // A word that came before is heard, too.
        detector.reload();
        detector.await_next(&woken, Duration::from_secs(3600));
        let one = &detector;
        std::thread::scope(|scope| {
            scope.spawn(move || one.await_next(&woken, Duration::from_secs(3600)));
            one.end();
        });
        assert!(detector.begin().is_none());
    }
}
