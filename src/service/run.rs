//! `anomalyd run`: builds everything, starts the threads, waits for a signal or a failure, and stops within five seconds.
//!
//! Threads: one a worker, one that trains, one that follows the model store, one that follows the feedback, one for HTTP, one for signals, one watchdog. They meet in
//! channels, the metrics and the stop flag, nowhere else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::change::{Changes, Controls};
use super::error::ServiceError;
use super::feedback::{self, Listener, Listening, SharedListening};
use super::from_config::{first_partition, log_start, plan, session_settings};
use super::http::{Server, if_wanted};
use super::metrics::Metrics;
use super::models::{Follower, SharedStore};
use super::observe::{TrainingObserver, WorkerGauges, WorkerObserver, stepped};
use super::prepare::{self, Prepared};
use super::reload::Reloader;
use super::schema::Waiting;
use super::shell::{Process, Shell};
use super::signal::Request;
use super::status::Status;
use super::thread::spawn;
use crate::config::Config;
use crate::detect::AlertParams;
use crate::kafka::KafkaFailure;
use crate::kafka::feedback::FeedbackTopic;
use crate::kafka::forms::Forms;
use crate::kafka::reconnecting::ReconnectingSession;
use crate::kafka::session::SessionSettings;
use crate::kafka::watchdog::Watchdog;
use crate::model::card::Said;
use crate::model::trained::TrainedModel;
use crate::pipeline::{Column, Pipeline, Watching};
use crate::port::{History, ModelStore};
use crate::record::decode::Decoder;
use crate::record::schema::Schema;
use crate::telemetry::thread::Exporting;
use crate::time::Clock;
use crate::trainer::{Control, Sources, Trainer, TrainerLink};
use crate::worker::{Ports, Settings, Worker, WorkerError};

/// From a signal to the end of the process: for the threads to end by themselves, and then by force.
const STOP_MAX: Duration = Duration::from_millis(4_200);
pub(super) const END_MAX: Duration = Duration::from_millis(4_700);
/// The longest wait of a worker for input: how soon it sees a stop or a new model.
const POLL_MAX: Duration = Duration::from_millis(100);
/// How the daemon came to its end.
enum Ended {
    Worker(usize, Result<(), WorkerError<KafkaFailure>>),
    Panicked(usize),
    Helper(&'static str),
    Stopped,
}

/// The daemon, at work.
#[derive(Debug)]
pub struct Running {
    shell: Shell,
    server: Option<Server>,
    /// Ends after all the others, with what they told.
    _exporting: Option<Exporting>,
    stop: Arc<AtomicBool>,
    ended: Receiver<Ended>,
    stop_handle: StopHandle,
    workers: usize,
    control: Control,
    controls: Arc<Controls>,
    /// Dropping them wakes those who follow the store and the feedback.
    wake: Vec<Sender<()>>,
    helpers: Vec<JoinHandle<()>>,
}

/// Ends a running daemon from another thread: a signal handler, or the demo's clock.
#[derive(Clone, Debug)]
pub struct StopHandle(Sender<Ended>);

impl StopHandle {
    /// Asks the daemon to stop.
    pub fn stop(&self) {
        // A daemon that has ended does not receive it.
        self.0.send(Ended::Stopped).unwrap_or_default();
    }
}

impl std::fmt::Debug for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ended")
    }
}

