//! Variational autoencoder: a row is strange when the model gives it little density.
//!
//! Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014; An and Cho, SNU 2015, on detecting anomalies with it; the
//! likelihood by importance weighting as in Burda, Grosse and Salakhutdinov, ICLR 2016; β as in Higgins et al., ICLR 2017.
//!
//! Encoder and decoder are Gaussian. The encoder gives each row a mean and a variance of its code; the decoder gives a mean, and
//! each input has one learned variance, bounded, so that neither a constant input nor a wild one can buy any likelihood it likes.
//! Scores are in nats, and may be negative.

use ndarray::{Array1, Array2, ArrayView2, Axis, Zip};
use rand_chacha::ChaCha8Rng;

use crate::model::chunks::{by_chunks, by_chunks2};
use crate::model::kinds::epochs::{Objective, descend};
use crate::model::kinds::net_file::{get_net, put_net};
use crate::model::options::Likelihood;
use crate::model::spec::ModelSpec;
use crate::model::tensors::{ModelFileError, Tensors};
use crate::model::{Build, FitData, FitError, Kind, Monitor};
use crate::nn::activation::Activation;
use crate::nn::loss::{
    Trimmer, add_gaussian_kl_grad, bounded, bounded_slope, gaussian_nll_grad, row_gaussian_kl,
    row_gaussian_nll, trimmed_weights, weighted,
};
use crate::nn::math::exp;
use crate::nn::net::{Net, Tape};
use crate::nn::noise::fill_normal;
use crate::nn::{Pair, Params};
use crate::seed::Seed;

/// Draws a row at most: as in the configuration.
const SAMPLES_MAX: usize = 4096;

/// Log-variances of inputs lie between these, in squared scaled units: a standard deviation of 0.05 to 2.7.
const LOG_VARIANCE: (f32, f32) = (-6.0, 2.0);

/// Fewer training rows than this teach a net nothing.
const ROWS_MIN: usize = 8;

/// Rows whose draws are decoded together: K · 32 rows of a hidden layer stay in the cache.
const DRAWN_ROWS: usize = 32;

/// Encoder, decoder, and the raw log-variances of the inputs ([`bounded`] makes them log-variances).
type Nets = Pair<Pair<Net, Net>, Array1<f32>>;

/// A fitted variational autoencoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Vae {
    encoder: Net,
    decoder: Net,
    log_variance: Array1<f32>,
    samples: usize,
    likelihood: Likelihood,
}

impl Vae {
    fn precisions(&self) -> &[f32] {
        self.log_variance.as_slice().unwrap_or_default()
    }

    /// The negative bound with the code at its mean: reconstruction and divergence, one pass.
    fn bound(&self, rows: ArrayView2<'_, f32>) -> Array1<f32> {
        let stats = self.encoder.forward(rows);
        let mean = halves(stats.view()).0.to_owned();
        let nll = row_gaussian_nll(
            self.decoder.forward(mean.view()).view(),
            rows,
            self.precisions(),
        );
        let kl = row_gaussian_kl(stats.view());
        nll.iter().zip(&kl).map(|(nll, kl)| nll + kl).collect()
    }

    /// −ln p(x) ≈ −ln (1/K) Σₖ p(x|zₖ) p(zₖ) / q(zₖ|x), the draws of a row from its own seed.
    fn importance(&self, rows: ArrayView2<'_, f32>, seeds: &[Seed], samples: usize) -> Array1<f32> {
        let stats = self.encoder.forward(rows);
        let (mean, log_variance) = halves(stats.view());
        let deviation = log_variance.mapv(|l| exp(0.5 * l));
        let code = mean.ncols();
        let mut noise = Array2::<f32>::zeros((rows.nrows() * samples, code));
        for (at, draws) in noise.axis_chunks_iter_mut(Axis(0), samples).enumerate() {
            let seed = seeds.get(at).copied().unwrap_or(Seed(at as u64));
            fill_normal(draws, 1.0, &mut seed.rng());
        }
        let mut drawn = noise.clone();
        let mut repeated = Array2::zeros((noise.nrows(), rows.ncols()));
        for at in 0..rows.nrows() {
            for k in at * samples..(at + 1) * samples {
                Zip::from(drawn.row_mut(k))
                    .and(mean.row(at))
                    .and(deviation.row(at))
                    .for_each(|z, m, d| *z = m + d * *z);
                repeated.row_mut(k).assign(&rows.row(at));
            }
        }
        let decoded = self.decoder.forward(drawn.view());
        let nll = row_gaussian_nll(decoded.view(), repeated.view(), self.precisions());
        let log_weight = |k: usize| {
            let (z, e) = (drawn.row(k), noise.row(k));
            // ln p(z) − ln q(z|x); the constants cancel.
            let prior: f32 = z.iter().zip(e).map(|(z, e)| 0.5 * (e * e - z * z)).sum();
            let spread: f32 = log_variance.row(k / samples).iter().map(|l| 0.5 * l).sum();
            f64::from(prior + spread - nll[k])
        };
        (0..rows.nrows())
            .map(|at| {
                let logs: Vec<f64> = (at * samples..(at + 1) * samples).map(log_weight).collect();
                -(log_sum_exp(&logs) - (samples as f64).ln()) as f32
            })
            .collect()
    }
}

