//! Rows a second that each kind learns and scores, at 38 features.
//!
//! Budget: a dense pass of a 38 → 10 → 38 autoencoder is 760 multiplications a row, so 1 M rows/s need 0.8 GFLOP/s of the 20 or so that
//! one core gives; a variational autoencoder with 8 draws needs five times that and 80 normal variates a row.

use anomalyd::model::spec::ModelSpec;
use anomalyd::model::{FitData, Model, Unwatched};
use anomalyd::seed::Seed;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ndarray::Array2;
use rand::Rng;

const WIDTH: usize = 38;
const TRAIN_ROWS: usize = 5_000;
const SCORE_ROWS: usize = 8_192;

fn rows(n: usize, seed: Seed) -> Array2<f32> {
    let mut rng = seed.rng();
    let causes = Array2::from_shape_fn((n, 6), |_| rng.gen_range(-1.0_f32..1.0));
    let mixing = Array2::from_shape_fn((6, WIDTH), |(i, j)| ((i * 7 + j * 3) as f32).sin());
    let noise = Array2::from_shape_fn((n, WIDTH), |_| rng.gen_range(-0.2_f32..0.2));
    causes.dot(&mixing) + noise
}

fn models(criterion: &mut Criterion) {
    let data = FitData {
        train: rows(TRAIN_ROWS, Seed(1)),
        validation: rows(500, Seed(2)),
    };
    let scored = rows(SCORE_ROWS, Seed(3));
    let seeds: Vec<Seed> = (0..SCORE_ROWS as u64).map(Seed).collect();
    for kind in ["autoencoder", "vae", "gan"] {
        let spec = ModelSpec {
            kind: kind.to_owned(),
            epochs: 5,
            ..ModelSpec::default()
        };
        let fit = || Model::fit(&spec, &data, Seed(7), &mut Unwatched);
        let mut group = criterion.benchmark_group(kind);
        group.sample_size(10);
        group.throughput(Throughput::Elements(5 * TRAIN_ROWS as u64));
        group.bench_function("train_5_epochs_of_5000x38", |bencher| bencher.iter(fit));
        let Ok(model) = fit() else { continue };
        group.throughput(Throughput::Elements(SCORE_ROWS as u64));
        group.bench_function("score_8192x38", |bencher| {
            bencher.iter(|| model.as_kind().score(scored.view(), &seeds));
        });
        group.finish();
    }
}

criterion_group!(benches, models);
criterion_main!(benches);
