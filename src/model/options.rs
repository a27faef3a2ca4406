//! The choices that the networks' settings name: regularisers, noise, residuals, architectures.

use serde::{Deserialize, Serialize};

/// On, off, or as suits the other settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Switch {
    /// What decides is said where it stands.
    #[default]
    Auto,
    /// On.
    On,
    /// Off.
    Off,
}

impl Switch {
    /// Whether it is on, where `auto` means `otherwise`.
    #[must_use]
    pub fn or(self, otherwise: bool) -> bool {
        match self {
            Self::Auto => otherwise,
            Self::On => true,
            Self::Off => false,
        }
    }
}

/// A penalty or disturbance that keeps an autoencoder from copying its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Regularizer {
    /// None but the narrow code.
    None,
    /// Few code units are active at a time: the KL divergence of each one's mean activation from a target; the code is a sigmoid (Ng, CS294A
    /// notes, 2011).
    Sparse,
    /// The code's mean absolute value is small.
    L1,
    /// Normal noise is added to the input, the target is clean (Vincent et al., ICML 2008).
    Denoising,
    /// The same with inputs set to 0, the centre of their scale.
    Masking,
    /// The code moves little when the input does (Rifai et al., ICML 2011).
    Contractive,
}

/// One name or a list of them, as users write them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Regularizers {
    /// `regularizer = "sparse"`.
    One(Regularizer),
    /// `regularizer = ["sparse", "denoising"]`: all of them together.
    Several(Vec<Regularizer>),
}

impl Regularizers {
    /// Whether `one` is among them.
    #[must_use]
    pub fn has(&self, one: Regularizer) -> bool {
        match self {
            Self::One(only) => *only == one,
            Self::Several(list) => list.contains(&one),
        }
    }
}

/// The form of a network's encoder and decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Fully connected, over the flattened window.
    Dense,
    /// Convolutions over the steps of the window.
    Conv1d,
}

/// How residuals (row minus reconstruction) become a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Residual {
    /// Their mean square.
    Squared,
    /// Each in units of its own held-out standard deviation.
    Scaled,
    /// Each in units of its own held-out median absolute deviation.
    Robust,
    /// All by their held-out covariance, shrunk: Mahalanobis' distance.
    Whitened,
}

/// What a variational autoencoder scores by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Likelihood {
    /// −ln p(x), estimated by importance weighting over `samples` draws.
    Importance,
    /// The negative evidence lower bound, at the mean of the code: one pass.
    Elbo,
}

/// The form of a GAN's generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generator {
    /// A dense net on the latent noise.
    Dense,
    /// Style-based (Karras et al., CVPR 2019 and 2020): a mapping network, styles that modulate each layer's weights, noise inputs.
    Style,
}
