//! A stream of one feature, judged by the season of its key.

use super::*;
use crate::alert::{Alert, Score, ScoredBy};
use crate::detect::Budget;
use crate::model::card::{Feedback, ModelVersion, Said};
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
fn the_season_is_named_unless_the_model_finds_a_record_rarer() {
    // What a model says that has seen scores up to so much, of loads about 100 and broken ones about 60: its score is the square.
    let told = |largest: i32, of: std::ops::Range<i64>| {
        let mut pipeline = pipeline();
        let seen: Vec<f64> = (0..1000).map(|i| f64::from(i * largest) / 1000.0).collect();
        let model = TrainedModel::simple(7, &["load"], 1, Calibration::fit(&seen));
        pipeline
            .assign(&assignment(Offset(0), Vec::new()), Some(Arc::new(model)))
            .unwrap();
        let (outbox, _) = work(&mut pipeline, of.start, of.end, 3 * DAY - 40);
        outbox
    };
    // To this one all is ordinary: what is broken is so by the time of day.
    let outbox = told(30_000, 0..3 * DAY);
    let broken = |alert: &&Alert| alert.input.offset.0 >= 3 * DAY - 40;
    let alert = outbox.alerts.iter().find(broken).unwrap();
    assert_eq!(alert.scored_by, ScoredBy::Seasonal);
    let named = |by| move |score: &&Score| score.scored_by == by;
    let season = outbox.scores.iter().filter(named(ScoredBy::Seasonal));
    assert_eq!(season.count(), outbox.scores.len());
    // To this one nothing is: it is named from the first record on, though the season finds them ordinary.
    let outbox = told(10, 0..DAY);
    let alert = &outbox.alerts[0];
    assert_eq!(alert.scored_by, ScoredBy::Model(ModelVersion(7)));
    assert!(alert.input.offset.0 < 10 && alert.anomaly_score >= alert.threshold);
}

#[test]
fn what_is_normal_from_now_on_is_ordinary_soon_the_same_after_a_restart() {
    let said = |called: &[Feedback]| {
        let id = EpisodeId::new(
            "anomalyd",
            &assignment(Offset(0), Vec::new()).at,
            Offset(10 * DAY),
        );
        let called = called.iter().map(|called| (id.clone(), *called));
        Arc::new(called.collect::<Said>())
    };
    let run = |called: &[Feedback], restarts: bool| {
        let mut pipeline = pipeline();
        let mut state = std::collections::BTreeMap::new();
        let none = assignment(Offset(0), Vec::new());
        pipeline.assign(&none, None).unwrap();
        let mut keep = |outbox: &Outbox| {
            state.extend(
                outbox
                    .state
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.clone())),
            );
            state.values().cloned().collect::<Vec<StateEntry>>()
        };
        keep(&work(&mut pipeline, 0, 10 * DAY, i64::MAX).0);
        keep(&work(&mut pipeline, 10 * DAY, 10 * DAY + 24, 10 * DAY).0);
        // All is saved, and nothing came since: what is heard alone must be.
        let quiet = pipeline.positions();
        while let Some(staged) = pipeline.flush_idle_snapshots(&quiet) {
            keep(&staged.outbox);
            pipeline.apply(staged);
        }
        pipeline.hear(said(called));
        let (outbox, mut tally) = work(&mut pipeline, 10 * DAY + 24, 10 * DAY + 30, 0);
        let state = keep(&outbox);
        if restarts {
            pipeline = self::pipeline();
            let committed = assignment(Offset(10 * DAY + 30), state);
            pipeline.assign(&committed, None).unwrap();
            let from = pipeline.positions()[&committed.at].0;
            work(&mut pipeline, from, 10 * DAY + 30, 0);
        }
        let (outbox, rest) = work(&mut pipeline, 10 * DAY + 30, 12 * DAY, 0);
        tally.closed += rest.closed;
        (tally.closed, rest.opened, outbox.scores, outbox.alerts)
    };
    let normal = run(&[Feedback::NewNormal], false);
    assert_eq!((normal.0, normal.1), (1, 0));
    assert_eq!(run(&[], false).0, 0);
    assert_eq!(run(&[Feedback::TruePositive], false).0, 0);
    let restarted = run(&[Feedback::NewNormal], true);
    assert!((restarted.2, restarted.3) == (normal.2, normal.3));
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
