//! What is emitted is what the schemas of docs/schemas say, field by field, and is read back as it was: today's, and what was written by released ones.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::prelude::*;
use serde::de::DeserializeOwned;

use super::*;
use crate::alert::{
    Alert, AlertEvent, AlertKind, Attribution, Drift, DriftEvent, InputRef, Score, ScoredBy,
    Severity,
};
use crate::model::card::ModelVersion;
use crate::record::avro_schema::Writer;
use crate::record::protobuf_schema::Files;
use crate::record::tree::Tree;
use crate::record::{Key, avro_tree, protobuf_tree};
use crate::stream::{Offset, TopicPartition};
use crate::time::Timestamp;

/// With every field that there is.
fn full() -> Alert {
    let feature = |name: &str, actual: Option<f64>| Attribution {
        feature: name.to_owned(),
        share: 1.0 / 3.0,
        still: actual.map(|_| 7),
        actual,
        expected: -0.0,
    };
    Alert {
        schema: 1,
        id: "d/t/0/1".into(),
        event: AlertEvent::Close,
        kind: AlertKind::Silence,
        detector: "d".into(),
        key: Key("pump \"1\" µ".into()),
        data_time: Timestamp(1_772_366_400_123),
        approx_anomaly_start_time: Timestamp(-1),
        end_time: Some(Timestamp(0)),
        anomaly_score: 0.1 + 0.2,
        peak_score: 1e300,
        anomaly_grade: 0.5,
        confidence: 1.0,
        severity: Severity::Critical,
        p_value: 5e-324,
        threshold: 2.0,
        records: 1 << 40,
        evidence: 9.5,
        evidence_threshold: 8.0,
        evidence_records: 0,
        relevant_attribution: vec![feature("x", Some(2.0)), feature("", None)],
        suppressed: Some(0),
        within: Some("d/t/0/0".into()),
        abandoned: true,
        url: Some("https://x/episode/d/t/0/1".to_owned()),
        scored_by: ScoredBy::Seasonal,
        input: InputRef {
            at: TopicPartition::new("t", 7),
            offset: Offset(1 << 33),
        },
    }
}

/// With as few as there can be.
fn least() -> Alert {
    Alert {
        event: AlertEvent::Open,
        kind: AlertKind::Storm,
        end_time: None,
        severity: Severity::Low,
        relevant_attribution: Vec::new(),
        suppressed: None,
        within: None,
        abandoned: false,
        url: None,
        scored_by: ScoredBy::Model(ModelVersion(4)),
        ..full()
    }
}

fn score(code: Option<Vec<f32>>) -> Score {
    let Alert {
        detector,
        key,
        data_time,
        scored_by,
        input,
        ..
    } = least();
    Score {
        detector,
        key,
        time: data_time,
        score: 1e-9,
        p_value: 1.0 / 3.0,
        alert: true,
        warming_up: false,
        scored_by,
        input,
        code,
    }
}

fn drift(event: DriftEvent) -> Drift {
    let alert = full();
    Drift {
        schema: 1,
        id: "d/t/0/1-drift".into(),
        event,
        detector: alert.detector,
        key: alert.key,
        data_time: alert.data_time,
        approx_drift_start_time: Timestamp(5),
        level: 2.5,
        usual_level: 1.0,
        scored_by: ScoredBy::ColdStart,
        input: alert.input,
    }
}

/// The text of a schema: in docs/schemas, or as it was released.
fn schema(folder: &str, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    std::fs::read_to_string(path.join(name)).unwrap()
}

/// A value read back by a schema.
fn read<T: DeserializeOwned>(bytes: &[u8], (form, text): (Form, &str)) -> T {
    let (frame, body) = bytes.split_at(5);
    assert_eq!(frame, [0, 0, 0, 1, 2]);
    match form {
        Form::Json => unreachable!("it has no schema"),
        Form::Avro(_) => {
            let writer = Writer::parse(text).unwrap();
            let tree = avro_tree::read(body, &writer).unwrap();
            tree.into().unwrap()
        }
        Form::Protobuf(_) => {
            let files = Files::compile(text, BTreeMap::new()).unwrap();
            let tree = protobuf_tree::read(body, &files).unwrap();
            tree.into().unwrap()
        }
    }
}

const BINARY: [(Form, &str); 2] = [
    (Form::Avro(0x102), "avsc"),
    (Form::Protobuf(0x102), "proto"),
];

/// It comes back from all formats as it was.
fn comes_back<T>(name: &str, value: &T)
where
    T: Fields + Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let json: T = serde_json::from_slice(&Form::Json.bytes(value)).unwrap();
    assert_eq!(json, *value);
    for (form, ending) in BINARY {
        let text = schema("docs/schemas", &format!("{name}.{ending}"));
        let back: T = read(&form.bytes(value), (form, &text));
        assert_eq!(back, *value, "{form:?}");
    }
}

