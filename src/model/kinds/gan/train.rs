//! The game: critics tell real rows from generated ones and background, the generator learns to be taken for real.

use ndarray::{Array2, ArrayView2, Axis, Slice};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::generator::{Synthesis, Trace};
use crate::model::chunks::by_chunks2;
use crate::model::options::Generator;
use crate::model::spec::ModelSpec;
use crate::model::{FitData, FitError, Monitor};
use crate::nn::Params;
use crate::nn::activation::Activation;
use crate::nn::batches::{Batches, batch_size};
use crate::nn::loss::{GanLoss, gradient_penalty, trimmed_weights};
use crate::nn::net::{Net, Tape};
use crate::nn::noise::{add_normal, fill_normal};
use crate::nn::optim::{Adam, Averaged, clip_gradient};
use crate::nn::spectral::Spectral;
use crate::seed::Seed;

/// Standard deviation, in scaled units, by which background rows are spread.
const BACKGROUND_SPREAD: f32 = 1.0;

/// Steps of the generator after which the game ends, whatever the epochs: there is no loss on held-out rows by which it could be stopped,
/// and critics that play on only learn the newest generator by heart.
const STEPS_MAX: usize = 800;

/// The share of the epochs that is played with all rows, before critics can tell which do not belong.
const WHOLE: f64 = 0.2;

/// One critic in the game.
struct Player {
    net: Net,
    spectral: Option<Spectral>,
    adam: Adam,
    averaged: Averaged<Net>,
}

/// The game's rules and its sources of chance.
struct Game<'a> {
    spec: &'a ModelSpec,
    latent: usize,
    rng: ChaCha8Rng,
}

/// Plays; returns the averaged generator and critics (their weights normalised).
pub fn train(
    spec: &ModelSpec,
    data: &FitData,
    seed: Seed,
    monitor: &mut dyn Monitor,
) -> Result<(Synthesis, Vec<Net>), FitError> {
    let (rows, width) = data.train.dim();
    let mut game = Game {
        spec,
        latent: latent_width(spec, width),
        rng: seed.child("game").rng(),
    };
    let mut generator = game.generator(width, seed.child("generator"));
    let mut players: Vec<Player> = (0..spec.gan.fixed.critics)
        .map(|at| game.player(width, seed.child("critic").nth(at as u64)))
        .collect();
    let mut averaged = Averaged::new(&generator, spec.gan.fixed.average);
    let mut adam = momentless(spec.network.fixed.learning_rate * 0.5);
    let mut batches = Batches::new(rows, width, batch_size(rows, spec.network.fixed.batch));
    let epochs = spec
        .network
        .epochs
        .min(STEPS_MAX.div_ceil(batches.count().max(1)));
    let mut kept = data.train.view();
    let mut trimmed;
    for epoch in 0..epochs {
        if spec.trim > 0.0 && epoch as f64 >= WHOLE * epochs as f64 && epoch > 0 {
            trimmed = without_unreal(&players, data.train.view(), spec.trim);
            kept = trimmed.view();
            batches = Batches::new(
                kept.nrows(),
                width,
                batch_size(kept.nrows(), spec.network.fixed.batch),
            );
        }
        batches.shuffle(&mut game.rng);
        let (mut critic_loss, mut generator_loss) = (0.0, 0.0);
        for at in 0..batches.count() {
            let real = batches.gather(at, kept).to_owned();
            for player in &mut players {
                for _ in 0..spec.gan.fixed.critic_steps {
                    critic_loss += game.critic_step(player, &generator, real.view());
                }
            }
            generator_loss +=
                game.generator_step(&mut generator, &mut adam, &players, real.nrows());
            averaged.take(&generator);
        }
        let steps = batches.count().max(1) as f64;
        if !(generator.is_finite() && players.iter().all(|player| player.net.is_finite())) {
            return Err(FitError::NotFinite {
                what: "a weight of the GAN".to_owned(),
            });
        }
        let each = steps * (spec.gan.fixed.critics * spec.gan.fixed.critic_steps).max(1) as f64;
        monitor.step(epoch, critic_loss / each, generator_loss / steps)?;
    }
    Ok((
        averaged.mean,
        players
            .into_iter()
            .map(|player| player.averaged.mean)
            .collect(),
    ))
}

