//! What an autoencoder is trained on: the squared error of the clean row, the worst rows left out, and the regularisers.
//!
//! All weights of regularisers are relative to a row's summed squared error; everything is divided by the width of a row.

use ndarray::{Array2, ArrayView2, ArrayViewMut2};
use rand_chacha::ChaCha8Rng;

use crate::model::chunks::CHUNK;
use crate::model::kinds::epochs::{Objective, descend};
use crate::model::options::{Architecture, Regularizer};
use crate::model::spec::ModelSpec;
use crate::model::{FitData, FitError, Monitor};
use crate::nn::loss::{
    Trimmer, add_kl_sparsity, add_l1, mse_grad, row_mse, trimmed_weights, weighted,
};
use crate::nn::net::{Net, Tape};
use crate::nn::noise::{add_normal, fill_signs, mask};
use crate::nn::{Pair, Params};
use crate::seed::Seed;

/// Rows up to this wide have their derivative taken exactly, direction by direction; for wider ones, one random direction a row and
/// step estimates it without bias (Hutchinson, 1990).
pub const EXACT_WIDTH: usize = 16;

/// Trains encoder and decoder from `start`.
pub fn train(
    spec: &ModelSpec,
    start: Pair<Net, Net>,
    data: &FitData,
    seed: Seed,
    monitor: &mut dyn Monitor,
) -> Result<Pair<Net, Net>, FitError> {
    let grads = Pair(start.0.zeros_like(), start.1.zeros_like());
    let mut objective = Reconstruction::new(spec, seed);
    let nets = descend(spec, (start, grads), &mut objective, (data, seed), monitor)?;
    finite(&nets)?;
    Ok(nets)
}

/// The objective, with the room it works in and its sources of noise.
#[derive(Debug)]
pub struct Reconstruction<'a> {
    spec: &'a ModelSpec,
    trimmer: Trimmer,
    encoder: Tape,
    decoder: Tape,
    input: Array2<f32>,
    directions: Array2<f32>,
    noise: ChaCha8Rng,
    dropout: ChaCha8Rng,
    probes: ChaCha8Rng,
}

impl<'a> Reconstruction<'a> {
    pub fn new(spec: &'a ModelSpec, seed: Seed) -> Self {
        Self {
            spec,
            trimmer: Trimmer::new(spec.trim),
            encoder: Tape::default(),
            decoder: Tape::default(),
            input: Array2::zeros((0, 0)),
            directions: Array2::zeros((0, 0)),
            noise: seed.child("noise").rng(),
            dropout: seed.child("dropout").rng(),
            probes: seed.child("probes").rng(),
        }
    }

    /// Adds the sparsity of the codes on the encoder's tape, and its gradient to the tape's.
    fn sparsity(&mut self, weights: &[f32], width: usize) -> f64 {
        if !is_sparse(self.spec) {
            return 0.0;
        }
        let (code, grad) = self.encoder.output_and_grad();
        add_sparsity(self.spec, (code, weights), width, grad)
    }

    /// Adds ‖∂code/∂input‖² of the rows with a weight, averaged.
    fn contraction(&mut self, nets: &Net, weights: &[f32], width: usize, grads: &mut Net) -> f64 {
        if !self
            .spec
            .autoencoder
            .regularizer
            .has(Regularizer::Contractive)
        {
            return 0.0;
        }
        let each = weights.iter().fold(0.0_f32, |most, w| most.max(*w));
        let factor = self.spec.autoencoder.contractive_weight * each / width as f32;
        let shape = (weights.len(), width);
        if self.directions.dim() != shape {
            self.directions = Array2::zeros(shape);
        }
        if width > EXACT_WIDTH {
            fill_signs(self.directions.view_mut(), &mut self.probes);
            for (mut row, &weight) in self.directions.rows_mut().into_iter().zip(weights) {
                if weight <= 0.0 {
                    row.fill(0.0);
                }
            }
            return nets.tangent_penalty(self.directions.view(), factor, &mut self.encoder, grads);
        }
        let mut sum = 0.0;
        for column in 0..width {
            self.directions.fill(0.0);
            for (one, &weight) in self.directions.column_mut(column).iter_mut().zip(weights) {
                *one = if weight > 0.0 { 1.0 } else { 0.0 };
            }
            sum += nets.tangent_penalty(self.directions.view(), factor, &mut self.encoder, grads);
        }
        sum
    }
}