/// Runs the daemon until SIGTERM, SIGINT, or a failure. SIGUSR1 asks for a training.
pub fn run(config: &Config) -> Result<(), ServiceError> {
    let stop = Arc::new(AtomicBool::new(false));
    // Before the start: it may wait for a first record, and a signal must end that too.
    let (requests, signals) = channel();
    spawn("signals", {
        let stop = Arc::clone(&stop);
        move || {
            let limit = || END_MAX;
            super::signal::listen(limit, true, |request| {
                if let Request::Stop(name) = request {
                    tracing::info!(signal = name, "stopping");
                    stop.store(true, Ordering::Relaxed);
                }
                requests.send(request).unwrap_or_default();
            });
        }
    })?;
    let running = match start(config, Arc::clone(&stop)) {
        Err(error) if stop.load(Ordering::Relaxed) && !error.is_configuration() => {
            tracing::info!(%error, "stopped while starting");
            return Ok(());
        }
        started => started?,
    };
    let (stop_handle, control) = (running.stop_handle(), running.control.clone());
    let changes = Arc::clone(&running.controls);
    spawn("stopper", move || {
        for request in signals {
            match request {
                Request::Train => control.train_now(),
                // What came of it was said.
                Request::Reload => drop(changes.reload()),
                Request::Stop(_) => stop_handle.stop(),
            }
        }
    })?;
    running.wait()
}

/// Starts everything and returns while it works. `stop` ends a start that waits, and later every thread.
pub fn start(config: &Config, stop: Arc<AtomicBool>) -> Result<Running, ServiceError> {
    let process = Process::begin(config)?;
    let (shell, sources) = Shell::open(config, &process)?;
    let server = if_wanted(
        config.http,
        "listening for HTTP (`http.listen`)",
        |address| Server::start(address, sources),
    )?;
    let running = start_in(config, shell.with_stop(&stop), stop)?;
    Ok(Running {
        server,
        _exporting: process.exporting,
        ..running
    })
}

/// The same, of one detector among others, or by itself: what it has beside `shell`.
pub(super) fn start_in(
    config: &Config,
    shell: Shell,
    stop: Arc<AtomicBool>,
) -> Result<Running, ServiceError> {
    let (clock, status, metrics) = (&shell.clock, &shell.status, &shell.metrics);
    let (wake, woken) = channel();
    let waiting = Waiting {
        stop: &stop,
        wake: &woken,
        status,
    };
    let Prepared {
        history,
        feedback,
        shared,
        training,
        schema,
        champion,
        forms,
    } = prepare::patiently(config, (clock, &shell.watchdog), status, &waiting)?;
    status.columns(schema.columns());
    let store: SharedStore = Arc::new(Mutex::new(shared));
    let (listening, said) = listen(config, feedback, (metrics, status));
    let sources = (history, training, &schema);
    let (trainer, control) = trainer(config, sources, (metrics, status, clock));
    let trainer = trainer.in_turn(shell.turns.clone());
    let (ended_sender, ended) = channel();
    let crew = Crew {
        config,
        schema: &schema,
        forms,
        store: &store,
        listening: &listening,
        control: &control,
        shell: &shell,
        stop: &stop,
    };
    let (promotions, alerts) = crew.start(said, champion.as_ref(), &ended_sender)?;
    let controls = controls((config, &schema), &shell, (&store, &control), alerts);
    shell.changes.set(controls.clone());
    let follower = Follower {
        workers: promotions,
        current: champion.as_ref().map(|model| model.card.version),
        metrics: metrics.clone(),
        stop: Arc::clone(&stop),
        wake: woken,
        store,
    };
    let (listener, wake_listener) = Listener::new(listening, &stop);
    let helpers = vec![
        spawn_helper("trainer", (&ended_sender, &stop), move || trainer.run())?,
        spawn_helper("follower", (&ended_sender, &stop), move || follower.run())?,
        spawn_helper("listener", (&ended_sender, &stop), move || listener.run())?,
    ];
    log_start(config, &schema);
    Ok(Running {
        shell,
        server: None,
        _exporting: None,
        stop,
        ended,
        stop_handle: StopHandle(ended_sender),
        workers: config.workers,
        control,
        controls,
        wake: vec![wake, wake_listener],
        helpers,
    })
}

