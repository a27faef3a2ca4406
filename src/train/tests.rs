//! Whole training runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::evidence::EpisodeSettings;
use super::rows::PartitionRows;
use super::*;
use crate::detect::Budget;
use crate::model::card::{Exclusion, Feedback, Maintenance, ModelVersion};
use crate::model::gate_report::Reason;
use crate::model::spec::{ModelSpec, Scaling};
use crate::model::trained::{Strips, WindowAt};
use crate::record::Key;
use crate::seed::Seed;
use crate::stream::{Offset, TopicPartition};
use crate::time::Timestamp;
use ndarray::Array2;
use rand::Rng;

/// Two keys in one partition; three features of which the third is the sum of the others, and noise.
fn rows(n: usize) -> PartitionRows {
    let mut rng = Seed(3).rng();
    let mut rows = PartitionRows::new(TopicPartition::new("t", 0), 3);
    for i in 0..n {
        let key = Key(if i % 2 == 0 { "a" } else { "b" }.into());
        let (x, y): (f64, f64) = (rng.gen_range(-1.0..1.0), rng.gen_range(-1.0..1.0));
        let noise: f64 = rng.gen_range(-0.05..0.05);
        rows.push(
            &key,
            Timestamp(1000 * i as i64),
            Offset(i as i64),
            &[x, y, x + y + noise],
        );
    }
    rows
}

pub(super) fn job(n: usize, kind: &str, window: usize) -> TrainJob {
    TrainJob {
        detector: "d".to_owned(),
        version: ModelVersion(1),
        created: Timestamp(5),
        columns: ["x", "y", "sum"].map(str::to_owned).to_vec(),
        fill_last: Vec::new(),
        spec: ModelSpec {
            kind: kind.to_owned(),
            window,
            scale: Scaling::Standard,
            ..ModelSpec::default()
        },
        schema: None,
        seed: Seed(11),
        rows: vec![rows(n)],
        level_rows: Vec::new(),
        spans: Vec::new(),
        source: None,
        exclusions: Vec::new(),
        feedback: BTreeMap::new(),
        maintenance: Vec::new(),
        budget: Budget::PerRecord(1e-3),
        episodes: EpisodeSettings::default(),
        champion: None,
        change: None,
        gaps: true,
        unsettled: BTreeSet::new(),
        remake: None,
        params: Params {
            rows_min: 100,
            young: Duration::ZERO,
            ..Params::default()
        },
    }
}

pub(super) fn trained(job: &TrainJob) -> Candidate {
    run(job, &|| false).unwrap()
}

#[test]
fn a_run_gives_a_promoted_model_and_the_same_bytes_again() {
    let job = job(2000, "pca", 2);
    let first = trained(&job);
    assert!(first.verdict.is_promoted(), "{}", first.verdict);
    let card = &first.model.card;
    assert_eq!(card.gate.to_string(), "promoted");
    assert_eq!(card.rows["windows"], 1998);
    // A key's records are 2 s apart.
    assert!((card.records_per_key_day - 43_200.0).abs() < 1e-6);
    assert!(card.measures["recall"] > 0.3, "{:?}", card.measures);
    let bytes = first.model.to_bytes().unwrap();
    assert_eq!(trained(&job).model.to_bytes().unwrap(), bytes);
}

#[test]
fn a_model_is_made_again_from_its_card_whatever_the_champion_was() {
    let mut job = job(2000, "pca", 1);
    job.champion = Some(Arc::new(trained(&job).model));
    let original = trained(&job);
    assert!(original.verdict.is_promoted(), "{}", original.verdict);
    let again = TrainJob {
        champion: None,
        created: Timestamp(99),
        remake: Some(original.model.card.clone()),
        ..job
    };
    let mut again = trained(&again);
    // What is remembered of generations before is taken over from the file, like the verdict.
    assert_ne!(again.model.reservoir, original.model.reservoir);
    again.model.reservoir = original.model.reservoir.clone();
    assert_eq!(
        again.model.to_bytes().unwrap(),
        original.model.to_bytes().unwrap()
    );
}

#[test]
fn a_challenger_that_learnt_less_is_rejected_with_the_reason() {
    let mut job = job(3000, "pca", 1);
    job.champion = Some(Arc::new(trained(&job).model));
    // Robust z-scores are blind to the relation between the features.
    job.spec.kind = "robust_z".to_owned();
    let candidate = trained(&job);
    assert!(!candidate.verdict.is_promoted());
    assert_eq!(candidate.verdict.reasons[0].name(), "below_champion");
    assert!(
        candidate
            .model
            .card
            .gate
            .to_string()
            .starts_with("rejected: finds "),
        "{}",
        candidate.verdict
    );
}

