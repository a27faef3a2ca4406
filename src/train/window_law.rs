//! The law of windows: the same records give the same windows, with the same numbers, where they are scored and where they are learnt. Backtests
//! score by the pipeline that is asked here.

use std::sync::Arc;
use std::time::Duration;

use ndarray::Array2;
use proptest::prelude::*;

use super::evidence::EpisodeSettings;
use super::rows::PartitionRows;
use super::split::Window;
use super::window::Windows;
use super::{Params, TrainData, TrainJob, TrainSettings, sample};
use crate::detect::Budget;
use crate::model::card::ModelVersion;
use crate::model::spec::ModelSpec;
use crate::model::trained::TrainedModel;
use crate::pipeline::{Column, PartitionAssignment, Pipeline};
use crate::record::{DecodeError, Decoded, DecodedBatch, Key, Missing, RecordBatch};
use crate::seed::Seed;
use crate::stats::calibration::Calibration;
use crate::stream::{Offset, TopicPartition};
use crate::time::Timestamp;

/// Two columns, the second of which takes the key's last value where it is missing; `None`: it cannot be read.
type Row = Option<[f64; 2]>;

/// One record of a partition.
#[derive(Clone, Debug)]
struct Record {
    offset: Offset,
    key: Key,
    time: Timestamp,
    row: Row,
}

/// A window: the offset of its newest record, and its score, bit for bit.
type Scored = (Offset, u64);

/// Which of two keys, a step of its clock in milliseconds, and by how much the record's own time lies behind it.
type Step = (bool, i64, i64, Row);

fn at() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn records(steps: &[Step]) -> Vec<Record> {
    let mut clocks = [1_700_000_000_000; 2];
    (0..)
        .zip(steps)
        .map(|(offset, (key, step, behind, row))| {
            let clock = &mut clocks[usize::from(*key)];
            *clock += step;
            Record {
                offset: Offset(offset),
                key: Key(if *key { "a" } else { "b" }.into()),
                time: Timestamp(*clock - behind),
                row: *row,
            }
        })
        .collect()
}

fn decoded(records: &[Record]) -> (RecordBatch, DecodedBatch) {
    let mut batch = RecordBatch::default();
    let mut decoded = DecodedBatch {
        columns: 2,
        ..DecodedBatch::default()
    };
    for record in records {
        batch.push(&at(), (record.offset, record.time), None, None, Vec::new());
        decoded.values.extend(record.row.unwrap_or([f64::NAN; 2]));
        decoded.outcomes.push(match record.row {
            Some(_) => Ok(Decoded {
                key: record.key.clone(),
                time: record.time,
            }),
            None => Err(DecodeError::NullValue),
        });
    }
    (batch, decoded)
}

fn model(window: usize) -> TrainedModel {
    TrainedModel::simple(1, &["x", "y"], window, Calibration::fit(&[1.0; 100]))
}

/// The windows that training builds.
fn learnt(records: &[Record], window: usize, late_after: Option<Duration>) -> Vec<Scored> {
    let mut rows = PartitionRows::new(at(), 2);
    let (batch, decoded) = decoded(records);
    sample::visit(&batch, &decoded, &mut |key, time, offset, row| {
        rows.push(key, time, offset, row);
    });
    let settings = TrainSettings {
        detector: "d".to_owned(),
        spec: ModelSpec {
            window,
            ..ModelSpec::default()
        },
        schema: None,
        maintenance: Vec::new(),
        budget: Budget::PerRecord(1e-3),
        episodes: EpisodeSettings::default(),
        params: Params {
            late_after,
            ..Params::default()
        },
        seed: Seed(0),
    };
    let data = TrainData {
        columns: vec!["x".to_owned(), "y".to_owned()],
        fill_last: vec![1],
        rows: vec![rows],
        ..TrainData::default()
    };
    let job = TrainJob::new(&settings, (ModelVersion(1), Timestamp(0)), data);
    let built = Windows::build(&job, &[], &[]);
    let all: &[Window] = built.all();
    let rows: Array2<f64> = built.matrix(all);
    let seeds = vec![Seed(0); all.len()];
    let scores = model(window).raw_scores(rows.view(), &seeds).0;
    let ends = all.iter().map(|window| built.place(window).2);
    let mut found: Vec<Scored> = ends.zip(scores.iter().map(|s| s.to_bits())).collect();
    found.sort_unstable();
    found
}

/// The windows that the pipeline scores, of records that come in batches of `size`.
fn scored(
    records: &[Record],
    window: usize,
    (late_after, size): (Option<Duration>, usize),
) -> Vec<Scored> {
    let params = crate::detect::Params {
        window,
        late_after,
        emit_scores: true,
        ..crate::detect::Params::default()
    };
    let column = |name: &str, missing| Column {
        name: name.to_owned(),
        missing,
        context: false,
    };
    let columns = [column("x", Missing::Mask), column("y", Missing::Last)];
    let mut pipeline = Pipeline::new(Arc::new(params), Arc::new(columns));
    pipeline.promote(Arc::new(model(window))).unwrap();
    let assignment = PartitionAssignment::fresh(at(), Offset(0));
    pipeline.assign(&assignment, None).unwrap();
    let mut found = Vec::new();
    for part in records.chunks(size) {
        let (batch, decoded) = decoded(part);
        let staged = pipeline.stage(&batch, &decoded);
        let warm = staged.outbox.scores.iter().filter(|s| !s.warming_up);
        found.extend(warm.map(|score| (score.input.offset, score.score.to_bits())));
        pipeline.apply(staged);
    }
    found
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![5 => -1.0..1.0, 1 => Just(f64::NAN)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![20 => 500i64..1500, 1 => Just(0i64), 2 => -3_600_000i64..3_600_000];
    let behind = prop_oneof![12 => Just(0i64), 1 => 0i64..120_000];
    let row =
        prop_oneof![12 => (number(), number()).prop_map(|(x, y)| Some([x, y])), 1 => Just(None)];
    proptest::collection::vec((any::<bool>(), step, behind, row), 60..120)
}

proptest! {
    #[test]
    fn the_windows_that_are_learnt_are_those_that_are_scored(
        steps in steps(), window in 1usize..6, size in 1usize..50,
        late_after in prop_oneof![Just(None), (1u64..60).prop_map(|s| Some(Duration::from_secs(s)))],
    ) {
        let records = records(&steps);
        let scored = scored(&records, window, (late_after, size));
        prop_assert_eq!(learnt(&records, window, late_after), scored);
    }
}

#[test]
fn a_late_record_parts_no_neighbours() {
    let mut steps: Vec<Step> = vec![(true, 1000, 0, Some([0.5, 0.5])); 40];
    steps[30].2 = 20_000;
    let records = records(&steps);
    let late_after = Some(Duration::from_secs(10));
    let found = learnt(&records, 3, late_after);
    // All but the first two, which fill the window, and the late one.
    assert_eq!(found.len(), 37);
    assert_eq!(found, scored(&records, 3, (late_after, 7)));
}
