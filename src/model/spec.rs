//! The `[model]` section of the configuration: which kind of model, on what window, with which settings.

use serde::{Deserialize, Serialize};

use super::options::{
    Architecture, Generator, Likelihood, Noise, Regularizer, Regularizers, Residual, Sparsity,
    Switch,
};
use crate::nn::activation::Activation;
use crate::nn::loss::GanLoss;

/// Settings of the model. One flat table for all kinds; a kind reads what concerns it, as `config/default.toml` says key by key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSpec {
    // --- every kind
    /// Which kind: a name in [`super::KINDS`].
    pub kind: String,
    /// W: records of one key that are judged together, flattened oldest first. 1 is plain records.
    pub window: usize,
    /// How columns are scaled.
    pub scale: Scaling,
    /// Scaled values beyond ± this count as this in the score, so that one wild value cannot drown the others; p-values know larger ones apart. 0: no bound.
    pub clip: f32,
    /// Whether a stream of a single feature is judged by what its key did at this time of day and week, learnt record by record
    /// ([`crate::detect::seasonal`]), instead of by the model. For `auto` only.
    pub seasonal: bool,
    /// Share of training rows with the largest loss that is left out: a trimmed fit, against faults nobody flagged.
    pub trim: f32,

    // --- pca, gmm
    /// Fraction of variance that PCA's components keep, in (0, 1).
    pub variance: f64,
    /// What PCA scores: the whitened residual, the position within its subspace, or both.
    pub statistic: Statistic,
    /// The most components of the Gaussian mixture; the number is chosen from 1 to this on held-out rows.
    pub components: usize,

    // --- knn, iforest, ensemble
    /// k: how many nearest neighbours a row is compared with.
    pub neighbours: usize,
    /// The most rows that nearest neighbours are looked for among.
    pub reference_rows: usize,
    /// Trees of the isolation forest.
    pub trees: usize,
    /// Rows that each tree of the isolation forest is grown from.
    pub tree_rows: usize,
    /// What `ensemble` combines: kinds, each with options as [`super::member::MemberSpec`] has them, such as `knn:gauss:trim=0.2`.
    pub members: Vec<String>,
    /// How `ensemble` brings its members' scores to a common measure.
    pub combine: Combine,

    // --- networks
    /// Widths of the encoder's hidden layers between row and code; the decoder mirrors them. Empty: none, because deep nets learn the
    /// faults in unclean training data too (convolutional nets have two, GANs are given theirs).
    pub hidden: Vec<usize>,
    /// Width of the code; 0: chosen from the input width.
    pub code: usize,
    /// The most passes over the training rows.
    pub epochs: usize,
    /// Rows of a gradient step.
    pub batch: usize,
    /// Adam's step size.
    pub learning_rate: f32,
    /// Epochs without improvement on the validation rows before training ends.
    pub patience: usize,
    /// Share of every weight that Adam takes off at each step, times the step size.
    pub weight_decay: f32,
    /// The activation after each hidden layer.
    pub activation: Activation,
    /// Share of hidden units that are switched off at random in training, in [0, 0.9]; needs hidden layers.
    pub dropout: f32,

    // --- autoencoder
    /// Fully connected, or convolutions over the steps of a window of at least 2 (then `hidden` are their filters).
    pub architecture: Architecture,
    /// What keeps the autoencoder from copying its input: `none`, `sparse`, `denoising`, `contractive`, or a list of them.
    pub regularizer: Regularizers,
    /// Whether the decoder's weights are the encoder's, transposed (dense only). `auto` ties those of a contractive autoencoder, which
    /// could otherwise shrink its code and stretch it again, and no others.
    pub tied: Switch,
    /// How sparsity is measured: divergence of mean activations from the target, or the code's mean absolute value.
    pub sparsity: Sparsity,
    /// Wanted mean activation of a code unit, in (0, 1).
    pub sparsity_target: f32,
    /// Weight of the sparsity beside the squared error.
    pub sparsity_weight: f32,
    /// How a denoising autoencoder disturbs its input.
    pub noise: Noise,
    /// Standard deviation of Gaussian noise in scaled units, or share of masked inputs.
    pub noise_level: f32,
    /// Weight of the code's squared derivative by the input, beside the squared error.
    pub contractive_weight: f32,
    /// How residuals become a score.
    pub residual: Residual,
    /// Weight in the score of how unusual the code is (its squared Mahalanobis distance), beside the residuals; 0: residuals alone.
    pub code_weight: f32,

    // --- vae
    /// Weight of the divergence of the code from its prior. A direction of the code is used only if it explains some β times the variance
    /// that the inputs keep (exactly so for linear nets), so a large β learns few faults from unclean rows; 1 is the plain likelihood.
    pub beta: f32,
    /// Epochs over which that weight grows from 0.
    pub warmup: usize,
    /// K: draws of the code by which the likelihood of a row is estimated.
    pub samples: usize,
    /// The likelihood by importance weighting, or the cheaper bound.
    pub score: Likelihood,

    // --- gan
    /// A plain generator, or one whose layers are modulated by a style.
    pub generator: Generator,
    /// What the two sides minimise.
    pub gan_loss: GanLoss,
    /// Critics whose verdicts are averaged, each with its own weights.
    pub critics: usize,
    /// Steps of the critics for each step of the generator.
    pub critic_steps: usize,
    /// Whether critics' weights are divided by their largest singular value. `auto`: unless a gradient penalty already holds the critics'
    /// slope at 1 (`gan_loss = "wasserstein_gp"`), because the two pull against each other.
    pub spectral_norm: Switch,
    /// Weight of the penalty on the length of the critics' gradients, for `gan_loss = "wasserstein_gp"`.
    pub gradient_penalty: f32,
    /// Standard deviation of the noise that both real and generated rows carry in training.
    pub instance_noise: f32,
    /// Weight in the score of how far the critics' last hidden features are from their training mean, and the row from what the generator
    /// makes; 0: the verdict alone.
    pub feature_matching: f32,
    /// How much of the averaged weights each step keeps, in [0, 1); averaged weights are the ones that score and sample.
    pub average: f32,
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

            variance: 0.9,
            statistic: Statistic::Group,
            components: 8,

            neighbours: 5,
            reference_rows: 4096,
            trees: 200,
            tree_rows: 256,
            members: ["pca", "iforest", "ecod", "knn"]
                .map(str::to_owned)
                .to_vec(),
            combine: Combine::Tail,

            hidden: Vec::new(),
            code: 0,
            epochs: 60,
            batch: 128,
            learning_rate: 5e-3,
            patience: 10,
            weight_decay: 0.0,
            activation: Activation::Tanh,
            dropout: 0.0,

            architecture: Architecture::Dense,
            regularizer: Regularizers::One(Regularizer::None),
            tied: Switch::Auto,
            sparsity: Sparsity::Kl,
            sparsity_target: 0.05,
            sparsity_weight: 4.0,
            noise: Noise::Gaussian,
            noise_level: 1.0,
            contractive_weight: 2.0,
            residual: Residual::Scaled,
            code_weight: 1.0,

            beta: 4.0,
            warmup: 0,
            samples: 8,
            score: Likelihood::Importance,

            generator: Generator::Dense,
            gan_loss: GanLoss::Hinge,
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
