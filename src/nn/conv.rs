//! One-dimensional convolution over windows, and nearest-neighbour upsampling for decoders.
//!
//! A window is a row of `steps · channels` numbers, oldest step first, the channels of a step together. So the patch that a filter
//! sees is one contiguous slice, and the convolution is a copy of patches followed by one matrix product.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis, Slice};
use rand_chacha::ChaCha8Rng;

use super::noise::fill_normal;

/// Convolution with zero padding: output step t sees the `kernel` input steps around t · stride.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv1d {
    /// Shapes.
    pub shape: ConvShape,
    /// `kernel · channels_in × channels_out`.
    pub weight: Array2<f32>,
    /// One for each output channel.
    pub bias: Array1<f32>,
}

/// Shapes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ConvShape {
    /// Input steps.
    pub steps: usize,
    /// Input channels.
    pub channels: usize,
    /// Output channels.
    pub filters: usize,
    /// Steps that a filter sees; odd.
    pub kernel: usize,
    /// Input steps from one output step to the next.
    pub stride: usize,
}

impl ConvShape {
    /// Output steps: ⌈steps / stride⌉.
    #[must_use]
    pub fn steps_out(self) -> usize {
        self.steps.div_ceil(self.stride)
    }

    /// Width of a row that goes in.
    #[must_use]
    pub fn inputs(self) -> usize {
        self.steps * self.channels
    }

    /// Width of a row that comes out.
    #[must_use]
    pub fn outputs(self) -> usize {
        self.steps_out() * self.filters
    }
}

impl Conv1d {
    /// Normal weights of variance gain² / (kernel · channels); biases 0.
    pub fn init(shape: ConvShape, gain: f32, rng: &mut ChaCha8Rng) -> Self {
        let fan_in = shape.kernel * shape.channels;
        let mut weight = Array2::zeros((fan_in, shape.filters));
        fill_normal(weight.view_mut(), gain / (fan_in.max(1) as f32).sqrt(), rng);
        Self {
            shape,
            weight,
            bias: Array1::zeros(shape.filters),
        }
    }

    /// A layer of zeros of the same shape.
    #[must_use]
    pub fn zeros_like(&self) -> Self {
        Self {
            shape: self.shape,
            weight: Array2::zeros(self.weight.raw_dim()),
            bias: Array1::zeros(self.bias.len()),
        }
    }

    /// Calls `each` with (place in the patch, place in the row, length) of what one output step's patch shares with the window.
    fn overlap(&self, step: usize) -> (usize, usize, usize) {
        let ConvShape {
            steps,
            channels,
            kernel,
            stride,
            ..
        } = self.shape;
        let centre = step * stride;
        let before = kernel / 2;
        let from = centre.saturating_sub(before);
        let to = (centre + kernel - before).min(steps);
        let skipped = (from + before - centre) * channels;
        (skipped, from * channels, (to - from) * channels)
    }

    /// The patches of all rows and output steps: `n · steps_out × kernel · channels`.
    fn patches(&self, x: ArrayView2<'_, f32>) -> Array2<f32> {
        let shape = self.shape;
        let mut patches = Array2::zeros((x.nrows() * shape.steps_out(), self.weight.nrows()));
        for (mut of_row, row) in patches
            .axis_chunks_iter_mut(Axis(0), shape.steps_out())
            .zip(x.rows())
        {
            for (step, mut patch) in of_row.rows_mut().into_iter().enumerate() {
                let (at, from, length) = self.overlap(step);
                patch
                    .slice_axis_mut(Axis(0), Slice::from(at..at + length))
                    .assign(&row.slice_axis(Axis(0), Slice::from(from..from + length)));
            }
        }
        patches
    }

    /// out = convolution + bias; `x` is `n × inputs`, `out` `n × outputs`, contiguous.
    pub fn forward_into(&self, x: ArrayView2<'_, f32>, out: ArrayViewMut2<'_, f32>) {
        let mut out = by_step(out, self.shape.filters);
        for mut row in out.rows_mut() {
            row.assign(&self.bias);
        }
        general_mat_mul(1.0, &self.patches(x), &self.weight, 1.0, &mut out);
    }

    /// out = convolution, without the bias.
    pub fn linear_into(&self, x: ArrayView2<'_, f32>, out: ArrayViewMut2<'_, f32>) {
        let mut out = by_step(out, self.shape.filters);
        general_mat_mul(1.0, &self.patches(x), &self.weight, 0.0, &mut out);
    }

    /// out = the gradient of the input from that of the output.
    pub fn transposed_into(&self, grad: ArrayView2<'_, f32>, mut out: ArrayViewMut2<'_, f32>) {
        let patches = by_step_view(grad, self.shape.filters).dot(&self.weight.t());
        out.fill(0.0);
        for (of_row, mut row) in patches
            .axis_chunks_iter(Axis(0), self.shape.steps_out())
            .zip(out.rows_mut())
        {
            for (step, patch) in of_row.rows().into_iter().enumerate() {
                let (at, from, length) = self.overlap(step);
                let mut place = row.slice_axis_mut(Axis(0), Slice::from(from..from + length));
                place += &patch.slice_axis(Axis(0), Slice::from(at..at + length));
            }
        }
    }

    /// Adds the gradient of the weights to `into`.
    pub fn add_weight_grad(
        &self,
        x: ArrayView2<'_, f32>,
        grad: ArrayView2<'_, f32>,
        into: &mut Self,
    ) {
        let grad = by_step_view(grad, self.shape.filters);
        general_mat_mul(1.0, &self.patches(x).t(), &grad, 1.0, &mut into.weight);
    }