impl Objective<Pair<Net, Net>> for Reconstruction<'_> {
    fn begin(&mut self, _epoch: usize) {
        self.trimmer.begin();
    }

    fn gradients(
        &mut self,
        nets: &Pair<Net, Net>,
        clean: ArrayView2<'_, f32>,
        grads: &mut Pair<Net, Net>,
    ) -> f64 {
        let width = clean.ncols();
        let spec = &self.spec.autoencoder;
        let masks = spec.regularizer.has(Regularizer::Masking);
        let noisy = masks || spec.regularizer.has(Regularizer::Denoising);
        if noisy {
            if self.input.dim() != clean.dim() {
                self.input = Array2::zeros(clean.raw_dim());
            }
            let disturb = if masks { mask } else { add_normal };
            let input = self.input.view_mut();
            disturb(clean, spec.noise_level, input, &mut self.noise);
        }
        // Moved out and back, so that the methods below can borrow the rest of self.
        let disturbed = std::mem::take(&mut self.input);
        let input = if noisy {
            disturbed.view()
        } else {
            clean.view()
        };
        let dropout = Some((self.spec.network.fixed.dropout, &mut self.dropout));
        nets.0.forward_kept(input, &mut self.encoder, dropout);
        let dropout = Some((self.spec.network.fixed.dropout, &mut self.dropout));
        nets.1
            .forward_kept(self.encoder.output(), &mut self.decoder, dropout);

        let losses = row_mse(self.decoder.output(), clean);
        let weights = self.trimmer.weights(&losses);
        let (output, grad) = self.decoder.output_and_grad();
        mse_grad(output, clean, &weights, grad);
        let (code, below) = self.encoder.output_and_grad();
        nets.1
            .backward(code, &mut self.decoder, &mut grads.1, Some(below));
        let mut loss = weighted(&losses, &weights);
        loss += self.sparsity(&weights, width);
        if self.spec.network.fixed.dropout > 0.0
            && self
                .spec
                .autoencoder
                .regularizer
                .has(Regularizer::Contractive)
        {
            // The derivative is that of the whole encoder, so it is taken on a pass of its own, without dropout.
            nets.0
                .backward(input, &mut self.encoder, &mut grads.0, None);
            nets.0.forward_kept(input, &mut self.encoder, None);
            self.encoder.output_grad().fill(0.0);
        }
        loss += self.contraction(&nets.0, &weights, width, &mut grads.0);
        nets.0
            .backward(input, &mut self.encoder, &mut grads.0, None);
        if is_tied(self.spec) {
            grads.1.untie_grads(&mut grads.0);
        }
        self.input = disturbed;
        loss
    }

    fn validate(&mut self, nets: &Pair<Net, Net>, rows: ArrayView2<'_, f32>) -> f64 {
        let width = rows.ncols();
        let (mut losses, mut codes) = (Vec::with_capacity(rows.nrows()), Vec::new());
        for chunk in rows.axis_chunks_iter(ndarray::Axis(0), CHUNK) {
            let code = nets.0.forward(chunk);
            losses.extend(row_mse(nets.1.forward(code.view()).view(), chunk));
            codes.push(code);
        }
        let weights = trimmed_weights(&losses, self.spec.trim);
        let mut loss = weighted(&losses, &weights);
        if is_sparse(self.spec) {
            let views: Vec<_> = codes.iter().map(Array2::view).collect();
            let Ok(code) = ndarray::concatenate(ndarray::Axis(0), &views) else {
                return f64::NAN;
            };
            let mut unused = Array2::zeros(code.raw_dim());
            let codes = (code.view(), &weights[..]);
            loss += add_sparsity(self.spec, codes, width, unused.view_mut());
        }
        loss
    }

    fn settle(&self, nets: &mut Pair<Net, Net>) {
        if is_tied(self.spec) {
            nets.1.tie_to(&nets.0);
        }
    }
}

fn is_sparse(spec: &ModelSpec) -> bool {
    let set = &spec.autoencoder.regularizer;
    set.has(Regularizer::Sparse) || set.has(Regularizer::L1)
}