/// What people may change of it.
fn controls(
    (config, schema): (&Config, &Arc<Schema>),
    shell: &Shell,
    (store, trainer): (&SharedStore, &Control),
    alerts: Vec<Sender<AlertParams>>,
) -> Arc<Controls> {
    let (clock, status) = (Arc::clone(&shell.clock), Arc::clone(&shell.status));
    let (settings, metrics) = (shell.settings.clone(), shell.metrics.clone());
    let seen = (settings, metrics, Arc::clone(&status));
    let reloader = Reloader::new(
        config.clone(),
        alerts,
        trainer.clone(),
        seen,
        Arc::clone(&clock),
    );
    Arc::new(Controls {
        config: config.clone(),
        store: Arc::clone(store),
        schema: Arc::clone(schema),
        reloader,
        trainer: trainer.clone(),
        status,
        first: first_partition(config),
        clock,
        watchdog: prepare::briefly(&shell.watchdog),
    })
}

/// What hears of feedback, and where each worker is told.
fn listen(
    config: &Config,
    feedback: FeedbackTopic,
    (metrics, status): (&Metrics, &Arc<Status>),
) -> (SharedListening, Vec<Receiver<Arc<Said>>>) {
    let mut listening = Listening::new(feedback, metrics.clone(), Arc::clone(status));
    let said = (0..config.workers).map(|_| listening.join()).collect();
    (Arc::new(Mutex::new(listening)), said)
}

/// What trains, and what tells it to.
fn trainer<H: History, S: ModelStore>(
    config: &Config,
    (history, store, schema): (H, S, &Arc<Schema>),
    (metrics, status, clock): (&Metrics, &Arc<Status>, &Arc<dyn Clock>),
) -> (Trainer<H, S>, Control) {
    let sources = Sources {
        history,
        store,
        schema: Arc::clone(schema),
    };
    let observer = TrainingObserver::new(metrics.clone(), Arc::clone(status), Arc::clone(clock));
    Trainer::new(sources, plan(config), Arc::clone(clock), Arc::new(observer))
}

/// What all workers of the detector are given.
struct Crew<'a> {
    config: &'a Config,
    schema: &'a Arc<Schema>,
    forms: Forms,
    store: &'a SharedStore,
    listening: &'a SharedListening,
    control: &'a Control,
    shell: &'a Shell,
    stop: &'a Arc<AtomicBool>,
}

/// Where new champions go, and what alerts are due by: for each worker.
type Told = (Vec<Sender<Arc<TrainedModel>>>, Vec<Sender<AlertParams>>);
/// The other ends of one worker, and what people say.
type Hears = (
    Receiver<Arc<TrainedModel>>,
    Receiver<AlertParams>,
    Receiver<Arc<Said>>,
);

impl Crew<'_> {
    /// Starts as many workers as there are receivers of what people say, under `champion`. Answers how they are told of what changes.
    fn start(
        &self,
        said: Vec<Receiver<Arc<Said>>>,
        champion: Option<&Arc<TrainedModel>>,
        ended_sender: &Sender<Ended>,
    ) -> Result<Told, ServiceError> {
        let gauges = WorkerGauges::default();
        // Without a name of its own an instance is new each time: what it left open ends when its transaction times out.
        let named = self.config.instance.clone();
        let instance = named.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let (mut promotions, mut alerts) = (Vec::new(), Vec::new());
        for (worker, said) in said.into_iter().enumerate() {
            let (send, receive) = channel();
            if let Some(champion) = champion {
                send.send(Arc::clone(champion)).unwrap_or_default();
            }
            promotions.push(send);
            let (send, changed) = channel();
            alerts.push(send);
            let context = self.context(worker, (receive, changed, said), &instance, &gauges);
            start_worker(worker, context, ended_sender)?;
        }
        Ok((promotions, alerts))
    }

    fn context(
        &self,
        worker: usize,
        (promotions, alerts, said): Hears,
        instance: &str,
        gauges: &WorkerGauges,
    ) -> WorkerContext {
        let (metrics, status) = (&self.shell.metrics, &self.shell.status);
        WorkerContext {
            config: self.config.clone(),
            settings: session_settings(self.config, self.forms, (instance.to_owned(), worker)),
            schema: Arc::clone(self.schema),
            store: Arc::clone(self.store),
            promotions,
            alerts,
            listening: Arc::clone(self.listening),
            said,
            trainer: self.control.link(worker),
            observer: WorkerObserver::new(
                worker,
                (metrics.clone(), Arc::clone(status)),
                gauges.clone(),
                Arc::clone(&self.config.detect),
            )
            .traced(self.shell.tracer(self.config, worker)),
            stop: Arc::clone(self.stop),
            clock: Arc::clone(&self.shell.clock),
            watchdog: self.watchdog(worker),
        }
    }

    /// The watchdog of a worker, which tells of its life and of what it waits for.
    fn watchdog(&self, worker: usize) -> Watchdog {
        let Shell {
            clock,
            watchdog,
            metrics,
            status,
            ..
        } = self.shell;
        let waiting = metrics.waits.with_label_values(&[&worker.to_string()]);
        let (metrics, clock) = (metrics.clone(), Arc::clone(clock));
        let (beats, waits) = (Arc::clone(status), Arc::clone(status));
        watchdog
            .clone()
            .with_beat(move || stepped(&metrics, &beats, worker, clock.now()))
            .with_waits(move |what| {
                waiting.set(i64::from(what.is_some()));
                waits.worker_waits(worker, what);
            })
    }
}

