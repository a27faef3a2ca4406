//! The gate on small jobs; at length in `proofs`.

use std::sync::Arc;

use ndarray::{Array2, Axis};

use super::super::{Candidate, TrainJob};
use super::ground::Ground;
use super::harness::{
    COLUMNS, Outcome, Plant, Process, Sabotage, job, retrained, sabotaged, trained,
};
use crate::model::card::{Card, Exclusion, Feedback, Suspect};
use crate::model::gate_report::{Change, Reason};
use crate::model::levels::Levels;
use crate::model::trained::TrainedModel;
use crate::record::Key;
use crate::seed::Seed;
use crate::stats::calibration::Calibration;
use crate::stream::{Offset, TopicPartition};
use crate::time::Timestamp;
use crate::train::rows::PartitionRows;

fn names(candidate: &Candidate) -> Vec<&'static str> {
    let reasons = &candidate.verdict.reasons;
    reasons.iter().map(Reason::name).collect()
}

#[test]
fn no_sabotaged_challenger_is_promoted_and_no_good_one_rejected() {
    let mut outcome = Outcome::default();
    for (i, sabotage) in Sabotage::ALL.into_iter().enumerate() {
        let window = if sabotage == Sabotage::Shuffled { 4 } else { 1 };
        let setting = (Process::Independent, "pca", window, 2000);
        outcome.add(setting, sabotage, Seed(1).nth(i as u64));
    }
    let told = outcome.told.join("\n");
    assert_eq!(outcome.bad_promoted, 0, "{told}");
    assert_eq!(outcome.good_rejected, 0, "{told}");
}

#[test]
fn retrains_on_an_unchanged_process_are_promoted() {
    for process in [Process::Independent, Process::ShiftedKey, Process::Weekly] {
        let told = retrained((process, "pca", 1), 3, Seed(3));
        assert!(told.is_empty(), "{process:?}: {told:?}");
    }
}

/// Histograms of single features are blind to how features go together.
fn blind(folds: bool) -> TrainJob {
    let plant = Plant::new(Process::Independent, 2000, Seed(4));
    let mut job = job("hbos", 1, plant.rows(0, 2000), Seed(5));
    if folds {
        job.params.gate_share = 0.0;
        job.params.cross_below = usize::MAX;
    }
    job
}

#[test]
fn principal_components_do_not_take_the_place_of_the_default_pool() {
    let mut asked = blind(false);
    asked.spec.kind = "auto".to_owned();
    let made = trained(&asked);
    assert!(made.verdict.instead.is_none(), "{}", made.verdict);
    assert_eq!(made.model.card.spec.kind, "auto");
    assert!(made.model.card.measures["baseline.recall"] > 0.5);
}

#[test]
fn principal_components_take_the_place_of_what_finds_less() {
    for folds in [false, true] {
        let asked = blind(folds);
        let made = trained(&asked);
        let card = &made.model.card;
        let told = "promoted principal components instead of hbos, because they find ";
        assert!(card.gate.to_string().starts_with(told), "{}", card.gate);
        assert_eq!(card.spec.kind, "pca");
        assert_eq!(card.asked.as_deref(), Some("hbos"));
        assert!(card.measures["baseline.recall"] > 0.5);
        // It is what would have been made if it had been asked for.
        let mut plain = asked.clone();
        plain.spec.kind = "pca".to_owned();
        let plain = trained(&plain).model;
        assert_eq!(plain.calibration, made.model.calibration);
        assert_eq!(plain.normal_contribution, made.model.normal_contribution);
        assert_eq!(plain.card.rows, card.rows);
        // And it is made again from its card.
        let mut again = asked;
        again.spec = card.spec.clone();
        again.remake = Some(card.clone());
        let again = trained(&again).model;
        assert_eq!(again.to_bytes().unwrap(), made.model.to_bytes().unwrap());
    }
}

