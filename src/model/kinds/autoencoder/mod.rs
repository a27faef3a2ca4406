//! Autoencoders: a row is strange when it cannot be told from its code, or has a code that normal rows do not have.
//!
//! Plain (Rumelhart, Hinton and Williams, 1986; Sakurada and Yairi, MLSDA 2014, on detecting anomalies with them), sparse (Ng, CS294A,
//! 2011), denoising (Vincent, Larochelle, Bengio and Manzagol, ICML 2008), contractive (Rifai, Vincent, Muller, Glorot and Bengio,
//! ICML 2011), in any combination; dense, or convolutional over the steps of a window. [`train`] has the objective and the epochs;
//! this file has the shapes and the score.
//!
//! The score is the sum of squared residuals, each in the units that [`super::options::Residual`] names, and `code_weight` times the
//! squared Mahalanobis distance of the code, divided by the width of a row: for a linear autoencoder and weight 1 that is the whole
//! Mahalanobis distance, so that a row which the net happens to reproduce, because it saw its like in training, still stands out.
//!
//! Synthetic rows are decoded from codes that are drawn as [`density`] found those of training rows, with noise of the size of held-out
//! residuals on top.

mod density;
mod train;

use ndarray::{Array1, Array2, ArrayView2};

use crate::model::chunks::{by_chunks, by_chunks2};
use crate::model::kinds::net_file::{get_net, put_net};
use crate::model::options::{Architecture, Regularizer, Residual};
use crate::model::residual::ResidualScale;
use crate::model::spec::ModelSpec;
use crate::model::tensors::{ModelFileError, Tensors};
use crate::model::{Build, FitData, FitError, Kind, Monitor};
use crate::nn::Pair;
use crate::nn::activation::Activation;
use crate::nn::conv::{Conv1d, ConvShape, Upsample};
use crate::nn::dense::Dense;
use crate::nn::net::{Layer, Net, Stage};
use crate::seed::Seed;
use density::CodeDensity;

/// Fewer training rows than this teach a net nothing.
const ROWS_MIN: usize = 8;

/// A fitted autoencoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Autoencoder {
    encoder: Net,
    decoder: Net,
    residual: ResidualScale,
    position: ResidualScale,
    code_weight: f32,
    /// What is drawn from; files of older programs lack it.
    density: Option<CodeDensity>,
    width: usize,
}

impl Autoencoder {
    /// What a number of the code can be: a drawn one beyond it is no code.
    fn code_range(&self) -> (f32, f32) {
        match self.encoder.stages.last().map(|stage| stage.activation) {
            Some(Activation::Tanh) => (-1.0, 1.0),
            Some(Activation::Sigmoid) => (0.0, 1.0),
            Some(Activation::Relu) => (0.0, f32::MAX),
            _ => (f32::MIN, f32::MAX),
        }
    }

    fn residuals(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        by_chunks2(rows, |rows| {
            &rows - &self.decoder.forward(self.encoder.forward(rows).view())
        })
    }
}

impl Build for Autoencoder {
    /// Fits the nets by gradient descent, then the measures of residuals and codes on the validation rows.
    ///
    /// # Errors
    /// Too few rows, cancelled by the monitor, or weights that are not finite.
    fn fit(
        spec: &ModelSpec,
        data: &FitData,
        seed: Seed,
        monitor: &mut dyn Monitor,
    ) -> Result<Self, FitError> {
        data.rows("autoencoder", ROWS_MIN)?;
        let width = data.train.ncols();
        let start = nets(spec, width, seed.child("weights"));
        let Pair(encoder, decoder) = train::train(spec, start, data, seed, monitor)?;
        let mut fitted = Self {
            encoder,
            decoder,
            residual: ResidualScale::fit(Residual::Squared, data.train.view(), 0.0),
            position: ResidualScale::fit(Residual::Squared, Array2::zeros((0, 0)).view(), 0.0),
            code_weight: spec.autoencoder.fixed.code_weight,
            density: None,
            width,
        };
        let held_out = if data.validation.nrows() >= 2 {
            &data.validation
        } else {
            &data.train
        };
        let residuals = fitted.residuals(held_out.view());
        fitted.residual =
            ResidualScale::fit(spec.autoencoder.residual, residuals.view(), spec.trim);
        // Codes are where the net put its training rows: more of them, and no generalisation to hold out for.
        let codes = by_chunks2(data.train.view(), |rows| fitted.encoder.forward(rows));
        fitted.position = ResidualScale::fit(Residual::Whitened, codes.view(), spec.trim);
        fitted.density = Some(CodeDensity::fit(codes.view(), spec.trim));
        Ok(fitted)
    }

