//! Small cases of the pipeline, each with one thing to see. What is true under faults and random records is proved in `tests/sim`.

use std::time::Duration;

use super::*;
use crate::alert::{Alert, AlertEvent, AlertKind, ScoredBy};
use crate::detect::Budget;
use crate::model::card::Feedback;
use crate::record::dead_letter::Refusal;
use crate::record::{DecodeError, Decoded, Header, Key};
use crate::stats::calibration::Calibration;

/// Offset, key, event time in ms, and the numbers; no numbers: a record that cannot be read.
pub(super) type Row<'a> = (i64, &'a str, i64, &'a [f64]);

pub(super) fn at() -> TopicPartition {
    TopicPartition::new("in", 3)
}

pub(super) fn params() -> Params {
    Params {
        detector: "test".into(),
        budget: Budget::PerRecord(0.01),
        time_scales: vec![1],
        close_evidence: 3.0,
        cooldown: Duration::ZERO,
        silence_factor: 0.0,
        emit_scores: true,
        ..Params::default()
    }
}

pub(super) fn model(version: u64, window: usize) -> Arc<TrainedModel> {
    // Scores of two columns in −1..1: means of squares, evenly spread from 0 to 1.
    let scores: Vec<f64> = (0..1000)
        .map(|i| f64::from(i * 617 % 1000) / 1000.0)
        .collect();
    let calibration = Calibration::fit(&scores);
    Arc::new(TrainedModel::simple(
        version,
        &["x", "y"],
        window,
        calibration,
    ))
}

pub(super) fn pipeline(params: Params, missing: Missing) -> Pipeline {
    assert_eq!(params.check(), Vec::new());
    let column = |name: &str| Column {
        name: name.to_owned(),
        missing,
        context: false,
    };
    Pipeline::new(Arc::new(params), Arc::new([column("x"), column("y")]))
}

pub(super) fn assignment(committed: i64, state: Vec<StateEntry>) -> PartitionAssignment {
    PartitionAssignment {
        at: at(),
        committed: Offset(committed),
        fresh: false,
        first: Offset(0),
        topic_id: None,
        state,
    }
}

/// A pipeline that holds the partition from 0 on, under model 1 with windows of `window`.
pub(super) fn ready(params: Params, window: usize) -> Pipeline {
    let mut pipeline = pipeline(params, Missing::Mask);
    pipeline.promote(model(1, window)).unwrap();
    pipeline.assign(&assignment(0, Vec::new()), None).unwrap();
    pipeline
}

