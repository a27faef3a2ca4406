//! What every kind must do, as one check, and the toy data for it.

use ndarray::{Array2, ArrayView2, Axis, concatenate};
use rand::Rng;
use rand_distr::StandardNormal;

use super::spec::ModelSpec;
use super::{FitData, KINDS, Model, Trait, Unwatched};
use crate::model::tensors::Tensors;
use crate::seed::Seed;

/// `n` rows of `width` inputs that follow two hidden causes, plus a little noise: unit scale, no outliers.
pub fn correlated(n: usize, width: usize, seed: Seed) -> Array2<f32> {
    let mut rng = seed.rng();
    let hidden = Array2::from_shape_fn((n, 2), |_| rng.sample::<f32, _>(StandardNormal));
    let mixing = Array2::from_shape_fn((2, width), |(i, j)| {
        ((i + 1) as f32 * (j as f32 + 0.5)).sin()
    });
    let noise = Array2::from_shape_fn((n, width), |_| 0.1 * rng.sample::<f32, _>(StandardNormal));
    hidden.dot(&mixing) + noise
}

/// Training and validation rows of [`correlated`].
pub fn fit_data(width: usize) -> FitData {
    FitData {
        train: correlated(600, width, Seed(11)),
        validation: correlated(200, width, Seed(12)),
    }
}

/// The default settings of a kind.
pub fn of_kind(kind: &str) -> ModelSpec {
    ModelSpec {
        kind: kind.to_owned(),
        ..ModelSpec::default()
    }
}

/// Checks what the [`super::Kind`] trait promises of the kind that `spec` names, and that faults in one input of six score higher
/// than normal rows: the area under the curve must exceed `auc_min`.
pub fn check_kind(spec: &ModelSpec, auc_min: f64) {
    let data = fit_data(6);
    let fit = || {
        KINDS
            .fit(spec, &data, Seed(5), &mut Unwatched)
            .expect("fitted")
    };
    let model = fit();
    let kind = &model;
    assert_eq!(kind.width(), 6);

    let normal = correlated(150, 6, Seed(21));
    let mut faulty = correlated(150, 6, Seed(22));
    for (i, mut row) in faulty.axis_iter_mut(Axis(0)).enumerate() {
        row[i % 6] += if i % 2 == 0 { 4.0 } else { -4.0 };
    }
    let rows = concatenate(Axis(0), &[normal.view(), faulty.view()]).expect("same width");
    let seeds: Vec<Seed> = (0..rows.nrows() as u64).map(Seed).collect();
    let scores = kind.score(rows.view(), &seeds);
    assert!(
        scores.iter().all(|score| score.is_finite()),
        "scores are finite"
    );

    let found = auc(&scores.to_vec()[..150], &scores.to_vec()[150..]);
    assert!(
        found > auc_min,
        "{}: area under the curve {found}",
        spec.kind
    );

    assert_eq!(
        in_batches(&model, rows.view(), &seeds),
        vec![bits(&scores.to_vec()); 5],
        "batch independence"
    );
    assert_eq!(
        bits(&fit().score(rows.view(), &seeds).to_vec()),
        bits(&scores.to_vec()),
        "repeats"
    );

    check_file(spec, &model, (rows.view(), &seeds));
    check_traits(&model, data.train.view());

    let contributions = kind.contributions(rows.view());
    assert_eq!(contributions.dim(), rows.dim());
    assert!(
        contributions
            .iter()
            .all(|&share| share.is_finite() && share >= 0.0)
    );
    assert_eq!(kind.expected(rows.view()).dim(), rows.dim());
    assert!(
        kind.expected(rows.view())
            .iter()
            .all(|value| value.is_finite())
    );
    assert!(
        blames(contributions.view().split_at(Axis(0), 150).1) > 0.5,
        "{}: blames {contributions}",
        spec.kind
    );
}

/// Checks that a model comes back from its tensors as it was, and that an empty file is refused.
fn check_file(spec: &ModelSpec, model: &Model, (rows, seeds): (ArrayView2<'_, f32>, &[Seed])) {
    let mut file = Tensors::default();
    model.save(&mut file);
    let loaded = KINDS.load(&spec.kind, &file).expect("loaded");
    assert_eq!(
        bits(&loaded.score(rows, seeds).to_vec()),
        bits(&model.score(rows, seeds).to_vec()),
        "round trip"
    );
    let mut weights = file.tensors.values().flat_map(|(_, values)| values);
    assert!(
        weights.all(|value| value.is_finite()),
        "{}: all that is kept is finite, or the gate would reject it",
        spec.kind
    );
    assert!(
        KINDS.load(&spec.kind, &Tensors::default()).is_err(),
        "an empty file is refused"
    );
}

/// Checks that the list of kinds says of a model's what it does.
fn check_traits(model: &Model, train: ArrayView2<'_, f32>) {
    let has = |wanted| KINDS.with(wanted).contains(&model.name());
    if has(Trait::Combines) {
        return;
    }
    let kind = model;
    let seeds: Vec<Seed> = (0..train.nrows() as u64).map(Seed).collect();
    assert_eq!(
        kind.sample(2, Seed(1), 1.0).is_some(),
        has(Trait::Draws),
        "draws"
    );
    assert_eq!(
        kind.score_training(train, &seeds) != kind.score(train, &seeds),
        has(Trait::Remembers),
        "remembers"
    );
}

/// Share of the faulty rows whose faulty input contributes most.
fn blames(contributions: ArrayView2<'_, f32>) -> f64 {
    let right = contributions
        .axis_iter(Axis(0))
        .enumerate()
        .filter(|(i, row)| {
            let own = row[i % 6];
            row.iter().all(|&other| other <= own)
        });
    right.count() as f64 / contributions.nrows() as f64
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The bits of the scores when the rows come in batches of 1, 2, 3, 7 and 64.
fn in_batches(model: &Model, rows: ArrayView2<'_, f32>, seeds: &[Seed]) -> Vec<Vec<u32>> {
    let scored = |size: usize| {
        let batches = rows.axis_chunks_iter(Axis(0), size).zip(seeds.chunks(size));
        batches
            .flat_map(|(batch, seeds)| bits(&model.score(batch, seeds).to_vec()))
            .collect()
    };
    [1, 2, 3, 7, 64].map(scored).to_vec()
}

/// The probability that a faulty row scores higher than a normal one; half for ties.
pub fn auc(normal: &[f32], faulty: &[f32]) -> f64 {
    let wins: f64 = faulty
        .iter()
        .flat_map(|f| {
            normal.iter().map(move |n| {
                f64::from(u8::from(f > n)) + 0.5 * f64::from(u8::from(f.total_cmp(n).is_eq()))
            })
        })
        .sum();
    wins / (normal.len() * faulty.len()) as f64
}
