//! Generators: from noise to rows.
//!
//! The style-based one follows Karras, Laine and Aila, "A Style-Based Generator Architecture for Generative Adversarial Networks",
//! CVPR 2019, on rows instead of images: a mapping network turns the latent z into a style w; synthesis starts from a learned
//! constant; each layer's output is scaled and shifted by the style and disturbed by noise of learned strength; truncation draws styles
//! towards their mean.

use ndarray::{Array1, Array2, ArrayView2, Axis};
use rand_chacha::ChaCha8Rng;

use crate::nn::Params;
use crate::nn::activation::Activation;
use crate::nn::dense::Dense;
use crate::nn::net::{Net, Tape};
use crate::nn::noise::fill_normal;

/// A fitted or learning generator.
#[derive(Clone, Debug, PartialEq)]
pub enum Synthesis {
    /// A dense chain.
    Dense(Net),
    /// Styles that modulate each layer.
    Style(Style),
}

/// The style-based generator.
#[derive(Clone, Debug, PartialEq)]
pub struct Style {
    /// z → w.
    pub mapping: Net,
    /// What synthesis starts from, `1 × hidden`.
    pub constant: Array2<f32>,
    /// The modulated layers.
    pub layers: Vec<StyleLayer>,
    /// The last, plain layer.
    pub output: Dense,
}

/// h' = leaky_relu((h W + b) ⊙ (1 + w A + a) + (w B + c) + strength ⊙ noise).
#[derive(Clone, Debug, PartialEq)]
pub struct StyleLayer {
    /// W, b.
    pub dense: Dense,
    /// A, a: the style's scale.
    pub scale: Dense,
    /// B, c: the style's shift.
    pub shift: Dense,
    /// Learned strength of the noise input, one a unit.
    pub strength: Array1<f32>,
}

/// What a pass of a generator leaves for the backward pass.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    tape: Tape,
    style: Array2<f32>,
    layers: Vec<LayerTrace>,
}

/// What one modulated layer leaves.
#[derive(Clone, Debug)]
struct LayerTrace {
    input: Array2<f32>,
    plain: Array2<f32>,
    scale: Array2<f32>,
    noise: Array2<f32>,
    pre: Array2<f32>,
}

const ACTIVATION: Activation = Activation::LeakyRelu;

impl StyleLayer {
    fn init(inputs: usize, outputs: usize, style: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut layer = Self {
            dense: Dense::init(inputs, outputs, ACTIVATION.gain(), rng),
            scale: Dense::init(style, outputs, 1.0, rng),
            shift: Dense::init(style, outputs, 1.0, rng),
            strength: Array1::from_elem(outputs, 0.1),
        };
        layer.scale.weight *= 0.5;
        layer
    }

    fn forward(
        &self,
        input: Array2<f32>,
        style: ArrayView2<'_, f32>,
        noise: Array2<f32>,
    ) -> LayerTrace {
        let room = || Array2::zeros(noise.raw_dim());
        let (mut plain, mut scale, mut pre) = (room(), room(), room());
        self.dense.forward_into(input.view(), plain.view_mut());
        self.scale.forward_into(style, scale.view_mut());
        scale += 1.0;
        self.shift.forward_into(style, pre.view_mut());
        pre += &(&plain * &scale);
        pre += &(&noise * &self.strength);
        LayerTrace {
            input,
            plain,
            scale,
            noise,
            pre,
        }
    }

    /// Adds gradients; returns those of the input and of the style.
    fn backward(
        &self,
        kept: &LayerTrace,
        style: ArrayView2<'_, f32>,
        grad: Array2<f32>,
        into: &mut Self,
    ) -> (Array2<f32>, Array2<f32>) {
        let mut of_pre = grad;
        ACTIVATION.chain(kept.pre.view(), kept.pre.view(), of_pre.view_mut());
        let of_plain = &of_pre * &kept.scale;
        let of_scale = &of_pre * &kept.plain;
        into.strength += &(&of_pre * &kept.noise).sum_axis(Axis(0));
        let rows = of_pre.nrows();
        let mut of_input = Array2::zeros((rows, self.dense.weight.nrows()));
        let mut of_style = Array2::zeros((rows, self.scale.weight.nrows()));
        let mut through_shift = Array2::zeros(of_style.raw_dim());
        Dense::add_weight_grad(kept.input.view(), of_plain.view(), &mut into.dense);
        Dense::add_bias_grad(of_plain.view(), &mut into.dense);
        Dense::add_weight_grad(style, of_scale.view(), &mut into.scale);
        Dense::add_bias_grad(of_scale.view(), &mut into.scale);
        Dense::add_weight_grad(style, of_pre.view(), &mut into.shift);
        Dense::add_bias_grad(of_pre.view(), &mut into.shift);
        self.dense
            .transposed_into(of_plain.view(), of_input.view_mut());
        self.scale
            .transposed_into(of_scale.view(), of_style.view_mut());
        self.shift
            .transposed_into(of_pre.view(), through_shift.view_mut());
        (of_input, of_style + through_shift)
    }
}

