//! What is there before anything is read: people see from the first moment on what is waited for.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use prometheus::Registry;
use tokio::sync::Semaphore;

use super::error::ServiceError;
use super::exporting;
use super::from_config::process_info;
use super::metrics::Metrics;
use super::process_metrics::ProcessMetrics;
use super::reloaded::ShownSettings;
use super::sources::{Access, LateChanges, Sources};
use super::status::Status;
use crate::config::Config;
use crate::kafka::watchdog::{Watchdog, end_process};
use crate::telemetry::thread::Exporting;
use crate::telemetry::trace::{Origin, Tracer};
use crate::time::{Clock, SystemClock};
use crate::trainer::Turns;

/// What a process has once, however many detectors it has.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) watchdog: Watchdog,
    pub(super) registry: Registry,
    pub(super) metrics: ProcessMetrics,
    /// Telemetry, if it is wanted: it ends with this.
    pub(super) exporting: Option<Exporting>,
    /// One training at a time.
    pub(super) turns: Turns,
    /// One reading of the log for who looks at it at a time.
    pub(super) reading: Arc<Semaphore>,
}

impl Process {
    /// With the process's own settings, which are the same in each detector's `config`.
    pub(super) fn begin(config: &Config) -> Result<Self, ServiceError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let registry = Registry::new();
        let metrics = ProcessMetrics::register(&registry)?;
        let seen = (&registry, &metrics.telemetry);
        Ok(Self {
            exporting: exporting::begin(config, seen, &clock)?,
            watchdog: Watchdog::start(Arc::clone(&clock), end_process),
            clock,
            registry,
            metrics,
            turns: Turns::default(),
            reading: Arc::new(Semaphore::new(1)),
        })
    }
}

/// What a detector has from the beginning, and keeps when it begins anew. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Shell {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) watchdog: Watchdog,
    pub(super) metrics: Metrics,
    pub(super) status: Arc<Status>,
    /// What people may change; they are answered that it starts until it is set.
    pub(super) changes: LateChanges,
    pub(super) settings: ShownSettings,
    pub(super) turns: Turns,
    /// What workers tell of batches by, once it is said whose they are.
    tracer: Option<Tracer>,
}

impl Shell {
    /// Of one detector of a process, and what HTTP answers from.
    pub(super) fn open(
        config: &Config,
        process: &Process,
    ) -> Result<(Self, Sources), ServiceError> {
        let shell = Self {
            clock: Arc::clone(&process.clock),
            watchdog: process.watchdog.clone(),
            metrics: Metrics::register(&process.registry, &config.name)?,
            status: Arc::new(Status::new(process_info(config, &*process.clock))),
            changes: LateChanges::default(),
            settings: ShownSettings::of(config),
            turns: process.turns.clone(),
            tracer: process.exporting.as_ref().map(Exporting::tracer),
        };
        let sources = Sources {
            registry: process.registry.clone(),
            metrics: shell.metrics.clone(),
            status: Arc::clone(&shell.status),
            clock: Arc::clone(&shell.clock),
            access: Access {
                settings: shell.settings.clone(),
                reading: Arc::clone(&process.reading),
                ..Access::new(config, shell.changes.clone())
            },
        };
        Ok((shell, sources))
    }

    /// What a worker tells of batches by.
    pub(super) fn tracer(&self, config: &Config, worker: usize) -> Option<Tracer> {
        let origin = Origin {
            detector: config.name.clone(),
            group: config.input.group.clone(),
            worker,
        };
        self.tracer.as_ref().map(|tracer| tracer.of(origin))
    }

    /// The same, for threads that `stop` ends.
    pub(super) fn with_stop(self, stop: &Arc<AtomicBool>) -> Self {
        Self {
            watchdog: self.watchdog.with_stop(Arc::clone(stop)),
            ..self
        }
    }
}
