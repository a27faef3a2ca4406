//! What models are stored as: named tensors and settings, and why a file of them cannot be used.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// Why a model file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelFileError {
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
    /// The same for what must come back bit for bit as f64: raw values.
    pub wide: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
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
    pub fn get1(&self, name: &str) -> Result<Array1<f32>, ModelFileError> {
        let (shape, values) = self.find(name)?;
        match shape[..] {
            [_] => Ok(Array1::from(values.clone())),
            _ => Err(ModelFileError::Invalid(format!(
                "tensor `{name}` has shape {shape:?}, not [n]"
            ))),
        }
    }

    /// Reads a matrix.
    pub fn get2(&self, name: &str) -> Result<Array2<f32>, ModelFileError> {
        let (shape, values) = self.find(name)?;
        let [rows, columns] = shape[..] else {
            return Err(ModelFileError::Invalid(format!(
                "tensor `{name}` has shape {shape:?}, not [n, m]"
            )));
        };
        Array2::from_shape_vec((rows, columns), values.clone())
            .map_err(|error| ModelFileError::Invalid(format!("tensor `{name}`: {error}")))
    }

    /// Reads a setting.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<T, ModelFileError> {
        let json = self
            .settings
            .get(name)
            .ok_or_else(|| ModelFileError::Invalid(format!("setting `{name}` is absent")))?;
        serde_json::from_str(json)
            .map_err(|error| ModelFileError::Invalid(format!("setting `{name}`: {error}")))
    }

    /// These tensors with `prefix` before each name, for a model that holds others.
    pub fn nest(&mut self, prefix: &str, inner: Self) {
        for (name, tensor) in inner.tensors {
            self.tensors.insert(format!("{prefix}{name}"), tensor);
        }
        for (name, tensor) in inner.wide {
            self.wide.insert(format!("{prefix}{name}"), tensor);
        }
        for (name, json) in inner.settings {
            self.settings.insert(format!("{prefix}{name}"), json);
        }
    }

    /// What has a name that begins with `prefix`, without it: the inverse of [`Self::nest`].
    #[must_use]
    pub fn nested(&self, prefix: &str) -> Self {
        fn those<T: Clone>(all: &BTreeMap<String, T>, prefix: &str) -> BTreeMap<String, T> {
            let strip = |name: &String| name.strip_prefix(prefix).map(str::to_owned);
            all.iter()
                .filter_map(|(name, value)| Some((strip(name)?, value.clone())))
                .collect()
        }
        Self {
            tensors: those(&self.tensors, prefix),
            wide: those(&self.wide, prefix),
            settings: those(&self.settings, prefix),
        }
    }

    /// Type, shape and little-endian bytes of each.
    pub(super) fn bytes(&self) -> BTreeMap<&str, (Dtype, &[usize], Vec<u8>)> {
        let narrow = self.tensors.iter().map(|(name, (shape, values))| {
            let bytes = little_endian(values);
            (name.as_str(), (Dtype::F32, &shape[..], bytes))
        });
        let wide = self.wide.iter().map(|(name, (shape, values))| {
            let bytes = wide_little_endian(values);
            (name.as_str(), (Dtype::F64, &shape[..], bytes))
        });
        narrow.chain(wide).collect()
    }

    /// Adds a tensor of a file.
    pub(super) fn add(
        &mut self,
        name: String,
        view: &TensorView<'_>,
    ) -> Result<(), ModelFileError> {
        let shape = view.shape().to_vec();
        match view.dtype() {
            Dtype::F32 => {
                let values = from_little_endian(view.data());
                self.tensors.insert(name, (shape, values));
            }
            Dtype::F64 => {
                let eights = view.data().as_chunks::<8>().0.iter();
                let values = eights.map(|&bytes| f64::from_le_bytes(bytes)).collect();
                self.wide.insert(name, (shape, values));
            }
            _ => {
                let problem = format!("tensor `{name}` is neither f32 nor f64");
                return Err(ModelFileError::Invalid(problem));
            }
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Result<&(Vec<usize>, Vec<f32>), ModelFileError> {
        self.tensors
            .get(name)
            .ok_or_else(|| ModelFileError::Invalid(format!("tensor `{name}` is absent")))
    }
}

impl Tensors {
    /// The sha256 of a card, these settings and these tensors.
    pub(super) fn digest(&self, card: &impl Serialize) -> Result<String, ModelFileError> {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(&serde_json::to_vec(card).map_err(invalid)?);
        for (name, json) in &self.settings {
            part(name.as_bytes());
            part(json.as_bytes());
        }
        for (name, (shape, values)) in &self.tensors {
            part(name.as_bytes());
            part(&serde_json::to_vec(shape).map_err(invalid)?);
            part(&little_endian(values));
        }
        for (name, (shape, values)) in &self.wide {
            part(name.as_bytes());
            part(&serde_json::to_vec(shape).map_err(invalid)?);
            part(&wide_little_endian(values));
        }
        Ok(hexadecimal(&hash.finalize()))
    }
}

/// The sha256 of `bytes`, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn from_little_endian(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|chunk| f32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]))
        .collect()
}

fn wide_little_endian(values: &[f64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

pub(super) fn invalid(error: impl std::fmt::Display) -> ModelFileError {
    ModelFileError::Invalid(error.to_string())
}
