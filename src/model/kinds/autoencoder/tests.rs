//! What every kind promises, for each form of the autoencoder, and what sparsity is for.

use std::ops::ControlFlow;

use ndarray::{Axis, concatenate};

use super::*;
use crate::model::options::{Regularizers, Switch};
use crate::model::testing::{auc, check_kind, correlated, fit_data, of_kind};

fn spec(list: &[Regularizer]) -> ModelSpec {
    of_kind("autoencoder")
        .with(|spec| spec.autoencoder.regularizer = Regularizers::Several(list.to_vec()))
}

#[test]
fn keeps_the_promises_of_a_kind() {
    use Regularizer::{Contractive, Denoising, L1, Masking, Sparse};
    for list in [
        &[][..],
        &[Sparse],
        &[L1],
        &[Denoising],
        &[Contractive],
        &[Sparse, Denoising],
    ] {
        check_kind(&spec(list), 0.9);
    }
    check_kind(
        &spec(&[Masking]).with(|spec| spec.autoencoder.noise_level = 0.2),
        0.9,
    );
    check_kind(
        &spec(&[]).with(|spec| {
            spec.autoencoder.fixed.tied = Switch::On;
            spec.network.fixed.dropout = 0.1;
            spec.network.hidden = vec![12];
        }),
        0.9,
    );
}

#[test]
fn every_residual_and_activation_keeps_them() {
    for residual in [Residual::Squared, Residual::Robust, Residual::Whitened] {
        check_kind(
            &spec(&[]).with(|spec| {
                spec.autoencoder.residual = residual;
                spec.autoencoder.fixed.code_weight = 0.0;
            }),
            0.9,
        );
    }
    for activation in [Activation::LeakyRelu, Activation::Relu, Activation::Gelu] {
        check_kind(
            &spec(&[]).with(|spec| {
                spec.network.fixed.activation = activation;
                spec.network.hidden = vec![32];
                spec.network.epochs = 100;
            }),
            0.85,
        );
    }
}

#[test]
fn convolutions_keep_them() {
    let conv = spec(&[]).with(|spec| {
        spec.window = 3;
        spec.autoencoder.architecture = Architecture::Conv1d;
        spec.network.hidden = vec![8];
        spec.network.code = 3;
    });
    check_kind(&conv, 0.85);
}

/// Notes the losses.
#[derive(Default)]
struct Losses(Vec<(f64, f64)>);

impl Monitor for Losses {
    fn epoch(&mut self, _: usize, train: f64, validation: f64) -> ControlFlow<()> {
        self.0.push((train, validation));
        ControlFlow::Continue(())
    }
}

#[test]
fn the_loss_falls_far_below_that_of_the_mean() {
    let mut losses = Losses::default();
    let data = fit_data(6);
    Autoencoder::fit(&spec(&[]), &data, Seed(1), &mut losses).unwrap();
    let of_mean = data.validation.mapv(|v| v * v).mean().unwrap();
    let last = losses.0[losses.0.len() - 1];
    assert!(last.0 < 0.5 * losses.0[0].0, "{:?}", losses.0);
    assert!(
        last.1 < 0.3 * f64::from(of_mean),
        "{last:?} beside {of_mean}"
    );
}

#[test]
fn a_file_of_an_older_program_loads_and_draws() {
    let model = Autoencoder::fit(&spec(&[]), &fit_data(6), Seed(1), &mut Losses::default());
    let model = model.unwrap();
    let mut file = Tensors::default();
    model.save(&mut file);
    assert_eq!(Autoencoder::load(&file).unwrap(), model);
    file.tensors.retain(|name, _| !name.starts_with("codes."));
    let old = Autoencoder::load(&file).unwrap();
    let rows = correlated(50, 6, Seed(2));
    assert_eq!(old.score(rows.view(), &[]), model.score(rows.view(), &[]));
    let size = |rows: Array2<f32>| rows.var_axis(Axis(0), 0.0).sum();
    let drawn = size(old.sample(2000, Seed(3), 1.0).unwrap());
    let real = size(correlated(2000, 6, Seed(4)));
    assert!((drawn / real - 1.0).abs() < 0.3, "{drawn} beside {real}");
}

#[test]
fn a_monitor_can_cancel() {
    struct Stop;
    impl Monitor for Stop {
        fn epoch(&mut self, _: usize, _: f64, _: f64) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    let fitted = Autoencoder::fit(&spec(&[]), &fit_data(6), Seed(1), &mut Stop);
    assert_eq!(fitted, Err(FitError::Cancelled));
}

/// An overcomplete code, judged by the residual alone: sparse, and without a regulariser.
#[test]
fn a_sparse_overcomplete_code_does_not_learn_the_identity() {
    let overcomplete = spec(&[]).with(|spec| {
        spec.network.hidden = vec![24];
        spec.network.code = 12;
        spec.network.epochs = 150;
        spec.network.fixed.patience = 150;
        spec.autoencoder.residual = Residual::Squared;
        spec.autoencoder.fixed.code_weight = 0.0;
        spec.autoencoder.fixed.sparsity_target = 0.05;
        spec.autoencoder.fixed.sparsity_weight = 1.0;
    });
    let sparse = overcomplete.clone().with(|spec| {
        spec.autoencoder.regularizer = Regularizers::One(Regularizer::Sparse);
    });
    let data = fit_data(6);
    let normal = correlated(200, 6, Seed(21));
    let mut faulty = correlated(200, 6, Seed(22));
    for (at, mut row) in faulty.axis_iter_mut(Axis(0)).enumerate() {
        row[at % 6] += if at % 2 == 0 { 1.0 } else { -1.0 };
    }
    let rows = concatenate(Axis(0), &[normal.view(), faulty.view()]).unwrap();
    let found = |spec: &ModelSpec| {
        let model = Autoencoder::fit(spec, &data, Seed(3), &mut crate::model::Unwatched).unwrap();
        let scores = model.score(rows.view(), &[]).to_vec();
        (auc(&scores[..200], &scores[200..]), model)
    };
    let (plain, _) = found(&overcomplete);
    let (with, model) = found(&sparse);
    let activation = model.code(data.validation.view()).unwrap().mean().unwrap();
    assert!(activation <= 0.1, "mean activation {activation}");
    assert!(
        with > plain + 0.02 && with > 0.9,
        "sparse {with}, plain {plain}"
    );
}
