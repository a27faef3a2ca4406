//! Generators: from noise to rows.
//!
//! The style-based one follows Karras, Laine and Aila, "A Style-Based Generator Architecture for Generative Adversarial Networks", CVPR
//! 2019, in the form of Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, on rows instead of images: a
//! mapping network turns the latent z into a style w; synthesis starts from a learned constant; at each layer an affine map of w
//! *modulates* the weights (one factor an input), which are then *demodulated* (divided by their length, one an output), so that a style
//! sets which features matter and not how loud the layer is; noise of learned strength disturbs each layer; truncation draws styles
//! towards their mean. Weights and not activations are normalised, because a row has no image plane to take instance statistics over.
//! The last layer is modulated only, as the paper's is: its outputs' sizes are the data's own.

use ndarray::{Array1, Array2, ArrayView2, Axis, Zip};
use rand_chacha::ChaCha8Rng;

use crate::nn::Params;
use crate::nn::activation::Activation;
use crate::nn::dense::Dense;
use crate::nn::net::{Net, Tape};
use crate::nn::noise::fill_normal;

/// A fitted or learning generator.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a model has a few at most")]
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
    /// The last layer: modulated, not demodulated, without noise.
    pub output: StyleLayer,
    /// What follows each layer but the last.
    pub activation: Activation,
}

/// y = ((x ⊙ s) W) ⊙ d + b + strength ⊙ noise, with s = 1 + w A + a and d_j = 1 / √(Σᵢ (sᵢ Wᵢⱼ)² + ε) where it demodulates, else 1: what
/// x W'' + b + … is for the paper's W'' of each row's own, without making a W'' a row.
#[derive(Clone, Debug, PartialEq)]
pub struct StyleLayer {
    /// W, b.
    pub dense: Dense,
    /// A, a: the style's factor on each input.
    pub scale: Dense,
    /// Learned strength of the noise input, one a unit; empty: no noise.
    pub strength: Array1<f32>,
    /// Whether the modulated weights are brought back to length 1.
    pub demodulates: bool,
}

/// What a pass of a generator leaves for the backward pass.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    tape: Tape,
    style: Array2<f32>,
    /// The output layer's last.
    layers: Vec<LayerTrace>,
}

/// What one modulated layer leaves.
#[derive(Clone, Debug)]
struct LayerTrace {
    /// x, `n × inputs`.
    input: Array2<f32>,
    /// s, `n × inputs`.
    scale: Array2<f32>,
    /// (x ⊙ s) W, `n × outputs`.
    plain: Array2<f32>,
    /// d, `n × outputs`; 1 without demodulation.
    length: Array2<f32>,
    /// `n × outputs`, or empty.
    noise: Array2<f32>,
    /// y, `n × outputs`: before the activation.
    pre: Array2<f32>,
}

/// What follows a layer in both forms.
const ACTIVATION: Activation = Activation::LeakyRelu;

/// Factor on activations, so that a demodulated layer's outputs come out of them with the size they went in with.
const GAIN: f32 = std::f32::consts::SQRT_2;

/// Keeps the demodulation of weights that a style switched off finite.
const EPSILON: f32 = 1e-8;

impl StyleLayer {
    fn init(
        inputs: usize,
        outputs: usize,
        style: usize,
        demodulates: bool,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        Self {
            dense: Dense::init(inputs, outputs, 1.0, rng),
            scale: Dense::init(style, inputs, 1.0, rng),
            strength: Array1::from_elem(if demodulates { outputs } else { 0 }, 0.1),
            demodulates,
        }
    }

    /// `input` is `n × inputs`, `style` `n × style`, `noise` `n × outputs` or empty.
    fn forward(
        &self,
        input: Array2<f32>,
        style: ArrayView2<'_, f32>,
        noise: Array2<f32>,
    ) -> LayerTrace {
        let (rows, outputs) = (input.nrows(), self.dense.bias.len());
        let mut scale = Array2::zeros(input.raw_dim());
        self.scale.forward_into(style, scale.view_mut());
        scale += 1.0;
        let mut plain = Array2::zeros((rows, outputs));
        self.dense
            .linear_into((&input * &scale).view(), plain.view_mut());
        let length = if self.demodulates {
            let squares = self.dense.weight.mapv(|w| w * w);
            let mut length = scale.mapv(|s| s * s).dot(&squares);
            length.mapv_inplace(|q| 1.0 / (q + EPSILON).sqrt());
            length
        } else {
            Array2::ones((rows, outputs))
        };
        let mut pre = &plain * &length + &self.dense.bias;
        if !self.strength.is_empty() {
            pre += &(&noise * &self.strength);
        }
        LayerTrace {
            input,
            scale,
            plain,
            length,
            noise,
            pre,
        }
    }