#[test]
fn what_is_as_good_as_principal_components_stays() {
    let plant = Plant::new(Process::Independent, 2000, Seed(4));
    let mut job = job("gmm", 1, plant.rows(0, 2000), Seed(5));
    let made = trained(&job);
    assert_eq!(made.model.card.spec.kind, "gmm", "{}", made.verdict);
    assert!(made.verdict.instead.is_none());
    // Whatever it lacks is let pass by a tolerance that is large enough.
    job.spec.kind = "hbos".to_owned();
    job.params.recall_tolerance = 1.0;
    assert_eq!(trained(&job).model.card.spec.kind, "hbos");
}

/// The rows, from the `begin`th on shifted by eight spreads in one feature.
fn shifted(rows: &PartitionRows, begin: usize) -> PartitionRows {
    let mut out = PartitionRows::new(rows.at.clone(), COLUMNS);
    for i in 0..rows.len() {
        let mut row: [f64; COLUMNS] = rows.row(i).try_into().unwrap();
        if i >= begin {
            row[2] += 8.0;
        }
        let key: &Key = &rows.keys()[rows.key_number(i)];
        out.push(key, rows.time(i), rows.offset(i), &row);
    }
    out
}

fn new_normal(rows: &PartitionRows) -> Vec<Exclusion> {
    let keys = rows.keys().iter();
    keys.map(|key| Exclusion {
        at: rows.at.clone(),
        key: key.0.to_string(),
        from: Offset(0),
        to: None,
        because: format!("episode of {}", key.0).into(),
        feedback: Some(Feedback::NewNormal),
    })
    .collect()
}

#[test]
fn a_step_that_stays_is_adopted_where_somebody_said_so_and_not_before() {
    let plant = Plant::new(Process::Independent, 6000, Seed(6));
    let first = job("pca", 1, plant.rows(0, 2000), Seed(7));
    let champion = Arc::new(trained(&first).model);
    let rows = shifted(&plant.rows(2000, 2000), 0);
    let mut next = job("pca", 1, rows, Seed(8));
    next.champion = Some(Arc::clone(&champion));
    let refused = trained(&next);
    assert_eq!(
        names(&refused)[0],
        "earlier_alert_rate",
        "{}",
        refused.verdict
    );
    // Whoever promotes it nevertheless begins anew: earlier windows count no longer.
    assert_eq!(refused.model.reservoir.own, refused.model.reservoir.len());
    next.exclusions = new_normal(&next.rows[0]);
    let adopted = trained(&next);
    assert!(adopted.verdict.is_promoted(), "{}", adopted.verdict);
    // One of four keys has changed: the others still count.
    next.exclusions.truncate(1);
    assert!(!trained(&next).verdict.is_promoted());
    // The same word does not count twice: what came after it is what is normal now.
    let mut back = job("pca", 1, plant.rows(4000, 2000), Seed(9));
    back.exclusions = new_normal(&back.rows[0]);
    back.champion = Some(Arc::new(adopted.model));
    assert!(!trained(&back).verdict.is_promoted());
    // While less than a day tells where to a key went, what was remembered of it does not count.
    let keys = back.rows[0].keys().iter();
    back.unsettled = keys.map(|key| key.0.to_string()).collect();
    assert!(trained(&back).verdict.is_promoted());
}

const HOUR_MS: i64 = 3_600_000;

#[test]
fn a_change_that_three_models_know_of_for_a_day_is_adopted() {
    let plant = Plant::new(Process::Independent, 4000, Seed(6));
    let first = job("pca", 1, plant.rows(0, 2000), Seed(7));
    let mut next = job("pca", 1, shifted(&plant.rows(2000, 2000), 0), Seed(8));
    next.champion = Some(Arc::new(trained(&first).model));
    let mut seen = Vec::new();
    for hours in [0, 12, 23, 24] {
        next.created = Timestamp(hours * HOUR_MS);
        let Candidate { model, verdict } = trained(&next);
        seen.push((verdict.is_promoted(), verdict.change.unwrap().models));
        // A change is told to the next only by those that were rejected for it.
        assert_eq!(
            model.card.gate.may_have_changed().is_some(),
            !verdict.is_promoted()
        );
        // What was before counts no longer, for whoever comes after.
        assert_eq!(model.reservoir.own, model.reservoir.len());
        next.change = model.card.gate.may_have_changed();
    }
    assert_eq!(seen, [(false, 1), (false, 2), (false, 3), (true, 4)]);
    // Two models are too few, however far apart.
    next.change = Some(Change {
        models: 1,
        since: Timestamp(-1000 * HOUR_MS),
    });
    assert!(!trained(&next).verdict.is_promoted());
}