#[test]
fn on_too_few_windows_the_model_in_use_stays() {
    let mut job = job(2000, "pca", 1);
    let champion = Arc::new(trained(&job).model);
    job.params.rows_min = 50;
    job.rows = vec![rows(100)];
    let first = trained(&job);
    assert!(first.verdict.is_promoted());
    let told = "promoted as the first model, although it has only 15 held-out windows";
    assert!(
        first.model.card.gate.to_string().starts_with(told),
        "{}",
        first.verdict
    );
    job.champion = Some(champion);
    let candidate = trained(&job);
    assert!(!candidate.verdict.is_promoted());
    assert_eq!(candidate.verdict.reasons[0].name(), "too_few");
}

#[test]
fn a_challenger_that_predicts_worse_than_its_like_is_rejected() {
    let mut job = job(3000, "pca", 1);
    job.champion = Some(Arc::new(trained(&job).model));
    // What it is fitted on has another relation between the features than what it is tried on.
    let good = rows(3000);
    let mut mixed = PartitionRows::new(TopicPartition::new("t", 0), 3);
    for i in 0..good.len() {
        let mut row: [f64; 3] = good.row(i).try_into().unwrap();
        if i < 2000 {
            row[2] = row[0] - row[1];
        }
        let key = &good.keys()[good.key_number(i)];
        mixed.push(key, good.time(i), good.offset(i), &row);
    }
    job.rows = vec![mixed];
    let candidate = trained(&job);
    let names: Vec<_> = candidate.verdict.reasons.iter().map(Reason::name).collect();
    assert!(names.contains(&"loss"), "{}", candidate.verdict);
    let measures = &candidate.model.card.measures;
    assert!(
        measures["loss"] > 1.5 * measures["champion.loss"],
        "{measures:?}"
    );
    // Its like on the same data is as good as it.
    let mut like = self::job(3000, "pca", 1);
    like.champion = job.champion;
    like.seed = Seed(12);
    assert!(trained(&like).verdict.is_promoted());
}

#[test]
fn what_is_no_number_is_rejected_even_where_nothing_judges_yet() {
    let job = job(2000, "pca", 1);
    let windows = window::Windows::build(&job, &[], &[]);
    let usage = job.params.usage(windows.len());
    for held_out in [0, 5, 200] {
        let mut made = Calibrated::fit(&job, &windows, usage, &mut Stopping(&|| false)).unwrap();
        made.fitted.model.scaler.centre[1] = f64::NAN;
        let unseen = &made.split.gate[..held_out];
        let unseen = (&*windows.keys(unseen), &windows.raw(unseen));
        let gate = gate::Gate::new(&job, unseen, windows.levels(), false).unwrap();
        let verdict = gate.verdict(&gate.tried(made.tried()), None, &mut BTreeMap::new());
        assert!(!verdict.is_promoted(), "{verdict}");
        assert_eq!(verdict.reasons[0].name(), "not_finite");
    }
}

#[test]
fn a_stop_while_the_baseline_is_fitted_is_no_verdict() {
    let job = job(2000, "gmm", 1);
    let windows = window::Windows::build(&job, &[], &[]);
    let usage = job.params.usage(windows.len());
    let made = Calibrated::fit(&job, &windows, usage, &mut Stopping(&|| false)).unwrap();
    let (keys, held_out, calibrated_on) = made.held_out(&windows);
    let unseen = (&*keys, &held_out);
    let gate = gate::Gate::new(&job, unseen, windows.levels(), calibrated_on).unwrap();
    let stop = &mut Stopping(&|| true);
    let error = stand_in(&job, &windows, (made, &gate), &mut BTreeMap::new(), stop).unwrap_err();
    assert!(error.is_cancelled(), "{error}");
}

#[test]
fn the_pool_of_auto_validates_across_folds() {
    let mut job = job(400, "auto", 1);
    // Hardly trained; but whatever it finds, principal components do not take its place.
    job.params.recall_tolerance = 1.0;
    job.spec.network.epochs = 2;
    job.params.gate_share = 0.0;
    job.params.cross_below = 1000;
    let card = trained(&job).model.card;
    assert_eq!((card.rows["fit"], card.rows["validation"]), (340, 60));
}

#[test]
fn maintenance_is_not_learnt() {
    let mut job = job(1000, "pca", 1);
    let window = |key: Option<&str>| Maintenance {
        key: key.map(str::to_owned),
        from: Timestamp(200_000),
        to: Timestamp(300_000),
    };
    job.maintenance = vec![window(Some("a"))];
    let model = trained(&job).model;
    assert_eq!(model.card.rows["excluded"], 50);
    assert_eq!(model.card.maintenance, job.maintenance);
    job.maintenance = vec![window(None)];
    assert_eq!(trained(&job).model.card.rows["excluded"], 100);
}