    /// Adds gradients, from that of y (`n × outputs`); returns those of the input and of the style.
    fn backward(
        &self,
        kept: &LayerTrace,
        style: ArrayView2<'_, f32>,
        of_pre: ArrayView2<'_, f32>,
        into: &mut Self,
    ) -> (Array2<f32>, Array2<f32>) {
        if !self.strength.is_empty() {
            into.strength += &(&of_pre * &kept.noise).sum_axis(Axis(0));
        }
        Dense::add_bias_grad(of_pre, &mut into.dense);
        // u = (x ⊙ s) W.
        let of_plain = &of_pre * &kept.length;
        let modulated = &kept.input * &kept.scale;
        Dense::add_weight_grad(modulated.view(), of_plain.view(), &mut into.dense);
        let mut of_modulated = Array2::zeros(modulated.raw_dim());
        self.dense
            .transposed_into(of_plain.view(), of_modulated.view_mut());
        let of_input = &of_modulated * &kept.scale;
        let mut of_scale = of_modulated * &kept.input;
        if self.demodulates {
            // d = q^(-½) with q = s² W² + ε, so ∂d/∂q = -½ d³.
            let mut of_q = &of_pre * &kept.plain;
            Zip::from(&mut of_q)
                .and(&kept.length)
                .for_each(|g, &d| *g *= -0.5 * d * d * d);
            let through_weight = kept.scale.mapv(|s| s * s).t().dot(&of_q);
            Zip::from(&mut into.dense.weight)
                .and(&through_weight)
                .and(&self.dense.weight)
                .for_each(|g, &t, &w| *g += 2.0 * t * w);
            let through_scale = of_q.dot(&self.dense.weight.mapv(|w| w * w).t());
            Zip::from(&mut of_scale)
                .and(&through_scale)
                .and(&kept.scale)
                .for_each(|g, &t, &s| *g += 2.0 * t * s);
        }
        Dense::add_weight_grad(style, of_scale.view(), &mut into.scale);
        Dense::add_bias_grad(of_scale.view(), &mut into.scale);
        let mut of_style = Array2::zeros(style.raw_dim());
        self.scale
            .transposed_into(of_scale.view(), of_style.view_mut());
        (of_input, of_style)
    }

    /// The parameters, in the order of the optimiser.
    fn parts(&self) -> [&Dense; 2] {
        [&self.dense, &self.scale]
    }
}

impl Style {
    /// Rows for styles (`n × style`), as the last trace's `pre`; `noise` makes standard normal numbers, `n × width`.
    fn forward(
        &self,
        style: ArrayView2<'_, f32>,
        mut noise: impl FnMut(usize) -> Array2<f32>,
    ) -> Vec<LayerTrace> {
        let mut now = Array2::zeros((style.nrows(), self.constant.ncols()));
        now += &self.constant.row(0);
        let mut traces = Vec::with_capacity(self.layers.len() + 1);
        for layer in &self.layers {
            let trace = layer.forward(now, style, noise(layer.strength.len()));
            now = Array2::zeros(trace.pre.raw_dim());
            self.activation.apply(trace.pre.view(), now.view_mut());
            now *= GAIN;
            traces.push(trace);
        }
        traces.push(self.output.forward(now, style, Array2::zeros((0, 0))));
        traces
    }

    /// Adds the gradients of all but the mapping, from that of the rows; returns that of the styles.
    fn backward(&self, trace: &Trace, grad: ArrayView2<'_, f32>, grads: &mut Self) -> Array2<f32> {
        let style = trace.style.view();
        let Some((last, inner)) = trace.layers.split_last() else {
            return Array2::zeros(style.raw_dim());
        };
        let (mut below, mut of_style) = self.output.backward(last, style, grad, &mut grads.output);
        let layers = self.layers.iter().zip(inner).zip(&mut grads.layers);
        for ((layer, kept), into) in layers.rev() {
            below *= GAIN;
            let mut post = Array2::zeros(kept.pre.raw_dim());
            self.activation.apply(kept.pre.view(), post.view_mut());
            self.activation
                .chain(kept.pre.view(), post.view(), below.view_mut());
            let (of_input, through) = layer.backward(kept, style, below.view(), into);
            of_style += &through;
            below = of_input;
        }
        grads.constant += &below.sum_axis(Axis(0)).insert_axis(Axis(0));
        of_style
    }
}

/// Standard normal numbers times `strength`, `n × width`.
fn noise_of(n: usize, strength: f32, rng: &mut ChaCha8Rng) -> impl FnMut(usize) -> Array2<f32> {
    move |width| {
        let mut noise = Array2::zeros((n, width));
        fill_normal(noise.view_mut(), strength, rng);
        noise
    }
}

