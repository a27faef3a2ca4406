//! The `[model]` section of the configuration: which kind of model, on what window, and a table for each kind that has settings of its own.
//!
//! What nobody should turn is no key. Each table has such constants in a `fixed` value beside its keys, with their reasons: a value and not a number
//! in the code so that tests can make small cases of it. `check` says what is wrong with the keys.

use serde::{Deserialize, Serialize};

use super::options::{
    Architecture, Generator, Likelihood, Regularizer, Regularizers, Residual, Switch,
};
use crate::nn::activation::Activation;
use crate::nn::loss::GanLoss;

/// Settings of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSpec {
    /// Which kind: a name in [`super::KINDS`].
    pub kind: String,
    /// W: records of one key that are judged together, flattened oldest first. 1 is plain records.
    pub window: usize,
    /// How columns are scaled.
    pub scale: Scaling,
    /// Scaled values beyond ± this count as this in the score, so that one wild value cannot drown the others; p-values know larger ones apart. 0: no bound.
    pub clip: f32,
    /// Whether a stream of a single feature is judged by what its key did at this time of day and week, learnt record by record
    /// ([`crate::detect::seasonal`]), beside the model. For `auto` only.
    pub seasonal: bool,
    /// Share of training rows with the largest loss that is left out: a trimmed fit, against faults nobody flagged.
    pub trim: f32,
    /// `[model.pca]`
    pub pca: PcaSpec,
    /// `[model.knn]`: nearest neighbours, also `linkage`'s.
    pub knn: KnnSpec,
    /// `[model.ensemble]`
    pub ensemble: EnsembleSpec,
    /// `[model.network]`: what all networks have.
    pub network: NetworkSpec,
    /// `[model.autoencoder]`
    pub autoencoder: AutoencoderSpec,
    /// `[model.vae]`
    pub vae: VaeSpec,
    /// `[model.gan]`
    pub gan: GanSpec,
    /// What no key turns, of kinds that have no table.
    #[serde(skip)]
    pub fixed: Fixed,
}

impl ModelSpec {
    /// The same, changed.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for ModelSpec {
    fn default() -> Self {
        Self {
            kind: "auto".to_owned(),
            window: 1,
            scale: Scaling::Robust,
            clip: 10.0,
            seasonal: true,
            trim: 0.02,
            pca: PcaSpec::default(),
            knn: KnnSpec::default(),
            ensemble: EnsembleSpec::default(),
            network: NetworkSpec::default(),
            autoencoder: AutoencoderSpec::default(),
            vae: VaeSpec::default(),
            gan: GanSpec::default(),
            fixed: Fixed::default(),
        }
    }
}

/// Constants of kinds that have no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// The most components of the Gaussian mixture: their number is chosen up to this on held-out rows, so that it only bounds the cost of a fit.
    pub components: usize,
    /// Trees of the isolation forest: Liu et al. (ICDM 2008) find path lengths settled before a hundred; this is twice that.
    pub trees: usize,
    /// Rows that each tree is grown from: Liu et al.'s 256.
    pub tree_rows: usize,
}

impl Default for Fixed {
    fn default() -> Self {
        Self {
            components: 8,
            trees: 200,
            tree_rows: 256,
        }
    }
}

/// `[model.pca]`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PcaSpec {
    /// Fraction of variance that the components keep, in (0, 1).
    pub variance: f64,
    /// What is scored: the whitened residual, the position within the subspace, or both.
    pub statistic: Statistic,
}

impl Default for PcaSpec {
    fn default() -> Self {
        Self {
            variance: 0.9,
            statistic: Statistic::Group,
        }
    }
}

/// `[model.knn]`: nearest neighbours, of `knn` and `linkage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KnnSpec {
    /// k: how many nearest neighbours a row is compared with.
    pub neighbours: usize,
    /// The most rows that they are looked for among. A constant that bounds what a score costs.
    #[serde(skip)]
    pub reference_rows: usize,
}

impl Default for KnnSpec {
    fn default() -> Self {
        Self {
            neighbours: 5,
            reference_rows: 4096,
        }
    }
}