#[test]
fn where_the_quarantine_leaves_too_little_a_first_model_learns_from_all() {
    let mut job = job(1000, "pca", 1);
    job.exclusions = ["a", "b"]
        .map(|key| Exclusion {
            at: TopicPartition::new("t", 0),
            key: key.to_owned(),
            from: Offset(40),
            to: None,
            because: "episode".into(),
            feedback: None,
        })
        .to_vec();
    let first = trained(&job).model;
    assert!(first.card.waived);
    assert_eq!(first.card.rows["windows"], 1000);
    // It is made again as it was.
    let mut again = job.clone();
    again.remake = Some(first.card.clone());
    again.params.rows_min = 0;
    let again = trained(&again).model;
    assert_eq!(again.to_bytes().unwrap(), first.to_bytes().unwrap());
}

/// What was flagged of key `a` from an offset on.
pub(super) fn flagged(from: i64, to: Option<i64>) -> Exclusion {
    Exclusion {
        at: TopicPartition::new("t", 0),
        key: "a".to_owned(),
        from: Offset(from),
        to: to.map(Offset),
        because: "episode".into(),
        feedback: None,
    }
}

#[test]
fn where_a_model_flags_nearly_all_the_model_in_use_stays() {
    let mut job = job(1000, "pca", 1);
    job.champion = Some(Arc::new(trained(&job).model));
    job.exclusions = vec![flagged(40, None)];
    job.params.rows_min = 800;
    assert!(matches!(
        run(&job, &|| false).unwrap_err(),
        TrainError::TooFewRows {
            excluded: 480..,
            ..
        }
    ));
}

#[test]
fn what_was_flagged_without_a_model_is_no_fault_if_it_is_a_quarter_of_all() {
    let mut job = job(1000, "pca", 1);
    job.exclusions = vec![flagged(40, Some(200))];
    let card = trained(&job).model.card;
    assert_eq!((card.waived, card.rows["excluded"]), (false, 80 + 40));
    job.exclusions = vec![flagged(40, None)];
    let card = trained(&job).model.card;
    assert_eq!((card.waived, card.rows["excluded"]), (true, 0));
    // Maintenance is none of it.
    job.exclusions = vec![flagged(40, Some(200))];
    job.maintenance = vec![Maintenance {
        key: None,
        from: Timestamp(500_000),
        to: Timestamp(900_000),
    }];
    assert!(!trained(&job).model.card.waived);
}

#[test]
fn later_models_leave_out_what_a_model_flagged_and_nothing_before() {
    let mut first = job(600, "pca", 1);
    first.exclusions = vec![flagged(40, None)];
    let mut later = job(1000, "pca", 1);
    later.exclusions = first.exclusions.clone();
    later.champion = Some(Arc::new(trained(&first).model));
    let card = trained(&later).model.card;
    // 200 records of key `a` since the first model, and the guard.
    assert_eq!((card.waived, card.rows["excluded"]), (true, 200 + 20));
    later.remake = Some(card.clone());
    assert_eq!(trained(&later).model.card.rows, card.rows);
}

#[test]
fn what_somebody_confirmed_is_kept_out_for_good() {
    // Too much was flagged before there was a model, and so it is learnt; what somebody confirmed is not.
    let mut job = job(1000, "pca", 1);
    let confirmed = |exclusion: Exclusion| Exclusion {
        feedback: Some(Feedback::TruePositive),
        ..exclusion
    };
    job.exclusions = vec![flagged(40, None), confirmed(flagged(100, Some(300)))];
    let card = trained(&job).model.card;
    assert_eq!((card.waived, card.rows["excluded"]), (true, 100 + 40));
    // Nor does it count, as a short one does, among what calm records are calibrated with.
    job.exclusions = vec![flagged(700, Some(720))];
    let counted = |job: &TrainJob| {
        let windows = super::window::Windows::build(job, &job.exclusions, &[]);
        let usage = job.params.usage(windows.len());
        windows.flagged(&windows.split(&usage, &job.spec)).len()
    };
    assert!(counted(&job) > 0);
    job.exclusions = vec![confirmed(job.exclusions[0].clone())];
    assert_eq!(counted(&job), 0);
}