    fn load(from: &Tensors) -> Result<Self, ModelFileError> {
        Ok(Self {
            encoder: get_net("encoder.", from)?,
            decoder: get_net("decoder.", from)?,
            residual: ResidualScale::load("residual.", from)?,
            position: ResidualScale::load("position.", from)?,
            code_weight: from.get("code_weight")?,
            density: CodeDensity::load(from)?,
            width: from.get("width")?,
        })
    }
}

impl Kind for Autoencoder {
    fn width(&self) -> usize {
        self.width
    }

    fn score(&self, rows: ArrayView2<'_, f32>, _seeds: &[Seed]) -> Array1<f32> {
        by_chunks(rows, |rows| {
            let code = self.encoder.forward(rows);
            let residual = &rows - &self.decoder.forward(code.view());
            let mut score = self.residual.squares(residual);
            if self.code_weight > 0.0 {
                score.scaled_add(self.code_weight, &self.position.squares(code));
            }
            score / self.width as f32
        })
    }

    fn expected(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        by_chunks2(rows, |rows| {
            self.decoder.forward(self.encoder.forward(rows).view())
        })
    }

    fn contributions(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        self.residual.contributions(self.residuals(rows))
    }

    fn code(&self, rows: ArrayView2<'_, f32>) -> Option<Array2<f32>> {
        Some(by_chunks2(rows, |rows| self.encoder.forward(rows)))
    }

    fn sample(&self, n: usize, seed: Seed, truncation: f32) -> Option<Array2<f32>> {
        let rng = &mut seed.child("code").rng();
        let mut codes = match &self.density {
            Some(density) => density.draw(n, truncation, rng),
            // By the moments that the distance is measured by.
            None => self.position.draw(n, truncation, rng),
        };
        let (low, high) = self.code_range();
        codes.mapv_inplace(|value| value.clamp(low, high));
        let noise = self
            .residual
            .draw(n, truncation, &mut seed.child("residual").rng());
        Some(by_chunks2(codes.view(), |codes| self.decoder.forward(codes)) + noise)
    }

    fn save(&self, to: &mut Tensors) {
        put_net("encoder.", &self.encoder, to);
        put_net("decoder.", &self.decoder, to);
        self.residual.save("residual.", to);
        self.position.save("position.", to);
        if let Some(density) = &self.density {
            density.save(to);
        }
        to.set("code_weight", &self.code_weight);
        to.set("width", &self.width);
    }
}

/// Encoder and decoder with initial weights, for rows of `width`.
fn nets(spec: &ModelSpec, width: usize, seed: Seed) -> Pair<Net, Net> {
    let steps = spec.window.max(1);
    let mut both = match spec.autoencoder.architecture {
        Architecture::Conv1d if steps > 1 && width.is_multiple_of(steps) => {
            conv_nets(spec, steps, width / steps, seed)
        }
        _ => dense_nets(spec, width, seed),
    };
    if train::is_tied(spec) {
        both.1.tie_to(&both.0);
    }
    both
}

