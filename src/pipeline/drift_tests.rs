//! Drift through the whole pipeline: what rises slowly and stays is emitted as such, and only that.

use rand::Rng;

use super::tests::{assignment, at, batch, params};
use super::*;
use crate::alert::{Alert, AlertEvent, Drift, DriftEvent, ScoredBy};
use crate::detect::Budget;
use crate::seed::Seed;

/// What a stretch of records led to.
#[derive(Debug, Default, PartialEq)]
struct Emitted {
    drift: Vec<Drift>,
    openings: usize,
}

fn ready() -> Pipeline {
    let params = Params {
        budget: Budget::PerKeyDay(1.0 / 7.0),
        time_scales: vec![1, 5, 30, 300],
        close_evidence: 8.0,
        emit_scores: false,
        snapshot_records: 500,
        ..params()
    };
    let mut pipeline = super::tests::pipeline(params, Missing::Mask);
    pipeline.promote(super::tests::model(1, 1)).unwrap();
    pipeline.assign(&assignment(0, Vec::new()), None).unwrap();
    pipeline
}

/// Records of `keys` keys in turns, a second apart. The surprise of the n-th record of a key is `times(key, n)` times what its model expects.
fn records(
    keys: i64,
    from: i64,
    to: i64,
    times: impl Fn(i64, i64) -> f64,
) -> Vec<(i64, String, [f64; 2])> {
    let mut rng = Seed(9).nth(from as u64).rng();
    (from..to)
        .map(|offset| {
            let (key, n) = (offset % keys, offset / keys);
            let p = (1.0 - rng.gen_range(0.0..1.0_f64)).powf(times(key, n));
            // The model's score is the mean of the squares, and uniform where all is well.
            let value = (1.0 - p).sqrt();
            (offset, format!("k{key}"), [value, value])
        })
        .collect()
}

fn run(pipeline: &mut Pipeline, records: &[(i64, String, [f64; 2])], size: usize) -> Emitted {
    let mut emitted = Emitted::default();
    for part in records.chunks(size) {
        let rows: Vec<super::tests::Row<'_>> = part
            .iter()
            .map(|(offset, key, values)| (*offset, &**key, offset * 1000, &values[..]))
            .collect();
        let (batch, decoded) = batch(&rows);
        let staged = pipeline.stage(&batch, &decoded);
        emitted.drift.extend(staged.outbox.drift.iter().cloned());
        let opens = |alert: &&Alert| alert.event == AlertEvent::Open;
        emitted.openings += staged.outbox.alerts.iter().filter(opens).count();
        pipeline.apply(staged);
    }
    emitted
}

fn ramp(_: i64, n: i64) -> f64 {
    1.0 + (n.clamp(4_000, 16_000) - 4_000) as f64 / 6_000.0
}

#[test]
fn a_slow_ramp_is_one_drift_and_no_storm_of_alerts() {
    let emitted = run(&mut ready(), &records(1, 0, 18_000, ramp), 700);
    assert_eq!(emitted.drift.len(), 1, "{emitted:?}");
    let drift = &emitted.drift[0];
    assert_eq!((drift.event, drift.key.as_str()), (DriftEvent::Begin, "k0"));
    assert!(drift.level > 1.5 * drift.usual_level, "{drift:?}");
    assert!((7_000..11_000).contains(&drift.input.offset.0), "{drift:?}");
    assert_eq!(drift.scored_by, ScoredBy::Model(ModelVersion(1)));
    assert!(emitted.openings <= 1, "{}", emitted.openings);
}

#[test]
fn a_step_that_stays_is_drift_until_it_is_over() {
    let step = |_, n| {
        if (5_000..12_000).contains(&n) {
            2.0
        } else {
            1.0
        }
    };
    let emitted = run(&mut ready(), &records(1, 0, 15_000, step), 700);
    let events: Vec<DriftEvent> = emitted.drift.iter().map(|drift| drift.event).collect();
    assert_eq!(events, [DriftEvent::Begin, DriftEvent::End], "{emitted:?}");
    assert_eq!(emitted.drift[0].id, emitted.drift[1].id);
    assert_eq!(
        emitted.drift[0].approx_drift_start_time,
        Timestamp(5_000_000)
    );
}

#[test]
fn a_spike_and_a_fault_that_ends_are_no_drift() {
    let fault = |_, n| match n {
        5_000..5_005 => 1_000.0,
        8_000..8_700 => 8.0,
        _ => 1.0,
    };
    let emitted = run(&mut ready(), &records(1, 0, 12_000, fault), 700);
    assert!(emitted.openings >= 1, "{}", emitted.openings);
    assert_eq!(emitted.drift, []);
}

#[test]
fn a_fleet_without_drift_tells_none() {
    // Keys are unlike each other from the first record on.
    let unlike = |key, _| 0.7 + 0.1 * f64::from((key % 10) as u8);
    let emitted = run(&mut ready(), &records(20, 0, 100_000, unlike), 5_000);
    assert_eq!(emitted.drift, []);
}

#[test]
fn drift_does_not_depend_on_batches_nor_on_a_restart() {
    let records = records(1, 0, 12_000, ramp);
    let whole = run(&mut ready(), &records, 700);
    assert_eq!(whole.drift.len(), 1);
    assert_eq!(run(&mut ready(), &records, 61), whole);
    // A restart in the middle of the count: from a snapshot and by replay.
    let begun = whole.drift[0].input.offset.0 as usize;
    let mut before = ready();
    let mut state: BTreeMap<Vec<u8>, StateEntry> = BTreeMap::new();
    let cut = begun - 300;
    for part in records[..cut].chunks(450) {
        let rows: Vec<super::tests::Row<'_>> = part
            .iter()
            .map(|(offset, key, values)| (*offset, &**key, offset * 1000, &values[..]))
            .collect();
        let (batch, decoded) = batch(&rows);
        let staged = before.stage(&batch, &decoded);
        for entry in &staged.outbox.state {
            state.insert(entry.key.clone(), entry.clone());
        }
        before.apply(staged);
    }
    let state: Vec<StateEntry> = state.into_values().collect();
    let mut after = super::tests::pipeline((*before.params).clone(), Missing::Mask);
    after.promote(super::tests::model(1, 1)).unwrap();
    let assigned = assignment(cut as i64, state);
    let read_from = after
        .assign(&assigned, Some(super::tests::model(1, 1)))
        .unwrap()
        .read_from;
    assert!(read_from > Offset(0) && read_from < Offset(cut as i64));
    let emitted = run(&mut after, &records[read_from.0 as usize..], 700);
    assert_eq!(emitted.drift, whole.drift);
    assert_eq!(emitted.drift[0].input.at, at());
}

#[test]
fn a_key_that_is_forgotten_ends_its_drift() {
    let mut pipeline = ready();
    run(&mut pipeline, &records(1, 0, 14_000, ramp), 700);
    pipeline.params = Arc::new(Params {
        keys_max: 1,
        ..(*pipeline.params).clone()
    });
    let other = [(14_000, "other".to_owned(), [0.1, 0.1])];
    let emitted = run(&mut pipeline, &other, 1);
    assert_eq!(emitted.drift.len(), 1);
    assert_eq!(emitted.drift[0].event, DriftEvent::End);
}