#[test]
fn what_is_emitted_comes_back_from_all_formats_as_it_was() {
    comes_back("alert", &full());
    comes_back("alert", &least());
    comes_back("score", &score(None));
    comes_back("score", &score(Some(Vec::new())));
    comes_back("score", &score(Some(vec![0.1, f32::MIN_POSITIVE])));
    comes_back("drift", &drift(DriftEvent::Begin));
    comes_back("drift", &drift(DriftEvent::End));
}

#[test]
fn numbers_that_json_has_not_come_back_from_the_others() {
    let strange = [f64::INFINITY, f64::NEG_INFINITY, -0.0];
    for (number, (form, ending)) in strange.into_iter().zip(BINARY.into_iter().cycle()) {
        let alert = Alert {
            anomaly_score: number,
            ..full()
        };
        let text = schema("docs/schemas", &format!("alert.{ending}"));
        let back: Alert = read(&form.bytes(&alert), (form, &text));
        assert_eq!(back.anomaly_score.to_bits(), number.to_bits());
    }
}

/// The paths of all fields of a value as JSON has them.
fn paths(value: &serde_json::Value, before: &str, into: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                into.insert(format!("{before}{name}"));
                paths(value, &format!("{before}{name}."), into);
            }
        }
        serde_json::Value::Array(items) => {
            for item in items {
                paths(item, before, into);
            }
        }
        _ => {}
    }
}

/// The same of a value that was read by a schema.
fn tree_paths(value: &Tree<'_>, before: &str, into: &mut BTreeSet<String>) {
    match value {
        Tree::Fields(fields) => {
            for (name, value) in fields {
                into.insert(format!("{before}{name}"));
                tree_paths(value, &format!("{before}{name}."), into);
            }
        }
        Tree::List(items) => {
            for item in items {
                tree_paths(item, before, into);
            }
        }
        _ => {}
    }
}

/// The schemas have the fields of JSON and no others.
fn fields_are_those_of_json(name: &str, value: &(impl Fields + Serialize)) {
    let mut ours = BTreeSet::new();
    paths(&serde_json::to_value(value).unwrap(), "", &mut ours);
    let bytes = BINARY.map(|(form, _)| form.bytes(value));
    let writer = Writer::parse(&schema("docs/schemas", &format!("{name}.avsc"))).unwrap();
    let avro = avro_tree::read(&bytes[0][5..], &writer).unwrap();
    let text = schema("docs/schemas", &format!("{name}.proto"));
    let files = Files::compile(&text, BTreeMap::new()).unwrap();
    let protobuf = protobuf_tree::read(&bytes[1][5..], &files).unwrap();
    for tree in [avro, protobuf] {
        let mut theirs = BTreeSet::new();
        tree_paths(&tree, "", &mut theirs);
        assert_eq!(theirs, ours, "{name}");
    }
}

#[test]
fn the_schemas_have_the_fields_of_json_and_no_others() {
    fields_are_those_of_json("alert", &full());
    let scored_by = ScoredBy::Seasonal;
    let seasonal = Score {
        scored_by,
        ..score(Some(vec![0.5]))
    };
    fields_are_those_of_json("score", &seasonal);
    let seasonal = Drift {
        scored_by,
        ..drift(DriftEvent::Begin)
    };
    fields_are_those_of_json("drift", &seasonal);
}

#[test]
fn what_a_released_version_wrote_is_read() {
    // What fastavro and protoc's Python made of `full()` by the schemas of version 1: never made anew. A field that is added later has its default here.
    let mut written = full();
    written
        .relevant_attribution
        .iter_mut()
        .for_each(|part| part.still = None);
    let json: Alert = serde_json::from_str(&schema("tests/compatibility/1", "alert.json")).unwrap();
    assert_eq!(json, written);
    for (form, ending) in BINARY {
        let text = schema("tests/compatibility/1", &format!("alert.{ending}"));
        let hex = schema("tests/compatibility/1", &format!("alert.{ending}.hex"));
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let back: Alert = read(&bytes, (form, &text));
        assert_eq!(back, written, "{form:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_behind_an_id_are_an_alert_or_none(at in 0_usize..400, bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        thread_local! {
            static WRITERS: (Writer, Files) = (
                Writer::parse(&schema("docs/schemas", "alert.avsc")).unwrap(),
                Files::compile(&schema("docs/schemas", "alert.proto"), BTreeMap::new()).unwrap(),
            );
        }
        // A good alert, with a stretch of anything within it.
        let spoilt = BINARY.map(|(form, _)| {
            let mut good = form.bytes(&full()).split_off(5);
            let at = at.min(good.len());
            let end = (at + bytes.len()).min(good.len());
            good.splice(at..end, bytes.iter().copied());
            good
        });
        WRITERS.with(|(writer, files)| {
            for bytes in [&bytes, &spoilt[0], &spoilt[1]] {
                let _read = avro_tree::read(bytes, writer).map(Tree::into::<Alert>);
                let _read = protobuf_tree::read(bytes, files).map(Tree::into::<Alert>);
            }
        });
    }
}
