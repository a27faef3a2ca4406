//! The `[model]` section of the configuration: which kind of model, on what window, with which settings.

use serde::{Deserialize, Serialize};

/// Settings of the model. One flat table for all kinds; a kind reads what concerns it, as `config/default.toml` says key by key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSpec {
    /// Which kind: a name in [`super::KINDS`].
    pub kind: String,
    /// W: records of one key that are judged together, flattened oldest first. 1 is plain records.
    pub window: usize,
    /// How columns are scaled.
    pub scale: Scaling,
    /// Scaled values beyond ± this are clipped to it, so that one wild value cannot dominate. 0 switches clipping off.
    pub clip: f32,
    /// Fraction of variance that PCA's components keep, in (0, 1).
    pub variance: f64,
    /// Widths of the encoder's hidden layers; empty: chosen from the input width. The decoder mirrors them.
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
    /// Share of training rows with the largest loss that each step leaves out: a trimmed loss, against faults nobody flagged.
    pub trim: f32,
}

impl Default for ModelSpec {
    fn default() -> Self {
        Self {
            kind: "autoencoder".to_owned(),
            window: 1,
            scale: Scaling::Robust,
            clip: 10.0,
            variance: 0.9,
            hidden: Vec::new(),
            code: 0,
            epochs: 50,
            batch: 128,
            learning_rate: 1e-3,
            patience: 5,
            trim: 0.02,
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
    /// Median 0, median absolute deviation (times 1.4826) 1; falls back to the standard deviation where that is 0.
    Robust,
    /// As they come.
    None,
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecProblem {
    /// The key below `model.`.
    pub key: &'static str,
    /// What is wrong, with the value, and what is allowed.
    pub problem: String,
}