#[test]
fn what_judges_the_latest_records_badly_knows_of_no_change() {
    for sabotage in [Sabotage::Collapsed, Sabotage::HalfScaled] {
        let plant = Plant::new(Process::Independent, 4000, Seed(6));
        let first = job("pca", 1, plant.rows(0, 2000), Seed(7));
        let mut next = job("pca", 1, plant.rows(2000, 2000), Seed(8));
        next.champion = Some(Arc::new(trained(&first).model));
        next.created = Timestamp(100 * HOUR_MS);
        next.change = Some(Change {
            models: 9,
            since: Timestamp(0),
        });
        let verdict = sabotaged(next, sabotage, Seed(9)).verdict;
        assert!(!verdict.is_promoted(), "{sabotage:?}: {verdict}");
    }
}

#[test]
fn a_model_in_use_that_alerts_as_often_is_no_excuse_without_earlier_windows() {
    let plant = Plant::new(Process::Independent, 4000, Seed(6));
    let first = job("pca", 1, plant.rows(0, 2000), Seed(7));
    let mut champion = trained(&first).model;
    // The last records of the history are another thing than those that were learnt.
    let rows = shifted(&plant.rows(2000, 2000), 1700);
    let mut next = job("pca", 1, rows, Seed(8));
    next.champion = Some(Arc::new(trained(&first).model));
    let excused = trained(&next);
    assert!(
        !names(&excused).contains(&"alert_rate"),
        "{}",
        excused.verdict
    );
    champion.reservoir = crate::model::reservoir::Reservoir::default();
    next.champion = Some(Arc::new(champion));
    let rejected = trained(&next);
    assert!(
        names(&rejected).contains(&"alert_rate"),
        "{}",
        rejected.verdict
    );
}

/// A model by z-scores of the columns that `spread` makes it look at.
fn z_scores(spread: [f64; 2]) -> TrainedModel {
    let mut model = TrainedModel::simple(1, &["a", "b"], 1, Calibration::fit(&[]));
    model.scaler.spread = spread.to_vec();
    model
}

#[test]
fn only_what_is_no_chance_is_a_difference() {
    let plant = Plant::new(Process::Independent, 1000, Seed(6));
    let rows = plant.rows(0, 1000);
    let windows = Array2::from_shape_fn((1000, 2), |(i, j)| rows.row(i)[2 * j + 2]);
    let mean = windows.mean_axis(Axis(0)).unwrap();
    let windows = windows - mean;
    let (sees, blind) = (z_scores([1.0, 1.0]), z_scores([1.0, 1e6]));
    let ground = Ground::new(&windows, &[true; 2], Seed(1)).unwrap();
    let (all, half) = (ground.seen(&sees), ground.seen(&blind));
    let more = ground.more(&half, &all);
    assert!(more[0].at_least > 0.05, "{:?}", more[0]);
    assert!(ground.more(&all, &half)[0].at_least < 0.0);
    assert!(
        ground
            .more(&all, &all)
            .iter()
            .all(|more| more.at_least <= 0.0)
    );
    // On a handful of windows nothing is sure.
    let few = Ground::new(
        &windows.select(Axis(0), &[0, 1, 2, 3, 4, 5]),
        &[true; 2],
        Seed(1),
    )
    .unwrap();
    let more = few.more(&few.seen(&half_blind()), &few.seen(&sees));
    assert!(more[0].at_least <= 0.0, "{:?}", more[0]);
}