/// The rows without the ⌊share · n⌋ that the critics call unreal most.
fn without_unreal(players: &[Player], rows: ArrayView2<'_, f32>, share: f32) -> Array2<f32> {
    let mut verdict = vec![0.0_f32; rows.nrows()];
    for player in players {
        // The weights of now: averaged ones still lean on where they began.
        let spectral = player.spectral.as_ref();
        let net = spectral.map_or_else(|| player.net.clone(), |s| s.normalised(&player.net).0);
        let logits = by_chunks2(rows, |rows| net.forward(rows));
        for (sum, logit) in verdict.iter_mut().zip(&logits) {
            *sum -= logit;
        }
    }
    let weights = trimmed_weights(&verdict, share);
    let kept: Vec<usize> = (0..rows.nrows()).filter(|&at| weights[at] > 0.0).collect();
    rows.select(Axis(0), &kept)
}

/// Adam without momentum, which chases a moving opponent (Gulrajani et al. use 0 and 0.9).
fn momentless(rate: f32) -> Adam {
    let mut adam = Adam::new(rate, 0.0);
    (adam.beta1, adam.beta2) = (0.0, 0.9);
    adam
}

impl Game<'_> {
    fn generator(&self, width: usize, seed: Seed) -> Synthesis {
        let rng = &mut seed.rng();
        let hidden = if self.spec.network.hidden.is_empty() {
            vec![48, 48]
        } else {
            self.spec.network.hidden.clone()
        };
        match self.spec.gan.generator {
            Generator::Style => Synthesis::style(self.latent, &hidden, width, rng),
            Generator::Dense => {
                let mut widths = vec![self.latent];
                widths.extend(hidden);
                widths.push(width);
                Synthesis::dense(&widths, rng)
            }
        }
    }

    fn player(&self, width: usize, seed: Seed) -> Player {
        let rng = &mut seed.rng();
        let mut widths = vec![width];
        if self.spec.network.hidden.is_empty() {
            widths.extend([64, 32]);
        } else {
            widths.extend(self.spec.network.hidden.iter().rev());
        }
        widths.push(1);
        let net = Net::dense(&widths, Activation::LeakyRelu, Activation::Identity, rng);
        let penalised = self.spec.gan.loss == GanLoss::WassersteinGp;
        let normalises = self.spec.gan.fixed.spectral_norm.or(!penalised);
        let spectral = normalises.then(|| Spectral::new(&net, rng));
        let averaged = Averaged::new(&net, self.spec.gan.fixed.average);
        Player {
            net,
            spectral,
            adam: momentless(self.spec.network.fixed.learning_rate),
            averaged,
        }
    }

    fn latents(&mut self, n: usize) -> Array2<f32> {
        let mut z = Array2::zeros((n, self.latent));
        fill_normal(z.view_mut(), 1.0, &mut self.rng);
        z
    }

    /// What critics are to call unreal: two parts generated, one part background.
    fn unreal(&mut self, generator: &Synthesis, real: ArrayView2<'_, f32>) -> Array2<f32> {
        let n = real.nrows();
        let z = self.latents(n);
        let mut rows = generator.forward_kept(z.view(), &mut Trace::default(), &mut self.rng);
        for mut row in rows.axis_iter_mut(Axis(0)).step_by(3) {
            for (column, value) in row.iter_mut().enumerate() {
                *value = real[[self.rng.gen_range(0..n), column]];
            }
        }
        let mut spread = Array2::zeros(rows.raw_dim());
        fill_normal(spread.view_mut(), BACKGROUND_SPREAD, &mut self.rng);
        for (mut row, spread) in rows.axis_iter_mut(Axis(0)).zip(spread.rows()).step_by(3) {
            row += &spread;
        }
        rows
    }

    fn noisy(&mut self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut noisy = Array2::zeros(rows.raw_dim());
        add_normal(
            rows,
            self.spec.gan.fixed.instance_noise,
            noisy.view_mut(),
            &mut self.rng,
        );
        noisy
    }

    fn critic_step(
        &mut self,
        player: &mut Player,
        generator: &Synthesis,
        real: ArrayView2<'_, f32>,
    ) -> f64 {
        let unreal = self.unreal(generator, real);
        let (real, unreal) = (self.noisy(real), self.noisy(unreal.view()));
        if let Some(spectral) = &mut player.spectral {
            spectral.advance(&player.net);
        }
        let (net, sigmas) = match &player.spectral {
            Some(spectral) => spectral.normalised(&player.net),
            None => (player.net.clone(), Vec::new()),
        };
        let mix = Array2::from_shape_fn((real.nrows(), 1), |_| self.rng.r#gen());
        let mut grads = net.zeros_like();
        let loss = critic_gradients(self.spec, &net, (&real, &unreal), &mix, &mut grads);
        if let Some(spectral) = &player.spectral {
            spectral.chain(&net, &sigmas, &mut grads);
        }
        clip_gradient(&mut grads, 5.0);
        player.adam.step(&mut player.net, &grads);
        player.averaged.take(&net);
        loss
    }

    fn generator_step(
        &mut self,
        generator: &mut Synthesis,
        adam: &mut Adam,
        players: &[Player],
        n: usize,
    ) -> f64 {
        let z = self.latents(n);
        let mut trace = Trace::default();
        let rows = generator.forward_kept(z.view(), &mut trace, &mut self.rng);
        let rows = self.noisy(rows.view());
        let mut of_rows = Array2::zeros(rows.raw_dim());
        let mut loss = 0.0;
        let each = 1.0 / (n * players.len()).max(1) as f32;
        for player in players {
            let net = player
                .spectral
                .as_ref()
                .map_or_else(|| player.net.clone(), |s| s.normalised(&player.net).0);
            let mut tape = Tape::default();
            net.forward_kept(rows.view(), &mut tape, None);
            loss += judge(&mut tape, each, |logit| self.spec.gan.loss.generator(logit));
            let mut through = Array2::zeros(rows.raw_dim());
            net.backward(
                rows.view(),
                &mut tape,
                &mut net.zeros_like(),
                Some(through.view_mut()),
            );
            of_rows += &through;
        }
        let mut grads = generator.zeros_like();
        generator.backward(z.view(), &mut trace, of_rows.view(), &mut grads);
        clip_gradient(&mut grads, 5.0);
        adam.step(generator, &grads);
        loss
    }
}

