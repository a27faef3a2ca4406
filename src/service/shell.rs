//! What is there before anything is read: people see from the first moment on what is waited for.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use prometheus::Registry;

use super::error::ServiceError;
use super::from_config::process_info;
use super::metrics::Metrics;
use super::reloaded::ShownSettings;
use super::sources::{Access, LateChanges, Sources};
use super::status::Status;
use crate::config::Config;
use crate::kafka::watchdog::{Watchdog, end_process};
use crate::time::{Clock, SystemClock};
use crate::trainer::Turns;

/// What a process has once, however many detectors it has.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) watchdog: Watchdog,
    pub(super) registry: Registry,
    /// One training at a time.
    pub(super) turns: Turns,
}

impl Process {
    pub(super) fn begin() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        Self {
            watchdog: Watchdog::start(Arc::clone(&clock), end_process),
            clock,
            registry: Registry::new(),
            turns: Turns::default(),
        }
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
        };
        let sources = Sources {
            registry: process.registry.clone(),
            metrics: shell.metrics.clone(),
            status: Arc::clone(&shell.status),
            clock: Arc::clone(&shell.clock),
            access: Access {
                settings: shell.settings.clone(),
                ..Access::new(config, shell.changes.clone())
            },
        };
        Ok((shell, sources))
    }

    /// The same, for threads that `stop` ends.
    pub(super) fn with_stop(self, stop: &Arc<AtomicBool>) -> Self {
        Self {
            watchdog: self.watchdog.with_stop(Arc::clone(stop)),
            ..self
        }
    }
}