/// `[model.ensemble]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnsembleSpec {
    /// What it combines: kinds, each with options as [`super::member::MemberSpec`] has them, such as `knn:gauss:trim=0.2`.
    pub members: Vec<String>,
    /// How members' scores come to a common measure. `auto` takes one or the other by the window; where members are named, it is tail probabilities.
    #[serde(skip)]
    pub combine: Combine,
}

impl Default for EnsembleSpec {
    fn default() -> Self {
        Self {
            members: ["pca", "iforest", "ecod", "knn"]
                .map(str::to_owned)
                .to_vec(),
            combine: Combine::Tail,
        }
    }
}

/// `[model.network]`: what all networks have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSpec {
    /// Widths of the encoder's hidden layers between row and code; the decoder mirrors them. Empty: none, because deep nets learn the
    /// faults in unclean training data too (convolutional nets have two, GANs are given theirs).
    pub hidden: Vec<usize>,
    /// Width of the code; 0: chosen from the input width.
    pub code: usize,
    /// The most passes over the training rows.
    pub epochs: usize,
    /// What no key turns.
    #[serde(skip)]
    pub fixed: NetworkFixed,
}

impl Default for NetworkSpec {
    fn default() -> Self {
        Self {
            hidden: Vec::new(),
            code: 0,
            epochs: 60,
            fixed: NetworkFixed::default(),
        }
    }
}

/// Constants of all networks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NetworkFixed {
    /// Rows of a gradient step: enough for products of matrices to pay.
    pub batch: usize,
    /// Adam's step size at the beginning; it falls along half a cosine to a twentieth.
    pub learning_rate: f32,
    /// Epochs without improvement on the validation rows before training ends.
    pub patience: usize,
    /// The activation after each hidden layer: bounded, so that what lies far outside the training rows is not reconstructed.
    pub activation: Activation,
    /// Share of hidden units that are switched off at random in training, in [0, 0.9]: none, because nets without hidden layers have none.
    pub dropout: f32,
}

impl Default for NetworkFixed {
    fn default() -> Self {
        Self {
            batch: 128,
            learning_rate: 5e-3,
            patience: 10,
            activation: Activation::Tanh,
            dropout: 0.0,
        }
    }
}

/// `[model.autoencoder]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AutoencoderSpec {
    /// Fully connected, or convolutions over the steps of a window of at least 2 (then `hidden` are their filters).
    pub architecture: Architecture,
    /// What keeps the autoencoder from copying its input: `none`, `sparse` or `l1`, `denoising` or `masking`, `contractive`, or a list of them.
    pub regularizer: Regularizers,
    /// How much `denoising` and `masking` disturb the input: the standard deviation of the noise in scaled units, or the share of masked inputs.
    pub noise_level: f32,
    /// Contractive: weight of the code's squared derivative beside the squared error.
    pub contractive_weight: f32,
    /// How residuals become a score.
    pub residual: Residual,
    /// What no key turns.
    #[serde(skip)]
    pub fixed: AutoencoderFixed,
}

impl Default for AutoencoderSpec {
    fn default() -> Self {
        Self {
            architecture: Architecture::Dense,
            regularizer: Regularizers::One(Regularizer::None),
            noise_level: 1.0,
            contractive_weight: 2.0,
            residual: Residual::Scaled,
            fixed: AutoencoderFixed::default(),
        }
    }
}

/// Constants of autoencoders.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AutoencoderFixed {
    /// Whether the decoder's weights are the encoder's, transposed (dense only). `auto` ties those of a contractive autoencoder, which
    /// could otherwise shrink its code and stretch it again, and no others.
    pub tied: Switch,
    /// Wanted mean activation of a code unit, in (0, 1): Ng's.
    pub sparsity_target: f32,
    /// Weight of the sparsity beside the squared error: of the size of Ng's β.
    pub sparsity_weight: f32,
    /// Weight in the score of how unusual the code is (its squared Mahalanobis distance), beside the residuals: one to one.
    pub code_weight: f32,
}

