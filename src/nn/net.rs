//! A chain of layers with activations: forward, backward, derivatives in a direction, and the gradient of the input as an
//! expression that can itself be differentiated.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Zip};
use rand_chacha::ChaCha8Rng;

use super::Params;
use super::activation::Activation;
use super::conv::{Conv1d, Upsample};
use super::dense::Dense;
use super::noise::fill_dropout;

/// One affine map.
#[derive(Clone, Debug, PartialEq)]
pub enum Layer {
    /// Fully connected.
    Dense(Dense),
    /// Convolution over the steps of a window.
    Conv1d(Conv1d),
    /// Repetition of steps.
    Upsample(Upsample),
}

impl Layer {
    /// Width of a row that goes in.
    #[must_use]
    pub fn inputs(&self) -> usize {
        match self {
            Self::Dense(dense) => dense.weight.nrows(),
            Self::Conv1d(conv) => conv.shape.inputs(),
            Self::Upsample(up) => up.from * up.channels,
        }
    }

    /// Width of a row that comes out.
    #[must_use]
    pub fn outputs(&self) -> usize {
        match self {
            Self::Dense(dense) => dense.weight.ncols(),
            Self::Conv1d(conv) => conv.shape.outputs(),
            Self::Upsample(up) => up.to * up.channels,
        }
    }

    fn zeros_like(&self) -> Self {
        match self {
            Self::Dense(dense) => Self::Dense(dense.zeros_like()),
            Self::Conv1d(conv) => Self::Conv1d(conv.zeros_like()),
            Self::Upsample(up) => Self::Upsample(*up),
        }
    }

    fn forward_into(&self, x: ArrayView2<'_, f32>, out: ArrayViewMut2<'_, f32>) {
        match self {
            Self::Dense(dense) => dense.forward_into(x, out),
            Self::Conv1d(conv) => conv.forward_into(x, out),
            Self::Upsample(up) => up.linear_into(x, out),
        }
    }

    fn linear_into(&self, x: ArrayView2<'_, f32>, out: ArrayViewMut2<'_, f32>) {
        match self {
            Self::Dense(dense) => dense.linear_into(x, out),
            Self::Conv1d(conv) => conv.linear_into(x, out),
            Self::Upsample(up) => up.linear_into(x, out),
        }
    }

    fn transposed_into(&self, grad: ArrayView2<'_, f32>, out: ArrayViewMut2<'_, f32>) {
        match self {
            Self::Dense(dense) => dense.transposed_into(grad, out),
            Self::Conv1d(conv) => conv.transposed_into(grad, out),
            Self::Upsample(up) => up.transposed_into(grad, out),
        }
    }

    /// Adds the gradient of the weights, where `x` went in linearly and `grad` is that of the output.
    fn add_weight_grad(&self, x: ArrayView2<'_, f32>, grad: ArrayView2<'_, f32>, into: &mut Self) {
        match (self, into) {
            (Self::Dense(_), Self::Dense(into)) => Dense::add_weight_grad(x, grad, into),
            (Self::Conv1d(conv), Self::Conv1d(into)) => conv.add_weight_grad(x, grad, into),
            (Self::Upsample(_), Self::Upsample(_)) => {}
            _ => unreachable!("a gradient has the shape of its layer"),
        }
    }

    fn add_bias_grad(&self, grad: ArrayView2<'_, f32>, into: &mut Self) {
        match (self, into) {
            (Self::Dense(_), Self::Dense(into)) => Dense::add_bias_grad(grad, into),
            (Self::Conv1d(conv), Self::Conv1d(into)) => conv.add_bias_grad(grad, into),
            (Self::Upsample(_), Self::Upsample(_)) => {}
            _ => unreachable!("a gradient has the shape of its layer"),
        }
    }
}

/// A layer and the activation after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// The affine map.
    pub layer: Layer,
    /// What follows it.
    pub activation: Activation,
}

/// A chain of stages. Also the shape of its gradient.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Net {
    /// In the order in which a row passes them.
    pub stages: Vec<Stage>,
}

