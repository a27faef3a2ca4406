//! The fully connected layer: y = x W + b.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis};
use rand_chacha::ChaCha8Rng;

use super::noise::fill_normal;

/// Weights `inputs × outputs` and a bias. Also the shape of their gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    /// W.
    pub weight: Array2<f32>,
    /// b.
    pub bias: Array1<f32>,
}

impl Dense {
    /// Normal weights of variance gain² · 2 / (inputs + outputs) for gain 1, gain² / inputs otherwise; biases 0.
    pub fn init(inputs: usize, outputs: usize, gain: f32, rng: &mut ChaCha8Rng) -> Self {
        let variance = if gain > 1.0 {
            gain * gain / inputs.max(1) as f32
        } else {
            2.0 / (inputs + outputs).max(1) as f32
        };
        let mut weight = Array2::zeros((inputs, outputs));
        fill_normal(weight.view_mut(), variance.sqrt(), rng);
        Self {
            weight,
            bias: Array1::zeros(outputs),
        }
    }

    /// A layer of zeros of the same shape: a gradient to add to.
    #[must_use]
    pub fn zeros_like(&self) -> Self {
        Self {
            weight: Array2::zeros(self.weight.raw_dim()),
            bias: Array1::zeros(self.bias.len()),
        }
    }

    /// out = x W + b; `x` is `n × inputs`, `out` `n × outputs`.
    pub fn forward_into(&self, x: ArrayView2<'_, f32>, mut out: ArrayViewMut2<'_, f32>) {
        for mut row in out.rows_mut() {
            row.assign(&self.bias);
        }
        general_mat_mul(1.0, &x, &self.weight, 1.0, &mut out);
    }

    /// out = x W, without the bias: the derivative of the layer in direction x.
    pub fn linear_into(&self, x: ArrayView2<'_, f32>, mut out: ArrayViewMut2<'_, f32>) {
        general_mat_mul(1.0, &x, &self.weight, 0.0, &mut out);
    }

    /// out = grad Wᵀ: the gradient of the input from that of the output.
    pub fn transposed_into(&self, grad: ArrayView2<'_, f32>, mut out: ArrayViewMut2<'_, f32>) {
        general_mat_mul(1.0, &grad, &self.weight.t(), 0.0, &mut out);
    }

    /// Adds the gradient of the weights (xᵀ grad) to `into`.
    pub fn add_weight_grad(x: ArrayView2<'_, f32>, grad: ArrayView2<'_, f32>, into: &mut Self) {
        general_mat_mul(1.0, &x.t(), &grad, 1.0, &mut into.weight);
    }

    /// Adds the gradient of the bias (column sums of `grad`) to `into`.
    pub fn add_bias_grad(grad: ArrayView2<'_, f32>, into: &mut Self) {
        into.bias += &grad.sum_axis(Axis(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn layer() -> Dense {
        Dense {
            weight: array![[1.0, 2.0, 0.0], [-1.0, 0.5, 3.0]],
            bias: array![0.5, -1.0, 2.0],
        }
    }

    #[test]
    fn forward_by_hand() {
        let mut out = Array2::zeros((1, 3));
        layer().forward_into(array![[2.0, 1.0]].view(), out.view_mut());
        assert_eq!(out, array![[1.5, 3.5, 5.0]]);
    }

    #[test]
    fn backward_by_hand() {
        let x = array![[2.0, 1.0], [0.0, -1.0]];
        let grad = array![[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]];
        let mut grads = layer().zeros_like();
        Dense::add_weight_grad(x.view(), grad.view(), &mut grads);
        Dense::add_bias_grad(grad.view(), &mut grads);
        assert_eq!(grads.weight, array![[2.0, 0.0, 4.0], [1.0, -1.0, 1.0]]);
        assert_eq!(grads.bias, array![1.0, 1.0, 3.0]);
        let mut back = Array2::zeros((2, 2));
        layer().transposed_into(grad.view(), back.view_mut());
        assert_eq!(back, array![[1.0, 5.0], [2.0, 3.5]]);
    }
}