#[test]
fn excluded_records_and_their_guard_are_not_learnt() {
    let mut job = job(1000, "pca", 1);
    job.exclusions = vec![Exclusion {
        at: TopicPartition::new("t", 0),
        key: "a".to_owned(),
        from: Offset(200),
        to: Some(Offset(300)),
        because: "episode".into(),
        feedback: None,
    }];
    job.params.guard = 5;
    // 50 records of key `a` and 5 on either side; the windows that reach over the hole are gone as well.
    assert_eq!(trained(&job).model.card.rows["excluded"], 60);
    job.spec.window = 3;
    assert_eq!(trained(&job).model.card.rows["windows"], 1000 - 60 - 3 * 2);
    job.exclusions[0].from = Offset(800);
    job.exclusions[0].to = None;
    assert_eq!(trained(&job).model.card.rows["excluded"], 100 + 5);
}

#[test]
fn a_dismissed_episode_is_learnt_and_the_card_says_so() {
    let mut job = job(1000, "pca", 1);
    job.exclusions = vec![Exclusion {
        at: TopicPartition::new("t", 0),
        key: "a".to_owned(),
        from: Offset(200),
        to: None,
        because: "episode".into(),
        feedback: Some(Feedback::NewNormal),
    }];
    let model = trained(&job).model;
    assert_eq!(
        (model.card.rows["excluded"], model.card.rows["windows"]),
        (0, 1000)
    );
    assert_eq!(model.card.exclusions, job.exclusions);
    // So it is made again, whatever is dismissed by then.
    let again = TrainJob {
        remake: Some(model.card.clone()),
        ..job
    };
    assert_eq!(
        trained(&again).model.to_bytes().unwrap(),
        model.to_bytes().unwrap()
    );
}

#[test]
fn a_fault_that_is_kept_out_changes_nothing() {
    let clean = job(1200, "pca", 1);
    let mut faulty = clean.clone();
    let mut rows = PartitionRows::new(TopicPartition::new("t", 0), 3);
    for i in 0..clean.rows[0].len() {
        let bad = (600..700).contains(&i) && i % 2 == 0;
        let row = if bad {
            [50.0; 3]
        } else {
            clean.rows[0].row(i).try_into().unwrap()
        };
        let key = &clean.rows[0].keys()[clean.rows[0].key_number(i)];
        rows.push(key, clean.rows[0].time(i), clean.rows[0].offset(i), &row);
    }
    faulty.rows = vec![rows];
    let exclusions = vec![Exclusion {
        at: TopicPartition::new("t", 0),
        key: "a".to_owned(),
        from: Offset(600),
        to: Some(Offset(700)),
        because: "episode".into(),
        feedback: None,
    }];
    let clean = TrainJob {
        exclusions: exclusions.clone(),
        ..clean
    };
    let faulty = TrainJob {
        exclusions,
        ..faulty
    };
    assert_eq!(
        trained(&clean).model.to_bytes().unwrap(),
        trained(&faulty).model.to_bytes().unwrap()
    );
}

/// The same rows, but for what `change` makes of them, by their place.
pub(super) fn changed(rows: &PartitionRows, change: impl Fn(usize, &mut [f64])) -> PartitionRows {
    let mut changed = PartitionRows::new(TopicPartition::new("t", 0), 3);
    for i in 0..rows.len() {
        let (key, mut row) = (&rows.keys()[rows.key_number(i)], rows.row(i).to_vec());
        change(i, &mut row);
        changed.push(key, rows.time(i), rows.offset(i), &row);
    }
    changed
}

#[test]
fn a_fault_that_only_those_beside_the_model_see_does_not_come_back_into_the_calibration() {
    let mut job = job(8000, "pca", 10);
    job.exclusions = vec![flagged(7000, Some(7400))];
    let clean = trained(&job).model.evidence.clone().unwrap();
    // A stuck sensor at its commonest value, and the sum with it: ordinary by every error of reconstruction.
    let stuck = |i: usize, row: &mut [f64]| {
        if (7000..7400).contains(&i) && i.is_multiple_of(2) {
            row[2] -= row[0];
            row[0] = 0.0;
        }
    };
    job.rows = vec![changed(&job.rows[0], stuck)];
    let faulty = trained(&job).model.evidence.clone().unwrap();
    for (scale, (with, without)) in faulty
        .independent
        .iter()
        .zip(&clean.independent)
        .enumerate()
    {
        let same = (with / without).ln().abs() < 0.5;
        assert!(same, "scale {scale}: {with} instead of {without}");
    }
}