    /// Adds the gradient of the bias to `into`.
    pub fn add_bias_grad(&self, grad: ArrayView2<'_, f32>, into: &mut Self) {
        into.bias += &by_step_view(grad, self.shape.filters).sum_axis(Axis(0));
    }
}

/// `n × steps · filters` seen as `n · steps × filters`.
fn by_step(rows: ArrayViewMut2<'_, f32>, filters: usize) -> ArrayViewMut2<'_, f32> {
    let count = rows.len() / filters.max(1);
    rows.into_shape_with_order((count, filters))
        .unwrap_or_else(|error| unreachable!("tapes are contiguous: {error}"))
}

fn by_step_view(rows: ArrayView2<'_, f32>, filters: usize) -> ArrayView2<'_, f32> {
    let count = rows.len() / filters.max(1);
    rows.into_shape_with_order((count, filters))
        .unwrap_or_else(|error| unreachable!("tapes are contiguous: {error}"))
}

/// Repeats steps so that `from` become `to`: output step t is input step ⌊t · from / to⌋. No parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Upsample {
    /// Input steps.
    pub from: usize,
    /// Output steps; at least `from`.
    pub to: usize,
    /// Channels of a step.
    pub channels: usize,
}

impl Upsample {
    fn source(self, step: usize) -> usize {
        step * self.from / self.to
    }

    /// out = x, stretched.
    pub fn linear_into(self, x: ArrayView2<'_, f32>, mut out: ArrayViewMut2<'_, f32>) {
        let c = self.channels;
        for (row, mut out) in x.rows().into_iter().zip(out.rows_mut()) {
            for step in 0..self.to {
                let from = self.source(step) * c;
                out.slice_axis_mut(Axis(0), Slice::from(step * c..(step + 1) * c))
                    .assign(&row.slice_axis(Axis(0), Slice::from(from..from + c)));
            }
        }
    }

    /// out = the gradient of the input from that of the output: sums over the copies.
    pub fn transposed_into(self, grad: ArrayView2<'_, f32>, mut out: ArrayViewMut2<'_, f32>) {
        let c = self.channels;
        out.fill(0.0);
        for (grad, mut row) in grad.rows().into_iter().zip(out.rows_mut()) {
            for step in 0..self.to {
                let from = self.source(step) * c;
                let mut place = row.slice_axis_mut(Axis(0), Slice::from(from..from + c));
                place += &grad.slice_axis(Axis(0), Slice::from(step * c..(step + 1) * c));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn a_filter_by_hand() {
        let conv = Conv1d {
            shape: ConvShape {
                steps: 4,
                channels: 1,
                filters: 1,
                kernel: 3,
                stride: 1,
            },
            weight: array![[1.0], [10.0], [100.0]],
            bias: array![0.5],
        };
        let mut out = Array2::zeros((1, 4));
        conv.forward_into(array![[1.0, 2.0, 3.0, 4.0]].view(), out.view_mut());
        assert_eq!(out, array![[210.5, 321.5, 432.5, 43.5]]);
    }

    #[test]
    fn stride_two_on_an_odd_window_with_two_channels() {
        let conv = Conv1d {
            shape: ConvShape {
                steps: 3,
                channels: 2,
                filters: 1,
                kernel: 3,
                stride: 2,
            },
            weight: array![[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]],
            bias: array![0.0],
        };
        let mut out = Array2::zeros((1, 2));
        conv.linear_into(
            array![[1.0, 1.0, 2.0, 2.0, 3.0, 3.0]].view(),
            out.view_mut(),
        );
        // Step 0 sees steps −1 (zero), 0, 1; step 1 sees steps 1, 2, 3 (zero).
        assert_eq!(out, array![[7.0 + 22.0, 6.0 + 21.0]]);
    }

    #[test]
    fn transposes_are_adjoint() {
        let rng = &mut crate::seed::Seed(5).rng();
        let shape = ConvShape {
            steps: 7,
            channels: 2,
            filters: 3,
            kernel: 3,
            stride: 2,
        };
        let conv = Conv1d::init(shape, 1.0, rng);
        let up = Upsample {
            from: 3,
            to: 7,
            channels: 2,
        };
        let mut x = Array2::zeros((2, 14));
        let mut y = Array2::zeros((2, 12));
        fill_normal(x.view_mut(), 1.0, rng);
        fill_normal(y.view_mut(), 1.0, rng);
        let (mut ax, mut aty) = (Array2::zeros((2, 12)), Array2::zeros((2, 14)));
        conv.linear_into(x.view(), ax.view_mut());
        conv.transposed_into(y.view(), aty.view_mut());
        assert!(((&ax * &y).sum() - (&x * &aty).sum()).abs() < 1e-4);
        let (mut z, mut uz, mut utx) = (
            Array2::zeros((2, 6)),
            Array2::zeros((2, 14)),
            Array2::zeros((2, 6)),
        );
        fill_normal(z.view_mut(), 1.0, rng);
        up.linear_into(z.view(), uz.view_mut());
        up.transposed_into(x.view(), utx.view_mut());
        assert!(((&uz * &x).sum() - (&z * &utx).sum()).abs() < 1e-4);
        assert_eq!(
            uz[[0, 0]].to_bits(),
            uz[[0, 4]].to_bits(),
            "steps 0 to 2 of 7 are step 0 of 3"
        );
    }
}