/// The rows that a pass ended in.
fn rows_of(mut layers: Vec<LayerTrace>) -> Array2<f32> {
    layers.pop().map(|last| last.pre).unwrap_or_default()
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
            layers.push(StyleLayer::init(from, to, style, true, rng));
            from = to;
        }
        Self::Style(Style {
            mapping,
            constant,
            layers,
            output: StyleLayer::init(from, width, style, false, rng),
            activation: ACTIVATION,
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
                trace.layers = style.forward(trace.style.view(), noise_of(z.nrows(), 1.0, rng));
                let last = trace.layers.last();
                last.map(|last| last.pre.clone()).unwrap_or_default()
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
                let of_style = style.backward(trace, grad, grads);
                trace.tape.output_grad().assign(&of_style);
                style
                    .mapping
                    .backward(z, &mut trace.tape, &mut grads.mapping, None);
            }
            _ => unreachable!("a gradient has the shape of its generator"),
        }
    }

    /// Rows for latents: the style drawn towards `centre` by `truncation` (ψ of Karras et al. 2019), noise inputs of that strength too. For a dense generator the
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
                rows_of(style.forward(w.view(), noise_of(z.nrows(), truncation, rng)))
            }
        }
    }

    /// The mean style over latents, which the papers estimate by a running mean while training; empty for a dense generator.
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
                for layer in style.layers.iter().chain([&style.output]) {
                    for dense in layer.parts() {
                        all.push((dense.weight.as_slice().unwrap_or_default(), true));
                        all.push((dense.bias.as_slice().unwrap_or_default(), false));
                    }
                    if !layer.strength.is_empty() {
                        all.push((layer.strength.as_slice().unwrap_or_default(), false));
                    }
                }
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
                for layer in style.layers.iter_mut().chain([&mut style.output]) {
                    for dense in [&mut layer.dense, &mut layer.scale] {
                        all.push(dense.weight.as_slice_mut().unwrap_or_default());
                        all.push(dense.bias.as_slice_mut().unwrap_or_default());
                    }
                    if !layer.strength.is_empty() {
                        all.push(layer.strength.as_slice_mut().unwrap_or_default());
                    }
                }
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
    use ndarray::array;

    /// Half the squared error of generated rows; its gradient in every parameter against differences.
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

    /// The same generator with a smooth activation, so that no difference straddles a kink.
    fn smooth(mut generator: Synthesis) -> Synthesis {
        let net = match &mut generator {
            Synthesis::Dense(net) => net,
            Synthesis::Style(style) => {
                style.activation = Activation::Gelu;
                // Demodulation takes the length of weights out again; beside longer ones a difference's step is smaller.
                for layer in &mut style.layers {
                    layer.dense.weight *= 4.0;
                }
                &mut style.mapping
            }
        };
        for stage in &mut net.stages {
            if stage.activation == ACTIVATION {
                stage.activation = Activation::Gelu;
            }
        }
        generator
    }

    #[test]
    fn gradients_of_both_generators() {
        for seed in 0..8 {
            let rng = &mut Seed(seed).rng();
            check(&smooth(Synthesis::dense(&[2, 3, 4], rng)));
            check(&smooth(Synthesis::style(2, &[5, 3], 4, rng)));
        }
    }

    fn layer(demodulates: bool) -> StyleLayer {
        StyleLayer {
            dense: Dense {
                weight: array![[3.0], [2.0]],
                bias: array![0.5],
            },
            // s = 1 + w A + a = (1, 2) for w = 1.
            scale: Dense {
                weight: array![[0.5, 1.0]],
                bias: array![-0.5, 0.0],
            },
            strength: array![0.1],
            demodulates,
        }
    }

    #[test]
    fn modulation_by_hand() {
        let pass = |demodulates| {
            let (x, w) = (array![[1.0, 2.0]], array![[1.0]]);
            layer(demodulates).forward(x, w.view(), array![[2.0]]).pre[[0, 0]]
        };
        // (1 · 1 · 3 + 2 · 2 · 2) = 11; the modulated weights (3, 4) have length 5; 0.5 + 0.1 · 2 on top.
        assert!((pass(false) - 11.7).abs() < 1e-5);
        assert!((pass(true) - (11.0 / 5.0 + 0.7)).abs() < 1e-5);
    }

    #[test]
    fn demodulated_outputs_keep_their_size_whatever_the_style() {
        let rng = &mut Seed(1).rng();
        let mut layer = StyleLayer::init(16, 8, 4, true, rng);
        layer.strength.fill(0.0);
        let x = normal(4000, 16, 2);
        for loud in [0.1, 1.0, 30.0] {
            let style = normal(1, 4, 3) * loud;
            let style = style.broadcast((4000, 4)).unwrap().to_owned();
            let pre = layer
                .forward(x.clone(), style.view(), Array2::zeros((4000, 8)))
                .pre;
            for spread in pre.std_axis(Axis(0), 0.0) {
                assert!((spread - 1.0).abs() < 0.06, "{loud}: {spread}");
            }
        }
    }

    #[test]
    fn truncation_draws_styles_to_their_mean() {
        let generator = Synthesis::style(2, &[6], 3, &mut Seed(1).rng());
        let z = normal(200, 2, 2);
        let centre = generator.centre(z.view());
        let rows = |psi| generator.rows(z.view(), &centre, psi, &mut Seed(3).rng());
        let spread = |rows: Array2<f32>| rows.std_axis(Axis(0), 0.0).sum();
        assert!(spread(rows(0.0)) < 1e-5);
        assert!(spread(rows(0.3)) < 0.5 * spread(rows(1.0)));
    }
}
