//! Model files: named tensors and a card in one safetensors file, which Python opens in two lines.
//!
//! The bytes are a function of the model alone: the same model gives the same file.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a model file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArtefactError {
    /// A tensor or setting is absent, or of another shape or type than the kind needs.
    #[error("model file is invalid: {0}")]
    Invalid(String),
    /// The bytes are not those that were written.
    #[error("model file has sha256 {found}, but its manifest says {expected}")]
    Checksum {
        /// What the manifest says.
        expected: String,
        /// What the bytes have.
        found: String,
    },
}

/// Named f32 tensors and named settings: all that a model is. Ordered by name, so that equal models have equal bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensors {
    /// Name → shape and row-major values.
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    /// Name → JSON.
    pub settings: BTreeMap<String, String>,
}

impl Tensors {
    /// Stores a vector.
    pub fn put1(&mut self, name: &str, values: ArrayView1<'_, f32>) {
        self.tensors
            .insert(name.to_owned(), (vec![values.len()], values.to_vec()));
    }

    /// Stores a matrix.
    pub fn put2(&mut self, name: &str, values: ArrayView2<'_, f32>) {
        let shape = vec![values.nrows(), values.ncols()];
        self.tensors
            .insert(name.to_owned(), (shape, values.iter().copied().collect()));
    }

    /// Stores a setting.
    ///
    /// # Panics
    /// If `value` has no JSON form (a map with keys that are not strings): a mistake in the caller's type.
    pub fn set<T: Serialize>(&mut self, name: &str, value: &T) {
        let json = serde_json::to_string(value)
            .unwrap_or_else(|error| unreachable!("settings are plain structs: {error}"));
        self.settings.insert(name.to_owned(), json);
    }

    /// Reads a vector.
    pub fn get1(&self, name: &str) -> Result<Array1<f32>, ArtefactError> {
        let (shape, values) = self.find(name)?;
        match shape[..] {
            [_] => Ok(Array1::from(values.clone())),
            _ => Err(ArtefactError::Invalid(format!(
                "tensor `{name}` has shape {shape:?}, not [n]"
            ))),
        }
    }

    /// Reads a matrix.
    pub fn get2(&self, name: &str) -> Result<Array2<f32>, ArtefactError> {
        let (shape, values) = self.find(name)?;
        let [rows, columns] = shape[..] else {
            return Err(ArtefactError::Invalid(format!(
                "tensor `{name}` has shape {shape:?}, not [n, m]"
            )));
        };
        Array2::from_shape_vec((rows, columns), values.clone())
            .map_err(|error| ArtefactError::Invalid(format!("tensor `{name}`: {error}")))
    }

    /// Reads a setting.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<T, ArtefactError> {
        let json = self
            .settings
            .get(name)
            .ok_or_else(|| ArtefactError::Invalid(format!("setting `{name}` is absent")))?;
        serde_json::from_str(json)
            .map_err(|error| ArtefactError::Invalid(format!("setting `{name}`: {error}")))
    }

    /// These tensors with `prefix` before each name, for a model that holds others.
    pub fn nest(&mut self, prefix: &str, inner: Self) {
        for (name, tensor) in inner.tensors {
            self.tensors.insert(format!("{prefix}{name}"), tensor);
        }
        for (name, json) in inner.settings {
            self.settings.insert(format!("{prefix}{name}"), json);
        }
    }

    /// The tensors whose names begin with `prefix`, without it: the inverse of [`Self::nest`].
    #[must_use]
    pub fn nested(&self, prefix: &str) -> Self {
        let strip = |name: &String| name.strip_prefix(prefix).map(str::to_owned);
        Self {
            tensors: self
                .tensors
                .iter()
                .filter_map(|(n, t)| Some((strip(n)?, t.clone())))
                .collect(),
            settings: self
                .settings
                .iter()
                .filter_map(|(n, s)| Some((strip(n)?, s.clone())))
                .collect(),
        }
    }

    fn find(&self, name: &str) -> Result<&(Vec<usize>, Vec<f32>), ArtefactError> {
        self.tensors
            .get(name)
            .ok_or_else(|| ArtefactError::Invalid(format!("tensor `{name}` is absent")))
    }
}