impl Build for Vae {
    /// Maximises the evidence lower bound on the training rows, the worst left out.
    ///
    /// # Errors
    /// Too few rows, cancelled by the monitor, or weights that are not finite.
    fn fit(
        spec: &ModelSpec,
        data: &FitData,
        seed: Seed,
        monitor: &mut dyn Monitor,
    ) -> Result<Self, FitError> {
        data.rows("vae", ROWS_MIN)?;
        let start = nets(spec, data.train.ncols(), seed.child("weights"));
        let Pair(Pair(encoder, decoder), raw) = &start;
        let grads = Pair(
            Pair(encoder.zeros_like(), decoder.zeros_like()),
            Array1::zeros(raw.len()),
        );
        let mut objective = Bound::new(spec, seed);
        let nets = descend(spec, (start, grads), &mut objective, (data, seed), monitor)?;
        if !nets.is_finite() {
            return Err(FitError::NotFinite {
                what: "a weight of the variational autoencoder".to_owned(),
            });
        }
        let Pair(Pair(encoder, decoder), raw) = nets;
        Ok(Self {
            encoder,
            decoder,
            log_variance: log_variances(&raw),
            samples: spec.vae.samples,
            likelihood: spec.vae.score,
        })
    }

    fn load(from: &Tensors) -> Result<Self, ModelFileError> {
        let loaded = Self {
            encoder: get_net("encoder.", from)?,
            decoder: get_net("decoder.", from)?,
            log_variance: from.get1("log_variance")?,
            samples: from.get("samples")?,
            likelihood: from.get("likelihood")?,
        };
        let samples = (1..=SAMPLES_MAX).contains(&loaded.samples);
        if !samples || loaded.decoder.outputs() != loaded.log_variance.len() {
            return Err(ModelFileError::Invalid(
                "`log_variance` does not fit".to_owned(),
            ));
        }
        Ok(loaded)
    }
}

impl Kind for Vae {
    fn width(&self) -> usize {
        self.decoder.outputs()
    }

    fn score(&self, rows: ArrayView2<'_, f32>, seeds: &[Seed]) -> Array1<f32> {
        if self.likelihood == Likelihood::Elbo {
            return by_chunks(rows, |rows| self.bound(rows));
        }
        let mut scores = Array1::zeros(rows.nrows());
        for (at, rows) in rows.axis_chunks_iter(Axis(0), DRAWN_ROWS).enumerate() {
            let from = at * DRAWN_ROWS;
            let seeds = seeds
                .get(from..(from + rows.nrows()).min(seeds.len()))
                .unwrap_or_default();
            let scored = self.importance(rows, seeds, self.samples);
            for (place, score) in scores.iter_mut().skip(from).zip(scored) {
                *place = score;
            }
        }
        scores
    }

    fn expected(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        by_chunks2(rows, |rows| {
            let stats = self.encoder.forward(rows);
            self.decoder
                .forward(halves(stats.view()).0.to_owned().view())
        })
    }

    fn contributions(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut residual = &rows - &self.expected(rows);
        for mut row in residual.rows_mut() {
            Zip::from(&mut row)
                .and(&self.log_variance)
                .for_each(|r, l| *r = *r * *r * exp(-l));
        }
        residual
    }

    fn code(&self, rows: ArrayView2<'_, f32>) -> Option<Array2<f32>> {
        Some(by_chunks2(rows, |rows| {
            halves(self.encoder.forward(rows).view()).0.to_owned()
        }))
    }

