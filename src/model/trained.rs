//! A model in its setting: scaler, model, calibration and card together turn windows of raw values into p-values and reasons.

use ndarray::ArrayView2;

use super::Model;
use super::card::Card;
use super::scale::Scaler;
use crate::seed::Seed;
use crate::stats::calibration::CalibrationSet;

/// A model that can judge windows of raw records. Immutable once made; shared as `Arc`.
#[derive(Debug)]
pub struct TrainedModel {
    /// What it was made from: version, columns, settings.
    pub card: Card,
    /// Brings the D columns to a common scale.
    pub scaler: Scaler,
    /// The model, on W · D scaled inputs.
    pub model: Model,
    /// From scores to p-values.
    pub calibration: CalibrationSet,
    /// Mean of [`super::Kind::contributions`] over held-out normal rows, one number an input (W · D), none 0: what attribution divides by,
    /// so that a feature that is always hard to predict is not always blamed.
    pub normal_contribution: Vec<f32>,
}

/// What was found about n windows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// Higher is stranger; n numbers.
    pub score: Vec<f64>,
    /// The probability that a normal record scores as high; n numbers in (0, 1].
    pub p_value: Vec<f64>,
}

/// Why one window is strange.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explanation {
    /// Each of the D features' share in the score; none negative, sum 1.
    pub shares: Vec<f64>,
    /// What was expected of the newest record, D numbers in the features' own units.
    pub expected: Vec<f64>,
}

impl TrainedModel {
    /// Judges n windows of raw values, `n × (W · D)`, NaN where a feature was not observed. `seeds` has one seed a row, made from the
    /// record's place, so that replay gives the same bits.
    pub fn judge(&self, windows: ArrayView2<'_, f64>, seeds: &[Seed]) -> Judged {
        let _ = (windows, seeds);
        unimplemented!("being written")
    }

    /// Explains one window (`1 × (W · D)` raw values).
    pub fn explain(&self, window: ArrayView2<'_, f64>) -> Explanation {
        let _ = window;
        unimplemented!("being written")
    }
}