#[test]
fn what_is_expected_does_not_follow_the_fault() {
    let mut rng = Seed(8).rng();
    let mut normal = || rng.sample::<f64, _>(rand_distr::StandardNormal);
    let mut rows = PartitionRows::new(TopicPartition::new("t", 0), 5);
    let mut record = || {
        let cause = normal();
        [0, 1, 2, 3, 4].map(|column| 10.0 * f64::from(column) + cause + 0.3 * normal())
    };
    for i in 0..3000 {
        let (time, offset) = (Timestamp(1000 * i), Offset(i));
        rows.push(&Key("a".into()), time, offset, &record());
    }
    for (kind, window) in [("pca", 1), ("pca", 10), ("ensemble", 10)] {
        let mut job = job(10, kind, window);
        job.columns = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        job.rows = vec![rows.clone()];
        let model = trained(&job).model;
        let (mut off, mut followed) = (0.0, 0.0);
        for _ in 0..20 {
            let mut values: Vec<f64> = (0..window).flat_map(|_| record()).collect();
            for faulty in values.chunks_mut(5).rev().take(4) {
                faulty[3] += 6.0;
            }
            let newest = &values[5 * (window - 1)..];
            let others = newest[0] + newest[1] + newest[2] + newest[4];
            let normal = 30.0 + (others - 70.0) / 4.0;
            let expected = |faulty: u64| model.explain_of("a", &values, faulty).expected[3];
            off += (expected(4) - normal).abs() / 20.0;
            followed += (expected(0) - normal) / 20.0;
        }
        assert!(off < 0.5, "{kind} {window}: {off}");
        // The reconstruction alone would say that much of the fault was expected.
        assert!(followed > 0.8, "{kind} {window}: {followed}");
    }
}

#[test]
fn a_feature_that_stands_still_is_said_to() {
    let job = job(4000, "pca", 10);
    let model = trained(&job).model;
    let of_a = (0..10).flat_map(|record| job.rows[0].row(3000 + 2 * record).to_vec());
    let calm: Vec<f64> = of_a.collect();
    let still = |change: &dyn Fn(usize, &mut [f64])| {
        let mut window = calm.clone();
        window
            .chunks_mut(3)
            .enumerate()
            .for_each(|(i, row)| change(i, row));
        model.explain_of("a", &window, 0).still
    };
    assert_eq!(still(&|_, _| ()), None);
    // Its last seven values are the same, and the sum goes with it: nothing else is strange.
    let stuck = |i: usize, row: &mut [f64]| {
        if i >= 3 {
            row[2] += 0.25 - row[0];
            row[0] = 0.25;
        }
    };
    assert_eq!(still(&stuck), Some((0, 7)));
    // What is far off is not said to stand still, though it does.
    let broken = |i: usize, row: &mut [f64]| {
        if i >= 8 {
            row[0] = 9.0;
        }
    };
    assert_eq!(still(&broken), None);
}

#[test]
fn a_feature_that_often_repeats_itself_is_not_said_to_stand_still_where_it_does_once() {
    let mut job = job(4000, "pca", 10);
    // Five values: one of five repeats the one before.
    let coarse = |_: usize, row: &mut [f64]| {
        let x = (2.0 * row[0]).round() / 2.0;
        row[2] += x - row[0];
        row[0] = x;
    };
    job.rows = vec![changed(&job.rows[0], coarse)];
    let model = trained(&job).model;
    // Of the second key.
    let place = |record: usize| 2 * record + 1;
    let repeats = |record: &usize| {
        let x = |record| job.rows[0].row(place(record))[0].to_bits();
        x(*record) == x(record - 1) && x(*record) != x(record - 2)
    };
    let ordinary: Vec<usize> = (1000..1900).filter(repeats).take(50).collect();
    assert_eq!(ordinary.len(), 50);
    for newest in ordinary {
        let rows = (newest - 9..=newest).flat_map(|record| job.rows[0].row(place(record)).to_vec());
        let window: Vec<f64> = rows.collect();
        assert_eq!(model.explain_of("b", &window, 0).still, None, "{newest}");
    }
}

#[test]
fn a_trend_is_judged_by_how_it_changes() {
    for window in [1, 10] {
        let mut job = job(6000, "pca", window);
        // The feature by itself: the one that goes with it stays where it is.
        let falling = |i: usize, row: &mut [f64]| row[0] -= 0.005 * i as f64;
        job.rows = vec![changed(&job.rows[0], falling)];
        let model = trained(&job).model;
        let trends: &[&str] = if window > 1 { &["x"] } else { &[] };
        assert_eq!(model.card.trends, trends);
        if window > 1 {
            // Days later, where it never stood: as calm as then, and a jump.
            let of_a = (0..window).map(|record| job.rows[0].row(5000 + 2 * record));
            let mut later = Array2::from_shape_vec((1, 30), of_a.flatten().copied().collect());
            let later = later.as_mut().unwrap();
            later.iter_mut().step_by(3).for_each(|x| *x -= 100.0);
            let p = |windows: &Array2<f64>| model.judge(windows.view(), &[Seed(1)]).p_value[0];
            assert!(p(later) > 1e-2, "{}", p(later));
            later[(0, 27)] -= 30.0;
            assert!(p(later) < 1e-3, "{}", p(later));
        }
    }
}