impl Style {
    fn forward(
        &self,
        style: ArrayView2<'_, f32>,
        mut noise: impl FnMut(usize) -> Array2<f32>,
    ) -> (Vec<LayerTrace>, Array2<f32>) {
        let rows = style.nrows();
        let mut now = Array2::zeros((rows, self.constant.ncols()));
        now += &self.constant.row(0);
        let mut traces = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let trace = layer.forward(now, style, noise(layer.strength.len()));
            now = Array2::zeros(trace.pre.raw_dim());
            ACTIVATION.apply(trace.pre.view(), now.view_mut());
            traces.push(trace);
        }
        (traces, now)
    }
}

impl Synthesis {
    /// A dense generator through `widths`, latent first.
    pub fn dense(widths: &[usize], rng: &mut ChaCha8Rng) -> Self {
        Self::Dense(Net::dense(widths, ACTIVATION, Activation::Identity, rng))
    }

    /// A style-based generator: the latent's width, those of the modulated layers, that of a row.
    pub fn style(latent: usize, hidden: &[usize], width: usize, rng: &mut ChaCha8Rng) -> Self {
        let style = (2 * latent).max(8);
        let first = hidden.first().copied().unwrap_or(32);
        let mut constant = Array2::zeros((1, first));
        fill_normal(constant.view_mut(), 1.0, rng);
        let mapping = Net::dense(
            &[latent, style, style],
            ACTIVATION,
            Activation::Identity,
            rng,
        );
        let mut from = first;
        let mut layers = Vec::with_capacity(hidden.len());
        for &to in hidden {
            layers.push(StyleLayer::init(from, to, style, rng));
            from = to;
        }
        let output = Dense::init(from, width, 1.0, rng);
        Self::Style(Style {
            mapping,
            constant,
            layers,
            output,
        })
    }

    /// A generator of zeros of the same shape: a gradient to add to.
    #[must_use]
    pub fn zeros_like(&self) -> Self {
        let mut zero = self.clone();
        zero.clear();
        zero
    }

    /// Rows for latents, and what [`Synthesis::backward`] needs.
    pub fn forward_kept(
        &self,
        z: ArrayView2<'_, f32>,
        trace: &mut Trace,
        rng: &mut ChaCha8Rng,
    ) -> Array2<f32> {
        match self {
            Self::Dense(net) => {
                net.forward_kept(z, &mut trace.tape, None);
                trace.tape.output().to_owned()
            }
            Self::Style(style) => {
                style.mapping.forward_kept(z, &mut trace.tape, None);
                trace.style = trace.tape.output().to_owned();
                let noise = |width: usize| {
                    let mut noise = Array2::zeros((z.nrows(), width));
                    fill_normal(noise.view_mut(), 1.0, rng);
                    noise
                };
                let (layers, last) = style.forward(trace.style.view(), noise);
                trace.layers = layers;
                let mut out = Array2::zeros((z.nrows(), style.output.bias.len()));
                style.output.forward_into(last.view(), out.view_mut());
                out
            }
        }
    }

    /// Adds the gradients of the parameters, from that of the rows.
    pub fn backward(
        &self,
        z: ArrayView2<'_, f32>,
        trace: &mut Trace,
        grad: ArrayView2<'_, f32>,
        grads: &mut Self,
    ) {
        match (self, grads) {
            (Self::Dense(net), Self::Dense(grads)) => {
                trace.tape.output_grad().assign(&grad);
                net.backward(z, &mut trace.tape, grads, None);
            }
            (Self::Style(style), Self::Style(grads)) => {
                let Some(last) = trace.layers.last() else {
                    return;
                };
                let mut post = Array2::zeros(last.pre.raw_dim());
                ACTIVATION.apply(last.pre.view(), post.view_mut());
                Dense::add_weight_grad(post.view(), grad, &mut grads.output);
                Dense::add_bias_grad(grad, &mut grads.output);
                let mut below = Array2::zeros(post.raw_dim());
                style.output.transposed_into(grad, below.view_mut());
                let mut of_style = Array2::zeros(trace.style.raw_dim());
                let layers = style
                    .layers
                    .iter()
                    .zip(&trace.layers)
                    .zip(&mut grads.layers);
                for ((layer, kept), into) in layers.rev() {
                    let (of_input, through) = layer.backward(kept, trace.style.view(), below, into);
                    of_style += &through;
                    below = of_input;
                }
                let of_constant = below.sum_axis(Axis(0)).insert_axis(Axis(0));
                grads.constant += &of_constant;
                trace.tape.output_grad().assign(&of_style);
                style
                    .mapping
                    .backward(z, &mut trace.tape, &mut grads.mapping, None);
            }
            _ => unreachable!("a gradient has the shape of its generator"),
        }
    }