    fn sample(&self, n: usize, seed: Seed, truncation: f32) -> Option<Array2<f32>> {
        let code = self.encoder.outputs() / 2;
        let rng = &mut seed.rng();
        let mut z = Array2::zeros((n, code));
        fill_normal(z.view_mut(), truncation, rng);
        let mut rows = self.decoder.forward(z.view());
        let mut noise = Array2::zeros(rows.raw_dim());
        fill_normal(noise.view_mut(), truncation, rng);
        for (mut row, noise) in rows.rows_mut().into_iter().zip(noise.rows()) {
            Zip::from(&mut row)
                .and(noise)
                .and(&self.log_variance)
                .for_each(|x, e, l| *x += e * exp(0.5 * l));
        }
        Some(rows)
    }

    fn save(&self, to: &mut Tensors) {
        put_net("encoder.", &self.encoder, to);
        put_net("decoder.", &self.decoder, to);
        to.put1("log_variance", self.log_variance.view());
        to.set("samples", &self.samples);
        to.set("likelihood", &self.likelihood);
    }
}

/// Means and log-variances.
fn halves(stats: ArrayView2<'_, f32>) -> (ArrayView2<'_, f32>, ArrayView2<'_, f32>) {
    let half = stats.ncols() / 2;
    stats.split_at(Axis(1), half)
}

fn log_variances(raw: &Array1<f32>) -> Array1<f32> {
    raw.mapv(|raw| bounded(raw, LOG_VARIANCE.0, LOG_VARIANCE.1))
}

/// ln Σ e^v, without overflow.
fn log_sum_exp(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + values.iter().map(|v| (v - most).exp()).sum::<f64>().ln()
}

fn nets(spec: &ModelSpec, width: usize, seed: Seed) -> Nets {
    let code = if spec.network.code == 0 {
        width.div_ceil(4).clamp(2, 32)
    } else {
        spec.network.code
    };
    let rng = &mut seed.rng();
    let mut widths = vec![width];
    widths.extend(&spec.network.hidden);
    widths.push(2 * code);
    let encoder = Net::dense(
        &widths,
        spec.network.fixed.activation,
        Activation::Identity,
        rng,
    );
    widths.pop();
    widths.push(code);
    widths.reverse();
    let decoder = Net::dense(
        &widths,
        spec.network.fixed.activation,
        Activation::Identity,
        rng,
    );
    Pair(Pair(encoder, decoder), Array1::from_elem(width, 1.0))
}

/// The negative evidence lower bound, with the room it works in.
#[derive(Debug)]
struct Bound<'a> {
    spec: &'a ModelSpec,
    beta: f32,
    trimmer: Trimmer,
    encoder: Tape,
    decoder: Tape,
    noise: ChaCha8Rng,
    dropout: ChaCha8Rng,
    validation: Seed,
}

impl<'a> Bound<'a> {
    fn new(spec: &'a ModelSpec, seed: Seed) -> Self {
        Self {
            spec,
            beta: spec.vae.beta,
            trimmer: Trimmer::new(spec.trim),
            encoder: Tape::default(),
            decoder: Tape::default(),
            noise: seed.child("noise").rng(),
            dropout: seed.child("dropout").rng(),
            validation: seed.child("validation"),
        }
    }
}