#[test]
fn a_counter_is_judged_by_what_it_counts() {
    for window in [1, 10] {
        let mut job = job(6000, "pca", window);
        job.rows = vec![changed(&job.rows[0], |i, row| row[0] += 5.0 * i as f64)];
        let model = trained(&job).model;
        assert_eq!(model.card.counters, ["x"]);
        // Long after, where no counter ever stood.
        let own = |at: usize| if at.is_multiple_of(2) { 0.3 } else { 0.0 };
        let later = |at: usize| 1e6 + 10.0 * at as f64 + own(at);
        let row = |at: usize| [later(at), 0.02 * at as f64, own(at) + 0.02 * at as f64];
        let windows = |rows: Vec<[f64; 3]>| {
            let width = 3 * rows.len();
            Array2::from_shape_vec((1, width), rows.concat()).unwrap()
        };
        let calm = windows((0..window).map(row).collect());
        let p = |windows: &Array2<f64>| model.judge(windows.view(), &[Seed(1)]).p_value[0];
        assert!(p(&calm) > 1e-2, "window {window}: {}", p(&calm));
        if window > 1 {
            // It stands, and it counts five times as much.
            let mut fast = calm.clone();
            fast[(0, 27)] += 50.0;
            assert!(p(&fast) < 1e-3, "{}", p(&fast));
            let expected = model.expected_of("a", fast.row(0).as_slice().unwrap(), 0);
            assert!((expected[0] - later(9)).abs() < 5.0, "{expected:?}");
        }
    }
}

#[test]
fn what_lasts_is_found_where_values_are_often_missing() {
    let mut job = job(6000, "pca", 10);
    // A third of one feature, a tenth of another: one window in three hundred has all of them.
    let gappy = |i: usize, row: &mut [f64]| {
        let chance = |of: usize| (i * 7919 + of * 104_729) % 1009;
        row[0] = if chance(1) < 336 { f64::NAN } else { row[0] };
        row[1] = if chance(2) < 101 { f64::NAN } else { row[1] };
        row[2] += 1.2 * (chance(3) as f64 / 1009.0 - 0.5);
    };
    job.rows = vec![changed(&job.rows[0], gappy)];
    let model = trained(&job).model;
    // Each value is an ordinary one, but they agree.
    let p = |offset: f64| {
        let of_a = (0..10).map(|record| job.rows[0].row(5000 + 2 * record));
        let mut window = Array2::from_shape_vec((1, 30), of_a.flatten().copied().collect());
        let window = window.as_mut().unwrap();
        let x = window.iter_mut().step_by(3);
        x.for_each(|value| *value += offset);
        model.judge(window.view(), &[Seed(1)]).p_value[0]
    };
    assert!(p(0.0) > 1e-2 && p(0.6) < 1e-3, "{} {}", p(0.0), p(0.6));
}

#[test]
fn what_cannot_be_learnt_is_an_error_with_its_numbers() {
    let few = run(&job(50, "pca", 1), &|| false).unwrap_err();
    assert_eq!(
        few.to_string(),
        "training needs at least 100 windows, but has 50 (50 records read, 0 kept out)"
    );
    let mut all = job(500, "pca", 1);
    for key in ["a", "b"] {
        all.exclusions.push(Exclusion {
            at: TopicPartition::new("t", 0),
            key: key.to_owned(),
            from: Offset(0),
            to: None,
            because: "episode".into(),
            feedback: None,
        });
    }
    all.champion = Some(Arc::new(trained(&job(500, "pca", 1)).model));
    let all = run(&all, &|| false).unwrap_err();
    assert!(
        matches!(all, TrainError::TooFewRows { excluded: 500, .. }),
        "{all}"
    );
    let mut still = job(500, "pca", 1);
    let mut rows = PartitionRows::new(TopicPartition::new("t", 0), 3);
    for i in 0..500 {
        rows.push(
            &Key("a".into()),
            Timestamp(i),
            Offset(i),
            &[1.0, f64::NAN, 3.0],
        );
    }
    still.rows = vec![rows];
    assert!(matches!(
        run(&still, &|| false).unwrap_err(),
        TrainError::Constant { .. }
    ));
}

