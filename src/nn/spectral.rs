//! Spectral normalisation: weights divided by their largest singular value (Miyato, Kataoka, Koyama and Yoshida, ICLR 2018).

use ndarray::{Array1, Array2};
use rand_chacha::ChaCha8Rng;

use super::net::{Layer, Net};
use super::noise::fill_normal;

/// The running power iteration for one matrix: unit vectors u (left, inputs) and v (right, outputs).
#[derive(Clone, Debug)]
pub struct PowerIteration {
    left: Array1<f32>,
    right: Array1<f32>,
}

impl PowerIteration {
    /// Starts from a random direction.
    pub fn new(weight: &Array2<f32>, rng: &mut ChaCha8Rng) -> Self {
        let mut right = Array2::zeros((1, weight.ncols()));
        fill_normal(right.view_mut(), 1.0, rng);
        let mut started = Self {
            left: Array1::zeros(weight.nrows()),
            right: unit(right.row(0).to_owned()),
        };
        started.advance(weight, 5);
        started
    }

    /// `rounds` more rounds.
    pub fn advance(&mut self, weight: &Array2<f32>, rounds: usize) {
        for _ in 0..rounds {
            self.left = unit(weight.dot(&self.right));
            self.right = unit(weight.t().dot(&self.left));
        }
    }

    /// σ = uᵀ W v.
    #[must_use]
    pub fn sigma(&self, weight: &Array2<f32>) -> f32 {
        self.left.dot(&weight.dot(&self.right)).max(1e-12)
    }

    /// Turns the gradient of W / σ (`grad`, in place) into that of W, where `normal` is W / σ: with u and v held,
    /// ∂σ/∂W = u vᵀ, so dW = (dW̄ − ⟨dW̄, W̄⟩ u vᵀ) / σ.
    pub fn chain(&self, normal: &Array2<f32>, sigma: f32, grad: &mut Array2<f32>) {
        let along: f32 = grad.iter().zip(normal).map(|(g, w)| g * w).sum();
        for (mut row, &u) in grad.rows_mut().into_iter().zip(&self.left) {
            for (g, &v) in row.iter_mut().zip(&self.right) {
                *g = (*g - along * u * v) / sigma;
            }
        }
    }
}

fn unit(vector: Array1<f32>) -> Array1<f32> {
    let length = vector.dot(&vector).sqrt().max(1e-12);
    vector / length
}

/// The power iterations of a dense net.
#[derive(Clone, Debug)]
pub struct Spectral {
    each: Vec<PowerIteration>,
}

impl Spectral {
    /// One for each dense layer.
    pub fn new(net: &Net, rng: &mut ChaCha8Rng) -> Self {
        let each = net.stages.iter().filter_map(|stage| match &stage.layer {
            Layer::Dense(dense) => Some(PowerIteration::new(&dense.weight, rng)),
            _ => None,
        });
        Self {
            each: each.collect(),
        }
    }

    /// One more round for each layer.
    pub fn advance(&mut self, net: &Net) {
        for (power, weight) in self.each.iter_mut().zip(weights(net)) {
            power.advance(weight, 1);
        }
    }

    /// The net with each weight divided by its σ, and the σs.
    #[must_use]
    pub fn normalised(&self, net: &Net) -> (Net, Vec<f32>) {
        let mut normal = net.clone();
        let mut sigmas = Vec::with_capacity(self.each.len());
        let mut powers = self.each.iter();
        for stage in &mut normal.stages {
            if let (Layer::Dense(dense), Some(power)) = (&mut stage.layer, powers.next()) {
                let sigma = power.sigma(&dense.weight);
                dense.weight /= sigma;
                sigmas.push(sigma);
            }
        }
        (normal, sigmas)
    }

    /// Turns gradients of the normalised net into those of the net itself.
    pub fn chain(&self, normal: &Net, sigmas: &[f32], grads: &mut Net) {
        let powers = self.each.iter().zip(sigmas).zip(weights(normal));
        for (stage, ((power, &sigma), weight)) in grads.stages.iter_mut().zip(powers) {
            if let Layer::Dense(grad) = &mut stage.layer {
                power.chain(weight, sigma, &mut grad.weight);
            }
        }
    }
}

/// Weights of a dense net, in order.
fn weights(net: &Net) -> impl Iterator<Item = &Array2<f32>> {
    net.stages.iter().filter_map(|stage| match &stage.layer {
        Layer::Dense(dense) => Some(&dense.weight),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::activation::Activation;
    use crate::nn::check::{check_gradient, normal};
    use crate::nn::net::Tape;
    use crate::seed::Seed;
    use ndarray::array;

    #[test]
    fn finds_the_largest_singular_value() {
        let weight = array![[3.0_f32, 0.0], [0.0, -5.0], [0.0, 0.0]];
        let mut power = PowerIteration::new(&weight, &mut Seed(1).rng());
        power.advance(&weight, 50);
        assert!((power.sigma(&weight) - 5.0).abs() < 1e-4);
    }

    #[test]
    fn gradients_through_the_normalisation() {
        let net = Net::dense(
            &[4, 5, 1],
            Activation::Tanh,
            Activation::Identity,
            &mut Seed(2).rng(),
        );
        let mut spectral = Spectral::new(&net, &mut Seed(3).rng());
        for _ in 0..200 {
            spectral.advance(&net);
        }
        let x = normal(3, 4, 4);
        // u and v are held, as in training; at the fixed point that is exact to first order.
        let loss = |net: &Net| -> f64 {
            let (scaled, _) = spectral.normalised(net);
            scaled
                .forward(x.view())
                .iter()
                .map(|v| f64::from(*v).powi(2))
                .sum()
        };
        let (scaled, sigmas) = spectral.normalised(&net);
        let mut tape = Tape::default();
        scaled.forward_kept(x.view(), &mut tape, None);
        let grad = &tape.output() * 2.0;
        tape.output_grad().assign(&grad);
        let mut grads = net.zeros_like();
        scaled.backward(x.view(), &mut tape, &mut grads, None);
        spectral.chain(&scaled, &sigmas, &mut grads);
        check_gradient(&net, &grads, &mut |net| loss(net));
    }
}