/// Writes the gradient of the weighted sum of `side` over the logits on the tape; returns that sum.
fn judge(tape: &mut Tape, weight: f32, side: impl Fn(f32) -> (f32, f32)) -> f64 {
    let (logits, grad) = tape.output_and_grad();
    let mut sum = 0.0;
    ndarray::Zip::from(grad)
        .and(logits)
        .for_each(|grad, &logit| {
            let (loss, slope) = side(logit);
            sum += f64::from(loss);
            *grad = slope * weight;
        });
    sum * f64::from(weight)
}

/// The critic's loss on real and unreal rows, with the gradient penalty between them for the Wasserstein loss: of each pair at a place of
/// its own, the share `mix` (`n × 1`) of the way (Gulrajani et al., NeurIPS 2017); gradients are added to `grads`.
fn critic_gradients(
    spec: &ModelSpec,
    net: &Net,
    (real, unreal): (&Array2<f32>, &Array2<f32>),
    mix: &Array2<f32>,
    grads: &mut Net,
) -> f64 {
    let weight = 1.0 / real.nrows().max(1) as f32;
    let mut tape = Tape::default();
    net.forward_kept(real.view(), &mut tape, None);
    let mut loss = judge(&mut tape, weight, |logit| spec.gan.loss.real(logit));
    net.backward(real.view(), &mut tape, grads, None);
    net.forward_kept(unreal.view(), &mut tape, None);
    loss += judge(&mut tape, weight, |logit| spec.gan.loss.fake(logit));
    net.backward(unreal.view(), &mut tape, grads, None);
    if spec.gan.loss == GanLoss::WassersteinGp {
        let between = between(real, unreal, mix);
        net.forward_kept(between.view(), &mut tape, None);
        let gradient = net.input_gradient(&tape);
        let mut of_gradient = gradient.at_input().to_owned();
        loss += gradient_penalty(of_gradient.view_mut(), spec.gan.fixed.gradient_penalty);
        net.input_gradient_backward(&gradient, &of_gradient, &mut tape, grads);
        tape.output_grad().fill(0.0);
        net.backward(between.view(), &mut tape, grads, None);
    }
    loss
}

