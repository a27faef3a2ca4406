//! Gradient steps: Adam with decoupled weight decay, clipping, averaged weights, early stopping.

use super::Params;

/// Adam (Kingma and Ba, ICLR 2015) with decoupled weight decay (Loshchilov and Hutter, ICLR 2019). State of the training, not of a
/// layer.
#[derive(Clone, Debug)]
pub struct Adam {
    /// Step size; may be changed between steps.
    pub rate: f32,
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of squared gradients.
    pub beta2: f32,
    /// Share of a weight (not of a bias) that each step takes off, times `rate`.
    pub decay: f32,
    steps: i32,
    moments: Vec<(Vec<f32>, Vec<f32>)>,
}

const EPSILON: f32 = 1e-8;

impl Adam {
    /// β₁ = 0.9, β₂ = 0.999.
    #[must_use]
    pub fn new(rate: f32, decay: f32) -> Self {
        Self {
            rate,
            beta1: 0.9,
            beta2: 0.999,
            decay,
            steps: 0,
            moments: Vec::new(),
        }
    }

    /// One step of `params` against `grads`, with bias correction.
    pub fn step<P: Params>(&mut self, params: &mut P, grads: &P) {
        self.steps = self.steps.saturating_add(1);
        let grads = grads.tensors();
        if self.moments.is_empty() {
            let zeros = |(g, _): &(&[f32], bool)| (vec![0.0; g.len()], vec![0.0; g.len()]);
            self.moments = grads.iter().map(zeros).collect();
        }
        let (beta1, beta2) = (self.beta1, self.beta2);
        let rate = self.rate / (1.0 - beta1.powi(self.steps));
        let correct2 = (1.0 / (1.0 - beta2.powi(self.steps))).sqrt();
        let tensors = params
            .tensors_mut()
            .into_iter()
            .zip(grads)
            .zip(&mut self.moments);
        for ((param, (grad, decayed)), (first, second)) in tensors {
            let keep = if decayed {
                1.0 - self.rate * self.decay
            } else {
                1.0
            };
            let state = first.iter_mut().zip(second.iter_mut());
            for ((p, &g), (m, v)) in param.iter_mut().zip(grad).zip(state) {
                *m = beta1 * *m + (1.0 - beta1) * g;
                *v = beta2 * *v + (1.0 - beta2) * g * g;
                *p = *p * keep - rate * *m / (v.sqrt() * correct2 + EPSILON);
            }
        }
    }
}

/// Scales `grads` so that their joint length is at most `limit`; returns the length before.
pub fn clip_gradient<P: Params>(grads: &mut P, limit: f32) -> f32 {
    let square: f32 = grads
        .tensors()
        .iter()
        .map(|(tensor, _)| tensor.iter().map(|g| g * g).sum::<f32>())
        .sum();
    let length = square.sqrt();
    if length > limit {
        let factor = limit / length;
        for tensor in grads.tensors_mut() {
            for g in tensor.iter_mut() {
                *g *= factor;
            }
        }
    }
    length
}

/// Exponentially averaged weights (Polyak and Juditsky, 1992; with the warm-up that makes early averages the plain mean).
#[derive(Clone, Debug)]
pub struct Averaged<P> {
    /// The averages.
    pub mean: P,
    decay: f32,
    steps: u32,
}

impl<P: Params + Clone> Averaged<P> {
    /// Starts at `params`. `decay` in [0, 1): how much of the average each step keeps.
    pub fn new(params: &P, decay: f32) -> Self {
        Self {
            mean: params.clone(),
            decay,
            steps: 0,
        }
    }

    /// Takes the weights of one more step in.
    pub fn take(&mut self, params: &P) {
        self.steps = self.steps.saturating_add(1);
        let steps = self.steps as f32;
        let keep = self.decay.min((steps - 1.0) / steps);
        for (mean, (now, _)) in self.mean.tensors_mut().into_iter().zip(params.tensors()) {
            for (mean, &now) in mean.iter_mut().zip(now) {
                *mean = keep * *mean + (1.0 - keep) * now;
            }
        }
    }
}

