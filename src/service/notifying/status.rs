//! What is known of each endpoint: for `/status`, `/healthz` and `/readyz`, and as metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::super::reloaded::ReloadStatus;
use super::metrics::NotifyMetrics;
use crate::notify::deliver::Event;
use crate::time::Timestamp;

/// A thread that did not say for so long that it goes on, beyond the time of one request, hangs.
const HANG: Duration = Duration::from_secs(60);

/// One endpoint, as people see it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EndpointView {
    /// What it understands.
    pub kind: &'static str,
    /// Whether its group has given it anything to read.
    pub reading: bool,
    /// Alerts delivered since the start.
    pub delivered: u64,
    /// Alerts that it refused.
    pub refused: u64,
    /// Messages of the topic not yet dealt with.
    pub lag: u64,
    /// What it waits for.
    pub waits_for: Option<String>,
    #[serde(skip)]
    last_step: Option<Timestamp>,
    #[serde(skip)]
    timeout: Duration,
}

/// All endpoints of the process.
#[derive(Debug)]
pub struct NotifyStatus {
    endpoints: Mutex<BTreeMap<String, EndpointView>>,
    reload: Mutex<Option<ReloadStatus>>,
    metrics: NotifyMetrics,
}

impl NotifyStatus {
    /// Of endpoints by name, kind and the time that a request may take.
    pub fn new<'a>(
        endpoints: impl Iterator<Item = (&'a str, &'static str, Duration)>,
        metrics: NotifyMetrics,
    ) -> Self {
        let views = endpoints.map(|(name, kind, timeout)| {
            metrics.begin(name);
            let view = EndpointView {
                kind,
                timeout,
                ..EndpointView::default()
            };
            (name.to_owned(), view)
        });
        Self {
            endpoints: Mutex::new(views.collect()),
            reload: Mutex::default(),
            metrics,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, EndpointView>> {
        self.endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A request to an endpoint may take so long from now on.
    pub(super) fn limit(&self, name: &str, timeout: Duration) {
        if let Some(view) = self.lock().get_mut(name) {
            view.timeout = timeout;
        }
    }

    /// What reading the configuration again came to.
    pub(super) fn reloaded(&self, told: ReloadStatus) {
        let counter = self.metrics.reloads.with_label_values(&[told.outcome]);
        counter.inc();
        *self.reload.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
    }

    /// What that came to when it was last done.
    pub fn last_reload(&self) -> Option<ReloadStatus> {
        let reload = self.reload.lock();
        reload.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The thread of an endpoint goes on.
    pub fn beat(&self, name: &str, now: Timestamp) {
        let step = self.metrics.last_step.with_label_values(&[name]);
        step.set(now.0 as f64 / 1000.0);
        if let Some(view) = self.lock().get_mut(name) {
            view.last_step = Some(now);
        }
    }

    /// Something happened.
    pub fn note(&self, name: &str, event: Event) {
        let count = |outcome: &str, by: usize| {
            let counter = self.metrics.alerts.with_label_values(&[name, outcome]);
            counter.inc_by(by as u64);
        };
        let mut endpoints = self.lock();
        let Some(view) = endpoints.get_mut(name) else {
            return;
        };
        match event {
            Event::Goes(None) => {}
            Event::Goes(Some(lag)) => {
                view.reading = true;
                view.lag = lag;
                let gauge = self.metrics.lag.with_label_values(&[name]);
                gauge.set(i64::try_from(lag).unwrap_or(i64::MAX));
            }
            Event::Unreadable => count("unreadable", 1),
            Event::PassedOver => count("passed_over", 1),
            Event::Answered(code) => {
                let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
                self.metrics
                    .requests
                    .with_label_values(&[name, &code])
                    .inc();
            }
            Event::Delivered(alerts) => {
                view.delivered += alerts as u64;
                count("delivered", alerts);
            }
            Event::Refused(alerts) => {
                view.refused += alerts as u64;
                count("refused", alerts);
            }
            Event::Waits(what) => {
                let gauge = self.metrics.waits.with_label_values(&[name]);
                gauge.set(i64::from(what.is_some()));
                view.waits_for = what;
            }
        }
    }

    /// Which threads hang.
    pub fn hangs(&self, now: Timestamp) -> Option<String> {
        let endpoints = self.lock();
        let hang = |view: &EndpointView| {
            let last = view.last_step?;
            let silent = now.since(last);
            (HANG + view.timeout < silent).then_some(silent)
        };
        let each = endpoints.iter();
        let all: Vec<String> = each
            .filter_map(|(name, view)| {
                let silent = hang(view)?.as_secs();
                Some(format!(
                    "endpoint {name} has not said for {silent} s that it goes on"
                ))
            })
            .collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Which endpoints read nothing yet.
    pub fn not_ready(&self) -> Option<String> {
        let endpoints = self.lock();
        let waiting = endpoints.iter().filter(|(_, view)| !view.reading);
        let all: Vec<&str> = waiting.map(|(name, _)| name.as_str()).collect();
        (!all.is_empty()).then(|| format!("no partitions assigned yet for: {}", all.join(", ")))
    }

    /// All endpoints.
    pub fn view(&self) -> BTreeMap<String, EndpointView> {
        self.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::Registry;

    #[test]
    fn what_happens_is_counted_and_a_thread_that_hangs_is_named() {
        let metrics = NotifyMetrics::register(&Registry::new(), "d").unwrap();
        let ten = Duration::from_secs(10);
        let status = NotifyStatus::new([("a", "slack", ten)].into_iter(), metrics.clone());
        assert_eq!(
            status.not_ready().as_deref(),
            Some("no partitions assigned yet for: a")
        );
        status.note("a", Event::Goes(Some(0)));
        assert_eq!(status.not_ready(), None);
        for event in [
            Event::Delivered(3),
            Event::Refused(2),
            Event::Answered(None),
            Event::Waits(Some("it answers 503".to_owned())),
            Event::Goes(Some(7)),
        ] {
            status.note("a", event);
        }
        let view = status.view()["a"].clone();
        assert_eq!((view.delivered, view.refused, view.lag), (3, 2, 7));
        assert_eq!(metrics.waits.with_label_values(&["a"]).get(), 1);
        assert_eq!(metrics.requests.with_label_values(&["a", "none"]).get(), 1);
        status.note("a", Event::Waits(None));
        assert_eq!(metrics.waits.with_label_values(&["a"]).get(), 0);
        let now = Timestamp(1_000_000);
        status.beat("a", now);
        assert_eq!(status.hangs(now.plus(Duration::from_secs(69))), None);
        let problem = status.hangs(now.plus(Duration::from_secs(71))).unwrap();
        assert!(problem.contains("endpoint a"), "{problem}");
    }
}