    /// Rows for latents: the style drawn towards `centre` by `truncation`, noise inputs of that strength too. For a dense generator the
    /// latent itself is drawn towards 0.
    #[must_use]
    pub fn rows(
        &self,
        z: ArrayView2<'_, f32>,
        centre: &Array1<f32>,
        truncation: f32,
        rng: &mut ChaCha8Rng,
    ) -> Array2<f32> {
        match self {
            Self::Dense(net) => net.forward((&z * truncation).view()),
            Self::Style(style) => {
                let w = (style.mapping.forward(z) - centre) * truncation + centre;
                let noise = |width: usize| {
                    let mut noise = Array2::zeros((z.nrows(), width));
                    fill_normal(noise.view_mut(), truncation, rng);
                    noise
                };
                let (_, last) = style.forward(w.view(), noise);
                let mut out = Array2::zeros((z.nrows(), style.output.bias.len()));
                style.output.forward_into(last.view(), out.view_mut());
                out
            }
        }
    }

    /// The mean style over latents; empty for a dense generator.
    #[must_use]
    pub fn centre(&self, z: ArrayView2<'_, f32>) -> Array1<f32> {
        match self {
            Self::Dense(_) => Array1::zeros(0),
            Self::Style(style) => style
                .mapping
                .forward(z)
                .mean_axis(Axis(0))
                .unwrap_or_default(),
        }
    }
}

impl Params for Synthesis {
    fn tensors(&self) -> Vec<(&[f32], bool)> {
        match self {
            Self::Dense(net) => net.tensors(),
            Self::Style(style) => {
                let mut all = style.mapping.tensors();
                all.push((style.constant.as_slice().unwrap_or_default(), false));
                for layer in &style.layers {
                    for dense in [&layer.dense, &layer.scale, &layer.shift] {
                        all.push((dense.weight.as_slice().unwrap_or_default(), true));
                        all.push((dense.bias.as_slice().unwrap_or_default(), false));
                    }
                    all.push((layer.strength.as_slice().unwrap_or_default(), false));
                }
                all.push((style.output.weight.as_slice().unwrap_or_default(), true));
                all.push((style.output.bias.as_slice().unwrap_or_default(), false));
                all
            }
        }
    }

    fn tensors_mut(&mut self) -> Vec<&mut [f32]> {
        match self {
            Self::Dense(net) => net.tensors_mut(),
            Self::Style(style) => {
                let mut all = style.mapping.tensors_mut();
                all.push(style.constant.as_slice_mut().unwrap_or_default());
                for layer in &mut style.layers {
                    for dense in [&mut layer.dense, &mut layer.scale, &mut layer.shift] {
                        all.push(dense.weight.as_slice_mut().unwrap_or_default());
                        all.push(dense.bias.as_slice_mut().unwrap_or_default());
                    }
                    all.push(layer.strength.as_slice_mut().unwrap_or_default());
                }
                all.push(style.output.weight.as_slice_mut().unwrap_or_default());
                all.push(style.output.bias.as_slice_mut().unwrap_or_default());
                all
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::check::{check_gradient, normal};
    use crate::seed::Seed;

    fn check(generator: &Synthesis) {
        let (z, target) = (normal(3, 2, 1), normal(3, 4, 2));
        let loss = |generator: &Synthesis, trace: &mut Trace| {
            let off = generator.forward_kept(z.view(), trace, &mut Seed(5).rng()) - &target;
            let sum: f64 = off.iter().map(|v| 0.5 * f64::from(*v).powi(2)).sum();
            (sum, off)
        };
        let mut trace = Trace::default();
        let (_, off) = loss(generator, &mut trace);
        let mut grads = generator.zeros_like();
        generator.backward(z.view(), &mut trace, off.view(), &mut grads);
        check_gradient(generator, &grads, &mut |g| loss(g, &mut Trace::default()).0);
    }

    #[test]
    fn gradients_of_both_generators() {
        // Seeds for which no unit is so near 0 that a difference straddles a kink.
        let seed = |make: &dyn Fn(&mut ChaCha8Rng) -> Synthesis| {
            let clear =
                |generator: &Synthesis| std::panic::catch_unwind(|| check(generator)).is_ok();
            (0..30)
                .filter(|s| clear(&make(&mut Seed(*s).rng())))
                .count()
        };
        assert!(seed(&|rng| Synthesis::dense(&[2, 3, 4], rng)) > 3);
        assert!(seed(&|rng| Synthesis::style(2, &[3, 3], 4, rng)) > 1);
    }
}
