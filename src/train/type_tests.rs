//! Topics in which keys of several types send other features.

use ndarray::{Array2, ArrayView2, Axis};
use rand::Rng;
use rand_distr::StandardNormal;

use super::rows::PartitionRows;
use super::tests::{job, trained};
use super::*;
use crate::model::trained::{Strips, WindowAt};
use crate::record::Key;
use crate::seed::Seed;
use crate::stream::{Offset, TopicPartition};
use crate::time::Timestamp;

const COLUMNS: [&str; 7] = ["x", "y", "sum", "on", "current", "heat", "load"];

/// A record of a pump (the first three columns), or of an oven (the others), which is off in one of four hundred records at a time.
fn record(oven: bool, i: usize, rng: &mut impl Rng) -> [f64; 7] {
    let mut normal = || rng.sample::<f64, _>(StandardNormal);
    let mut row = [f64::NAN; 7];
    if oven {
        let on = if i % 400 < 300 { 1.0 } else { 0.0 };
        let own = [
            on,
            12.0 * on + 0.1 * normal(),
            80.0 * on + normal(),
            5.0 * on + 0.1 * normal(),
        ];
        row[3..].copy_from_slice(&own);
    } else {
        let (x, y) = (normal(), normal());
        row[..3].copy_from_slice(&[x, y, x + y + 0.1 * normal()]);
    }
    row
}

/// Six pumps and two ovens, by turns.
fn rows(n: usize, seed: u64) -> PartitionRows {
    let mut rng = Seed(seed).rng();
    let mut rows = PartitionRows::new(TopicPartition::new("t", 0), COLUMNS.len());
    for i in 0..n {
        let key = i % 8;
        let name = if key < 6 {
            format!("pump-{key}")
        } else {
            format!("oven-{key}")
        };
        // The ovens are not off together.
        let row = record(key >= 6, i / 8 + 200 * (key % 2), &mut rng);
        rows.push(
            &Key(name.into()),
            Timestamp(1000 * i as i64),
            Offset(i as i64),
            &row,
        );
    }
    rows
}

fn mixed(n: usize, window: usize) -> TrainJob {
    let mut job = job(100, "pca", window);
    job.columns = COLUMNS.map(str::to_owned).to_vec();
    job.rows = vec![rows(n, 3)];
    job
}

/// Windows of one record, of pumps or of ovens.
fn fresh(oven: bool) -> Array2<f64> {
    let rows = rows(16_000, 4);
    let ours = (0..rows.len()).filter(|i| (i % 8 >= 6) == oven);
    let values: Vec<f64> = ours.flat_map(|i| rows.row(i).to_vec()).collect();
    Array2::from_shape_vec((values.len() / COLUMNS.len(), COLUMNS.len()), values).unwrap()
}

fn p_values(model: &TrainedModel, windows: ArrayView2<'_, f64>) -> Vec<f64> {
    let seeds: Vec<Seed> = (0..windows.nrows() as u64).map(Seed).collect();
    model.judge(windows, &seeds).p_value
}

