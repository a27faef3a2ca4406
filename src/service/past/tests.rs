//! Records read again from a log in memory.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::detect::Params;
use crate::model::card::{Card, ModelVersion};
use crate::model::gate_report::Decision;
use crate::model::trained::TrainedModel;
use crate::pipeline::Column;
use crate::record::RecordBatch;
use crate::record::decode::Decoder;
use crate::record::schema::{Schema, SchemaSpec};
use crate::stats::calibration::Calibration;
use crate::stream::{Offset, Span, TopicPartition};
use crate::time::{ManualClock, Timestamp};

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn schema() -> Arc<Schema> {
    let spec: SchemaSpec = serde_json::from_str(r#"{"features": ["x", "y"]}"#).unwrap();
    Arc::new(spec.check().unwrap())
}

/// Two partitions of ten keys in turn, the even ones in the first; one record a second.
struct Memory {
    len: i64,
    first: i64,
    late: bool,
    read: Cell<u64>,
}

impl Memory {
    fn of(len: i64) -> Self {
        Self {
            len,
            first: 0,
            late: false,
            read: Cell::new(0),
        }
    }
}

impl Log for Memory {
    type Error = String;

    fn places(&self) -> Result<Vec<TopicPartition>, String> {
        Ok(vec![at(0), at(1)])
    }

    fn ends(&self, _: &TopicPartition) -> Result<(Offset, Offset), String> {
        Ok((Offset(self.first), Offset(self.len)))
    }

    fn read_within(
        &mut self,
        span: &Span,
        bytes: usize,
        _: Duration,
    ) -> Result<Option<RecordBatch>, String> {
        let mut batch = RecordBatch::default();
        for offset in span.from.0..span.to.0 {
            let key = format!("k{}", 2 * (offset % 5) + i64::from(span.at.partition.0));
            let strange = if (900..910).contains(&offset) {
                50.0
            } else {
                0.0
            };
            let value = format!(
                r#"{{"x": {}, "y": 0.25}}"#,
                strange + (offset % 7) as f64 / 10.0
            );
            let place = (Offset(offset), Timestamp(1000 * offset));
            let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
            batch.push(&span.at, place, key, value, Vec::new());
        }
        self.read.set(self.read.get() + span.len());
        Ok((batch.bytes_len() <= bytes && !self.late).then_some(batch))
    }
}

fn asked(key: &str, place: Option<i64>, before: usize, after: usize) -> Asked {
    Asked {
        key: key.to_owned(),
        at: place.map(|_| at(0)),
        place: place.map(Offset),
        before,
        after,
    }
}

fn found(log: &mut Memory, asked: &Asked, bounds: Bounds) -> Found {
    let clock = ManualClock::at(Timestamp(0));
    read(log, &mut Decoder::new(schema()), asked, (bounds, &clock)).unwrap()
}

fn offsets(found: &Found) -> Vec<i64> {
    found.own.iter().map(|own| own.offset.0).collect()
}

#[test]
fn the_latest_records_of_a_key_are_found_in_whatever_partition_and_no_more_are_read_than_needed() {
    let mut log = Memory::of(100_000);
    let odd = found(&mut log, &asked("k3", None, 20, 0), Bounds::default());
    assert_eq!(
        (odd.at.clone(), odd.stopped),
        (Some(at(1)), Stopped::Enough)
    );
    let expected: Vec<i64> = (0..20).map(|n| 99_901 + 5 * n).collect();
    assert_eq!(offsets(&odd), expected);
    assert!(log.read.get() <= 512, "{}", log.read.get());
    // Before a place that is known.
    let before = found(
        &mut log,
        &asked("k2", Some(50_000), 3, 0),
        Bounds::default(),
    );
    assert_eq!(offsets(&before), [49_986, 49_991, 49_996]);
    // Around one: what comes from there on is part of it.
    let around = found(
        &mut log,
        &asked("k2", Some(50_001), 2, 3),
        Bounds::default(),
    );
    assert_eq!(offsets(&around), [49_991, 49_996, 50_001, 50_006, 50_011]);
    assert_eq!(around.at, Some(at(0)));
}

#[test]
fn what_the_log_has_no_more_is_the_beginning_and_each_bound_is_said() {
    let mut log = Memory::of(1_000);
    log.first = 400;
    let all = found(&mut log, &asked("k0", None, 5_000, 0), Bounds::default());
    assert_eq!((all.own.len(), all.stopped), (120, Stopped::Beginning));
    assert_eq!((offsets(&all)[0], all.looked_at), (400, 600));
    let none = found(&mut log, &asked("nobody", None, 10, 0), Bounds::default());
    assert_eq!(
        (none.at.is_none(), none.stopped),
        (true, Stopped::Beginning)
    );
    assert_eq!(none.looked_at, 1_200);

    let mut log = Memory::of(1_000_000);
    let few = Bounds {
        records: 5_000,
        ..Bounds::default()
    };
    let cut = found(&mut log, &asked("nobody", None, 10, 0), few);
    assert_eq!(cut.stopped, Stopped::Records);
    assert!(log.read.get() <= 5_000, "{}", log.read.get());
    let small = Bounds {
        bytes: 20_000,
        ..Bounds::default()
    };
    let cut = found(&mut log, &asked("k0", Some(900), 10_000, 0), small);
    assert_eq!(cut.stopped, Stopped::Bytes);
    assert!(!cut.own.is_empty() && cut.own.len() < 180);
    // Nothing of the key's records is missing between the first that is shown and the last.
    let shown = offsets(&cut);
    assert!(
        shown.windows(2).all(|pair| pair[1] - pair[0] == 5),
        "{shown:?}"
    );
    assert_eq!(shown.last(), Some(&895));
    log.late = true;
    let at_once = Bounds {
        time: Duration::ZERO,
        ..Bounds::default()
    };
    let cut = found(&mut log, &asked("k0", None, 10, 0), at_once);
    assert_eq!((cut.stopped, cut.own.len()), (Stopped::Time, 0));
}

fn model(version: u64, created: i64, promoted: bool) -> (Card, Arc<TrainedModel>) {
    let scores: Vec<f64> = (0..1000)
        .map(|i| f64::from(i * 617 % 1000) / 1000.0)
        .collect();
    let mut model = TrainedModel::simple(version, &["x", "y"], 1, Calibration::fit(&scores));
    model.card.created = Timestamp(1000 * created);
    if promoted {
        model.card.gate.decision = Decision::Promoted;
    }
    (model.card.clone(), Arc::new(model))
}

fn judged(found: &Found, stored: &[(Card, Arc<TrainedModel>)], kept: &[u64]) -> Past {
    let cards: Vec<Card> = stored.iter().map(|(card, _)| card.clone()).collect();
    let champion = cards.last().map(|card| card.version);
    let mut models = ModelsOfThen::new(&cards, champion);
    let by_version: BTreeMap<ModelVersion, &Arc<TrainedModel>> = stored
        .iter()
        .map(|(card, model)| (card.version, model))
        .collect();
    for version in models.needed(found).into_iter().chain(champion) {
        if kept.contains(&version.0) {
            models.loaded(Arc::clone(by_version[&version]));
        }
    }
    let schema = schema();
    let columns = Column::list(schema.columns(), schema.missing(), schema.context());
    let judging = (&Params::default(), columns);
    let records = judge(
        found,
        &models,
        judging,
        &mut Decoder::new(Arc::clone(&schema)),
    );
    Past {
        columns: schema.columns().to_vec(),
        records: records.unwrap(),
        looked_at: found.looked_at,
        stopped: found.stopped,
    }
}

#[test]
fn each_record_is_judged_by_the_model_of_then_and_says_what_was_expected() {
    let mut log = Memory::of(1_000);
    let found = found(
        &mut log,
        &asked("k0", Some(850), 100, 30),
        Bounds::default(),
    );
    assert_eq!(found.own.len(), 130);
    // The second was in use from 700 s on, what the gate refused never, and the last one only since 5,000 s.
    let stored = [
        model(1, 0, true),
        model(2, 700, true),
        model(3, 800, false),
        model(4, 5_000, true),
    ];
    let past = judged(&found, &stored, &[1, 2, 3, 4]);
    assert_eq!(past.records.len(), 130);
    let by = |seen: &Watched| (seen.input.offset.0, seen.scored_by.version().unwrap().0);
    assert!(
        past.records
            .iter()
            .map(by)
            .all(|(offset, version)| version == if offset < 700 { 1 } else { 2 })
    );
    assert!(
        past.records
            .iter()
            .all(|seen| seen.row.len() == 2 && seen.expected == [0.0, 0.0])
    );
    let told = past.told("k0", 1_000);
    assert_eq!(
        (told.points.len(), told.found, &told.models[..]),
        (130, 130, &[1, 2][..])
    );
    assert!(
        told.points.iter().any(|point| point.p_value < 1e-3),
        "the fault"
    );
    assert!(
        told.spreads.iter().all(Option::is_some),
        "{:?}",
        told.spreads
    );
    assert!(
        told.message
            .starts_with("read again from the log, judged by models 1, 2;")
    );
    // One that is stored no more is replaced by the one in use; and so is what came before all that are stored.
    let past = judged(&found, &stored, &[2, 4]);
    assert_eq!(past.told("k0", 10).models, [2, 4]);
    let past = judged(&found, &stored[3..], &[4]);
    assert_eq!(past.told("k0", 10).models, [4]);
    // Without any the key's own past judges, and what warms up says what it was.
    let past = judged(&found, &[], &[]);
    assert_eq!(past.told("k0", 10).models, [0]);
    assert!(past.records[0].warming_up && past.records[0].row.len() == 2);
    assert!(past.records[0].expected.iter().all(|value| value.is_nan()));
}