/// The sparsity of codes of rows with weights; its gradient is added to `grad`.
fn add_sparsity(
    spec: &ModelSpec,
    (code, weights): (ArrayView2<'_, f32>, &[f32]),
    width: usize,
    grad: ArrayViewMut2<'_, f32>,
) -> f64 {
    let fixed = &spec.autoencoder.fixed;
    let factor = fixed.sparsity_weight / width as f32;
    if spec.autoencoder.regularizer.has(Regularizer::L1) {
        add_l1(code, weights, factor, grad)
    } else {
        add_kl_sparsity(code, weights, fixed.sparsity_target, factor, grad)
    }
}

/// Whether the decoder's weights are the encoder's. Filters cannot be tied.
pub(super) fn is_tied(spec: &ModelSpec) -> bool {
    let contracts = spec.autoencoder.regularizer.has(Regularizer::Contractive);
    spec.autoencoder.fixed.tied.or(contracts)
        && spec.autoencoder.architecture == Architecture::Dense
}

/// Fails unless every weight is a number.
pub(super) fn finite(nets: &Pair<Net, Net>) -> Result<(), FitError> {
    if nets.is_finite() {
        Ok(())
    } else {
        Err(FitError::NotFinite {
            what: "a weight of the autoencoder".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kinds::autoencoder::nets;
    use crate::model::options::{Architecture, Regularizers, Switch};
    use crate::nn::activation::Activation;
    use crate::nn::check::{check_gradient, normal};
    use crate::nn::net::Layer;

    /// The gradient of the whole objective, tied or not, against differences.
    fn check(spec: &ModelSpec, width: usize, seed: u64) {
        let start = nets(spec, width, Seed(3));
        let rows = normal(5, width, seed);
        let evaluate = |encoder: &Net, decoder: &Net, grads: &mut Pair<Net, Net>| {
            let mut both = Pair(encoder.clone(), decoder.clone());
            let mut objective = Reconstruction::new(spec, Seed(1));
            objective.settle(&mut both);
            // Sums over columns and rows, as they should be: a factor of 1/D that went missing shows.
            objective.gradients(&both, rows.view(), grads)
        };
        let zero = || Pair(start.0.zeros_like(), start.1.zeros_like());
        let mut grads = zero();
        let loss = evaluate(&start.0, &start.1, &mut grads);
        assert!(loss.is_finite());
        if is_tied(spec) {
            check_gradient(&start.0, &grads.0, &mut |net| {
                evaluate(net, &start.1, &mut zero())
            });
        } else {
            check_gradient(&start, &grads, &mut |both| {
                evaluate(&both.0, &both.1, &mut zero())
            });
        }
    }

    fn spec(list: &[Regularizer]) -> ModelSpec {
        ModelSpec::default().with(|spec| {
            spec.trim = 0.0;
            spec.network.hidden = vec![6];
            spec.network.code = 4;
            spec.network.fixed.activation = Activation::Gelu;
            spec.autoencoder.fixed.sparsity_weight = 0.5;
            spec.autoencoder.contractive_weight = 0.5;
            spec.autoencoder.regularizer = Regularizers::Several(list.to_vec());
        })
    }

    #[test]
    fn gradients_of_every_regularizer() {
        use Regularizer::{Contractive, Denoising, L1, Masking, Sparse};
        let lists: [&[Regularizer]; 5] = [
            &[],
            &[Sparse],
            &[Denoising],
            &[Contractive],
            &[Sparse, Denoising, Contractive],
        ];
        for list in lists {
            check(&spec(list), 5, 4);
            check(
                &spec(list).with(|spec| spec.autoencoder.fixed.tied = Switch::On),
                5,
                4,
            );
        }
        // A seed for which no code is so near 0 that a difference straddles the kink.
        check(&spec(&[L1]), 5, 5);
        let masking = spec(&[Masking]).with(|spec| spec.network.fixed.dropout = 0.3);
        check(&masking, 5, 4);
        check(&spec(&[Contractive]), EXACT_WIDTH + 1, 4);
        for tied in [Switch::Auto, Switch::Off] {
            let thinned = spec(&[Contractive]).with(|spec| {
                spec.network.fixed.dropout = 0.3;
                spec.autoencoder.fixed.tied = tied;
            });
            assert_eq!(is_tied(&thinned), tied == Switch::Auto);
            check(&thinned, 5, 4);
        }
    }

    #[test]
    fn dropout_reaches_a_contractive_encoder() {
        // A hidden unit that is off in every row has no part in the gradient of the code's weights.
        let silent = |dropout: f32| {
            let spec = spec(&[Regularizer::Contractive]).with(|spec| {
                spec.network.fixed.dropout = dropout;
                spec.autoencoder.contractive_weight = 0.0;
                spec.autoencoder.fixed.tied = Switch::Off;
            });
            let both = nets(&spec, 5, Seed(3));
            let mut grads = Pair(both.0.zeros_like(), both.1.zeros_like());
            let rows = normal(5, 5, 4);
            Reconstruction::new(&spec, Seed(1)).gradients(&both, rows.view(), &mut grads);
            let Layer::Dense(code) = &grads.0.stages[1].layer else {
                panic!("a dense encoder");
            };
            let off = |row: &ndarray::ArrayView1<'_, f32>| row.iter().all(|g| g.abs() < 1e-12);
            code.weight.rows().into_iter().filter(off).count()
        };
        assert_eq!(silent(0.0), 0);
        assert!(silent(0.8) > 0);
    }

    #[test]
    fn gradients_of_convolutional_autoencoders() {
        let conv = spec(&[Regularizer::Sparse, Regularizer::Contractive]).with(|spec| {
            spec.window = 5;
            spec.autoencoder.architecture = Architecture::Conv1d;
            spec.network.hidden = vec![3, 2];
        });
        check(&conv, 10, 4);
    }

    #[test]
    fn probes_estimate_the_derivative_without_bias() {
        let width = 4;
        let spec = spec(&[Regularizer::Contractive]);
        let Pair(encoder, _) = nets(&spec, width, Seed(3));
        let rows = normal(1, width, 4);
        let mut objective = Reconstruction::new(&spec, Seed(1));
        encoder.forward_kept(rows.view(), &mut objective.encoder, None);
        let exact = objective.contraction(&encoder, &[1.0], width, &mut encoder.zeros_like());
        let factor = spec.autoencoder.contractive_weight / width as f32;
        let mut sum = 0.0;
        let mut signs = Array2::zeros((1, width));
        let rng = &mut Seed(9).rng();
        for _ in 0..4000 {
            fill_signs(signs.view_mut(), rng);
            let tape = &mut objective.encoder;
            sum += encoder.tangent_penalty(signs.view(), factor, tape, &mut encoder.zeros_like());
        }
        let mean = sum / 4000.0;
        assert!((mean / exact - 1.0).abs() < 0.03, "{mean} {exact}");
    }
}