/// What one pass leaves for the backward pass, and the room both work in. Reused from batch to batch.
#[derive(Clone, Debug, Default)]
pub struct Tape {
    /// Before each activation.
    pre: Vec<Array2<f32>>,
    /// After each activation (and dropout).
    post: Vec<Array2<f32>>,
    /// Gradients of `post`, turned into those of `pre` by the backward pass.
    grad: Vec<Array2<f32>>,
    /// Dropout's factors; empty without dropout.
    masks: Vec<Array2<f32>>,
    /// Gradients that reach `pre` on another way: from penalties on derivatives.
    extra: Vec<Array2<f32>>,
}

impl Tape {
    /// The net's output of the last forward pass.
    ///
    /// # Panics
    /// Before the first forward pass.
    #[must_use]
    pub fn output(&self) -> ArrayView2<'_, f32> {
        self.post[self.post.len() - 1].view()
    }

    /// What came out of each stage.
    #[must_use]
    pub fn outputs(&self) -> &[Array2<f32>] {
        &self.post
    }

    /// Where the caller writes the gradient of the output before it calls [`Net::backward`].
    pub fn output_grad(&mut self) -> &mut Array2<f32> {
        let last = self.grad.len() - 1;
        &mut self.grad[last]
    }

    /// The net's output, and where its gradient goes.
    pub fn output_and_grad(&mut self) -> (ArrayView2<'_, f32>, ArrayViewMut2<'_, f32>) {
        let last = self.post.len() - 1;
        (self.post[last].view(), self.grad[last].view_mut())
    }

    fn fit(&mut self, net: &Net, rows: usize) {
        let fits = self.post.len() == net.stages.len()
            && self
                .post
                .iter()
                .zip(&net.stages)
                .all(|(post, stage)| post.dim() == (rows, stage.layer.outputs()));
        if !fits {
            let room = || -> Vec<Array2<f32>> {
                let outputs = net.stages.iter().map(|stage| stage.layer.outputs());
                outputs.map(|width| Array2::zeros((rows, width))).collect()
            };
            *self = Self {
                pre: room(),
                post: room(),
                grad: room(),
                masks: Vec::new(),
                extra: Vec::new(),
            };
        }
        self.masks.clear();
        self.extra.clear();
    }
}

impl Net {
    /// A dense chain through `widths`; `inner` after each layer but the last, which `last` follows.
    pub fn dense(
        widths: &[usize],
        inner: Activation,
        last: Activation,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let count = widths.len().saturating_sub(1);
        let stages = (0..count)
            .map(|at| {
                let activation = if at + 1 == count { last } else { inner };
                Stage {
                    layer: Layer::Dense(Dense::init(
                        widths[at],
                        widths[at + 1],
                        activation.gain(),
                        rng,
                    )),
                    activation,
                }
            })
            .collect();
        Self { stages }
    }

    /// A net of zeros of the same shape: a gradient to add to.
    #[must_use]
    pub fn zeros_like(&self) -> Self {
        let zero = |stage: &Stage| Stage {
            layer: stage.layer.zeros_like(),
            activation: stage.activation,
        };
        Self {
            stages: self.stages.iter().map(zero).collect(),
        }
    }