#[test]
fn missing_values_do_not_make_more_alerts() {
    let mut job = job(8000, "pca", 1);
    job.params.rows_max = 10_000;
    let model = trained(&job).model;
    let mut rng = Seed(77).rng();
    let mut fresh = ndarray::Array2::zeros((4000, 3));
    for mut row in fresh.rows_mut() {
        let (x, y): (f64, f64) = (rng.gen_range(-1.0..1.0), rng.gen_range(-1.0..1.0));
        row[0] = x;
        row[1] = y;
        row[2] = x + y + rng.gen_range(-0.05..0.05);
        row[rng.gen_range(0..3)] = f64::NAN;
    }
    let seeds: Vec<Seed> = (0..4000).map(Seed).collect();
    let judged = model.judge(fresh.view(), &seeds);
    let share = |p: f64| judged.p_value.iter().filter(|&&q| q <= p).count() as f64 / 4000.0;
    assert!(share(0.05) < 0.09 && share(0.05) > 0.02, "{}", share(0.05));
    assert!(share(0.01) < 0.03, "{}", share(0.01));
}

#[test]
fn any_number_of_rows_trains_or_says_why_not() {
    // Some of these leave folds too small for the judge of means, but not the whole.
    for (kind, window) in [("pca", 1), ("pca", 3), ("autoencoder", 3)] {
        for n in (130..460).step_by(30) {
            let mut job = job(n, kind, window);
            job.spec.network.epochs = 1;
            job.params.cross_below = usize::MAX;
            let trained = run(&job, &|| false);
            let few = matches!(trained, Err(TrainError::TooFewRows { .. }));
            assert!(few || trained.is_ok(), "{kind} of {n}: {:?}", trained.err());
        }
    }
}

#[test]
fn a_run_can_be_stopped() {
    let job = job(2000, "autoencoder", 1);
    let error = run(&job, &|| true).unwrap_err();
    assert!(error.is_cancelled(), "{error}");
}

#[test]
fn few_rows_calibrate_across_folds_and_keep_to_the_budget() {
    let share = |cross_below: usize| {
        let mut job = job(400, "pca", 1);
        job.params = Params {
            calibrate_share: 0.0,
            gate_share: 0.0,
            cross_below,
            ..job.params
        };
        let model = trained(&job).model;
        let fresh = rows(6000);
        let values: Vec<f64> = (1000..6000).flat_map(|i| fresh.row(i).to_vec()).collect();
        let fresh = ndarray::Array2::from_shape_vec((5000, 3), values).unwrap();
        let seeds: Vec<Seed> = (0..5000).map(Seed).collect();
        let p_values = model.judge(fresh.view(), &seeds).p_value;
        let found = p_values.iter().filter(|&&p| p <= 0.02).count() as f64 / 5000.0;
        (found, model.calibration.full.samples, model.card)
    };
    let (cross, samples, card) = share(usize::MAX);
    assert!((0.008..0.035).contains(&cross), "{cross}");
    assert_eq!((samples, card.rows["fit"]), (400, 400));
    assert_eq!(card.usage.unwrap().folds, 4);
    // The verdict speaks of the last fold, by a model that was fitted on the rows before and calibrated without it.
    assert!(card.measures["recall"] > 0.3, "{:?}", card.measures);
    assert!(card.measures.contains_key("alert_rate"));
    let (_, samples, card) = share(0);
    assert_eq!((samples, card.rows["fit"]), (60, 340));
    assert!(card.measures["recall"] > 0.3 && !card.measures.contains_key("alert_rate"));
}

#[test]
fn kinds_that_validate_do_so_across_folds_too() {
    let mut job = job(400, "autoencoder", 1);
    job.params.recall_tolerance = 1.0;
    job.spec.network.epochs = 3;
    job.params.gate_share = 0.0;
    job.params.cross_below = 1000;
    let card = trained(&job).model.card;
    let rows = |name: &str| card.rows[name];
    assert_eq!(
        (rows("fit"), rows("validation"), rows("calibrate")),
        (340, 60, 400)
    );
}

#[test]
fn a_card_decides_how_rows_are_used() {
    let mut job = job(400, "pca", 2);
    job.params.cross_below = 1000;
    job.params.guard = 3;
    let original = trained(&job).model;
    let other = Params {
        rows_max: 300,
        gate_share: 0.3,
        ..Params::default()
    };
    let again = TrainJob {
        params: Params {
            rows_min: 100,
            ..other
        }
        .again(&original.card),
        remake: Some(original.card.clone()),
        ..job
    };
    let again = trained(&again).model;
    assert_eq!(again.to_bytes().unwrap(), original.to_bytes().unwrap());
}