impl Objective<Nets> for Bound<'_> {
    fn begin(&mut self, epoch: usize) {
        let risen = (epoch + 1) as f32 / (self.spec.vae.warmup + 1) as f32;
        self.beta = self.spec.vae.beta * risen.min(1.0);
        self.trimmer.begin();
    }

    fn gradients(&mut self, nets: &Nets, batch: ArrayView2<'_, f32>, grads: &mut Nets) -> f64 {
        let Pair(Pair(encoder, decoder), raw) = nets;
        let width = batch.ncols() as f32;
        let log_variance = log_variances(raw);
        let of_inputs = log_variance.as_slice().unwrap_or_default();
        let rate = self.spec.network.fixed.dropout;
        encoder.forward_kept(batch, &mut self.encoder, Some((rate, &mut self.dropout)));
        let stats = self.encoder.output().to_owned();
        let (mean, spread) = halves(stats.view());
        let mut noise = Array2::zeros(mean.raw_dim());
        fill_normal(noise.view_mut(), 1.0, &mut self.noise);
        let deviation = spread.mapv(|l| exp(0.5 * l));
        let z = &mean + &(&deviation * &noise);
        decoder.forward_kept(z.view(), &mut self.decoder, Some((rate, &mut self.dropout)));

        let nll = row_gaussian_nll(self.decoder.output(), batch, of_inputs);
        let kl = row_gaussian_kl(stats.view());
        let losses: Vec<f32> = nll
            .iter()
            .zip(&kl)
            .map(|(nll, kl)| (nll + self.beta * kl) / width)
            .collect();
        let weights = self.trimmer.weights(&losses);
        let per_input: Vec<f32> = weights.iter().map(|w| w / width).collect();
        let (output, grad) = self.decoder.output_and_grad();
        let of_variance = gaussian_nll_grad(output, batch, of_inputs, &per_input, grad);
        for ((grad, of), &raw) in grads.1.iter_mut().zip(of_variance).zip(raw) {
            *grad += of * bounded_slope(raw, LOG_VARIANCE.0, LOG_VARIANCE.1);
        }
        let mut of_z = Array2::zeros(z.raw_dim());
        let into = Some(of_z.view_mut());
        decoder.backward(z.view(), &mut self.decoder, &mut grads.0.1, into);

        // z = μ + ε e^(λ/2): the gradient reaches μ as it is and λ through ½ ε e^(λ/2).
        let of_spread = &of_z * &noise * &deviation * 0.5;
        let of_stats = self.encoder.output_grad();
        let (mut left, mut right) = of_stats.view_mut().split_at(Axis(1), mean.ncols());
        left.assign(&of_z);
        right.assign(&of_spread);
        let of_kl: Vec<f32> = per_input.iter().map(|w| w * self.beta).collect();
        add_gaussian_kl_grad(stats.view(), &of_kl, of_stats.view_mut());
        encoder.backward(batch, &mut self.encoder, &mut grads.0.0, None);
        weighted(&losses, &weights)
    }

    fn validate(&mut self, nets: &Nets, rows: ArrayView2<'_, f32>) -> f64 {
        // One draw a row, the same in every epoch, at the full β: comparable from epoch to epoch.
        let Pair(Pair(encoder, decoder), raw) = nets;
        let log_variance = log_variances(raw);
        let rng = &mut self.validation.rng();
        let mut losses = Vec::with_capacity(rows.nrows());
        for rows in rows.axis_chunks_iter(Axis(0), crate::model::chunks::CHUNK) {
            let stats = encoder.forward(rows);
            let (mean, spread) = halves(stats.view());
            let mut z = Array2::zeros(mean.raw_dim());
            fill_normal(z.view_mut(), 1.0, rng);
            z = &mean + &(&spread.mapv(|l| exp(0.5 * l)) * &z);
            let of_inputs = log_variance.as_slice().unwrap_or_default();
            let nll = row_gaussian_nll(decoder.forward(z.view()).view(), rows, of_inputs);
            let kl = row_gaussian_kl(stats.view());
            losses.extend(
                nll.iter()
                    .zip(kl)
                    .map(|(nll, kl)| nll + self.spec.vae.beta * kl),
            );
        }
        weighted(&losses, &trimmed_weights(&losses, self.spec.trim)) / rows.ncols() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::linalg::{cholesky, invert_lower, moments};
    use crate::model::testing::{check_kind, correlated, fit_data, of_kind};
    use crate::nn::check::{check_gradient, normal};
    use crate::nn::dense::Dense;
    use crate::nn::net::{Layer, Stage};

    fn spec() -> ModelSpec {
        of_kind("vae")
    }

    #[test]
    fn keeps_the_promises_of_a_kind() {
        check_kind(&spec(), 0.9);
        check_kind(&spec().with(|spec| spec.vae.score = Likelihood::Elbo), 0.9);
        check_kind(&spec().with(|spec| spec.network.hidden = vec![16]), 0.9);
    }

    #[test]
    fn gradients_of_the_whole_bound() {
        let spec = spec().with(|spec| {
            spec.trim = 0.0;
            spec.network.hidden = vec![6];
            spec.network.code = 3;
            spec.network.fixed.dropout = 0.2;
            spec.network.fixed.activation = Activation::Gelu;
            spec.vae.beta = 0.7;
        });
        let start = nets(&spec, 5, Seed(3));
        let rows = normal(4, 5, 4);
        let evaluate = |nets: &Nets, grads: &mut Nets| {
            Bound::new(&spec, Seed(1)).gradients(nets, rows.view(), grads)
        };
        let zero = || {
            let Pair(Pair(encoder, decoder), raw) = &start;
            Pair(
                Pair(encoder.zeros_like(), decoder.zeros_like()),
                Array1::zeros(raw.len()),
            )
        };
        let mut grads = zero();
        evaluate(&start, &mut grads);
        check_gradient(&start, &grads, &mut |nets| evaluate(nets, &mut zero()));
    }

    /// x = W z + b + 0.3 ε with known W and b; the encoder is only roughly right, as trained ones are.
    fn linear_gaussian() -> (Vae, Array2<f32>, impl Fn(ArrayView2<'_, f32>) -> Vec<f64>) {
        let (weight, bias) = (normal(2, 4, 7), normal(1, 4, 8).row(0).to_owned());
        let log_variance = Array1::from_elem(4, 0.09_f32.ln());
        let covariance = weight.t().dot(&weight).mapv(f64::from) + Array2::<f64>::eye(4) * 0.09;
        // The posterior: precision I + W Wᵀ / 0.09, mean its inverse times W (x − b) / 0.09. The code's covariance is made diagonal.
        let precision = weight.dot(&weight.t()).mapv(f64::from) / 0.09 + Array2::<f64>::eye(2);
        let root = invert_lower(cholesky(precision.view()).unwrap().view());
        let posterior = root.t().dot(&root);
        let gain = posterior.dot(&weight.mapv(f64::from)).mapv(|v| v as f32) / 0.09;
        let mut encode = Array2::<f32>::zeros((4, 4));
        let mut at_mean = Array1::<f32>::zeros(4);
        for j in 0..2 {
            for i in 0..4 {
                encode[[i, j]] = gain[[j, i]];
                at_mean[j] -= gain[[j, i]] * bias[i];
            }
            at_mean[2 + j] = (1.3 * posterior[[j, j]]).ln() as f32;
        }
        let net = |weight, bias| Net {
            stages: vec![Stage {
                layer: Layer::Dense(Dense { weight, bias }),
                activation: Activation::Identity,
            }],
        };
        let model = Vae {
            encoder: net(encode, at_mean),
            decoder: net(weight.clone(), bias.clone()),
            log_variance,
            samples: 1,
            likelihood: Likelihood::Importance,
        };
        let rows = normal(200, 2, 9).dot(&weight) + &bias + normal(200, 4, 10) * 0.3;
        let lower = cholesky(covariance.view()).unwrap();
        let inverse = invert_lower(lower.view());
        let exact = move |rows: ArrayView2<'_, f32>| {
            let log_root: f64 = lower.diag().iter().map(|l| l.ln()).sum();
            let each = rows.rows().into_iter().map(|row| {
                let white = inverse.dot(&(&row - &bias).mapv(f64::from));
                0.5 * white.dot(&white) + log_root + 2.0 * std::f64::consts::TAU.ln()
            });
            each.collect()
        };
        (model, rows, exact)
    }

    #[test]
    fn the_estimate_approaches_the_true_likelihood() {
        let (model, rows, exact) = linear_gaussian();
        let exact = exact(rows.view());
        let seeds: Vec<Seed> = (0..200).map(Seed).collect();
        let error = |samples: usize| {
            let estimate = model.importance(rows.view(), &seeds, samples);
            let off = estimate
                .iter()
                .zip(&exact)
                .map(|(e, x)| (f64::from(*e) - x).abs());
            off.sum::<f64>() / 200.0
        };
        let errors = [1, 16, 512].map(error);
        assert!(
            errors[0] > 2.0 * errors[1] && errors[1] > 2.0 * errors[2],
            "{errors:?}"
        );
        assert!(errors[2] < 0.05, "{errors:?}");
        // The bound at the mean is no likelihood, but orders rows alike: above it, and close.
        let bound = model.bound(rows.view());
        assert!(
            bound
                .iter()
                .zip(&exact)
                .all(|(b, x)| f64::from(*b) > x - 1.5)
        );
    }

    #[test]
    fn samples_have_the_covariance_of_the_data() {
        let data = fit_data(6);
        let plain = spec().with(|spec| {
            spec.vae.beta = 1.0;
            spec.network.epochs = 200;
        });
        let model = Vae::fit(&plain, &data, Seed(3), &mut crate::model::Unwatched).unwrap();
        let drawn = model.sample(4000, Seed(1), 1.0).unwrap();
        let (mean, covariance) = moments(drawn.view());
        let (of_mean, of_data) = moments(correlated(4000, 6, Seed(31)).view());
        assert!(
            (&mean - &of_mean).iter().all(|d| d.abs() < 0.2),
            "{mean} {of_mean}"
        );
        let off = (&covariance - &of_data).mapv(|d| d * d).sum().sqrt();
        let size = of_data.mapv(|d| d * d).sum().sqrt();
        assert!(off < 0.3 * size, "off by {off} of {size}");
        let centre = model.sample(10, Seed(1), 0.0).unwrap();
        assert_eq!(
            centre.row(0),
            centre.row(9),
            "without truncation's spread, one row"
        );
    }
}