    /// Width of a row that comes out.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.stages.last().map_or(0, |stage| stage.layer.outputs())
    }

    /// The output for each row of `x`.
    #[must_use]
    pub fn forward(&self, x: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut current: Option<Array2<f32>> = None;
        for stage in &self.stages {
            let mut out = Array2::zeros((x.nrows(), stage.layer.outputs()));
            let input = current.as_ref().map_or(x.view(), Array2::view);
            stage.layer.forward_into(input, out.view_mut());
            stage.activation.apply_in_place(out.view_mut());
            current = Some(out);
        }
        current.unwrap_or_else(|| x.to_owned())
    }

    /// A forward pass that keeps on `tape` what [`Net::backward`] needs. With `dropout`, (rate, generator), the outputs of all stages
    /// but the last are thinned out.
    pub fn forward_kept(
        &self,
        x: ArrayView2<'_, f32>,
        tape: &mut Tape,
        dropout: Option<(f32, &mut ChaCha8Rng)>,
    ) {
        tape.fit(self, x.nrows());
        let mut dropout = dropout.filter(|(rate, _)| *rate > 0.0);
        for (at, stage) in self.stages.iter().enumerate() {
            let (before, rest) = tape.post.split_at_mut(at);
            let input = before.last().map_or(x.view(), Array2::view);
            stage.layer.forward_into(input, tape.pre[at].view_mut());
            stage
                .activation
                .apply(tape.pre[at].view(), rest[0].view_mut());
            if let Some((rate, rng)) = dropout.as_mut().filter(|_| at + 1 < self.stages.len()) {
                let mut mask = Array2::zeros(rest[0].raw_dim());
                fill_dropout(&mut mask, *rate, rng);
                rest[0] *= &mask;
                tape.masks.push(mask);
            }
        }
    }

    /// The backward pass of the last [`Net::forward_kept`] of `x`: takes the gradient of the output from [`Tape::output_grad`], adds
    /// those of the parameters to `grads`, and writes that of the input where asked.
    pub fn backward(
        &self,
        x: ArrayView2<'_, f32>,
        tape: &mut Tape,
        grads: &mut Self,
        input_grad: Option<ArrayViewMut2<'_, f32>>,
    ) {
        for at in (0..self.stages.len()).rev() {
            let stage = &self.stages[at];
            let (before, rest) = tape.grad.split_at_mut(at);
            let grad = &mut rest[0];
            if let Some(mask) = tape.masks.get(at) {
                *grad *= mask;
                // The mask scaled the output, so the slope is taken where the activation was, not from the thinned output.
                let mut post = Array2::zeros(grad.raw_dim());
                stage.activation.apply(tape.pre[at].view(), post.view_mut());
                stage
                    .activation
                    .chain(tape.pre[at].view(), post.view(), grad.view_mut());
            } else {
                stage
                    .activation
                    .chain(tape.pre[at].view(), tape.post[at].view(), grad.view_mut());
            }
            if let Some(extra) = tape.extra.get(at) {
                *grad += extra;
            }
            let input = if at == 0 {
                x.view()
            } else {
                tape.post[at - 1].view()
            };
            let into = &mut grads.stages[at].layer;
            stage.layer.add_weight_grad(input, grad.view(), into);
            stage.layer.add_bias_grad(grad.view(), into);
            if let Some(below) = before.last_mut() {
                stage.layer.transposed_into(grad.view(), below.view_mut());
            }
        }
        if let (Some(out), Some(first)) = (input_grad, self.stages.first()) {
            first.layer.transposed_into(tape.grad[0].view(), out);
        }
    }

    /// f'(pre) of a stage at the tape's rows.
    fn slope(&self, at: usize, tape: &Tape) -> Array2<f32> {
        let mut slope = Array2::ones(tape.pre[at].raw_dim());
        let stage = &self.stages[at];
        stage
            .activation
            .chain(tape.pre[at].view(), tape.post[at].view(), slope.view_mut());
        slope
    }

    /// f''(pre) of a stage at the tape's rows.
    fn bend(&self, at: usize, tape: &Tape) -> Array2<f32> {
        let mut bend = Array2::ones(tape.pre[at].raw_dim());
        let stage = &self.stages[at];
        stage
            .activation
            .chain_second(tape.pre[at].view(), tape.post[at].view(), bend.view_mut());
        bend
    }

    /// The squared length of the net's derivative in each row's direction, ‖J v‖², times `weight`, summed over rows; its gradients are
    /// added to `grads`, and what reaches the activations is left on the tape, so [`Net::backward`] must follow. `directions` is
    /// `n × inputs`; the tape is that of a pass without dropout. A forward tangent: exact, at the cost of about one more pass.
    pub fn tangent_penalty(
        &self,
        directions: ArrayView2<'_, f32>,
        weight: f32,
        tape: &mut Tape,
        grads: &mut Self,
    ) -> f64 {
        let count = self.stages.len();
        let mut linear: Vec<Array2<f32>> = Vec::with_capacity(count);
        let mut tangents: Vec<Array2<f32>> = Vec::with_capacity(count);
        for (at, stage) in self.stages.iter().enumerate() {
            let mut out = Array2::zeros((directions.nrows(), stage.layer.outputs()));
            let input = tangents.last().map_or(directions.view(), Array2::view);
            stage.layer.linear_into(input, out.view_mut());
            tangents.push(&out * &self.slope(at, tape));
            linear.push(out);
        }
        let Some(last) = tangents.last() else {
            return 0.0;
        };
        let value: f64 = last.iter().map(|t| f64::from(*t) * f64::from(*t)).sum();
        let mut grad = last * (2.0 * weight);
        self.ready_extra(tape);
        for at in (0..count).rev() {
            // t = f'(z) ⊙ u, u = t_below W: the gradient reaches z through f'' and W through both u and t_below.
            let mut of_pre = &grad * &linear[at];
            of_pre *= &self.bend(at, tape);
            tape.extra[at] += &of_pre;
            grad *= &self.slope(at, tape);
            let input = if at == 0 {
                directions.view()
            } else {
                tangents[at - 1].view()
            };
            let layer = &self.stages[at].layer;
            layer.add_weight_grad(input, grad.view(), &mut grads.stages[at].layer);
            if at > 0 {
                let mut below = Array2::zeros((grad.nrows(), layer.inputs()));
                layer.transposed_into(grad.view(), below.view_mut());
                grad = below;
            }
        }
        value * f64::from(weight)
    }

    /// The gradient of the net's only output by its input, each row: `n × inputs`. Written as a chain of products from the output
    /// down, so that [`Net::input_gradient_backward`] can differentiate it: no double backward.
    #[must_use]
    pub fn input_gradient(&self, tape: &Tape) -> InputGradient {
        let rows = tape.output().nrows();
        let mut reached = vec![Array2::ones((rows, self.outputs()))];
        let mut scaled = Vec::with_capacity(self.stages.len());
        for at in (0..self.stages.len()).rev() {
            let q = &reached[reached.len() - 1] * &self.slope(at, tape);
            let layer = &self.stages[at].layer;
            let mut below = Array2::zeros((rows, layer.inputs()));
            layer.transposed_into(q.view(), below.view_mut());
            scaled.push(q);
            reached.push(below);
        }
        InputGradient { reached, scaled }
    }

    /// The backward pass of [`Net::input_gradient`]: `grad` is the gradient of a loss by the input gradient. Adds to `grads`, and leaves
    /// what reaches the activations on the tape, so [`Net::backward`] must follow (with output gradient 0 if there is nothing else).
    pub fn input_gradient_backward(
        &self,
        of: &InputGradient,
        grad: &Array2<f32>,
        tape: &mut Tape,
        grads: &mut Self,
    ) {
        self.ready_extra(tape);
        let count = self.stages.len();
        let mut grad = grad.clone();
        for at in 0..count {
            // r_below = q Wᵀ with q = r ⊙ f'(z), seen from below.
            let place = count - 1 - at;
            let layer = &self.stages[at].layer;
            layer.add_weight_grad(
                grad.view(),
                of.scaled[place].view(),
                &mut grads.stages[at].layer,
            );
            let mut of_q = Array2::zeros(of.scaled[place].raw_dim());
            layer.linear_into(grad.view(), of_q.view_mut());
            let mut of_pre = &of_q * &of.reached[place];
            of_pre *= &self.bend(at, tape);
            tape.extra[at] += &of_pre;
            of_q *= &self.slope(at, tape);
            grad = of_q;
        }
    }

    fn ready_extra(&self, tape: &mut Tape) {
        if tape.extra.len() != self.stages.len() {
            tape.extra = tape
                .pre
                .iter()
                .map(|pre| Array2::zeros(pre.raw_dim()))
                .collect();
        }
    }

    /// Makes this decoder's dense weights the transposes of `encoder`'s, last to first: tied weights.
    pub fn tie_to(&mut self, encoder: &Self) {
        for (mine, theirs) in self.stages.iter_mut().zip(encoder.stages.iter().rev()) {
            if let (Layer::Dense(mine), Layer::Dense(theirs)) = (&mut mine.layer, &theirs.layer) {
                Zip::from(&mut mine.weight)
                    .and(theirs.weight.t())
                    .for_each(|mine, &theirs| *mine = theirs);
            }
        }
    }

    /// Moves the gradients of tied decoder weights (self) to the encoder's, to which they belong.
    pub fn untie_grads(&mut self, encoder: &mut Self) {
        for (mine, theirs) in self.stages.iter_mut().zip(encoder.stages.iter_mut().rev()) {
            if let (Layer::Dense(mine), Layer::Dense(theirs)) = (&mut mine.layer, &mut theirs.layer)
            {
                theirs.weight += &mine.weight.t();
                mine.weight.fill(0.0);
            }
        }
    }
}

