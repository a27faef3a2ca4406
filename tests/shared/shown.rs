//! A server with something of everything to show, and who notes what it is asked to change.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};

use anomalyd::alert::{Alert, InputRef, ScoredBy};
use anomalyd::config::{Changed, Config, Sources as Settings};
use anomalyd::model::card::{Card, Exclusion, Feedback, ModelVersion, Said, Suspect, Unlearnt};
use anomalyd::model::gate_report::{Decision, Reason};
use anomalyd::pipeline::{Watched, WrongClock};
use anomalyd::record::Key;
use anomalyd::service::change::{ChangeError, Changes, Judged};
use anomalyd::service::http::Server;
use anomalyd::service::metrics::Metrics;
use anomalyd::service::past::{Asked, Past, Stopped};
use anomalyd::service::reloaded::ReloadStatus;
use anomalyd::service::sources::{Access, LateChanges, Sources};
use anomalyd::service::status::{ProcessInfo, Status, TrainingStatus};
use anomalyd::stream::{Offset, TopicPartition};
use anomalyd::time::{ManualClock, Timestamp};
use prometheus::Registry;
use serde_json::json;

/// When the fault began: the alerts say it, too.
pub const BEGAN: i64 = 1_767_225_600_000;

/// What may change things.
pub const TOKEN: &str = "0123456789abcdef";

/// Notes what it is asked to do, and does nothing.
#[derive(Debug, Default)]
pub struct Notes {
    asked: Mutex<Vec<String>>,
    /// Says when it is at work, and waits until it may go on.
    pub hold: Mutex<Option<(Sender<()>, Receiver<()>)>>,
}

impl Notes {
    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
        if let Some((begun, go_on)) = self.hold.lock().unwrap().take() {
            begun.send(()).unwrap();
            go_on.recv().unwrap();
        }
    }

    pub fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl Changes for Notes {
    fn say(&self, id: &str, says: Feedback, undo: bool) -> Result<Judged, ChangeError> {
        self.note(format!("{id} {} {undo}", says.name()));
        if id == "d/t/0/404" {
            return Err(ChangeError::Unknown("no such episode".to_owned()));
        }
        Ok(Judged {
            says: (!undo).then_some(says),
            old: false,
        })
    }

    fn models(&self) -> Result<(Vec<Card>, Option<ModelVersion>), ChangeError> {
        let mut refused = Card::blank();
        refused.version = ModelVersion(2);
        refused.gate.decision = Decision::Rejected;
        refused.gate.reasons = vec![Reason::ConstantScore];
        let mut card = Card::blank();
        card.version = ModelVersion(3);
        card.gate.decision = Decision::Promoted;
        card.measures = BTreeMap::from([("recall".to_owned(), 0.5)]);
        card.counters = vec!["y".to_owned()];
        card.hourly = vec!["x".to_owned()];
        let flagged = |id: &str| Exclusion {
            at: TopicPartition::new("t", 0),
            key: "pump 1/α".to_owned(),
            from: Offset(1),
            to: None,
            because: id.into(),
            feedback: None,
        };
        card.exclusions = vec![flagged("d/t/0/1")];
        card.unlearnt = Unlearnt {
            keys: 1,
            named: vec!["pump 1/α".to_owned()],
        };
        card.suspects = vec![Suspect {
            exclusion: flagged("d/t/0/0-suspect"),
            from_time: Timestamp(0),
            to_time: Timestamp(1),
            excess: 3.0,
            features: vec![("x".to_owned(), 1.0)],
        }];
        Ok((vec![refused, card], Some(ModelVersion(3))))
    }

    fn past(&self, asked: &Asked) -> Result<Past, ChangeError> {
        let Asked {
            key,
            at,
            place,
            before,
            after,
        } = asked;
        let [at, place] = [
            at.as_ref().map(ToString::to_string),
            place.map(|p| p.to_string()),
        ];
        let [at, place] = [at, place].map(Option::unwrap_or_default);
        self.note(format!(
            "past of {key} at {at} {place}: {before} before, {after} after"
        ));
        // A record a second, as the remembered ones are, before them.
        let lasted = if key == "nobody" { 0 } else { 400 };
        let records = (-lasted..0).map(|second| record(key, second)).collect();
        Ok(Past {
            columns: vec!["x".to_owned(), "y".to_owned()],
            records,
            looked_at: 4_000,
            stopped: Stopped::Records,
        })
    }

    fn promote(&self, version: ModelVersion) -> Result<(), ChangeError> {
        self.note(format!("promote {version}"));
        Ok(())
    }

    fn rollback(&self) -> Result<ModelVersion, ChangeError> {
        self.note("rollback".to_owned());
        Err(ChangeError::Impossible("there is none before".to_owned()))
    }

    fn retrain(&self) -> Result<(), ChangeError> {
        self.note("retrain".to_owned());
        Ok(())
    }

    fn reload(&self) -> Result<ReloadStatus, ChangeError> {
        self.note("reload".to_owned());
        Ok(reloaded())
    }
}

