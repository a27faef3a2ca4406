//! What is remembered of surprises: it has its say in the scores that go out, never in p-values, and not beyond a silence.

use ndarray::{Array1, Array2, ArrayView2};

use super::tests::{assignment, model, params, work};
use super::*;
use crate::model::tensors::Tensors;
use crate::model::{Kind, Model};
use crate::seed::Seed;

/// Two columns in windows of two, whose first column's square is the surprise, and nothing is strange.
#[derive(Debug)]
struct Forecasting;

impl Kind for Forecasting {
    fn width(&self) -> usize {
        4
    }

    fn score(&self, rows: ArrayView2<'_, f32>, _seeds: &[Seed]) -> Array1<f32> {
        Array1::zeros(rows.nrows())
    }

    fn surprise(&self, rows: ArrayView2<'_, f32>) -> Option<Array1<f32>> {
        Some(rows.column(2).mapv(|value| value * value))
    }

    fn expected(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        Array2::zeros(rows.raw_dim())
    }

    fn save(&self, _to: &mut Tensors) {}
}

fn forecasting() -> Arc<TrainedModel> {
    let Some(mut model) = Arc::into_inner(model(1, 2)) else {
        panic!("it is ours alone");
    };
    model.model = Model::new("robust_z", Box::new(Forecasting));
    Arc::new(model)
}

/// A pipeline with this state, and from where on it is to be replayed.
fn ready(state: Vec<StateEntry>, committed: i64) -> (Pipeline, i64) {
    let params = Params {
        window: 2,
        snapshot_records: 1,
        ..params()
    };
    let mut pipeline = super::tests::pipeline(params, Missing::Mask);
    pipeline.promote(forecasting()).unwrap();
    let restored = pipeline.assign(&assignment(committed, state), Some(forecasting()));
    let restored = restored.unwrap();
    assert_eq!(restored.discarded, None);
    (pipeline, restored.read_from.0)
}

/// Scores and p-values of records of key `a` with these numbers, a second apart from `time` (in seconds) on.
fn scores(pipeline: &mut Pipeline, (offset, time): (i64, i64), values: &[f64]) -> Vec<(f64, f64)> {
    let rows: Vec<[f64; 2]> = values.iter().map(|&value| [value, 0.0]).collect();
    let rows: Vec<super::tests::Row<'_>> = (0..)
        .zip(&rows)
        .map(|(i, row)| (offset + i, "a", 1000 * (time + i), &row[..]))
        .collect();
    let (outbox, _) = work(pipeline, &rows);
    let scores = outbox.scores.iter();
    scores.map(|score| (score.score, score.p_value)).collect()
}

#[test]
fn a_surprise_is_remembered_in_scores_and_not_in_p_values() {
    let (mut pipeline, _) = ready(Vec::new(), 0);
    let mut found = scores(&mut pipeline, (0, 0), &[0.0, 0.0, 6.0, 0.0]);
    found.extend(scores(&mut pipeline, (4, 4), &[0.0]));
    // The first fills the window. Then half the root of the mean of the squares: 0; 0, 36; 0, 36, 0; 0, 36, 0, 0.
    let wanted = [0.0, 0.0, 18.0_f64.sqrt() / 2.0, 12.0_f64.sqrt() / 2.0, 1.5];
    for ((score, _), wanted) in found.iter().zip(wanted) {
        assert!((score - wanted).abs() < 1e-6, "{found:?}");
    }
    assert!(found.iter().all(|(_, p)| *p > 0.5), "{found:?}");
}

#[test]
fn what_came_before_a_silence_is_not_remembered() {
    let (mut pipeline, _) = ready(Vec::new(), 0);
    let mut values = [0.0; 60];
    values[58] = 6.0;
    let before = scores(&mut pipeline, (0, 0), &values);
    assert!(before[59].0 > 0.5, "{before:?}");
    let later = scores(&mut pipeline, (60, 10_000_000), &[0.0, 0.0, 0.0]);
    assert!(later.iter().all(|(score, _)| *score < 1e-9), "{later:?}");
}

#[test]
fn a_restart_remembers_as_much() {
    let (mut pipeline, _) = ready(Vec::new(), 0);
    let rows: [super::tests::Row<'_>; 4] = [
        (0, "a", 0, &[0.0, 0.0]),
        (1, "a", 1000, &[0.0, 0.0]),
        (2, "a", 2000, &[6.0, 0.0]),
        (3, "a", 3000, &[0.0, 0.0]),
    ];
    work(&mut pipeline, &rows[..3]);
    let (outbox, _) = work(&mut pipeline, &rows[3..]);
    let (mut restarted, from) = ready(outbox.state, 4);
    assert!(from > 2, "the surprise is in the snapshot, {from}");
    work(&mut restarted, &rows[from as usize..]);
    let values = [0.0, 1.0];
    let wanted = scores(&mut pipeline, (4, 4), &values);
    assert_eq!(scores(&mut restarted, (4, 4), &values), wanted);
    assert!(wanted[0].0 > 1.0, "{wanted:?}");
}
