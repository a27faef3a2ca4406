//! `anomalyd notify`: a thread an endpoint, HTTP, signals.
//!
//! Next: `metrics` (every name), `status` (what people see), `reload` (the configuration read again).

pub mod metrics;
mod reload;
pub mod status;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware::map_response;
use axum::response::{Json, Response};
use axum::routing::get;
use prometheus::Registry;

use self::metrics::NotifyMetrics;
use self::reload::Reloader;
use self::status::NotifyStatus;
use super::error::ServiceError;
use super::exporting;
use super::http::{Server, exported, if_wanted, protect, verdict};
use super::process_metrics::ProcessMetrics;
use super::signal::{self, Request};
use super::thread::spawn;
use super::words;
use crate::alert::Alert;
use crate::config::Config;
use crate::kafka::KafkaFailure;
use crate::kafka::alert_group::AlertGroup;
use crate::kafka::settings::Connection;
use crate::kafka::watchdog::{Watchdog, end_process};
use crate::notify::deliver::{Around, Event, Notifier};
use crate::notify::endpoint::Live;
use crate::notify::post::HttpPost;
use crate::seed::Seed;
use crate::time::{Clock, SystemClock};

/// Beyond the longest request: how long the threads have to end after a signal.
const END_MAX: Duration = Duration::from_secs(5);
/// After Kafka could not be used.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What pages read.
#[derive(Clone)]
struct Shown {
    registry: Registry,
    status: Arc<NotifyStatus>,
    clock: Arc<dyn Clock>,
}

/// What the thread of an endpoint takes along.
#[derive(Clone)]
struct Thread {
    live: Live,
    /// Its name.
    name: String,
    connection: Connection,
    topic: String,
    status: Arc<NotifyStatus>,
    clock: Arc<dyn Clock>,
    stop: Arc<AtomicBool>,
    watchdog: Watchdog,
    seed: Seed,
}

/// How a thread ended.
type Ended = Result<(), ServiceError>;