/// Keeps the best weights seen and says when to stop (Prechelt, 1998).
#[derive(Clone, Debug)]
pub struct EarlyStop<P> {
    best: Option<(f64, P)>,
    patience: usize,
    waited: usize,
}

/// An improvement smaller than this share of the best loss is none: else noise keeps training alive.
const IMPROVEMENT: f64 = 1e-3;

impl<P: Clone> EarlyStop<P> {
    /// Stops after `patience` looks without improvement.
    #[must_use]
    pub fn new(patience: usize) -> Self {
        Self {
            best: None,
            patience,
            waited: 0,
        }
    }

    /// Looks at the loss after an epoch; true: stop. A loss that is not a number never counts as an improvement.
    pub fn look(&mut self, loss: f64, params: &P) -> bool {
        let margin = |best: f64| best - IMPROVEMENT * best.abs();
        let improved = |best: f64| loss < margin(best);
        match &self.best {
            Some((best, _)) if !improved(*best) => {
                self.waited += 1;
                if loss < *best {
                    self.best = Some((loss, params.clone()));
                }
            }
            None if loss.is_nan() => self.waited += 1,
            _ => {
                self.best = Some((loss, params.clone()));
                self.waited = 0;
            }
        }
        self.waited >= self.patience
    }

    /// The weights with the lowest loss, or `last` if no loss was a number.
    pub fn best_or(self, last: P) -> P {
        self.best.map_or(last, |(_, best)| best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn the_first_adam_steps_by_hand() {
        let mut at = array![[1.0_f32, -2.0]];
        let mut adam = Adam::new(0.1, 0.0);
        adam.step(&mut at, &array![[0.5, -4.0]]);
        // After bias correction the first step is rate · sign(g).
        assert!(
            (at[[0, 0]] - 0.9).abs() < 1e-6 && (at[[0, 1]] + 1.9).abs() < 1e-6,
            "{at}"
        );
        adam.step(&mut at, &array![[0.0, -4.0]]);
        // m = 0.9 · 0.05, v = 0.999 · 0.00025: corrected 0.045 / 0.19 and √(0.00024975 / 0.001999).
        let second = 0.1 * (0.045 / 0.19) / (0.000_249_75_f32 / 0.001_999).sqrt();
        assert!((at[[0, 0]] - (0.9 - second)).abs() < 1e-5, "{at}");
        assert!((at[[0, 1]] + 1.8).abs() < 1e-5, "{at}");
    }

    #[test]
    fn decay_shrinks_without_a_gradient() {
        let mut at = array![[2.0_f32]];
        Adam::new(0.1, 0.5).step(&mut at, &array![[0.0]]);
        assert!((at[[0, 0]] - 1.9).abs() < 1e-6);
    }

    #[test]
    fn clipping_keeps_the_direction() {
        let mut grad = array![[3.0_f32, 4.0]];
        assert!((clip_gradient(&mut grad, 1.0) - 5.0).abs() < 1e-6);
        assert!(
            (&grad - &array![[0.6_f32, 0.8]])
                .iter()
                .all(|d| d.abs() < 1e-6)
        );
        assert!((clip_gradient(&mut grad, 2.0) - 1.0).abs() < 1e-6);
        assert!((grad[[0, 0]] - 0.6).abs() < 1e-6);
    }

    #[test]
    fn averages_start_as_the_mean() {
        let mut averaged = Averaged::new(&Array2::zeros((1, 1)), 0.9);
        averaged.take(&array![[1.0]]);
        averaged.take(&array![[3.0]]);
        assert!((averaged.mean[[0, 0]] - 2.0).abs() < 1e-6);
    }

    #[test]
    fn early_stopping_returns_the_best() {
        let mut stop = EarlyStop::new(2);
        assert!(!stop.look(f64::NAN, &0));
        assert!(!stop.look(1.0, &1));
        assert!(!stop.look(0.5, &2));
        assert!(!stop.look(0.6, &3));
        assert!(stop.look(0.7, &4));
        assert_eq!(stop.best_or(9), 2);
    }
}
