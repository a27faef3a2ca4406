//! Gradients against central finite differences. The difference is of fourth order, so that its step can be large enough for f32's
//! noise to vanish beside it; losses are sums, added up in f64.

use ndarray::Array2;

use super::Params;
use super::noise::fill_normal;
use crate::seed::Seed;

/// The largest relative error allowed.
const TOLERANCE: f64 = 1e-3;

impl Params for Array2<f32> {
    fn tensors(&self) -> Vec<(&[f32], bool)> {
        vec![(self.as_slice().expect("contiguous"), true)]
    }

    fn tensors_mut(&mut self) -> Vec<&mut [f32]> {
        vec![self.as_slice_mut().expect("contiguous")]
    }
}

/// Fails unless `grads` is the gradient of `loss` at `at`, for each parameter to 1e-3 of itself or of its tensor's root mean square.
///
/// # Panics
/// If it is not: this is for tests.
pub fn check_gradient<P: Params + Clone>(at: &P, grads: &P, loss: &mut dyn FnMut(&P) -> f64) {
    let h = 0.03_f32;
    let mut worst = 0.0_f64;
    for (which, (tensor, _)) in grads.tensors().into_iter().enumerate() {
        let square: f64 = tensor.iter().map(|g| f64::from(*g).powi(2)).sum();
        let typical = (square / tensor.len() as f64).sqrt();
        for (place, &analytic) in tensor.iter().enumerate() {
            let mut shifted = |by: f32| {
                let mut moved = at.clone();
                moved.tensors_mut()[which][place] += by;
                loss(&moved)
            };
            let near = shifted(h) - shifted(-h);
            let far = shifted(2.0 * h) - shifted(-2.0 * h);
            let numeric = (8.0 * near - far) / (12.0 * f64::from(h));
            let scale = f64::from(analytic)
                .abs()
                .max(numeric.abs())
                .max(typical)
                .max(1e-3);
            let error = (f64::from(analytic) - numeric).abs() / scale;
            assert!(
                error < TOLERANCE,
                "tensor {which}, place {place}: {analytic} by backward, {numeric} by differences ({error:e})"
            );
            worst = worst.max(error);
        }
    }
    assert!(worst > 0.0, "a check that compares nothing");
}

/// An `n × width` matrix of standard normal numbers.
pub fn normal(n: usize, width: usize, seed: u64) -> Array2<f32> {
    let mut x = Array2::zeros((n, width));
    fill_normal(x.view_mut(), 1.0, &mut Seed(seed).rng());
    x
}

#[test]
fn a_wrong_gradient_is_found() {
    let at = normal(2, 3, 1);
    let mut square = |x: &Array2<f32>| x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
    check_gradient(&at, &(&at * 2.0), &mut square);
    let off = std::panic::catch_unwind(|| {
        let mut square = |x: &Array2<f32>| x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        check_gradient(&at, &(&at * 2.01), &mut square);
    });
    assert!(off.is_err(), "an error of half a percent passed");
}