impl Running {
    /// What people see.
    pub fn status(&self) -> &Arc<Status> {
        &self.shell.status
    }

    /// What Prometheus sees.
    pub fn metrics(&self) -> &Metrics {
        &self.shell.metrics
    }

    /// Where HTTP is served, if it is.
    pub fn http(&self) -> Option<std::net::SocketAddr> {
        self.server.as_ref().map(Server::address)
    }

    /// What may change it, as its API does.
    pub fn changes(&self) -> Option<Arc<dyn Changes>> {
        self.shell.changes.get()
    }

    /// What tells it to train.
    pub(super) fn trainer(&self) -> Control {
        self.control.clone()
    }

    /// Stops it from another thread.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop_handle.clone()
    }

    /// Waits for the end, stops all threads, and says what happened.
    pub fn wait(mut self) -> Result<(), ServiceError> {
        let mut left = self.workers;
        // The channel cannot close: this value holds a sender.
        let first = self.ended.recv().unwrap_or(Ended::Stopped);
        let mut outcome = Self::note(first, &mut left);
        self.stop.store(true, Ordering::Relaxed);
        self.control.stop();
        self.wake.clear();
        let deadline = self.shell.clock.monotonic() + STOP_MAX;
        while left > 0 {
            let wait = deadline.saturating_sub(self.shell.clock.monotonic());
            match self.ended.recv_timeout(wait) {
                Ok(ended) => {
                    let later = Self::note(ended, &mut left);
                    outcome = outcome.and(later);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return outcome.and(Err(ServiceError::Slow(left)));
                }
            }
        }
        for helper in self.helpers.drain(..) {
            // Training is cancelled at its next epoch; the process does not wait longer than it promised.
            if helper.is_finished() || self.shell.clock.monotonic() < deadline {
                wait_for(&helper, deadline, &*self.shell.clock);
            }
        }
        tracing::info!("stopped");
        outcome
    }

    fn note(ended: Ended, left: &mut usize) -> Result<(), ServiceError> {
        match ended {
            Ended::Stopped => Ok(()),
            Ended::Worker(worker, result) => {
                *left -= 1;
                result.map_err(|error| ServiceError::Worker { worker, error })
            }
            Ended::Panicked(worker) => {
                *left -= 1;
                Err(ServiceError::Panicked(worker))
            }
            Ended::Helper(name) => Err(ServiceError::Helper(name)),
        }
    }
}

