//! A stream of one feature, judged by the season of its key.

use super::*;
use crate::alert::ScoredBy;
use crate::detect::Budget;
use crate::model::trained::TrainedModel;
use crate::record::{Decoded, Key, Missing};
use crate::seed::Seed;
use crate::stats::calibration::Calibration;
use rand::Rng;

/// Five minutes.
pub(super) const STEP: i64 = 300_000;
pub(super) const DAY: i64 = 288;

pub(super) fn pipeline() -> Pipeline {
    pipeline_with(Params {
        budget: Budget::PerRecord(1e-4),
        seasonal: true,
        silence_factor: 0.0,
        snapshot_records: 100,
        emit_scores: true,
        ..Params::default()
    })
}

pub(super) fn pipeline_with(params: Params) -> Pipeline {
    let column = Column {
        name: "load".to_owned(),
        missing: Missing::Mask,
        context: false,
    };
    Pipeline::new(Arc::new(params), Arc::new([column]))
}

pub(super) fn assignment(committed: Offset, state: Vec<StateEntry>) -> PartitionAssignment {
    PartitionAssignment {
        at: TopicPartition::new("in", 0),
        ..super::tests::assignment(committed.0, state)
    }
}

/// The load of a day: high at noon, low at night, noisy; a broken one is 40 lower.
pub(super) fn load(i: i64, broken: bool) -> f64 {
    let turn = std::f64::consts::TAU * i as f64 / DAY as f64;
    let noise = Seed(1).nth(i as u64).rng().gen_range(-1.0..1.0);
    100.0 - 10.0 * turn.cos() + noise - if broken { 40.0 } else { 0.0 }
}

/// Records `from..to`, of which those from `fault` on are broken.
fn work(pipeline: &mut Pipeline, from: i64, to: i64, fault: i64) -> (Outbox, Tally) {
    let mut batch = RecordBatch::default();
    let mut decoded = DecodedBatch {
        columns: 1,
        ..DecodedBatch::default()
    };
    for i in from..to {
        let time = Timestamp(i * STEP);
        let at = TopicPartition::new("in", 0);
        batch.push(&at, (Offset(i), time), None, Some(b"value"), Vec::new());
        decoded.values.push(load(i, i >= fault));
        decoded.outcomes.push(Ok(Decoded {
            key: Key(Arc::from("k")),
            time,
        }));
    }
    let mut staged = pipeline.stage(&batch, &decoded);
    let outbox = std::mem::take(&mut staged.outbox);
    let tally = std::mem::take(&mut staged.tally);
    pipeline.apply(staged);
    (outbox, tally)
}

#[test]
fn a_fault_of_seven_days_is_still_open_on_the_seventh() {
    let mut pipeline = pipeline();
    pipeline
        .assign(&assignment(Offset(0), Vec::new()), None)
        .unwrap();
    let (_, calm) = work(&mut pipeline, 0, 10 * DAY, i64::MAX);
    assert_eq!((calm.opened, calm.warming_up), (0, 30));
    let (outbox, fault) = work(&mut pipeline, 10 * DAY, 17 * DAY, 10 * DAY);
    assert_eq!((fault.opened, fault.closed), (1, 0));
    let alert = &outbox.alerts[0];
    let blamed = &alert.relevant_attribution[0];
    assert!((blamed.share - 1.0).abs() < 1e-12);
    // Midnight: the season expects 90.
    assert!((blamed.expected - 90.0).abs() < 2.0, "{}", blamed.expected);
    assert!(alert.scored_by == ScoredBy::Seasonal && alert.anomaly_score >= alert.threshold);
    let (_, repaired) = work(&mut pipeline, 17 * DAY, 18 * DAY, i64::MAX);
    assert_eq!(repaired.closed, 1);
}

#[test]
fn the_season_is_named_where_it_judged_and_not_the_model() {
    let mut pipeline = pipeline();
    let calibration = Calibration::fit(&[]);
    let model = Arc::new(TrainedModel::simple(7, &["load"], 1, calibration));
    pipeline
        .assign(&assignment(Offset(0), Vec::new()), Some(model))
        .unwrap();
    let (outbox, _) = work(&mut pipeline, 0, 3 * DAY, 3 * DAY - 40);
    let alert = &outbox.alerts[0];
    assert_eq!(alert.scored_by, ScoredBy::Seasonal);
    assert_eq!(outbox.scores[0].scored_by, ScoredBy::Seasonal);
}

#[test]
fn what_is_restored_from_a_snapshot_goes_on_bit_for_bit() {
    let mut calm = pipeline();
    calm.assign(&assignment(Offset(0), Vec::new()), None)
        .unwrap();
    let mut state = std::collections::BTreeMap::new();
    for day in 0..4 {
        let (outbox, _) = work(&mut calm, day * DAY, (day + 1) * DAY, i64::MAX);
        state.extend(
            outbox
                .state
                .into_iter()
                .map(|entry| (entry.key.clone(), entry)),
        );
    }
    // The last snapshot is older than what was committed: the records between are replayed, untold.
    let mut restored = pipeline();
    let committed = Offset(4 * DAY);
    let state: Vec<StateEntry> = state.into_values().collect();
    restored
        .assign(&assignment(committed, state), None)
        .unwrap();
    let (replayed, _) = work(&mut restored, 0, 4 * DAY, i64::MAX);
    assert!(replayed.scores.is_empty());
    let (expected, _) = work(&mut calm, 4 * DAY, 5 * DAY, 4 * DAY + 10);
    let (found, _) = work(&mut restored, 4 * DAY, 5 * DAY, 4 * DAY + 10);
    assert_eq!(
        (&found.scores, &found.alerts),
        (&expected.scores, &expected.alerts)
    );
    assert!(!found.alerts.is_empty());
}