/// A reading of the configuration that came to something of everything.
fn reloaded() -> ReloadStatus {
    let changed = |key: &str| Changed {
        key: key.to_owned(),
        value: "1".to_owned(),
    };
    ReloadStatus {
        at: "2026-01-01T00:00:00Z".to_owned(),
        outcome: "needs_restart",
        applied: vec![changed("training.guard")],
        needs_restart: vec![changed("workers")],
        problems: Vec::new(),
    }
}

/// A server with something to show, and who notes what it is asked to change.
pub struct Shown {
    pub server: Server,
    pub notes: Arc<Notes>,
    pub late: LateChanges,
    pub status: Arc<Status>,
}

/// With these settings; `ready`: things can be changed.
pub fn shown(set: &[&str], ready: bool) -> Shown {
    let (sources, notes) = answering("pumps", set, ready);
    let (late, status) = (sources.access.changes.clone(), Arc::clone(&sources.status));
    let server = Server::start(([127, 0, 0, 1], 0).into(), sources).unwrap();
    Shown {
        server,
        notes,
        late,
        status,
    }
}

/// What a detector of this name answers from.
pub fn answering(name: &str, set: &[&str], ready: bool) -> (Sources, Arc<Notes>) {
    let config = Config::load(&Settings {
        set: set.iter().map(|set| (*set).to_owned()).collect(),
        ..Settings::default()
    })
    .unwrap();
    let registry = Registry::new();
    let late = LateChanges::default();
    let notes = Arc::new(Notes::default());
    if ready {
        late.set(notes.clone());
    }
    let status = Arc::new(Status::new(ProcessInfo {
        detector: name.to_owned(),
        started: "2026-01-01T00:00:00Z".to_owned(),
        ..ProcessInfo::default()
    }));
    seen(&status);
    let sources = Sources {
        metrics: Metrics::register(&registry, "d").unwrap(),
        registry,
        status,
        clock: Arc::new(ManualClock::at(Timestamp(1_000_000))),
        access: Access::new(&config, late),
    };
    (sources, notes)
}

/// A record of a key: with a fault from the 300th second on.
pub fn record(key: &str, second: i64) -> Watched {
    Watched {
        key: Key(Arc::from(key)),
        time: Timestamp(BEGAN + 1000 * (second - 300)),
        p_value: if second < 300 { 0.5 } else { 1e-9 },
        evidence: if second < 300 { 0.0 } else { 20.7 },
        evidence_threshold: 9.2,
        alert: second >= 300,
        by_model: None,
        warming_up: false,
        record: 0,
        input: InputRef {
            at: TopicPartition::new("t", 0),
            offset: Offset(second),
        },
        score: 1.0,
        scored_by: ScoredBy::Seasonal,
        window: Vec::new(),
        row: vec![if second < 300 { 49.5 } else { 61.0 }, f64::NAN],
        expected: vec![49.0, 1.0],
    }
}

/// Something of everything.
fn seen(status: &Status) {
    let at = TopicPartition::new("t", 0);
    status.assigned(&at, false);
    status.columns(&["x".to_owned(), "y".to_owned()]);
    status.model(&Card::blank());
    status.reloaded(reloaded(), "abc".to_owned());
    status.training(TrainingStatus {
        ended: "2026-01-01T00:00:00Z".to_owned(),
        outcome: "promoted".to_owned(),
        ..TrainingStatus::default()
    });
    let key = || Key(Arc::from("pump 1/α"));
    status.clocks(
        0,
        &[WrongClock {
            at,
            key: key(),
            ahead_ms: -5,
        }],
    );
    // A record a second.
    let records: Vec<Watched> = (0..600).map(|second| record("pump 1/α", second)).collect();
    status.watched(&records);
    for (id, event) in [
        ("d/t/0/1", "open"),
        ("d/t/0/2", "open"),
        ("d/t/0/2", "close"),
    ] {
        status.alert(&alert(id, event));
    }
    let said = Said::from([("d/t/0/2".into(), Feedback::FalsePositive)]);
    status.feedback(&Arc::new(said), 0);
}

/// An alert of a value that is too high.
pub fn alert(id: &str, event: &str) -> Alert {
    serde_json::from_value(json!({
        "schema": 1, "id": id, "event": event, "kind": "score", "detector": "d", "key": "pump 1/α",
        "data_time": "2026-01-01T00:00:00Z", "approx_anomaly_start_time": "2026-01-01T00:00:00Z",
        "anomaly_score": 9.0, "peak_score": 9.0, "anomaly_grade": 1.0, "confidence": 1.0, "severity": "high",
        "p_value": 1e-9, "threshold": 2.0, "records": 1, "model_version": 1,
        "evidence": 20.7, "evidence_threshold": 9.2, "evidence_records": 1,
        "relevant_attribution": [
            {"feature": "x", "share": 1.0, "actual": 61.0, "expected": 49.0},
            {"feature": "y", "share": 0.0, "actual": 1.0, "expected": 1.2, "still": 7},
        ],
        "input": {"topic": "t", "partition": 0, "offset": 1},
    }))
    .unwrap()
}