#[test]
fn windows_are_judged_where_they_lie_as_they_are_by_themselves() {
    for kind in ["auto", "autoencoder"] {
        let mut job = job(1500, kind, 5);
        job.spec.network.epochs = 2;
        let model = trained(&job).model;
        let rows = rows(420);
        // Two strips, and windows in the order of records, which goes from one to the other; with a gap, and without.
        for gap in [false, true] {
            let strip = |from: usize, to: usize| {
                let mut values: Vec<f64> = (from..to).flat_map(|i| rows.row(i).to_vec()).collect();
                if gap && from == 0 {
                    values[301] = f64::NAN;
                }
                values
            };
            let (first, second) = (strip(0, 260), strip(260, 420));
            let at = |strip, end| WindowAt { strip, end };
            let windows: Vec<WindowAt> = (5..=160)
                .flat_map(|end| [at(1, end), at(0, end)])
                .chain((161..=260).map(|end| at(0, end)))
                .collect();
            let seeds: Vec<Seed> = (0..windows.len() as u64).map(Seed).collect();
            let strips = Strips {
                strips: &[&first, &second],
                windows: &windows,
            };
            let found = model.judge_strips(strips, &seeds);
            let alone = |at: &WindowAt| {
                let strip = if at.strip == 0 { &first } else { &second };
                strip[(at.end - 5) * 3..at.end * 3].to_vec()
            };
            let numbers = windows.iter().flat_map(alone).collect();
            let copies = ndarray::Array2::from_shape_vec((windows.len(), 15), numbers).unwrap();
            assert_eq!(found, model.judge(copies.view(), &seeds), "{kind}, {gap}");
        }
    }
}

/// A stream without faults, trained on again and again; what counts as anomalous is kept out, as episodes of one record. Alerts by thirds of
/// the trainings, as multiples of what the budget allows.
fn alerts_over_trainings(trainings: usize, (budget, kept_out): (f64, bool)) -> [f64; 3] {
    let (history, step) = (6000, 2000);
    let all = rows(history + step * trainings);
    let mut exclusions: Vec<Exclusion> = Vec::new();
    let mut champion: Option<Arc<TrainedModel>> = None;
    let mut shares = Vec::new();
    for training in 0..trainings {
        let end = history + step * training;
        let mut part = PartitionRows::new(TopicPartition::new("t", 0), 3);
        for i in end - history..end {
            let key = &all.keys()[all.key_number(i)];
            part.push(key, all.time(i), all.offset(i), all.row(i));
        }
        let mut job = job(10, "pca", 1);
        job.rows = vec![part];
        job.budget = Budget::PerRecord(budget);
        job.seed = Seed(training as u64);
        job.params.guard = 5;
        job.exclusions = exclusions.clone();
        job.champion = champion.clone();
        let model = Arc::new(trained(&job).model);
        let next: Vec<usize> = (end..end + step).collect();
        let values = next.iter().flat_map(|&i| all.row(i).to_vec()).collect();
        let fresh = ndarray::Array2::from_shape_vec((step, 3), values).unwrap();
        let seeds: Vec<Seed> = (0..step as u64).map(Seed).collect();
        let p_values = model.judge(fresh.view(), &seeds).p_value;
        let flagged: Vec<usize> = (0..step).filter(|&i| p_values[i] <= budget).collect();
        shares.push(flagged.len() as f64 / step as f64 / budget);
        if kept_out {
            exclusions.extend(flagged.iter().map(|&i| {
                let at = all.offset(end + i);
                Exclusion {
                    at: TopicPartition::new("t", 0),
                    key: all.keys()[all.key_number(end + i)].0.as_ref().to_owned(),
                    from: at,
                    to: Some(at.next()),
                    because: format!("episode {at}").into(),
                    feedback: None,
                }
            }));
        }
        champion = Some(model);
    }
    let third = trainings / 3;
    [0, 1, 2]
        .map(|part| shares[part * third..(part + 1) * third].iter().sum::<f64>() / third as f64)
}

#[test]
fn what_is_kept_out_of_the_fit_does_not_raise_the_next_models_alerts() {
    let thirds = alerts_over_trainings(18, (0.01, true));
    assert!((0.5..1.5).contains(&thirds[2]), "{thirds:?}");
}

#[test]
#[ignore = "a hundred trainings"]
fn alerts_keep_to_the_budget_over_a_hundred_trainings() {
    for budget in [0.01, 0.001] {
        let thirds = alerts_over_trainings(100, (budget, true));
        eprintln!("budget {budget}: alerts by thirds of the trainings, of nominal: {thirds:.2?}");
        // Far out, the tail is cautious from the first model on.
        let least = if budget < 0.01 { 0.0 } else { 0.5 };
        assert!((least..1.5).contains(&thirds[2]), "{budget}: {thirds:?}");
    }
}