#[test]
fn each_type_of_keys_has_a_model_of_its_own_features() {
    let model = trained(&mixed(8000, 1)).model;
    let found: Vec<(&[String], u64)> = (model.card.types.iter())
        .map(|of| (&of.features[..], of.keys))
        .collect();
    let names = COLUMNS.map(str::to_owned);
    assert_eq!(found, [(&names[..3], 6), (&names[3..], 2)]);
    for oven in [false, true] {
        let p = p_values(&model, fresh(oven).view());
        let share = p.iter().filter(|p| **p <= 0.02).count() as f64 / p.len() as f64;
        assert!((0.008..0.04).contains(&share), "{oven} {share}");
    }
    // What neither feature does by itself.
    let mut odd = fresh(false).select(Axis(0), &[0, 1, 2]);
    odd.column_mut(2).iter_mut().for_each(|sum| *sum += 1.5);
    assert!(p_values(&model, odd.view()).iter().all(|p| *p < 1e-3));
    let explained = model.explain(odd.select(Axis(0), &[0]).view(), 0);
    assert!(explained.shares[3..].iter().all(|share| *share == 0.0));
    assert!(
        explained.expected[3..]
            .iter()
            .all(|expected| expected.is_nan())
    );
    assert!((explained.shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    assert!(model.threshold(1e-3) > model.threshold(1e-2) && model.confidence(&[1.0; 7]) > 0.0);
}

#[test]
fn what_half_of_a_types_records_do_is_no_suspect() {
    // Ovens are a quarter of all records, and off in a quarter of theirs.
    let card = trained(&mixed(8000, 10)).model.card;
    assert_eq!(card.types.len(), 2);
    assert!(card.suspects.is_empty(), "{:?}", card.suspects);
}

#[test]
fn types_are_found_again_by_what_was_stored_of_them_and_by_the_card() {
    for (folds, window) in [(0, 1), (usize::MAX, 2)] {
        let mut job = mixed(1600, window);
        job.params.cross_below = folds;
        let first = trained(&job);
        let bytes = first.model.to_bytes().unwrap();
        assert_eq!(trained(&job).model.to_bytes().unwrap(), bytes);
        let back = TrainedModel::from_bytes(&bytes).unwrap();
        assert_eq!(back.types.len(), 2);
        assert_eq!(back.to_bytes().unwrap(), bytes);
        let again = TrainJob {
            remake: Some(first.model.card.clone()),
            ..job
        };
        let mut again = trained(&again).model;
        again.reservoir = first.model.reservoir.clone();
        assert_eq!(again.to_bytes().unwrap(), bytes);
    }
}

#[test]
fn windows_in_strips_are_judged_by_their_type_as_by_themselves() {
    let model = trained(&mixed(1600, 2)).model;
    let (pumps, ovens) = (fresh(false), fresh(true));
    let strip = |rows: &Array2<f64>| {
        rows.iter()
            .take(3 * COLUMNS.len())
            .copied()
            .collect::<Vec<f64>>()
    };
    let (pump, oven) = (strip(&pumps), strip(&ovens));
    let at = |strip, end| WindowAt { strip, end };
    let strips = Strips {
        strips: &[&pump, &oven],
        windows: &[at(1, 2), at(0, 3), at(0, 2), at(1, 3)],
    };
    let seeds: Vec<Seed> = (0..4).map(Seed).collect();
    let together = model.judge_strips(strips, &seeds);
    let parts = [&oven[..14], &pump[7..], &pump[..14], &oven[7..]];
    for (i, part) in parts.into_iter().enumerate() {
        let alone = ArrayView2::from_shape((1, 14), part).unwrap();
        let alone = model.judge(alone, &seeds[i..=i]);
        assert_eq!(alone.p_value[0].to_bits(), together.p_value[i].to_bits());
        assert_eq!(alone.score[0].to_bits(), together.score[i].to_bits());
    }
}

#[test]
fn keys_that_lack_a_sensor_and_types_of_a_few_records_are_none() {
    // Every other pump sends no third feature.
    let mut some = mixed(8000, 1);
    let mut rng = Seed(5).rng();
    let mut lacking = PartitionRows::new(TopicPartition::new("t", 0), COLUMNS.len());
    for i in 0..8000_usize {
        let mut row = record(false, i, &mut rng);
        if i % 2 == 0 {
            row[2] = f64::NAN;
        }
        let key = Key(format!("pump-{}", i % 8).into());
        lacking.push(&key, Timestamp(1000 * i as i64), Offset(i as i64), &row);
    }
    some.rows = vec![lacking];
    assert!(trained(&some).model.types.is_empty());
    // One hundred windows of ovens are asked for, and they have fewer.
    assert_eq!(trained(&mixed(480, 1)).model.types.len(), 1);
}
