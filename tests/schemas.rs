//! The JSON schemas that other programs go by, against the types that read and write.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's helpers"
)]

use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;

use anomalyd::alert::{
    Alert, AlertEvent, AlertKind, Attribution, Drift, DriftEvent, InputRef, Score, ScoredBy,
    Severity,
};
use anomalyd::model::card::ModelVersion;
use anomalyd::record::Key;
use anomalyd::record::feedback::Statement;
use anomalyd::stream::{Offset, TopicPartition};
use anomalyd::time::Timestamp;
use schema::valid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

#[path = "shared/schema.rs"]
mod schema;

fn read_schema(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn what_the_schema_of_feedback_allows_is_read_and_nothing_else() {
    let schema = read_schema("docs/feedback.schema.json");
    let time = "2026-03-01T12:00:00Z";
    let later = "2026-03-01T13:00:00Z";
    let mut good = vec![
        json!({"feedback": "maintenance", "from": time, "to": later}),
        json!({"feedback": "maintenance", "from": time, "to": later, "key": "k", "at": time}),
    ];
    for word in ["false_positive", "true_positive", "new_normal", "undo"] {
        good.push(json!({"feedback": word, "episode": "d/t/0/1"}));
        good.push(json!({"feedback": word, "episode": "d/t/0/1", "at": time}));
    }
    let read = |value: &Value| Statement::read(&value.to_string());
    for value in &good {
        assert!(valid(&schema, value), "{value}");
        // What is written is as the schema says, too.
        let written = read(value).unwrap().write();
        assert!(
            valid(&schema, &serde_json::from_str(&written).unwrap()),
            "{written}"
        );
        // Without any of its fields it is as right or wrong for both, and so with a field of the other kind, or of none.
        for name in value.as_object().unwrap().keys() {
            let mut less = value.clone();
            less.as_object_mut().unwrap().remove(name);
            assert_eq!(valid(&schema, &less), read(&less).is_ok(), "{less}");
        }
        for (name, more) in [
            ("episode", "d/t/0/1"),
            ("key", "k"),
            ("from", time),
            ("x", "y"),
        ] {
            let mut with = value.clone();
            with[name] = json!(more);
            assert_eq!(valid(&schema, &with), read(&with).is_ok(), "{with}");
        }
    }
    for bad in [
        json!(7),
        json!([]),
        json!({"feedback": "nonsense", "episode": "d/t/0/1"}),
        json!({"feedback": "undo", "episode": 7}),
        json!({"feedback": "undo", "episode": "d/t/0/1", "at": 7}),
    ] {
        assert!(!valid(&schema, &bad) && read(&bad).is_err(), "{bad}");
    }
}

/// With every field that there is.
fn alert(event: AlertEvent, kind: AlertKind, severity: Severity) -> Alert {
    let feature = |actual: Option<f64>| Attribution {
        feature: "x".to_owned(),
        share: 0.5,
        still: actual.map(|_| 3),
        actual,
        expected: 1.0,
    };
    let time = || Timestamp(1_772_366_400_000);
    Alert {
        schema: 1,
        id: "d/t/0/1".into(),
        event,
        kind,
        detector: "d".into(),
        key: Key("k".into()),
        data_time: time(),
        approx_anomaly_start_time: time(),
        end_time: Some(time()),
        anomaly_score: 2.5,
        peak_score: 3.0,
        anomaly_grade: 0.5,
        confidence: 1.0,
        severity,
        p_value: 1e-9,
        threshold: 2.0,
        records: 3,
        evidence: 9.5,
        evidence_threshold: 8.0,
        evidence_records: 5,
        relevant_attribution: vec![feature(Some(2.0)), feature(None)],
        suppressed: Some(3),
        within: Some("d/t/0/0".into()),
        abandoned: true,
        url: Some("https://x/episode/d/t/0/1".to_owned()),
        scored_by: ScoredBy::Seasonal,
        input: InputRef {
            at: TopicPartition::new("t", 0),
            offset: Offset(1),
        },
    }
}

#[test]
fn alerts_are_as_their_schema_says() {
    let schema = read_schema("docs/alert.schema.json");
    let mut all = Vec::new();
    for event in [AlertEvent::Open, AlertEvent::Update, AlertEvent::Close] {
        for kind in [AlertKind::Score, AlertKind::Silence, AlertKind::Storm] {
            for severity in [
                Severity::Low,
                Severity::Medium,
                Severity::High,
                Severity::Critical,
            ] {
                all.push(alert(event, kind, severity));
            }
        }
    }
    let full = serde_json::to_value(&all[0]).unwrap();
    let known = schema["properties"].as_object().unwrap();
    let names = |of: &Value| of.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&full), known.keys().cloned().collect::<Vec<_>>());
    all.push(Alert {
        end_time: None,
        suppressed: None,
        within: None,
        abandoned: false,
        url: None,
        scored_by: ScoredBy::Model(ModelVersion(4)),
        relevant_attribution: Vec::new(),
        ..all[0].clone()
    });
    for alert in &all {
        let value = serde_json::to_value(alert).unwrap();
        assert!(valid(&schema, &value), "{value}");
        let read: Alert = serde_json::from_value(value).unwrap();
        assert_eq!(read, *alert);
    }
    // What is always there is required, and the rest is not.
    let least = serde_json::to_value(all.last().unwrap()).unwrap();
    let mut required: Vec<&str> = schema["required"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    required.sort_unstable();
    assert_eq!(names(&least), required);
    for name in names(&least) {
        let mut less = least.clone();
        less.as_object_mut().unwrap().remove(&name);
        assert!(!valid(&schema, &less), "{name}");
    }
}

/// Holds values, the first with all fields and the last with as few as there can be, against a schema.
fn held<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, values: &[T]) {
    let schema = read_schema(name);
    let names = |of: &Value| of.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let full = serde_json::to_value(&values[0]).unwrap();
    assert_eq!(names(&full), names(&schema["properties"]));
    for value in values {
        let json = serde_json::to_value(value).unwrap();
        assert!(valid(&schema, &json), "{json}");
        assert_eq!(serde_json::from_value::<T>(json).unwrap(), *value);
    }
    let least = serde_json::to_value(&values[values.len() - 1]).unwrap();
    for name in names(&least) {
        let mut less = least.clone();
        less.as_object_mut().unwrap().remove(&name);
        assert!(!valid(&schema, &less), "{name}");
    }
}

#[test]
fn scores_and_drift_are_as_their_schemas_say() {
    let alert = alert(AlertEvent::Open, AlertKind::Score, Severity::Low);
    let score = Score {
        detector: alert.detector.clone(),
        key: alert.key.clone(),
        time: alert.data_time,
        score: 2.5,
        p_value: 0.25,
        alert: true,
        warming_up: false,
        scored_by: ScoredBy::Seasonal,
        input: alert.input.clone(),
        code: Some(vec![0.5]),
    };
    let least = Score {
        scored_by: ScoredBy::ColdStart,
        code: None,
        ..score.clone()
    };
    held("docs/score.schema.json", &[score, least]);
    let drift = |event, scored_by| Drift {
        schema: 1,
        id: "d/t/0/1-drift".into(),
        event,
        detector: alert.detector.clone(),
        key: alert.key.clone(),
        data_time: alert.data_time,
        approx_drift_start_time: alert.data_time,
        level: 2.5,
        usual_level: 1.0,
        scored_by,
        input: alert.input.clone(),
    };
    let all = [
        drift(DriftEvent::Begin, ScoredBy::Seasonal),
        drift(DriftEvent::End, ScoredBy::Model(ModelVersion(4))),
    ];
    held("docs/drift.schema.json", &all);
}
