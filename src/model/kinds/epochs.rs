//! The epochs of gradient descent, for every network that is trained on one objective.

use ndarray::ArrayView2;

use crate::model::spec::ModelSpec;
use crate::model::{FitData, FitError, Monitor};
use crate::nn::Params;
use crate::nn::batches::{Batches, batch_size};
use crate::nn::optim::{Adam, EarlyStop, clip_gradient};
use crate::seed::Seed;

/// What a network is trained on.
pub trait Objective<P> {
    /// The mean loss of a batch; its gradients are added to `grads`.
    fn gradients(&mut self, nets: &P, batch: ArrayView2<'_, f32>, grads: &mut P) -> f64;

    /// The mean loss of rows that are not learnt from.
    fn validate(&mut self, nets: &P, rows: ArrayView2<'_, f32>) -> f64;

    /// Restores what every step must leave true of the weights.
    fn settle(&self, _nets: &mut P) {}

    /// Told before each epoch, counted from 0.
    fn begin(&mut self, _epoch: usize) {}
}

/// Joint length beyond which a step's gradient is shortened.
const GRADIENT_MAX: f32 = 5.0;

/// Adam with a step size that falls along half a cosine to a twentieth (Loshchilov and Hutter, ICLR 2017), early stopping on the
/// validation rows, the best weights restored.
///
/// `nets` comes with a value of the same shapes to keep gradients in.
///
/// # Errors
/// Cancelled, or weights that are not finite.
pub fn descend<P: Params + Clone>(
    spec: &ModelSpec,
    (mut nets, mut grads): (P, P),
    objective: &mut dyn Objective<P>,
    (data, seed): (&FitData, Seed),
    monitor: &mut dyn Monitor,
) -> Result<P, FitError> {
    let rows = data.train.nrows();
    let size = batch_size(rows, spec.network.fixed.batch);
    let mut batches = Batches::new(rows, data.train.ncols(), size);
    let mut order = seed.child("order").rng();
    let mut adam = Adam::new(spec.network.fixed.learning_rate, 0.0);
    let mut stop = EarlyStop::new(spec.network.fixed.patience);
    let held_out = if data.validation.nrows() > 0 {
        &data.validation
    } else {
        &data.train
    };
    for epoch in 0..spec.network.epochs {
        objective.begin(epoch);
        batches.shuffle(&mut order);
        let done = epoch as f32 / spec.network.epochs as f32;
        let wave = 0.5 * (1.0 + (std::f32::consts::PI * done).cos());
        adam.rate = spec.network.fixed.learning_rate * (0.05 + 0.95 * wave);
        let mut loss = 0.0;
        for at in 0..batches.count() {
            let batch = batches.gather(at, data.train.view());
            grads.clear();
            loss += objective.gradients(&nets, batch.view(), &mut grads);
            clip_gradient(&mut grads, GRADIENT_MAX);
            adam.step(&mut nets, &grads);
            objective.settle(&mut nets);
        }
        if !nets.is_finite() {
            return Err(FitError::NotFinite {
                what: "a weight of the network".to_owned(),
            });
        }
        let loss = loss / batches.count().max(1) as f64;
        let held_out = objective.validate(&nets, held_out.view());
        monitor.step(epoch, loss, held_out)?;
        // A net that starts small first has to find its directions: no verdict in the first quarter.
        if stop.look(held_out, &nets) && 4 * epoch >= spec.network.epochs {
            break;
        }
    }
    Ok(stop.best_or(nets))
}