/// The input gradient of a net, with what its own backward pass needs.
#[derive(Clone, Debug)]
pub struct InputGradient {
    /// Gradient after each activation, from the output down; the last is the input's.
    reached: Vec<Array2<f32>>,
    /// The same before each activation.
    scaled: Vec<Array2<f32>>,
}

impl InputGradient {
    /// `n × inputs`.
    #[must_use]
    pub fn at_input(&self) -> ArrayView2<'_, f32> {
        self.reached[self.reached.len() - 1].view()
    }
}

impl Params for Net {
    fn tensors(&self) -> Vec<(&[f32], bool)> {
        let mut all = Vec::with_capacity(2 * self.stages.len());
        for stage in &self.stages {
            let (weight, bias) = match &stage.layer {
                Layer::Dense(dense) => (&dense.weight, &dense.bias),
                Layer::Conv1d(conv) => (&conv.weight, &conv.bias),
                Layer::Upsample(_) => continue,
            };
            all.push((weight.as_slice().unwrap_or_default(), true));
            all.push((bias.as_slice().unwrap_or_default(), false));
        }
        all
    }

    fn tensors_mut(&mut self) -> Vec<&mut [f32]> {
        let mut all = Vec::with_capacity(2 * self.stages.len());
        for stage in &mut self.stages {
            let (weight, bias) = match &mut stage.layer {
                Layer::Dense(dense) => (&mut dense.weight, &mut dense.bias),
                Layer::Conv1d(conv) => (&mut conv.weight, &mut conv.bias),
                Layer::Upsample(_) => continue,
            };
            all.push(weight.as_slice_mut().unwrap_or_default());
            all.push(bias.as_slice_mut().unwrap_or_default());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::check::{check_gradient, normal};
    use crate::nn::conv::ConvShape;
    use crate::seed::Seed;
    use ndarray::Axis;

    const SMOOTH: [Activation; 3] = [Activation::Tanh, Activation::Sigmoid, Activation::Gelu];

    /// Half the squared distance of the output from `target`, and its gradient on the tape.
    fn half_square(net: &Net, x: &Array2<f32>, target: &Array2<f32>, tape: &mut Tape) -> f64 {
        net.forward_kept(x.view(), tape, None);
        let off = &tape.output() - target;
        tape.output_grad().assign(&off);
        off.iter()
            .map(|v| 0.5 * f64::from(*v) * f64::from(*v))
            .sum()
    }

    fn conv_net(activation: Activation) -> Net {
        let rng = &mut Seed(2).rng();
        let shape = ConvShape {
            steps: 5,
            channels: 2,
            filters: 3,
            kernel: 3,
            stride: 2,
        };
        let back = ConvShape {
            steps: 5,
            channels: 3,
            filters: 2,
            kernel: 3,
            stride: 1,
        };
        let stage = |layer, activation| Stage { layer, activation };
        Net {
            stages: vec![
                stage(Layer::Conv1d(Conv1d::init(shape, 1.0, rng)), activation),
                stage(Layer::Dense(Dense::init(9, 9, 1.0, rng)), activation),
                stage(
                    Layer::Upsample(Upsample {
                        from: 3,
                        to: 5,
                        channels: 3,
                    }),
                    Activation::Identity,
                ),
                stage(
                    Layer::Conv1d(Conv1d::init(back, 1.0, rng)),
                    Activation::Identity,
                ),
            ],
        }
    }

    fn check_net(net: &Net, seed: u64) {
        let (x, target) = (
            normal(4, net.stages[0].layer.inputs(), seed),
            normal(4, net.outputs(), seed + 1),
        );
        let mut tape = Tape::default();
        let mut grads = net.zeros_like();
        let mut of_x = Array2::zeros(x.raw_dim());
        half_square(net, &x, &target, &mut tape);
        net.backward(x.view(), &mut tape, &mut grads, Some(of_x.view_mut()));
        let mut loss = |net: &Net| half_square(net, &x, &target, &mut Tape::default());
        check_gradient(net, &grads, &mut loss);
        let mut of_input = |x: &Array2<f32>| half_square(net, x, &target, &mut Tape::default());
        check_gradient(&x, &of_x, &mut of_input);
    }

    #[test]
    fn gradients_of_dense_chains() {
        let kinked = [Activation::LeakyRelu, Activation::Relu];
        for activation in SMOOTH.into_iter().chain(kinked) {
            // A seed for which no unit is so near 0 that a difference straddles a kink.
            let seed = 14;
            let widths: [&[usize]; 2] = [&[5, 6, 4, 3], &[5, 4]];
            let last = [Activation::Identity, activation];
            for (widths, last) in widths.into_iter().zip(last) {
                check_net(
                    &Net::dense(widths, activation, last, &mut Seed(8).rng()),
                    seed,
                );
            }
        }
    }

    #[test]
    fn gradients_of_convolutions() {
        for activation in SMOOTH {
            check_net(&conv_net(activation), 4);
        }
    }

    #[test]
    fn gradients_through_dropout() {
        let net = Net::dense(
            &[5, 6, 4],
            Activation::Tanh,
            Activation::Identity,
            &mut Seed(8).rng(),
        );
        let (x, target) = (normal(4, 5, 1), normal(4, 4, 2));
        let loss = |net: &Net, tape: &mut Tape| {
            net.forward_kept(x.view(), tape, Some((0.4, &mut Seed(9).rng())));
            let off = &tape.output() - &target;
            tape.output_grad().assign(&off);
            off.iter()
                .map(|v| 0.5 * f64::from(*v) * f64::from(*v))
                .sum::<f64>()
        };
        let mut tape = Tape::default();
        let mut grads = net.zeros_like();
        loss(&net, &mut tape);
        net.backward(x.view(), &mut tape, &mut grads, None);
        check_gradient(&net, &grads, &mut |net| loss(net, &mut Tape::default()));
    }

    #[test]
    fn gradients_of_the_tangent_penalty() {
        let dense = |a| Net::dense(&[5, 6, 4], a, a, &mut Seed(8).rng());
        for net in SMOOTH.into_iter().flat_map(|a| [dense(a), conv_net(a)]) {
            let inputs = net.stages[0].layer.inputs();
            let (x, v) = (normal(3, inputs, 1), normal(3, inputs, 2));
            let penalty = |net: &Net, tape: &mut Tape, grads: &mut Net| {
                net.forward_kept(x.view(), tape, None);
                let value = net.tangent_penalty(v.view(), 0.7, tape, grads);
                tape.output_grad().fill(0.0);
                value
            };
            let mut tape = Tape::default();
            let mut grads = net.zeros_like();
            penalty(&net, &mut tape, &mut grads);
            net.backward(x.view(), &mut tape, &mut grads, None);
            check_gradient(&net, &grads, &mut |net| {
                penalty(net, &mut Tape::default(), &mut net.zeros_like())
            });
        }
    }

    #[test]
    fn the_tangent_is_the_derivative_in_its_direction() {
        let net = Net::dense(
            &[5, 6, 4],
            Activation::Tanh,
            Activation::Tanh,
            &mut Seed(8).rng(),
        );
        let (x, v) = (normal(1, 5, 1), normal(1, 5, 2));
        let mut tape = Tape::default();
        net.forward_kept(x.view(), &mut tape, None);
        let value = net.tangent_penalty(v.view(), 1.0, &mut tape, &mut net.zeros_like());
        let h = 0.01_f32;
        let rise = (net.forward((&x + &(&v * h)).view()) - net.forward((&x - &(&v * h)).view()))
            / (2.0 * h);
        let expected: f64 = rise.iter().map(|r| f64::from(*r) * f64::from(*r)).sum();
        assert!(
            (value - expected).abs() < 1e-3 * expected,
            "{value} {expected}"
        );
    }

    #[test]
    fn the_input_gradient_and_its_gradient() {
        for activation in SMOOTH {
            let net = Net::dense(
                &[4, 6, 5, 1],
                activation,
                Activation::Identity,
                &mut Seed(8).rng(),
            );
            let x = normal(3, 4, 1);
            let mut tape = Tape::default();
            net.forward_kept(x.view(), &mut tape, None);
            let gradient = net.input_gradient(&tape);
            let mut sum =
                |x: &Array2<f32>| net.forward(x.view()).iter().map(|v| f64::from(*v)).sum();
            check_gradient(&x, &gradient.at_input().to_owned(), &mut sum);

            // The Wasserstein critic's penalty: Σ (‖g‖ − 1)².
            let penalty = |net: &Net| -> f64 {
                let mut tape = Tape::default();
                net.forward_kept(x.view(), &mut tape, None);
                let norms = net
                    .input_gradient(&tape)
                    .at_input()
                    .map_axis(Axis(1), |g| g.dot(&g).sqrt());
                norms.iter().map(|n| (f64::from(*n) - 1.0).powi(2)).sum()
            };
            let mut grad = gradient.at_input().to_owned();
            for mut row in grad.rows_mut() {
                let norm = row.dot(&row).sqrt();
                row *= 2.0 * (norm - 1.0) / norm;
            }
            let mut grads = net.zeros_like();
            net.input_gradient_backward(&gradient, &grad, &mut tape, &mut grads);
            tape.output_grad().fill(0.0);
            net.backward(x.view(), &mut tape, &mut grads, None);
            check_gradient(&net, &grads, &mut |net| penalty(net));
        }
    }

    #[test]
    fn tied_gradients_belong_to_the_encoder() {
        let encoder = Net::dense(
            &[5, 4, 3],
            Activation::Tanh,
            Activation::Identity,
            &mut Seed(8).rng(),
        );
        let mut decoder = Net::dense(
            &[3, 4, 5],
            Activation::Tanh,
            Activation::Identity,
            &mut Seed(9).rng(),
        );
        decoder.tie_to(&encoder);
        let (x, target) = (normal(4, 5, 1), normal(4, 5, 2));
        let loss = |encoder: &Net| {
            let mut decoder = decoder.clone();
            decoder.tie_to(encoder);
            let code = encoder.forward(x.view());
            half_square(&decoder, &code, &target, &mut Tape::default())
        };
        let (mut first, mut second) = (Tape::default(), Tape::default());
        encoder.forward_kept(x.view(), &mut first, None);
        let code = first.output().to_owned();
        half_square(&decoder, &code, &target, &mut second);
        let (mut of_encoder, mut of_decoder) = (encoder.zeros_like(), decoder.zeros_like());
        let below = first.output_grad().view_mut();
        decoder.backward(code.view(), &mut second, &mut of_decoder, Some(below));
        encoder.backward(x.view(), &mut first, &mut of_encoder, None);
        of_decoder.untie_grads(&mut of_encoder);
        check_gradient(&encoder, &of_encoder, &mut |encoder| loss(encoder));
    }
}