impl Default for AutoencoderFixed {
    fn default() -> Self {
        Self {
            tied: Switch::Auto,
            sparsity_target: 0.05,
            sparsity_weight: 4.0,
            code_weight: 1.0,
        }
    }
}

/// `[model.vae]`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VaeSpec {
    /// Weight of the divergence of the code from its prior. A direction of the code is used only if it explains some β times the variance
    /// that the inputs keep (exactly so for linear nets), so a large β learns few faults from unclean rows; 1 is the plain likelihood.
    pub beta: f32,
    /// The likelihood by importance weighting, or the cheaper bound.
    pub score: Likelihood,
    /// K: draws of the code by which the likelihood of a row is estimated. A constant that bounds what a score costs.
    #[serde(skip)]
    pub samples: usize,
    /// Epochs over which the divergence's weight grows from 0; 0: it is whole from the first on.
    pub warmup: usize,
}

impl Default for VaeSpec {
    fn default() -> Self {
        Self {
            beta: 4.0,
            score: Likelihood::Importance,
            samples: 8,
            warmup: 0,
        }
    }
}

/// `[model.gan]`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GanSpec {
    /// A plain generator, or one whose layers are modulated by a style.
    pub generator: Generator,
    /// What the two sides minimise.
    pub loss: GanLoss,
    /// What no key turns.
    #[serde(skip)]
    pub fixed: GanFixed,
}

impl Default for GanSpec {
    fn default() -> Self {
        Self {
            generator: Generator::Dense,
            loss: GanLoss::Hinge,
            fixed: GanFixed::default(),
        }
    }
}

/// Constants of GANs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GanFixed {
    /// Critics whose verdicts are averaged, each from its own initial weights.
    pub critics: usize,
    /// Steps of the critics for each step of the generator.
    pub critic_steps: usize,
    /// Whether critics' weights are divided by their largest singular value. `auto`: unless a gradient penalty already holds the critics'
    /// slope at 1 (`loss = "wasserstein_gp"`), because the two pull against each other.
    pub spectral_norm: Switch,
    /// Weight of the penalty on the length of the critics' gradients, for `loss = "wasserstein_gp"`: Gulrajani et al.'s.
    pub gradient_penalty: f32,
    /// Standard deviation of the noise that both real and generated rows carry in training.
    pub instance_noise: f32,
    /// Weight in the score of how far the critics' last hidden features are from their training mean, and the row from what the generator
    /// makes; 0: the verdict alone.
    pub feature_matching: f32,
    /// How much of the averaged weights each step keeps, in [0, 1); averaged weights are the ones that score and sample.
    pub average: f32,
}

impl Default for GanFixed {
    fn default() -> Self {
        Self {
            critics: 3,
            critic_steps: 1,
            spectral_norm: Switch::Auto,
            gradient_penalty: 10.0,
            instance_noise: 0.3,
            feature_matching: 1.0,
            average: 0.995,
        }
    }
}

/// How columns are brought to a common scale. Fitted on training rows, stored with the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// Mean 0, standard deviation 1.
    Standard,
    /// Smallest training value 0, largest 1.
    MinMax,
    /// Of the values that are not wild, mean 0 and standard deviation 1.
    Robust,
    /// The normal score of each value's rank ([`super::ranks`]): every column about standard normal, whatever its shape.
    RankGauss,
    /// As they come.
    None,
}

/// How an ensemble's members come to a common measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// −ln of the share of rows at hand that score as high, and beyond all of these down an exponential tail.
    Tail,
    /// Multiples of the 99 % quantile of the scores of the rows at hand.
    Quantile,
}

/// What PCA scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistic {
    /// As Q, but the sum over features of the root of each one's squares over the window: several features a little off count for
    /// more than one that is far off.
    Group,
    /// Q: the squared residual outside the subspace, each input in units of its own normal residual.
    Q,
    /// Hotelling's T²: the squared position within the subspace, each component in units of its own standard deviation.
    T2,
    /// Both, summed: the squared Mahalanobis distance under the fitted model.
    Both,
}
