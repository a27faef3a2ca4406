//! From a score to a p-value: the body by the empirical distribution, the tail by peaks-over-threshold.
//!
//! Siffer, Fouque, Termier and Largouët, "Anomaly Detection in Streams with Extreme Value Theory", KDD 2017.

use serde::{Deserialize, Serialize};

/// The distribution of the scores of normal records, as held-out scores showed it. Scores are "higher is stranger".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Held-out scores in ascending order, thinned to at most a few thousand evenly spaced quantiles.
    pub body: Vec<f64>,
    /// The generalised Pareto tail above `tail.threshold`.
    pub tail: Tail,
}

/// A generalised Pareto tail: P(S > s) = `exceedance` · (1 + γ (s − t) / σ)^(−1/γ) for s > t.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    /// t: where the tail begins.
    pub threshold: f64,
    /// γ: the shape; above 0 heavy, 0 exponential, below 0 bounded.
    pub shape: f64,
    /// σ > 0: the scale.
    pub scale: f64,
    /// P(S > t).
    pub exceedance: f64,
}