pub(super) fn batch(rows: &[Row<'_>]) -> (RecordBatch, DecodedBatch) {
    let mut batch = RecordBatch::default();
    let mut decoded = DecodedBatch {
        columns: 2,
        ..DecodedBatch::default()
    };
    for (offset, key, time, values) in rows {
        let place = (Offset(*offset), Timestamp(*time));
        let header = Header {
            name: "own".into(),
            value: None,
        };
        batch.push(
            &at(),
            place,
            Some(key.as_bytes()),
            Some(b"value"),
            vec![header],
        );
        if values.is_empty() {
            decoded.values.extend([f64::NAN; 2]);
            decoded.outcomes.push(Err(DecodeError::NullValue));
        } else {
            decoded.values.extend(*values);
            let key = Key(Arc::from(*key));
            decoded.outcomes.push(Ok(Decoded {
                key,
                time: Timestamp(*time),
            }));
        }
    }
    (batch, decoded)
}

pub(super) fn stage(pipeline: &Pipeline, rows: &[Row<'_>]) -> Staged {
    let (batch, decoded) = batch(rows);
    pipeline.stage(&batch, &decoded)
}

/// Stages and applies.
pub(super) fn work(pipeline: &mut Pipeline, rows: &[Row<'_>]) -> (Outbox, Tally) {
    let staged = stage(pipeline, rows);
    let emitted = (staged.outbox.clone(), staged.tally.clone());
    pipeline.apply(staged);
    emitted
}

/// Scored by the model of this version.
fn by(version: u64) -> ScoredBy {
    ScoredBy::Model(ModelVersion(version))
}

pub(super) fn events(outbox: &Outbox) -> Vec<(String, AlertEvent)> {
    let alerts = outbox.alerts.iter();
    alerts
        .map(|alert| (alert.id.to_string(), alert.event))
        .collect()
}

pub(super) const CALM: &[f64] = &[0.1, 0.2];
pub(super) const WILD: &[f64] = &[9.0, 0.2];

#[test]
fn what_closes_names_what_it_opened_by() {
    let mut pipeline = ready(params(), 1);
    // Once it is over, the second feature has the larger share of ordinary scores.
    let calm: &[f64] = &[0.0, 0.3];
    let rows: Vec<Row<'_>> = (0..60)
        .map(|i| (i, "k", i * 1000, if i == 30 { WILD } else { calm }))
        .collect();
    let (outbox, _) = work(&mut pipeline, &rows);
    let told: Vec<(AlertEvent, &str)> = outbox
        .alerts
        .iter()
        .map(|alert| (alert.event, alert.relevant_attribution[0].feature.as_str()))
        .collect();
    let (open, close) = (told[0], told[told.len() - 1]);
    assert_eq!((open.0, close.0), (AlertEvent::Open, AlertEvent::Close));
    assert_eq!((open.1, close.1), ("x", "x"), "{told:?}");
    let closed = &outbox.alerts[outbox.alerts.len() - 1];
    let shares: f64 = closed.relevant_attribution.iter().map(|a| a.share).sum();
    assert!((shares - 1.0).abs() < 1e-9);
    // With what is observed now.
    assert_eq!(closed.relevant_attribution[0].actual, Some(0.0));
}

#[test]
fn an_alert_says_why_and_where() {
    let mut pipeline = ready(params(), 1);
    let (outbox, tally) = work(
        &mut pipeline,
        &[(0, "k", 5, CALM), (4, "k", 2_000_000, WILD)],
    );
    assert_eq!((tally.consumed, tally.scored, tally.opened), (2, 2, 1));
    assert_eq!(tally.rare, 1);
    assert_eq!(outbox.positions, Positions::from([(at(), Offset(5))]));
    let alert = &outbox.alerts[0];
    assert_eq!(alert.id, "test/in/3/4");
    assert_eq!(
        (alert.event, alert.kind, alert.scored_by),
        (AlertEvent::Open, AlertKind::Score, by(1))
    );
    assert!((alert.anomaly_score - f64::midpoint(81.0, 0.04)).abs() < 1e-4);
    assert!(alert.p_value < 0.01 && alert.anomaly_score > alert.threshold && alert.threshold > 0.9);
    let top = &alert.relevant_attribution[0];
    assert_eq!((top.feature.as_str(), top.actual), ("x", Some(9.0)));
    let sum: f64 = alert
        .relevant_attribution
        .iter()
        .map(|part| part.share)
        .sum();
    assert!((sum - 1.0).abs() < 1e-9 && top.share > 0.99);
    assert_eq!(alert.input.offset, Offset(4));
    assert!(!outbox.scores[0].alert && outbox.scores[1].alert);
}

#[test]
fn staging_changes_nothing_and_can_be_done_again() {
    let mut pipeline = ready(params(), 2);
    let rows: &[Row<'_>] = &[(0, "k", 1, CALM), (1, "k", 2, WILD), (2, "l", 3, &[])];
    let first = stage(&pipeline, rows).outbox;
    assert_eq!(stage(&pipeline, rows).outbox, first);
    assert_eq!(work(&mut pipeline, rows).0, first);
}

#[test]
fn one_batch_of_n_equals_n_batches_of_one() {
    let values: Vec<[f64; 2]> = (0..200)
        .map(|i| {
            let x = f64::from(i * 7919 % 101) / 60.0 - 0.8;
            [
                if i % 41 == 0 { f64::NAN } else { x },
                if i % 67 < 3 { 5.0 } else { x * x },
            ]
        })
        .collect();
    let keys = ["a", "b", "c", "d", "e"];
    let rows: Vec<Row<'_>> = values
        .iter()
        .zip(0_i64..)
        .map(|(values, i)| {
            let values: &[f64] = if i % 31 == 7 { &[] } else { values };
            (
                i * 2,
                keys[usize::try_from(i * i % 5).unwrap()],
                i * 100,
                values,
            )
        })
        .collect();
    let run = |size: usize| {
        let params = Params {
            silence_factor: 1.2,
            silence_min: Duration::from_millis(300),
            keys_max: 4,
            storm_opens_max: 1,
            storm_window: Duration::from_secs(1),
            ..params()
        };
        let mut pipeline = ready(params, 3);
        let mut all = Outbox::default();
        let mut consumed = 0;
        for part in rows.chunks(size) {
            let (outbox, tally) = work(&mut pipeline, part);
            all.alerts.extend(outbox.alerts);
            all.scores.extend(outbox.scores);
            all.dead_letters.extend(outbox.dead_letters);
            consumed += tally.consumed;
        }
        assert_eq!(consumed, 200);
        all
    };
    let one = run(1);
    assert!(one.alerts.len() > 8, "{:?}", events(&one));
    assert!(!one.dead_letters.is_empty());
    for size in [2, 7, 50, 200] {
        assert_eq!(run(size), one, "batches of {size}");
    }
}

#[test]
fn windows_fill_before_they_count() {
    let mut pipeline = ready(params(), 3);
    let (outbox, tally) = work(
        &mut pipeline,
        &[
            (0, "k", 1, WILD),
            (1, "k", 2, WILD),
            (2, "k", 3, &[3.0, 0.0]),
            (3, "k", 4, CALM),
        ],
    );
    assert_eq!((tally.warming_up, tally.scored), (2, 2));
    let emitted = &outbox.scores;
    assert!(
        emitted[0].warming_up
            && (emitted[0].p_value - 1.0).abs() < 1e-12
            && emitted[2].p_value < 0.01
    );
    // Mean of squares over the window's six numbers, oldest first: 81.04 + 81.04 + 9, then 81.04 + 9 + 0.05.
    assert!((emitted[2].score - 171.08 / 6.0).abs() < 1e-4);
    assert!((emitted[3].score - 90.09 / 6.0).abs() < 1e-4);
    // Padded with its oldest row: the mean is that of the row itself.
    assert!((emitted[0].score - 81.04 / 2.0).abs() < 1e-4);
}

#[test]
fn the_last_value_stands_in_where_the_policy_says_so() {
    let mut pipeline = pipeline(params(), Missing::Last);
    pipeline.promote(model(1, 1)).unwrap();
    pipeline.assign(&assignment(0, Vec::new()), None).unwrap();
    let nan = f64::NAN;
    let rows: &[Row<'_>] = &[
        (0, "k", 1, &[nan, 0.0]),
        (1, "k", 2, &[0.6, nan]),
        (2, "k", 3, &[nan, 0.8]),
    ];
    let (outbox, _) = work(&mut pipeline, rows);
    let emitted = &outbox.scores;
    assert!((emitted[1].score - 0.18).abs() < 1e-6);
    assert!((emitted[2].score - 0.5).abs() < 1e-6);
}

#[test]
fn what_is_context_has_no_say_in_the_cold_start() {
    let column = |name: &str, context: bool| Column {
        name: name.to_owned(),
        missing: Missing::Mask,
        context,
    };
    let judged = |context: bool| {
        let params = Params {
            cold_start_records: 10,
            ..params()
        };
        let columns = Arc::new([column("x", false), column("y", context)]);
        let mut pipeline = Pipeline::new(Arc::new(params), columns);
        pipeline.assign(&assignment(0, Vec::new()), None).unwrap();
        let values: Vec<[f64; 2]> = (0..20)
            .map(|i| {
                [
                    f64::from(i % 3),
                    f64::from(if i < 19 { i % 2 } else { 100 }),
                ]
            })
            .collect();
        let rows: Vec<Row<'_>> = values
            .iter()
            .zip(0..)
            .map(|(values, i)| (i, "k", i, values.as_slice()))
            .collect();
        work(&mut pipeline, &rows).0.scores[19].score
    };
    assert!(judged(false) > 50.0 && judged(true) < 2.0);
}

#[test]
fn without_a_model_records_are_scored_by_the_cold_start() {
    let mut pipeline = pipeline(
        Params {
            cold_start_records: 10,
            ..params()
        },
        Missing::Mask,
    );
    pipeline.assign(&assignment(0, Vec::new()), None).unwrap();
    let values: Vec<[f64; 2]> = (0..20)
        .map(|i| [f64::from(i * 7 % 5), f64::from(i % 3)])
        .collect();
    let rows: Vec<Row<'_>> = values
        .iter()
        .zip(0..)
        .map(|(values, i)| (i, "k", i, values.as_slice()))
        .collect();
    let (outbox, tally) = work(&mut pipeline, &rows);
    assert_eq!((tally.warming_up, tally.scored), (10, 10));
    assert!(outbox.alerts.is_empty());
    assert!(outbox.scores[19].score > 0.0);
    let (outbox, _) = work(&mut pipeline, &[(20, "k", 30, &[1e6, 1.0])]);
    let alert = &outbox.alerts[0];
    assert_eq!(
        (
            alert.scored_by,
            alert.relevant_attribution[0].feature.as_str()
        ),
        (ScoredBy::ColdStart, "x")
    );
    // A model comes: from the next batch on it judges, and the snapshot says so.
    pipeline.promote(model(1, 1)).unwrap();
    let (outbox, _) = work(&mut pipeline, &[(21, "k", 31, CALM)]);
    assert_eq!(model_version(&outbox.state).unwrap(), Some(ModelVersion(1)));
    assert_eq!(outbox.scores[0].scored_by, by(1));
}

#[test]
fn a_model_changes_between_batches_with_a_snapshot_and_never_in_replay() {
    let mut pipeline = ready(params(), 1);
    let (outbox, _) = work(&mut pipeline, &[(0, "k", 1, CALM)]);
    assert_eq!(model_version(&outbox.state).unwrap(), Some(ModelVersion(1)));
    let state = outbox.state;
    assert!(work(&mut pipeline, &[(1, "k", 2, CALM)]).0.state.is_empty());
    pipeline.promote(model(2, 1)).unwrap();
    let (outbox, _) = work(&mut pipeline, &[(2, "k", 3, CALM)]);
    assert_eq!(model_version(&outbox.state).unwrap(), Some(ModelVersion(2)));

    // The state of model 1 is taken over by a worker whose champion is model 2.
    let mut successor = self::pipeline(params(), Missing::Mask);
    successor.promote(model(2, 1)).unwrap();
    let assigned = successor
        .assign(&assignment(2, state), Some(model(1, 1)))
        .unwrap();
    assert_eq!((assigned.read_from, assigned.replay), (Offset(0), 2));
    let (outbox, tally) = work(&mut successor, &[(0, "k", 1, CALM)]);
    assert!(outbox.is_empty());
    assert_eq!((tally.replayed, tally.consumed), (1, 0));
    // This batch begins in replay and ends beyond it: judged by model 1 as a whole, emitted from offset 2 on.
    let (outbox, tally) = work(&mut successor, &[(1, "k", 2, CALM), (2, "k", 3, CALM)]);
    assert_eq!((tally.replayed, tally.consumed), (1, 1));
    assert_eq!(outbox.scores[0].scored_by, by(1));
    let (outbox, _) = work(&mut successor, &[(3, "k", 4, CALM)]);
    assert_eq!(outbox.scores[0].scored_by, by(2));
}

#[test]
fn state_that_cannot_be_used_is_put_away() {
    let mut pipeline = ready(
        Params {
            snapshot_records: 1,
            ..params()
        },
        1,
    );
    work(&mut pipeline, &[(0, "k", 1, WILD)]);
    let (outbox, _) = work(&mut pipeline, &[(1, "k", 2, WILD)]);
    let mut state = outbox.state;
    state.extend(
        work(&mut pipeline, &[(2, "k", 3, CALM)])
            .0
            .state
            .into_iter()
            .skip(1),
    );
    // The group's offset was set back below the snapshot.
    let mut successor = ready(params(), 1);
    let assigned = successor
        .assign(&assignment(0, state.clone()), Some(model(1, 1)))
        .unwrap();
    assert_eq!(assigned.discarded, Some(Discarded::Ahead));
    assert_eq!(assigned.read_from, Offset(0));
    // The first batch replaces it, and deletes what is no longer meant.
    let (outbox, _) = work(&mut successor, &[(0, "other", 1, CALM)]);
    let gone = outbox
        .state
        .iter()
        .filter(|entry| entry.value.is_none())
        .count();
    assert_eq!(gone, 1, "{:?}", outbox.state);

    let head: &mut StateEntry = state
        .iter_mut()
        .find(|entry| entry.key.ends_with(b"/head"))
        .unwrap();
    head.value = Some(seal::json(&serde_json::json!({"v": 9})));
    let error = successor.assign(&assignment(5, state), None).unwrap_err();
    assert!(error.to_string().contains("test/in/3/head"), "{error}");
}

#[test]
fn a_model_of_other_features_is_refused() {
    let mut pipeline = ready(params(), 1);
    let calibration = Calibration::fit(&[1.0]);
    let other = Arc::new(TrainedModel::simple(9, &["x", "z"], 1, calibration));
    assert!(pipeline.promote(other).is_err());
    assert_eq!(pipeline.current().unwrap().card.version, ModelVersion(1));
}

#[test]
fn what_is_flagged_is_quarantined_until_it_is_old() {
    let params = Params {
        quarantine_keep: Duration::from_millis(500),
        snapshot_records: 1,
        ..params()
    };
    let mut pipeline = ready(params, 1);
    let (outbox, _) = work(&mut pipeline, &[(0, "k", 1, CALM), (1, "k", 10, WILD)]);
    let open = quarantine(&outbox.state, &Said::new());
    assert_eq!(
        (open[0].from, open[0].to, open[0].key.as_str()),
        (Offset(1), None, "k")
    );
    assert_eq!(open[0].because, "test/in/3/1");
    let (outbox, _) = work(&mut pipeline, &[(2, "k", 20, CALM), (3, "k", 30, CALM)]);
    // As far as the fault lasted, not until it was sure that it was over.
    assert_eq!(
        quarantine(&outbox.state, &Said::new())[0].to,
        Some(Offset(2))
    );
    work(&mut pipeline, &[(4, "k", 1000, CALM)]);
    let (outbox, _) = work(&mut pipeline, &[(5, "k", 1001, CALM)]);
    let gone: Vec<_> = outbox
        .state
        .iter()
        .filter(|entry| entry.value.is_none())
        .collect();
    assert_eq!(gone[0].key, b"test/in/3/episode/test/in/3/1");
}

#[test]
fn a_key_that_falls_silent_is_told_by_the_records_of_others() {
    let params = Params {
        silence_factor: 3.0,
        silence_min: Duration::from_millis(20),
        ..params()
    };
    let mut pipeline = ready(params, 1);
    let mut rows: Vec<Row<'_>> = (0..12).map(|i| (i, "k", i * 10, CALM)).collect();
    // The last record of k is at 110; silent after 3 · 10 ms.
    rows.extend([
        (12, "l", 140, CALM),
        (13, "l", 141, CALM),
        (14, "l", 150, CALM),
        (15, "k", 155, CALM),
    ]);
    let (outbox, tally) = work(&mut pipeline, &rows);
    let id = "test/in/3/11-silence".to_owned();
    assert_eq!(
        events(&outbox),
        [(id.clone(), AlertEvent::Open), (id, AlertEvent::Close)]
    );
    assert_eq!((tally.opened, tally.closed), (1, 1));
    let emitted = &outbox.alerts;
    assert_eq!(
        (
            emitted[0].kind,
            emitted[0].key.as_str(),
            emitted[0].input.offset.0
        ),
        (AlertKind::Silence, "k", 13)
    );
    assert!(
        (emitted[0].anomaly_score - 3.1).abs() < 1e-9
            && (emitted[1].anomaly_score - 4.5).abs() < 1e-9
    );
}

#[test]
fn after_a_gap_of_its_own_the_window_of_a_key_fills_anew() {
    let params = Params {
        window: 3,
        ..params()
    };
    let mut pipeline = ready(params, 3);
    let mut rows: Vec<Row<'_>> = (0..12).map(|i| (i, "k", i * 1000, WILD)).collect();
    let (_, tally) = work(&mut pipeline, &rows);
    assert_eq!((tally.warming_up, tally.scored), (2, 10));
    // Five times its longest step is no gap yet, a little more is: two records fill the window then, with no WILD one in it.
    work(&mut pipeline, &[(12, "k", 16_000, WILD)]);
    rows = vec![
        (13, "l", 17_000, CALM),
        (14, "k", 42_000, CALM),
        (15, "k", 43_000, CALM),
        (16, "k", 44_000, CALM),
    ];
    let (outbox, tally) = work(&mut pipeline, &rows);
    assert_eq!((tally.warming_up, tally.scored), (3, 1));
    assert!(outbox.scores[3].score < 0.1, "{:?}", outbox.scores);
}

#[test]
fn a_storm_is_one_alert_and_what_outlasts_it_is_told_then() {
    let params = Params {
        storm_opens_max: 2,
        storm_window: Duration::from_millis(100),
        ..params()
    };
    let mut pipeline = ready(params, 1);
    let keys = ["a", "b", "c", "d", "e"];
    let rows: Vec<Row<'_>> = keys
        .iter()
        .zip(0..)
        .map(|(key, i)| (i, *key, i, WILD))
        .collect();
    let (outbox, tally) = work(&mut pipeline, &rows);
    let open = |id: &str| (format!("test/in/3/{id}"), AlertEvent::Open);
    let close = |id: &str| (format!("test/in/3/{id}"), AlertEvent::Close);
    assert_eq!(events(&outbox), [open("0"), open("1"), open("2-storm")]);
    assert_eq!((tally.opened, tally.suppressed), (5, 3));
    // Two of the held back close before the storm ends and are never emitted; the third is still there afterwards.
    let calm: Vec<Row<'_>> = (5..9)
        .map(|i| (i, if i < 7 { "c" } else { "d" }, i, CALM))
        .collect();
    assert_eq!(events(&work(&mut pipeline, &calm).0), []);
    // It takes most of those heard lately to show that time went on.
    let (outbox, _) = work(&mut pipeline, &[(9, "c", 100, CALM), (10, "d", 100, CALM)]);
    assert_eq!(events(&outbox), []);
    let (outbox, _) = work(&mut pipeline, &[(11, "e", 100, WILD)]);
    assert_eq!(events(&outbox), [close("2-storm"), open("4")]);
    assert_eq!(outbox.alerts[0].suppressed, Some(3));
}

#[test]
fn the_calm_between_two_faults_of_a_key_is_not_quarantined() {
    let params = Params {
        cooldown: Duration::from_secs(60),
        ..params()
    };
    let rows: Vec<Row<'_>> = (0..60)
        .map(|i| (i, "k", i + 1, if i % 20 == 3 { WILD } else { CALM }))
        .collect();
    let mut pipeline = ready(params, 1);
    let mut state: BTreeMap<Vec<u8>, StateEntry> = BTreeMap::new();
    for row in &rows {
        let (outbox, _) = work(&mut pipeline, std::slice::from_ref(row));
        for entry in outbox.state {
            state.insert(entry.key.clone(), entry);
        }
    }
    let state: Vec<StateEntry> = state.into_values().collect();
    let mut found: Vec<_> = quarantine(&state, &Said::new())
        .into_iter()
        .map(|e| (e.from.0, e.to.map(|to| to.0), e.because.to_string()))
        .collect();
    found.sort_unstable();
    // Each fault is an episode of its own, as long as the fault.
    let each = |from: i64| (from, Some(from + 1), format!("test/in/3/{from}"));
    assert_eq!(found, [each(3), each(23), each(43)]);
}

#[test]
fn the_key_seen_longest_ago_is_forgotten_and_its_episode_closed() {
    let params = Params {
        keys_max: 2,
        snapshot_records: 1,
        ..params()
    };
    let mut pipeline = ready(params, 1);
    work(&mut pipeline, &[(0, "a", 1, WILD), (1, "b", 2, CALM)]);
    let (outbox, tally) = work(&mut pipeline, &[(2, "c", 3, CALM)]);
    assert_eq!(
        events(&outbox),
        [("test/in/3/0".to_owned(), AlertEvent::Close)]
    );
    assert_eq!((tally.closed, pipeline.keys()), (1, 2));
    assert_eq!(
        quarantine(&outbox.state, &Said::new()).last().unwrap().to,
        Some(Offset(1))
    );
    let (outbox, _) = work(&mut pipeline, &[(3, "c", 4, CALM)]);
    let gone: Vec<_> = outbox
        .state
        .iter()
        .filter(|entry| entry.value.is_none())
        .collect();
    assert_eq!(gone[0].key, b"test/in/3/key/a");
}

#[test]
fn what_cannot_be_read_or_is_late_goes_on_untouched() {
    let params = Params {
        late_after: Some(Duration::from_millis(10)),
        ..params()
    };
    let mut pipeline = ready(params, 1);
    let rows: &[Row<'_>] = &[
        (0, "k", 100, CALM),
        (1, "k", 5, &[]),
        (2, "k", 89, WILD),
        (3, "k", 90, CALM),
    ];
    let (outbox, tally) = work(&mut pipeline, rows);
    assert_eq!((tally.late, tally.scored), (1, 2));
    assert_eq!(tally.dead_lettered, BTreeMap::from([("null_value", 1)]));
    let unreadable = Refusal::Unreadable(DecodeError::NullValue);
    let late = Refusal::Late(Duration::from_millis(10));
    for (letter, (offset, time, reason)) in [
        (&outbox.dead_letters[0], (1, 5, unreadable)),
        (&outbox.late[0], (2, 89, late)),
    ] {
        assert_eq!(letter.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(letter.value.as_deref(), Some(&b"value"[..]));
        assert_eq!(&*letter.headers[0].name, "own");
        assert_eq!((&letter.at, letter.offset), (&at(), Offset(offset)));
        assert_eq!(
            (letter.timestamp, &letter.reason),
            (Timestamp(time), &reason)
        );
    }
}

#[test]
fn one_record_from_the_future_makes_nothing_late() {
    let bound = Duration::from_millis(10);
    let params = Params {
        late_after: Some(bound),
        ..params()
    };
    let mut pipeline = ready(params, 1);
    let (mut batch, mut decoded) = batch(&[(0, "k", 100, CALM), (1, "k", 100, CALM)]);
    // Event times: one far ahead of Kafka's clock, then as before.
    let mut extend = |offset: i64, timestamp: i64, event: i64| {
        let place = (Offset(offset), Timestamp(timestamp));
        batch.push(&at(), place, Some(b"k"), Some(b"value"), Vec::new());
        decoded.values.extend(CALM);
        decoded.outcomes.push(Ok(Decoded {
            key: Key(Arc::from("k")),
            time: Timestamp(event),
        }));
    };
    extend(2, 101, 4_000_000_000_000);
    extend(3, 102, 102);
    // Behind what Kafka saw by more than the bound: late as ever.
    extend(4, 103, 90);
    let staged = pipeline.stage(&batch, &decoded);
    assert_eq!((staged.tally.late, staged.tally.scored), (1, 4));
    pipeline.apply(staged);
}

#[test]
fn an_episode_before_the_first_model_closes_under_a_budget_by_the_day() {
    let params = Params {
        budget: Budget::PerKeyDay(1.0),
        cold_start_records: 10,
        ..params()
    };
    let mut pipeline = pipeline(params, Missing::Mask);
    pipeline.assign(&assignment(0, Vec::new()), None).unwrap();
    let values: Vec<[f64; 2]> = (0..400)
        .map(|i| {
            let x = f64::from(i * 7919 % 101) / 101.0;
            if i == 200 { [1e6, 1e6] } else { [x, 1.0 - x] }
        })
        .collect();
    let rows: Vec<Row<'_>> = values
        .iter()
        .zip(0..)
        .map(|(values, i)| (i, "k", i * 1000, &values[..]))
        .collect();
    let (outbox, tally) = work(&mut pipeline, &rows);
    assert_eq!(
        (tally.opened, tally.closed),
        (1, 1),
        "{:?}",
        events(&outbox)
    );
}

#[test]
fn records_of_partitions_that_are_not_ours_and_records_seen_before_are_left_alone() {
    let mut pipeline = ready(params(), 1);
    work(&mut pipeline, &[(0, "k", 1, CALM), (1, "k", 2, CALM)]);
    let (_, tally) = work(&mut pipeline, &[(1, "k", 2, WILD), (2, "k", 3, CALM)]);
    assert_eq!(tally.consumed, 1);
    pipeline.revoke(&at());
    let (outbox, tally) = work(&mut pipeline, &[(3, "k", 4, WILD)]);
    assert!(outbox.is_empty() && tally.consumed == 0);
}

/// The version that a head among these entries names, and its offset.
fn head(entries: &[StateEntry]) -> Option<(u64, i64)> {
    let entry = entries.iter().find(|entry| entry.key.ends_with(b"/head"))?;
    let head: serde_json::Value = serde_json::from_slice(entry.value.as_deref()?).unwrap();
    Some((head["model"].as_u64()?, head["offset"].as_i64()?))
}

/// The state under model 1 as of offset 2, with an open episode of key `k`.
fn saved() -> Vec<StateEntry> {
    let mut pipeline = ready(
        Params {
            snapshot_records: 1,
            ..params()
        },
        1,
    );
    let mut latest = BTreeMap::new();
    let batches: [&[Row<'_>]; 2] = [
        &[(0, "k", 1, CALM), (1, "k", 2, WILD)],
        &[(2, "k", 3, WILD)],
    ];
    for rows in batches {
        let entries = work(&mut pipeline, rows).0.state;
        latest.extend(entries.into_iter().map(|entry| (entry.key.clone(), entry)));
    }
    let state: Vec<StateEntry> = latest.into_values().collect();
    assert_eq!((head(&state), state.len()), (Some((1, 2)), 3));
    state
}

/// A pipeline that holds nothing, under model 2.
fn successor() -> Pipeline {
    let mut successor = pipeline(params(), Missing::Mask);
    successor.promote(model(2, 1)).unwrap();
    successor
}

#[test]
fn few_records_are_saved_after_a_while_of_their_own_time() {
    let params = Params {
        snapshot_interval: Duration::from_millis(100),
        ..params()
    };
    let mut pipeline = ready(params, 1);
    let mut heads = Vec::new();
    for (i, time) in [1000, 1050, 1099, 1100, 1101, 1150, 1300, 1301]
        .into_iter()
        .enumerate()
    {
        let (outbox, _) = work(&mut pipeline, &[(i as i64, "k", time, CALM)]);
        heads.extend(head(&outbox.state).map(|(_, offset)| offset));
    }
    // The first batch saves; then a batch after 100 ms or more saves what was before it.
    assert_eq!(heads, [0, 4, 7]);
}

#[test]
fn a_partition_without_records_follows_the_champion_and_is_saved() {
    let mut pipeline = ready(params(), 1);
    work(&mut pipeline, &[(0, "k", 1, CALM), (1, "k", 2, WILD)]);
    assert!(pipeline.flush_idle_snapshots(&Positions::new()).is_none());
    pipeline.promote(model(2, 1)).unwrap();
    let staged = pipeline.flush_idle_snapshots(&Positions::new()).unwrap();
    // Another look before it is published finds the same.
    assert_eq!(
        pipeline
            .flush_idle_snapshots(&Positions::new())
            .unwrap()
            .outbox,
        staged.outbox
    );
    assert_eq!(head(&staged.outbox.state), Some((2, 2)));
    assert_eq!(
        staged.outbox.positions,
        Positions::from([(at(), Offset(2))])
    );
    assert_eq!(staged.tally, Tally::default());
    pipeline.apply(staged);
    assert_eq!(
        pipeline.judging(),
        BTreeMap::from([(at(), ModelVersion(2))])
    );
    // Saved is saved: being quiet is nothing new now.
    let here = pipeline.positions();
    assert!(pipeline.flush_idle_snapshots(&here).is_none());
    work(&mut pipeline, &[(2, "k", 3, WILD)]);
    assert!(
        pipeline.flush_idle_snapshots(&here).is_none(),
        "it was not quiet"
    );
    let staged = pipeline
        .flush_idle_snapshots(&pipeline.positions())
        .unwrap();
    assert_eq!(head(&staged.outbox.state), Some((2, 3)));
    pipeline.apply(staged);
    // The successor of that has nothing to replay, and the episode goes on.
    let (outbox, _) = work(&mut pipeline, &[(3, "k", 4, CALM), (4, "k", 5, CALM)]);
    assert_eq!(
        events(&outbox),
        [("test/in/3/1".to_owned(), AlertEvent::Close)]
    );
}

#[test]
fn with_nothing_to_replay_no_model_is_needed_and_the_state_lives() {
    let state = saved();
    assert_eq!(replayed_by(&assignment(2, state.clone())), Ok(None));
    assert_eq!(
        replayed_by(&assignment(3, state.clone())),
        Ok(Some(ModelVersion(1)))
    );
    let mut successor = successor();
    let assigned = successor.assign(&assignment(2, state), None).unwrap();
    assert_eq!((assigned.discarded, assigned.replay), (None, 0));
    // The change of model travels with a snapshot that names it, and the episode goes on.
    let (outbox, _) = work(&mut successor, &[(2, "k", 3, CALM), (3, "k", 4, CALM)]);
    assert_eq!(head(&outbox.state), Some((2, 2)));
    assert_eq!(
        events(&outbox),
        [("test/in/3/1".to_owned(), AlertEvent::Close)]
    );
}

#[test]
fn a_replay_whose_model_is_gone_is_not_guessed_at() {
    let mut successor = successor();
    let assigned = successor.assign(&assignment(3, saved()), None).unwrap();
    assert_eq!(assigned.discarded, Some(Discarded::ModelGone));
    assert_eq!((assigned.read_from, assigned.replay), (Offset(3), 0));
    // It begins anew at once, and what was saved is put away: the next one finds nothing to discard.
    let staged = successor.flush_idle_snapshots(&Positions::new()).unwrap();
    assert_eq!(head(&staged.outbox.state), Some((2, 3)));
    let gone: Vec<_> = staged
        .outbox
        .state
        .iter()
        .filter(|e| e.value.is_none())
        .collect();
    assert_eq!(gone[0].key, b"test/in/3/key/k");
    assert_eq!(
        quarantine(&staged.outbox.state, &Said::new())[0].to,
        Some(Offset(3))
    );
    // Its alert is taken back, with the same snapshot and once.
    let close = [("test/in/3/1".to_owned(), AlertEvent::Close)];
    assert_eq!(events(&staged.outbox), close);
    assert_eq!(staged.tally.closed, 1);
    let alert = &staged.outbox.alerts[0];
    assert!(alert.abandoned && alert.key.as_str() == "k", "{alert:?}");
    successor.apply(staged);
    assert!(successor.flush_idle_snapshots(&Positions::new()).is_none());
    let (outbox, _) = work(&mut successor, &[(3, "k", 4, CALM)]);
    assert_eq!(events(&outbox), []);
}

#[test]
fn state_is_of_no_use_once_what_must_be_replayed_on_it_is_deleted() {
    let offered = |committed, first| PartitionAssignment {
        first: Offset(first),
        topic_id: None,
        ..assignment(committed, saved())
    };
    let judging = || Some(model(1, 1));
    let assigned = successor().assign(&offered(5, 2), judging()).unwrap();
    assert_eq!((assigned.discarded, assigned.replay), (None, 3));
    let assigned = successor().assign(&offered(5, 3), judging()).unwrap();
    assert_eq!(assigned.discarded, Some(Discarded::RecordsDeleted));
    assert_eq!((assigned.read_from, assigned.skipped), (Offset(5), 0));
    // Retention overtook the group: those never read are counted, once, and the state as of the commit goes on behind them.
    let mut late = successor();
    let assigned = late.assign(&offered(2, 9), judging()).unwrap();
    assert_eq!(
        (assigned.discarded, assigned.read_from, assigned.skipped),
        (None, Offset(9), 7)
    );
    let (outbox, tally) = work(&mut late, &[(9, "k", 4, CALM)]);
    assert_eq!((tally.skipped, tally.consumed), (7, 1));
    assert_eq!(head(&outbox.state), Some((2, 9)));
    assert_eq!(work(&mut late, &[(10, "k", 5, CALM)]).1.skipped, 0);
    // Both.
    let assigned = successor().assign(&offered(5, 9), judging()).unwrap();
    assert_eq!(assigned.discarded, Some(Discarded::RecordsDeleted));
    assert_eq!((assigned.read_from, assigned.skipped), (Offset(9), 4));
}

#[test]
fn records_deleted_under_way_are_counted_with_the_next_commit() {
    let mut pipeline = ready(params(), 1);
    work(&mut pipeline, &[(0, "k", 1, CALM), (1, "k", 2, WILD)]);
    let to = |offset| Positions::from([(at(), Offset(offset))]);
    assert_eq!(pipeline.skip(&to(1)), []);
    assert_eq!(pipeline.skip(&to(7)), []);
    assert_eq!(pipeline.positions(), to(7));
    let staged = pipeline.flush_idle_snapshots(&Positions::new()).unwrap();
    assert_eq!(
        (staged.tally.skipped, staged.outbox.positions.clone()),
        (5, to(7))
    );
    pipeline.apply(staged);
    let (outbox, tally) = work(&mut pipeline, &[(7, "k", 3, CALM), (8, "k", 4, CALM)]);
    assert_eq!((tally.skipped, events(&outbox).len()), (0, 1));
    // In the middle of a replay the state cannot be brought up to date any more.
    let mut successor = successor();
    successor
        .assign(&assignment(5, saved()), Some(model(1, 1)))
        .unwrap();
    assert_eq!(successor.skip(&to(4)), [at()]);
    assert_eq!((successor.positions(), successor.replaying()), (to(5), 0));
    let staged = successor.flush_idle_snapshots(&Positions::new()).unwrap();
    assert_eq!(
        (staged.tally.skipped, head(&staged.outbox.state)),
        (0, Some((2, 5)))
    );
}

#[test]
fn the_state_of_another_group_is_left_alone() {
    let of = |group: &str| Params {
        group: group.to_owned(),
        ..params()
    };
    let (outbox, _) = work(&mut ready(of("a"), 1), &[(0, "k", 1, CALM)]);
    let mut ours = pipeline(of("a"), Missing::Mask);
    let assignment = assignment(0, outbox.state);
    assert_eq!(ours.assign(&assignment, None).unwrap().discarded, None);
    let error = pipeline(of("b"), Missing::Mask)
        .assign(&assignment, None)
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("in[3]") && text.contains("`a`") && text.contains("`b`"),
        "{text}"
    );
    // What older programs wrote names no group, and is taken over.
    let mut old = pipeline(of("b"), Missing::Mask);
    assert_eq!(
        old.assign(&self::assignment(2, saved()), None)
            .unwrap()
            .discarded,
        None
    );
}

#[test]
fn what_goes_on_is_shown_after_a_restart_too() {
    let mut successor = successor();
    successor.assign(&assignment(2, saved()), None).unwrap();
    let open = successor.open(10);
    assert_eq!(
        (open.len(), open[0].id.as_str(), open[0].key.as_str()),
        (1, "test/in/3/1", "k")
    );
    assert_eq!(
        (open[0].kind, open[0].since),
        (AlertKind::Score, Timestamp(2))
    );
    assert!(successor.open(0).is_empty());
}

#[test]
fn what_was_said_of_an_episode_is_known_of_it() {
    let state = saved();
    assert_eq!(quarantine(&state, &Said::new())[0].feedback, None);
    let said = [
        ("test/in/3/1", Feedback::NewNormal),
        // That of another episode, or of another partition, is not meant.
        ("test/in/3/9", Feedback::FalsePositive),
        ("test/in/4/1", Feedback::FalsePositive),
    ];
    let said = Said::from(said.map(|(id, called)| (id.into(), called)));
    let record = &episode_log(&state, &said)[0];
    assert_eq!(record.exclusion.feedback, Some(Feedback::NewNormal));
    assert_eq!((record.from_time, record.to_time), (Timestamp(2), None));
}

#[test]
fn a_fault_on_top_of_an_episode_is_told_by_itself() {
    let strange: Vec<[f64; 2]> = (0..400)
        .map(|i| [1.5 + f64::from(i * 7919 % 101) / 2000.0, 0.2])
        .collect();
    let values = std::iter::repeat_n(CALM, 10)
        .chain(strange.iter().map(<[f64; 2]>::as_slice))
        .chain([[50.0, 0.2].as_slice(); 3])
        .chain(std::iter::repeat_n(CALM, 100));
    let rows: Vec<Row<'_>> = values
        .zip(0..)
        .map(|(values, i)| (i, "k", i * 1000, values))
        .collect();
    let run = |size: usize| {
        let mut pipeline = ready(params(), 1);
        let emitted = rows
            .chunks(size)
            .flat_map(|part| work(&mut pipeline, part).0.alerts);
        emitted.collect::<Vec<Alert>>()
    };
    let emitted = run(1);
    let events: Vec<(&str, AlertEvent, Option<&str>)> = emitted
        .iter()
        .filter(|alert| alert.event != AlertEvent::Update)
        .map(|alert| {
            (
                alert.id.as_str(),
                alert.event,
                alert.within.as_ref().map(EpisodeId::as_str),
            )
        })
        .collect();
    let (outer, inner) = ("test/in/3/10", "test/in/3/410");
    assert_eq!(
        events,
        [
            (outer, AlertEvent::Open, None),
            (inner, AlertEvent::Open, Some(outer)),
            (inner, AlertEvent::Close, Some(outer)),
            (outer, AlertEvent::Close, None),
        ]
    );
    for size in [7, 1000] {
        assert_eq!(run(size), emitted, "batches of {size}");
    }
}

#[test]
fn what_goes_on_within_an_episode_outlives_a_restart_and_the_key() {
    let params = || Params {
        snapshot_records: 1,
        keys_max: 1,
        ..params()
    };
    let mut pipeline = ready(params(), 1);
    let strange: &[f64] = &[1.5, 0.2];
    let strange: Vec<Row<'_>> = (0..350).map(|i| (i, "k", i * 1000, strange)).collect();
    let wilder: &[f64] = &[900.0, 0.2];
    let mut latest = BTreeMap::new();
    // What is saved is as of the batch before.
    let batches: [&[Row<'_>]; 3] = [
        &strange,
        &[(350, "k", 350_000, wilder)],
        &[(351, "k", 351_000, wilder)],
    ];
    for rows in batches {
        let entries = work(&mut pipeline, rows).0.state;
        latest.extend(entries.into_iter().map(|entry| (entry.key.clone(), entry)));
    }
    let shown = |pipeline: &Pipeline| {
        let open = pipeline.open(10);
        let mut shown: Vec<(EpisodeId, Option<u64>)> = open
            .into_iter()
            .map(|open| (open.id, open.records))
            .collect();
        shown.sort();
        shown
    };
    let both = ["test/in/3/0", "test/in/3/350"];
    // Their records are counted on, whether anything is told of them or not.
    let counted = |since| {
        [
            (both[0].into(), Some(350 + since)),
            (both[1].into(), Some(since)),
        ]
    };
    assert_eq!(shown(&pipeline), counted(2));
    let mut successor = self::pipeline(params(), Missing::Mask);
    successor.promote(model(1, 1)).unwrap();
    let state = latest.into_values().collect();
    successor
        .assign(&assignment(351, state), Some(model(1, 1)))
        .unwrap();
    assert_eq!(shown(&successor), counted(1));
    // Another key takes its place.
    let (outbox, tally) = work(&mut successor, &[(351, "l", 351_000, CALM)]);
    assert_eq!(tally.closed, 2);
    assert_eq!(
        events(&outbox),
        [both[1], both[0]].map(|id| (id.to_owned(), AlertEvent::Close))
    );
}