#[test]
fn each_model_sees_windows_by_its_own_levels_of_keys() {
    let raw = Array2::from_shape_fn((60, 2), |(i, j)| 100.0 + (i * 7 % 11 + j * 3) as f64 / 5.0);
    let keys = vec!["k".to_owned(); 60];
    let mut model = z_scores([1.0, 1.0]);
    model.levels = Levels::of_one("k", &[100.0, 101.0], 3.0);
    let ground =
        |levels: &Levels| Ground::of_keys((&keys, &raw), levels, &[true; 2], Seed(1)).unwrap();
    let own = ground(&model.levels).clean(&model);
    let others = ground(&Levels::of_one("k", &[90.0, 90.0], 0.5)).clean(&model);
    for (own, other) in own.score.iter().zip(&others.score) {
        assert!((own - other).abs() < 1e-5, "{own} {other}");
    }
    assert!(own.score.iter().all(|score| *score < 10.0));
}

#[test]
fn what_is_context_is_neither_struck_nor_held_against_a_model() {
    let plant = Plant::new(Process::Independent, 400, Seed(6));
    let rows = plant.rows(0, 400);
    let windows = Array2::from_shape_fn((400, 2), |(i, j)| rows.row(i)[j]);
    let ground = Ground::new(&windows, &[true, false], Seed(1)).unwrap();
    for (fault, struck) in &ground.faulty {
        let changed = |column: usize| {
            let pairs = struck
                .column(column)
                .into_iter()
                .zip(windows.column(column));
            pairs.filter(|(a, b)| a.total_cmp(b).is_ne()).count()
        };
        assert!(changed(0) > 350, "{fault:?}");
        assert_eq!(changed(1), 0, "{fault:?}");
    }
    let model = TrainedModel::simple(1, &["a", "b"], 1, Calibration::fit(&[]));
    assert!(ground.errors(&model).iter().all(|error| error.is_finite()));
}

#[test]
fn whoever_says_that_a_suspect_is_the_new_normal_is_heard_once() {
    let mut next = job(
        "pca",
        1,
        PartitionRows::new(TopicPartition::new("t", 0), 6),
        Seed(1),
    );
    let exclusion = Exclusion {
        feedback: None,
        key: "key-0".to_owned(),
        because: "d-t-0-0".into(),
        ..new_normal(&Plant::new(Process::Independent, 4, Seed(1)).rows(0, 4)).remove(0)
    };
    let mut champion = Card::blank();
    champion.suspects = vec![Suspect {
        exclusion: exclusion.clone(),
        from_time: Timestamp(0),
        to_time: Timestamp(1),
        excess: 2.0,
        features: Vec::new(),
    }];
    assert!(super::newly_normal(&next, &champion).is_empty());
    let id = exclusion.because;
    next.feedback.insert(id.clone(), Feedback::FalsePositive);
    assert!(super::newly_normal(&next, &champion).is_empty());
    next.feedback.insert(id, Feedback::NewNormal);
    let changed = super::newly_normal(&next, &champion);
    assert_eq!(changed.into_iter().collect::<Vec<_>>(), ["key-0"]);
    champion.suspects[0].exclusion.feedback = Some(Feedback::NewNormal);
    assert!(super::newly_normal(&next, &champion).is_empty());
}

fn half_blind() -> TrainedModel {
    z_scores([1.0, 1.5])
}

#[test]
fn alerts_in_one_stretch_are_less_sure_than_the_same_number_everywhere() {
    let together: Vec<bool> = (0..1000).map(|i| i < 80).collect();
    let apart: Vec<bool> = (0..1000).map(|i| i % 12 == 0).collect();
    let bound = |alerts: &[bool], clustered| Ground::bound(alerts, (0.01, 3.0), clustered);
    // 30 expected, and three standard deviations.
    assert!((bound(&apart, true) - (30.0 + 3.0 * 30_f64.sqrt())).abs() < 1e-9);
    assert!(bound(&together, true) > 80.0 && bound(&together, false) < 80.0);
}