/// mix ⊙ real + (1 − mix) ⊙ unreal, row by row, over the rows that both have.
fn between(real: &Array2<f32>, unreal: &Array2<f32>, mix: &Array2<f32>) -> Array2<f32> {
    let n = real.nrows().min(unreal.nrows());
    let first = |rows: &Array2<f32>| rows.slice_axis(Axis(0), Slice::from(..n)).to_owned();
    let mix = first(mix);
    first(real) * &mix + first(unreal) * (1.0 - &mix)
}

/// The width of the latent: as set, or half the row's.
pub(super) fn latent_width(spec: &ModelSpec, width: usize) -> usize {
    if spec.network.code == 0 {
        width.div_ceil(2).clamp(2, 32)
    } else {
        spec.network.code
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::options::Switch;
    use crate::nn::check::{check_gradient, normal};
    use ndarray::array;

    #[test]
    fn each_pair_is_mixed_by_its_own_share() {
        let (real, unreal) = (
            array![[0.0, 4.0], [8.0, 0.0]],
            array![[4.0, 0.0], [0.0, 8.0]],
        );
        let mixed = between(&real, &unreal, &array![[0.25], [0.5]]);
        assert_eq!(mixed, array![[3.0, 1.0], [4.0, 4.0]]);
    }

    #[test]
    fn spectral_norm_is_left_out_beside_a_gradient_penalty_unless_asked_for() {
        let normalises = |gan_loss, spectral_norm| {
            let spec = ModelSpec::default().with(|spec| {
                spec.gan.loss = gan_loss;
                spec.gan.fixed.spectral_norm = spectral_norm;
            });
            let rng = Seed(1).rng();
            let game = Game {
                spec: &spec,
                latent: 2,
                rng,
            };
            game.player(3, Seed(2)).spectral.is_some()
        };
        assert!(normalises(GanLoss::Hinge, Switch::Auto));
        assert!(!normalises(GanLoss::Hinge, Switch::Off));
        assert!(!normalises(GanLoss::WassersteinGp, Switch::Auto));
        assert!(normalises(GanLoss::WassersteinGp, Switch::On));
    }

    #[test]
    fn gradients_of_the_critics_whole_loss() {
        let net = Net::dense(
            &[3, 5, 1],
            Activation::Tanh,
            Activation::Identity,
            &mut Seed(2).rng(),
        );
        let (real, unreal) = (normal(4, 3, 3), normal(4, 3, 4));
        let mix = array![[0.3], [0.9], [0.1], [0.5]];
        for gan_loss in [GanLoss::NonSaturating, GanLoss::WassersteinGp] {
            let spec = ModelSpec::default().with(|spec| {
                spec.gan.loss = gan_loss;
                spec.gan.fixed.gradient_penalty = 2.0;
            });
            let loss = |net: &Net, grads: &mut Net| {
                critic_gradients(&spec, net, (&real, &unreal), &mix, grads)
            };
            let mut grads = net.zeros_like();
            loss(&net, &mut grads);
            check_gradient(&net, &grads, &mut |net| loss(net, &mut net.zeros_like()));
        }
    }
}
