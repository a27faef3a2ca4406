//! A run that is asked for.

use super::*;
use crate::detect::Budget;
use crate::model::card::Card;
use crate::model::spec::ModelSpec;
use crate::port::Quarantine;
use crate::record::RecordBatch;
use crate::record::schema::{Features, SchemaSpec};
use crate::stats::calibration::Calibration;
use crate::time::{ManualClock, Timestamp};
use std::convert::Infallible;
use std::sync::mpsc::Sender;

/// No records, and a model that is as old as the clock.
#[derive(Debug)]
struct Empty;

impl History for Empty {
    type Error = Infallible;

    fn available(&mut self, _: Timestamp) -> Result<Vec<Span>, Infallible> {
        Ok(Vec::new())
    }

    fn read(&mut self, _: &Span) -> Result<RecordBatch, Infallible> {
        Ok(RecordBatch::default())
    }

    fn quarantine(&mut self) -> Result<Quarantine, Infallible> {
        Ok(Quarantine::default())
    }
}

impl ModelStore for Empty {
    type Error = Infallible;

    fn save(&mut self, _: &TrainedModel, _: bool) -> Result<(), Infallible> {
        Ok(())
    }

    fn load(&mut self, version: ModelVersion) -> Result<Option<Arc<TrainedModel>>, Infallible> {
        let model = TrainedModel::simple(version.0, &["a"], 1, Calibration::fit(&[]));
        Ok(Some(Arc::new(model)))
    }

    fn champion(&mut self) -> Result<Option<ModelVersion>, Infallible> {
        Ok(Some(ModelVersion(1)))
    }

    fn promote(&mut self, _: ModelVersion) -> Result<(), Infallible> {
        Ok(())
    }

    fn list(&mut self) -> Result<Vec<Card>, Infallible> {
        Ok(vec![Card {
            version: ModelVersion(1),
            created: Timestamp(1_000),
            ..Card::blank()
        }])
    }
}

/// Sends on what runs came to.
#[derive(Debug)]
struct Outcomes(Sender<&'static str>);

impl Observer for Outcomes {
    fn started(&self, _: ModelVersion) {}

    fn finished(&self, _: ModelVersion, outcome: &'static str, _: &str, _: Duration) {
        self.0.send(outcome).unwrap_or_default();
    }
}

/// A trainer at work, what its runs come to, and its clock.
type Started = (
    Control,
    std::sync::mpsc::Receiver<&'static str>,
    Arc<ManualClock>,
    std::thread::JoinHandle<()>,
);

fn schema() -> SchemaSpec {
    SchemaSpec {
        features: Features::List(vec!["a".to_owned()]),
        ..SchemaSpec::default()
    }
}

fn plan(on_drift: bool) -> Plan {
    Plan {
        settings: TrainSettings {
            detector: "d".to_owned(),
            spec: ModelSpec::default(),
            schema: Some(schema()),
            maintenance: Vec::new(),
            budget: Budget::PerRecord(0.01),
            episodes: crate::train::evidence::EpisodeSettings::default(),
            params: train::Params::default(),
            seed: Seed(1),
        },
        interval: Duration::from_secs(3600),
        jitter: 0.0,
        on_drift,
        history: Duration::from_secs(3600),
    }
}

fn start(on_drift: bool) -> Started {
    let sources = Sources {
        history: Empty,
        store: Empty,
        schema: Arc::new(schema().check().unwrap()),
    };
    let (send, outcomes) = channel();
    let clock = Arc::new(ManualClock::at(Timestamp(1_000)));
    let observer = Arc::new(Outcomes(send));
    let (trainer, control) = Trainer::new(sources, plan(on_drift), clock.clone(), observer);
    let thread = std::thread::spawn(move || trainer.run());
    (control, outcomes, clock, thread)
}

#[test]
fn drift_makes_the_next_run_come_sooner_but_not_again_and_again() {
    for on_drift in [true, false] {
        let (control, outcomes, clock, thread) = start(on_drift);
        let soon = |wait| outcomes.recv_timeout(Duration::from_millis(wait)).ok();
        let link = control.link(0);
        // Another process leads.
        link.drift();
        link.leads(true);
        assert_eq!(soon(100), None);
        link.drift();
        if on_drift {
            assert_eq!(soon(10_000), Some("skipped"));
        }
        // The next one not before a quarter of the interval has passed.
        link.drift();
        assert_eq!(soon(100), None);
        clock.advance(Duration::from_secs(901));
        link.drift();
        assert_eq!(
            soon(if on_drift { 10_000 } else { 100 }),
            on_drift.then_some("skipped")
        );
        control.stop();
        thread.join().unwrap();
    }
}

#[test]
fn a_run_that_is_asked_for_does_not_wait_for_the_interval() {
    let (control, outcomes, _, thread) = start(true);
    let soon = |wait| outcomes.recv_timeout(Duration::from_millis(wait)).ok();
    // Another process leads.
    control.train_now();
    assert_eq!(soon(100), None);
    control.link(0).leads(true);
    assert_eq!(soon(100), None);
    control.train_now();
    assert_eq!(soon(10_000), Some("skipped"));
    assert_eq!(soon(100), None);
    control.stop();
    thread.join().unwrap();
}

#[test]
fn what_is_normal_from_now_on_is_trained_at_once() {
    for on_drift in [true, false] {
        let (control, outcomes, _, thread) = start(on_drift);
        let soon = |wait| outcomes.recv_timeout(Duration::from_millis(wait)).ok();
        let link = control.link(0);
        // Another process leads.
        link.new_normal();
        link.leads(true);
        assert_eq!(soon(100), None);
        for _ in 0..2 {
            link.new_normal();
            assert_eq!(soon(10_000), Some("skipped"));
        }
        assert_eq!(soon(100), None);
        control.stop();
        thread.join().unwrap();
    }
}

#[test]
fn another_interval_counts_from_the_last_run() {
    let (control, outcomes, clock, thread) = start(true);
    let soon = |wait| outcomes.recv_timeout(Duration::from_millis(wait)).ok();
    let every = |interval| Plan {
        interval,
        ..plan(true)
    };
    control.link(0).leads(true);
    clock.advance(Duration::from_secs(1801));
    // The model is half an hour old.
    control.plan(every(Duration::from_secs(3000)));
    assert_eq!(soon(100), None);
    control.plan(every(Duration::from_secs(1800)));
    assert_eq!(soon(10_000), Some("skipped"));
    control.plan(every(Duration::from_secs(1801)));
    assert_eq!(soon(100), None);
    control.plan(every(Duration::from_millis(1)));
    assert_eq!(soon(10_000), Some("skipped"));
    control.stop();
    thread.join().unwrap();
}

#[test]
fn a_process_leads_as_long_as_one_of_its_workers_does() {
    let (control, outcomes, _, thread) = start(true);
    let soon = |wait| outcomes.recv_timeout(Duration::from_millis(wait)).ok();
    let [one, other] = [0, 1].map(|worker| control.link(worker));
    one.leads(true);
    // The partition moves within the process; the news may come in any order.
    other.leads(true);
    one.leads(false);
    control.train_now();
    assert_eq!(soon(10_000), Some("skipped"));
    other.leads(false);
    control.train_now();
    assert_eq!(soon(100), None);
    control.stop();
    thread.join().unwrap();
}