/// The width of the code: as set, or half of the row's where sparsity or contraction confines it too, else a quarter.
fn code_width(spec: &ModelSpec, width: usize) -> usize {
    let confined = [
        Regularizer::Sparse,
        Regularizer::L1,
        Regularizer::Contractive,
    ];
    match spec.network.code {
        0 if confined
            .iter()
            .any(|one| spec.autoencoder.regularizer.has(*one)) =>
        {
            width.div_ceil(2).clamp(2, 64)
        }
        0 => width.div_ceil(4).clamp(2, 32),
        set => set,
    }
}

/// The activation of the code: a sigmoid where its mean is held at a target, else the hidden layers' own. A bounded code cannot follow
/// a wild row.
fn code_activation(spec: &ModelSpec) -> Activation {
    if spec.autoencoder.regularizer.has(Regularizer::Sparse) {
        Activation::Sigmoid
    } else if spec.autoencoder.regularizer.has(Regularizer::Contractive) {
        Activation::Tanh
    } else {
        spec.network.fixed.activation
    }
}

fn dense_nets(spec: &ModelSpec, width: usize, seed: Seed) -> Pair<Net, Net> {
    let mut widths = vec![width];
    widths.extend(&spec.network.hidden);
    widths.push(code_width(spec, width));
    let rng = &mut seed.rng();
    let encoder = Net::dense(
        &widths,
        spec.network.fixed.activation,
        code_activation(spec),
        rng,
    );
    widths.reverse();
    let decoder = Net::dense(
        &widths,
        spec.network.fixed.activation,
        Activation::Identity,
        rng,
    );
    Pair(encoder, decoder)
}

/// Steps that a filter sees.
const KERNEL: usize = 3;

/// Each layer of the encoder halves the steps and the decoder's doubles them again; the code is dense, over all that is left.
fn conv_nets(spec: &ModelSpec, steps: usize, channels: usize, seed: Seed) -> Pair<Net, Net> {
    let rng = &mut seed.rng();
    let filters = if spec.network.hidden.is_empty() {
        vec![32, 16]
    } else {
        spec.network.hidden.clone()
    };
    let (mut encoder, mut shapes) = (Net::default(), Vec::new());
    let (mut now, mut from) = (steps, channels);
    for filters in filters {
        let shape = ConvShape {
            steps: now,
            channels: from,
            filters,
            kernel: KERNEL,
            stride: 2,
        };
        let layer = Layer::Conv1d(Conv1d::init(
            shape,
            spec.network.fixed.activation.gain(),
            rng,
        ));
        encoder.stages.push(Stage {
            layer,
            activation: spec.network.fixed.activation,
        });
        shapes.push(shape);
        (now, from) = (shape.steps_out(), filters);
    }
    let code = code_width(spec, steps * channels);
    let dense = |inputs, outputs, activation: Activation, rng: &mut _| Stage {
        layer: Layer::Dense(Dense::init(inputs, outputs, activation.gain(), rng)),
        activation,
    };
    encoder
        .stages
        .push(dense(now * from, code, code_activation(spec), rng));
    let mut decoder = Net {
        stages: vec![dense(code, now * from, spec.network.fixed.activation, rng)],
    };
    for (at, shape) in shapes.iter().enumerate().rev() {
        let up = Upsample {
            from: shape.steps_out(),
            to: shape.steps,
            channels: shape.filters,
        };
        let layer = Layer::Upsample(up);
        decoder.stages.push(Stage {
            layer,
            activation: Activation::Identity,
        });
        let activation = if at == 0 {
            Activation::Identity
        } else {
            spec.network.fixed.activation
        };
        let back = ConvShape {
            steps: shape.steps,
            channels: shape.filters,
            filters: shape.channels,
            kernel: KERNEL,
            stride: 1,
        };
        let layer = Layer::Conv1d(Conv1d::init(back, activation.gain(), rng));
        decoder.stages.push(Stage { layer, activation });
    }
    Pair(encoder, decoder)
}

#[cfg(test)]
mod tests;
