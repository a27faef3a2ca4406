//! Column scaling, fitted with the model. Standard and min-max come from linfa-preprocessing.

use ndarray::{Array2, ArrayView2};

use super::artefact::{ArtefactError, Tensors};
use super::spec::Scaling;

/// A fitted scaler of D columns: scaled = clip((value − centre) / spread).
#[derive(Clone, Debug, PartialEq)]
pub struct Scaler {
    /// What is subtracted, one number a column.
    pub centre: Vec<f64>,
    /// What is divided by, one number a column; never 0.
    pub spread: Vec<f64>,
    /// Bound of the scaled values; 0: none.
    pub clip: f32,
}
