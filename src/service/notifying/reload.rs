//! The configuration of `notify` read again (SIGHUP): checked whole first, then each endpoint takes its settings up between two messages.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::super::log;
use super::super::reloaded::ReloadStatus;
use super::status::NotifyStatus;
use crate::config::{Config, Problem, Problems, Reloaded};
use crate::https;
use crate::notify::endpoint::{Endpoint, Live};
use crate::time::Clock;

/// Reads the configuration again.
#[derive(Debug)]
pub(super) struct Reloader {
    running: Mutex<Config>,
    endpoints: BTreeMap<String, Live>,
    status: Arc<NotifyStatus>,
    clock: Arc<dyn Clock>,
}

impl Reloader {
    /// For a process that began with `config`.
    pub(super) fn new(config: &Config, status: Arc<NotifyStatus>, clock: Arc<dyn Clock>) -> Self {
        let each = config.notify.iter();
        let endpoints = each.map(|one| (one.name.clone(), Live::from(one.clone())));
        Self {
            running: Mutex::new(config.clone()),
            endpoints: endpoints.collect(),
            status,
            clock,
        }
    }

    /// The settings of each endpoint, as they may become.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &Live> {
        self.endpoints.values()
    }

    /// The longest time that a request may take by now.
    pub(super) fn longest(&self) -> Duration {
        let each = self.endpoints.values();
        let longest = each.map(|live| live.seen().endpoint.timeout).max();
        longest.unwrap_or_default()
    }

    /// Reads it again. The log, `/status` and the metric say what that came to.
    pub(super) fn reload(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let found = running.reload_notify().and_then(usable);
        let told = ReloadStatus::of(self.clock.now(), &found);
        if let Ok(found) = found {
            for one in &found.config.notify {
                // Certificates lie in files: what they have by now is not known here.
                let reads_files = matches!(one.authorities, https::Authorities::File(_));
                let before = running.notify.iter().find(|other| other.name == one.name);
                if (reads_files || before != Some(one))
                    && let Some(live) = self.endpoints.get(&one.name)
                {
                    self.status.limit(&one.name, one.timeout);
                    live.set(one.clone());
                }
            }
            if found.config.log.level != running.log.level {
                log::level(&found.config.log.level);
            }
            *running = found.config;
        }
        self.status.reloaded(told);
    }
}

/// Whether what only using it can tell is all right, too.
fn usable(found: Reloaded) -> Result<Reloaded, Problems> {
    let each = found.config.notify.iter().enumerate();
    let wrong = each.filter_map(|(number, one)| {
        let Endpoint {
            authorities,
            timeout,
            ..
        } = one;
        let problem = https::agent(authorities, *timeout).err()?;
        Some(Problem::new(&format!("notify[{number}].ca_file"), problem))
    });
    let wrong: Vec<_> = wrong.collect();
    if wrong.is_empty() {
        Ok(found)
    } else {
        Err(Problems(wrong))
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::NotifyMetrics;
    use super::*;
    use std::fs;

    use crate::config::Sources;
    use crate::service::reloaded::OUTCOMES;
    use crate::time::{ManualClock, Timestamp};
    use prometheus::Registry;

    #[test]
    fn endpoints_are_told_what_changed_and_of_what_is_wrong_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        let write = |rest: &str| {
            let text = format!("[[notify]]\nkind = \"slack\"\nurl = \"https://a\"\n{rest}");
            fs::write(&file, text).unwrap();
        };
        write("");
        let sources = Sources {
            files: vec![file.clone()],
            ..Sources::default()
        };
        let config = Config::load(&sources).unwrap();
        let metrics = NotifyMetrics::register(&Registry::new(), "d").unwrap();
        let each = config.notify.iter();
        let named = each.map(|one| (one.name.as_str(), one.kind.name(), one.timeout));
        let status = Arc::new(NotifyStatus::new(named, metrics.clone()));
        let clock = Arc::new(ManualClock::at(Timestamp(1_000)));
        let reloader = Reloader::new(&config, Arc::clone(&status), clock);
        let seen = reloader.endpoints().next().unwrap().seen();
        let outcome = || status.last_reload().unwrap().outcome;

        reloader.reload();
        assert!(!seen.changed());
        assert_eq!(outcome(), "unchanged");
        write("timeout = \"20s\"\n");
        reloader.reload();
        assert!(seen.changed());
        assert_eq!((outcome(), reloader.longest().as_secs()), ("applied", 20));
        let seen = seen.again();
        for wrong in ["timeout = \"20h\"\n", "ca_file = \"/does/not/exist\"\n"] {
            write(wrong);
            reloader.reload();
            assert!(!seen.changed());
            assert_eq!(outcome(), "refused");
            assert_eq!(status.last_reload().unwrap().problems.len(), 1);
        }
        write("timeout = \"20s\"\n[kafka]\nbrokers = \"b:1\"\n");
        reloader.reload();
        assert_eq!(outcome(), "needs_restart");
        let needs = status.last_reload().unwrap().needs_restart;
        assert_eq!(needs[0].key, "kafka.brokers");
        let count = |outcome| metrics.reloads.with_label_values(&[outcome]).get();
        assert_eq!(OUTCOMES.map(count), [1, 1, 1, 2]);
    }
}