/// Tells all endpoints of alerts until SIGTERM, SIGINT, or a failure that does not pass.
pub fn run(config: &Config) -> Result<(), ServiceError> {
    if config.notify.is_empty() {
        return Err(ServiceError::Nobody);
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let stop = Arc::new(AtomicBool::new(false));
    let (ended, endings) = channel();
    let watchdog = Watchdog::start(Arc::clone(&clock), end_process).with_stop(Arc::clone(&stop));
    let registry = Registry::new();
    let counted = ProcessMetrics::register(&registry)?;
    let seen = (&registry, &counted.telemetry);
    let _exporting = exporting::begin(config, seen, &clock)?;
    let metrics = NotifyMetrics::register(&registry, &config.name)?;
    let each = config.notify.iter();
    let named = each.map(|one| (one.name.as_str(), one.kind.name(), one.timeout));
    let status = Arc::new(NotifyStatus::new(named, metrics));
    let reloader = Reloader::new(config, Arc::clone(&status), Arc::clone(&clock));
    let live: Vec<Live> = reloader.endpoints().cloned().collect();
    listen(reloader, &stop)?;
    let shown = Shown {
        registry,
        status: Arc::clone(&status),
        clock: Arc::clone(&clock),
    };
    let _server = serve(config, shown)?;
    for live in live {
        let endpoint = live.seen().endpoint;
        let thread = Thread {
            live,
            connection: config.notify_connection(&endpoint),
            name: endpoint.name,
            topic: config.output.alerts.clone(),
            status: Arc::clone(&status),
            clock: Arc::clone(&clock),
            stop: Arc::clone(&stop),
            watchdog: watchdog.clone(),
            seed: config.seed.child("notify"),
        };
        start(thread, &ended)?;
    }
    tracing::info!(
        endpoints = config.notify.len(),
        topic = config.output.alerts,
        "telling of alerts"
    );
    wait(config.notify.len(), &endings, &stop)
}

/// Until all threads have ended: the first that fails ends the others.
fn wait(
    threads: usize,
    endings: &std::sync::mpsc::Receiver<Ended>,
    stop: &AtomicBool,
) -> Result<(), ServiceError> {
    let mut outcome = Ok(());
    for ended in endings.iter().take(threads) {
        stop.store(true, Ordering::Relaxed);
        outcome = outcome.and(ended);
    }
    tracing::info!("stopped");
    outcome
}

/// Hears signals.
fn listen(reloader: Reloader, stop: &Arc<AtomicBool>) -> Result<(), ServiceError> {
    let stop = Arc::clone(stop);
    let heard = spawn("signals", move || {
        let limit = || reloader.longest() + END_MAX;
        signal::listen(limit, true, |request| match request {
            Request::Stop(name) => {
                tracing::info!(signal = name, "stopping after the requests in flight");
                stop.store(true, Ordering::Relaxed);
            }
            Request::Reload => reloader.reload(),
            // There is nothing to train.
            Request::Train => {}
        });
    });
    heard.map(drop)
}

fn start(thread: Thread, ended: &Sender<Ended>) -> Result<(), ServiceError> {
    let ended = ended.clone();
    let started = spawn("notify", move || {
        let body = std::panic::AssertUnwindSafe(|| notify(&thread));
        let outcome = std::panic::catch_unwind(body).unwrap_or(Err(ServiceError::Helper("notify")));
        ended.send(outcome).unwrap_or_default();
    });
    started.map(drop)
}

/// The body of an endpoint's thread. An outage is a new beginning: what was not committed is read again.
fn notify(thread: &Thread) -> Ended {
    let Thread {
        name,
        status,
        clock,
        stop,
        ..
    } = thread;
    let name = name.clone();
    let beat = {
        let (status, clock, name) = (Arc::clone(status), Arc::clone(clock), name.clone());
        move || status.beat(&name, clock.now())
    };
    let waits = {
        let (status, name) = (Arc::clone(status), name.clone());
        move |what| status.note(&name, Event::Waits(what))
    };
    let watchdog = thread.watchdog.clone().with_beat(beat).with_waits(waits);
    loop {
        let outcome = session(thread, &watchdog);
        match outcome {
            Ok(()) | Err(ServiceError::Kafka(KafkaFailure::Stopped)) => return Ok(()),
            Err(error) if stop.load(Ordering::Relaxed) => {
                tracing::info!(endpoint = name, %error, "stopped while Kafka was away");
                return Ok(());
            }
            Err(error) if error.passes() => {
                tracing::warn!(endpoint = name, %error, "Kafka, or what it needs, is away: waiting for it");
                status.note(&name, Event::Waits(Some(error.to_string())));
                if watchdog.pause(AGAIN_AFTER).is_err() {
                    return Ok(());
                }
            }
            failed => return failed,
        }
    }
}

/// One membership of the endpoint's group.
fn session(thread: &Thread, watchdog: &Watchdog) -> Ended {
    let Thread {
        live,
        name,
        status,
        clock,
        ..
    } = thread;
    let seen = live.seen();
    let poster = HttpPost::new(&seen.endpoint).map_err(|problem| ServiceError::Endpoint {
        name: name.clone(),
        problem,
    })?;
    let waits = (Arc::clone(clock), watchdog.clone());
    let group = AlertGroup::join(&thread.connection, &thread.topic, waits)?;
    let (heard, name) = (Arc::clone(status), name.clone());
    heard.note(&name, Event::Waits(None));
    let around = Around {
        observer: Arc::new(move |event| heard.note(&name, event)),
        clock: Arc::clone(clock),
        stop: Arc::clone(&thread.stop),
        words: cause,
        seed: thread.seed,
    };
    Ok(Notifier::new(seen, (group, poster), around).run()?)
}

/// What an alert says.
fn cause(alert: &Alert) -> String {
    words::cause(alert, |_| None)
}

fn serve(config: &Config, shown: Shown) -> Result<Option<Server>, ServiceError> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .with_state(shown)
        .layer(map_response(protect));
    if_wanted(
        config.http,
        "listening for HTTP (`http.listen`; a daemon on this machine has its own)",
        |address| Server::serving(address, router),
    )
}

async fn metrics(State(shown): State<Shown>) -> Response {
    exported(&shown.registry)
}

async fn healthz(State(shown): State<Shown>) -> (StatusCode, String) {
    verdict(shown.status.hangs(shown.clock.now()))
}

async fn readyz(State(shown): State<Shown>) -> (StatusCode, String) {
    verdict(shown.status.not_ready())
}

async fn status(State(shown): State<Shown>) -> Json<serde_json::Value> {
    let status = &shown.status;
    Json(serde_json::json!({ "endpoints": status.view(), "reload": status.last_reload() }))
}