/// Waits until a thread has ended, or the deadline has passed.
fn wait_for(thread: &JoinHandle<()>, deadline: Duration, clock: &dyn Clock) {
    while !thread.is_finished() && clock.monotonic() < deadline {
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// All that one worker's thread takes along.
struct WorkerContext {
    config: Config,
    settings: SessionSettings,
    schema: Arc<Schema>,
    store: SharedStore,
    promotions: Receiver<Arc<TrainedModel>>,
    alerts: Receiver<AlertParams>,
    listening: SharedListening,
    said: Receiver<Arc<Said>>,
    trainer: TrainerLink,
    observer: WorkerObserver,
    stop: Arc<AtomicBool>,
    clock: Arc<dyn Clock>,
    watchdog: Watchdog,
}

fn start_worker(
    number: usize,
    context: WorkerContext,
    ended_sender: &Sender<Ended>,
) -> Result<(), ServiceError> {
    let ended_sender = ended_sender.clone();
    spawn("worker", move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(context)));
        let ended = match result {
            Ok(result) => Ended::Worker(number, result),
            Err(_) => Ended::Panicked(number),
        };
        ended_sender.send(ended).unwrap_or_default();
    })?;
    Ok(())
}

/// The body of a worker's thread: joins the group, works, and leaves it.
fn work(context: WorkerContext) -> Result<(), WorkerError<KafkaFailure>> {
    let WorkerContext {
        config,
        settings,
        schema,
        store,
        promotions,
        alerts,
        listening,
        said,
        trainer,
        observer,
        stop,
        clock,
        watchdog,
    } = context;
    let session = ReconnectingSession::new(settings, Arc::clone(&clock), watchdog.clone());
    let columns = Column::list(schema.columns(), schema.missing(), schema.context());
    let mut decoder = Decoder::new(schema);
    let ports = Ports {
        decode: Box::new(move |batch, decoded| decoder.decode_into(batch, decoded)),
        load: Box::new({
            let watchdog = watchdog.clone();
            move |version| prepare::load(&store, version, &watchdog)
        }),
        promotions,
        alerts,
        listen: Box::new(move || feedback::listen(&listening, &watchdog)),
        said,
        trainer,
        observer,
        clock,
        stop,
    };
    let watching = match config.http {
        Some(_) => Watching::Explained,
        None => Watching::Sample,
    };
    let pipeline = Pipeline::new(Arc::clone(&config.detect), columns).watching(watching);
    let settings = Settings {
        poll_max: POLL_MAX,
        dead_letters_max: Some(u64::from(config.input.dead_letters_max)),
        first: first_partition(&config),
        quiet_after: config.detect.snapshot_interval,
    };
    match Worker::new(session, pipeline, ports, settings).run() {
        Err(WorkerError::Session(KafkaFailure::Stopped)) => Ok(()),
        ended => ended,
    }
}

/// A thread beside the workers: if it ends before it is told to, so does the process.
fn spawn_helper(
    name: &'static str,
    (ended_sender, stop): (&Sender<Ended>, &Arc<AtomicBool>),
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, ServiceError> {
    let (ended_sender, stop) = (ended_sender.clone(), Arc::clone(stop));
    spawn(name, move || {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        if ended.is_err() || !stop.load(Ordering::Relaxed) {
            ended_sender.send(Ended::Helper(name)).unwrap_or_default();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_that_dies_ends_the_process_and_one_that_was_told_to_does_not() {
        let (ended_sender, ended) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let run = |body: fn()| {
            let helper = spawn_helper("trainer", (&ended_sender, &stop), body).unwrap();
            helper.join().unwrap();
            ended.try_recv().ok()
        };
        let mut left = 1;
        for body in [(|| {}) as fn(), || panic!("for the test")] {
            let error = Running::note(run(body).unwrap(), &mut left).unwrap_err();
            assert!(
                error.to_string().contains("the trainer thread ended"),
                "{error}"
            );
        }
        assert_eq!(left, 1);
        stop.store(true, Ordering::Relaxed);
        assert!(run(|| {}).is_none());
    }
}
