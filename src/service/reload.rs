//! The configuration read again while the daemon runs (SIGHUP, `POST /api/v1/reload`): checked whole first, then each part is told what is another.
//! Workers take it up between two batches, with a snapshot that says so; training with its next run.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use super::from_config::plan;
use super::log;
use super::metrics::Metrics;
use super::reloaded::{ReloadStatus, ShownSettings};
use super::status::Status;
use crate::config::{Config, Problems};
use crate::detect::AlertParams;
use crate::time::Clock;
use crate::trainer::Control;

/// Reads the configuration again.
#[derive(Debug)]
pub struct Reloader {
    /// What is in effect.
    running: Mutex<Config>,
    /// Who judges by it.
    workers: Vec<Sender<AlertParams>>,
    trainer: Control,
    /// What people see of it.
    shown: ShownSettings,
    status: Arc<Status>,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
}

impl Reloader {
    /// For a daemon that began with `config`.
    pub fn new(
        config: Config,
        workers: Vec<Sender<AlertParams>>,
        trainer: Control,
        (shown, metrics, status): (ShownSettings, Metrics, Arc<Status>),
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            running: Mutex::new(config),
            workers,
            trainer,
            shown,
            status,
            metrics,
            clock,
        }
    }

    /// Reads it again, and answers what that came to, which the log, `/status` and the metric say too.
    ///
    /// # Errors
    /// All that is wrong with it; then all goes on as before.
    pub fn reload(&self) -> Result<ReloadStatus, Problems> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let found = running.reload();
        let told = ReloadStatus::of(self.clock.now(), &found);
        // Counted once all else says so: who waits for the count finds what it came to.
        let counted = self.metrics.reloads.with_label_values(&[told.outcome]);
        let outcome = match found {
            Ok(found) => {
                let waiting = i64::try_from(told.needs_restart.len()).unwrap_or(i64::MAX);
                self.metrics.restart_needed.set(waiting);
                if !told.applied.is_empty() {
                    self.apply(&running, &found.config);
                    *running = found.config;
                }
                self.status.reloaded(told.clone(), running.digest());
                Ok(told)
            }
            Err(problems) => {
                self.status.reloaded(told, running.digest());
                Err(problems)
            }
        };
        counted.inc();
        outcome
    }

    fn apply(&self, before: &Config, config: &Config) {
        let alerts = config.detect.alerts();
        if alerts != before.detect.alerts() {
            for worker in &self.workers {
                // One that is gone judges nothing.
                worker.send(alerts).unwrap_or_default();
            }
        }
        if plan(config) != plan(before) {
            self.trainer.plan(plan(config));
        }
        if config.log.level != before.log.level {
            log::level(&config.log.level);
        }
        self.shown.set(config.settings());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::mpsc::channel;

    use crate::service::reloaded::OUTCOMES;

    use crate::config::Sources;
    use crate::detect::Budget;
    use crate::service::status::ProcessInfo;
    use crate::time::{ManualClock, Timestamp};
    use crate::trainer::Order;
    use prometheus::Registry;

    #[test]
    fn each_part_is_told_what_concerns_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        fs::write(&file, "").unwrap();
        let sources = Sources {
            files: vec![file.clone()],
            ..Sources::default()
        };
        let config = Config::load(&sources).unwrap();
        let digest = config.digest();
        let (send, worker) = channel();
        let (control, orders) = Control::connected();
        let metrics = Metrics::register(&Registry::new(), "d").unwrap();
        let status = Arc::new(Status::new(ProcessInfo::default()));
        let shown = ShownSettings::default();
        let clock = Arc::new(ManualClock::at(Timestamp(1_000)));
        let seen = (shown.clone(), metrics.clone(), Arc::clone(&status));
        let reloader = Reloader::new(config, vec![send], control, seen, clock);
        let count = |outcome| metrics.reloads.with_label_values(&[outcome]).get();

        assert_eq!(reloader.reload().unwrap().outcome, "unchanged");
        assert!(worker.try_recv().is_err() && orders.try_recv().is_err());

        fs::write(&file, "[alerts]\nfalse_alarm_rate = \"2/day\"\n").unwrap();
        assert_eq!(reloader.reload().unwrap().outcome, "applied");
        assert_eq!(worker.try_recv().unwrap().budget, Budget::PerKeyDay(2.0));
        // The gate holds the alert rate against the budget.
        assert!(matches!(orders.try_recv(), Ok(Order::Plan(_))));
        let view = status.view();
        let now = view.reload.unwrap();
        assert_eq!(
            (now.outcome, &*now.at),
            ("applied", "1970-01-01T00:00:01.000Z")
        );
        assert_ne!(view.process.config_digest, digest);
        let setting = |key: &str| shown.get().iter().find(|s| s.key == key).cloned();
        let rate = setting("alerts.false_alarm_rate").unwrap();
        assert_eq!(rate.value, "\"2/day\"");

        fs::write(&file, "workers = 0\n").unwrap();
        assert!(reloader.reload().is_err());
        assert_eq!(status.view().reload.unwrap().problems.len(), 1);
        fs::write(
            &file,
            "workers = 2\n[alerts]\nfalse_alarm_rate = \"2/day\"\n",
        )
        .unwrap();
        assert_eq!(reloader.reload().unwrap().outcome, "needs_restart");
        assert_eq!(metrics.restart_needed.get(), 1);
        assert!(worker.try_recv().is_err() && orders.try_recv().is_err());
        assert_eq!(OUTCOMES.map(count), [1, 1, 1, 1]);
    }
}
